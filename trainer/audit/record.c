#include "trainer/audit/record.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define HEAD_BYTES       8 /* of a frame: the length and its sum */
#define SUM_BYTES        4
#define LANES_OFFSET     (1 + 4 + 8 + 8) /* of the count, in a step's body */
#define LANE_BYTES       12
#define BEGIN_BYTES      (2 + 4 * 4 + 2 * 8 + 2 * AUDIT_LAUNCH_BYTES + 3 * 8 + 2 * 4 + 32)
#define PART_BYTES       (2 * 8 + 2 * 4)
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

static struct data_order_part part_at(const struct audit_begin *begin, uint32_t i)
{
    const unsigned char *at = begin->parts;
    struct data_order_part part;

    if (begin->order.parts != NULL)
        return begin->order.parts[i];
    at += (size_t)i * PART_BYTES;
    part.sample_begin = take(&at, 8);
    part.samples = take(&at, 8);
    part.lane_begin = (uint32_t)take(&at, 4);
    part.lanes = (uint32_t)take(&at, 4);
    return part;
}

struct data_order_part *audit_begin_parts(const struct audit_begin *begin)
{
    const uint32_t count = begin->order.part_count;
    struct data_order_part *const parts = count > 0 ? calloc(count, sizeof *parts) : NULL;

    if (count > 0 && parts == NULL)
        abort();
    for (uint32_t i = 0; i < count; i++)
        parts[i] = part_at(begin, i);
    return parts;
}

static bool same_parts(const struct audit_begin *a, const struct audit_begin *b)
{
    if (a->order.part_count != b->order.part_count)
        return false;
    for (uint32_t i = 0; i < a->order.part_count; i++) {
        const struct data_order_part x = part_at(a, i), y = part_at(b, i);

        if (x.sample_begin != y.sample_begin || x.samples != y.samples ||
            x.lane_begin != y.lane_begin || x.lanes != y.lanes)
            return false;
    }
    return true;
}

bool audit_begin_same_run(const struct audit_begin *a, const struct audit_begin *b)
{
    return memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0 &&
           a->order.samples == b->order.samples &&
           a->order.chunk_samples == b->order.chunk_samples && a->order.seed == b->order.seed &&
           a->order.batch == b->order.batch && a->order.lanes == b->order.lanes &&
           a->order.drop_last == b->order.drop_last && same_parts(a, b);
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
    if (begin->order.part_count == 0)
        return;
    put(body, begin->order.part_count, 4);
    for (uint32_t i = 0; i < begin->order.part_count; i++) {
        put(body, begin->order.parts[i].sample_begin, 8);
        put(body, begin->order.parts[i].samples, 8);
        put(body, begin->order.parts[i].lane_begin, 4);
        put(body, begin->order.parts[i].lanes, 4);
    }
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

/* Parts that are one behind the other, of all samples and lanes, none of samples that nobody reads.
 */
static bool check_parts(const struct audit_begin *begin)
{
    uint64_t samples = 0;
    uint64_t lanes = 0;

    for (uint32_t i = 0; i < begin->order.part_count; i++) {
        const struct data_order_part part = part_at(begin, i);

        if (part.sample_begin != samples || part.samples > begin->order.samples - samples ||
            part.lane_begin != lanes || part.lanes > begin->order.lanes - lanes ||
            (part.samples > 0 && part.lanes == 0))
            return false;
        samples += part.samples;
        lanes += part.lanes;
    }
    return begin->order.part_count == 0 ||
           (samples == begin->order.samples && lanes == begin->order.lanes);
}

static bool decode_parts(const unsigned char *at, size_t bytes, struct audit_begin *begin)
{
    if (bytes == 0)
        return true;
    if (bytes < 4 || (bytes - 4) % PART_BYTES != 0)
        return false;
    begin->order.part_count = (uint32_t)take(&at, 4);
    begin->parts = at;
    return begin->order.part_count > 0 && begin->order.part_count == (bytes - 4) / PART_BYTES;
}

/* Does an epoch have steps at all? */
static bool has_steps(const struct audit_begin *begin)
{
    struct data_order_part *const parts = audit_begin_parts(begin);
    struct data_order order = begin->order;
    bool has;

    order.parts = parts;
    has = data_order_steps(&order) > 0;
    free(parts);
    return has;
}

/* Numbers that the order can be computed with. */
static bool decode_begin(const unsigned char *at, size_t bytes, struct audit_begin *begin)
{
    uint64_t drop_last, version;

    *begin = (struct audit_begin){0};
    if (bytes < BEGIN_BYTES || !decode_parts(at + BEGIN_BYTES, bytes - BEGIN_BYTES, begin))
        return false;
    at++;
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
           check_parts(begin) && has_steps(begin);
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
