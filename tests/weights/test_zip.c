/* tests/weights/test_zip.c -- zips that must not be believed, and those of other programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/err.h"
#include "base/file.h"
#include "bed.h"
#include "trainer/weights/zip.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define DEFLATED     8

/* An entry as its headers tell of it. */
struct raw {
    const char *name;
    unsigned method, flags;
    const void *data;
    size_t bytes, size; /* in the file; declared */
    uint32_t crc;
    unsigned mode; /* of Unix; 0: a plain file */
};

struct raw_zip {
    struct buf file, directory;
    unsigned entries;
};

static void put(struct buf *out, uint64_t value, size_t bytes)
{
    buf_append(out, &value, bytes);
}

static void put_common(struct buf *out, const struct raw *raw)
{
    put(out, 20, 2);
    put(out, raw->flags, 2);
    put(out, raw->method, 2);
    put(out, 0x00210000, 4); /* 1980 */
    put(out, raw->crc, 4);
    put(out, raw->bytes, 4);
    put(out, raw->size, 4);
    put(out, strlen(raw->name), 2);
    put(out, 0, 2);
}

static void put_local(struct raw_zip *zip, const struct raw *raw)
{
    put(&zip->file, 0x04034b50, 4);
    put_common(&zip->file, raw);
    buf_append(&zip->file, raw->name, strlen(raw->name));
    buf_append(&zip->file, raw->data, raw->bytes);
}

static void put_listed(struct raw_zip *zip, const struct raw *raw, size_t at)
{
    put(&zip->directory, 0x02014b50, 4);
    put(&zip->directory, 0x0314, 2); /* made on Unix */
    put_common(&zip->directory, raw);
    put(&zip->directory, 0, 6);
    put(&zip->directory, (uint64_t)(raw->mode != 0 ? raw->mode : 0100644) << 16, 4);
    put(&zip->directory, at, 4);
    buf_append(&zip->directory, raw->name, strlen(raw->name));
    zip->entries++;
}

static void put_entry(struct raw_zip *zip, const struct raw *raw)
{
    const size_t at = zip->file.bytes;

    put_local(zip, raw);
    put_listed(zip, raw, at);
}

static struct raw stored(const char *name, const char *text)
{
    const size_t bytes = strlen(text);

    return (struct raw){.name = name,
                        .data = text,
                        .bytes = bytes,
                        .size = bytes,
                        .crc = (uint32_t)crc32_z(0, (const void *)text, bytes)};
}

static void put_stored(struct raw_zip *zip, const char *name, const char *text)
{
    const struct raw raw = stored(name, text);

    put_entry(zip, &raw);
}

static void end(struct raw_zip *zip)
{
    const size_t at = zip->file.bytes;

    buf_append(&zip->file, zip->directory.data, zip->directory.bytes);
    put(&zip->file, 0x06054b50, 4);
    put(&zip->file, 0, 4);
    put(&zip->file, zip->entries, 2);
    put(&zip->file, zip->entries, 2);
    put(&zip->file, zip->directory.bytes, 4);
    put(&zip->file, at, 4);
    put(&zip->file, 0, 2);
}

static void release(struct raw_zip *zip)
{
    buf_release(&zip->file);
    buf_release(&zip->directory);
    *zip = (struct raw_zip){0};
}

static void expect_refusal(const char *name, struct raw_zip *zip, const char *says)
{
    struct weights_zip got;
    struct err err = {0};

    end(zip);
    if (weights_zip_open(&got, zip->file.data, zip->file.bytes, "f.pth", &err) == 0)
        fail_msg("%s: was read", name);
    if (err.code != ERR_INPUT || strstr(err.msg, says) == NULL || strstr(err.msg, "f.pth") == NULL)
        fail_msg("%s: '%s' does not say '%s'", name, err.msg, says);
    if (got.entries != NULL)
        fail_msg("%s: left open", name);
    release(zip);
}

static void open_reads_entries_in_any_order_without_copying(void **state)
{
    struct raw_zip zip = {0};
    struct weights_zip got;
    struct err err = {0};

    (void)state;
    put_stored(&zip, "a/z", "last");
    put_stored(&zip, "a/data/", "");
    zip.entries--; /* as a folder, below */
    zip.directory.bytes -= 46 + 7;
    const struct raw folder = {.name = "a/data/", .mode = 040755};

    put_listed(&zip, &folder, 30 + 3 + 4);
    put_stored(&zip, "a/data/0", "first");
    put_stored(&zip, "a/empty", "");
    end(&zip);
    if (weights_zip_open(&got, zip.file.data, zip.file.bytes, "f.pth", &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(got.count, 3);
    assert_string_equal(got.entries[0].name, "data/0");
    assert_int_equal(weights_zip_find(&got, "data/0")->bytes, 5);
    assert_memory_equal(weights_zip_find(&got, "data/0")->data, "first", 5);
    assert_true(weights_zip_find(&got, "data/0")->data > zip.file.data &&
                weights_zip_find(&got, "data/0")->data < zip.file.data + zip.file.bytes);
    assert_int_equal(weights_zip_find(&got, "empty")->bytes, 0);
    assert_null(weights_zip_find(&got, "data"));
    weights_zip_close(&got);
    weights_zip_close(&got);
    release(&zip);
}

static void open_refuses_names_that_leave_the_folder(void **state)
{
    static const struct {
        const char *name, *says;
    } cases[] = {
        {"a/../b", "an entry 'a/../b'"},
        {"../b", "an entry '../b'"},
        {"/a/b", "an entry '/a/b'"},
        {"a//b", "an entry 'a//b'"},
        {"a/./b", "an entry 'a/./b'"},
        {"b", "an entry 'b'"},
        {"a\\..\\b/c", "an entry 'a"},
        {"b/c", "outside of its folder 'a/'"},
        {"ab/c", "outside of its folder 'a/'"},
        {"a/b/..", "an entry 'a/b/..'"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct raw_zip zip = {0};

        put_stored(&zip, "a/data.pkl", "x");
        put_stored(&zip, cases[i].name, "x");
        expect_refusal(cases[i].name, &zip, cases[i].says);
    }
}

static void open_refuses_entries_that_share_bytes(void **state)
{
    struct raw_zip zip = {0}, inner = {0};

    (void)state;
    put_stored(&zip, "a/one", "same");
    put_stored(&zip, "a/one", "same");
    expect_refusal("one name twice", &zip, "two entries 'one'");
    /* The inner entry, headers and all, is the content of the outer one. */
    put_stored(&inner, "a/inner", "some content");
    put(&inner.file, 0, 1);
    put_stored(&zip, "a/outer", "");
    release(&zip);

    struct raw outer = {.name = "a/outer",
                        .data = inner.file.data,
                        .bytes = inner.file.bytes,
                        .size = inner.file.bytes,
                        .crc = (uint32_t)crc32_z(0, inner.file.data, inner.file.bytes)};
    const struct raw in = stored("a/inner", "some content");

    put_entry(&zip, &outer);
    put_listed(&zip, &in, 30 + strlen(outer.name));
    expect_refusal("an entry in an entry", &zip, "overlap");
    release(&inner);
}

static void open_refuses_entries_that_are_not_as_they_say(void **state)
{
    static const struct {
        const char *name;
        struct raw raw;
        const char *says;
    } cases[] = {
        {"a wrong CRC", {"a/x", 0, 0, "abc", 3, 3, 1, 0}, "'x' is damaged"},
        {"encrypted", {"a/x", 0, 1, "abc", 3, 3, 0x352441c2, 0}, "encrypted"},
        {"bzip2", {"a/x", 12, 0, "abc", 3, 3, 0x352441c2, 0}, "in a way that is not read"},
        {"LZMA", {"a/x", 14, 0, "abc", 3, 3, 0x352441c2, 0}, "in a way that is not read"},
        {"no deflate", {"a/x", DEFLATED, 0, "\xff\xff\xff", 3, 3, 0x352441c2, 0}, "is damaged"},
        {"a link", {"a/x", 0, 0, "abc", 3, 3, 0x352441c2, 0120777}, "is not a file"},
        {"a device", {"a/x", 0, 0, "abc", 3, 3, 0x352441c2, 020666}, "is not a file"},
        {"a size of 1 GB",
         {"a/x", 0, 0, "abc", 3, 1000000000, 0x352441c2, 0},
         "more than 16 times"},
        {"longer than it is", {"a/x", 0, 0, "abc", 3, 5, 0x352441c2, 0}, "f.pth"},
        {"shorter than it is", {"a/x", 0, 0, "abc", 3, 2, 0x352441c2, 0}, "f.pth"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct raw_zip zip = {0};

        put_entry(&zip, &cases[i].raw);
        put_stored(&zip, "a/y", "a second one");
        expect_refusal(cases[i].name, &zip, cases[i].says);
    }
}

/* Deflate without zlib's own head, as zip has it. */
static size_t deflate_raw(const void *data, size_t bytes, unsigned char *out, size_t room)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
                  .avail_in = (uInt)bytes,
                  .next_out = out,
                  .avail_out = (uInt)room};

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

static void open_refuses_a_bomb(void **state)
{
    static const size_t sizes[] = {900000, 64000000};
    static unsigned char packed[100000];

    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *const zeros = calloc(sizes[i], 1);
        struct raw raw = {.name = "a/x",
                          .method = DEFLATED,
                          .data = packed,
                          .size = sizes[i],
                          .crc = (uint32_t)crc32_z(0, zeros, sizes[i])};
        struct raw_zip zip = {0};
        struct weights_zip got;

        raw.bytes = deflate_raw(zeros, sizes[i], packed, sizeof packed);
        if (i == 0) { /* a file may have a few zeros */
            put_entry(&zip, &raw);
            end(&zip);
            assert_int_equal(weights_zip_open(&got, zip.file.data, zip.file.bytes, "f", NULL), 0);
            assert_memory_equal(weights_zip_find(&got, "x")->data, zeros, sizes[i]);
            weights_zip_close(&got);
            release(&zip);
        }
        put_entry(&zip, &raw);
        raw.name = "a/y";
        put_entry(&zip, &raw); /* the second one of 900,000 is too much */
        expect_refusal("many zeros", &zip, "more than 16 times");
        raw.size = 10; /* what it says is little */
        put_entry(&zip, &raw);
        expect_refusal("more zeros than it says", &zip, "f.pth");
        raw.size = sizes[0] + 1;
        if (i == 0) {
            put_entry(&zip, &raw);
            expect_refusal("fewer zeros than it says", &zip, "f.pth");
        }
        free(zeros);
    }
}

/* A zip of these entries, as a file of weights. */
static void expect_no_weights(const char *name, const char *entry, const char *text,
                              const char *says)
{
    struct raw_zip zip = {0};

    put_stored(&zip, entry, text);
    if (strcmp(entry, "a/x") != 0)
        put_stored(&zip, "a/data.pkl", BED_PROTO "}.");
    end(&zip);
    bed_expect_refusal(name, &zip.file, says);
    release(&zip);
}

static void open_refuses_zips_that_are_not_of_torch_save(void **state)
{
    static const struct raw folder = {.name = "a/", .mode = 040755};
    struct raw_zip empty = {0};

    (void)state;
    expect_no_weights("a zip of anything", "a/x", "x", "no data.pkl");
    expect_no_weights("TorchScript", "a/constants.pkl", "x", "TorchScript program");
    expect_no_weights("big-endian", "a/byteorder", "big", "another byte order");
    put_entry(&empty, &folder);
    expect_refusal("a folder", &empty, "is an empty zip");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_reads_entries_in_any_order_without_copying),
        cmocka_unit_test(open_refuses_names_that_leave_the_folder),
        cmocka_unit_test(open_refuses_entries_that_share_bytes),
        cmocka_unit_test(open_refuses_entries_that_are_not_as_they_say),
        cmocka_unit_test(open_refuses_a_bomb),
        cmocka_unit_test(open_refuses_zips_that_are_not_of_torch_save),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
