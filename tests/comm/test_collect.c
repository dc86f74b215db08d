/* tests/comm/test_collect.c -- CTest runs it with 1, 2 and 3 ranks. Asserts come last in a case:
 * one rank's assert must not leave the others waiting. */
#include "comm/collect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "comm/comm.h"

static struct comm comm;

static unsigned char byte_at(size_t i, int rank)
{
    return (unsigned char)(i * 31 + i / 251 + (size_t)rank * 7 + 1);
}

static struct buf bytes_of(size_t count, int rank)
{
    struct buf bytes = {0};

    if (buf_reserve(&bytes, count, NULL) < 0)
        abort();
    for (size_t i = 0; i < count; i++)
        bytes.data[i] = byte_at(i, rank);
    bytes.bytes = count;
    return bytes;
}

static void collect_brings_every_byte_to_rank_0_for_odd_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 100003, (size_t)16 << 20, ((size_t)32 << 20) + 5};
    struct err err = {0};
    size_t wrong = 0;

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int from = 0; from < comm.size; from++) {
            struct buf bytes = {0};

            if (comm.rank == from && from != 0)
                bytes = bytes_of(sizes[s], from);
            else if (comm.rank == 0)
                buf_append(&bytes, "head", 4);
            if (comm.rank == 0 || comm.rank == from)
                wrong += comm_collect(&comm, from, &bytes, &err) != 0;
            if (comm.rank == 0) {
                wrong += bytes.bytes != 4 + (from == 0 ? 0 : sizes[s]) ||
                         memcmp(bytes.data, "head", 4) != 0;
                for (size_t i = 4; i < bytes.bytes; i++)
                    wrong += bytes.data[i] != byte_at(i - 4, from);
            }
            buf_release(&bytes);
        }
    assert_int_equal(wrong, 0);
}

/* Rank 0 claims to hold so much already that nothing more can be added. */
static void collect_goes_on_after_rank_0_had_no_room(void **state)
{
    struct err err = {0};
    int wrong = 0, refused = 0;

    (void)state;
    for (int from = 1; from < comm.size; from++)
        for (int full = 1; full >= 0; full--) {
            struct buf bytes = {0};

            if (comm.rank == from)
                bytes = bytes_of(1000, from);
            if (comm.rank == 0 && full)
                bytes.bytes = SIZE_MAX / 2;
            if (comm.rank == from)
                wrong += comm_collect(&comm, from, &bytes, &err) != 0;
            if (comm.rank == 0) {
                const int rc = comm_collect(&comm, from, &bytes, &err);

                wrong += rc != (full ? -1 : 0) || (!full && bytes.bytes != 1000);
                refused += full && err.code == ERR_MEMORY && strstr(err.msg, "of rank ") != NULL;
            }
            buf_release(&bytes);
        }
    assert_int_equal(wrong, 0);
    assert_int_equal(refused, comm.rank == 0 ? comm.size - 1 : 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(collect_brings_every_byte_to_rank_0_for_odd_sizes),
        cmocka_unit_test(collect_goes_on_after_rank_0_had_no_room),
    };
    struct err err = {0};
    int failed;

    if (comm_open(&comm, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
