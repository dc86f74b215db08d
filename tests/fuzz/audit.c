/* tests/fuzz/audit.c -- any bytes as an audit file: the reader goes forward, and what it takes for
 * a begin or an end is the same bytes when it is written again. */
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "fuzz.h"
#include "trainer/audit/record.h"

#define HEAD_BYTES 8 /* of a frame: length, and its sum */
#define SUM_BYTES  4

static uint64_t touched;

static void walk_lanes(struct audit_step *step, int width)
{
    struct audit_lane lane;

    while (audit_step_lane(step, width, &lane))
        for (uint32_t i = 0; i < lane.trained + lane.left_out; i++)
            touched ^= audit_lane_sample(&lane, width, i);
}

static void check_frame(const struct audit_frame *frame, const uint8_t *at, size_t bytes)
{
    struct buf body = {0}, again = {0};

    if (frame->kind == AUDIT_BEGIN)
        audit_begin_encode(&body, &frame->begin);
    else if (frame->kind == AUDIT_END)
        audit_end_encode(&body, &frame->end);
    if (body.bytes > 0) {
        audit_frame_append(&again, &body);
        fuzz_must_equal(again.data, again.bytes, at, bytes);
    }
    buf_release(&body);
    buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct audit_frame frame;
    size_t at = 0, before = AUDIT_MAGIC_BYTES;
    int width = 4;

    while (audit_read(data, bytes, &at, &frame) == AUDIT_READ_FRAME) {
        fuzz_must(at > before && at <= bytes);
        if (frame.kind == AUDIT_BEGIN)
            width = audit_width(frame.begin.order.samples);
        fuzz_must(width >= 1 && width <= 8);
        if (frame.kind == AUDIT_STEP)
            walk_lanes(&frame.step, width);
        else
            check_frame(&frame, data + before, at - before);
        before = at;
    }
    return 0;
}

static size_t length_at(const uint8_t *data, size_t at)
{
    return data[at] | (size_t)data[at + 1] << 8 | (size_t)data[at + 2] << 16;
}

static void put_sum(uint8_t *at, const uint8_t *data, size_t bytes)
{
    const uint32_t crc = digest_crc32c(0, data, bytes);

    for (int i = 0; i < SUM_BYTES; i++)
        at[i] = (uint8_t)(crc >> (8 * i));
}

/* Of eight changes one is left with its wrong sums. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t bytes_max, unsigned seed)
{
    size_t at = AUDIT_MAGIC_BYTES;

    bytes = LLVMFuzzerMutate(data, bytes, bytes_max);
    while (seed % 8 != 0 && at + HEAD_BYTES <= bytes) {
        const size_t length = length_at(data, at), body = at + HEAD_BYTES;

        put_sum(data + at + 4, data + at, 4);
        if (length + SUM_BYTES > bytes - body)
            break;
        put_sum(data + body + length, data + body, length);
        at = body + length + SUM_BYTES;
    }
    return bytes;
}
