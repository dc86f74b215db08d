/* tests/comm/test_allreduce.c -- CTest runs it with 1 to 4 ranks. Asserts come last: one rank's
 * must not leave the others waiting. */
#include "comm/allreduce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "comm/comm.h"

static struct comm comm;
static struct comm_allreduce *allreduce;

static int way_of(const char *name)
{
    for (int way = 0; way < comm_allreduce_ways(allreduce); way++)
        if (strcmp(comm_allreduce_name(allreduce, way), name) == 0)
            return way;
    return -1;
}

static void allreduce_has_every_algorithm_of_open_mpi(void **state)
{
    static const char *const names[] = {"basic_linear", "nonoverlapping", "recursive_doubling",
                                        "ring",         "segmented_ring", "rabenseifner"};

    (void)state;
    assert_string_equal(comm_allreduce_name(allreduce, 0), "default");
    if (comm.size == 1)
        assert_int_equal(comm_allreduce_ways(allreduce), 1);
    for (size_t i = 0; comm.size > 1 && i < sizeof names / sizeof names[0]; i++)
        assert_true(way_of(names[i]) > 0);
    assert_true(comm_allreduce_yields()); /* as every run of the launcher does */
}

static void allreduce_sums_exactly_by_every_algorithm(void **state)
{
    static const size_t counts[] = {1, 2, 7, 1000, 100003, 700001}; /* the last: above a segment */
    const float ranks_sum = (float)(comm.size * (comm.size + 1)) / 2;
    float *const x = malloc(700001 * sizeof *x);
    struct err err = {0};
    size_t wrong = 0;

    (void)state;
    if (x == NULL)
        abort();
    for (int way = 0; way < comm_allreduce_ways(allreduce); way++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            for (size_t i = 0; i < counts[c]; i++)
                x[i] = (float)(comm.rank + 1) * (float)(i % 97);
            wrong += comm_allreduce_sum(allreduce, way, x, counts[c], &err) != 0;
            for (size_t i = 0; i < counts[c]; i++)
                wrong += x[i] != ranks_sum * (float)(i % 97);
        }
    free(x);
    assert_int_equal(wrong, 0);
}

/* Of these addends the sum tells in which order they were added: from the last rank to the first
 * 1e8 - (1e8 - 4) is 0 in floats, in pairs (1e8 - 1e8) + (1 + 3) is 4; a ring begins each quarter
 * of the vector at another rank. So what was asked for is what summed. */
static void allreduce_adds_in_the_order_of_the_algorithm(void **state)
{
    enum { COUNT = 40000 };
    static const float addend[] = {1e8f, -1e8f, 1, 3};
    static const struct {
        const char *name;
        float quarter[4]; /* in the middle of each */
    } orders[] = {{"basic_linear", {0, 0, 0, 0}},
                  {"recursive_doubling", {4, 4, 4, 4}},
                  {"rabenseifner", {4, 4, 4, 4}},
                  {"ring", {4, 0, 0, 1}}};
    float *const x = malloc(COUNT * sizeof *x);
    struct err err = {0};
    size_t wrong = 0;

    (void)state;
    if (x == NULL)
        abort();
    for (size_t o = 0; comm.size == 4 && o < sizeof orders / sizeof orders[0]; o++) {
        for (size_t i = 0; i < COUNT; i++)
            x[i] = addend[comm.rank];
        wrong += way_of(orders[o].name) < 0 ||
                 comm_allreduce_sum(allreduce, way_of(orders[o].name), x, COUNT, &err) != 0;
        for (size_t q = 0; q < 4; q++) {
            const float sum = x[(2 * q + 1) * COUNT / 8];

            if (sum != orders[o].quarter[q])
                print_message("%s: quarter %zu: %g\n", orders[o].name, q, (double)sum);
            wrong += sum != orders[o].quarter[q];
        }
    }
    free(x);
    assert_int_equal(wrong, 0);
}

/* What was forced last, Rabenseifner's, adds two floats on four ranks one rank after the other;
 * what the library chooses does not. Made once before anything was forced and once behind it, the
 * choice is the same. */
static void allreduce_leaves_the_choice_as_it_was(void **state)
{
    static const float addend[] = {1e8f, -1e8f, 1, 3};
    struct err err = {0};
    struct comm_allreduce *const again = comm_allreduce_new(&comm, &err);
    float before[2], behind[2], last[2];
    int ways = 0, wrong = 0;

    (void)state;
    if (again == NULL)
        comm_abort(&comm, 1);
    ways = comm_allreduce_ways(again);
    for (int i = 0; i < 2; i++)
        before[i] = behind[i] = last[i] = addend[comm.rank];
    wrong += comm_allreduce_sum(allreduce, 0, before, 2, &err) != 0;
    wrong += comm_allreduce_sum(again, 0, behind, 2, &err) != 0;
    wrong += comm_allreduce_sum(again, ways - 1, last, 2, &err) != 0;
    comm_allreduce_free(again);
    assert_int_equal(wrong, 0);
    assert_int_equal(ways, comm_allreduce_ways(allreduce));
    assert_memory_equal(before, behind, sizeof before);
    if (comm.size == 4)
        assert_memory_not_equal(before, last, sizeof before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allreduce_has_every_algorithm_of_open_mpi),
        cmocka_unit_test(allreduce_sums_exactly_by_every_algorithm),
        cmocka_unit_test(allreduce_adds_in_the_order_of_the_algorithm),
        cmocka_unit_test(allreduce_leaves_the_choice_as_it_was),
    };
    struct err err = {0};
    int failed;

    comm_allreduce_prepare();
    if (comm_open(&comm, &err) < 0 || (allreduce = comm_allreduce_new(&comm, &err)) == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_allreduce_free(allreduce);
    comm_close(&comm);
    return failed;
}
