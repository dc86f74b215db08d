/* tests/data/test_sources.c -- lists, RecordIO and other people's tars: packed, and trained from as
 * they are. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "same.h"
#include "stranger.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/webdataset.h"
#include "tree.h"

#define PICTURES 60
#define CLASSES  12

static int label_of(int i)
{
    return i * 7 % CLASSES;
}

static void make_recordio(const char *name)
{
    struct buf file = {0}, picture = {0};

    for (int i = 0; i < PICTURES; i++) {
        const float label = (float)label_of(i);

        stranger_picture(&picture, i);
        stranger_image(&file, &label, 1, picture.data, picture.bytes);
    }
    tree_write(name, file.data, file.bytes);
    buf_release(&file);
    buf_release(&picture);
}

/* Every third of all in each of three tars. */
static void make_tars(const char *folder)
{
    for (int t = 0; t < 3; t++) {
        struct buf tar = {0}, picture = {0};
        char name[64], text[16];

        for (int i = t * PICTURES / 3; i < (t + 1) * PICTURES / 3; i++) {
            snprintf(text, sizeof text, "%d\n", label_of(i));
            snprintf(name, sizeof name, "all/%04d.cls", i);
            stranger_member(&tar, name, text, strlen(text));
            snprintf(name, sizeof name, "all/%04d.jpg", i);
            stranger_picture(&picture, i);
            stranger_member(&tar, name, picture.data, picture.bytes);
            snprintf(name, sizeof name, "all/%04d.json", i);
            stranger_member(&tar, name, "{}", 2);
        }
        stranger_end(&tar);
        snprintf(name, sizeof name, "%s/part-%d.tar", folder, t);
        tree_write(name, tar.data, tar.bytes);
        buf_release(&tar);
        buf_release(&picture);
    }
}

/* The pictures in the order in which they were made, each with its label. */
static void assert_pictures(const struct data_index *index)
{
    struct buf want = {0}, have = {0};

    assert_int_equal(index->count, PICTURES);
    assert_int_equal(index->classes, CLASSES);
    assert_string_equal(index->class_names[0], "00");
    assert_string_equal(index->class_names[11], "11");
    for (int i = 0; i < PICTURES; i++) {
        stranger_picture(&want, i);
        same_read(index, (size_t)i, &have);
        assert_int_equal(index->samples[i].label, label_of(i));
        assert_int_equal(have.bytes, want.bytes);
        assert_memory_equal(have.data, want.data, want.bytes);
    }
    buf_release(&want);
    buf_release(&have);
}

static void pack_of_recordio_keeps_pictures_labels_and_order(void **state)
{
    struct data_index shards;

    (void)state;
    make_recordio("in/train.rec");
    same_pack("in/train.rec", "shards", 0);
    same_open(&shards, "shards");
    assert_true(shards.files >= 3);
    assert_pictures(&shards);
    data_index_release(&shards);
}

static void pack_of_tars_keeps_pictures_labels_and_order(void **state)
{
    struct data_index tars, shards;

    (void)state;
    make_tars("in");
    same_pack("in", "shards", 0);
    same_open(&tars, "in");
    same_open(&shards, "shards");
    assert_pictures(&tars);
    assert_pictures(&shards);
    assert_memory_equal(tars.fingerprint, shards.fingerprint, DIGEST_SHA256_BYTES);
    assert_string_equal(tars.samples[21].key, "part-1.tar/all/0021.jpg");
    data_index_release(&tars);
    data_index_release(&shards);
}

/* A list of what is in a folder per class, labels as the folder gives them. */
static void make_list(void)
{
    struct buf list = {0};

    tree_class("pets", "cats", 30);
    tree_class("pets", "dogs", 11);
    for (int i = 0; i < 30; i++)
        buf_printf(&list, "%d\t0.000000\tcats/%d.jpg\n", i, i);
    for (int i = 0; i < 11; i++)
        buf_printf(&list, "%d\t1\tdogs/%d.jpg\r\n", i + 30, 10 - i);
    tree_write("lists/train.lst", list.data, list.bytes);
    buf_release(&list);
}

static void pack_of_a_list_has_the_samples_of_the_folder_in_their_order(void **state)
{
    struct data_index folder, shards;
    struct buf a = {0}, b = {0};

    (void)state;
    make_list();
    same_pack("lists/train.lst", "shards", 0);
    same_open(&folder, "pets");
    same_open(&shards, "shards");
    assert_int_equal(shards.count, folder.count);
    assert_string_equal(shards.class_names[1], "1");
    for (size_t i = 0; i < folder.count; i++) {
        assert_string_equal(shards.samples[i].key, folder.samples[i].key);
        assert_int_equal(shards.samples[i].label, folder.samples[i].label);
        same_read(&folder, i, &a);
        same_read(&shards, i, &b);
        assert_int_equal(a.bytes, b.bytes);
        assert_memory_equal(a.data, b.data, a.bytes);
    }
    buf_release(&a);
    buf_release(&b);
    data_index_release(&folder);
    data_index_release(&shards);
}

static void pack_writes_the_same_bytes_with_any_number_of_threads(void **state)
{
    static const int threads[] = {1, 2, 7, 64};
    char name[16];

    (void)state;
    make_list();
    make_recordio("in/train.rec");
    same_pack("pets", "pets-8", 8);
    same_pack("in/train.rec", "rec-8", 8);
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "pets-%d", threads[i]);
        same_pack("pets", name, threads[i]);
        same_folders("pets-8", name);
        snprintf(name, sizeof name, "rec-%d", threads[i]);
        same_pack("in/train.rec", name, threads[i]);
        same_folders("rec-8", name);
    }
}

static void classes_that_are_numbers_are_bound_by_value(void **state)
{
    struct data_index train, val;
    struct err err = {0};
    struct buf tar = {0};

    (void)state;
    make_tars("in");
    same_open(&train, "in");
    stranger_member(&tar, "a.jpg", "picture", 7); /* one class, called "7" here and "07" there */
    stranger_member(&tar, "a.cls", "7", 1);
    stranger_end(&tar);
    tree_write("val/a.tar", tar.data, tar.bytes);
    assert_int_equal(
        data_index_open(&val, tree_path("val"), train.class_names, train.classes, NULL, &err), 0);
    assert_int_equal(val.samples[0].label, 7);
    assert_string_equal(val.class_names[7], "07");
    data_index_release(&val);
    assert_int_equal(data_index_open(&val, tree_path("val"), train.class_names, 5, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "not among the 5 classes"));
    data_index_release(&train);
    buf_release(&tar);
}

/* --- what is kept of a scan --- */

static void keep_below_the_tree(void)
{
    char folder[512];

    strcpy(folder, tree_path("cache"));
    data_webdataset_keep(folder);
}

/* Change a label in what is kept, its CRC made right: whoever uses it shows that label. 8 bytes of
 * magic, 32 of identity, 32 of an index file's head; a record's label is its bytes 12 to 15. */
static int relabel_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    struct buf file = {0};
    uint32_t crc;

    (void)info, (void)place;
    if (kind != FTW_F)
        return 0;
    assert_int_equal(file_read(path, 1 << 20, &file, NULL), 0);
    file.data[40 + 32 + 12] = CLASSES - 1;
    crc = digest_crc32c(0, file.data + 40, file.bytes - 44);
    for (int i = 0; i < 4; i++)
        file.data[file.bytes - 4 + i] = (unsigned char)(crc >> (8 * i));
    assert_int_equal(file_replace(path, file.data, file.bytes, NULL), 0);
    buf_release(&file);
    return 0;
}

static void tars_are_scanned_once_and_again_when_they_change(void **state)
{
    struct data_index first, second;
    struct buf tar = {0};

    (void)state;
    keep_below_the_tree();
    make_tars("in");
    same_open(&first, "in");
    assert_int_equal(first.samples[0].label, 0);
    assert_int_equal(tree_count("cache/index"), 3);
    assert_int_equal(nftw(tree_path("cache"), relabel_one, 8, FTW_PHYS),
                     0); /* kept, and otherwise */
    same_open(&second, "in");
    assert_int_equal(second.samples[0].label, CLASSES - 1); /* as what is kept says now */
    data_index_release(&second);
    assert_int_equal(file_read(tree_path("in/part-1.tar"), 1 << 20, &tar, NULL), 0);
    tar.data[0] ^= 1; /* the name in a header: by its sum it is none any more */
    for (int longer = 0; longer < 2; longer++) { /* another time; and another length */
        struct err err = {0};

        usleep(20000);
        if (longer)
            buf_append(&tar, "", 1);
        tree_write("in/part-1.tar", tar.data, tar.bytes);
        assert_int_equal(data_index_open(&second, tree_path("in"), NULL, 0, NULL, &err), -1);
        assert_non_null(strstr(err.msg, "part-1.tar' at byte 0"));
    }
    data_index_release(&first);
    buf_release(&tar);
    data_webdataset_keep(NULL);
}

static int damage_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    FILE *file;

    (void)place;
    if (kind != FTW_F)
        return 0;
    file = fopen(path, "r+b");
    fseek(file, info->st_size / 2, SEEK_SET);
    fputc('!', file);
    fclose(file);
    return 0;
}

static void what_is_kept_and_damaged_counts_for_nothing(void **state)
{
    struct data_index first, second;

    (void)state;
    keep_below_the_tree();
    make_tars("in");
    same_open(&first, "in");
    assert_int_equal(nftw(tree_path("cache"), damage_one, 8, FTW_PHYS), 0);
    same_open(&second, "in");
    assert_memory_equal(first.fingerprint, second.fingerprint, DIGEST_SHA256_BYTES);
    assert_pictures(&second);
    data_index_release(&first);
    data_index_release(&second);
    tree_write("file", "", 0); /* and where nothing can be kept it does not matter */
    data_webdataset_keep(tree_path("file/below"));
    same_open(&second, "in");
    data_index_release(&second);
    data_webdataset_keep(NULL);
}

/* Open a folder, and what was warned of meanwhile. */
static void opened_with(struct data_index *index, const char *name, struct buf *said)
{
    const int before = dup(STDERR_FILENO);
    const int file = open(tree_path("said"), O_RDWR | O_CREAT | O_TRUNC, 0666);

    assert_true(before >= 0 && file >= 0);
    fflush(stderr);
    dup2(file, STDERR_FILENO);
    same_open(index, name);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
    close(file);
    said->bytes = 0;
    assert_int_equal(file_read(tree_path("said"), 1 << 16, said, NULL), 0);
}

/* In /tmp anybody may make a folder of our name, and put there what we would believe. */
static void folder_that_others_may_write_to_is_not_believed(void **state)
{
    struct data_index index;
    struct buf said = {0};
    char name[64];

    (void)state;
    make_tars("in");
    snprintf(name, sizeof name, "tmp/convoy-%u", (unsigned)geteuid());
    assert_int_equal(file_make_folder(tree_path(name), NULL), 0);
    assert_int_equal(chmod(tree_path(name), 0777), 0);
    setenv("TMPDIR", tree_path("tmp"), 1);
    opened_with(&index, "in", &said);
    assert_pictures(&index);
    data_index_release(&index);
    assert_non_null(strstr(buf_text(&said), "is not this user's folder"));
    assert_int_equal(tree_count(name), 0);
    assert_int_equal(chmod(tree_path(name), 0700), 0);
    opened_with(&index, "in", &said);
    data_index_release(&index);
    assert_null(strstr(buf_text(&said), "not kept"));
    assert_true(tree_count(name) >= 3);
    unsetenv("TMPDIR");
    buf_release(&said);
}

static char kept_name[512];

static int note_name(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info, (void)place;
    if (kind == FTW_F)
        snprintf(kept_name, sizeof kept_name, "%s", path);
    return 0;
}

/* What is in the way is a folder with something in it, which no file can replace. */
static void what_cannot_be_kept_is_warned_of_and_read_each_time(void **state)
{
    struct data_index index;
    struct buf said = {0};
    char below[sizeof kept_name + 8];

    (void)state;
    keep_below_the_tree();
    make_tars("in");
    opened_with(&index, "in", &said);
    data_index_release(&index);
    assert_int_equal(nftw(tree_path("cache"), note_name, 8, FTW_PHYS), 0);
    assert_int_equal(unlink(kept_name), 0);
    snprintf(below, sizeof below, "%s/below", kept_name);
    assert_int_equal(file_make_folder(below, NULL), 0);
    for (int i = 0; i < 2; i++) {
        opened_with(&index, "in", &said);
        assert_pictures(&index);
        data_index_release(&index);
        assert_non_null(strstr(buf_text(&said), "is not kept for the next time"));
    }
    data_webdataset_keep(NULL);
    buf_release(&said);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(pack_of_recordio_keeps_pictures_labels_and_order),
        CASE(pack_of_tars_keeps_pictures_labels_and_order),
        CASE(pack_of_a_list_has_the_samples_of_the_folder_in_their_order),
        CASE(pack_writes_the_same_bytes_with_any_number_of_threads),
        CASE(classes_that_are_numbers_are_bound_by_value),
        CASE(tars_are_scanned_once_and_again_when_they_change),
        CASE(what_is_kept_and_damaged_counts_for_nothing),
        CASE(folder_that_others_may_write_to_is_not_believed),
        CASE(what_cannot_be_kept_is_warned_of_and_read_each_time),
    };

    log_init("", true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
