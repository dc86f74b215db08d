/* tests/launcher/test_bench_table.c -- the table, and the record of the same figures. */
#include "launcher/bench_table.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "launcher/bench_record.h"
#include "tests/launcher/bench_bed.h"

static struct bench_bed bed;

static const char table[] =
    "resnet18, 224 x 224 pixels, 4 threads a rank; 10 steps a run, 3 rounds\n"
    "pictures of s3://bucket/shards\n"
    "node-1: A CPU @ 3.00GHz, 8 cores\n"
    "Linux 6.1.0 x86_64, convoy 0.1.0, 2026-11-22T04:00:00Z, load 0.1\n"
    "\n"
    "strong: 512 images of a step on all ranks together, micro-batches of 32\n"
    "                               efficiency, %            waiting, % for    imbal-\n"
    "hosts ranks images/s   min-max  of 1     min-max beside ranks  sums input ance,%\n"
    "    1     2    100.0  95.0-105 100.0 100.0-100.0  100.0   1.0   5.0   2.0    3.0\n"
    "    3     6    270.0   256-284  90.0   90.0-90.0   93.8   1.0   5.0   2.0    3.0\n"
    "\n"
    "Medians. Efficiency of 1: the rate for each host, against that of 1 host in the\n"
    "same round; beside: against the same hosts side by side without exchange.\n"
    "Waiting, share of a step: for other ranks' answers, for sums, for pictures.\n"
    "Imbalance: how much longer than the mean the slowest rank computes.\n"
    "strong, 6 ranks: 16 micro-batches allow at most 88.9 %.\n";

static void table_has_every_measure_in_80_columns(void **state)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *const out = open_memstream(&text, &bytes);

    (void)state;
    bench_bed_init(&bed, (const int[]){1, 3, 0}, false, true);
    bed.options.data = "s3://bucket/shards";
    launch_bench_table_print(&bed.report, out);
    fclose(out);
    assert_string_equal(text, table);
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1)
        assert_true(strchr(line, '\n') - line <= 80);
    free(text);
}

static double number(const json_t *object, const char *key)
{
    const json_t *const value = json_object_get(object, key);

    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void assert_close(double a, double b)
{
    assert_true(fabs(a - b) < 1e-6);
}

static void results_alone_are_one_object_for_each_point(void **state)
{
    char *text = NULL, *at;
    size_t bytes = 0;
    struct launch_bench_record record = {
        .file = open_memstream(&text, &bytes), .path = "x", .results_only = true};
    json_t *const figures = json_pack("{s:s, s:f}", "event", "bench", "images_per_s", 1.0);
    struct err err = {0};
    json_t *line;

    (void)state;
    bench_bed_init(&bed, (const int[]){1, 2, 0}, true, true);
    assert_int_equal(launch_bench_record_setting(&record, &bed.report, "convoy", &err), 0);
    assert_int_equal(launch_bench_record_run(&record, &bed.points[0], LAUNCH_BENCH_TOGETHER, 1,
                                             "convoy", figures, &err),
                     0);
    assert_int_equal(launch_bench_record_results(&record, &bed.report, &err), 0);
    launch_bench_record_close(&record);
    at = text;
    for (int i = 0; i < 4; i++, at = strchr(at, '\n') + 1) {
        line = json_loads(at, JSON_DISABLE_EOF_CHECK, NULL);
        assert_non_null(line);
        assert_string_equal(json_string_value(json_object_get(line, "bench")), "scaling");
        assert_string_equal(json_string_value(json_object_get(line, "mode")),
                            i < 2 ? "weak" : "strong");
        assert_int_equal(number(line, "hosts"), 1 + i % 2);
        assert_int_equal(number(line, "ranks"), 2 + 2 * (i % 2));
        assert_int_equal(number(line, "repeats"), BENCH_BED_ROUNDS);
        assert_close(number(line, "images_per_s"), i % 2 ? 180 : 100);
        assert_close(number(line, "images_per_s_min"), i % 2 ? 171 : 95);
        assert_close(number(line, "images_per_s_max"), i % 2 ? 189 : 105);
        assert_close(number(line, "efficiency"), i % 2 ? 0.9 : 1);
        assert_close(number(line, "side_by_side_images_per_s"), i % 2 ? 192 : 100);
        assert_close(number(line, "efficiency_side_by_side"), i % 2 ? 0.9375 : 1);
        assert_close(number(line, "rank_wait_share"), 0.01);
        assert_close(number(line, "exposed_exchange_share"), 0.05);
        assert_close(number(line, "input_wait_share"), 0.02);
        assert_close(number(line, "imbalance"), 0.03);
        assert_close(number(line, "seconds"), 2);
        json_decref(line);
    }
    assert_string_equal(at, "");
    json_decref(figures);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_has_every_measure_in_80_columns),
        cmocka_unit_test(results_alone_are_one_object_for_each_point),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
