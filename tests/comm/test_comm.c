/* tests/comm/test_comm.c -- CTest runs it with 1, 2, 3, 4 and 7 ranks. Asserts come last in a case:
 * one rank's assert must not leave the others waiting. */
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/wait.h"

static struct comm comm;

static void ranks_of_one_host_are_numbered_in_its_order(void **state)
{
    (void)state;
    assert_in_range(comm.rank, 0, comm.size - 1);
    assert_int_equal(comm.local_size, comm.size); /* tests run on one host */
    assert_int_equal(comm.local_rank, comm.rank);
    assert_true(comm.host[0] != '\0');
}

/* What Open MPI says that a setting is, an int or a size_t; -1: not known, as a lone rank need not
 * load what speaks TCP. */
static int64_t setting(const char *name)
{
    int level = 0, index = -1, count = 0, bytes = 0;
    unsigned char raw[64] = {0};
    MPI_T_cvar_handle handle = NULL;
    MPI_Datatype type = MPI_INT;
    int64_t value = -1;

    MPI_T_init_thread(MPI_THREAD_SERIALIZED, &level);
    if (MPI_T_cvar_get_index(name, &index) == MPI_SUCCESS &&
        MPI_T_cvar_handle_alloc(index, NULL, &handle, &count) == MPI_SUCCESS) {
        MPI_T_cvar_get_info(index, NULL, NULL, &level, &type, NULL, NULL, NULL, &level, &level);
        MPI_Type_size(type, &bytes);
        MPI_T_cvar_read(handle, raw);
        value = 0;
        memcpy(&value, raw, (size_t)bytes); /* little-endian, as all that Convoy runs on */
        MPI_T_cvar_handle_free(&handle);
    }
    MPI_T_finalize();
    return value;
}

static void receive_buffers_are_the_window_with_three_hosts_and_more(void **state)
{
    (void)state;
    if (comm.size > 1)
        assert_int_equal(setting("btl_tcp_rcvbuf"), comm.size > 2 ? COMM_WINDOW_BYTES : 0);
}

static void segments_are_sent_without_a_question(void **state)
{
    const int most = COMM_SEGMENT_BYTES + 8192;

    (void)state;
    if (comm.size == 1)
        return;
    assert_in_range(setting("btl_tcp_eager_limit"), COMM_SEGMENT_BYTES + 1, most);
    assert_in_range(setting("btl_tcp_max_send_size"), COMM_SEGMENT_BYTES + 1, most);
}

static void place_takes_hosts_one_after_the_other(void **state)
{
    static const struct {
        const char *name;
        int ranks, host_first[6], place[6];
    } cases[] = {
        {"one rank", 1, {0}, {0}},
        {"by slot", 4, {0, 0, 2, 2}, {0, 1, 2, 3}},
        {"by node", 6, {0, 1, 2, 0, 1, 2}, {0, 2, 4, 1, 3, 5}},
        {"uneven", 5, {0, 1, 0, 0, 1}, {0, 3, 1, 2, 4}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int rank = 0; rank < cases[i].ranks; rank++) {
            if (comm_place(cases[i].host_first, cases[i].ranks, rank) != cases[i].place[rank])
                fail_msg("%s: rank %d", cases[i].name, rank);
        }
    }
}

static unsigned char byte_at(size_t i, int root)
{
    return (unsigned char)(i * 31 + i / 251 + (size_t)root * 7 + 1);
}

static void broadcast_copies_every_byte_for_odd_sizes_and_all_roots(void **state)
{
    static const size_t sizes[] = {0, 1, 3, 4096, 100003, ((size_t)16 << 20) + 5};
    struct err err = {0};
    size_t wrong = 0;

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t bytes = sizes[s];
        unsigned char *data = malloc(bytes + 1);

        for (int root = 0; root < comm.size; root += bytes < 1000000 ? 1 : 3) {
            for (size_t i = 0; i <= bytes; i++)
                data[i] = comm.rank == root && i < bytes ? byte_at(i, root) : 0;
            wrong += comm_broadcast(&comm, data, bytes, root, &err) != 0;
            for (size_t i = 0; i < bytes; i++)
                wrong += data[i] != byte_at(i, root);
            wrong += data[bytes] != 0;
        }
        free(data);
    }
    assert_int_equal(wrong, 0);
}

static void sum_of_integers_is_exact_beyond_doubles(void **state)
{
    int64_t x[COMM_INTEGERS_MAX];
    struct err err = {0};
    int64_t ranks_sum = 0;
    int wrong = 0;

    (void)state;
    for (int rank = 0; rank < comm.size; rank++)
        ranks_sum += rank + 1;
    for (int count = 0; count <= COMM_INTEGERS_MAX; count++) {
        for (int i = 0; i < count; i++)
            x[i] = (comm.rank + 1) * (((int64_t)1 << 55) / (i + 1) - i) * (i % 2 ? -1 : 1);
        wrong += comm_sum_integers(&comm, x, count, &err) != 0;
        for (int i = 0; i < count; i++)
            wrong += x[i] != ranks_sum * (((int64_t)1 << 55) / (i + 1) - i) * (i % 2 ? -1 : 1);
    }
    assert_int_equal(wrong, 0);
}

static void gather_keeps_every_ranks_bytes_in_its_place(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 4096};
    unsigned char mine[4096], *all = malloc(4096 * (size_t)comm.size);
    struct err err = {0};
    size_t wrong = 0;

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t bytes = sizes[s];

        for (size_t i = 0; i < bytes; i++)
            mine[i] = byte_at(i, comm.rank);
        memset(all, 0, 4096 * (size_t)comm.size);
        wrong += comm_gather(&comm, mine, bytes, all, &err) != 0;
        for (int rank = 0; rank < comm.size; rank++) {
            for (size_t i = 0; i < bytes; i++)
                wrong += all[(size_t)rank * bytes + i] != byte_at(i, rank);
        }
    }
    free(all);
    assert_int_equal(wrong, 0);
}

/* Each rank in turn comes late; who leaves the barrier knows that the late one has come: its clock,
 * the host's own, says so. */
static void barrier_lets_nobody_go_before_the_last_has_come(void **state)
{
    struct err err = {0};
    int wrong = 0;

    (void)state;
    for (int late = 0; late < comm.size; late++) {
        double came, left = 0, late_came = 0;

        if (comm.rank == late)
            clock_sleep_s(0.02);
        came = clock_now_s();
        wrong += comm_barrier(&comm, &err) != 0;
        left = clock_now_s();
        late_came = came;
        wrong += comm_broadcast(&comm, &late_came, sizeof late_came, late, &err) != 0;
        wrong += left < late_came;
    }
    assert_int_equal(wrong, 0);
}

static void close_accepts_a_comm_that_was_never_opened(void **state)
{
    struct comm none = {0};

    (void)state;
    comm_close(&none);
}

static void check_keeps_the_librarys_reason(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(comm_check(MPI_ERR_RANK, "reach rank 9", &err), -1);
    assert_int_equal(err.code, ERR_PEER);
    assert_non_null(strstr(err.msg, "cannot reach rank 9: MPI_ERR_RANK"));
}

static int count_component(struct dl_phdr_info *object, size_t bytes, void *context)
{
    (void)bytes;
    *(int *)context += strstr(object->dlpi_name, "/mca_") != NULL;
    return 0;
}

/* Components of Open MPI that are loaded. */
static int components(void)
{
    int count = 0;

    dl_iterate_phdr(count_component, &count);
    return count;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_one_host_are_numbered_in_its_order),
        cmocka_unit_test(receive_buffers_are_the_window_with_three_hosts_and_more),
        cmocka_unit_test(segments_are_sent_without_a_question),
        cmocka_unit_test(place_takes_hosts_one_after_the_other),
        cmocka_unit_test(broadcast_copies_every_byte_for_odd_sizes_and_all_roots),
        cmocka_unit_test(sum_of_integers_is_exact_beyond_doubles),
        cmocka_unit_test(gather_keeps_every_ranks_bytes_in_its_place),
        cmocka_unit_test(barrier_lets_nobody_go_before_the_last_has_come),
        cmocka_unit_test(close_accepts_a_comm_that_was_never_opened),
        cmocka_unit_test(check_keeps_the_librarys_reason),
    };
    struct err err = {0};
    int failed, loaded;

    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "1",
           1); /* every rank believes to have a host of its own */
    if (comm_open(&comm, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    loaded = components();
    comm_close(&comm);
    if (loaded == 0 || components() < loaded) { /* its progress thread may still be in one */
        fprintf(stderr, "comm_close: of %d components %d are left\n", loaded, components());
        return 1;
    }
    return failed;
}
