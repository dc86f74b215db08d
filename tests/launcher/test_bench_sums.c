/* tests/launcher/test_bench_sums.c -- over several hosts: the wire's bound, in figures and in the
 * table. All else is test_bench_comm.py's. */
#include "launcher/bench_sums.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "launcher/bench_comm_record.h"
#include "launcher/bench_comm_table.h"
#include "launcher/machine.h"

/* 100 MB on four hosts, two ranks on each. */
static const char run[] =
    "{\"event\":\"comm\",\"ranks\":8,\"hosts\":4,\"threads\":1,\"bucket_bytes\":4096,\"rounds\":1,"
    "\"bytes\":[100000000],\"algorithms\":[\"convoy\",\"mpi-default\",\"mpi-recursive_doubling\"],"
    "\"yield_when_idle\":true,\"mpi\":\"Open MPI v4.1.4\"}\n"
    "{\"event\":\"comm-sum\",\"bytes\":100000000,\"algorithm\":\"convoy\",\"round\":1,"
    "\"seconds\":1.5,\"cpu_s\":0.5,\"exchange_cpu_s\":0.2}\n"
    "{\"event\":\"comm-sum\",\"bytes\":100000000,\"algorithm\":\"mpi-default\",\"round\":1,"
    "\"seconds\":3,\"cpu_s\":2.5}\n"
    "{\"event\":\"comm-sum\",\"bytes\":100000000,\"algorithm\":\"mpi-recursive_doubling\","
    "\"round\":1,\"seconds\":12.5,\"cpu_s\":2}\n";

static const char table[] =
    "8 ranks on 4 hosts, links of 1gbit; 1 round; buckets of at most 4096 bytes\n"
    "node-1: A CPU @ 3.00GHz, 8 cores\n"
    "Linux 6.1.0 x86_64, convoy 0.1.0, 2026-11-22T04:00:00Z, load 0.1\n"
    "Open MPI v4.1.4, a rank that waits lets go of its core\n"
    "\n"
    "                                            ms     MB/s bound% ours/    CPU\n"
    "  100 MB  Convoy                          1500    66.67   84.2     -   2.00\n"
    "          MPI_Allreduce as it comes       3000    33.33   42.1  0.50      -\n"
    "          forced: recursive_doubling     12500     8.00   10.1  0.12      -\n"
    "\n"
    "Medians; ms: of a sum, the slowest rank's. MB/s: of the vector. ours/: our ms by\n"
    "its ms in the same round; forced: the best of MPI_Allreduce's algorithms.\n"
    "CPU: of our communication thread, ms for each MB of the vector.\n"
    "Bound: 2(H-1)/H of the vector at 95 % of the link, H = 4 hosts.\n";

static const struct launch_machine machine = {.host = "node-1",
                                              .cpu = "A CPU @ 3.00GHz",
                                              .cores = 8,
                                              .load = 0.1,
                                              .kernel = "Linux 6.1.0 x86_64"};
static const struct launch_bench_comm_options options = {.link = "1gbit",
                                                         .link_bytes_per_s = 125e6};

static void read_run(struct launch_bench_sums *sums)
{
    struct buf lines = {0};
    struct err err = {0};

    buf_append(&lines, run, sizeof run - 1);
    assert_int_equal(launch_bench_sums_read(sums, &lines, 8, 1, &err), 0);
    buf_release(&lines);
}

static void bound_counts_hosts_and_what_a_link_carries(void **state)
{
    struct launch_bench_sums sums;

    (void)state;
    read_run(&sums);
    assert_true(fabs(launch_bench_sums_bound(&sums, 0, 125e6) - 1.5 * 0.8 / 0.95) < 1e-9);
    launch_bench_sums_release(&sums);
}

static void table_has_the_bound_where_the_link_is_known(void **state)
{
    struct launch_bench_sums sums;
    const struct launch_bench_comm_report report = {.options = &options,
                                                    .machine = &machine,
                                                    .sums = &sums,
                                                    .version = "0.1.0",
                                                    .time = "2026-11-22T04:00:00Z"};
    char *text = NULL;
    size_t bytes = 0;
    FILE *const out = open_memstream(&text, &bytes);

    (void)state;
    read_run(&sums);
    launch_bench_comm_table_print(&report, out);
    fclose(out);
    assert_string_equal(text, table);
    free(text);
    launch_bench_sums_release(&sums);
}

static void results_have_the_bound_as_an_algorithm_of_its_own(void **state)
{
    struct launch_bench_sums sums;
    const struct launch_bench_comm_report report = {
        .options = &options, .machine = &machine, .sums = &sums, .version = "", .time = ""};
    char *text = NULL;
    size_t bytes = 0;
    struct launch_bench_record record = {
        .file = open_memstream(&text, &bytes), .path = "x", .results_only = true};
    struct err err = {0};
    json_t *line;

    (void)state;
    read_run(&sums);
    assert_int_equal(launch_bench_comm_record_results(&record, &report, &err), 0);
    launch_bench_record_close(&record);
    line = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    assert_true(fabs(json_real_value(json_object_get(line, "bound_share")) - 0.8 / 0.95) < 1e-6);
    json_decref(line);
    line = json_loads(strstr(text, "{\"bench\":\"comm\",\"what\":\"result\",\"bytes\":100000000,"
                                   "\"ranks\":8,\"hosts\":4,\"algorithm\":\"wire-bound\""),
                      JSON_DISABLE_EOF_CHECK, NULL);
    assert_true(fabs(json_real_value(json_object_get(line, "seconds")) - 1.2 / 0.95) < 1e-6);
    json_decref(line);
    free(text);
    launch_bench_sums_release(&sums);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bound_counts_hosts_and_what_a_link_carries),
        cmocka_unit_test(table_has_the_bound_where_the_link_is_known),
        cmocka_unit_test(results_have_the_bound_as_an_algorithm_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
