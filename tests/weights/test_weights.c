/* tests/weights/test_weights.c -- files that PyTorch wrote (tests/golden/make_weights.py), and
 * files that are something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "bed.h"
#include "trainer/weights/weights.h"

#define FOLDER "../golden/weights/"

static void open_file(struct weights *weights, const char *name)
{
    struct buf bytes = {0};
    struct err err = {0};
    char path[256];

    snprintf(path, sizeof path, FOLDER "%s", name);
    assert_int_equal(file_read(path, 100000, &bytes, &err), 0);
    if (weights_open_bytes(weights, bytes.data, bytes.bytes, path, &err) < 0)
        fail_msg("%s", err.msg);
    buf_release(&bytes); /* nothing may point into it */
}

struct expected {
    const char *name;
    enum safetensors_type type;
    int dims;
    uint64_t size[4];
    int64_t first, step;
};

static int64_t element(const struct safetensors_entry *tensor, size_t i)
{
    return tensor->type == SAFETENSORS_I64 ? ((const int64_t *)tensor->data)[i]
                                           : (int64_t)((const float *)tensor->data)[i];
}

static void expect_tensor(const char *file, const struct weights *weights,
                          const struct expected *want)
{
    const struct safetensors_entry *const got = weights_find(weights, want->name);
    size_t count = 1;

    if (got == NULL)
        fail_msg("%s: no '%s'", file, want->name);
    if (got->type != want->type || got->dims != want->dims)
        fail_msg("%s: '%s' has type %d, %d dimensions", file, want->name, got->type, got->dims);
    for (int d = 0; d < want->dims; d++) {
        assert_int_equal(got->size[d], want->size[d]);
        count *= want->size[d];
    }
    for (size_t i = 0; i < count; i++) {
        if (element(got, i) != want->first + (int64_t)i * want->step)
            fail_msg("%s: '%s' element %zu is %lld", file, want->name, i,
                     (long long)element(got, i));
    }
}

static void expect_file(const char *file, const struct expected *want, size_t count)
{
    struct weights weights;

    open_file(&weights, file);
    assert_string_equal(weights.format, "PyTorch");
    assert_int_equal(weights.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(weights.tensors[i].name, want[i].name); /* and their order */
        expect_tensor(file, &weights, &want[i]);
    }
    assert_null(weights_find(&weights, "module.half"));
    weights_release(&weights);
    weights_release(&weights);
}

#define F32          SAFETENSORS_F32
#define I64          SAFETENSORS_I64
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static const struct expected plain[] = {
    {"conv.weight", F32, 4, {4, 3, 2, 2}, -10, 1},
    {"half", F32, 1, {5}, 1, 1},
    {"brain", F32, 1, {5}, 2, 1},
    {"double", F32, 2, {2, 3}, 3, 1},
    {"bytes", I64, 1, {3}, 4, 1},
    {"chars", I64, 1, {6}, -3, 1},
    {"shorts", I64, 1, {3}, -300, 1},
    {"ints", I64, 1, {3}, 70000, 1},
    {"flags", I64, 1, {2}, 0, 1},
    {"empty", F32, 2, {0, 4}, 0, 0},
    {"bn.num_batches_tracked", I64, 0, {0}, 7, 0},
};

static void open_reads_every_type_of_both_formats(void **state)
{
    static const char *const files[] = {"plain-zip.pth", "plain-old.pth", "modern.pth",
                                        "deflated.pth"};

    (void)state;
    for (size_t i = 0; i < COUNT(files); i++)
        expect_file(files[i], plain, COUNT(plain));
}

static void open_copies_views_into_one_run(void **state)
{
    static const struct expected views[] = {
        {"whole", F32, 1, {60}, 0, 1},
        {"tail", F32, 1, {10}, 50, 1},
        {"transposed", F32, 2, {5, 4}, 0, 1},
        {"four", F32, 4, {2, 3, 4, 5}, 0, 1},
        {"channels_last", F32, 4, {2, 3, 4, 5}, 0, 1},
        {"repeated", F32, 2, {3, 4}, 5, 0},
    };

    (void)state;
    expect_file("views-zip.pth", views, COUNT(views));
    expect_file("views-old.pth", views, COUNT(views));
}

static void open_finds_the_one_state_dict_of_a_checkpoint(void **state)
{
    (void)state;
    expect_file("wrapped-zip.pth", plain, COUNT(plain));
    expect_file("wrapped-old.pth", plain, COUNT(plain));
}

static void open_reads_parameters_and_names_of_other_alphabets(void **state)
{
    static const struct expected parameters[] = {{"weight", F32, 2, {3, 2}, 0, 1},
                                                 {"bias", F32, 1, {3}, 6, 1}};

    (void)state;
    expect_file("parameters-zip.pth", parameters, COUNT(parameters));
    expect_file("parameters-old.pth", parameters, COUNT(parameters));
    expect_file("größe.pth", parameters, COUNT(parameters));
}

static void open_says_what_a_file_is_instead(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t count;
        const char *says;
    } cases[] = {
#define BYTES(text) text, sizeof(text) - 1
        {"nothing", "", 0, "is empty"},
        {"gzip", BYTES("\x1f\x8b\x08"), "a gzip"},
        {"xz",
         BYTES("\xfd"
               "7zXZ\0"),
         "an xz"},
        {"zstd", BYTES("\x28\xb5\x2f\xfd"), "a zstd"},
        {"Git LFS", BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
         "a Git LFS pointer, not the file: run git lfs pull"},
        {"HTML", BYTES("\n  <!DOCTYPE html><html>"), "an HTML or XML page"},
        {"an error of S3", BYTES("\xef\xbb\xbf<?xml version=\"1.0\"?><Error>"),
         "an HTML or XML page"},
        {"HDF5", BYTES("\x89HDF\r\n\x1a\n"), "HDF5, as Keras writes"},
        {"a JPEG", BYTES("\xff\xd8\xff\xe0"), "a picture"},
        {"an empty zip", BYTES("PK\5\6\0\0\0\0"), "an empty zip"},
        {"a plain pickle", BYTES("\x80\4\x95\0"), "a pickle, but not one of torch.save"},
        {"a pickle of protocol 2", BYTES("\x80\2}."), "a pickle, but not one of torch.save"},
        {"text", BYTES("hello"), "of no kind that is known"},
        {"JSON", BYTES("{\"a\":1}        "), "of no kind that is known"},
        {"half a length", BYTES("\x10\0\0\0"), "of no kind that is known"},
        {"a safetensors header of 100 MB and a byte", BYTES("\1\xe1\xf5\5\0\0\0\0{}"),
         "of no kind that is known"},
        {"half of a safetensors header", BYTES("\x40\0\0\0\0\0\0\0{\"a\""), "is cut short"},
        {"no tensors", BYTES("\2\0\0\0\0\0\0\0{}"), "has no tensors"},
        {"half a zip", BYTES("PK\3\4\0"), "is a damaged zip"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct buf file = {.data = (unsigned char *)(uintptr_t)cases[i].bytes,
                                 .bytes = cases[i].count};

        bed_expect_refusal(cases[i].name, &file, cases[i].says);
    }
}

static void open_knows_a_tar(void **state)
{
    unsigned char bytes[1024] = "sys_info";
    const struct buf file = {.data = bytes, .bytes = sizeof bytes};

    (void)state;
    memcpy(bytes + 257, "ustar", 6);
    bed_expect_refusal("a tar", &file, "a tar; if PyTorch before 0.1.10");
}

/* Header, and data that lie where no float may. */
static void open_reads_safetensors_of_other_types_at_any_alignment(void **state)
{
    static const char header[] =
        "{\"module.b\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]},"
        "\"module.w\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[1,17]},"
        "\"module.h\":{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[17,19]}}";
    static const double doubles[] = {2, 3};
    static const struct expected want[] = {
        {"b", I64, 1, {1}, 1, 0}, {"w", F32, 1, {2}, 2, 1}, {"h", F32, 2, {1, 1}, -2, 0}};
    const uint64_t length = sizeof header - 1;
    struct weights weights;
    struct buf file = {0};

    (void)state;
    buf_append(&file, &length, sizeof length);
    buf_append(&file, header, sizeof header - 1);
    buf_append(&file, "\5", 1);
    buf_append(&file, doubles, sizeof doubles);
    buf_append(&file, "\x00\xc0", 2);
    assert_int_equal(weights_open_bytes(&weights, file.data, file.bytes, "f", NULL), 0);
    assert_string_equal(weights.format, "safetensors");
    assert_int_equal(weights.count, COUNT(want));
    for (size_t i = 0; i < COUNT(want); i++)
        expect_tensor("safetensors", &weights, &want[i]);
    weights_release(&weights);
    memcpy(strstr((char *)file.data + 8, "BOOL"), "U128", 4);
    bed_expect_refusal("another type", &file, "dtype 'U128' is not supported");
    buf_release(&file);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_reads_every_type_of_both_formats),
        cmocka_unit_test(open_copies_views_into_one_run),
        cmocka_unit_test(open_finds_the_one_state_dict_of_a_checkpoint),
        cmocka_unit_test(open_reads_parameters_and_names_of_other_alphabets),
        cmocka_unit_test(open_says_what_a_file_is_instead),
        cmocka_unit_test(open_knows_a_tar),
        cmocka_unit_test(open_reads_safetensors_of_other_types_at_any_alignment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
