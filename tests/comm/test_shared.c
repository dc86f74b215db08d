/* tests/comm/test_shared.c -- under mpirun; all ranks are of one machine, and pretend to be of
 * several. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "comm/comm.h"
#include "comm/shared.h"

static struct comm comm;
static bool no_segments; /* as on a host that allows no System V memory */

int shmget(key_t key, size_t bytes, int flags)
{
    if (!no_segments)
        return (int)syscall(SYS_shmget, key, bytes, flags);
    errno = ENOSPC;
    return -1;
}

/* Every rank writes its number into its own part and reads the neighbours'. */
static int pass_numbers(int ranks_of_host)
{
    const size_t bytes = 1000 + (size_t)comm.rank * 5000;
    struct comm_shared shared;
    struct err err = {0};
    int wrong = 0;

    for (int rank = 0; rank < comm.size; rank++)
        comm.host_of[rank] = rank / ranks_of_host;
    wrong += comm_shared_open(&comm, bytes, 1, &shared, &err) != 0 || !shared.together;
    wrong += shared.group_of[comm.rank] != comm.rank / ranks_of_host;
    wrong += shared.first != comm.rank / ranks_of_host * ranks_of_host;
    unsigned char *const mine = comm_shared_part(&shared, comm.rank);
    for (size_t i = 0; i < bytes; i++)
        wrong += mine[i] != 0;
    memset(mine, comm.rank + 1, bytes);
    wrong += comm_barrier(&comm, &err) != 0;
    for (int rank = shared.first; rank < shared.first + shared.count; rank++) {
        const unsigned char *const part = comm_shared_part(&shared, rank);

        wrong += part[0] != rank + 1 || part[999 + rank * 5000] != rank + 1;
    }
    wrong += comm_barrier(&comm, &err) != 0;
    comm_shared_close(&shared);
    return wrong;
}

static void ranks_of_a_host_see_each_others_parts(void **state)
{
    int wrong = 0;

    (void)state;
    for (int ranks_of_host = 1; ranks_of_host <= comm.size; ranks_of_host++)
        wrong += pass_numbers(ranks_of_host);
    assert_int_equal(wrong, 0);
}

static void a_limit_on_the_size_of_files_does_not_apply(void **state)
{
    struct rlimit before, small = {.rlim_cur = 512};
    int wrong = 0;

    (void)state;
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    wrong = pass_numbers(comm.size);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(wrong, 0);
}

static void memory_that_cannot_be_had_is_an_error_that_names_the_bytes(void **state)
{
    struct comm_shared shared;
    struct err err = {0};
    int rc;

    (void)state;
    for (int rank = 0; rank < comm.size; rank++)
        comm.host_of[rank] = 0;
    rc = comm_shared_open(&comm, (size_t)1 << 50, (size_t)1 << 50, &shared, &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_MEMORY);
    assert_non_null(strstr(err.msg, "1125899906842624"));
    comm_shared_close(&shared);
}

/* One host that cannot is enough. */
static void ranks_that_cannot_share_are_groups_and_still_of_their_hosts(void **state)
{
    const size_t bytes = 5000;
    struct comm_shared shared;
    struct err err = {0};
    int wrong = 0;

    (void)state;
    for (int rank = 0; rank < comm.size; rank++)
        comm.host_of[rank] = rank / 2;
    no_segments = comm.rank == 0;
    wrong += comm_shared_open(&comm, 1, bytes, &shared, &err) != 0;
    no_segments = false;
    wrong += shared.together != (comm.size == 1);
    wrong += shared.first != comm.rank || shared.count != 1;
    for (int rank = 0; rank < comm.size; rank++)
        wrong += shared.group_of[rank] != rank || comm.host_of[rank] != rank / 2;
    if (!shared.together)
        memset(comm_shared_part(&shared, comm.rank), 1, bytes);
    comm_shared_close(&shared);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_a_host_see_each_others_parts),
        cmocka_unit_test(a_limit_on_the_size_of_files_does_not_apply),
        cmocka_unit_test(ranks_that_cannot_share_are_groups_and_still_of_their_hosts),
        cmocka_unit_test(memory_that_cannot_be_had_is_an_error_that_names_the_bytes),
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
