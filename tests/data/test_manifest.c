/* tests/data/test_manifest.c -- a manifest is the dataset that its objects would be as a folder;
 * what is wrong with one is said with its name and entry. */
#include "trainer/data/set/manifest.h"

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
#include "s3io/client.h"
#include "tests/data/store.h"
#include "tests/data/stranger.h"
#include "tests/data/tree.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"

static struct store *store;

static int set_up(void **state)
{
    (void)state;
    store = store_open();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_close(store);
    s3_client_shared_close();
    return 0;
}

static void put_text(const char *key, const char *text)
{
    store_put(store, key, text, strlen(text));
}

static void open_index(struct data_index *index, const char *root)
{
    struct err err = {0};

    if (data_index_open(index, root, NULL, 0, NULL, &err) < 0)
        fail_msg("%s: %s", root, err.msg);
}

static void assert_same(const struct data_index *a, const struct data_index *b)
{
    assert_memory_equal(a->fingerprint, b->fingerprint, sizeof a->fingerprint);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        assert_string_equal(a->samples[i].key, b->samples[i].key);
        assert_int_equal(a->samples[i].crc32c, b->samples[i].crc32c);
        assert_int_equal(a->samples[i].offset, b->samples[i].offset);
    }
}

/* s3://test/m/x.manifest says this, and is refused with that. */
static void refused(const char *manifest, const char *says)
{
    struct data_index index = {0};
    struct err err = {0};

    put_text("m/x.manifest", manifest);
    if (data_index_open(&index, "s3://test/m/x.manifest", NULL, 0, NULL, &err) == 0)
        fail_msg("taken: %s", manifest);
    if (err.code != ERR_INPUT || strstr(err.msg, "'s3://test/m/x.manifest'") == NULL ||
        strstr(err.msg, says) == NULL || strchr(err.msg, '\n') != NULL)
        fail_msg("'%s' does not say '%s'", err.msg, says);
}

/* Two classes below data/, one of them deep in the order of keys, and others beside them. */
static void make_classes(void)
{
    tree_class("all", "dog", 7);
    tree_class("all", "cat", 6);
    store_put_tree(store, tree_path("all"), "data");
    tree_class("more", "dog", 9);
    tree_class("more", "emu", 3);
    store_put_tree(store, tree_path("more"), "data/dog-not-these");
    put_text("data/dog/99.jpg", "\xff\xd8\xff not named");
}

/* ["{prefix}", every object of the folder "all" behind `start`]. */
static void name_all(struct buf *out, const char *prefix, const char *start)
{
    buf_printf(out, "[{\"prefix\": \"%s\"}", prefix);
    for (int i = 0; i < 13; i++)
        buf_printf(out, ",\n \"%s%s/%d.jpg\"", start, i < 7 ? "dog" : "cat", i < 7 ? i : i - 7);
    buf_append(out, "]", 1);
}

static void manifest_is_the_folder_of_what_it_names(void **state)
{
    static const char *const prefixes[][2] = {
        {"s3://test/data/", ""}, {"s3://test/", "data/"}, {"s3://test/da", "ta/"}};
    struct data_index folder = {0}, index = {0};

    (void)state;
    make_classes();
    open_index(&folder, tree_path("all"));
    for (size_t i = 0; i < 3; i++) {
        struct buf text = {0};

        name_all(&text, prefixes[i][0], prefixes[i][1]);
        store_put(store, "m/some.manifest", text.data, text.bytes);
        open_index(&index, "s3://test/m/some.manifest");
        assert_string_equal(index.root, "s3://test/data");
        assert_memory_equal(index.fingerprint, folder.fingerprint, sizeof folder.fingerprint);
        data_index_release(&index);
        tree_write("here.json", text.data, text.bytes); /* a local copy */
        open_index(&index, tree_path("here.json"));
        assert_memory_equal(index.fingerprint, folder.fingerprint, sizeof folder.fingerprint);
        data_index_release(&index);
        buf_release(&text);
    }
    data_index_release(&folder);
}

static void one_class_is_found_by_its_folder(void **state)
{
    static char *classes[] = {"cat", "dog"};
    struct data_index index = {0};
    struct err err = {0};

    (void)state;
    make_classes();
    put_text("m/dogs.manifest", "[{\"prefix\": \"s3://test/data/dog/\"}, \"0.jpg\", \"1.jpg\"]");
    if (data_index_open(&index, "s3://test/m/dogs.manifest", classes, 2, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(index.count, 2);
    assert_int_equal(index.samples[0].label, 1);
    data_index_release(&index);
}

/* a/0.tar, b/1.tar and c/not-this.tar */
static void make_tars(void)
{
    static const char *const names[] = {"tars/a/0.tar", "tars/b/1.tar", "tars/c/not-this.tar"};

    for (int t = 0; t < 3; t++) {
        struct buf tar = {0}, picture = {0};

        for (int i = 0; i < 4; i++) {
            char name[32], label[8];

            picture.bytes = 0;
            stranger_picture(&picture, t * 10 + i);
            snprintf(name, sizeof name, "%d.jpg", i);
            stranger_member(&tar, name, picture.data, picture.bytes);
            snprintf(name, sizeof name, "%d.cls", i);
            stranger_member(&tar, name, label, (size_t)snprintf(label, sizeof label, "%d", i % 2));
        }
        stranger_end(&tar);
        store_put(store, names[t], tar.data, tar.bytes);
        buf_release(&picture);
        buf_release(&tar);
    }
}

static void tars_may_lie_in_several_folders(void **state)
{
    struct data_index index = {0};

    (void)state;
    make_tars();
    put_text("m/tars.manifest", "[{\"prefix\": \"s3://test/tars/\"}, \"b/1.tar\", \"a/0.tar\"]");
    open_index(&index, "s3://test/m/tars.manifest");
    assert_string_equal(index.root, "s3://test/tars");
    assert_int_equal(index.files, 2);
    assert_string_equal(index.file_names[0], "a/0.tar");
    assert_string_equal(index.samples[4].key, "b/1.tar/0.jpg");
    assert_int_equal(index.count, 8);
    data_index_release(&index);
}

static void shards_are_those_of_their_index(void **state)
{
    const struct data_pack_options options = {
        .source = tree_path("all"), .target = tree_path("packed"), .shard_bytes = 10000};
    struct data_index index = {0}, shards = {0};
    struct err err = {0};

    (void)state;
    make_classes();
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
    store_put_tree(store, tree_path("packed"), "shards");
    open_index(&shards, store_uri("shards"));
    assert_int_equal(shards.files, 3);
    put_text("m/shards.manifest", "[{\"prefix\": \"s3://test/shards/shard-00000\"}, \"0.tar\", "
                                  "\"1.tar\", \"2.tar\", \"0.idx\"]");
    (void)data_index_open(&index, "s3://test/m/shards.manifest", NULL, 0, NULL, &err);
    assert_non_null(strstr(err.msg, "shards of 'convoy pack'")); /* index.json is not named */
    put_text("m/shards.manifest", "[{\"prefix\": \"s3://test/shards/\"}, \"shard-000000.tar\", "
                                  "\"shard-000001.tar\", \"shard-000002.tar\", \"index.json\"]");
    open_index(&index, "s3://test/m/shards.manifest");
    assert_same(&index, &shards);
    data_index_release(&index);
    data_index_release(&shards);
    refused("[{\"prefix\": \"s3://test/shards/\"}, \"shard-000000.tar\", \"shard-000002.tar\", "
            "\"index.json\"]",
            "does not name 's3://test/shards/shard-000001.tar'");
}

static void augmented_one_brings_its_labels(void **state)
{
    struct data_index index = {0};

    (void)state;
    make_classes();
    put_text("m/x.jsonl",
             "{\"source-ref\": \"s3://test/data/dog/0.jpg\", \"kind\": 1, "
             "\"kind-metadata\": {\"class-name\": \"dog\"}}\r\n"
             "\n"
             "{\"source-ref\": \"s3://test/data/cat/3.jpg\", \"kind\": \"0\"}\n"
             "{\"kind\": 12, \"source-ref\": \"s3://test/data/dog-not-these/emu/2.jpg\"}");
    open_index(&index, "s3://test/m/x.jsonl");
    assert_int_equal(index.count, 3);
    assert_int_equal(index.classes, 13);
    assert_string_equal(index.class_names[1], "01");
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(index.samples[i].label, strstr(index.samples[i].key, "emu") != NULL ? 12
                                                 : index.samples[i].key[0] == 'd'            ? 1
                                                                                             : 0);
    data_index_release(&index);
}

#define PREFIX "{\"prefix\": \"s3://test/data/\"}"
#define DOG    "{\"source-ref\": \"s3://test/data/dog/0.jpg\""

static void what_is_wrong_is_said_with_its_entry(void **state)
{
    (void)state;
    make_classes();
    make_tars();
    refused("", "no manifest");
    refused("dog/0.jpg\n", "no manifest");
    refused("[", "not valid JSON");
    refused("[]", "entry 1: {\"prefix\"");
    refused("[" PREFIX "]", "names nothing");
    refused("[\"dog/0.jpg\"]", "entry 1: {\"prefix\"");
    refused("[{\"prefix\": \"/data/\"}, \"dog/0.jpg\"]", "entry 1, '/data/'");
    refused("[{\"prefix\": \"s3://\"}, \"dog/0.jpg\"]", "entry 1, 's3://'");
    refused("[" PREFIX ", \"dog/0.jpg\", 7]", "entry 3: no text");
    refused("[" PREFIX ", \"dog/0.jpg\", " PREFIX "]", "entry 3: no text");
    refused("[" PREFIX ", \"dog/\"]", "entry 2, 'data/dog/': a folder");
    refused("[" PREFIX ", \"/dog/0.jpg\"]", "entry 2, 'data//dog/0.jpg': a folder in it");
    refused("[" PREFIX ", \"dog/0.jpg\", \"cat/0.jpg\", \"dog/0.jpg\"]",
            "'s3://test/data/dog/0.jpg' twice: entries 2 and 4");
    refused("[" PREFIX ", \"dog/0.jpg\", \"cat/0.jpg\", \"cat/100.jpg\", \"cat/101.jpg\"]",
            "entry 4: there is no 's3://test/data/cat/100.jpg'");
    refused("[" PREFIX ", \"dog/0.jpg\", \"dog-not-these/emu/0.jpg\"]",
            "entry 3, 'dog-not-these/emu/0.jpg': a picture not directly in its class folder");
    refused("[{\"prefix\": \"s3://test/\"}, \"0.jpg\", \"1.jpg\"]",
            "entry 2, '0.jpg': a picture in no class folder");
    refused("[{\"prefix\": \"s3://test/\"}, \"tars/a/0.tar\", \"data/dog/0.jpg\"]",
            "names 1 pictures and 1 tars");
    refused("[" PREFIX ", \"notes.txt\"]", "names no pictures");
    refused(DOG "}", "line 1: no label");
    refused(DOG ", \"a\": 1, \"b\": 2}", "line 1, 'b': besides another attribute");
    refused(DOG ", \"a\": 1}\n" DOG ", \"b\": 1}", "line 2, 'a': no label");
    refused(DOG ", \"a\": [1, 2]}", "line 1, 'a': no label");
    refused(DOG ", \"a\": -1}", "line 1, 'a': no label");
    refused(DOG ", \"a\": 1}\n\n{\"a\": 1}", "line 3: no \"source-ref\"");
    refused(DOG ", \"a\": 1}\n{\"source-ref\": \"s3://other/x.jpg\", \"a\": 1}",
            "line 2, 's3://other/x.jpg': in another bucket");
    refused(DOG ", \"a\": 1}\n" DOG ", \"a\": 1}", "twice: lines 1 and 2");
    refused(DOG ", \"a\": 1}\nx", "line 2: line 1: not valid JSON");
}

static void path_that_is_a_folder_is_none(void **state)
{
    (void)state;
    tree_picture("d.manifest/cat/0.jpg", 1);
    assert_false(data_manifest_is(tree_path("d.manifest")));
    assert_true(data_manifest_is("s3://test/A.MANIFEST"));
    assert_true(data_manifest_is("x.jsonl"));
    assert_false(data_manifest_is(".json"));
    assert_false(data_manifest_is("s3://test/manifest"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(manifest_is_the_folder_of_what_it_names, tree_make,
                                        tree_remove),
        cmocka_unit_test_setup_teardown(one_class_is_found_by_its_folder, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(tars_may_lie_in_several_folders, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(shards_are_those_of_their_index, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(augmented_one_brings_its_labels, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(what_is_wrong_is_said_with_its_entry, tree_make,
                                        tree_remove),
        cmocka_unit_test_setup_teardown(path_that_is_a_folder_is_none, tree_make, tree_remove),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
