/* tests/fuzz/seeds.c -- `seeds DIR`: writes those seeds of the fuzz targets that are no text, each
 * below 3 KiB, as DIR/TARGET/NAME. They are committed; README.md says how they are made anew. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "tests/data/pictures.h"
#include "tests/data/stranger.h"
#include "trainer/audit/record.h"
#include "trainer/data/index/shard.h"

static const char *root;

static void put(const char *target, const char *name, struct buf *bytes)
{
    char path[512];
    struct err err = {0};

    snprintf(path, sizeof path, "%s/%s", root, target);
    if (file_make_folder(path, &err) == 0) {
        snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
        file_replace(path, bytes->data, bytes->bytes, &err);
    }
    if (err.code != ERR_NONE) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    buf_release(bytes);
}

/* --- tars --- */

/* A header in front of a member's: of kind x (pax) or L (GNU). */
static void extra(struct buf *tar, char kind, const char *text)
{
    const size_t at = tar->bytes;

    stranger_member(tar, "extra", text, strlen(text));
    tar->data[at + 156] = (unsigned char)kind;
    stranger_sum(tar->data + at);
}

static void end_mark(struct buf *tar)
{
    const unsigned char block[512] = {0};

    buf_append(tar, block, sizeof block);
}

static void tars(void)
{
    struct buf tar = {0};

    stranger_member(&tar, "a.jpg", "picture", 7);
    stranger_member(&tar, "a.cls", "7\n", 2);
    put("tar", "cut", &tar);
    stranger_member(&tar, "a.jpg", "picture", 7);
    stranger_member(&tar, "a.cls", "7\n", 2);
    end_mark(&tar);
    put("tar", "whole", &tar);
    stranger_member(&tar, "a.png", "p", 1);
    put("tar", "no-class", &tar);
    extra(&tar, 'x', "16 path=b/1.jpg\n10 size=1\n");
    stranger_member(&tar, "x", "p", 1);
    put("tar", "pax", &tar);
    extra(&tar, 'L', "b/1.cls");
    stranger_member(&tar, "x", "", 0);
    put("tar", "gnu", &tar);
    stranger_member(&tar, "s.jpg", "", 0);
    tar.data[156] = '2'; /* a symbolic link */
    stranger_sum(tar.data);
    put("tar", "link", &tar);
}

/* --- records --- */

static void records(const char *target)
{
    static const float labels[2] = {1, 2};
    static const unsigned char magic[12] = "\x0a\x23\xd7\xce____\x0a\x23\xd7\xce";
    struct buf file = {0}, file2 = {0};

    stranger_image(&file, labels, 1, "\xff\xd8\xff picture", 11);
    stranger_image(&file, labels + 1, 1, "\x89PNG picture", 12);
    put(target, "images", &file);
    stranger_image(&file, labels, 2, "\xff\xd8\xff picture", 11);
    put(target, "labels", &file);
    stranger_record(&file, magic, sizeof magic);
    put(target, "parts", &file);
    stranger_record(&file, "\xff\xd8\xff picture", 11);
    stranger_record(&file, "3", 1);
    put(target, "pairs", &file);
    stranger_image(&file, labels, 1, "\xff\xd8\xff picture", 11);
    stranger_record(&file2, file.data, file.bytes);
    buf_release(&file);
    put(target, "wrapped", &file2);
}

/* --- weights, a shard's index, an audit file --- */

/* A header, behind its length and padded to whole eights, and the data. */
static void weights(void)
{
    static const char header[] = "{\"__metadata__\":{\"a\":\"b\"},\"w\":{\"dtype\":\"F32\","
                                 "\"shape\":[2],\"data_offsets\":[0,8]}}";
    const unsigned char length[8] = {(sizeof header + 6) / 8 * 8};
    struct buf bytes = {0};

    buf_append(&bytes, length, sizeof length);
    buf_printf(&bytes, "%-*s12345678", (int)length[0], header);
    put("weights", "safetensors", &bytes);
}

static void indices(void)
{
    struct data_shard shard = {.tar_bytes = 10240};
    struct buf bytes = {0};

    for (uint32_t i = 0; i < 3; i++) {
        const struct data_shard_record record = {
            .offset = 512 + 1024 * i, .bytes = 7 + i, .label = i, .crc32c = 99 * i};

        data_shard_add(&shard, &record, i == 1 ? "dogs/b.png" : "cats/a.jpg");
    }
    data_shard_encode(&shard, &bytes);
    data_shard_release(&shard);
    put("index", "three", &bytes);
}

static void audits(void)
{
    const struct audit_begin begin = {
        .generation = 1,
        .ranks = 2,
        .order = {.samples = 1000, .chunk_samples = 16, .seed = 1, .batch = 8, .lanes = 2}};
    const struct audit_end end = {.how = AUDIT_STOPPED, .step = 1};
    const uint64_t samples[3] = {5, 999, 300};
    struct buf file = {0}, body = {0};

    buf_append(&file, AUDIT_MAGIC, AUDIT_MAGIC_BYTES);
    audit_begin_encode(&body, &begin);
    audit_frame_append(&file, &body);
    body.bytes = 0;
    audit_step_encode(&body, 0, 0, 1);
    audit_step_add(&body, audit_width(1000), 1, samples, 2, samples + 2, 1);
    audit_frame_append(&file, &body);
    body.bytes = 0;
    audit_end_encode(&body, &end);
    audit_frame_append(&file, &body);
    buf_release(&body);
    put("audit", "whole", &file);
}

/* --- pictures --- */

static void pictures(void)
{
    static const struct {
        const char *name;
        struct picture picture;
        size_t cut; /* bytes that its end lacks */
    } jpegs[] = {
        {"grey", {.width = 17, .height = 9, .colours = PICTURE_GREY}, 0},
        {"ycc", {.width = 24, .height = 24, .colours = PICTURE_YCC, .restart_rows = 1}, 0},
        {"rgb", {.width = 9, .height = 17, .colours = PICTURE_RGB}, 0},
        {"progressive",
         {.width = 24, .height = 17, .colours = PICTURE_YCC, .progressive = true},
         0},
        {"cmyk", {.width = 8, .height = 8, .colours = PICTURE_CMYK}, 0},
        {"ycck", {.width = 9, .height = 9, .colours = PICTURE_YCCK}, 0},
        {"cut", {.width = 24, .height = 24, .colours = PICTURE_YCC}, 40},
    };
    struct buf bytes = {0};

    for (size_t i = 0; i < sizeof jpegs / sizeof jpegs[0]; i++) {
        picture_jpeg(&jpegs[i].picture, &bytes);
        bytes.bytes -= jpegs[i].cut;
        put("picture", jpegs[i].name, &bytes);
    }
    for (int kind = PICTURE_PNG_RGB; kind <= PICTURE_PNG_16; kind++) {
        char name[32];

        snprintf(name, sizeof name, "png-%d", kind);
        picture_png(9, 7, (enum picture_png)kind, kind == PICTURE_PNG_RGBA, &bytes);
        put("picture", name, &bytes);
    }
}

int main(int argc, char **argv)
{
    struct buf tar = {0};

    if (argc != 2) {
        fprintf(stderr, "usage: seeds DIR\n");
        return 2;
    }
    root = argv[1];
    tars();
    records("recordio");
    records("pipe");
    stranger_member(&tar, "a.cls", "0", 1);
    stranger_member(&tar, "a.jpg", "\xff\xd8\xff", 3);
    end_mark(&tar);
    put("pipe", "tar", &tar);
    weights();
    indices();
    audits();
    pictures();
    return 0;
}
