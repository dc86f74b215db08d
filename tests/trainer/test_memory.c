/* tests/trainer/test_memory.c -- a network that is too large for its host: what the refusal says,
 * against a search through every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "trainer/memory.h"
#include "trainer/options.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define BATCH        150

static struct train_options options = {.global_batch = BATCH, .bucket_bytes = 1 << 22};

static struct train_memory_job job_of(const char *model, int image_size, int micro_batch)
{
    options.model = model;
    options.image_size = image_size;
    return (struct train_memory_job){
        .options = &options,
        .micro_batch = micro_batch,
        .classes = 10,
        .threads = 1,
        .ranks = 1,
        .ranks_of_host = 1,
    };
}

static size_t total_of(struct train_memory_job job, int micro_batch)
{
    struct train_memory memory;
    struct err err = {0};

    job.micro_batch = micro_batch;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    return memory.total;
}

static int named(const struct err *err)
{
    const char *const size = strstr(err->msg, "left: --micro-batch ");
    int b = 0;

    if (size != NULL)
        sscanf(size, "left: --micro-batch %d fits", &b);
    return b;
}

static void a_refusal_names_the_largest_micro_batch_that_fits(void **state)
{
    static const int sizes[] = {1, 2, 3, 31, 32, 33, 64, 100, 148};
    size_t totals[BATCH];
    struct train_memory_job job = job_of("resnet20", 32, BATCH - 1);

    (void)state;
    for (int b = 1; b < BATCH; b++)
        totals[b] = total_of(job, b);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const uint64_t available = totals[sizes[i]];
        struct err err = {0};
        int largest = 0;

        for (int b = 1; b < BATCH; b++)
            largest = totals[b] <= available ? b : largest;
        assert_true(largest < BATCH - 1);
        assert_int_equal(train_memory_check(&job, available, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_int_equal(named(&err), largest);
    }
}

/* Many partial sums of a network with many weights: small sizes fail too. */
static void a_refusal_finds_what_fits_between_two_that_do_not(void **state)
{
    const struct train_memory_job job = job_of("resnet101", 32, BATCH - 1);
    const uint64_t available = total_of(job, 32);
    struct err err = {0};

    (void)state;
    assert_true(total_of(job, 1) > available && total_of(job, BATCH - 1) > available);
    assert_int_equal(train_memory_check(&job, available, &err), -1);
    assert_true(named(&err) >= 32 && total_of(job, named(&err)) <= available);
    assert_true(total_of(job, named(&err) + 1) > available);
}

static void a_refusal_speaks_of_ranks_only_where_there_are_several(void **state)
{
    struct train_memory_job job = job_of("resnet20", 32, BATCH - 1);
    const uint64_t available[] = {1000, total_of(job, 10)}; /* nothing fits; 10 does */

    (void)state;
    for (size_t i = 0; i < COUNT(available); i++) {
        struct err one = {0}, three = {0};

        job.ranks = job.ranks_of_host = 1;
        assert_int_equal(train_memory_check(&job, available[i], &one), -1);
        assert_null(strstr(one.msg, "rank"));
        job.ranks = job.ranks_of_host = 3;
        assert_int_equal(train_memory_check(&job, 3 * available[i], &three), -1);
        assert_non_null(strstr(three.msg, " MiB for 3 ranks, and this host has "));
        assert_int_equal(
            strstr(three.msg, "use fewer ranks on this host or smaller pictures") != NULL, i == 0);
    }
}

/* The checkpoint says how many pictures a micro-batch has: naming another number helps nobody. */
static void a_refusal_of_a_resumed_run_names_no_micro_batch(void **state)
{
    struct train_memory_job job = job_of("resnet20", 32, BATCH - 1);
    struct err err = {0};

    (void)state;
    job.resumed = true;
    assert_int_equal(train_memory_check(&job, total_of(job, 10), &err), -1);
    assert_non_null(strstr(err.msg, "left: use a larger host, as the checkpoint fixes"));
    job.ranks_of_host = 2;
    assert_int_equal(train_memory_check(&job, total_of(job, 10), &err), -1);
    assert_non_null(strstr(err.msg, "left: use fewer ranks on this host or a larger host, as the"));
}

static void what_is_fetched_counts_for_the_splits_in_s3(void **state)
{
    const struct train_memory_job job = job_of("resnet20", 32, 8);
    struct train_memory memory;
    struct err err = {0};

    (void)state;
    options.prefetch_bytes = 400;
    options.train = "pictures";
    options.val = "s3://bucket/val";
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.fetched, 100);
    options.train = "s3://bucket/train";
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.fetched, 400);
    assert_int_equal(train_memory_check(&job, 1000, &err), -1);
    assert_non_null(strstr(err.msg, "fits; use less --prefetch-bytes or smaller pictures"));
    options.train = options.val = NULL;
}

static void one_rank_of_a_host_saves(void **state)
{
    struct train_memory_job job = job_of("resnet20", 32, 8);
    struct train_memory memory;
    struct err err = {0};
    uint64_t needed;

    (void)state;
    job.ranks = job.ranks_of_host = 3;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    needed = 3 * memory.total - 2 * memory.save;
    assert_int_equal(train_memory_check(&job, needed, &err), 0);
    assert_int_equal(train_memory_check(&job, needed - 1, &err), -1);
}

static void a_benchmark_neither_saves_nor_reads_ahead(void **state)
{
    const struct train_memory_job job = job_of("resnet20", 32, 8);
    struct train_memory memory;
    struct err err = {0};

    (void)state;
    options.bench_steps = 1;
    options.train = "s3://bucket/train";
    options.prefetch_bytes = 400;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.save + memory.fetched, 0);
    assert_int_equal(memory.pictures, 8 * 32 * 32 * 3 * sizeof(float));
    options.bench_data = true; /* but where its pictures are read */
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.save, 0);
    assert_int_equal(memory.fetched, 400);
    assert_true(memory.pictures > 8 * 32 * 32 * 3 * sizeof(float));
    options.bench_data = false;
    options.bench_steps = 0;
    options.train = NULL;
}

/* Two hosts with a micro-batch each: two parts of half of each bucket. There are 16 of 64 KiB, and
 * one of 35 KB. */
static void several_ranks_exchange_gradients(void **state)
{
    struct train_memory_job job = job_of("resnet20", 32, BATCH / 2);
    struct train_memory memory;
    struct err err = {0};

    (void)state;
    options.bucket_bytes = 1 << 16;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.exchange, 0);
    job.ranks = 2;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_in_range(memory.exchange, (16 << 16) + 35000, (16 << 16) + 37000);
}

/* Of resnet20 at 32 pixels layer2 gives 32 channels of 16 x 16. */
static void features_count_where_there_can_be_a_cache(void **state)
{
    static const size_t row = (size_t)32 * 16 * 16 * sizeof(float);
    struct train_memory_job job = job_of("resnet20", 32, BATCH / 2);
    struct train_options tuned = options;
    struct train_memory memory;
    struct err err = {0};

    (void)state;
    job.options = &tuned;
    tuned.feature_cache_bytes = 1;
    tuned.training.kind = DATA_TRANSFORM_RESIZE;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.features, 0);
    assert_int_equal(nn_tuning_parse_layers(&tuned.tuning, "resnet20", "from:layer3", &err), 0);
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.features, 128 * row); /* a message of 4 MiB */
    job.micro_batch = BATCH;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.features, BATCH * row);
    tuned.training.kind = DATA_TRANSFORM_PAD_CROP;
    assert_int_equal(train_memory_plan(&job, &memory, &err), 0);
    assert_int_equal(memory.features, 0);
    assert_int_equal(train_memory_left(&job, memory.total + 5), 5);
    assert_int_equal(train_memory_left(&job, memory.total - 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_names_the_largest_micro_batch_that_fits),
        cmocka_unit_test(a_refusal_finds_what_fits_between_two_that_do_not),
        cmocka_unit_test(a_refusal_speaks_of_ranks_only_where_there_are_several),
        cmocka_unit_test(a_refusal_of_a_resumed_run_names_no_micro_batch),
        cmocka_unit_test(what_is_fetched_counts_for_the_splits_in_s3),
        cmocka_unit_test(one_rank_of_a_host_saves),
        cmocka_unit_test(several_ranks_exchange_gradients),
        cmocka_unit_test(a_benchmark_neither_saves_nor_reads_ahead),
        cmocka_unit_test(features_count_where_there_can_be_a_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
