/* tests/weights/test_packed.c -- weights in a model.tar.gz, and which of several files they are. */
#include "trainer/weights/packed.h"

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

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/data/pack/tar.h"

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
static int unpack(const struct buf *file, size_t bytes, struct weights_unpacked *out,
                  struct err *err)
{
    unsigned char *const exact = malloc(bytes + 1);
    const struct weights_packed packed = {
        .bytes = exact, .count = bytes, .path = "m.tar.gz", .bytes_max = 1000};
    int rc;

    memcpy(exact, file->data, bytes);
    exact[bytes] = 0xff;
    rc = weights_unpack(&packed, out, err);
    free(exact);
    return rc;
}

static void must_refuse(const char *name, const struct buf *file, size_t bytes, const char *says)
{
    struct weights_unpacked out = {0};
    struct err err = {0};

    if (unpack(file, bytes, &out, &err) == 0)
        fail_msg("%s: was unpacked", name);
    if (err.code != ERR_INPUT || strstr(err.msg, says) == NULL ||
        strstr(err.msg, "'m.tar.gz'") == NULL)
        fail_msg("%s: '%s' does not say '%s'", name, err.msg, says);
    assert_null(out.name);
    weights_unpacked_release(&out);
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
        struct buf file = {0};
        struct weights_unpacked out = {0};
        struct err err = {0};
        const char *const right = cases[i].right;

        put_packed(&file, cases[i].names, right);
        assert_true(weights_is_packed(file.data, file.bytes));
        must(unpack(&file, file.bytes, &out, &err), &err);
        assert_string_equal(out.name, strncmp(right, "./", 2) == 0 ? right + 2 : right);
        assert_string_equal(buf_text(&out.content), WEIGHTS);
        weights_unpacked_release(&out);
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

/* A header's field of octal digits, or where these do not do, GNU's number in base 256; and the sum
 * of the header's bytes (POSIX.1-1988 "ustar"). */
static void set_size(unsigned char *header, uint64_t bytes)
{
    unsigned int sum = 0;

    memset(header + 124, 0, 12);
    header[124] = 0x80;
    for (int i = 0; i < 8; i++)
        header[135 - i] = (unsigned char)(bytes >> (8 * i));
    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
}

/* Sizes that no file has, of files that are wanted and of others. */
static void unpack_refuses_sizes_before_it_takes_memory(void **state)
{
    static const char *const names[] = {"a.txt", "b.txt", "model.pth", NULL};
    static const struct {
        uint64_t sizes[3];
        const char *says;
    } cases[] = {
        {{100, INT64_MAX - 1, 6}, "'m.tar.gz'"},
        {{6, INT64_MAX - 4096, 6}, "far more than a model"},
        {{6, UINT64_C(9) << 30, 6}, "far more than a model"},
        {{6, 6, INT64_MAX}, "'m.tar.gz'"},
        {{6, 6, UINT64_C(4) << 30}, "4294 MB"},
        {{6, 6, 1001}, "the most here"},
        {{6, UINT64_C(1) << 30, 6}, "damaged"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf tar = {0}, file = {0};

        put_tar(&tar, names, "model.pth");
        for (size_t at = 0; at < 3; at++)
            set_size(tar.data + 1024 * at, cases[i].sizes[at]);
        put_gzip(&file, tar.data, tar.bytes);
        must_refuse(cases[i].says, &file, file.bytes, cases[i].says);
        must_refuse(cases[i].says, &tar, tar.bytes, cases[i].says);
        buf_release(&file);
        buf_release(&tar);
    }
}

static void walk_goes_through_all_files(void **state)
{
    static const char *const names[] = {"./config.json", "a/b/model.pth", "z", NULL};
    struct buf tar = {0};
    struct weights_packed packed = {.path = "m.tar", .bytes_max = 1000};
    struct weights_member member;
    struct weights_walk *walk;
    struct buf out = {0};
    struct err err = {0};

    (void)state;
    put_tar(&tar, names, "a/b/model.pth");
    packed.bytes = tar.data;
    packed.count = tar.bytes;
    walk = weights_walk_open(&packed);
    for (int i = 0; names[i] != NULL; i++) {
        assert_int_equal(weights_walk_next(walk, &member, &err), 1);
        assert_string_equal(member.path, i == 0 ? "config.json" : names[i]);
        if (i == 1)
            must(weights_walk_take(walk, &out, &err), &err);
    }
    assert_int_equal(weights_walk_next(walk, &member, &err), 0);
    assert_string_equal(buf_text(&out), WEIGHTS);
    weights_walk_close(walk);
    buf_release(&out);
    buf_release(&tar);
}

/* Two gzips behind each other, as `cat` makes them, and zeros behind the last. */
static void unpack_takes_several_gzips_and_padding(void **state)
{
    static const char *const names[] = {"config.json", "model.pth", NULL};
    struct buf tar = {0}, file = {0};
    struct weights_unpacked out = {0};
    struct err err = {0};

    (void)state;
    put_tar(&tar, names, "model.pth");
    put_gzip(&file, tar.data, 700);
    put_gzip(&file, tar.data + 700, tar.bytes - 700);
    buf_append(&file, "\0\0\0\0\0\0\0\0", 8);
    must(unpack(&file, file.bytes, &out, &err), &err);
    assert_string_equal(buf_text(&out.content), WEIGHTS);
    weights_unpacked_release(&out);
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
        struct buf file = {0};
        struct weights_unpacked out = {0};
        struct err err = {0};
        const unsigned char byte = tar.data[i];

        tar.data[i] = (unsigned char)(i % 3 == 0 ? 0xff : i % 3 == 1 ? byte ^ 0x40 : 0x80);
        put_gzip(&file, tar.data, tar.bytes);
        assert_true(unpack(&file, file.bytes, &out, &err) == 0 || err.code == ERR_INPUT);
        tar.data[i] = byte;
        weights_unpacked_release(&out);
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
        cmocka_unit_test(unpack_refuses_sizes_before_it_takes_memory),
        cmocka_unit_test(walk_goes_through_all_files),
        cmocka_unit_test(unpack_takes_several_gzips_and_padding),
        cmocka_unit_test(unpack_survives_changed_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
