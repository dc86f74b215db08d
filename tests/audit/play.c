#include "tests/audit/play.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void play_release(struct play *play)
{
    for (int r = 0; r < PLAY_RANKS_MAX; r++)
        buf_release(&play->files[r]);
}

void play_tear(struct play *play, uint32_t rank, size_t bytes)
{
    assert(bytes <= play->files[rank].bytes);
    play->files[rank].bytes = bytes;
}

/* As the next launch does with a file: what is not whole goes. */
static void mend(struct buf *file)
{
    struct audit_frame frame;
    size_t at = 0;

    while (audit_read(file->data, file->bytes, &at, &frame) == AUDIT_READ_FRAME)
        ;
    file->bytes = at;
    if (at == 0)
        buf_append(file, AUDIT_MAGIC, AUDIT_MAGIC_BYTES);
}

static void append(struct buf *file, struct buf *body)
{
    audit_frame_append(file, body);
    buf_release(body);
}

void play_launch(struct play *play, uint32_t ranks, const struct audit_begin *parent, uint64_t step,
                 uint32_t generation)
{
    struct audit_begin begin = {.generation = generation,
                                .ranks = ranks,
                                .resumed_step = step,
                                .started_us = ++play->launches,
                                .order = play->order};

    begin.launch[0] = (unsigned char)play->launches;
    begin.launch[1] = (unsigned char)(play->launches >> 8);
    begin.launch[2] = 1;
    memset(begin.fingerprint, 7, sizeof begin.fingerprint);
    if (parent != NULL)
        memcpy(begin.parent, parent->launch, sizeof begin.parent);
    play->step = step;
    play->begin = begin;
    for (begin.rank = 0; begin.rank < ranks; begin.rank++) {
        struct buf body = {0};

        mend(&play->files[begin.rank]);
        audit_begin_encode(&body, &begin);
        append(&play->files[begin.rank], &body);
    }
}

/* What a broken loader would give instead of its pictures. */
static void spoil(struct play *play, uint64_t *samples, uint32_t *n, uint32_t lane)
{
    play->has_erred = true;
    switch (play->bad) {
    case PLAY_SKIP:
    case PLAY_LANE:
        break;
    case PLAY_LOSE:
        --*n;
        break;
    case PLAY_REPEAT:
        if (*n > 1)
            samples[*n - 1] = samples[0];
        else
            samples[(*n)++] = samples[0];
        break;
    case PLAY_OTHER:
        samples[0] = (samples[0] + 1 + lane) % play->order.samples;
        play->has_erred = play->order.samples > 1 && (1 + lane) % play->order.samples != 0;
        break;
    }
}

static void play_rank(struct play *play, uint32_t rank, uint32_t every)
{
    const struct data_order *const order = &play->order;
    const uint64_t steps = data_order_steps(order), epoch_step = play->step % steps;
    const uint32_t epoch = (uint32_t)(play->step / steps), ranks = play->begin.ranks;
    const uint32_t begin = (uint32_t)((uint64_t)rank * order->lanes / ranks),
                   end = (uint32_t)((uint64_t)(rank + 1) * order->lanes / ranks);
    bool bad = play->bad_step == play->step + 1 && play->bad_rank == rank;
    uint64_t *const samples = calloc(order->batch + 1, 2 * sizeof *samples), *const left =
                                                                                 samples +
                                                                                 order->batch + 1;
    struct buf body = {0};

    assert(samples != NULL);
    if (bad)
        play->has_erred = false; /* what was done of this step before is lost */
    if (bad && play->bad == PLAY_SKIP) {
        play->has_erred = true;
        free(samples);
        return;
    }
    audit_step_encode(&body, epoch, epoch_step, play->step + 1);
    for (uint32_t lane = begin; lane < end; lane++) {
        const uint32_t images = data_order_lane_images(order, epoch_step, lane);
        uint32_t n = 0, out = 0;

        if (images == 0)
            continue;
        for (uint32_t i = 0; i < images; i++) {
            const uint64_t sample = data_order_sample(order, epoch, epoch_step, lane, i);

            if (every > 0 && sample % every == 0)
                left[out++] = sample;
            else
                samples[n++] = sample;
        }
        if (bad && (play->bad == PLAY_LANE || n > 0)) {
            bad = false;
            spoil(play, samples, &n, lane);
            if (play->bad == PLAY_LANE)
                continue;
        }
        audit_step_add(&body, audit_width(order->samples), lane, samples, n, left, out);
    }
    append(&play->files[rank], &body);
    free(samples);
}

void play_step(struct play *play, uint32_t ranks, uint32_t every)
{
    for (uint32_t r = 0; r < ranks; r++)
        play_rank(play, r, every);
}

void play_end(struct play *play, enum audit_how how)
{
    const struct audit_end end = {.how = how, .step = play->step};

    for (uint32_t r = 0; r < play->begin.ranks; r++) {
        struct buf body = {0};

        audit_end_encode(&body, &end);
        append(&play->files[r], &body);
    }
}

uint64_t play_judge(const struct play *play, struct audit_verdict *verdict, struct err *err)
{
    struct audit_lineage lineage = {0};
    struct audit_verdict own = {0};
    uint64_t faults = UINT64_MAX;
    int rc = 0;

    for (int r = 0; r < PLAY_RANKS_MAX && rc == 0; r++)
        if (play->files[r].bytes > 0)
            rc =
                audit_lineage_add(&lineage, "file", play->files[r].data, play->files[r].bytes, err);
    if (rc == 0 && audit_lineage_trace(&lineage, AUDIT_LAST, 0, err) == 0 &&
        audit_judge(&lineage, NULL, &own, err) == 0)
        faults = own.faults;
    if (verdict != NULL)
        *verdict = own;
    else
        audit_verdict_release(&own);
    audit_lineage_release(&lineage);
    return faults;
}
