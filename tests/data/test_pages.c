/* tests/data/test_pages.c -- an index that is read on demand: the same samples, in bounded memory.
 */
#include "trainer/data/index/pages.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "tests/data/narrow.h"
#include "tests/data/tree.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"

/* 60 pictures. */
static void make_shards_of(uint64_t bytes)
{
    struct data_pack_options options = {.shard_bytes = bytes};
    char source[512], target[512];
    struct err err = {0};

    tree_class("pets", "cats", 40);
    tree_class("pets", "dogs", 20);
    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("shards"));
    options.source = source;
    options.target = target;
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
}

/* Some 15 of them. */
static void make_shards(void)
{
    make_shards_of(4096);
}

static struct data_index opened(uint64_t whole_max, char *const *class_names, int classes)
{
    struct data_index index = {0};
    struct err err = {0};

    if (data_index_open_paged(&index, tree_path("shards"), whole_max, class_names, classes, NULL,
                              &err) < 0)
        fail_msg("%s", err.msg);
    return index;
}

static void same_sample(const struct data_sample *a, const struct data_sample *b)
{
    assert_string_equal(a->key, b->key);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->crc32c, b->crc32c);
    assert_int_equal(a->file, b->file);
    assert_int_equal(a->label, b->label);
}

static void same_samples(const struct data_index *whole, const struct data_index *paged)
{
    struct err err = {0};

    assert_int_equal(paged->count, whole->count);
    for (uint64_t i = 0; i < whole->count; i++) {
        const uint64_t sample = i * 7919 % whole->count;
        char *const one = data_index_path(whole, sample), *const other =
                                                              data_index_path(paged, sample);

        assert_string_equal(one, other);
        free(one);
        free(other);
        if (data_index_hold(paged, sample, NULL, &err) < 0)
            fail_msg("%s", err.msg);
        same_sample(data_index_sample(paged, sample), data_index_sample(whole, sample));
        data_index_drop(paged, sample);
    }
}

static void paged_index_is_the_whole_one(void **state)
{
    struct data_index whole, paged;

    (void)state;
    make_shards();
    whole = opened(60, NULL, 0);
    paged = opened(59, NULL, 0);
    assert_non_null(whole.samples);
    assert_null(whole.pages);
    assert_null(paged.samples);
    assert_non_null(paged.pages);
    assert_int_equal(paged.bytes, whole.bytes);
    assert_int_equal(paged.files, whole.files);
    assert_int_equal(data_index_chunk_samples(&paged), data_index_chunk_samples(&whole));
    assert_memory_equal(paged.fingerprint, whole.fingerprint, sizeof whole.fingerprint);
    same_samples(&whole, &paged);
    data_index_release(&whole);
    data_index_release(&paged);
}

static void paged_index_travels_to_another_rank(void **state)
{
    struct data_index whole, paged, there = {0};
    struct buf bytes = {0};
    struct err err = {0};

    (void)state;
    make_shards();
    whole = opened(60, NULL, 0);
    paged = opened(0, NULL, 0);
    data_index_encode(&paged, &bytes);
    assert_int_equal(data_index_decode(&there, bytes.data, bytes.bytes, &err), 0);
    assert_non_null(there.pages);
    assert_memory_equal(there.fingerprint, whole.fingerprint, sizeof whole.fingerprint);
    same_samples(&whole, &there);
    data_index_release(&there);
    for (size_t n = 0; n < bytes.bytes; n++) /* cut short anywhere */
        assert_int_equal(data_index_decode(&there, bytes.data, n, &err), -1);
    buf_release(&bytes);
    data_index_release(&whole);
    data_index_release(&paged);
}

/* Validation pictures have the labels of the training classes. */
static void paged_index_is_bound_to_classes(void **state)
{
    static char *const classes[] = {"birds", "cats", "cows", "dogs"};
    struct data_index whole, paged, there = {0};
    struct buf bytes = {0};
    struct err err = {0};

    (void)state;
    make_shards();
    whole = opened(60, classes, 4);
    paged = opened(0, classes, 4);
    assert_int_equal(paged.classes, 4);
    same_samples(&whole, &paged);
    data_index_encode(&paged, &bytes);
    assert_int_equal(data_index_decode(&there, bytes.data, bytes.bytes, &err), 0);
    same_samples(&whole, &there);
    buf_release(&bytes);
    data_index_release(&there);
    data_index_release(&whole);
    data_index_release(&paged);
}

static void pages_used_longest_ago_go_first_and_held_ones_stay(void **state)
{
    struct data_pages_stats stats;
    struct data_index whole;
    struct data_pages *pages;
    struct err err = {0};
    uint64_t first, reads;

    (void)state;
    make_shards();
    whole = opened(60, NULL, 0);
    pages = narrow_pages(&whole, &whole, tree_path("shards"), 2048);
    assert_int_equal(data_pages_hold(pages, 0, NULL, &err), 0);
    first = (uint64_t)(uintptr_t)data_pages_sample(pages, 0);
    for (int round = 0; round < 3; round++)
        for (uint64_t i = 0; i < whole.count; i++) {
            assert_int_equal(data_pages_hold(pages, i, NULL, &err), 0);
            same_sample(data_pages_sample(pages, i), &whole.samples[i]);
            data_pages_drop(pages, i);
            data_pages_stats(pages, &stats);
            assert_true(stats.bytes <= 2048);
        }
    assert_true(stats.reads > 2 * whole.files);
    assert_int_equal((uint64_t)(uintptr_t)data_pages_sample(pages, 0), first);
    data_pages_drop(pages, 0);
    reads = stats.reads;
    assert_int_equal(data_pages_hold(pages, whole.count - 1, NULL, &err),
                     0); /* the last used: there */
    data_pages_drop(pages, whole.count - 1);
    data_pages_stats(pages, &stats);
    assert_int_equal(stats.reads, reads);
    data_pages_free(pages);
    data_index_release(&whole);
}

struct reader {
    const struct data_index *whole;
    struct data_pages *pages;
    uint64_t seed, wrong;
};

static void *read_many(void *argument)
{
    struct reader *const reader = argument;
    struct err err = {0};

    for (uint64_t i = 0; i < 3000; i++) {
        const uint64_t sample = (i * 7919 + reader->seed * 13) % reader->whole->count;

        if (data_pages_hold(reader->pages, sample, NULL, &err) < 0) {
            reader->wrong++;
            continue;
        }
        reader->wrong += strcmp(data_pages_sample(reader->pages, sample)->key,
                                reader->whole->samples[sample].key) != 0;
        data_pages_drop(reader->pages, sample);
    }
    return NULL;
}

static void pages_serve_many_threads(void **state)
{
    struct reader readers[6];
    pthread_t threads[6];
    struct data_index whole;
    struct data_pages *pages;

    (void)state;
    make_shards();
    whole = opened(60, NULL, 0);
    pages = narrow_pages(&whole, &whole, tree_path("shards"), 2048);
    for (uint64_t t = 0; t < 6; t++) {
        readers[t] = (struct reader){.whole = &whole, .pages = pages, .seed = t};
        assert_int_equal(pthread_create(&threads[t], NULL, read_many, &readers[t]), 0);
    }
    for (int t = 0; t < 6; t++) {
        pthread_join(threads[t], NULL);
        assert_int_equal(readers[t].wrong, 0);
    }
    data_pages_free(pages);
    data_index_release(&whole);
}

/* What is wrong with a shard is told when its samples are wanted, and each time. */
static void shards_that_are_not_as_the_top_index_says_are_named(void **state)
{
    struct data_index paged;
    struct err err = {0};
    uint64_t second = 0;

    (void)state;
    make_shards();
    paged = opened(0, NULL, 0);
    tree_truncate("shards/shard-000000.tar", 1024);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(data_index_hold(&paged, 0, NULL, &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_non_null(strstr(err.msg, "shard-000000.tar' is cut short"));
    }
    assert_int_equal(data_index_hold(&paged, 59, NULL, &err), 0);
    data_index_drop(&paged, 59);
    while (data_pages_file(paged.pages, second) == 0)
        second++;
    tree_write("shards/shard-000001.idx", "x", 1);
    assert_int_equal(data_index_hold(&paged, second, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "shard-000001.idx' is no index of a shard"));
    data_index_release(&paged);
}

/* 1: not as it was made, which err names. */
static int is_refused(struct data_index *paged, const void *data, size_t bytes)
{
    struct err err = {0};

    tree_write("shards/shard-000000.idx", data, bytes);
    if (data_index_hold(paged, 0, NULL, &err) == 0) {
        data_index_drop(paged, 0);
        return 0;
    }
    return err.code == ERR_INPUT && strstr(err.msg, "shard-000000.idx'") != NULL;
}

static void page_with_a_byte_changed_or_cut_off_is_refused(void **state)
{
    struct data_index paged;
    struct buf good = {0};
    uint64_t wrong = 0;

    (void)state;
    make_shards();
    paged = opened(0, NULL, 0);
    assert_int_equal(file_read(tree_path("shards/shard-000000.idx"), 1 << 20, &good, NULL), 0);
    for (size_t i = 0; i < good.bytes; i += 5) { /* of all kinds, and each bit */
        good.data[i] ^= (unsigned char)(1u << i % 8);
        wrong += is_refused(&paged, good.data, good.bytes) != 1;
        good.data[i] ^= (unsigned char)(1u << i % 8);
        wrong += is_refused(&paged, good.data, i) != 1;
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(is_refused(&paged, good.data, good.bytes), 0);
    buf_release(&good);
    data_index_release(&paged);
}

/* Sound pages that are another shard's, or say other bytes than the top index. */
static void page_that_the_top_index_does_not_know_is_refused(void **state)
{
    struct data_shard shard = {0};
    struct data_index paged;
    struct buf other = {0}, good = {0};
    struct err err = {0};
    const char *path;

    (void)state;
    make_shards_of(30000);
    paged = opened(0, NULL, 0);
    assert_int_equal(file_read(tree_path("shards/shard-000001.idx"), 1 << 20, &other, NULL), 0);
    path = tree_path("shards/shard-000000.idx");
    assert_int_equal(file_read(path, 1 << 20, &good, NULL), 0);
    assert_int_equal(is_refused(&paged, other.data, other.bytes), 1);
    for (int i = 0; i < 2; i++) {
        struct buf changed = {0};

        if (data_shard_decode(&shard, good.data, good.bytes, path, &err) < 0)
            fail_msg("%s", err.msg);
        assert_true(shard.count > 2); /* the first and the last are also compared with the tar */
        if (i == 0)
            shard.records[shard.count / 2].bytes--;
        else
            shard.records[shard.count / 2].label = 2;
        data_shard_encode(&shard, &changed);
        assert_int_equal(is_refused(&paged, changed.data, changed.bytes), 1);
        buf_release(&changed);
        data_shard_release(&shard);
    }
    assert_int_equal(is_refused(&paged, good.data, good.bytes), 0);
    buf_release(&other);
    buf_release(&good);
    data_index_release(&paged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(paged_index_is_the_whole_one, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(paged_index_travels_to_another_rank, tree_make,
                                        tree_remove),
        cmocka_unit_test_setup_teardown(paged_index_is_bound_to_classes, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(pages_used_longest_ago_go_first_and_held_ones_stay,
                                        tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(pages_serve_many_threads, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(page_with_a_byte_changed_or_cut_off_is_refused, tree_make,
                                        tree_remove),
        cmocka_unit_test_setup_teardown(page_that_the_top_index_does_not_know_is_refused, tree_make,
                                        tree_remove),
        cmocka_unit_test_setup_teardown(shards_that_are_not_as_the_top_index_says_are_named,
                                        tree_make, tree_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
