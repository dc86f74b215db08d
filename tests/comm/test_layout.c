/* tests/comm/test_layout.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "comm/layout.h"

#define RANKS_MAX 9

/* Hosts of the ranks: the bits of `borders` say behind which ranks a host ends. */
static void place(int ranks, unsigned borders, int *host_of)
{
    host_of[0] = 0;
    for (int rank = 1; rank < ranks; rank++)
        host_of[rank] = host_of[rank - 1] + ((borders >> (rank - 1)) & 1);
}

static void check_chunks(const struct comm_layout *layout, struct comm_run bucket)
{
    size_t next = bucket.begin, least = bucket.count, most = 0;

    for (int host = 0; host < layout->hosts; host++) {
        size_t here = 0;

        for (int rank = layout->first_of[host]; rank < layout->first_of[host + 1]; rank++) {
            const struct comm_run chunk = comm_layout_chunk(layout, bucket, rank);

            assert_int_equal(chunk.begin, next);
            assert_true(chunk.count <= comm_layout_chunk_max(layout, bucket.count));
            next += chunk.count;
            here += chunk.count;
        }
        least = here < least ? here : least;
        most = here > most ? here : most;
    }
    assert_int_equal(next, bucket.begin + bucket.count);
    assert_true(most - least <= 1);
}

static void chunks_cover_a_bucket_evenly_over_the_hosts(void **state)
{
    static const struct comm_run buckets[] = {{0, 0}, {3, 1}, {7, 5}, {0, 64}, {11, 1000}};
    int host_of[RANKS_MAX];

    (void)state;
    for (int ranks = 1; ranks <= RANKS_MAX; ranks++) {
        for (unsigned borders = 0; borders < 1u << (ranks - 1); borders++) {
            struct comm_layout layout;

            place(ranks, borders, host_of);
            comm_layout_init(&layout, ranks, host_of);
            for (size_t i = 0; i < sizeof buckets / sizeof buckets[0]; i++)
                check_chunks(&layout, buckets[i]);
            comm_layout_release(&layout);
        }
    }
}

static void every_host_has_one_handler_of_a_chunk_and_the_owners_is_the_owner(void **state)
{
    static const int host_of[] = {0, 0, 0, 1, 2, 2};
    struct comm_layout layout;
    int handles[6] = {0};

    (void)state;
    comm_layout_init(&layout, 6, host_of);
    assert_int_equal(layout.hosts, 3);
    for (int owner = 0; owner < 6; owner++) {
        for (int host = 0; host < 3; host++) {
            const int handler = comm_layout_handler(&layout, host, owner);

            assert_int_equal(host_of[handler], host);
            handles[handler]++;
        }
        assert_int_equal(comm_layout_handler(&layout, host_of[owner], owner), owner);
    }
    for (int rank = 0; rank < 6; rank++) /* the work of a host lies on all of its ranks */
        assert_int_equal(handles[rank], rank == 3 ? 6 : rank < 3 ? 2 : 3);
    comm_layout_release(&layout);
}

static void release_accepts_all_zero(void **state)
{
    struct comm_layout layout = {0};

    (void)state;
    comm_layout_release(&layout);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_cover_a_bucket_evenly_over_the_hosts),
        cmocka_unit_test(every_host_has_one_handler_of_a_chunk_and_the_owners_is_the_owner),
        cmocka_unit_test(release_accepts_all_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
