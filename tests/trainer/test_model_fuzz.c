/* tests/trainer/test_model_fuzz.c -- what the readers of a model's config.json, class_labels.json
 * and tar make of bytes that nobody meant: the same bytes at every run. Under ASan and UBSan
 * (preset asan) every access is checked too. `test_trainer_model_fuzz ROUNDS SEED` goes on for
 * longer, with others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "tests/weights/mangle.h"
#include "trainer/data/pack/tar.h"
#include "trainer/model_dir.h"

#define CONFIG                                                                                     \
    "{\"format\": \"convoy-model-1\", \"model\": \"resnet20\", \"classes\": 3, \"head\": "         \
    "\"64-12-relu\", \"image_size\": 32, \"eval_transform\": \"resize\", \"normalize\": "          \
    "{\"mean\": "                                                                                  \
    "[0, 0.5, 1], \"std\": [1, 2, 3]}, \"hyperparameters\": {\"head\": \"linear\"}}"
#define LABELS "[\"a\", \"b\", \"c\"]"

static int rounds = 3000;

static void change(struct buf *file)
{
    for (uint32_t changes = 1 + mangle_below(4); changes > 0 && file->bytes > 0; changes--)
        mangle_once(file);
}

/* In bytes of exactly this size, for ASan. */
static struct buf exact(struct buf *file)
{
    struct buf copy = {malloc(file->bytes + (file->bytes == 0)), file->bytes, file->bytes};

    if (file->bytes > 0)
        memcpy(copy.data, file->data, file->bytes);
    buf_release(file);
    return copy;
}

/* A model, or one line that names the file. */
static int parse_once(struct buf *config, struct buf *labels)
{
    struct train_model_dir dir = {0};
    struct err err = {0};
    struct buf c = exact(config), l = exact(labels);
    const int taken = train_model_dir_parse(&dir, "M", &c, &l, &err) == 0;

    assert_true(taken ? err.code == ERR_NONE : err.code == ERR_INPUT);
    assert_true(taken || strstr(err.msg, "'M/") != NULL);
    for (int i = 0; taken && i < dir.classes; i++)
        assert_true(dir.class_names[i][0] != '\0');
    train_model_dir_release(&dir);
    buf_release(&c);
    buf_release(&l);
    return taken;
}

static void parse_survives_changed_files(void **state)
{
    int taken = 0;

    (void)state;
    mangle_begin(1);
    for (int round = 0; round < 10 * rounds; round++) {
        struct buf config = {0}, labels = {0};

        buf_printf(&config, "%s", CONFIG);
        buf_printf(&labels, "%s", LABELS);
        change(round % 4 == 0 ? &labels : &config);
        taken += parse_once(&config, &labels);
    }
    assert_in_range(taken, 1, 10 * rounds - 1);
}

static void put_tar(struct buf *out)
{
    static const struct {
        const char *name, *content;
    } files[] = {{"./config.json", CONFIG},
                 {"class_labels.json", LABELS},
                 {"code/inference.py", "print()"},
                 {"model.safetensors", "whatever they are"}};
    char path[] = "/tmp/convoy-tar-XXXXXX";
    const int fd = mkstemp(path);
    struct data_tar tar = {0};
    uint64_t bytes = 0;

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(data_tar_open(&tar, path, NULL), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_int_equal(data_tar_put(&tar, files[i].name, files[i].content,
                                      strlen(files[i].content), NULL, NULL),
                         0);
    assert_int_equal(data_tar_finish(&tar, &bytes, NULL), 0);
    data_tar_release(&tar);
    assert_int_equal(file_read(path, 1 << 20, out, NULL), 0);
    unlink(path);
}

static void put_gzip(struct buf *tar)
{
    z_stream z = {.next_in = tar->data, .avail_in = (uInt)tar->bytes};
    unsigned char room[100000];

    assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = room;
    z.avail_out = sizeof room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    tar->bytes = 0;
    buf_append(tar, room, sizeof room - z.avail_out);
    deflateEnd(&z);
}

/* 1, 0 or -1 as the reader says. */
static int unpack_once(struct buf *file)
{
    struct train_model_files files = {0};
    struct err err = {0};
    struct buf tar = exact(file);
    const int rc = train_model_tar_read(&tar, "M.tar", &files, &err);

    assert_true(rc > 0 ? err.code == ERR_NONE : err.code == ERR_INPUT);
    assert_true(rc > 0 || strstr(err.msg, "'M.tar'") != NULL);
    assert_true(rc <= 0 || (files.config.bytes > 0 && files.labels.bytes > 0));
    assert_int_equal(rc == 0, err.code == ERR_INPUT && strstr(err.msg, "no config.json") != NULL);
    train_model_files_release(&files);
    buf_release(&tar);
    return rc;
}

/* The tar as it is, in a gzip, and a gzip that is changed itself. */
static void unpack_survives_changed_tars(void **state)
{
    struct buf whole = {0};
    int taken = 0;

    (void)state;
    put_tar(&whole);
    setenv("CONVOY_HOST_MEMORY", "100000000", 1);
    for (int way = 0; way < 3; way++) {
        mangle_begin(10 + (uint64_t)way);
        for (int round = 0; round < rounds; round++) {
            struct buf tar = {0};

            buf_append(&tar, whole.data, whole.bytes);
            if (way == 2)
                put_gzip(&tar);
            change(&tar);
            if (way == 1)
                put_gzip(&tar);
            taken += unpack_once(&tar) > 0;
        }
    }
    unsetenv("CONVOY_HOST_MEMORY");
    buf_release(&whole);
    assert_in_range(taken, 1, 3 * rounds - 1);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_survives_changed_files),
        cmocka_unit_test(unpack_survives_changed_tars),
    };

    if (argc > 1)
        rounds = (int)strtol(argv[1], NULL, 10);
    if (argc > 2)
        mangle_seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
