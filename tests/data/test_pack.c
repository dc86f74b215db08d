/* tests/data/test_pack.c -- a folder per class to shards: the same samples, the same bytes, and
 * nothing left of a failure. */
#include "trainer/data/index/split.h"
#include "trainer/data/pack/pack.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/set/open.h"
#include "tree.h"

static int pack_with(const char *source, const char *target, bool stop_at_bad, struct err *err)
{
    char source_path[512], target_path[512];
    const struct data_pack_options options = {.source = source_path,
                                              .target = target_path,
                                              .shard_bytes = 16384,
                                              .stop_at_bad = stop_at_bad};

    strcpy(source_path, tree_path(source));
    strcpy(target_path, tree_path(target));
    return data_pack(&options, err);
}

static int pack(const char *source, const char *target, struct err *err)
{
    return pack_with(source, target, true, err);
}

static void packed(const char *source, const char *target)
{
    struct err err = {0};

    if (pack(source, target, &err) < 0)
        fail_msg("%s", err.msg);
}

static struct data_index opened(const char *name, const struct data_index *train)
{
    struct data_index index = {0};
    struct err err = {0};

    if (data_index_open(&index, tree_path(name), train != NULL ? train->class_names : NULL,
                        train != NULL ? train->classes : 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    return index;
}

static void make_pets(void)
{
    tree_class("pets", "cats", 40);
    tree_class("pets", "dogs", 11);
    tree_picture("pets/dogs/drawn.png", 600);
    tree_picture("pets/dogs/really a png.jpg", 0);
    tree_write("pets/dogs/really a png.jpg", "\x89PNG\r\n\x1a\n...", 11);
}

/* A sample's bytes through its index. */
static void read_sample(const struct data_index *index, size_t i, struct buf *out)
{
    char *path = data_index_path(index, i);
    FILE *file = fopen(path, "rb");

    assert_non_null(file);
    assert_int_equal(buf_reserve(out, index->samples[i].bytes, NULL), 0);
    assert_int_equal(fseek(file, (long)index->samples[i].offset, SEEK_SET), 0);
    assert_int_equal(fread(out->data, 1, index->samples[i].bytes, file), index->samples[i].bytes);
    out->bytes = index->samples[i].bytes;
    fclose(file);
    free(path);
}

static void assert_same_samples(const struct data_index *folder, const struct data_index *shards)
{
    struct buf a = {0}, b = {0};

    assert_false(folder->sharded);
    assert_true(shards->sharded);
    assert_int_equal(folder->count, shards->count);
    assert_int_equal(folder->classes, shards->classes);
    assert_int_equal(folder->bytes, shards->bytes);
    assert_memory_equal(folder->fingerprint, shards->fingerprint, DIGEST_SHA256_BYTES);
    assert_int_equal(data_index_chunk_samples(folder), data_index_chunk_samples(shards));
    for (size_t i = 0; i < folder->count; i++) {
        assert_string_equal(folder->samples[i].key, shards->samples[i].key);
        assert_int_equal(folder->samples[i].label, shards->samples[i].label);
        a.bytes = b.bytes = 0;
        read_sample(folder, i, &a);
        read_sample(shards, i, &b);
        assert_int_equal(a.bytes, b.bytes);
        assert_memory_equal(a.data, b.data, a.bytes);
        assert_int_equal(shards->samples[i].crc32c, digest_crc32c(0, b.data, b.bytes));
    }
    buf_release(&a);
    buf_release(&b);
}

static void pack_keeps_every_sample_in_its_place(void **state)
{
    struct data_index folder, shards;

    (void)state;
    make_pets();
    packed("pets", "shards");
    folder = opened("pets", NULL);
    shards = opened("shards", NULL);
    assert_true(shards.files >= 3);
    assert_int_equal(tree_count("shards"), 2 * shards.files + 1);
    assert_same_samples(&folder, &shards);
    data_index_release(&folder);
    data_index_release(&shards);
}

static void pack_splits_alike_afterwards(void **state)
{
    struct data_index folder, shards, parts[4] = {{0}};
    struct err err = {0};

    (void)state;
    make_pets();
    packed("pets", "shards");
    folder = opened("pets", NULL);
    shards = opened("shards", NULL);
    assert_int_equal(data_index_split(&folder, 0.2, &parts[0], &parts[1], &err), 0);
    assert_int_equal(data_index_split(&shards, 0.2, &parts[2], &parts[3], &err), 0);
    assert_same_samples(&parts[0], &parts[2]);
    assert_same_samples(&parts[1], &parts[3]);
    for (size_t i = 0; i < 4; i++)
        data_index_release(&parts[i]);
}

static void pack_writes_the_same_bytes_again(void **state)
{
    struct data_index shards;

    (void)state;
    make_pets();
    packed("pets", "one");
    packed("pets", "two");
    shards = opened("one", NULL);
    for (size_t i = 0; i < 2 * shards.files + 1; i++) {
        struct buf a = {0}, b = {0};
        char one[64], two[64];
        const char *extension = i % 2 == 0 ? "tar" : "idx";

        snprintf(one, sizeof one, i == 2 * shards.files ? "one/index.json" : "one/shard-%06zu.%s",
                 i / 2, extension);
        snprintf(two, sizeof two, "two%s", one + 3);
        assert_int_equal(file_read(tree_path(one), 1 << 20, &a, NULL), 0);
        assert_int_equal(file_read(tree_path(two), 1 << 20, &b, NULL), 0);
        assert_int_equal(a.bytes, b.bytes);
        assert_memory_equal(a.data, b.data, a.bytes);
        buf_release(&a);
        buf_release(&b);
    }
    data_index_release(&shards);
}

/* What a stranger's tar reader sees in one shard, whose first sample is *next: pairs of a picture
 * and its class. */
static void read_tar(const struct data_index *shards, size_t file, size_t *next)
{
    struct archive *tar = archive_read_new();
    struct archive_entry *entry;
    char name[64], content[64];

    snprintf(name, sizeof name, "shards/%s", shards->file_names[file]);
    assert_int_equal(archive_read_support_format_tar(tar), ARCHIVE_OK);
    assert_int_equal(archive_read_open_filename(tar, tree_path(name), 10240), ARCHIVE_OK);
    for (size_t member = 0; archive_read_next_header(tar, &entry) == ARCHIVE_OK; member++) {
        const struct data_sample *sample = &shards->samples[*next];
        const bool png = strstr(sample->key, "png") != NULL;

        snprintf(name, sizeof name, "%012zu.%s", *next, member % 2 ? "cls" : png ? "png" : "jpg");
        assert_string_equal(archive_entry_pathname(entry), name);
        assert_int_equal(archive_entry_mtime(entry), 0);
        assert_int_equal(archive_entry_uid(entry), 0);
        assert_int_equal(archive_entry_gid(entry), 0);
        assert_int_equal(archive_entry_perm(entry), 0644);
        assert_int_equal(sample->file, file);
        if (member % 2 == 0) {
            assert_int_equal(archive_entry_size(entry), sample->bytes);
            continue;
        }
        content[archive_read_data(tar, content, sizeof content - 1)] = '\0';
        assert_int_equal(atoi(content), sample->label);
        ++*next;
    }
    archive_read_free(tar);
}

static void pack_writes_tars_that_others_can_read(void **state)
{
    struct data_index shards;
    size_t next = 0;

    (void)state;
    make_pets();
    packed("pets", "shards");
    shards = opened("shards", NULL);
    for (size_t file = 0; file < shards.files; file++)
        read_tar(&shards, file, &next);
    assert_int_equal(next, shards.count);
    data_index_release(&shards);
}

static void pack_takes_a_root_with_its_splits(void **state)
{
    struct data_index train[2], val[2];

    (void)state;
    tree_class("root/train", "cats", 5);
    tree_class("root/train", "dogs", 5);
    tree_class("root/valid", "dogs", 3); /* one class, labelled as in train */
    tree_class("root/test", "cats", 2);
    packed("root", "packed");
    train[0] = opened("root/train", NULL);
    train[1] = opened("packed/train", NULL);
    assert_same_samples(&train[0], &train[1]);
    val[0] = opened("root/valid", &train[0]);
    val[1] = opened("packed/valid", &train[1]);
    assert_same_samples(&val[0], &val[1]);
    assert_true(file_exists(tree_path("packed/test/index.json")));
    for (size_t i = 0; i < 2; i++) {
        data_index_release(&train[i]);
        data_index_release(&val[i]);
    }
}

/* Packing must fail and leave `left` files and folders in the target (none: not even the target).
 */
static void assert_fails(const char *source, const char *target, enum err_code code,
                         const char *says, size_t left)
{
    struct err err = {0};

    assert_int_equal(pack(source, target, &err), -1);
    assert_int_equal(err.code, code);
    if (strstr(err.msg, says) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_int_equal(file_exists(tree_path(target)), left > 0);
    if (left > 0)
        assert_int_equal(tree_count(target), left);
}

static void pack_names_a_file_that_is_no_picture_and_removes_what_it_wrote(void **state)
{
    struct data_index index;
    char name[256], says[300];

    (void)state;
    make_pets();
    index = opened("pets", NULL);
    /* The last in index order: shards are finished by then. */
    snprintf(name, sizeof name, "pets/%s", index.samples[index.count - 1].key);
    snprintf(says, sizeof says, "%s' is no picture", name);
    data_index_release(&index);
    tree_write(name, "GIF89a..", 8);
    assert_fails("pets", "shards", ERR_INPUT, says, 0);
    tree_write("there/mine.txt", "x", 1);
    assert_fails("pets", "there", ERR_INPUT, says, 1);
}

static void pack_keeps_what_is_no_picture_and_leaves_out_what_is_empty(void **state)
{
    struct data_index folder, shards;
    struct err err = {0};

    (void)state;
    make_pets();
    tree_write("pets/cats/moving.jpg", "GIF89a..", 8);
    tree_write("pets/cats/page.PNG", "<html>404</html>", 16);
    tree_write("pets/dogs/nothing.jpg", "", 0);
    assert_int_equal(pack_with("pets", "shards", true, &err), -1);
    assert_non_null(strstr(err.msg, "nothing.jpg' is empty")); /* seen before cats are packed */
    if (pack_with("pets", "shards", false, &err) < 0)
        fail_msg("%s", err.msg);
    folder = opened("pets", NULL);
    shards = opened("shards", NULL);
    assert_same_samples(&folder, &shards);
    data_index_release(&folder);
    data_index_release(&shards);
}

static void pack_removes_every_split_when_a_later_one_fails(void **state)
{
    (void)state;
    tree_class("root/train", "cats", 5);
    tree_class("root/train", "dogs", 5);
    tree_class("root/val", "fish", 3);
    assert_fails("root", "packed", ERR_INPUT, "'fish'", 0);
}

static void pack_refuses_a_target_with_shards(void **state)
{
    size_t files;

    (void)state;
    make_pets();
    packed("pets", "shards");
    files = tree_count("shards");
    assert_fails("pets", "shards", ERR_INPUT, "holds shards already", files);
    unlink(tree_path("shards/index.json"));
    assert_fails("pets", "shards", ERR_INPUT, "holds shards already", files - 1);
    tree_class("root/train", "cats", 1);
    tree_class("root/train", "dogs", 1);
    tree_write("packed/train/shard-000000.tar", "x", 1);
    assert_fails("root", "packed", ERR_INPUT, "packed/train' holds shards already", 2);
}

static void pack_refuses_shards_as_source(void **state)
{
    (void)state;
    make_pets();
    packed("pets", "shards");
    assert_fails("shards", "again", ERR_INPUT, "holds shards already", 0);
}

static void pack_refuses_a_class_name_that_is_not_utf8(void **state)
{
    (void)state;
    make_pets();
    tree_class("pets", "caf\xe9", 1);
    assert_fails("pets", "shards", ERR_INPUT, "not UTF-8", 0);
}

static void pack_stops_when_cancelled_and_removes_what_it_wrote(void **state)
{
    const volatile sig_atomic_t cancel = 1;
    char source[512], target[512];
    const struct data_pack_options options = {.source = source,
                                              .target = target,
                                              .shard_bytes = DATA_PACK_SHARD_BYTES,
                                              .cancel = &cancel};
    struct err err = {0};

    (void)state;
    make_pets();
    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("shards"));
    assert_int_equal(data_pack(&options, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_false(file_exists(target));
}

static void pack_says_so_when_the_target_cannot_be_made(void **state)
{
    struct err err = {0};

    (void)state;
    make_pets();
    tree_write("file", "x", 1);
    assert_int_equal(pack("pets", "file/shards", &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "file"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(pack_keeps_every_sample_in_its_place),
        CASE(pack_splits_alike_afterwards),
        CASE(pack_writes_the_same_bytes_again),
        CASE(pack_writes_tars_that_others_can_read),
        CASE(pack_takes_a_root_with_its_splits),
        CASE(pack_names_a_file_that_is_no_picture_and_removes_what_it_wrote),
        CASE(pack_keeps_what_is_no_picture_and_leaves_out_what_is_empty),
        CASE(pack_removes_every_split_when_a_later_one_fails),
        CASE(pack_refuses_a_target_with_shards),
        CASE(pack_refuses_shards_as_source),
        CASE(pack_refuses_a_class_name_that_is_not_utf8),
        CASE(pack_stops_when_cancelled_and_removes_what_it_wrote),
        CASE(pack_says_so_when_the_target_cannot_be_made),
    };

    log_init("", true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
