/* tests/weights/test_safetensors.c -- the bytes that are written, and files that must not be
 * believed. */
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
#include "base/err.h"
#include "base/file.h"
#include "trainer/weights/safetensors.h"

static char folder[] = "/tmp/convoy-safetensors-XXXXXX";
static char path[sizeof folder + 16];

static const float weight[] = {1, -2, 3.5f, 4, 5, 6}, bias[] = {7};
static const int64_t batches[] = {-42}, table[] = {1, 2};

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/t", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

/* In no order; one scalar, one without elements. */
#define ENTRIES                                                                                    \
    {                                                                                              \
        {"layer.weight", SAFETENSORS_F32, 2, {2, 3}, weight},                                      \
            {"layer.bias", SAFETENSORS_F32, 1, {1}, bias},                                         \
            {"empty", SAFETENSORS_F32, 2, {0, 4}, NULL},                                           \
            {"z.batches", SAFETENSORS_I64, 0, {0}, batches},                                       \
            {"Table", SAFETENSORS_I64, 1, {2}, table},                                             \
    }

static void write_entries(struct safetensors_entry *entries, size_t count,
                          const struct safetensors_pair *metadata, size_t metadata_count)
{
    struct file_new file = {.fd = -1};
    struct err err = {0};

    assert_int_equal(file_new_open(&file, path, &err), 0);
    assert_int_equal(safetensors_write(&file, entries, count, metadata, metadata_count, &err), 0);
    assert_int_equal(file_new_commit(&file, &err), 0);
    file_new_release(&file);
}

static void write_file_puts_integers_first_and_pads_the_header(void **state)
{
    static const char want[] =
        "{\"__metadata__\":{\"step\":\"7\",\"a \\\"b\\\"\":\"\xc3\xa4\\n/\"},"
        "\"Table\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
        "\"z.batches\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[16,24]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[24,24]},"
        "\"layer.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[24,28]},"
        "\"layer.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[28,52]}}";
    static const struct safetensors_pair metadata[] = {{"step", "7"}, {"a \"b\"", "\xc3\xa4\n/"}};
    struct safetensors_entry entries[] = ENTRIES;
    struct buf got = {0};
    const size_t chars = sizeof want - 1, padded = (chars + 7) / 8 * 8;
    uint64_t length = 0;

    (void)state;
    write_entries(entries, 5, metadata, 2);
    assert_int_equal(file_read(path, 10000, &got, NULL), 0);
    assert_int_equal(got.bytes, 8 + padded + 52);
    memcpy(&length, got.data, sizeof length);
    assert_int_equal(length, padded);
    assert_memory_equal(got.data + 8, want, chars);
    for (size_t i = chars; i < padded; i++)
        assert_int_equal(got.data[8 + i], ' ');
    assert_memory_equal(got.data + 8 + padded, table, 16);
    assert_memory_equal(got.data + 8 + padded + 16, batches, 8);
    assert_memory_equal(got.data + 8 + padded + 24, bias, 4);
    assert_memory_equal(got.data + 8 + padded + 28, weight, 24);
    buf_release(&got);
}

static void open_finds_what_was_written(void **state)
{
    static const struct safetensors_pair metadata[] = {{"step", "7"}, {"model", "resnet18"}};
    struct safetensors_entry entries[] = ENTRIES;
    struct safetensors file;
    struct err err = {0};

    (void)state;
    write_entries(entries, 5, metadata, 2);
    assert_int_equal(safetensors_open(&file, path, &err), 0);
    assert_int_equal(file.entry_count, 5);
    for (size_t i = 0; i < 5; i++) {
        const struct safetensors_entry *got = safetensors_find(&file, entries[i].name);
        size_t bytes = entries[i].type == SAFETENSORS_I64 ? 8 : 4;

        assert_non_null(got);
        assert_int_equal(got->type, entries[i].type);
        assert_int_equal(got->dims, entries[i].dims);
        for (int d = 0; d < got->dims; d++) {
            assert_int_equal(got->size[d], entries[i].size[d]);
            bytes *= got->size[d];
        }
        if (bytes > 0)
            assert_memory_equal(got->data, entries[i].data, bytes);
    }
    assert_string_equal(safetensors_metadata(&file, "model"), "resnet18");
    assert_null(safetensors_metadata(&file, "Model"));
    assert_null(safetensors_find(&file, "layer"));
    safetensors_close(&file);
    safetensors_close(&file); /* all zero by now */
}

static void digest_is_that_of_the_data_section_in_any_order_of_entries(void **state)
{
    struct safetensors_entry entries[] = ENTRIES;
    unsigned char from_entries[DIGEST_SHA256_BYTES], from_file[DIGEST_SHA256_BYTES];
    struct safetensors file;

    (void)state;
    safetensors_digest(entries, 5, from_entries);
    write_entries(entries, 5, NULL, 0);
    assert_int_equal(safetensors_open(&file, path, NULL), 0);
    assert_int_equal(file.metadata_count, 0);
    digest_sha256(file.data, file.data_bytes, from_file);
    assert_memory_equal(from_entries, from_file, sizeof from_file);
    safetensors_close(&file);
}

static void write_of_no_tensors_makes_a_file_that_opens(void **state)
{
    struct safetensors file;

    (void)state;
    write_entries(NULL, 0, NULL, 0);
    assert_int_equal(safetensors_open(&file, path, NULL), 0);
    assert_int_equal(file.entry_count, 0);
    assert_int_equal(file.data_bytes, 0);
    safetensors_close(&file);
}

static void write_refuses_text_that_is_not_utf8(void **state)
{
    static const struct safetensors_pair metadata[] = {{"folder", "\xff\xfe"}};
    struct file_new file = {.fd = -1};
    struct err err = {0};

    (void)state;
    assert_int_equal(file_new_open(&file, path, &err), 0);
    assert_int_equal(safetensors_write(&file, NULL, 0, metadata, 1, &err), -1);
    assert_non_null(strstr(err.msg, "'folder' is not UTF-8"));
    file_new_release(&file);
}

/* length, header, data_bytes bytes of zeros */
static void write_raw(uint64_t length, const char *header, size_t data_bytes)
{
    static const unsigned char zeros[256];
    struct buf raw = {0};
    struct err err = {0};

    buf_append(&raw, &length, sizeof length);
    buf_append(&raw, header, strlen(header));
    buf_append(&raw, zeros, data_bytes);
    assert_int_equal(file_replace(path, raw.data, raw.bytes, &err), 0);
    buf_release(&raw);
}

static void expect_refusal(const char *name, const char *says)
{
    struct safetensors file;
    struct err err = {0};

    if (safetensors_open(&file, path, &err) == 0)
        fail_msg("%s: was opened", name);
    if (err.code != ERR_INPUT || strstr(err.msg, says) == NULL || strstr(err.msg, path) == NULL)
        fail_msg("%s: '%s' does not say '%s'", name, err.msg, says);
    if (file.map != NULL || file.header != NULL || file.entries != NULL)
        fail_msg("%s: left open", name);
}

#define T(dtype, shape, from, to)                                                                  \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void open_refuses_headers_that_lie(void **state)
{
    static const struct {
        const char *name, *header;
        size_t data_bytes;
        const char *says;
    } cases[] = {
        {"not JSON", "{\"a\":}  ", 0, "not valid JSON"},
        {"an array", "[1,2,3]", 0, "not JSON"},
        {"two values", "{}{}", 0, "not valid JSON"},
        {"a name twice", "{\"a\":" T("F32", "[1]", 0, 4) ",\"a\":" T("F32", "[1]", 4, 8) "}", 8,
         "duplicate"},
        {"a NUL in a name", "{\"a\\u0000b\":" T("F32", "[1]", 0, 4) "}", 4, "not valid JSON"},
        {"no UTF-8", "{\"\xff\":" T("F32", "[1]", 0, 4) "}", 4, "not valid JSON"},
        {"nested deep",
         "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
         0, "nested deeper"},
        {"a tensor that is a number", "{\"a\":5}", 0, "'dtype'"},
        {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'dtype' is missing"},
        {"another dtype", "{\"a\":" T("F16", "[2]", 0, 4) "}", 4, "'F16' is not supported"},
        {"a lower-case dtype", "{\"a\":" T("f32", "[1]", 0, 4) "}", 4, "not supported"},
        {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "'shape' is missing"},
        {"five dimensions", "{\"a\":" T("F32", "[1,1,1,1,1]", 0, 4) "}", 4, "more than 4"},
        {"a negative size", "{\"a\":" T("F32", "[-1]", 0, 4) "}", 4, "not a list of sizes"},
        {"a fraction", "{\"a\":" T("F32", "[1.0]", 0, 4) "}", 4, "not a list of sizes"},
        {"a size beyond 64 bits", "{\"a\":" T("F32", "[99999999999999999999]", 0, 4) "}", 4,
         "not valid JSON"},
        {"a product that wraps to 4 bytes", "{\"a\":" T("F32", "[4611686018427387905]", 0, 4) "}",
         4, "do not fit its shape"},
        {"a product that wraps to nothing", "{\"a\":" T("F32", "[4294967296,4294967296]", 0, 0) "}",
         0, "do not fit its shape"},
        {"too few bytes", "{\"a\":" T("F32", "[2]", 0, 4) "}", 4, "do not fit its shape"},
        {"no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'data_offsets' is missing"},
        {"one offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
         "not two integers"},
        {"three offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4,
         "not two integers"},
        {"offsets of text", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\"4\"]}}",
         4, "not two integers"},
        {"a negative offset", "{\"a\":" T("F32", "[1]", -4, 0) "}", 4, "are not in the file"},
        {"offsets backwards", "{\"a\":" T("F32", "[1]", 4, 0) "}", 4, "are not in the file"},
        {"an end behind the file", "{\"a\":" T("F32", "[2]", 0, 8) "}", 4, "are not in the file"},
        {"an offset near 2^63",
         "{\"a\":" T("F32", "[1]", 9223372036854775800, 9223372036854775804) "}", 4,
         "are not in the file"},
        {"a hole in front", "{\"a\":" T("F32", "[1]", 4, 8) "}", 8, "after a hole"},
        {"a hole between", "{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 8, 12) "}", 12,
         "after a hole"},
        {"an overlap", "{\"a\":" T("F32", "[2]", 0, 8) ",\"b\":" T("F32", "[2]", 4, 12) "}", 12,
         "overlaps"},
        {"two at one place", "{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 0, 4) "}", 4,
         "overlaps"},
        {"bytes behind", "{\"a\":" T("F32", "[1]", 0, 4) "}", 5, "behind its last tensor"},
        {"nothing but bytes behind", "{}", 1, "behind its last tensor"},
        {"an unaligned tensor",
         "{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("I64", "[1]", 4, 12) "}", 12, "not aligned"},
        {"metadata that is a list", "{\"__metadata__\":[]}", 0, "is not an object"},
        {"metadata that is a number", "{\"__metadata__\":{\"a\":1}}", 0, "'a' is not a string"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char padded[1024] = "";
        const size_t chars = strlen(cases[i].header);

        /* Spaces up to a multiple of 8, so that only what the case is about is wrong. */
        memset(padded, ' ', (chars + 7) / 8 * 8);
        memcpy(padded, cases[i].header, chars);
        write_raw(strlen(padded), padded, cases[i].data_bytes);
        expect_refusal(cases[i].name, cases[i].says);
    }
}

static void open_refuses_lengths_that_lie(void **state)
{
    static const struct {
        const char *name;
        uint64_t length;
        const char *says;
    } cases[] = {
        {"no header", 0, "not JSON"},
        {"one byte more than there are", 9, "cut short"},
        {"100 MB", 100000000, "cut short"},
        {"above the limit", 100000001, "a header of"},
        {"all bits set", UINT64_MAX, "a header of"},
        {"wraps to within", UINT64_MAX - 7, "a header of"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_raw(cases[i].length, "{}      ", 0);
        expect_refusal(cases[i].name, cases[i].says);
    }
}

static void open_refuses_what_is_no_file(void **state)
{
    struct safetensors file;
    struct err err = {0};

    (void)state;
    unlink(path);
    expect_refusal("missing", "No such file");
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refusal("a folder", "is not a file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refusal("a pipe nobody writes to", "is not a file");
    unlink(path);
    assert_int_equal(file_replace(path, "", 0, &err), 0);
    expect_refusal("empty", "cut short");
    assert_int_equal(file_replace(path, "1234567", 7, &err), 0);
    expect_refusal("seven bytes", "cut short");
    assert_int_equal(safetensors_open(&file, "/dev/null", &err), -1);
}

static void open_refuses_a_file_cut_anywhere(void **state)
{
    static const struct safetensors_pair metadata[] = {{"step", "7"}};
    struct safetensors_entry entries[] = ENTRIES;
    struct buf whole = {0};
    struct safetensors file;

    (void)state;
    write_entries(entries, 5, metadata, 1);
    assert_int_equal(file_read(path, 10000, &whole, NULL), 0);
    for (size_t bytes = 0; bytes < whole.bytes; bytes++) {
        assert_int_equal(truncate(path, 0), 0);
        FILE *cut = fopen(path, "wb");

        assert_int_equal(fwrite(whole.data, 1, bytes, cut), bytes);
        fclose(cut);
        if (safetensors_open(&file, path, NULL) == 0)
            fail_msg("opened with %zu of %zu bytes", bytes, whole.bytes);
    }
    buf_release(&whole);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_file_puts_integers_first_and_pads_the_header),
        cmocka_unit_test(open_finds_what_was_written),
        cmocka_unit_test(digest_is_that_of_the_data_section_in_any_order_of_entries),
        cmocka_unit_test(write_of_no_tensors_makes_a_file_that_opens),
        cmocka_unit_test(write_refuses_text_that_is_not_utf8),
        cmocka_unit_test(open_refuses_headers_that_lie),
        cmocka_unit_test(open_refuses_lengths_that_lie),
        cmocka_unit_test(open_refuses_what_is_no_file),
        cmocka_unit_test(open_refuses_a_file_cut_anywhere),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
