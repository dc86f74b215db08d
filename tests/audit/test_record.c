/* tests/audit/test_record.c -- the bytes of an audit file: whole, torn and damaged. */
#include "trainer/audit/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

static const struct audit_begin begin = {
    .launch = "launch",
    .parent = "parent",
    .generation = 3,
    .rank = 1,
    .ranks = 2,
    .resumed_step = 17,
    .started_us = 1763847864000000,
    .order = {.samples = 1000, .chunk_samples = 8, .seed = 5, .batch = 8, .lanes = 3},
    .fingerprint = {1, 2, 3},
};
static const uint64_t samples[] = {999, 0, 256}, bad[] = {7};

static void append(struct buf *file, struct buf *body)
{
    audit_frame_append(file, body);
    buf_release(body);
}

/* A launch of one step of two lanes. */
static void make(struct buf *file)
{
    struct buf body = {0};

    buf_append(file, AUDIT_MAGIC, AUDIT_MAGIC_BYTES);
    audit_begin_encode(&body, &begin);
    append(file, &body);
    audit_step_encode(&body, 2, 1, 18);
    audit_step_add(&body, 2, 1, samples, 3, bad, 1);
    audit_step_add(&body, 2, 2, NULL, 0, bad, 1);
    append(file, &body);
    audit_end_encode(&body, &(struct audit_end){.how = AUDIT_STOPPED, .step = 18});
    append(file, &body);
}

static enum audit_read read_begin(const struct audit_begin *what, struct audit_frame *frame,
                                  struct buf *file)
{
    struct buf body = {0};
    size_t at = 0;

    file->bytes = 0;
    buf_append(file, AUDIT_MAGIC, AUDIT_MAGIC_BYTES);
    audit_begin_encode(&body, what);
    append(file, &body);
    return audit_read(file->data, file->bytes, &at, frame);
}

static void parts_of_hosts_come_back_and_have_to_fit(void **state)
{
    static const struct data_order_part good[] = {{0, 400, 0, 1}, {400, 0, 1, 0}, {400, 600, 1, 2}};
    static const struct data_order_part unfit[][2] = {{{0, 400, 0, 1}, {401, 599, 1, 2}},
                                                      {{0, 400, 0, 1}, {400, 601, 1, 2}},
                                                      {{0, 400, 0, 1}, {400, 600, 1, 1}},
                                                      {{0, 400, 0, 0}, {400, 600, 0, 3}},
                                                      {{0, 400, 0, 1}, {400, UINT64_MAX, 1, 2}}};
    struct audit_begin apart = begin, other = begin;
    struct data_order_part *parts;
    struct audit_frame frame;
    struct buf file = {0};

    (void)state;
    apart.order.parts = good;
    apart.order.part_count = 3;
    assert_int_equal(read_begin(&apart, &frame, &file), AUDIT_READ_FRAME);
    assert_true(audit_begin_same_run(&frame.begin, &apart));
    assert_false(audit_begin_same_run(&frame.begin, &begin));
    parts = audit_begin_parts(&frame.begin);
    assert_memory_equal(parts, good, sizeof good);
    parts[2].lane_begin = 0;
    other.order = apart.order;
    other.order.parts = parts;
    assert_false(audit_begin_same_run(&frame.begin, &other));
    free(parts);
    for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++) {
        apart.order.parts = unfit[i];
        apart.order.part_count = 2;
        assert_int_equal(read_begin(&apart, &frame, &file), AUDIT_READ_DAMAGED);
    }
    assert_int_equal(read_begin(&begin, &frame, &file), AUDIT_READ_FRAME);
    assert_null(audit_begin_parts(&frame.begin));
    buf_release(&file);
}

static void width_is_the_fewest_bytes_for_the_last_place(void **state)
{
    static const struct {
        uint64_t samples;
        int width;
    } cases[] = {{1, 1},     {256, 1},     {257, 2},        {65536, 2},
                 {65537, 3}, {1281167, 3}, {1000000000, 4}, {UINT64_MAX, 8}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(audit_width(cases[i].samples), cases[i].width);
}

static void records_come_back_as_they_were_written(void **state)
{
    struct buf file = {0};
    struct audit_frame frame;
    struct audit_lane lane;
    size_t at = 0;

    (void)state;
    make(&file);
    assert_int_equal(audit_read(file.data, file.bytes, &at, &frame), AUDIT_READ_FRAME);
    assert_int_equal(frame.kind, AUDIT_BEGIN);
    assert_memory_equal(frame.begin.launch, begin.launch, sizeof begin.launch);
    assert_memory_equal(frame.begin.parent, begin.parent, sizeof begin.parent);
    assert_memory_equal(frame.begin.fingerprint, begin.fingerprint, sizeof begin.fingerprint);
    assert_int_equal(frame.begin.generation, 3);
    assert_int_equal(frame.begin.rank, 1);
    assert_int_equal(frame.begin.ranks, 2);
    assert_int_equal(frame.begin.resumed_step, 17);
    assert_int_equal(frame.begin.started_us, begin.started_us);
    assert_true(audit_begin_same_run(&frame.begin, &begin));
    assert_int_equal(audit_read(file.data, file.bytes, &at, &frame), AUDIT_READ_FRAME);
    assert_int_equal(frame.kind, AUDIT_STEP);
    assert_int_equal(frame.step.epoch, 2);
    assert_int_equal(frame.step.epoch_step, 1);
    assert_int_equal(frame.step.step, 18);
    assert_true(audit_step_lane(&frame.step, 2, &lane));
    assert_int_equal(lane.lane, 1);
    assert_int_equal(lane.trained, 3);
    assert_int_equal(lane.left_out, 1);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(audit_lane_sample(&lane, 2, i), samples[i]);
    assert_int_equal(audit_lane_sample(&lane, 2, 3), 7);
    assert_true(audit_step_lane(&frame.step, 2, &lane));
    assert_int_equal(lane.lane, 2);
    assert_false(audit_step_lane(&frame.step, 2, &lane));
    assert_int_equal(audit_read(file.data, file.bytes, &at, &frame), AUDIT_READ_FRAME);
    assert_int_equal(frame.kind, AUDIT_END);
    assert_int_equal(frame.end.how, AUDIT_STOPPED);
    assert_int_equal(frame.end.step, 18);
    assert_int_equal(audit_read(file.data, file.bytes, &at, &frame), AUDIT_READ_END);
    assert_int_equal(at, file.bytes);
    buf_release(&file);
}

/* How many records are whole, and what is said of the rest. */
static enum audit_read count(const unsigned char *data, size_t bytes, int *frames)
{
    struct audit_frame frame;
    enum audit_read read;
    size_t at = 0;

    *frames = 0;
    while ((read = audit_read(data, bytes, &at, &frame)) == AUDIT_READ_FRAME)
        ++*frames;
    return read;
}

/* Each length in memory of its own, so that a sanitizer sees a step beyond it. */
static void file_is_read_to_its_last_whole_record_wherever_it_is_torn(void **state)
{
    struct buf file = {0};
    size_t ends[4] = {AUDIT_MAGIC_BYTES};
    struct audit_frame frame;
    size_t at = 0;

    (void)state;
    make(&file);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(audit_read(file.data, file.bytes, &at, &frame), AUDIT_READ_FRAME);
        ends[i] = at;
    }
    for (size_t bytes = 0; bytes <= file.bytes; bytes++) {
        unsigned char *const torn = malloc(bytes + 1);
        int frames, whole = 0;
        enum audit_read read;

        assert_non_null(torn);
        memcpy(torn, file.data, bytes);
        read = count(torn, bytes, &frames);
        while (whole < 3 && ends[whole + 1] <= bytes)
            whole++;
        assert_int_equal(frames, whole);
        assert_int_equal(read,
                         bytes == 0 || bytes == ends[whole] ? AUDIT_READ_END : AUDIT_READ_TORN);
        free(torn);
    }
    buf_release(&file);
}

static void zeros_that_a_power_failure_leaves_are_torn(void **state)
{
    static const unsigned char zeros[40] = {0};
    struct buf file = {0};
    int frames;

    (void)state;
    assert_int_equal(count(zeros, sizeof zeros, &frames), AUDIT_READ_TORN);
    make(&file);
    for (size_t n = 1; n <= sizeof zeros; n++) {
        const size_t whole = file.bytes;

        buf_append(&file, zeros, n);
        assert_int_equal(count(file.data, file.bytes, &frames), AUDIT_READ_TORN);
        assert_int_equal(frames, 3);
        file.bytes = whole;
    }
    buf_append(&file, zeros, 20);
    buf_append(&file, "x", 1);
    assert_int_equal(count(file.data, file.bytes, &frames), AUDIT_READ_DAMAGED);
    buf_release(&file);
}

static void every_flipped_bit_is_damage(void **state)
{
    struct buf file = {0};
    int frames;

    (void)state;
    make(&file);
    for (size_t bit = 0; bit < 8 * file.bytes; bit++) {
        file.data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(count(file.data, file.bytes, &frames), AUDIT_READ_DAMAGED);
        file.data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    assert_int_equal(count(file.data, file.bytes, &frames), AUDIT_READ_END);
    buf_release(&file);
}

/* Sums that match do not make sense of anything. */
static void records_without_meaning_are_damage(void **state)
{
    struct audit_begin wrong[6];
    struct buf file = {0}, body = {0};
    int frames;

    (void)state;
    for (int i = 0; i < 6; i++)
        wrong[i] = begin;
    wrong[0].rank = 2;
    wrong[1].order.samples = 0;
    wrong[2].order.batch = 0;
    wrong[3].order.lanes = 9;
    wrong[4].order.chunk_samples = 0;
    wrong[5].order.batch = 1001;
    wrong[5].order.drop_last = true;
    for (int i = 0; i < 6; i++) {
        file.bytes = 0;
        buf_append(&file, AUDIT_MAGIC, AUDIT_MAGIC_BYTES);
        audit_begin_encode(&body, &wrong[i]);
        append(&file, &body);
        assert_int_equal(count(file.data, file.bytes, &frames), AUDIT_READ_DAMAGED);
    }
    file.bytes = AUDIT_MAGIC_BYTES;
    buf_append(&body, "\4", 1);
    append(&file, &body);
    assert_int_equal(count(file.data, file.bytes, &frames), AUDIT_READ_DAMAGED);
    buf_release(&file);
}

/* A count of lanes or pictures beyond the record's end is not followed. */
static void lanes_stay_within_their_record(void **state)
{
    struct buf file = {0}, body = {0};
    struct audit_frame frame;
    struct audit_lane lane;
    size_t at = AUDIT_MAGIC_BYTES;

    (void)state;
    buf_append(&file, AUDIT_MAGIC, AUDIT_MAGIC_BYTES);
    audit_step_encode(&body, 0, 0, 1);
    audit_step_add(&body, 2, 0, samples, 3, bad, 1);
    body.bytes -= 2;
    append(&file, &body);
    assert_int_equal(audit_read(file.data, file.bytes, &at, &frame), AUDIT_READ_FRAME);
    assert_false(audit_step_lane(&frame.step, 2, &lane));
    buf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_hosts_come_back_and_have_to_fit),
        cmocka_unit_test(width_is_the_fewest_bytes_for_the_last_place),
        cmocka_unit_test(records_come_back_as_they_were_written),
        cmocka_unit_test(file_is_read_to_its_last_whole_record_wherever_it_is_torn),
        cmocka_unit_test(zeros_that_a_power_failure_leaves_are_torn),
        cmocka_unit_test(every_flipped_bit_is_damage),
        cmocka_unit_test(records_without_meaning_are_damage),
        cmocka_unit_test(lanes_stay_within_their_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
