/* tests/weights/test_packed.c -- weights in a model.tar.gz, and which of several files they are. */
#include "trainer/weights/packed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/data/tar.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define WEIGHTS      "the weights, whatever they are"

static void must(int rc, const struct err *err)
{
    if (rc < 0)
        fail_msg("%s", err->msg);
}

/* A tar of files with these names, '/' in them too; the one called `right` has WEIGHTS in it. */
static void put_tar(struct buf *out, const char *const *names, const char *right)
{
    char path[] = "/tmp/convoy-tar-XXXXXX";
    const int fd = mkstemp(path);
    struct data_tar tar = {0};
    struct err err = {0};
    uint64_t bytes = 0;

    assert_true(fd >= 0);
    close(fd);
    must(data_tar_open(&tar, path, &err), &err);
    for (size_t i = 0; names[i] != NULL; i++) {
        const char *const content = strcmp(names[i], right) == 0 ? WEIGHTS : "others";

        must(data_tar_put(&tar, names[i], content, strlen(content), NULL, &err), &err);
    }
    must(data_tar_finish(&tar, &bytes, &err), &err);
    data_tar_release(&tar);
    must(file_read(path, 1 << 20, out, &err), &err);
    unlink(path);
}

static void put_gzip(struct buf *out, const void *bytes, size_t count)
{
    z_stream z = {.next_in = (z_const Bytef *)bytes, .avail_in = (uInt)count};
    unsigned char room[100000];

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = room;
    z.avail_out = sizeof room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf_append(out, room, sizeof room - z.avail_out);
    deflateEnd(&z);
}

static void put_packed(struct buf *out, const char *const *names, const char *right)
{
    struct buf tar = {0};

    put_tar(&tar, names, right);
    put_gzip(out, tar.data, tar.bytes);
    buf_release(&tar);
}

/* In bytes of exactly this size, for ASan. */
static int unpack(const struct buf *file, size_t bytes, struct buf *out, char **member,
                  struct err *err)
{
    unsigned char *const exact = malloc(bytes + 1);
    int rc;

    memcpy(exact, file->data, bytes);
    exact[bytes] = 0xff;
    rc = weights_unpack(exact, bytes, "m.tar.gz", out, member, err);
    free(exact);
    return rc;
}

static void must_refuse(const char *name, const struct buf *file, size_t bytes, const char *says)
{
    struct buf out = {0};
    struct err err = {0};
    char *member = NULL;

    if (unpack(file, bytes, &out, &member, &err) == 0)
        fail_msg("%s: was unpacked", name);
    if (err.code != ERR_INPUT || strstr(err.msg, says) == NULL ||
        strstr(err.msg, "'m.tar.gz'") == NULL)
        fail_msg("%s: '%s' does not say '%s'", name, err.msg, says);
    assert_null(member);
    buf_release(&out);
}

static void unpack_finds_the_best_name(void **state)
{
    static const struct {
        const char *names[6], *right;
    } cases[] = {
        {{"model.safetensors"}, "model.safetensors"},
        {{"./model.pth"}, "./model.pth"},
        {{"config.json", "model.pth", "model.safetensors", "z.pt"}, "model.safetensors"},
        {{"a.pth", "model.pth", "b.pth"}, "model.pth"},
        {{"code/inference.py", "code/model.safetensors", "resnet50.pt"}, "resnet50.pt"},
        {{".model.safetensors", "x.safetensors"}, "x.safetensors"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf file = {0}, out = {0};
        struct err err = {0};
        const char *const right = cases[i].right;
        char *member = NULL;

        put_packed(&file, cases[i].names, right);
        assert_true(weights_is_packed(file.data, file.bytes));
        must(unpack(&file, file.bytes, &out, &member, &err), &err);
        assert_string_equal(member, strncmp(right, "./", 2) == 0 ? right + 2 : right);
        assert_string_equal(buf_text(&out), WEIGHTS);
        free(member);
        buf_release(&out);
        buf_release(&file);
    }
}

static void unpack_refuses_what_has_no_weights_or_several(void **state)
{
    static const struct {
        const char *names[4], *says;
    } cases[] = {
        {{"config.json"}, "has no weights in it"},
        {{"export/model.pth"}, "has no weights in it"},
        {{"image-classification-0000.params", "model-symbol.json"}, "MXNet"},
        {{"a.pth", "b.pt"}, "both 'a.pth' and 'b.pt'"},
        {{"model.pth", "./model.pth"}, "both 'model.pth' and 'model.pth'"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf file = {0};

        put_packed(&file, cases[i].names, "");
        must_refuse(cases[i].says, &file, file.bytes, cases[i].says);
        buf_release(&file);
    }
}

static void unpack_refuses_what_is_damaged(void **state)
{
    static const char *const names[] = {"model.pth", NULL};
    struct buf file = {0}, tar = {0}, other = {0};

    (void)state;
    put_packed(&file, names, "model.pth");
    for (size_t bytes = 2; bytes < file.bytes; bytes++)
        must_refuse("cut", &file, bytes, "cut short");
    file.data[file.bytes - 6] ^= 1; /* its checksum */
    must_refuse("checksum", &file, file.bytes, "damaged: incorrect data check");
    put_gzip(&other, "no tar at all, but text of some length", 38);
    must_refuse("text", &other, other.bytes, "no tar");
    other.bytes = 0;
    put_tar(&tar, names, "model.pth");
    put_gzip(&other, tar.data, 512 + 10); /* in the middle of the member */
    must_refuse("a short member", &other, other.bytes, "damaged");
    buf_release(&tar);
    buf_release(&file);
    buf_release(&other);
}

/* Two gzips behind each other, as `cat` makes them, and zeros behind the last. */
static void unpack_takes_several_gzips_and_padding(void **state)
{
    static const char *const names[] = {"config.json", "model.pth", NULL};
    struct buf tar = {0}, file = {0}, out = {0};
    struct err err = {0};
    char *member = NULL;

    (void)state;
    put_tar(&tar, names, "model.pth");
    put_gzip(&file, tar.data, 700);
    put_gzip(&file, tar.data + 700, tar.bytes - 700);
    buf_append(&file, "\0\0\0\0\0\0\0\0", 8);
    must(unpack(&file, file.bytes, &out, &member, &err), &err);
    assert_string_equal(buf_text(&out), WEIGHTS);
    free(member);
    buf_release(&out);
    buf_release(&file);
    buf_release(&tar);
}

/* Every byte changed in some way: weights or a line, and nothing else happens. */
static void unpack_survives_changed_bytes(void **state)
{
    static const char *const names[] = {"config.json", "./model.pth", "more/model.pth", NULL};
    struct buf tar = {0};

    (void)state;
    put_tar(&tar, names, "./model.pth");
    for (size_t i = 0; i < tar.bytes; i++) {
        struct buf file = {0}, out = {0};
        struct err err = {0};
        const unsigned char byte = tar.data[i];
        char *member = NULL;

        tar.data[i] = (unsigned char)(i % 3 == 0 ? 0xff : i % 3 == 1 ? byte ^ 0x40 : 0x80);
        put_gzip(&file, tar.data, tar.bytes);
        assert_true(unpack(&file, file.bytes, &out, &member, &err) == 0 || err.code == ERR_INPUT);
        tar.data[i] = byte;
        free(member);
        buf_release(&out);
        buf_release(&file);
    }
    buf_release(&tar);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpack_finds_the_best_name),
        cmocka_unit_test(unpack_refuses_what_has_no_weights_or_several),
        cmocka_unit_test(unpack_refuses_what_is_damaged),
        cmocka_unit_test(unpack_takes_several_gzips_and_padding),
        cmocka_unit_test(unpack_survives_changed_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
