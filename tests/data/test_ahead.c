/* tests/data/test_ahead.c -- samples of a source read ahead: in order, and never more memory than
 * the bound says. */
#include "trainer/data/pack/ahead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "trainer/data/pack/source.h"
#include "tree.h"

#define LARGE_BYTES ((size_t)1 << 20)
#define LARGE_COUNT 1200 /* more than there are slots */

/* The most memory that this process ever had, in MiB. */
static double peak(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* Wait till the readers have as much as they may, and so no more comes. */
static double peak_when_full(void)
{
    double before, now = peak();

    do {
        before = now;
        clock_sleep_s(0.5);
        now = peak();
    } while (now > before);
    return now;
}

/* A folder of large pictures that takes up the room of two: the others are links. */
static void make_large(void)
{
    static unsigned char picture[LARGE_BYTES];

    memset(picture, 'x', sizeof picture);
    for (int c = 0; c < 2; c++) {
        char first[64], name[64];

        snprintf(first, sizeof first, "large/%d/0.jpg", c);
        tree_write(first, picture, sizeof picture);
        for (int i = 1; i < LARGE_COUNT / 2; i++) {
            snprintf(name, sizeof name, "large/%d/%d.jpg", c, i);
            assert_int_equal(symlink("0.jpg", tree_path(name)), 0);
        }
    }
}

static void memory_stays_bounded_when_every_slot_had_a_large_picture(void **state)
{
    uint64_t *const samples = calloc(LARGE_COUNT, sizeof *samples);
    struct data_source source;
    struct data_ahead *ahead;
    struct buf picture = {0};
    struct err err = {0};
    double full;

    (void)state;
    make_large();
    if (data_source_open(&source, tree_path("large"), NULL, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(source.index.count, LARGE_COUNT);
    for (size_t i = 0; i < LARGE_COUNT; i++)
        samples[i] = i;
    ahead = data_ahead_new(&source, samples, LARGE_COUNT, 4, NULL);
    full = peak_when_full();
    for (size_t i = 0; i < LARGE_COUNT; i++) {
        assert_int_equal(data_ahead_take(ahead, &picture, &err), 0);
        assert_int_equal(picture.bytes, LARGE_BYTES);
    }
    print_message("%.0f MiB at first, %.0f MiB after all\n", full, peak());
    assert_true(peak() < 4 * full); /* of pictures 128 MiB, and the allocators' ways */
    data_ahead_free(ahead);
    data_source_close(&source);
    buf_release(&picture);
    free(samples);
}

static void first_failure_in_order_is_told_whatever_thread_met_it(void **state)
{
    enum { COUNT = 40, FIRST = 7 };
    uint64_t samples[COUNT];
    struct data_source source;
    struct data_ahead *ahead;
    struct buf picture = {0};
    struct err err = {0};

    (void)state;
    tree_class("set", "a", COUNT / 2);
    tree_class("set", "b", COUNT / 2);
    assert_int_equal(data_source_open(&source, tree_path("set"), NULL, NULL, 0, NULL, &err), 0);
    for (size_t i = 0; i < COUNT; i++) {
        samples[i] = i;
        if (i >= FIRST) {
            char name[512];

            snprintf(name, sizeof name, "set/%s", source.index.samples[i].key);
            assert_int_equal(unlink(tree_path(name)), 0);
        }
    }
    ahead = data_ahead_new(&source, samples, COUNT, 8, NULL);
    for (size_t i = 0; i < FIRST; i++)
        assert_int_equal(data_ahead_take(ahead, &picture, &err), 0);
    assert_int_equal(data_ahead_take(ahead, &picture, &err), -1);
    assert_non_null(strstr(err.msg, source.index.samples[FIRST].key));
    data_ahead_free(ahead);
    data_source_close(&source);
    buf_release(&picture);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(memory_stays_bounded_when_every_slot_had_a_large_picture),
        CASE(first_failure_in_order_is_told_whatever_thread_met_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
