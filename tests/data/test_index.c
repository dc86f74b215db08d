/* tests/data/test_index.c -- the index of a folder per class and of shards, and every way in which
 * they can be bad. */
#include "trainer/data/index/index.h"
#include "trainer/data/set/open.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/data/pack/pack.h"
#include "tree.h"

/* Opening must fail as bad input, and the line must say this. */
static void assert_refused(const char *name, const char *says)
{
    struct data_index index = {0};
    struct err err = {0};

    assert_int_equal(data_index_open(&index, tree_path(name), NULL, 0, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    if (strstr(err.msg, says) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_null(index.root);
    assert_null(index.samples);
}

/* "cats" and "dogs" as a folder, and packed in shards of about 16 kB. */
static void make_pets(void)
{
    tree_class("pets", "cats", 20);
    tree_class("pets", "dogs", 11);
}

static void make_shards(void)
{
    struct data_pack_options options = {.shard_bytes = 16384};
    char source[512], target[512];
    struct err err = {0};

    make_pets();
    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("shards"));
    options.source = source;
    options.target = target;
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
}

static void index_lists_a_folder_per_class_sorted_by_digest_of_keys(void **state)
{
    struct data_index index;
    unsigned char before[DIGEST_SHA256_BYTES] = {0}, digest[DIGEST_SHA256_BYTES];
    uint64_t bytes = 0;
    char *path;

    (void)state;
    make_pets();
    index = tree_index("pets");
    assert_int_equal(index.count, 31);
    assert_int_equal(index.classes, 2);
    assert_string_equal(index.class_names[0], "cats");
    assert_string_equal(index.class_names[1], "dogs");
    for (size_t i = 0; i < index.count; i++) {
        digest_sha256(index.samples[i].key, strlen(index.samples[i].key), digest);
        assert_true(memcmp(before, digest, sizeof digest) < 0);
        memcpy(before, digest, sizeof digest);
        assert_int_equal(index.samples[i].label, strncmp(index.samples[i].key, "dogs/", 5) == 0);
        bytes += index.samples[i].bytes;
    }
    assert_int_equal(index.bytes, bytes);
    path = data_index_path(&index, 3);
    assert_true(file_exists(path));
    assert_non_null(strstr(path, index.samples[3].key));
    free(path);
    data_index_release(&index);
}

static void index_sorts_classes_bytewise(void **state)
{
    static const char *const sorted[] = {"10", "9", "Z", "a", "a b", "a-b", "ab", "b", "\xc3\xa4"};
    struct data_index index;

    (void)state;
    for (size_t i = 0; i < 9; i++)
        tree_class("classes", sorted[i * 4 % 9], 1);
    index = tree_index("classes");
    assert_int_equal(index.classes, 9);
    for (size_t i = 0; i < 9; i++)
        assert_string_equal(index.class_names[i], sorted[i]);
    for (size_t i = 0; i < 9; i++)
        assert_memory_equal(index.samples[i].key, sorted[index.samples[i].label],
                            strlen(sorted[index.samples[i].label]));
    data_index_release(&index);
}

static void index_ignores_what_is_hidden_and_counts_what_is_no_picture(void **state)
{
    struct data_index index;

    (void)state;
    make_pets();
    tree_picture("pets/cats/.hidden.jpg", 0);
    tree_picture("pets/.git/a.jpg", 0);
    tree_write("pets/README.txt", "x", 1);
    tree_write("pets/cats/notes.txt", "x", 1);
    tree_write("pets/cats/jpg", "x", 1);
    tree_picture("pets/cats/sub/a.jpg", 0);
    tree_picture("pets/cats/folder.jpg/a.jpg", 0);
    tree_picture("pets/cats/UPPER.JPEG", 0);
    tree_picture("pets/dogs/drawn.png", 0);
    index = tree_index("pets");
    assert_int_equal(index.count, 33);
    assert_int_equal(index.ignored.count, 4);
    assert_string_equal(index.ignored.first, "cats/folder.jpg");
    assert_int_equal(index.empty.count, 0);
    data_index_release(&index);
}

static void index_leaves_empty_pictures_out_and_counts_them(void **state)
{
    struct data_index index;

    (void)state;
    make_pets();
    tree_write("pets/dogs/z.jpg", "", 0);
    tree_write("pets/cats/none.png", "", 0);
    tree_write("pets/cats/nothing.png", "", 0);
    tree_write("pets/cats/Thumbs.db", "", 0);
    index = tree_index("pets");
    assert_int_equal(index.count, 31);
    assert_int_equal(index.empty.count, 3);
    assert_string_equal(index.empty.first, "cats/none.png");
    assert_int_equal(index.ignored.count, 1);
    assert_string_equal(index.ignored.first, "cats/Thumbs.db");
    data_index_release(&index);
}

static void index_refuses_a_class_of_empty_pictures(void **state)
{
    (void)state;
    make_pets();
    tree_write("pets/birds/a.jpg", "", 0);
    assert_refused("pets", "pets/birds' holds no pictures");
}

static void index_follows_symbolic_links(void **state)
{
    struct data_index index;

    (void)state;
    make_pets();
    tree_class("elsewhere", "birds", 4);
    tree_picture("elsewhere/odd.jpg", 9);
    assert_int_equal(symlink(tree_path("elsewhere/birds"), tree_path("pets/birds")), 0);
    assert_int_equal(symlink(tree_path("elsewhere/odd.jpg"), tree_path("pets/cats/odd.jpg")), 0);
    index = tree_index("pets");
    assert_int_equal(index.count, 36);
    assert_int_equal(index.classes, 3);
    data_index_release(&index);
    assert_int_equal(symlink("nowhere", tree_path("pets/cats/broken.jpg")), 0);
    assert_refused("pets", "pets/cats/broken.jpg");
}

static void index_fingerprint_depends_on_keys_labels_and_sizes(void **state)
{
    struct data_index before, after;

    (void)state;
    make_pets();
    before = tree_index("pets");
    after = tree_index("pets");
    assert_memory_equal(before.fingerprint, after.fingerprint, DIGEST_SHA256_BYTES);
    data_index_release(&after);
    tree_picture("pets/dogs/3.jpg", 500);
    after = tree_index("pets");
    assert_int_equal(before.count, after.count);
    assert_memory_not_equal(before.fingerprint, after.fingerprint, DIGEST_SHA256_BYTES);
    data_index_release(&after);
    assert_int_equal(rename(tree_path("pets/dogs"), tree_path("pets/hounds")), 0);
    after = tree_index("pets");
    assert_memory_not_equal(before.fingerprint, after.fingerprint, DIGEST_SHA256_BYTES);
    data_index_release(&after);
    data_index_release(&before);
}

static void index_binds_labels_to_the_classes_of_another(void **state)
{
    struct data_index train, val = {0};
    struct err err = {0};

    (void)state;
    make_pets();
    tree_class("val", "dogs", 3);
    train = tree_index("pets");
    assert_int_equal(
        data_index_open(&val, tree_path("val"), train.class_names, train.classes, NULL, &err), 0);
    assert_int_equal(val.classes, 2);
    assert_string_equal(val.class_names[0], "cats");
    for (size_t i = 0; i < val.count; i++)
        assert_int_equal(val.samples[i].label, 1);
    data_index_release(&val);
    tree_class("val", "fish", 1);
    assert_int_equal(
        data_index_open(&val, tree_path("val"), train.class_names, train.classes, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "fish"));
    data_index_release(&train);
}

static void index_stops_when_cancelled(void **state)
{
    const volatile sig_atomic_t cancel = 1;
    struct data_index index = {0};
    struct err err = {0};

    (void)state;
    make_shards();
    assert_int_equal(data_index_open(&index, tree_path("pets"), NULL, 0, &cancel, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_int_equal(data_index_open(&index, tree_path("shards"), NULL, 0, &cancel, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
}

static void assert_same_index(const struct data_index *a, const struct data_index *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->classes, b->classes);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->files, b->files);
    assert_int_equal(a->sharded, b->sharded);
    assert_int_equal(a->ignored.count, b->ignored.count);
    assert_int_equal(a->empty.count, b->empty.count);
    assert_string_equal(a->root, b->root);
    assert_memory_equal(a->fingerprint, b->fingerprint, DIGEST_SHA256_BYTES);
    for (int i = 0; i < a->classes; i++)
        assert_string_equal(a->class_names[i], b->class_names[i]);
    for (size_t i = 0; i < a->files; i++)
        assert_string_equal(a->file_names[i], b->file_names[i]);
    for (size_t i = 0; i < a->count; i++) {
        const struct data_sample *x = &a->samples[i], *y = &b->samples[i];

        assert_string_equal(x->key, y->key);
        assert_int_equal(x->offset, y->offset);
        assert_int_equal(x->bytes, y->bytes);
        assert_int_equal(x->crc32c, y->crc32c);
        assert_int_equal(x->file, y->file);
        assert_int_equal(x->label, y->label);
    }
}

static void index_travels_encoded_and_refuses_any_shorter_text(void **state)
{
    static const char *const names[] = {"pets", "shards"};

    (void)state;
    make_shards();
    for (size_t n = 0; n < 2; n++) {
        struct data_index index = tree_index(names[n]), decoded = {0};
        struct buf buf = {0};
        struct err err = {0};

        data_index_encode(&index, &buf);
        assert_int_equal(data_index_decode(&decoded, buf.data, buf.bytes, &err), 0);
        assert_same_index(&index, &decoded);
        data_index_release(&decoded);
        for (size_t bytes = 0; bytes < buf.bytes; bytes++) {
            unsigned char *shorter =
                malloc(bytes + 1); /* exact, so that asan sees a read beyond it */

            memcpy(shorter, buf.data, bytes);
            shorter = realloc(shorter, bytes > 0 ? bytes : 1);
            assert_int_equal(data_index_decode(&decoded, shorter, bytes, &err), -1);
            assert_null(decoded.root);
            free(shorter);
        }
        buf_release(&buf);
        data_index_release(&index);
    }
}

static void index_chunks_hold_four_megabytes(void **state)
{
    static const struct {
        uint64_t bytes, count, chunk;
    } cases[] = {
        {150528000000, 1281167, 35},
        {50000, 50, 256},
        {80000000, 2, 1},
        {4194304, 2, 2},
        {4194305, 2, 1},
    };

    (void)state;
    for (size_t c = 0; c < 5; c++) {
        const struct data_index index = {.bytes = cases[c].bytes, .count = cases[c].count};

        assert_int_equal(data_index_chunk_samples(&index), cases[c].chunk);
    }
}

static void index_refuses_a_missing_folder(void **state)
{
    (void)state;
    assert_refused("nowhere", "nowhere");
}

static void index_refuses_a_file_for_a_folder(void **state)
{
    (void)state;
    tree_picture("file.jpg", 0);
    assert_refused("file.jpg", "file.jpg");
}

static void index_refuses_an_empty_folder(void **state)
{
    (void)state;
    tree_write("empty/.hidden", "x", 1);
    assert_refused("empty", "is empty");
}

static void index_refuses_a_class_without_pictures(void **state)
{
    (void)state;
    make_pets();
    tree_write("pets/lost+found/notes.txt", "x",
               1); /* stands in the root of every ext4 file system */
    tree_write("pets/zebras/notes.txt", "x", 1);
    assert_refused("pets", "pets/zebras' holds no pictures");
}

static void index_refuses_one_class_only(void **state)
{
    (void)state;
    tree_class("one", "cats", 5);
    assert_refused("one", "one class only ('cats')");
}

static void index_refuses_pictures_in_no_class_folder(void **state)
{
    (void)state;
    tree_picture("flat/a.jpg", 0);
    assert_refused("flat", "no class folder");
}

static void index_refuses_a_root_of_splits(void **state)
{
    (void)state;
    tree_class("root/train", "cats", 1);
    tree_class("root/val", "cats", 1);
    assert_refused("root", "'train'");
}

static void index_refuses_a_picture_larger_than_2_gib(void **state)
{
    (void)state;
    make_pets();
    tree_truncate("pets/cats/3.jpg", 1L << 31); /* sparse */
    assert_refused("pets", "pets/cats/3.jpg");
}

static void index_refuses_tar_files_that_are_none_and_shards_without_their_index(void **state)
{
    (void)state;
    tree_write("tars/a.tar", "x", 1);
    assert_refused("tars", "a.tar' at byte 0");
    make_shards();
    unlink(tree_path("shards/index.json"));
    assert_refused("shards", "convoy pack");
}

static void index_refuses_a_shard_cut_short(void **state)
{
    (void)state;
    make_shards();
    tree_truncate("shards/shard-000001.tar", 5000);
    assert_refused("shards", "shard-000001.tar' is cut short: has 5000 of ");
}

/* Opening a pipe waits for who writes into it: for ever. */
static void index_refuses_a_pipe_in_the_place_of_a_file(void **state)
{
    static const char *const names[] = {"shards/shard-000001.tar", "shards/shard-000001.idx",
                                        "shards/index.json"};

    (void)state;
    make_shards();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[512], aside[520];

        strcpy(path, tree_path(names[i]));
        snprintf(aside, sizeof aside, "%s.aside", path);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_refused("shards", strrchr(path, '/') + 1);
        assert_int_equal(rename(aside, path), 0);
    }
}

static void index_refuses_a_missing_shard(void **state)
{
    (void)state;
    make_shards();
    unlink(tree_path("shards/shard-000001.tar"));
    assert_refused("shards", "shard-000001.tar");
}

static void index_refuses_a_missing_index_file(void **state)
{
    (void)state;
    make_shards();
    unlink(tree_path("shards/shard-000000.idx"));
    assert_refused("shards", "shard-000000.idx");
}

/* Put bytes over what a file of the tree has at an offset (from its end if negative). */
static void overwrite(const char *name, long offset, const void *data, size_t bytes)
{
    FILE *file = fopen(tree_path(name), "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, offset, offset < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void index_refuses_an_index_file_with_a_flipped_byte(void **state)
{
    (void)state;
    make_shards();
    overwrite("shards/shard-000000.idx", 40, "\xee", 1);
    assert_refused("shards", "shard-000000.idx' is damaged: its CRC-32C");
}

static void index_refuses_an_index_file_of_any_shorter_length(void **state)
{
    struct buf buf = {0};

    (void)state;
    make_shards();
    assert_int_equal(file_read(tree_path("shards/shard-000000.idx"), 1 << 20, &buf, NULL), 0);
    while (buf.bytes > 0) {
        tree_truncate("shards/shard-000000.idx", (long)--buf.bytes);
        assert_refused("shards", "shard-000000.idx");
    }
    buf_release(&buf);
}

static void index_refuses_an_index_that_does_not_match_its_tar(void **state)
{
    static const struct {
        const char *name;
        long offset;
    } cases[] = {
        {"name of the first member", 5}, {"size of the first member", 130}, {"tar magic", 257}};

    (void)state;
    make_shards();
    for (size_t c = 0; c < 3; c++) {
        struct buf buf = {0};

        assert_int_equal(file_read(tree_path("shards/shard-000000.tar"), 1 << 20, &buf, NULL), 0);
        overwrite("shards/shard-000000.tar", cases[c].offset, "7", 1);
        assert_refused("shards", "shard-000000.tar': pack again");
        tree_write("shards/shard-000000.tar", buf.data, buf.bytes);
        buf_release(&buf);
    }
    overwrite("shards/shard-000000.tar", -1, "xx", 2); /* one byte more */
    assert_refused("shards", "does not match its tar");
}

static void index_refuses_shards_that_changed_places(void **state)
{
    static const char *const moves[][2] = {
        {"shard-000000", "tmp"}, {"shard-000001", "shard-000000"}, {"tmp", "shard-000001"}};
    char from[64], to[64];

    (void)state;
    make_shards();
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 2; j++) {
            snprintf(from, sizeof from, "shards/%s%s", moves[i][0], j == 0 ? ".tar" : ".idx");
            snprintf(to, sizeof to, "shards/%s%s", moves[i][1], j == 0 ? ".tar" : ".idx");
            assert_int_equal(rename(tree_path(from), tree_path(to)), 0);
        }
    assert_refused("shards", "does not match");
}

/* Write the top index with `from` replaced by `to`. */
static void edit_top(const char *from, const char *to)
{
    struct buf buf = {0}, edited = {0};
    char *found;

    assert_int_equal(file_read(tree_path("shards/index.json"), 1 << 20, &buf, NULL), 0);
    found = strstr(buf_text(&buf), from);
    assert_non_null(found);
    buf_append(&edited, buf.data, (size_t)(found - buf_text(&buf)));
    buf_printf(&edited, "%s%s", to, found + strlen(from));
    tree_write("shards/index.json", edited.data, edited.bytes);
    buf_release(&buf);
    buf_release(&edited);
}

static void index_refuses_a_top_index_that(void **state)
{
    static const struct {
        const char *name, *from, *to, *says;
    } cases[] = {
        {"is of another format", "convoy-shards", "other", "format is 'other'"},
        {"is of a later version", "\"version\": 1", "\"version\": 2", "version 2"},
        {"is of a later order", "\"order\": 1", "\"order\": 2", "order 2"},
        {"counts otherwise", "\"count\": 31", "\"count\": 30", "counts 30 samples"},
        {"sums up otherwise", "\"bytes\": ", "\"bytes\": 1", "counts 31 samples of 1"},
        {"lacks a member", "\"count\": 31", "\"counts\": 31", "'count'"},
        {"has another fingerprint", "\"fingerprint\": \"", "\"fingerprint\": \"0", "fingerprint"},
        {"has another class", "cats", "bats", "fingerprint"},
        {"has a class too few", "\"dogs\"", "\"dogs\", \"ants\"", "bytewise order"},
        {"leads out of the folder", "\"shard-000000.tar\"", "\"../shard-000000.tar\"",
         "no name of a shard"},
        {"has a shard of another count", "000.tar\",\n   \"count\": ",
         "000.tar\",\n   \"count\": 9", "does not match 'index.json'"},
        {"has a shard of other bytes", "\"tar_bytes\": ", "\"tar_bytes\": 1",
         "does not match 'index.json'"},
        {"is no JSON", "{", "", "index.json"},
    };
    struct buf buf = {0};

    (void)state;
    make_shards();
    assert_int_equal(file_read(tree_path("shards/index.json"), 1 << 20, &buf, NULL), 0);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        edit_top(cases[c].from, cases[c].to);
        assert_refused("shards", cases[c].says);
        tree_write("shards/index.json", buf.data, buf.bytes);
    }
    buf_release(&buf);
}

/* Read on demand the top index is believed: it has to be a fingerprint at least. */
static void index_refuses_a_fingerprint_that_is_no_hex(void **state)
{
    static const char *const wrong[] = {"-1", " 1", "+f", "0x", "g0", "AB"};
    struct buf top = {0};

    (void)state;
    make_shards();
    assert_int_equal(file_read(tree_path("shards/index.json"), 1 << 20, &top, NULL), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *const hex = strstr((char *)top.data, "\"fingerprint\": \"") + 16 + 20;
        char kept[2];
        struct data_index index = {0};
        struct err err = {0};

        memcpy(kept, hex, 2);
        memcpy(hex, wrong[i], 2);
        tree_write("shards/index.json", top.data, top.bytes);
        assert_int_equal(data_index_open_paged(&index, tree_path("shards"), 0, NULL, 0, NULL, &err),
                         -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_non_null(strstr(err.msg, "'fingerprint' is no SHA-256 in hex"));
        memcpy(hex, kept, 2);
    }
    buf_release(&top);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(index_lists_a_folder_per_class_sorted_by_digest_of_keys),
        CASE(index_sorts_classes_bytewise),
        CASE(index_ignores_what_is_hidden_and_counts_what_is_no_picture),
        CASE(index_follows_symbolic_links),
        CASE(index_fingerprint_depends_on_keys_labels_and_sizes),
        CASE(index_binds_labels_to_the_classes_of_another),
        CASE(index_stops_when_cancelled),
        CASE(index_travels_encoded_and_refuses_any_shorter_text),
        CASE(index_chunks_hold_four_megabytes),
        CASE(index_refuses_a_missing_folder),
        CASE(index_refuses_a_file_for_a_folder),
        CASE(index_refuses_an_empty_folder),
        CASE(index_leaves_empty_pictures_out_and_counts_them),
        CASE(index_refuses_a_class_of_empty_pictures),
        CASE(index_refuses_a_class_without_pictures),
        CASE(index_refuses_one_class_only),
        CASE(index_refuses_pictures_in_no_class_folder),
        CASE(index_refuses_a_root_of_splits),
        CASE(index_refuses_a_picture_larger_than_2_gib),
        CASE(index_refuses_tar_files_that_are_none_and_shards_without_their_index),
        CASE(index_refuses_a_shard_cut_short),
        CASE(index_refuses_a_pipe_in_the_place_of_a_file),
        CASE(index_refuses_a_missing_shard),
        CASE(index_refuses_a_missing_index_file),
        CASE(index_refuses_an_index_file_with_a_flipped_byte),
        CASE(index_refuses_an_index_file_of_any_shorter_length),
        CASE(index_refuses_an_index_that_does_not_match_its_tar),
        CASE(index_refuses_shards_that_changed_places),
        CASE(index_refuses_a_top_index_that),
        CASE(index_refuses_a_fingerprint_that_is_no_hex),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
