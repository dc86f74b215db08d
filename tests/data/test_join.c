/* tests/data/test_join.c -- one index out of several hosts' own. */
#include "trainer/data/set/join.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "tests/data/same.h"
#include "tests/data/stranger.h"
#include "tests/data/tree.h"
#include "trainer/data/pack/spool.h"

#define HOSTS 3

static const char *const hosts[HOSTS] = {"algo-1", "algo-2", "algo-3"};

static void open_all(struct data_index parts[HOSTS])
{
    static const char *const folders[HOSTS] = {"a", "b", "c"};

    for (int i = 0; i < HOSTS; i++) {
        struct err err = {0};

        if (data_join_open(&parts[i], tree_path(folders[i]), NULL, &err) < 0)
            fail_msg("%s", err.msg);
    }
}

static void release_all(struct data_index parts[HOSTS])
{
    for (int i = 0; i < HOSTS; i++)
        data_index_release(&parts[i]);
}

static void assert_refused(char *const *names, int classes, const char *said)
{
    struct data_index parts[HOSTS], joined = {0};
    struct err err = {0};

    open_all(parts);
    assert_int_equal(data_join(&joined, "r", parts, hosts, HOSTS, names, classes, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    if (strstr(err.msg, said) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, said);
    release_all(parts);
}

/* The second host has neither folder nor pictures, the third a class that the first has not. */
static void make_uneven(void)
{
    tree_class("a", "dog", 5);
    tree_class("a", "cat", 2);
    tree_class("c", "ant", 3);
    tree_picture("c/cat/of-its-own.jpg", 10);
}

static void samples_come_host_after_host_with_the_classes_of_all(void **state)
{
    struct data_index parts[HOSTS], joined = {0};
    struct err err = {0};
    int found[3] = {0};

    (void)state;
    make_uneven();
    open_all(parts);
    assert_int_equal(data_join(&joined, "/data", parts, hosts, HOSTS, NULL, 0, &err), 0);
    assert_string_equal(joined.root, "/data");
    assert_int_equal(joined.classes, 3);
    assert_string_equal(joined.class_names[0], "ant");
    assert_string_equal(joined.class_names[2], "dog");
    assert_int_equal(joined.count, 11);
    assert_int_equal(joined.part_count, HOSTS);
    assert_int_equal(joined.parts[1].begin, 7);
    assert_int_equal(joined.parts[1].count, 0);
    assert_int_equal(joined.parts[2].begin, 7);
    assert_int_equal(joined.parts[2].count, 4);
    for (size_t i = 0; i < joined.count; i++) {
        const char *const name = joined.class_names[joined.samples[i].label];

        assert_int_equal(strncmp(joined.samples[i].key, name, strlen(name)), 0);
        found[joined.samples[i].label]++;
    }
    assert_int_equal(found[0], 3);
    assert_int_equal(found[1], 3);
    assert_int_equal(found[2], 5);
    release_all(parts);
    data_index_release(&joined);
}

static void fingerprint_says_who_has_what(void **state)
{
    struct data_index parts[HOSTS], turned[HOSTS], joined = {0}, other = {0};
    struct err err = {0};

    (void)state;
    make_uneven();
    open_all(parts);
    memcpy(turned, parts, sizeof parts);
    turned[1] = parts[2];
    turned[2] = parts[1];
    assert_int_equal(data_join(&joined, "r", parts, hosts, HOSTS, NULL, 0, &err), 0);
    assert_int_equal(data_join(&other, "r", turned, hosts, HOSTS, NULL, 0, &err), 0);
    assert_memory_not_equal(joined.fingerprint, other.fingerprint, sizeof joined.fingerprint);
    release_all(parts);
    data_index_release(&joined);
    data_index_release(&other);
}

/* FOLDER/NAME.tar with a picture of each label. */
static void tar_of(const char *name, const int *labels, int count)
{
    struct buf tar = {0}, picture = {0};

    for (int i = 0; i < count; i++) {
        char file[32], label[8];
        const int bytes = snprintf(label, sizeof label, "%d", labels[i]);

        picture.bytes = 0;
        stranger_picture(&picture, labels[i]);
        snprintf(file, sizeof file, "%d.jpg", labels[i]);
        stranger_member(&tar, file, picture.data, picture.bytes);
        snprintf(file, sizeof file, "%d.cls", labels[i]);
        stranger_member(&tar, file, label, (size_t)bytes);
    }
    stranger_end(&tar);
    tree_write(name, tar.data, tar.bytes);
    buf_release(&picture);
    buf_release(&tar);
}

/* Of hosts whose largest labels have 1, 2 and 1 digits; and a validation set that has few. */
static void numbers_of_tars_are_numbers_whatever_their_digits(void **state)
{
    static const int one[] = {0, 7, 3}, two[] = {3, 11}, three[] = {1};
    struct data_index parts[HOSTS], joined = {0}, val = {0};
    struct err err = {0};

    (void)state;
    tar_of("a/x.tar", one, 3);
    tar_of("b/y.tar", two, 2);
    tar_of("c/z.tar", three, 1);
    open_all(parts);
    if (data_join(&joined, "r", parts, hosts, HOSTS, NULL, 0, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(joined.classes, 12);
    assert_string_equal(joined.class_names[3], "03");
    assert_string_equal(joined.class_names[11], "11");
    assert_int_equal(joined.count, 6);
    for (int i = 0; i < 6; i++)
        assert_int_equal(joined.samples[i].label, i < 3 ? one[i] : i < 5 ? two[i - 3] : three[0]);
    if (data_join(&val, "r", parts + 2, hosts, 1, joined.class_names, 12, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(val.samples[0].label, 1);
    assert_int_equal(val.classes, 12);
    data_index_release(&val);
    data_index_release(&joined);
    release_all(parts);
}

static void what_two_hosts_have_is_refused(void **state)
{
    (void)state;
    make_uneven();
    tree_class("b", "cat", 1);
    assert_refused(NULL, 0, "hosts 'algo-1' and 'algo-2' both have 'cat/");
}

static void nothing_at_all_is_refused(void **state)
{
    (void)state;
    assert_refused(NULL, 0, "there is no picture in '");
}

static void root_that_cannot_be_reached_is_not_empty(void **state)
{
    struct data_index part;
    struct err err = {0};

    (void)state;
    assert_int_equal(symlink(tree_path("a"), tree_path("a")),
                     0); /* ELOOP, where nobody may mount */
    assert_int_equal(data_join_open(&part, tree_path("a"), NULL, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    tree_write("b", "b", 1);
    assert_int_equal(data_join_open(&part, tree_path("b"), NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "is no folder"));
    assert_int_equal(data_join_open(&part, tree_path("b/c"), NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
}

/* Each host would list all of it; nothing of it is asked for. */
static void bucket_is_no_hosts_own(void **state)
{
    struct data_index part;
    struct err err = {0};

    (void)state;
    assert_int_equal(data_join_open(&part, "s3://bucket/train", NULL, &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "--host-data: 's3://bucket/train' lies in S3"));
    assert_int_equal(data_join_open(&part, "s3://bucket/train.manifest", NULL, &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "is a manifest"));
}

static void one_class_on_all_is_refused(void **state)
{
    (void)state;
    tree_class("b", "cat", 2);
    assert_refused(NULL, 0, "has one class only ('cat')");
}

static void class_that_training_does_not_know_is_refused_with_its_host(void **state)
{
    char *names[] = {(char[]){"cat"}, (char[]){"dog"}};

    (void)state;
    make_uneven();
    assert_refused(names, 2, "class 'ant' of '");
    assert_refused(names, 2, "on host 'algo-3'");
}

/* --- keys that count from 0 on each host --- */

static int label_of(int picture)
{
    return picture * 7 % 12;
}

/* What a host's Pipe channel brings: RecordIO of these pictures. */
static void make_spool(const char *folder, int first, int count)
{
    char path[512], file[512];
    const struct data_spool_options options = {
        .fifo = file, .folder = path, .shard_bytes = 16384, .wait_s = 5};
    struct buf stream = {0}, picture = {0};
    struct err err = {0};

    for (int i = first; i < first + count; i++) {
        const float label = (float)label_of(i);

        stranger_picture(&picture, i);
        stranger_image(&stream, &label, 1, picture.data, picture.bytes);
    }
    tree_write("stream", stream.data, stream.bytes);
    strcpy(file, tree_path("stream"));
    strcpy(path, tree_path(folder));
    if (data_spool(&options, &err) < 0)
        fail_msg("%s", err.msg);
    buf_release(&stream);
    buf_release(&picture);
}

/* Somebody's tar: `count` pictures of one length, named alike in each, labels 0 to classes - 1. */
static void make_tar(const char *name, int count, int classes)
{
    struct buf tar = {0};

    for (int i = 0; i < count; i++) {
        char member[32], label[16];

        snprintf(member, sizeof member, "%04d.jpg", i);
        stranger_member(&tar, member, "\xff\xd8\xff\xe0 a picture", 14);
        snprintf(member, sizeof member, "%04d.cls", i);
        snprintf(label, sizeof label, "%d", i % classes);
        stranger_member(&tar, member, label, strlen(label));
    }
    stranger_end(&tar);
    tree_write(name, tar.data, tar.bytes);
    buf_release(&tar);
}

static void join_all(struct data_index *joined, char *const *names, int classes)
{
    struct data_index parts[HOSTS];
    struct err err = {0};

    open_all(parts);
    if (data_join(joined, "r", parts, hosts, HOSTS, names, classes, &err) < 0)
        fail_msg("%s", err.msg);
    release_all(parts);
}

static void streams_of_a_pipe_are_joined_though_each_counts_from_0(void **state)
{
    struct data_index joined = {0};

    (void)state;
    make_spool("a", 0, 40);
    make_spool("c", 40, 25);
    join_all(&joined, NULL, 0);
    assert_int_equal(joined.count, 65);
    assert_string_equal(joined.samples[0].key, joined.samples[40].key);
    for (int i = 0; i < 65; i++)
        assert_int_equal(joined.samples[i].label, label_of(i));
    data_index_release(&joined);
}

static void the_same_stream_on_two_hosts_is_refused(void **state)
{
    (void)state;
    make_spool("a", 0, 40);
    make_spool("c", 0, 40);
    assert_refused(NULL, 0, "hosts 'algo-1' and 'algo-3' both have '000000");
}

static void the_same_tar_on_two_hosts_is_refused(void **state)
{
    struct data_index joined = {0};

    (void)state;
    make_tar("a/1.tar", 20, 10);
    make_tar("a/2.tar", 20, 10);
    make_tar("b/3.tar", 20, 10);
    join_all(&joined, NULL, 0);
    assert_int_equal(joined.count, 60);
    data_index_release(&joined);
    make_tar("c/2.tar", 20, 10);
    assert_refused(NULL, 0, "hosts 'algo-1' and 'algo-3' both have '2.tar/0000.jpg'");
}

static void numbers_of_pipes_are_numbers_whatever_their_digits(void **state)
{
    struct data_index joined = {0};

    (void)state;
    make_spool("a", 0, 1); /* label 0 */
    make_spool("b", 12, 40);
    join_all(&joined, NULL, 0);
    assert_int_equal(joined.classes, 12);
    assert_string_equal(joined.class_names[7], "07");
    assert_int_equal(joined.samples[0].label, 0);
    for (int i = 0; i < 40; i++)
        assert_int_equal(joined.samples[1 + i].label, label_of(12 + i));
    data_index_release(&joined);
}

static void numbers_and_words_are_not_joined(void **state)
{
    (void)state;
    make_tar("a/1.tar", 20, 10);
    tree_class("pets", "cat", 3);
    tree_class("pets", "dog", 3);
    same_pack("pets", "b", 0);
    assert_refused(NULL, 0,
                   "are numbers on host 'algo-1' and have names, such as 'cat', on host 'algo-2'");
}

/* Folders may be called by numbers, and are names all the same. */
static void folders_called_by_numbers_are_names(void **state)
{
    struct data_index joined = {0};

    (void)state;
    tree_class("a", "3", 2);
    tree_class("a", "7", 2);
    tree_class("b", "10", 2);
    join_all(&joined, NULL, 0);
    assert_int_equal(joined.classes, 3);
    assert_string_equal(joined.class_names[0], "10");
    assert_string_equal(joined.class_names[2], "7");
    data_index_release(&joined);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)
    const struct CMUnitTest tests[] = {
        CASE(samples_come_host_after_host_with_the_classes_of_all),
        CASE(fingerprint_says_who_has_what),
        CASE(numbers_of_tars_are_numbers_whatever_their_digits),
        CASE(what_two_hosts_have_is_refused),
        CASE(nothing_at_all_is_refused),
        CASE(root_that_cannot_be_reached_is_not_empty),
        CASE(bucket_is_no_hosts_own),
        CASE(one_class_on_all_is_refused),
        CASE(streams_of_a_pipe_are_joined_though_each_counts_from_0),
        CASE(the_same_stream_on_two_hosts_is_refused),
        CASE(the_same_tar_on_two_hosts_is_refused),
        CASE(numbers_of_pipes_are_numbers_whatever_their_digits),
        CASE(numbers_and_words_are_not_joined),
        CASE(folders_called_by_numbers_are_names),
        CASE(class_that_training_does_not_know_is_refused_with_its_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
