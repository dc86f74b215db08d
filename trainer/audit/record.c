#include "trainer/audit/record.h"

#include <assert.h>
#include <string.h>

#include "base/buf.h"

#define HEAD_BYTES       8 /* of a frame: the length and its sum */
#define SUM_BYTES        4
#define LANES_OFFSET     (1 + 4 + 8 + 8) /* of the count, in a step's body */
#define LANE_BYTES       12
#define BEGIN_BYTES      (2 + 4 * 4 + 2 * 8 + 2 * AUDIT_LAUNCH_BYTES + 3 * 8 + 2 * 4 + 32)
#define STEP_BYTES       (LANES_OFFSET + 4)
#define END_BYTES        (2 + 8)
#define SAMPLES_MAX      ((uint64_t)1 << 56)
#define STEPS_BEYOND_ALL ((uint64_t)1 << 62)

static void put(struct buf *out, uint64_t value, int bytes)
{
    unsigned char text[8];

    for (int i = 0; i < bytes; i++)
        text[i] = (unsigned char)(value >> (8 * i));
    buf_append(out, text, (size_t)bytes);
}

static uint64_t get(const unsigned char *at, int bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* What is read number by number. */
static uint64_t take(const unsigned char **at, int bytes)
{
    const uint64_t value = get(*at, bytes);

    *at += bytes;
    return value;
}

int audit_width(uint64_t samples)
{
    int width = 1;

    while (width < 8 && (samples - 1) >> (8 * width) != 0)
        width++;
    return width;
}

bool audit_begin_same_run(const struct audit_begin *a, const struct audit_begin *b)
{
    return memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0 &&
           a->order.samples == b->order.samples &&
           a->order.chunk_samples == b->order.chunk_samples && a->order.seed == b->order.seed &&
           a->order.batch == b->order.batch && a->order.lanes == b->order.lanes &&
           a->order.drop_last == b->order.drop_last;
}

/* --- writing --- */

void audit_begin_encode(struct buf *body, const struct audit_begin *begin)
{
    put(body, AUDIT_BEGIN, 1);
    put(body, begin->order.drop_last, 1);
    put(body, DATA_ORDER_VERSION, 4);
    put(body, begin->rank, 4);
    put(body, begin->ranks, 4);
    put(body, begin->generation, 4);
    put(body, begin->resumed_step, 8);
    put(body, begin->started_us, 8);
    buf_append(body, begin->launch, sizeof begin->launch);
    buf_append(body, begin->parent, sizeof begin->parent);
    put(body, begin->order.samples, 8);
    put(body, begin->order.chunk_samples, 8);
    put(body, begin->order.seed, 8);
    put(body, begin->order.batch, 4);
    put(body, begin->order.lanes, 4);
    buf_append(body, begin->fingerprint, sizeof begin->fingerprint);
}

void audit_step_encode(struct buf *body, uint32_t epoch, uint64_t epoch_step, uint64_t step)
{
    put(body, AUDIT_STEP, 1);
    put(body, epoch, 4);
    put(body, epoch_step, 8);
    put(body, step, 8);
    put(body, 0, 4);
}

void audit_step_add(struct buf *body, int width, uint32_t lane, const uint64_t *samples,
                    uint32_t trained, const uint64_t *bad, uint32_t left_out)
{
    const uint64_t lanes = get(body->data + LANES_OFFSET, 4) + 1;

    for (int i = 0; i < 4; i++)
        body->data[LANES_OFFSET + i] = (unsigned char)(lanes >> (8 * i));
    put(body, lane, 4);
    put(body, trained, 4);
    put(body, left_out, 4);
    for (uint32_t i = 0; i < trained; i++)
        put(body, samples[i], width);
    for (uint32_t i = 0; i < left_out; i++)
        put(body, bad[i], width);
}

void audit_end_encode(struct buf *body, const struct audit_end *end)
{
    put(body, AUDIT_END, 1);
    put(body, end->how, 1);
    put(body, end->step, 8);
}

void audit_frame_append(struct buf *out, const struct buf *body)
{
    const size_t begin = out->bytes;

    assert(body->bytes <= AUDIT_BODY_BYTES_MAX);
    put(out, body->bytes, 4);
    put(out, digest_crc32c(0, out->data + begin, 4), 4);
    buf_append(out, body->data, body->bytes);
    put(out, digest_crc32c(0, body->data, body->bytes), 4);
}

/* --- reading --- */

/* Numbers that the order can be computed with. */
static bool decode_begin(const unsigned char *at, size_t bytes, struct audit_begin *begin)
{
    uint64_t drop_last, version;

    if (bytes != BEGIN_BYTES)
        return false;
    at++;
    *begin = (struct audit_begin){0};
    drop_last = take(&at, 1);
    version = take(&at, 4);
    begin->rank = (uint32_t)take(&at, 4);
    begin->ranks = (uint32_t)take(&at, 4);
    begin->generation = (uint32_t)take(&at, 4);
    begin->resumed_step = take(&at, 8);
    begin->started_us = take(&at, 8);
    memcpy(begin->launch, at, sizeof begin->launch);
    at += sizeof begin->launch;
    memcpy(begin->parent, at, sizeof begin->parent);
    at += sizeof begin->parent;
    begin->order.samples = take(&at, 8);
    begin->order.chunk_samples = take(&at, 8);
    begin->order.seed = take(&at, 8);
    begin->order.batch = (uint32_t)take(&at, 4);
    begin->order.lanes = (uint32_t)take(&at, 4);
    begin->order.drop_last = drop_last != 0;
    memcpy(begin->fingerprint, at, sizeof begin->fingerprint);
    return drop_last <= 1 && version == DATA_ORDER_VERSION && begin->rank < begin->ranks &&
           begin->order.samples > 0 && begin->order.samples < SAMPLES_MAX &&
           begin->order.chunk_samples > 0 && begin->order.chunk_samples < SAMPLES_MAX &&
           begin->order.batch > 0 && begin->order.lanes > 0 &&
           begin->order.lanes <= begin->order.batch && begin->resumed_step < STEPS_BEYOND_ALL &&
           data_order_steps(&begin->order) > 0;
}

static bool decode_step(const unsigned char *at, size_t bytes, struct audit_step *step)
{
    if (bytes < STEP_BYTES)
        return false;
    *step = (struct audit_step){.end = at + bytes};
    at++;
    step->epoch = (uint32_t)take(&at, 4);
    step->epoch_step = take(&at, 8);
    step->step = take(&at, 8);
    step->lanes = (uint32_t)take(&at, 4);
    step->at = at;
    return step->step > 0 && step->step < STEPS_BEYOND_ALL;
}

static bool decode_end(const unsigned char *at, size_t bytes, struct audit_end *end)
{
    if (bytes != END_BYTES || at[1] < AUDIT_FINISHED || at[1] > AUDIT_FAILED)
        return false;
    *end = (struct audit_end){.how = (enum audit_how)at[1], .step = get(at + 2, 8)};
    return end->step < STEPS_BEYOND_ALL;
}

static bool decode(const unsigned char *body, size_t bytes, struct audit_frame *frame)
{
    frame->kind = (enum audit_kind)body[0];
    switch (body[0]) {
    case AUDIT_BEGIN:
        return decode_begin(body, bytes, &frame->begin);
    case AUDIT_STEP:
        return decode_step(body, bytes, &frame->step);
    case AUDIT_END:
        return decode_end(body, bytes, &frame->end);
    }
    return false;
}

static bool is_zero(const unsigned char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != 0)
            return false;
    return true;
}

enum audit_read audit_read(const unsigned char *data, size_t bytes, size_t *at,
                           struct audit_frame *frame)
{
    const unsigned char *here;
    size_t rest, length;

    if (*at == 0) {
        const size_t there = bytes < AUDIT_MAGIC_BYTES ? bytes : AUDIT_MAGIC_BYTES;

        if (memcmp(data, AUDIT_MAGIC, there) != 0)
            return is_zero(data, bytes) ? AUDIT_READ_TORN : AUDIT_READ_DAMAGED;
        if (there < AUDIT_MAGIC_BYTES)
            return there > 0 ? AUDIT_READ_TORN : AUDIT_READ_END;
        *at = AUDIT_MAGIC_BYTES;
    }
    here = data + *at;
    rest = bytes - *at;
    if (rest == 0)
        return AUDIT_READ_END;
    if (is_zero(here, rest < HEAD_BYTES ? rest : HEAD_BYTES) && is_zero(here, rest))
        return AUDIT_READ_TORN;
    if (rest < HEAD_BYTES)
        return AUDIT_READ_TORN;
    length = get(here, 4);
    if (get(here + 4, 4) != digest_crc32c(0, here, 4) || length == 0 ||
        length > AUDIT_BODY_BYTES_MAX)
        return AUDIT_READ_DAMAGED;
    if (rest < HEAD_BYTES + length + SUM_BYTES)
        return AUDIT_READ_TORN;
    if (get(here + HEAD_BYTES + length, 4) != digest_crc32c(0, here + HEAD_BYTES, length) ||
        !decode(here + HEAD_BYTES, length, frame))
        return AUDIT_READ_DAMAGED;
    *at += HEAD_BYTES + length + SUM_BYTES;
    return AUDIT_READ_FRAME;
}

bool audit_step_lane(struct audit_step *step, int width, struct audit_lane *lane)
{
    const size_t rest = (size_t)(step->end - step->at);
    uint64_t places;

    if (step->lanes == 0 || rest < LANE_BYTES)
        return false;
    lane->lane = (uint32_t)take(&step->at, 4);
    lane->trained = (uint32_t)take(&step->at, 4);
    lane->left_out = (uint32_t)take(&step->at, 4);
    places = (uint64_t)lane->trained + lane->left_out;
    if (places * (uint64_t)width > rest - LANE_BYTES)
        return false;
    lane->samples = step->at;
    step->at += places * (uint64_t)width;
    step->lanes--;
    return true;
}

uint64_t audit_lane_sample(const struct audit_lane *lane, int width, uint32_t i)
{
    return get(lane->samples + (size_t)i * (size_t)width, width);
}
