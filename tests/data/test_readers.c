/* tests/data/test_readers.c -- RecordIO, tars, lists and labels of other people: read as they are,
 * and refused by name and place where they are damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/err.h"
#include "base/log.h"
#include "stranger.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/foreign/member.h"
#include "trainer/data/foreign/recordio.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/set/list_file.h"
#include "trainer/data/set/webdataset.h"
#include "tree.h"

#define PICTURES 12

static void recordio_joins_what_was_cut_at_its_magic(void **state)
{
    struct buf file = {0}, picture = {0}, record = {0};
    struct data_bytes bytes, again;
    struct data_record looked;
    uint64_t at = 0, look_at = 0;

    (void)state;
    for (int i = 0; i < PICTURES; i++) {
        stranger_picture(&picture, i);
        stranger_record(&file, picture.data, picture.bytes);
    }
    data_bytes_open_memory(&bytes, file.data, file.bytes, "memory");
    data_bytes_open_memory(&again, file.data, file.bytes, "memory");
    for (int i = 0; i < PICTURES; i++) {
        stranger_picture(&picture, i);
        assert_int_equal(data_record_next(&bytes, &at, &record, NULL), 1);
        assert_int_equal(record.bytes, picture.bytes);
        assert_memory_equal(record.data, picture.data, picture.bytes);
        assert_int_equal(data_record_look(&again, &look_at, &looked, NULL), 1);
        assert_int_equal(looked.bytes, picture.bytes);
        assert_int_equal(look_at, at);
        record.bytes = 0; /* and joined in place */
        buf_append(&record, file.data + looked.at, looked.raw_bytes);
        assert_int_equal(data_record_join(record.data, record.bytes), picture.bytes);
        assert_memory_equal(record.data, picture.data, picture.bytes);
    }
    assert_int_equal(data_record_next(&bytes, &at, &record, NULL), 0);
    assert_int_equal(data_record_look(&again, &look_at, &looked, NULL), 0);
    data_bytes_close(&bytes);
    data_bytes_close(&again);
    buf_release(&file);
    buf_release(&picture);
    buf_release(&record);
}

/* Two records of one part each, of 10 and 3 bytes: 20 and 12 in the file. */
static void recordio_says_where_it_is_damaged(void **state)
{
    static const struct {
        size_t at;
        unsigned char byte;
        size_t bytes; /* kept of it */
        const char *says;
    } cases[] = {
        {0, 0x0b, 32, "byte 0: no record"}, {20, 0, 32, "byte 20: no record"},
        {4, 11 + 90, 32, "ends"},         /* longer than the file */
        {7, 0x20, 32, "byte 20: a part"}, /* a first part, and no last */
        {7, 0x60, 32, "byte 0: a part"},  /* a last part first */
        {7, 0x80, 32, "byte 0: no record"}, {0, 0x0a, 31, "ends"},
        {0, 0x0a, 24, "ends within"},       {0, 0x0a, 21, "ends within"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf file = {0}, record = {0};
        struct data_bytes bytes;
        struct data_record looked;
        struct err err = {0}, look_err = {0};
        uint64_t at = 0;
        int rc;

        stranger_record(&file, "0123456789", 10);
        stranger_record(&file, "abc", 3);
        file.data[cases[i].at] = cases[i].byte;
        data_bytes_open_memory(&bytes, file.data, cases[i].bytes, "x.rec");
        while ((rc = data_record_next(&bytes, &at, &record, &err)) == 1)
            ;
        assert_int_equal(rc, -1);
        at = 0;
        while ((rc = data_record_look(&bytes, &at, &looked, &look_err)) == 1)
            ;
        assert_int_equal(rc, -1);
        if (strstr(err.msg, cases[i].says) == NULL || strstr(err.msg, "'x.rec'") == NULL ||
            strstr(look_err.msg, cases[i].says) == NULL)
            fail_msg("case %zu: '%s', '%s'", i, err.msg, look_err.msg);
        data_bytes_close(&bytes);
        buf_release(&file);
        buf_release(&record);
    }
}

static const char *image_label(const float *labels, uint32_t count, size_t picture_bytes,
                               int32_t *label)
{
    struct buf file = {0}, record = {0};
    struct data_bytes bytes;
    uint64_t at = 0;
    size_t picture = 0;
    const char *why;

    stranger_image(&file, labels, count, "\xff\xd8\xff\xe0", picture_bytes);
    data_bytes_open_memory(&bytes, file.data, file.bytes, "x.rec");
    assert_int_equal(data_record_next(&bytes, &at, &record, NULL), 1);
    why = data_record_image(record.data, record.bytes, record.bytes, label, &picture);
    data_bytes_close(&bytes);
    buf_release(&file);
    buf_release(&record);
    return why;
}

static void recordio_takes_one_whole_label_for_a_picture(void **state)
{
    const float good[] = {0, 7, 999999}, bad[] = {-1, 0.5f, 1e6f, 0.0f / 0.0f, 1e30f},
                several[2] = {1, 2};
    int32_t label = -1;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_null(image_label(&good[i], 1, 4, &label));
        assert_int_equal(label, (int)good[i]);
    }
    for (size_t i = 0; i < 5; i++)
        assert_non_null(strstr(image_label(&bad[i], 1, 4, &label), "whole number"));
    assert_non_null(strstr(image_label(several, 2, 4, &label), "several labels"));
    assert_non_null(strstr(image_label(good, 1, 0, &label), "without a picture"));
}

static void labels_are_whole_numbers(void **state)
{
    static const char *const good[] = {"7", "7\n", " 7 ", "7.0", "7.000000\r\n", "007"},
                             *const bad[] = {"",    " ",       "-7",  "7.5", "seven",
                                             "7 8", "1000000", "0x7", "7e0", "\"7\""};
    int32_t label;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        label = -1;
        assert_true(data_number_read(good[i], strlen(good[i]), &label));
        assert_int_equal(label, 7);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(data_number_read(bad[i], strlen(bad[i]), &label));
}

/* A tar of libarchive's in one of its formats; a name of 300 bytes among the members. */
static void write_tar(const char *path, int (*set_format)(struct archive *), const char *long_name)
{
    struct archive *tar = archive_write_new();
    const char *const names[] = {"./a.b/first.jpg", long_name, "folder/", "last.cls"};

    assert_int_equal(set_format(tar), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(tar, path), ARCHIVE_OK);
    for (size_t i = 0; i < 4; i++) {
        struct archive_entry *entry = archive_entry_new();

        archive_entry_set_pathname(entry, names[i]);
        archive_entry_set_filetype(entry, i == 2 ? AE_IFDIR : AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_mtime(entry, 1700000000, 123456789);
        archive_entry_set_size(entry, i == 2 ? 0 : (la_int64_t)(5 + i));
        assert_int_equal(archive_write_header(tar, entry), ARCHIVE_OK);
        if (i != 2)
            assert_int_equal(archive_write_data(tar, "0123456789", 5 + i), 5 + i);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(tar), ARCHIVE_OK);
    archive_write_free(tar);
}

static void members_are_read_in_every_format_of_tar(void **state)
{
    int (*const formats[])(struct archive *) = {archive_write_set_format_pax,
                                                archive_write_set_format_pax_restricted,
                                                archive_write_set_format_gnutar};
    char long_name[301];

    (void)state;
    memset(long_name, 'n', 300);
    memcpy(long_name + 296, ".jpg", 5);
    tree_write("tars/none", "", 0);
    for (size_t f = 0; f < 3; f++) {
        const char *const want[] = {"./a.b/first.jpg", long_name, "folder/", "last.cls"};
        struct data_bytes bytes;
        struct data_member member;
        struct err err = {0};
        char content[16];
        uint64_t at = 0;

        write_tar(tree_path("tars/x.tar"), formats[f], long_name);
        assert_int_equal(data_bytes_open(&bytes, tree_path("tars/x.tar"), NULL, NULL), 0);
        for (size_t i = 0; i < 4; i++) {
            if (data_member_next(&bytes, &at, false, &member, &err) != 1)
                fail_msg("format %zu, member %zu: '%s'", f, i, err.msg);
            assert_string_equal(member.name, want[i]);
            assert_int_equal(member.file, i != 2);
            assert_int_equal(member.bytes, i == 2 ? 0 : 5 + i);
            assert_int_equal(data_bytes_need(&bytes, member.offset, content, member.bytes, NULL),
                             0);
            assert_memory_equal(content, "0123456789", member.bytes);
        }
        assert_int_equal(data_member_next(&bytes, &at, false, &member, NULL), 0);
        data_bytes_close(&bytes);
    }
}

/* Walk over a tar; the error's line, or "" where it is right. */
static const char *walk(const struct buf *tar, size_t keep, size_t *samples)
{
    static struct err err;
    struct data_bytes bytes;
    struct data_webdataset set = {.bytes = &bytes};
    int rc;

    err = (struct err){0};
    data_bytes_open_memory(&bytes, tar->data, keep, "x.tar");
    for (*samples = 0; (rc = data_webdataset_next(&set, NULL, &err)) == 1;)
        ++*samples;
    data_bytes_close(&bytes);
    return rc < 0 ? err.msg : "";
}

static void webdataset_finds_pictures_and_classes_in_either_order(void **state)
{
    struct buf tar = {0};
    size_t samples;

    (void)state;
    stranger_member(&tar, "a/1.cls", "3\n", 2);
    stranger_member(&tar, "a/1.json", "{}", 2);
    stranger_member(&tar, "a/1.jpg", "picture", 7);
    stranger_member(&tar, "a/2.left.jpg", "another", 7); /* no picture of the key: .left.jpg */
    stranger_member(&tar, "a/._2.jpg", "of some file system", 19);
    stranger_member(&tar, "a/2.JPEG", "picture", 7);
    stranger_member(&tar, "a/2.cls", "0", 1);
    stranger_member(&tar, "README", "x", 1);
    stranger_end(&tar);
    assert_string_equal(walk(&tar, tar.bytes, &samples), "");
    assert_int_equal(samples, 2);
    buf_release(&tar);
}

static void webdataset_refuses_what_is_not_whole(void **state)
{
    static const struct {
        const char *names[4];
        const char *says;
    } cases[] = {
        {{"1.jpg", "2.jpg", "2.cls"}, "byte 0: the sample '1' has no class"},
        {{"1.cls", "1.jpg", "2.cls"}, "byte 2048: the sample '2' has no picture"},
        {{"1.jpg", "1.png", "1.cls"}, "byte 1024: the sample '1' has two pictures"},
        {{"1.jpg", "bad/1.cls"}, "has no class"},
    };
    struct buf tar = {0};
    size_t samples;

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        tar.bytes = 0;
        for (size_t i = 0; i < 4 && cases[c].names[i] != NULL; i++)
            stranger_member(&tar, cases[c].names[i], "1", 1);
        stranger_end(&tar);
        if (strstr(walk(&tar, tar.bytes, &samples), cases[c].says) == NULL)
            fail_msg("case %zu: '%s'", c, walk(&tar, tar.bytes, &samples));
    }
    tar.bytes = 0;
    stranger_member(&tar, "1.jpg", "1", 1);
    stranger_member(&tar, "1.cls", "cat", 3);
    stranger_end(&tar);
    assert_non_null(strstr(walk(&tar, tar.bytes, &samples), "byte 1536: the class of '1'"));
    buf_release(&tar);
}

static void webdataset_knows_a_tar_that_was_cut_at_any_block(void **state)
{
    struct buf tar = {0};
    size_t samples;

    (void)state;
    stranger_member(&tar, "1.jpg", "picture", 7);
    stranger_member(&tar, "1.cls", "1", 1);
    stranger_end(&tar);
    for (size_t keep = 0; keep < tar.bytes - 512; keep += 256)
        if (walk(&tar, keep, &samples)[0] == '\0')
            fail_msg("%zu of %zu bytes pass for a tar", keep, tar.bytes);
    assert_string_equal(walk(&tar, tar.bytes - 512, &samples), ""); /* one zero block is enough */
    tar.data[5] ^= 1;
    assert_non_null(strstr(walk(&tar, tar.bytes, &samples), "byte 0: this is no header"));
    buf_release(&tar);
}

static void list_file_says_which_line_is_wrong(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"0\t1\tcats/0.jpg\n1\t0 cats/1.jpg\n", "line 2: not 'INDEX<tab>"},
        {"0\t1\t2\tcats/0.jpg\n", "line 1: not one label"},
        {"\n0\tcat\tcats/0.jpg\n", "line 2: not one label"},
        {"0\t1.5\tcats/0.jpg\n", "line 1: not one label"},
        {"0\t1\t../cats/0.jpg\n", "leads out of the root"},
        {"0\t1\t/etc/passwd\n", "leads out of the root"},
        {"0\t1\tcats/9.jpg\n", "line 1: cannot read"},
        {"0\t1\tcats\n", "is no file"},
        {"0\t1\tcats/0.jpg\n1\t0\tcats/0.jpg", "'cats/0.jpg' twice"},
        {"", "names no pictures"},
    };

    (void)state;
    tree_class("pets", "cats", 3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct data_index index = {.root = strdup(tree_path("pets"))};
        struct err err = {0};

        tree_write("x.lst", cases[i].text, strlen(cases[i].text));
        assert_int_equal(data_list_read(&index, tree_path("x.lst"), NULL, &err), -1);
        if (strstr(err.msg, cases[i].says) == NULL || strstr(err.msg, "x.lst'") == NULL)
            fail_msg("case %zu: '%s'", i, err.msg);
        data_index_release(&index);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(recordio_joins_what_was_cut_at_its_magic),
        CASE(recordio_says_where_it_is_damaged),
        CASE(recordio_takes_one_whole_label_for_a_picture),
        CASE(labels_are_whole_numbers),
        CASE(members_are_read_in_every_format_of_tar),
        CASE(webdataset_finds_pictures_and_classes_in_either_order),
        CASE(webdataset_refuses_what_is_not_whole),
        CASE(webdataset_knows_a_tar_that_was_cut_at_any_block),
        CASE(list_file_says_which_line_is_wrong),
    };

    log_init("", true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
