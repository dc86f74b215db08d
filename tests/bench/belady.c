/*
 * tests/bench/belady.c -- what a cache of a size reads of a training's pictures by Belady's rule.
 *
 *     belady ROOT BATCH LANES SEED EPOCHS BYTES...
 *
 * The rule (1966) is played on the chunks of the order, in the sequence in which the lanes first
 * use them, with all uses to come known and bytes of pictures alone counted: nothing for records,
 * folders or disk blocks. What is read may pass by without being kept. Were all chunks of one
 * length no cache could read less; of lengths that differ, as these do a little, it is no proven
 * bound. A line of JSON for each size: bytes read in each epoch. It shares the order with the
 * cache, and none of the cache's code.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/set/open.h"

struct use {
    uint64_t step, chunk;
    size_t next; /* place among the uses of the chunk's next one; count: none */
};

struct game {
    const struct data_index *index;
    struct data_order order;
    uint32_t epochs;
    uint64_t chunks;
    uint64_t *bytes; /* (chunks) */
    struct use *uses;
    size_t count;
};

static void *must(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

static int by_step(const void *a, const void *b)
{
    const struct use *const x = a, *const y = b;

    return x->step < y->step ? -1 : x->step > y->step;
}

/* Each chunk once an epoch: when the first of its samples' windows begins. */
static void list_epoch(struct game *game, uint32_t epoch)
{
    const struct data_order *const order = &game->order;
    const uint64_t window = data_order_window_places(order), none = UINT64_MAX;
    uint64_t *const first = must(malloc(game->chunks * sizeof *first));

    for (uint64_t c = 0; c < game->chunks; c++)
        first[c] = none;
    for (uint32_t lane = 0; lane < order->lanes; lane++)
        for (uint64_t p = 0; p < data_order_lane_places(order, lane); p++) {
            const uint64_t chunk =
                data_order_place_sample(order, epoch, lane, p) / order->chunk_samples;
            const uint64_t step = data_order_place_step(order, lane, p / window * window);

            first[chunk] = step < first[chunk] ? step : first[chunk];
        }
    for (uint64_t c = 0; c < game->chunks; c++)
        if (first[c] != none)
            game->uses[game->count++] =
                (struct use){epoch * (data_order_steps(order) + 1) + first[c], c, 0};
    free(first);
}

static void list_uses(struct game *game)
{
    size_t *const next = must(malloc(game->chunks * sizeof *next));

    game->uses = must(malloc(game->chunks * game->epochs * sizeof *game->uses));
    for (uint32_t e = 0; e < game->epochs; e++)
        list_epoch(game, e);
    qsort(game->uses, game->count, sizeof *game->uses, by_step);
    for (uint64_t c = 0; c < game->chunks; c++)
        next[c] = game->count;
    for (size_t u = game->count; u-- > 0;) {
        game->uses[u].next = next[game->uses[u].chunk];
        next[game->uses[u].chunk] = u;
    }
    free(next);
}

/* What is there: the next use of each chunk (chunks), 0: not there. */
struct shelf {
    size_t *next;
    uint64_t held, room;
};

/* The chunk that is needed last of those there, if later than `use` and sooner than `before`;
 * chunks: none. */
static uint64_t last_of(const struct game *game, const struct shelf *shelf, size_t use,
                        size_t before)
{
    uint64_t found = game->chunks;

    for (uint64_t c = 0; c < game->chunks; c++)
        if (shelf->next[c] > use && shelf->next[c] < before) {
            found = c;
            use = shelf->next[c];
        }
    return found;
}

/* Whether there is room for `bytes` that are needed at `use`, once what is needed later is gone:
 * the last first, as many as it takes, and none where all of them are not enough. */
static bool make_room(const struct game *game, struct shelf *shelf, size_t use, uint64_t bytes)
{
    uint64_t free = shelf->room - shelf->held;
    size_t before = game->count;

    while (free < bytes) {
        const uint64_t last = last_of(game, shelf, use, before);

        if (last == game->chunks)
            return false;
        before = shelf->next[last];
        free += game->bytes[last];
    }
    for (uint64_t c = 0; c < game->chunks; c++)
        if (shelf->next[c] >= before)
            shelf->next[c] = 0;
    shelf->held = shelf->room - free;
    return true;
}

static void play(const struct game *game, uint64_t room)
{
    struct shelf shelf = {.next = must(calloc(game->chunks, sizeof *shelf.next)), .room = room};
    uint64_t *const read = must(calloc(game->epochs, sizeof *read));

    for (size_t u = 0; u < game->count; u++) {
        const struct use *const use = &game->uses[u];
        const uint64_t bytes = game->bytes[use->chunk];

        if (shelf.next[use->chunk] > 0) {
            shelf.next[use->chunk] = 0;
            shelf.held -= bytes;
        } else {
            read[use->step / (data_order_steps(&game->order) + 1)] += bytes;
        }
        if (use->next < game->count && make_room(game, &shelf, use->next, bytes)) {
            shelf.next[use->chunk] = use->next;
            shelf.held += bytes;
        }
    }
    printf("{\"cache_bytes\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"read\": [", room,
           game->index->bytes);
    for (uint32_t e = 0; e < game->epochs; e++)
        printf("%s%" PRIu64, e == 0 ? "" : ", ", read[e]);
    printf("]}\n");
    free(shelf.next);
    free(read);
}

int main(int argc, char **argv)
{
    struct data_index index = {0};
    struct game game = {.index = &index};
    struct err err = {0};

    if (argc < 7) {
        fprintf(stderr, "belady ROOT BATCH LANES SEED EPOCHS BYTES...\n");
        return 2;
    }
    if (data_index_open(&index, argv[1], NULL, 0, NULL, &err) < 0) {
        fprintf(stderr, "belady: %s\n", err.msg);
        return 2;
    }
    game.order = (struct data_order){.samples = index.count,
                                     .chunk_samples = data_index_chunk_samples(&index),
                                     .batch = (uint32_t)strtoul(argv[2], NULL, 10),
                                     .lanes = (uint32_t)strtoul(argv[3], NULL, 10),
                                     .seed = strtoull(argv[4], NULL, 10)};
    game.epochs = (uint32_t)strtoul(argv[5], NULL, 10);
    game.chunks = (index.count + game.order.chunk_samples - 1) / game.order.chunk_samples;
    game.bytes = must(calloc(game.chunks, sizeof *game.bytes));
    for (size_t i = 0; i < index.count; i++)
        game.bytes[i / game.order.chunk_samples] += index.samples[i].bytes;
    list_uses(&game);
    for (int i = 6; i < argc; i++)
        play(&game, strtoull(argv[i], NULL, 10));
    free(game.uses);
    free(game.bytes);
    data_index_release(&index);
    return 0;
}
