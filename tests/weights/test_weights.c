/* tests/weights/test_weights.c -- files that PyTorch wrote (tests/golden/make_weights.py), and
 * files that are something else. */
#include <math.h>
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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_reads_every_type_of_both_formats),
        cmocka_unit_test(open_copies_views_into_one_run),
        cmocka_unit_test(open_finds_the_one_state_dict_of_a_checkpoint),
        cmocka_unit_test(open_reads_parameters_and_names_of_other_alphabets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
