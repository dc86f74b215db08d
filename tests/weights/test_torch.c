/* tests/weights/test_torch.c -- tensors that are not where a file of PyTorch says, files cut
 * anywhere, and what we write ourselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "bed.h"
#include "trainer/weights/torch.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define MAX          INT64_MAX

/* data/0 has 24 bytes */
static void open_refuses_tensors_that_lie(void **state)
{
    static const struct {
        const char *name;
        struct bed_tensor tensor;
        const char *says;
    } cases[] = {
        {"one element too many", {"Float", "0", 6, 0, 1, {7}, {1}, 0}, "'w' is not inside"},
        {"an offset at the end", {"Float", "0", 6, 6, 1, {1}, {1}, 0}, "'w' is not inside"},
        {"an empty one behind it", {"Float", "0", 6, 7, 1, {0}, {1}, 0}, "'w' is not inside"},
        {"a huge offset", {"Float", "0", 6, MAX, 1, {1}, {1}, 0}, "'w' is not inside"},
        {"a stride beyond", {"Float", "0", 6, 0, 2, {2, 3}, {4, 1}, 0}, "'w' is not inside"},
        {"a span that wraps", {"Float", "0", 6, 0, 1, {3}, {MAX}, 0}, "'w' is not inside"},
        {"a sum that wraps", {"Float", "0", 6, MAX, 2, {2, 2}, {MAX, MAX}, 0}, "is not inside"},
        {"a negative size", {"Float", "0", 6, 0, 1, {-1}, {1}, 0}, "not a storage, an offset"},
        {"a negative stride", {"Float", "0", 6, 5, 1, {6}, {-1}, 0}, "not a storage, an offset"},
        {"a negative offset", {"Float", "0", 6, -1, 1, {1}, {1}, 0}, "not a storage, an offset"},
        {"fewer strides", {"Float", "0", 6, 0, 2, {2, 3}, {3}, 1}, "not a storage, an offset"},
        {"five dimensions",
         {"Float", "0", 6, 0, 5, {1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}, 0},
         "a tensor of 5 dimensions"},
        {"a repeated element",
         {"Float", "0", 6, 0, 1, {(int64_t)1 << 40}, {0}, 0},
         "too many elements"},
        {"a product of 2^64",
         {"Float", "0", 6, 0, 2, {(int64_t)1 << 32, (int64_t)1 << 32}, {0}, 0},
         "too many elements"},
        {"windows", {"Float", "0", 6, 0, 2, {3, 1 << 20}, {1, 0}, 0}, "too many elements"},
        {"a storage of more", {"Float", "0", 7, 0, 1, {6}, {1}, 0}, "24 bytes, not 7 elements"},
        {"a storage of fewer", {"Float", "0", 5, 0, 1, {5}, {1}, 0}, "24 bytes, not 5 elements"},
        {"a storage that wraps",
         {"Float", "0", (MAX / 4) + 7, 0, 1, {6}, {1}, 0},
         "24 bytes, not 2305843009213693958 elements"},
        {"a negative storage", {"Float", "0", -6, 0, 1, {6}, {1}, 0}, "persistent id"},
        {"another type", {"Double", "0", 6, 0, 1, {6}, {1}, 0}, "24 bytes, not 6 elements of 8"},
        {"a missing storage", {"Float", "1", 6, 0, 1, {6}, {1}, 0}, "no entry 'data/1'"},
        {"a key that climbs",
         {"Float", "../data/0", 6, 0, 1, {6}, {1}, 0},
         "no entry 'data/../data/0'"},
        {"an empty key", {"Float", "", 6, 0, 1, {6}, {1}, 0}, "whose key is no number"},
        {"a long key",
         {"Float",
          "000000000000000000000000000000000000000000000000000000000000000000000000000",
          6,
          0,
          1,
          {6},
          {1},
          0},
         "whose key is no number"},
        {"quantized", {"QInt8", "0", 24, 0, 1, {6}, {1}, 0}, "calls 'torch.QInt8Storage'"},
        {"complex", {"ComplexFloat", "0", 3, 0, 1, {3}, {1}, 0}, "'torch.ComplexFloatStorage'"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf pickle = {0}, file = {0};

        bed_pickle(&pickle, "w", &cases[i].tensor);
        bed_zip(&file, &pickle, 24);
        bed_expect_refusal(cases[i].name, &file, cases[i].says);
        buf_release(&pickle);
        buf_release(&file);
    }
}

static const struct bed_tensor six = {"Float", "0", 6, 0, 2, {2, 3}, {3, 1}, 0};

/* A dict of tensors: MARK, names and tensors, SETITEMS */
static void put_dict(struct buf *pickle, const char *first, const char *second)
{
    buf_printf(pickle, "}(");
    bed_text(pickle, first);
    bed_put_tensor(pickle, &six);
    if (second != NULL) {
        bed_text(pickle, second);
        bed_put_tensor(pickle, &six);
    }
    buf_printf(pickle, "u");
}

static void expect_refusal_of(struct buf *pickle, const char *name, const char *says)
{
    struct buf file = {0};

    bed_zip(&file, pickle, 24);
    bed_expect_refusal(name, &file, says);
    buf_release(&file);
    buf_release(pickle);
}

static void open_refuses_objects_that_are_not_one_state_dict(void **state)
{
    struct buf pickle = {0};

    (void)state;
    buf_printf(&pickle, BED_PROTO "}.");
    expect_refusal_of(&pickle, "an empty dict", "has no tensors");
    buf_printf(&pickle, BED_PROTO);
    bed_put_tensor(&pickle, &six);
    buf_printf(&pickle, ".");
    expect_refusal_of(&pickle, "a tensor", "is a tensor without a dict of tensors");
    buf_printf(&pickle, BED_PROTO "](");
    bed_put_tensor(&pickle, &six);
    buf_printf(&pickle, "e.");
    expect_refusal_of(&pickle, "a list", "is a list without a dict of tensors");
    buf_printf(&pickle, BED_PROTO "}(K\1");
    bed_put_tensor(&pickle, &six);
    buf_printf(&pickle, "u.");
    expect_refusal_of(&pickle, "a number as a name", "is a dict without a dict of tensors");
    buf_printf(&pickle, BED_PROTO "}(");
    bed_text(&pickle, "w");
    bed_put_tensor(&pickle, &six);
    bed_text(&pickle, "epoch");
    buf_printf(&pickle, "K\7u.");
    expect_refusal_of(&pickle, "tensors and a number", "is a dict without a dict of tensors");
    buf_printf(&pickle, BED_PROTO "}(");
    bed_text(&pickle, "model");
    put_dict(&pickle, "w", NULL);
    bed_text(&pickle, "ema");
    put_dict(&pickle, "w", NULL);
    buf_printf(&pickle, "u.");
    expect_refusal_of(&pickle, "two state_dicts", "tensors in 'model' and in 'ema'");
}

static void open_refuses_names_that_are_none(void **state)
{
    struct buf pickle = {0};

    (void)state;
    buf_printf(&pickle, BED_PROTO);
    put_dict(&pickle, "w", "w");
    buf_printf(&pickle, ".");
    expect_refusal_of(&pickle, "one name twice", "two tensors 'w'");
    bed_pickle(&pickle, "", &six);
    expect_refusal_of(&pickle, "no name", "without a name");
    buf_append(&pickle, BED_PROTO "}X\3\0\0\0a\0b", 11);
    bed_put_tensor(&pickle, &six);
    buf_printf(&pickle, "s.");
    expect_refusal_of(&pickle, "a NUL", "without a name");
}

static void open_strips_a_prefix_that_all_names_have(void **state)
{
    struct weights weights;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct buf pickle = {0}, file = {0};

        buf_printf(&pickle, BED_PROTO);
        put_dict(&pickle, "module.w", i == 0 ? "module.module.w" : "w.module.");
        buf_printf(&pickle, ".");
        bed_zip(&file, &pickle, 24);
        assert_int_equal(weights_open_bytes(&weights, file.data, file.bytes, "f", NULL), 0);
        assert_string_equal(weights.tensors[0].name, i == 0 ? "w" : "module.w");
        assert_string_equal(weights.tensors[1].name, i == 0 ? "module.w" : "w.module.");
        weights_release(&weights);
        buf_release(&pickle);
        buf_release(&file);
    }
}

static void open_refuses_one_storage_of_two_types(void **state)
{
    static const struct bed_tensor ints = {"Int", "0", 6, 0, 1, {6}, {1}, 0};
    struct buf pickle = {0};

    (void)state;
    buf_printf(&pickle, BED_PROTO "}(");
    bed_text(&pickle, "a");
    bed_put_tensor(&pickle, &six);
    bed_text(&pickle, "b");
    bed_put_tensor(&pickle, &ints);
    buf_printf(&pickle, "u.");
    expect_refusal_of(&pickle, "two types", "storage '0' has two types");
}

/* The format before the zip */

/* The pickle of {"w": tensor}, as the old format has it. */
static void old_pickle(struct buf *pickle, const struct bed_tensor *tensor, const int64_t view[2])
{
    buf_printf(pickle, BED_PROTO "}");
    bed_text(pickle, "w");
    bed_put_old_tensor(pickle, tensor, view);
    buf_printf(pickle, "s.");
}

static void open_refuses_old_files_whose_storages_are_wrong(void **state)
{
    static const struct {
        const char *name;
        const char *keys[2];
        size_t key_count;
        uint64_t counts[2];
        size_t storages, more; /* bytes behind */
        const char *says;
    } cases[] = {
        {"no storage", {"0"}, 1, {0}, 0, 0, "ends within its tensors"},
        {"half a count", {"0"}, 1, {0}, 0, 7, "ends within its tensors"},
        {"too few elements", {"0"}, 1, {5}, 1, 0, "has 5 elements, not 6"},
        {"too many elements", {"0"}, 1, {7}, 1, 0, "has 7 elements, not 6"},
        {"bytes behind", {"0"}, 1, {6}, 1, 3, "3 bytes behind its last tensor"},
        {"no keys", {NULL}, 0, {6}, 1, 0, "32 bytes behind its last tensor"},
        {"no keys, no storage", {NULL}, 0, {6}, 0, 0, "not have the elements of storage '0'"},
        {"another key", {"1"}, 1, {6}, 1, 0, "not that of its tensors"},
        {"a key twice", {"0", "0"}, 2, {6, 6}, 2, 0, "not that of its tensors"},
        {"a beginning of the key", {""}, 1, {6}, 1, 0, "not that of its tensors"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf pickle = {0}, file = {0};

        old_pickle(&pickle, &six, NULL);
        bed_old(&file, &pickle, cases[i].keys, cases[i].key_count);
        for (size_t s = 0; s < cases[i].storages; s++)
            bed_old_storage(&file, cases[i].counts[s]);
        buf_append(&file, "\0\0\0\0\0\0\0", cases[i].more);
        bed_expect_refusal(cases[i].name, &file, cases[i].says);
        buf_release(&pickle);
        buf_release(&file);
    }
}

static void open_reads_a_storage_that_is_part_of_another(void **state)
{
    static const struct bed_tensor tensor = {"Float", "0", 10, 1, 1, {2}, {1}, 0};
    static const char *const keys[] = {"0"};
    static const struct {
        int64_t view[2];
        const char *says; /* NULL: is read */
    } cases[] = {
        {{4, 3}, NULL},
        {{7, 3}, NULL},
        {{4, 2}, "is not inside"},
        {{8, 3}, "persistent id"},
        {{11, 0}, "persistent id"},
        {{-1, 3}, "persistent id"},
        {{1, MAX}, "persistent id"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf pickle = {0}, file = {0};
        struct weights weights;

        old_pickle(&pickle, &tensor, cases[i].view);
        bed_old(&file, &pickle, keys, 1);
        bed_old_storage(&file, 10);
        if (cases[i].says != NULL) {
            bed_expect_refusal("a view", &file, cases[i].says);
        } else {
            assert_int_equal(weights_open_bytes(&weights, file.data, file.bytes, "f", NULL), 0);
            assert_true(((const float *)weights.tensors[0].data)[1] == (float)cases[i].view[0] + 2);
            weights_release(&weights);
        }
        buf_release(&pickle);
        buf_release(&file);
    }
}

static void open_refuses_old_files_of_other_machines(void **state)
{
    static const char *const keys[] = {"0"};
    struct buf pickle = {0}, file = {0};
    unsigned char *flag;

    (void)state;
    old_pickle(&pickle, &six, NULL);
    bed_old(&file, &pickle, keys, 1);
    bed_old_storage(&file, 6);
    flag = memchr(file.data, 0x88, file.bytes);
    assert_non_null(flag);
    *flag = 0x89;
    bed_expect_refusal("big-endian", &file, "another byte order");
    *flag = 0x88;
    file.data[19] ^= 1; /* 1001 */
    bed_expect_refusal("another version", &file, "unknown version");
    buf_release(&pickle);
    buf_release(&file);
}

static void expect_no_part(const char *path)
{
    struct buf whole = {0};

    assert_int_equal(file_read(path, 100000, &whole, NULL), 0);
    for (size_t bytes = 0; bytes < whole.bytes; bytes++) {
        const struct buf cut = {.data = whole.data, .bytes = bytes};

        bed_expect_refusal(path, &cut, "");
    }
    buf_release(&whole);
}

static void open_refuses_a_file_cut_anywhere(void **state)
{
    (void)state;
    expect_no_part("../golden/weights/plain-zip.pth");
    expect_no_part("../golden/weights/plain-old.pth");
    expect_no_part("../golden/weights/deflated.pth");
    expect_no_part("../golden/weights/wrapped-old.pth");
}

/* Numbers */

static void open_converts_every_kind_of_half(void **state)
{
    static const struct {
        uint16_t bits;
        float value;
    } halves[] = {
        {0x0000, 0},
        {0x8000, -0.0f},
        {0x0001, 0x1p-24f},
        {0x83ff, -0x1.ff8p-15f},
        {0x0400, 0x1p-14f},
        {0x3555, 0x1.554p-2f},
        {0xc000, -2},
        {0x7bff, 65504},
        {0x7c00, __builtin_inff()},
        {0xfc00, -__builtin_inff()},
    };
    struct safetensors_entry entry = {"h", SAFETENSORS_F16, 1, {COUNT(halves)}, NULL};
    struct file_new memory = {.fd = -1};
    uint16_t bits[COUNT(halves)];
    unsigned char file[512];
    struct weights weights;

    (void)state;
    for (size_t i = 0; i < COUNT(halves); i++)
        bits[i] = halves[i].bits;
    entry.data = bits;
    assert_int_equal(file_new_open_memory(&memory, "f", NULL), 0);
    assert_int_equal(safetensors_write(&memory, &entry, 1, NULL, 0, NULL), 0);
    const ssize_t bytes = pread(memory.fd, file, sizeof file, 0);

    assert_int_equal(weights_open_bytes(&weights, file, (size_t)bytes, "f", NULL), 0);
    assert_string_equal(weights.format, "safetensors");
    for (size_t i = 0; i < COUNT(halves); i++)
        assert_memory_equal((const float *)weights.tensors[0].data + i, &halves[i].value, 4);
    weights_release(&weights);
    file_new_release(&memory);
}

static void open_refuses_doubles_beyond_float32(void **state)
{
    static const double doubles[] = {1, 1e300}, infinite[] = {1, __builtin_inf()};
    static const char *const keys[] = {"0"};
    static const struct bed_tensor tensor = {"Double", "0", 2, 0, 1, {2}, {1}, 0};
    const uint64_t count = 2;
    struct buf pickle = {0}, file = {0};
    struct weights weights;

    (void)state;
    old_pickle(&pickle, &tensor, NULL);
    bed_old(&file, &pickle, keys, 1);
    buf_append(&file, &count, sizeof count);
    buf_append(&file, doubles, sizeof doubles);
    bed_expect_refusal("1e300", &file, "beyond what float32 holds");
    memcpy(file.data + file.bytes - sizeof infinite, infinite, sizeof infinite);
    assert_int_equal(weights_open_bytes(&weights, file.data, file.bytes, "f", NULL), 0);
    weights_release(&weights);
    buf_release(&pickle);
    buf_release(&file);
}

static void open_reads_what_write_wrote(void **state)
{
    static const float floats[24] = {1, 2, 3, -4.5f};
    static const int64_t integers[2] = {-5, (int64_t)1 << 40};
    static const struct safetensors_entry entries[] = {
        {"z", SAFETENSORS_F32, 4, {2, 3, 4, 1}, floats},
        {"a.b", SAFETENSORS_I64, 1, {2}, integers},
        {"empty", SAFETENSORS_F32, 2, {3, 0}, NULL},
        {"scalar", SAFETENSORS_F32, 0, {0}, floats + 3},
    };
    struct file_new memory = {.fd = -1};
    unsigned char file[4096];
    struct weights weights;

    (void)state;
    assert_int_equal(file_new_open_memory(&memory, "f", NULL), 0);
    assert_int_equal(weights_torch_write(&memory, entries, COUNT(entries), NULL), 0);
    const ssize_t bytes = pread(memory.fd, file, sizeof file, 0);

    assert_int_equal(weights_open_bytes(&weights, file, (size_t)bytes, "f", NULL), 0);
    assert_int_equal(weights.count, COUNT(entries));
    for (size_t i = 0; i < COUNT(entries); i++) {
        const struct safetensors_entry *const got = &weights.tensors[i];

        assert_string_equal(got->name, entries[i].name);
        assert_int_equal(got->type, entries[i].type);
        assert_int_equal(got->dims, entries[i].dims);
        assert_memory_equal(got->size, entries[i].size, (size_t)got->dims * sizeof got->size[0]);
    }
    assert_memory_equal(weights.tensors[0].data, floats, sizeof floats);
    assert_memory_equal(weights.tensors[1].data, integers, sizeof integers);
    assert_memory_equal(weights.tensors[3].data, floats + 3, sizeof floats[0]);
    weights_release(&weights);
    file_new_release(&memory);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_refuses_tensors_that_lie),
        cmocka_unit_test(open_refuses_objects_that_are_not_one_state_dict),
        cmocka_unit_test(open_refuses_names_that_are_none),
        cmocka_unit_test(open_strips_a_prefix_that_all_names_have),
        cmocka_unit_test(open_refuses_one_storage_of_two_types),
        cmocka_unit_test(open_refuses_old_files_whose_storages_are_wrong),
        cmocka_unit_test(open_reads_a_storage_that_is_part_of_another),
        cmocka_unit_test(open_refuses_old_files_of_other_machines),
        cmocka_unit_test(open_refuses_a_file_cut_anywhere),
        cmocka_unit_test(open_converts_every_kind_of_half),
        cmocka_unit_test(open_refuses_doubles_beyond_float32),
        cmocka_unit_test(open_reads_what_write_wrote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
