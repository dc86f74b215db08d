/* tests/weights/test_weights_fuzz.c -- what the readers of weights make of bytes that nobody meant:
 * the same bytes at every run. Under ASan and UBSan (preset asan) every access is checked too.
 * `test_weights_weights_fuzz ROUNDS SEED` goes on for longer, with others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "bed.h"
#include "mangle.h"
#include "trainer/weights/pickle.h"
#include "trainer/weights/zip.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define FOLDER       "../golden/weights/"

static int rounds = 3000;

static volatile unsigned char touched;

/* Weights whose every element can be read, or one line; never both. */
static int open_once(const struct buf *file)
{
    struct weights weights;
    struct err err = {0};
    unsigned char *const exact = malloc(file->bytes + (file->bytes == 0));
    int opened;

    if (file->bytes > 0)
        memcpy(exact, file->data, file->bytes);
    opened = weights_open_bytes(&weights, exact, file->bytes, "f.pth", &err) == 0;
    free(exact);
    assert_true(opened ? err.code == ERR_NONE : err.code == ERR_INPUT);
    assert_true(opened || strstr(err.msg, "f.pth") != NULL);
    for (size_t i = 0; opened && i < weights.count; i++) {
        const struct safetensors_entry *const tensor = &weights.tensors[i];
        size_t bytes = safetensors_type_bytes(tensor->type);

        for (int d = 0; d < tensor->dims; d++)
            bytes *= tensor->size[d];
        for (size_t b = 0; b < bytes; b++)
            touched ^= ((const unsigned char *)tensor->data)[b];
        assert_ptr_equal(weights_find(&weights, tensor->name), tensor);
    }
    weights_release(&weights);
    return opened;
}

static void read_golden(struct buf *file, const char *name)
{
    char path[256];

    snprintf(path, sizeof path, FOLDER "%s", name);
    assert_int_equal(file_read(path, 100000, file, NULL), 0);
}

/* A file changed in one to four places, again and again. */
static void fuzz_around(const struct buf *whole)
{
    for (int round = 0; round < rounds; round++) {
        struct buf file = {0};

        buf_append(&file, whole->data, whole->bytes);
        for (uint32_t changes = 1 + mangle_below(4); changes > 0 && file.bytes > 0; changes--)
            mangle_once(&file);
        open_once(&file);
        buf_release(&file);
    }
}

static void open_survives_changed_files_of_pytorch(void **state)
{
    static const char *const names[] = {"plain-old.pth",   "views-old.pth",      "plain-zip.pth",
                                        "wrapped-old.pth", "parameters-old.pth", "deflated.pth",
                                        "modern.pth"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct buf whole = {0};

        mangle_begin(i + 1);
        read_golden(&whole, names[i]);
        assert_int_equal(open_once(&whole), 1);
        fuzz_around(&whole);
        buf_release(&whole);
    }
}

/* In a zip the CRC catches most changes: here it is right again, as a hostile writer would see to.
 */
static void open_survives_changed_pickles_in_a_zip(void **state)
{
    static const char *const names[] = {"plain-zip.pth", "wrapped-zip.pth", "views-zip.pth"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct buf whole = {0};
        struct weights_zip zip;

        mangle_begin(i + 20);
        read_golden(&whole, names[i]);
        assert_int_equal(weights_zip_open(&zip, whole.data, whole.bytes, "f", NULL), 0);
        for (int round = 0; round < rounds; round++) {
            const struct weights_zip_entry *const data = weights_zip_find(&zip, "data.pkl");
            struct buf pickle = {0}, file = {0};

            buf_append(&pickle, data->data, data->bytes);
            for (uint32_t changes = 1 + mangle_below(3); changes > 0; changes--)
                mangle_once(&pickle);
            bed_zip(&file, &pickle, mangle_below(300));
            open_once(&file);
            buf_release(&pickle);
            buf_release(&file);
        }
        weights_zip_close(&zip);
        buf_release(&whole);
    }
}

/* Instructions in any order: most soon fail, many make odd objects first. */
static void read_survives_random_instructions(void **state)
{
    static const struct {
        const char *bytes;
        size_t count;
    } pieces[] = {
#define BYTES(text) {text, sizeof(text) - 1}
        BYTES("("),
        BYTES("."),
        BYTES("K\1"),
        BYTES("K\0"),
        BYTES("M\0\1"),
        BYTES("N"),
        BYTES("Q"),
        BYTES("R"),
        BYTES("R"),
        BYTES("\x81"),
        BYTES("a"),
        BYTES("b"),
        BYTES("}"),
        BYTES("]"),
        BYTES("e"),
        BYTES("h\0"),
        BYTES("h\1"),
        BYTES("q\0"),
        BYTES("q\1"),
        BYTES("s"),
        BYTES("t"),
        BYTES(")"),
        BYTES("u"),
        BYTES("\x85"),
        BYTES("\x86"),
        BYTES("\x87"),
        BYTES("\x88"),
        BYTES("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
        BYTES("X\1\0\0\0"
              "0"),
        BYTES("X\7\0\0\0storage"),
        BYTES("ctorch\nFloatStorage\n"),
        BYTES("ccollections\nOrderedDict\n"),
        BYTES("ctorch._utils\n_rebuild_tensor_v2\n"),
        BYTES("ctorch._utils\n_rebuild_tensor\n"),
        BYTES("ctorch.nn.parameter\nParameter\n"),
        BYTES("ctorch\nFloatTensor\n"),
        BYTES("ccollections\nOrderedDict\n)R"),
        BYTES("(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0X\3\0\0\0cpuK\6tQ"),
        BYTES("K\0K\3\x85K\1\x85"),
        BYTES("\x89}"),
    };

    (void)state;
    mangle_begin(40);
    for (int round = 0; round < 10 * rounds; round++) {
        struct pickle_store store = {0};
        struct buf pickle = {0};
        struct err err = {0};
        const struct pickle_value *value;

        buf_append(&pickle, BED_PROTO, 2);
        for (uint32_t left = 1 + mangle_below(30); left > 0; left--) {
            const size_t piece = mangle_below(COUNT(pieces));

            buf_append(&pickle, pieces[piece].bytes, pieces[piece].count);
        }
        value = pickle_read(&store, pickle.data, pickle.bytes, "f.pth", NULL, &err);
        assert_true((value != NULL) == (err.code == ERR_NONE));
        assert_true(value != NULL || err.code == ERR_INPUT);
        pickle_store_release(&store);
        buf_release(&pickle);
    }
}

static void open_survives_changed_safetensors(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]},"
        "\"c\":{\"dtype\":\"BF16\",\"shape\":[0,4],\"data_offsets\":[32,32]},"
        "\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[32,40]}}";
    const uint64_t length = sizeof header - 1;
    struct buf whole = {0};

    (void)state;
    mangle_begin(50);
    buf_append(&whole, &length, sizeof length);
    buf_append(&whole, header, sizeof header - 1);
    buf_append(&whole, "0123456789012345678901234567890123456789", 40);
    assert_int_equal(open_once(&whole), 1);
    for (int i = 0; i < 5; i++)
        fuzz_around(&whole);
    buf_release(&whole);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_survives_changed_files_of_pytorch),
        cmocka_unit_test(open_survives_changed_pickles_in_a_zip),
        cmocka_unit_test(read_survives_random_instructions),
        cmocka_unit_test(open_survives_changed_safetensors),
    };

    if (argc > 1)
        rounds = (int)strtol(argv[1], NULL, 10);
    if (argc > 2)
        mangle_seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
