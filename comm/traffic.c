/* comm/traffic.c -- see traffic.h. */
#include "comm/traffic.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/trace.h"
#include "comm/comm.h"
#include "comm/post.h"
#include "comm/wait.h"

#define BLOCK_FLOATS 2048 /* 8 KB of each part: a few dozen stay in the L2 cache while added up */
#define AHEAD        8 /* buckets that the order is told ahead of: who is quicker need not wait for it */
#define TAGS_BUCKETS 256 /* buckets with tags of their own: many more than are under way */
#define TAGS_BUCKET  (COMM_TREE_PIECES_MAX + 1) /* of a bucket: its parts', and its sum's */
/* Of parts that MPI has for a peer, and of sums. Twice as much took a fifth longer between two
 * hosts at 10 Gbit/s, half of it 6 %; at 200 Mbit/s half of it trained 1 % faster. */
#define WINDOW_BYTES (512 * 1024)

enum slot_state {
    SLOT_FREE,
    SLOT_WAITS, /* for the ranks of this host to have computed the bucket */
    SLOT_PARTS, /* hosts' parts are under way to the owners */
    SLOT_SUMS,  /* sums are under way to the handlers */
};

/* A bucket under way. */
struct comm_slot {
    enum slot_state state;
    int bucket, under_way;
    int place;        /* in the order of the step: whose tags its messages have */
    size_t chunk_max; /* floats from one part to the next */
    size_t parts;     /* floats of all parts */
    double begun_s;   /* for a trace */
    float *received;  /* of this rank's chunk: part p of another host is at p * chunk_max */
    uint16_t *halves; /* with COMM_WIRE_BF16: the same, and behind them the bucket as it is sent */
    float **part;     /* of this rank's chunk: where each part is */
};

size_t comm_board_bytes(int buckets)
{
    return sizeof(struct comm_board) + (size_t)buckets * sizeof(uint32_t);
}

/* --- making --- */

/* What a slot needs of memory between hosts. */
struct room {
    size_t chunk;    /* floats from one part to the next */
    size_t received; /* of all parts */
    size_t halves;   /* bf16s of parts, and of the bucket */
};

/* For buckets of at most so many floats. */
static struct room room_of(const struct comm_layout *layout, uint32_t lanes, size_t floats,
                           enum comm_wire wire)
{
    const bool bf16 = wire == COMM_WIRE_BF16;
    struct room room = {0};

    if (layout->hosts == 1)
        return room;
    room.chunk = comm_tree_stride(comm_layout_chunk_max(layout, floats));
    room.received = (size_t)comm_pieces_parts_max(layout, lanes, bf16) * room.chunk;
    if (bf16)
        room.halves = room.received + comm_tree_stride(floats);
    return room;
}

static int slots_of(const struct comm_buckets *buckets)
{
    const int count = comm_buckets_count(buckets);

    return count < COMM_TRAFFIC_SLOTS ? count : COMM_TRAFFIC_SLOTS;
}

/* The largest bucket that a slot gets: where each has one of its own, it is that. */
static size_t floats_of_slot(const struct comm_buckets *buckets, int slots, int slot)
{
    return slots == comm_buckets_count(buckets) ? comm_buckets_run(buckets, slot).count
                                                : comm_buckets_largest(buckets);
}

/* What rounding leaves out, of the whole vector. */
static size_t lost_of(const struct comm_layout *layout, const struct comm_buckets *buckets,
                      enum comm_wire wire)
{
    return wire == COMM_WIRE_BF16 && layout->hosts > 1 ? buckets->floats : 0;
}

size_t comm_traffic_memory(const struct comm_layout *layout, uint32_t lanes,
                           const struct comm_buckets *buckets, enum comm_wire wire)
{
    const int slots = slots_of(buckets);
    size_t bytes = lost_of(layout, buckets, wire) * sizeof(float);

    for (int slot = 0; slot < slots; slot++) {
        const struct room room = room_of(layout, lanes, floats_of_slot(buckets, slots, slot), wire);

        bytes += room.received * sizeof(float) + room.halves * sizeof(uint16_t);
    }
    return bytes;
}

static void *new_list(size_t count, size_t bytes)
{
    void *const list = calloc(count + 1, bytes); /* never of no bytes */

    if (list == NULL)
        abort();
    return list;
}

/* Room for so many things of which there may be none. */
static int take_room(void **memory, size_t bytes, struct err *err)
{
    *memory = NULL;
    if (bytes == 0 || (*memory = aligned_alloc(64, (bytes + 63) / 64 * 64)) != NULL)
        return 0;
    return err_set(err, ERR_MEMORY,
                   "cannot allocate %zu bytes for the exchange of gradients; smaller "
                   "--bucket-bytes need less",
                   bytes);
}

static int make_slots(struct comm_traffic *traffic, const struct comm_traffic_options *options,
                      struct err *err)
{
    const size_t lost = lost_of(&traffic->layout, &traffic->cut, options->wire);

    traffic->slots = new_list((size_t)traffic->slot_count, sizeof *traffic->slots);
    for (int i = 0; i < traffic->slot_count; i++) {
        struct comm_slot *const slot = &traffic->slots[i];
        const struct room room =
            room_of(&traffic->layout, options->lanes,
                    floats_of_slot(&traffic->cut, traffic->slot_count, i), options->wire);

        slot->chunk_max = room.chunk;
        slot->parts = room.received;
        slot->part = new_list(traffic->pieces.lanes, sizeof *slot->part);
        if (take_room((void **)&slot->received, room.received * sizeof(float), err) < 0 ||
            take_room((void **)&slot->halves, room.halves * sizeof(uint16_t), err) < 0)
            return -1;
    }
    if (lost > 0 && (traffic->lost = calloc(lost, sizeof(float))) == NULL)
        return err_set(err, ERR_MEMORY, "cannot allocate %zu bytes for --wire-dtype bf16",
                       lost * sizeof(float));
    return 0;
}

static int my_host(const struct comm_traffic *traffic)
{
    return traffic->layout.host_of[traffic->comm->rank];
}

int comm_traffic_init(struct comm_traffic *traffic, struct comm *comm, struct comm_post *post,
                      const struct comm_traffic_options *options, struct err *err)
{
    const size_t window = options->window > 0 ? options->window : WINDOW_BYTES;

    *traffic = (struct comm_traffic){.slot_count = options->slots > 0 ? options->slots
                                                                      : slots_of(&options->buckets),
                                     .comm = comm,
                                     .post = post,
                                     .cut = options->buckets,
                                     .boards = options->boards,
                                     .vectors = options->vectors,
                                     .sum = options->sum};
    assert(options->lanes > 0);
    comm_layout_init(&traffic->layout, comm->size, options->group_of);
    comm_pieces_init(&traffic->pieces, &traffic->layout, options->lanes,
                     options->wire == COMM_WIRE_BF16 && traffic->layout.hosts > 1);
    comm_outbox_init(&traffic->parts, post, comm->size, window);
    comm_outbox_init(&traffic->sums, post, comm->size, window);
    traffic->local_first = traffic->layout.first_of[my_host(traffic)];
    traffic->local_count = traffic->layout.first_of[my_host(traffic) + 1] - traffic->local_first;
    traffic->buckets = comm_buckets_count(&options->buckets);
    traffic->order = new_list((size_t)traffic->buckets, sizeof *traffic->order);
    traffic->named = new_list((size_t)traffic->buckets, sizeof *traffic->named);
    traffic->through = traffic->buckets;
    if (make_slots(traffic, options, err) < 0) {
        comm_traffic_release(traffic);
        return -1;
    }
    return 0;
}

void comm_traffic_release(struct comm_traffic *traffic)
{
    for (int i = 0; traffic->slots != NULL && i < traffic->slot_count; i++) {
        free(traffic->slots[i].received);
        free(traffic->slots[i].halves);
        free(traffic->slots[i].part);
    }
    comm_outbox_release(&traffic->parts);
    comm_outbox_release(&traffic->sums);
    free(traffic->slots);
    free(traffic->lost);
    free(traffic->order);
    free(traffic->named);
    comm_pieces_release(&traffic->pieces);
    comm_layout_release(&traffic->layout);
    *traffic = (struct comm_traffic){0};
}

/* --- a step --- */

static struct comm_board *board_of(const struct comm_traffic *traffic, int rank)
{
    return traffic->boards[rank - traffic->local_first];
}

static struct comm_run chunk_of(const struct comm_traffic *traffic, int bucket, int owner)
{
    return comm_layout_chunk(&traffic->layout, comm_buckets_run(&traffic->cut, bucket), owner);
}

/* Does this rank put the sums of that owner's chunks where its host sees them? */
static bool handles(const struct comm_traffic *traffic, int owner)
{
    return comm_layout_handler(&traffic->layout, my_host(traffic), owner) == traffic->comm->rank;
}

static int tag_of(const struct comm_slot *slot, int number)
{
    return COMM_TAG_TRAFFIC + slot->place % TAGS_BUCKETS * TAGS_BUCKET + number;
}

/* Where something of a bucket lies that travels. */
struct parcel {
    void *data;
    size_t bytes;
};

static void send(struct comm_traffic *traffic, struct comm_slot *slot, struct parcel parcel,
                 int rank, int number)
{
    const bool is_sum = number == COMM_TREE_PIECES_MAX;

    if (parcel.bytes > 0)
        comm_outbox_put(is_sum ? &traffic->sums : &traffic->parts,
                        &(struct comm_outgoing){.data = parcel.data,
                                                .bytes = parcel.bytes,
                                                .to = rank,
                                                .tag = tag_of(slot, number),
                                                .place = slot->place,
                                                .urgency = slot->bucket,
                                                .under_way = &slot->under_way});
}

static int receive(struct comm_traffic *traffic, struct comm_slot *slot, struct parcel parcel,
                   int rank, int number, struct err *err)
{
    if (parcel.bytes == 0)
        return 0;
    return comm_outbox_receive(traffic->post, parcel.data, parcel.bytes, rank, tag_of(slot, number),
                               &slot->under_way, err);
}

/* --- rounding --- */

static bool is_rounded(const struct comm_traffic *traffic, const struct comm_slot *slot)
{
    return traffic->lost != NULL && !comm_buckets_is_prefix(&traffic->cut, slot->bucket);
}

/* A chunk's bf16s, as they are sent or come back. */
static uint16_t *halves_of(const struct comm_traffic *traffic, const struct comm_slot *slot,
                           struct comm_run chunk)
{
    return slot->halves + slot->parts + chunk.begin -
           comm_buckets_run(&traffic->cut, slot->bucket).begin;
}

/* Part p of this rank's chunk, as it comes. */
static struct parcel incoming_part(const struct comm_traffic *traffic, const struct comm_slot *slot,
                                   int p, size_t count)
{
    const size_t at = (size_t)p * slot->chunk_max;

    return is_rounded(traffic, slot) ? (struct parcel){slot->halves + at, count * sizeof(uint16_t)}
                                     : (struct parcel){slot->received + at, count * sizeof(float)};
}

/* A chunk of a vector, as it is sent. */
static struct parcel outgoing(const struct comm_traffic *traffic, const struct comm_slot *slot,
                              float *x, struct comm_run chunk)
{
    uint16_t *halves;

    if (!is_rounded(traffic, slot))
        return (struct parcel){x + chunk.begin, chunk.count * sizeof *x};
    halves = halves_of(traffic, slot, chunk);
    comm_wire_round(halves, x + chunk.begin, traffic->lost + chunk.begin, chunk.count);
    return (struct parcel){halves, chunk.count * sizeof *halves};
}

/* The sum of a chunk, as it comes. */
static struct parcel incoming_sum(const struct comm_traffic *traffic, const struct comm_slot *slot,
                                  struct comm_run chunk)
{
    return is_rounded(traffic, slot)
               ? (struct parcel){halves_of(traffic, slot, chunk), chunk.count * sizeof(uint16_t)}
               : (struct parcel){traffic->sum + chunk.begin, chunk.count * sizeof(float)};
}

static void widen_parts(const struct comm_traffic *traffic, const struct comm_slot *slot)
{
    const struct comm_run chunk = chunk_of(traffic, slot->bucket, traffic->comm->rank);

    if (!is_rounded(traffic, slot))
        return;
    for (int p = 0; p < traffic->pieces.part_count; p++)
        if (traffic->pieces.parts[p].of != my_host(traffic))
            comm_wire_widen(slot->part[p], incoming_part(traffic, slot, p, 0).data, chunk.count);
}

/* The sums that this rank puts where its host sees them, its own chunk's too: what all others have
 * is what it has. */
static void widen_sums(const struct comm_traffic *traffic, const struct comm_slot *slot)
{
    if (!is_rounded(traffic, slot))
        return;
    for (int owner = 0; owner < traffic->comm->size; owner++) {
        const struct comm_run chunk = chunk_of(traffic, slot->bucket, owner);

        if (handles(traffic, owner))
            comm_wire_widen(traffic->sum + chunk.begin, halves_of(traffic, slot, chunk),
                            chunk.count);
    }
}

/* The rest of a step is told by rank 0, bucket by bucket; where all are on one host no two wait for
 * each other, and each has its own order. */
static bool is_told(const struct comm_traffic *traffic)
{
    return traffic->layout.hosts > 1 && traffic->comm->rank != 0;
}

static int listen(struct comm_traffic *traffic, struct err *err)
{
    if (!is_told(traffic) || traffic->ordered == traffic->buckets)
        return 0;
    return comm_post_receive(traffic->post, &traffic->next_order, sizeof traffic->next_order, 0,
                             COMM_TAG_ORDER, &traffic->order_under_way, err);
}

int comm_traffic_begin(struct comm_traffic *traffic, uint32_t leaves, struct err *err)
{
    assert(comm_traffic_is_through(traffic));
    comm_pieces_plan(&traffic->pieces, &traffic->layout, my_host(traffic), leaves);
    traffic->step++;
    traffic->ordered = traffic->begun = traffic->through = 0;
    memset(traffic->named, 0, (size_t)traffic->buckets * sizeof *traffic->named);
    return listen(traffic, err);
}

/* --- which bucket is next --- */

static uint64_t readiness(const struct comm_traffic *traffic, size_t floats)
{
    return traffic->step * ((uint64_t)traffic->cut.floats + 1) + floats;
}

void comm_traffic_ready(struct comm_traffic *traffic, size_t floats)
{
    assert(floats <= traffic->cut.floats);
    atomic_store_explicit(&board_of(traffic, traffic->comm->rank)->ready,
                          readiness(traffic, floats), memory_order_release);
}

static bool is_ready_on(const struct comm_traffic *traffic, int rank, int bucket)
{
    const struct comm_run run = comm_buckets_run(&traffic->cut, bucket);

    return atomic_load_explicit(&board_of(traffic, rank)->ready, memory_order_acquire) >=
           readiness(traffic, run.begin + run.count);
}

static bool is_ready(const struct comm_traffic *traffic, int bucket)
{
    for (int i = 0; i < traffic->local_count; i++)
        if (!is_ready_on(traffic, traffic->local_first + i, bucket))
            return false;
    return true;
}

/* The last bucket that is final on this rank and has not set out; -1: none. */
static int choose(const struct comm_traffic *traffic)
{
    const uint64_t ready = atomic_load_explicit(&board_of(traffic, traffic->comm->rank)->ready,
                                                memory_order_acquire),
                   none = readiness(traffic, 0);
    int bucket = traffic->buckets - 1;

    if (ready < none) /* as the last step left it */
        return -1;
    if (ready - none < traffic->cut.floats)
        bucket = comm_buckets_at(&traffic->cut, (size_t)(ready - none)) - 1;
    while (bucket >= 0 && traffic->named[bucket])
        bucket--;
    return bucket;
}

static int tell_order(struct comm_traffic *traffic, const int *bucket, struct err *err)
{
    for (int rank = 1; rank < traffic->comm->size && traffic->layout.hosts > 1; rank++)
        if (comm_post_send(traffic->post, bucket, sizeof *bucket, rank, COMM_TAG_ORDER,
                           &traffic->order_under_way, err) < 0)
            return -1;
    return 0;
}

/* Make the order longer: by what this rank chooses while it has room, or by what rank 0 said. */
static int extend_order(struct comm_traffic *traffic, bool *moved, struct err *err)
{
    if (is_told(traffic)) {
        if (traffic->order_under_way > 0 || traffic->ordered == traffic->buckets)
            return 0;
        traffic->order[traffic->ordered++] = traffic->next_order;
        *moved = true;
        return listen(traffic, err);
    }
    while (traffic->ordered - traffic->through < traffic->slot_count + AHEAD) {
        const int bucket = choose(traffic);

        if (bucket < 0)
            return 0;
        traffic->named[bucket] = true;
        traffic->order[traffic->ordered++] = bucket;
        *moved = true;
        if (tell_order(traffic, &traffic->order[traffic->ordered - 1], err) < 0)
            return -1;
    }
    return 0;
}

/* --- a bucket's way --- */

/* Where piece `number` of the list of this host's pieces begins. */
static float *local_piece(const struct comm_traffic *traffic, int number)
{
    const struct comm_piece *const piece = &traffic->pieces.local[number];

    return traffic->vectors[piece->of - traffic->local_first][piece->number];
}

/* The other hosts' parts of this rank's own chunk. */
static int receive_parts(struct comm_traffic *traffic, struct comm_slot *slot, struct err *err)
{
    const int me = traffic->comm->rank;
    const struct comm_run chunk = chunk_of(traffic, slot->bucket, me);

    for (int p = 0; p < traffic->pieces.part_count; p++) {
        const struct comm_piece *const part = &traffic->pieces.parts[p];

        if (part->of == my_host(traffic)) {
            slot->part[p] =
                local_piece(traffic, traffic->pieces.local_parts[part->number]) + chunk.begin;
            continue;
        }
        slot->part[p] = slot->received + (size_t)p * slot->chunk_max;
        if (receive(traffic, slot, incoming_part(traffic, slot, p, chunk.count),
                    comm_layout_handler(&traffic->layout, part->of, me), part->number, err) < 0)
            return -1;
    }
    return 0;
}

/* That of place p in the order: where there is one for each bucket, the bucket's own. */
static struct comm_slot *slot_of(const struct comm_traffic *traffic, int place)
{
    return &traffic->slots[traffic->slot_count == traffic->buckets ? traffic->order[place]
                                                                   : place % traffic->slot_count];
}

/* What others send of a bucket is asked for before this rank has computed its own, and slots go
 * round: who has begun place p of the order is through with p - slot_count. */
static int take_slots(struct comm_traffic *traffic, struct err *err)
{
    while (traffic->begun < traffic->ordered) {
        struct comm_slot *const slot = slot_of(traffic, traffic->begun);

        if (slot->state != SLOT_FREE)
            return 0;
        slot->state = SLOT_WAITS;
        slot->place = traffic->begun;
        slot->bucket = traffic->order[traffic->begun++];
        if (receive_parts(traffic, slot, err) < 0)
            return -1;
    }
    return 0;
}

static void add(float *restrict to, const float *restrict from, size_t count)
{
#pragma omp simd
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

static size_t block_of(size_t count, size_t at)
{
    return count - at < BLOCK_FLOATS ? count - at : BLOCK_FLOATS;
}

/* Add up what this host has of a chunk, as far as the tree allows. Pieces are used up by it. */
static void add_local(const struct comm_traffic *traffic, struct comm_run chunk)
{
    for (size_t at = 0; at < chunk.count; at += BLOCK_FLOATS) {
        const size_t count = block_of(chunk.count, at);

        for (int m = 0; m < traffic->pieces.local_merge_count; m++) {
            const struct comm_merge merge = traffic->pieces.local_merges[m];

            add(local_piece(traffic, merge.to) + chunk.begin + at,
                local_piece(traffic, merge.from) + chunk.begin + at, count);
        }
    }
}

/* This host's parts of the chunks that this rank handles set out to their owners. */
static void send_parts(struct comm_traffic *traffic, struct comm_slot *slot)
{
    const int ranks = traffic->comm->size, me = traffic->comm->rank;

    for (int step = 1; step <= ranks; step++) { /* beginning with the neighbour: spreads the load */
        const int owner = (me + step) % ranks;
        const struct comm_run chunk = chunk_of(traffic, slot->bucket, owner);

        if (!handles(traffic, owner))
            continue;
        add_local(traffic, chunk);
        for (int i = 0; i < traffic->pieces.local_part_count && owner != me; i++) {
            float *const part = local_piece(traffic, traffic->pieces.local_parts[i]);

            send(traffic, slot, outgoing(traffic, slot, part, chunk), owner, i);
        }
    }
}

/* The sum of this rank's own chunk. */
static void add_parts(const struct comm_traffic *traffic, const struct comm_slot *slot)
{
    const struct comm_run chunk = chunk_of(traffic, slot->bucket, traffic->comm->rank);
    float *const out = traffic->sum + chunk.begin;

    for (size_t at = 0; at < chunk.count; at += BLOCK_FLOATS) {
        const size_t count = block_of(chunk.count, at);

        for (int m = 0; m < traffic->pieces.merge_count; m++)
            add(slot->part[traffic->pieces.merges[m].to] + at,
                slot->part[traffic->pieces.merges[m].from] + at, count);
        if (out != slot->part[0])
            memcpy(out + at, slot->part[0] + at, count * sizeof *out);
    }
}

/* Our sum to the handlers of every other host; those of the chunks that we handle come here. */
static int pass_sums(struct comm_traffic *traffic, struct comm_slot *slot, struct err *err)
{
    const int ranks = traffic->comm->size, me = traffic->comm->rank, host = my_host(traffic);
    const struct parcel mine =
        outgoing(traffic, slot, traffic->sum, chunk_of(traffic, slot->bucket, me));

    for (int step = 1; step < traffic->layout.hosts; step++) {
        const int other = (host + step) % traffic->layout.hosts;

        send(traffic, slot, mine, comm_layout_handler(&traffic->layout, other, me),
             COMM_TREE_PIECES_MAX);
    }
    for (int owner = 0; owner < ranks; owner++)
        if (owner != me && handles(traffic, owner) &&
            receive(traffic, slot,
                    incoming_sum(traffic, slot, chunk_of(traffic, slot->bucket, owner)), owner,
                    COMM_TREE_PIECES_MAX, err) < 0)
            return -1;
    return 0;
}

static void finish(struct comm_traffic *traffic, struct comm_slot *slot)
{
    trace_put(&(struct trace_span){.category = "exchange",
                                   .name = "bucket",
                                   .begun_s = slot->begun_s,
                                   .argument = "bucket",
                                   .value = slot->bucket,
                                   .async = true,
                                   .id = (uint64_t)(slot - traffic->slots) + 1});
    atomic_store_explicit(&board_of(traffic, traffic->comm->rank)->there[slot->bucket],
                          traffic->step, memory_order_release);
    slot->state = SLOT_FREE;
    traffic->through++;
}

/* The next stage of a bucket's way, if it can begin. Sums may lie where a part was that is still
 * being sent, so they are only asked for when all parts have left. */
static int advance(struct comm_traffic *traffic, struct comm_slot *slot, bool *moved,
                   struct err *err)
{
    const double begun = trace_begin();

    if (slot->state == SLOT_FREE ||
        (slot->state == SLOT_WAITS ? !is_ready(traffic, slot->bucket) : slot->under_way > 0))
        return 0;
    *moved = true;
    switch (slot->state) {
    case SLOT_FREE:
        break;
    case SLOT_WAITS:
        slot->state = SLOT_PARTS;
        slot->begun_s = begun;
        send_parts(traffic, slot);
        trace_end("exchange", "send parts", begun);
        break;
    case SLOT_PARTS:
        slot->state = SLOT_SUMS;
        widen_parts(traffic, slot);
        add_parts(traffic, slot);
        if (pass_sums(traffic, slot, err) < 0)
            return -1;
        trace_end("exchange", "add up, send sums", begun);
        break;
    case SLOT_SUMS:
        widen_sums(traffic, slot);
        finish(traffic, slot);
        break;
    }
    return 0;
}

/* The first place that is not through here, if another rank may have begun one that has to wait for
 * it; else -1. */
static int first_place(const struct comm_traffic *traffic)
{
    int first = traffic->begun;

    for (int i = 0; i < traffic->slot_count; i++)
        if (traffic->slots[i].state != SLOT_FREE && traffic->slots[i].place < first)
            first = traffic->slots[i].place;
    return first + traffic->slot_count < traffic->buckets ? first : -1;
}

int comm_traffic_advance(struct comm_traffic *traffic, bool *moved, struct err *err)
{
    int first;

    *moved = false;
    comm_outbox_settle(&traffic->parts);
    comm_outbox_settle(&traffic->sums);
    if (extend_order(traffic, moved, err) < 0 || take_slots(traffic, err) < 0)
        return -1;
    for (int i = traffic->slot_count - 1; i >= 0; i--) /* the most urgent first */
        if (advance(traffic, &traffic->slots[i], moved, err) < 0)
            return -1;
    first = first_place(traffic);
    if (comm_outbox_send(&traffic->parts, first, err) < 0)
        return -1;
    return comm_outbox_send(&traffic->sums, first, err);
}

bool comm_traffic_is_there(const struct comm_traffic *traffic, int bucket)
{
    for (int i = 0; i < traffic->local_count; i++)
        if (atomic_load_explicit(&traffic->boards[i]->there[bucket], memory_order_acquire) !=
            traffic->step)
            return false;
    return true;
}

bool comm_traffic_is_busy(const struct comm_traffic *traffic)
{
    return traffic->ordered > traffic->through;
}

bool comm_traffic_is_through(const struct comm_traffic *traffic)
{
    return traffic->through == traffic->buckets && traffic->order_under_way == 0;
}
