#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "comm/buckets.h"

/* Every float is in one bucket, the one that is said; no bucket is empty or has both sides of the
 * prefix's end. */
static void check(struct comm_buckets cut)
{
    const int count = comm_buckets_count(&cut);
    size_t at = 0, largest = 0;

    for (int number = 0; number < count; number++) {
        const struct comm_run run = comm_buckets_run(&cut, number);

        assert_int_equal(run.begin, at);
        assert_true(run.count > 0 && run.count <= cut.most);
        for (size_t i = run.begin; i < run.begin + run.count; i++) {
            assert_int_equal(comm_buckets_at(&cut, i), number);
            assert_int_equal(i < cut.prefix, comm_buckets_is_prefix(&cut, number));
        }
        largest = run.count > largest ? run.count : largest;
        at += run.count;
    }
    assert_int_equal(at, cut.floats);
    assert_int_equal(comm_buckets_largest(&cut), largest);
}

static void every_float_is_in_one_bucket(void **state)
{
    (void)state;
    for (size_t floats = 0; floats <= 20; floats++)
        for (size_t prefix = 0; prefix <= floats; prefix++)
            for (size_t most = 1; most <= 22; most++)
                for (size_t last = 0; last <= most; last++)
                    check((struct comm_buckets){
                        .floats = floats, .prefix = prefix, .most = most, .last = last});
}

static void a_prefix_has_buckets_of_its_own(void **state)
{
    const struct comm_buckets cut = {.floats = 100, .prefix = 30, .most = 20};

    (void)state;
    assert_int_equal(comm_buckets_count(&cut), 2 + 4);
    assert_int_equal(comm_buckets_run(&cut, 1).count, 10);
    assert_int_equal(comm_buckets_run(&cut, 2).begin, 30);
    assert_int_equal(comm_buckets_run(&cut, 2).count, 10);
    assert_int_equal(comm_buckets_run(&cut, 5).count, 20);
}

static void the_last_buckets_double_from_the_end(void **state)
{
    static const size_t counts[] = {20, 10, 1, 20, 20, 16, 8, 4, 2};
    const struct comm_buckets cut = {.floats = 101, .prefix = 30, .most = 20, .last = 2};

    (void)state;
    assert_int_equal(comm_buckets_count(&cut), 2 + 7);
    for (int number = 0; number < 9; number++)
        assert_int_equal(comm_buckets_run(&cut, number).count, counts[number]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_float_is_in_one_bucket),
        cmocka_unit_test(a_prefix_has_buckets_of_its_own),
        cmocka_unit_test(the_last_buckets_double_from_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
