/* tests/nn/test_ahead.c -- what is fetched ahead: every line once, in as few pieces as there are
 * calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/nn/conv/ahead.h"
#include "trainer/nn/conv/strip.h"
#include "trainer/nn/kernel/sink.h"
#include "trainer/nn/kernel/source.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define LINE_FLOATS  16
#define ROWS         4096
#define LINES        (ROWS + 1)

/* Addresses only: nobody reads what is fetched. */
static float memory[ROWS * LINE_FLOATS] __attribute__((aligned(64)));
static unsigned seen[LINES]; /* how often each line was handed out */

/* Take all; returns the number of calls that got something. */
static size_t take_all(struct nn_ahead *ahead)
{
    size_t calls = 0, lines;
    const void *at;

    memset(seen, 0, sizeof seen);
    while ((at = nn_ahead_next(ahead, &lines)) != NULL) {
        const size_t first = (size_t)((const float *)at - memory) / LINE_FLOATS;

        assert_true(lines > 0 && first + lines <= LINES);
        for (size_t i = 0; i < lines; i++)
            seen[first + i]++;
        calls++;
    }
    assert_int_equal(lines, 0);
    return calls;
}

static void expect_rows(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        assert_int_equal(seen[i]--, 1);
}

static void expect_no_more(void)
{
    for (size_t i = 0; i < LINES; i++)
        assert_int_equal(seen[i], 0);
}

static void all_lines_are_handed_out_in_as_many_calls_as_there_are(void **state)
{
    static const size_t sizes[][3] = {{1, 1, 1}, {100, 1, 7}, {1000, 999, 1}, {7, 1300, 64}};

    (void)state;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        for (size_t calls = 3; calls < 400; calls += 7) {
            struct nn_ahead ahead = {.ranges = 0};
            size_t at = 0;

            for (size_t r = 0; r < 3; r++, at += 1400)
                nn_ahead_add_rows(&ahead, memory, LINE_FLOATS, at, at + sizes[s][r]);
            nn_ahead_cut(&ahead, calls);
            assert_true(take_all(&ahead) <= calls);
            for (size_t r = 0; r < 3; r++)
                expect_rows(r * 1400, r * 1400 + sizes[s][r]);
            expect_no_more();
        }
    }
}

static void nothing_is_handed_out_of_nothing(void **state)
{
    struct nn_ahead ahead = {.ranges = 0};

    (void)state;
    nn_ahead_add_rows(&ahead, memory, LINE_FLOATS, 5, 5);
    nn_ahead_cut(&ahead, 10);
    assert_int_equal(take_all(&ahead), 0);
}

static void more_ranges_than_there_is_room_for_are_left_out(void **state)
{
    struct nn_ahead ahead = {.ranges = 0};

    (void)state;
    for (size_t i = 0; i < NN_AHEAD_RANGES + 5; i++)
        nn_ahead_add_rows(&ahead, memory, LINE_FLOATS, 2 * i, 2 * i + 1);
    nn_ahead_cut(&ahead, NN_AHEAD_RANGES);
    assert_int_equal(take_all(&ahead), NN_AHEAD_RANGES);
    for (size_t i = 0; i < NN_AHEAD_RANGES; i++)
        expect_rows(2 * i, 2 * i + 1);
    expect_no_more();
}

/* A pixel of 16 channels is a line. */
static void lines_that_windows_skip_are_left_out(void **state)
{
    struct nn_strips strips = {
        .n = 2, .in_h = 9, .in_w = 10, .out_h = 5, .out_w = 5, .step = 2, .high = 1};
    const struct nn_source source = {.kind = NN_SOURCE_PLAIN, .c = LINE_FLOATS, .x = memory};
    struct nn_ahead ahead = {.ranges = 0};
    struct nn_block blocks[2];

    (void)state;
    nn_strips_cut(&strips, 10);
    for (size_t i = 0; i < 2; i++)
        blocks[i] = nn_strips_block(&strips, i);
    assert_int_equal(blocks[1].lines, 2);
    nn_ahead_add_block(&ahead, &strips, &blocks[0], &blocks[1], &source);
    nn_ahead_cut(&ahead, 5);
    assert_int_equal(take_all(&ahead), 4);
    expect_rows(40, 50); /* lines 4 and 6 of the picture */
    expect_rows(60, 70);
    expect_no_more();
}

static void a_sink_is_read_where_it_tells_whether_the_relu_was_open(void **state)
{
    const struct nn_affine scaled = {.mean = memory};
    struct nn_sink sink = {.kind = NN_SINK_MASK,
                           .c = LINE_FLOATS,
                           .y = memory + 3000 * LINE_FLOATS,
                           .norms = 1,
                           .norm_x = {memory}};
    struct nn_ahead ahead = {.ranges = 0};

    (void)state;
    nn_ahead_add_sink(&ahead, &sink, 2, 5);
    nn_ahead_cut(&ahead, 1);
    take_all(&ahead);
    expect_rows(2, 5);
    expect_no_more();

    sink.other = memory + 100 * LINE_FLOATS;
    ahead = (struct nn_ahead){.ranges = 0};
    nn_ahead_add_sink(&ahead, &sink, 2, 5);
    nn_ahead_cut(&ahead, 2);
    take_all(&ahead);
    expect_rows(2, 5);
    expect_rows(102, 105);
    expect_no_more();

    sink.other_affine = scaled; /* `other` is what the second batch norm reads */
    sink.norms = 2;
    sink.norm_x[1] = sink.other;
    ahead = (struct nn_ahead){.ranges = 0};
    nn_ahead_add_sink(&ahead, &sink, 2, 5);
    nn_ahead_cut(&ahead, 2);
    take_all(&ahead);
    expect_rows(2, 5);
    expect_rows(102, 105);
    expect_no_more();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_lines_are_handed_out_in_as_many_calls_as_there_are),
        cmocka_unit_test(nothing_is_handed_out_of_nothing),
        cmocka_unit_test(more_ranges_than_there_is_room_for_are_left_out),
        cmocka_unit_test(lines_that_windows_skip_are_left_out),
        cmocka_unit_test(a_sink_is_read_where_it_tells_whether_the_relu_was_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
