/* tests/data/test_split.c -- an index in two, whole and of several hosts' parts. */
#include "trainer/data/index/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/data/tree.h"
#include "trainer/data/index/index.h"
#include "trainer/data/set/join.h"
#include "trainer/data/set/open.h"

static void make_pets(void)
{
    tree_class("pets", "cats", 20);
    tree_class("pets", "dogs", 11);
}

static void split_takes_of_each_class_by_its_share(void **state)
{
    static const struct {
        double share;
        size_t cats, dogs; /* held out, of 20 and 11 */
    } cases[] = {{0.1, 2, 1}, {0.5, 10, 6}, {0.001, 1, 1}, {0.999, 19, 10}};

    (void)state;
    make_pets();
    for (size_t c = 0; c < 4; c++) {
        struct data_index whole = tree_index("pets"), again = tree_index("pets"), train = {0},
                          held = {0};
        size_t counts[2] = {0}, t = 0, h = 0;
        struct err err = {0};

        assert_int_equal(data_index_split(&whole, cases[c].share, &train, &held, &err), 0);
        assert_null(whole.samples);
        for (size_t i = 0; i < again.count; i++) {
            const bool is_held =
                h < held.count && strcmp(held.samples[h].key, again.samples[i].key) == 0;

            if (!is_held)
                assert_string_equal(train.samples[t].key, again.samples[i].key);
            counts[again.samples[i].label] += is_held;
            is_held ? h++ : t++;
        }
        assert_int_equal(h, held.count);
        assert_int_equal(t, train.count);
        assert_int_equal(counts[0], cases[c].cats);
        assert_int_equal(counts[1], cases[c].dogs);
        assert_int_equal(train.bytes + held.bytes, again.bytes);
        assert_memory_not_equal(train.fingerprint, again.fingerprint, DIGEST_SHA256_BYTES);
        data_index_release(&train);
        data_index_release(&held);
        data_index_release(&again);
    }
}

static void split_refuses_a_class_of_one_picture(void **state)
{
    struct data_index whole, train = {0}, held = {0};
    struct err err = {0};

    (void)state;
    make_pets();
    tree_class("pets", "fish", 1);
    whole = tree_index("pets");
    assert_int_equal(data_index_split(&whole, 0.1, &train, &held, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "'fish'"));
    assert_int_equal(whole.count, 32); /* still the caller's */
    data_index_release(&whole);
}

#define HOSTS 3

/* Of folders "a", "b", "c"; parts stay in it. */
static struct data_index joined(void)
{
    static const char *const folders[HOSTS] = {"a", "b", "c"};
    struct data_index parts[HOSTS], index = {0};
    struct err err = {0};

    for (int i = 0; i < HOSTS; i++)
        if (data_join_open(&parts[i], tree_path(folders[i]), NULL, &err) < 0)
            fail_msg("%s", err.msg);
    if (data_join(&index, "r", parts, folders, HOSTS, NULL, 0, &err) < 0)
        fail_msg("%s", err.msg);
    for (int i = 0; i < HOSTS; i++)
        data_index_release(&parts[i]);
    return index;
}

static void split_leaves_each_sample_where_it_lies(void **state)
{
    struct data_index whole, again, train = {0}, held = {0};
    struct err err = {0};

    (void)state;
    tree_class("a", "dog", 5);
    tree_class("a", "cat", 2);
    tree_class("c", "ant", 3);
    tree_picture("c/cat/of-its-own.jpg", 10);
    whole = joined();
    again = joined();
    assert_int_equal(data_index_split(&whole, 0.34, &train, &held, &err), 0);
    assert_int_equal(train.part_count, HOSTS);
    assert_int_equal(held.part_count, HOSTS);
    for (size_t p = 0; p < HOSTS; p++)
        assert_int_equal(train.parts[p].count + held.parts[p].count, again.parts[p].count);
    assert_int_equal(held.parts[2].begin + held.parts[2].count, held.count);
    assert_true(held.count > 0 && train.count > 0);
    data_index_release(&again);
    data_index_release(&train);
    data_index_release(&held);
}

/* Pictures with keys that no other host has. */
static void host_has(const char *host, const char *class, int count)
{
    char name[64];

    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/%s/%s%d.jpg", host, class, host, i);
        tree_picture(name, 10);
    }
}

/* Samples [0] and those of them with a label [1 + label]. */
static void count_part(const struct data_index *index, size_t part, size_t counts[])
{
    const struct data_index_part *const own = &index->parts[part];

    for (int c = 0; c <= index->classes; c++)
        counts[c] = 0;
    for (size_t i = own->begin; i < own->begin + own->count; i++) {
        counts[0]++;
        counts[1 + index->samples[i].label]++;
    }
}

/* Whatever hosts come first: of each class the whole's share, and of each host's part its own. */
static void split_takes_of_each_part_by_its_share(void **state)
{
    static const struct {
        double share;
        size_t cats[HOSTS], dogs[HOSTS]; /* held out, of 16, 8, 0 and of 8, 8, 4 */
    } cases[] = {{0.25, {4, 2, 0}, {2, 2, 1}},
                 {0.5, {8, 4, 0}, {4, 4, 2}},
                 {0.1, {1, 1, 0}, {1, 1, 0}},
                 {0.001, {1, 0, 0}, {0, 1, 0}},
                 {0.999, {15, 8, 0}, {8, 7, 4}}};

    (void)state;
    host_has("a", "cat", 16);
    host_has("a", "dog", 8);
    host_has("b", "cat", 8);
    host_has("b", "dog", 8);
    host_has("c", "dog", 4);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct data_index whole = joined(), train = {0}, held = {0};
        struct err err = {0};

        assert_int_equal(data_index_split(&whole, cases[i].share, &train, &held, &err), 0);
        for (size_t p = 0; p < HOSTS; p++) {
            size_t counts[3];

            count_part(&held, p, counts);
            assert_int_equal(counts[1], cases[i].cats[p]);
            assert_int_equal(counts[2], cases[i].dogs[p]);
        }
        data_index_release(&train);
        data_index_release(&held);
    }
}

/* Each class sets one picture of nine aside: not all of them the first host's. */
static void split_deals_the_rest_of_many_classes_to_all_parts(void **state)
{
    struct data_index whole, train = {0}, held = {0};
    struct err err = {0};
    char class[16];

    (void)state;
    for (int c = 0; c < 12; c++) {
        snprintf(class, sizeof class, "class-%d", c);
        for (int host = 0; host < HOSTS; host++)
            host_has((const char[]){(char)('a' + host), '\0'}, class, 3);
    }
    whole = joined();
    assert_int_equal(data_index_split(&whole, 0.1, &train, &held, &err), 0);
    assert_int_equal(held.count, 12);
    for (size_t p = 0; p < HOSTS; p++)
        assert_int_equal(held.parts[p].count, 4);
    data_index_release(&train);
    data_index_release(&held);
}

static void split_looks_for_two_pictures_of_a_class_on_all_hosts_together(void **state)
{
    struct data_index whole, train = {0}, held = {0};
    struct err err = {0};

    (void)state;
    host_has("a", "cat", 1);
    host_has("b", "cat", 1);
    host_has("b", "dog", 2);
    whole = joined();
    assert_int_equal(data_index_split(&whole, 0.1, &train, &held, &err), 0);
    assert_int_equal(held.count, 2);
    assert_int_equal(train.count, 2);
    assert_int_equal(held.samples[0].label + held.samples[1].label, 1);
    data_index_release(&train);
    data_index_release(&held);
    host_has("c", "ant", 1);
    whole = joined();
    assert_int_equal(data_index_split(&whole, 0.1, &train, &held, &err), -1);
    assert_non_null(strstr(err.msg, "'ant'"));
    data_index_release(&whole);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(split_takes_of_each_class_by_its_share),
        CASE(split_refuses_a_class_of_one_picture),
        CASE(split_leaves_each_sample_where_it_lies),
        CASE(split_takes_of_each_part_by_its_share),
        CASE(split_deals_the_rest_of_many_classes_to_all_parts),
        CASE(split_looks_for_two_pictures_of_a_class_on_all_hosts_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
