/* tests/data/test_huffman.c -- usual pictures are read the fast way, and others are left to
 * libjpeg. That what is read is right, test_part.c shows: it would be right without the fast way as
 * well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <jpeglib.h>

#include "base/buf.h"
#include "tests/data/pictures.h"
#include "trainer/data/picture/huffman.h"

enum way { LEFT, FAILED, READ };

/* What becomes of columns 40 to 49 of a picture. */
static enum way way_of(const struct buf *bytes, unsigned shrink)
{
    struct data_huffman *const huffman = data_huffman_new();
    struct jpeg_error_mgr errors;
    struct jpeg_decompress_struct cinfo = {.err = jpeg_std_error(&errors)};
    enum way way = LEFT;
    JDIMENSION x = 40, width = 10;

    jpeg_create_decompress(&cinfo);
    jpeg_mem_src(&cinfo, bytes->data, (unsigned long)bytes->bytes);
    jpeg_read_header(&cinfo, TRUE);
    cinfo.scale_denom = shrink;
    jpeg_start_decompress(&cinfo);
    jpeg_crop_scanline(&cinfo, &x, &width);
    if (data_huffman_begin(huffman, &cinfo, x, width)) {
        unsigned char *const row = malloc(4 * (size_t)cinfo.output_width);
        JSAMPROW rows[] = {row};

        while (cinfo.output_scanline < cinfo.output_height &&
               jpeg_read_scanlines(&cinfo, rows, 1) == 1)
            ;
        free(row);
        way = data_huffman_failed(huffman) ? FAILED : READ;
        if (way == READ)
            assert_int_equal(cinfo.output_scanline, cinfo.output_height);
    }
    jpeg_destroy_decompress(&cinfo);
    data_huffman_free(huffman);
    return way;
}

static void usual_pictures_are_read_the_fast_way(void **state)
{
    static const struct {
        const char *name;
        struct picture picture;
        struct picture_form form;
        enum way way;
    } cases[] = {
        {"4:2:0", {500, 375, PICTURE_YCC, false, 0}, {.busy = true}, READ},
        {"4:2:2", {500, 375, PICTURE_YCC, false, 0}, {2, 1, true, false}, READ},
        {"4:4:4", {500, 375, PICTURE_YCC, false, 0}, {1, 1, true, false}, READ},
        {"grey", {500, 375, PICTURE_GREY, false, 0}, {.busy = true}, READ},
        {"CMYK", {500, 375, PICTURE_CMYK_ADOBE, false, 0}, {.busy = true}, READ},
        {"restart markers", {500, 375, PICTURE_YCC, false, 2}, {.busy = true}, READ},
        {"progressive", {500, 375, PICTURE_YCC, true, 0}, {.busy = true}, LEFT},
        {"a scan each", {500, 375, PICTURE_YCC, false, 0}, {.busy = true, .apart = true}, LEFT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (unsigned shrink = 1; shrink <= 8; shrink *= 2) {
            struct buf bytes = {0};

            picture_jpeg_formed(&cases[i].picture, &cases[i].form, &bytes);
            if (way_of(&bytes, shrink) != cases[i].way)
                fail_msg("%s at 1/%u", cases[i].name, shrink);
            buf_release(&bytes);
        }
}

static void damaged_pictures_are_left_or_fail(void **state)
{
    const struct picture picture = {500, 375, PICTURE_YCC, false, 0};
    const struct picture_form form = {.busy = true};
    struct buf bytes = {0};
    unsigned char *data;
    size_t middle;

    (void)state;
    picture_jpeg_formed(&picture, &form, &bytes);
    data = bytes.data;
    middle = bytes.bytes / 2;
    bytes.bytes -= 2; /* no end mark */
    assert_int_equal(way_of(&bytes, 1), LEFT);
    bytes.bytes += 2;
    for (size_t i = 0; i < 64; i++)
        data[middle + i] = i % 2 == 0 ? 0xff : 0; /* stuffed: 32 bytes of ones, no code */
    assert_int_equal(way_of(&bytes, 1), FAILED);
    data[middle] = 0xff;
    data[middle + 1] = 0xd0; /* a restart marker, where there are none */
    assert_int_equal(way_of(&bytes, 1), LEFT);
    buf_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_pictures_are_read_the_fast_way),
        cmocka_unit_test(damaged_pictures_are_left_or_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
