/* tests/data/test_part.c -- a part of a picture is what the whole has there, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jpeglib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/philox.h"
#include "tests/data/pictures.h"
#include "trainer/data/picture/decode.h"

#define PARTS   60  /* of each picture and scale */
#define DAMAGED 300 /* of each kind */

static const struct {
    const char *name;
    struct picture picture; /* sides are set by the test */
    struct picture_form form;
} kinds[] = {
    {"4:2:0", {.colours = PICTURE_YCC}, {.busy = true}},
    {"4:2:2", {.colours = PICTURE_YCC}, {.samples_x = 2, .samples_y = 1, .busy = true}},
    {"4:4:0", {.colours = PICTURE_YCC}, {.samples_x = 1, .samples_y = 2, .busy = true}},
    {"4:4:4", {.colours = PICTURE_YCC}, {.samples_x = 1, .samples_y = 1, .busy = true}},
    {"4:1:1", {.colours = PICTURE_YCC}, {.samples_x = 4, .samples_y = 1, .busy = true}},
    {"grey", {.colours = PICTURE_GREY}, {.busy = true}},
    {"grey, 2 x 2 samples",
     {.colours = PICTURE_GREY},
     {.samples_x = 2, .samples_y = 2, .busy = true}},
    {"RGB", {.colours = PICTURE_RGB}, {.busy = true}},
    {"CMYK", {.colours = PICTURE_CMYK_ADOBE}, {.busy = true}},
    {"YCCK", {.colours = PICTURE_YCCK}, {.busy = true}},
    {"progressive", {.colours = PICTURE_YCC, .progressive = true}, {.busy = true}},
    {"progressive grey", {.colours = PICTURE_GREY, .progressive = true}, {.busy = true}},
    {"progressive CMYK", {.colours = PICTURE_CMYK_ADOBE, .progressive = true}, {.busy = true}},
    {"restart markers", {.colours = PICTURE_YCC, .restart_rows = 1}, {.busy = true}},
    {"a scan each", {.colours = PICTURE_YCC}, {.apart = true, .busy = true}},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static const int sides[][2] = {{97, 75}, {160, 112}, {33, 17}, {250, 9}, {3, 200}, {5, 4}, {1, 1}};
#define SIDES (sizeof sides / sizeof *sides)

static int decode(struct data_decoder *decoder, const struct buf *bytes,
                  const struct data_part *part, struct data_image *image, struct err *err)
{
    if (data_decoder_begin(decoder, bytes->data, bytes->bytes, NULL, err) < 0)
        return -1;
    return data_decoder_part(decoder, part, image, err);
}

/* Some at the edges, some small, some large. */
static struct data_part draw(struct philox *random, int width, int height, int shrink)
{
    struct data_part part = {.shrink = shrink};

    part.width = 1 + (int)philox_below(random, (uint32_t)width);
    part.height = 1 + (int)philox_below(random, (uint32_t)height);
    if (philox_below(random, 3) == 0) {
        part.width = part.width < 4 ? part.width : 4;
        part.height = part.height < 4 ? part.height : 4;
    }
    part.x = (int)philox_below(random, (uint32_t)(width - part.width + 1));
    part.y = (int)philox_below(random, (uint32_t)(height - part.height + 1));
    if (philox_below(random, 4) == 0)
        part.x = width - part.width;
    if (philox_below(random, 4) == 0)
        part.y = height - part.height;
    return part;
}

/* The whole picture by libjpeg alone, straight. */
static void expect_plain(const char *name, const struct buf *jpeg, const struct data_image *whole)
{
    struct jpeg_decompress_struct cinfo = {0};
    struct jpeg_error_mgr errors;
    uint8_t *const row = malloc((size_t)whole->width * 4 + 1);

    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&cinfo);
    jpeg_mem_src(&cinfo, jpeg->data, jpeg->bytes);
    jpeg_read_header(&cinfo, TRUE);
    cinfo.scale_num = 1;
    cinfo.scale_denom = (unsigned)whole->shrink;
    cinfo.out_color_space = cinfo.num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&cinfo);
    assert_int_equal(cinfo.output_width, whole->width);
    assert_int_equal(cinfo.output_height, whole->height);
    while (cinfo.output_scanline < cinfo.output_height && cinfo.num_components < 4) {
        const size_t y = cinfo.output_scanline;
        JSAMPROW rows[1] = {row};

        jpeg_read_scanlines(&cinfo, rows, 1);
        if (memcmp(row, whole->rgb + y * (size_t)whole->width * 3, (size_t)whole->width * 3) != 0)
            fail_msg("%s by %d: row %zu is not libjpeg's", name, whole->shrink, y);
    }
    jpeg_destroy_decompress(&cinfo);
    free(row);
}

static void check(const char *name, const struct data_image *whole, const struct data_image *image,
                  const struct data_part *part)
{
    assert_in_range(part->x, image->x, image->x + image->width);
    assert_in_range(part->y, image->y, image->y + image->height);
    assert_true(image->x + image->width >= part->x + part->width);
    assert_true(image->y + image->height >= part->y + part->height);
    assert_int_equal(image->shrink, part->shrink);
    if (part->y + part->height == whole->height)
        assert_int_equal(image->truncated, whole->truncated);
    else
        assert_true(whole->truncated || !image->truncated);
    for (int y = part->y; y < part->y + part->height; y++) {
        const uint8_t *const want =
            whole->rgb + ((size_t)y * (size_t)whole->width + (size_t)part->x) * 3;
        const uint8_t *const got =
            image->rgb +
            ((size_t)(y - image->y) * (size_t)image->width + (size_t)(part->x - image->x)) * 3;

        if (memcmp(got, want, (size_t)part->width * 3) != 0)
            fail_msg("%s, %d x %d by %d: row %d of %d x %d at %d, %d differs", name,
                     whole->whole.width, whole->whole.height, part->shrink, y, part->width,
                     part->height, part->x, part->y);
    }
}

/* The whole picture, shrunk: a part of all of it. */
static struct data_part all_of(const struct picture *picture, int shrink)
{
    return (struct data_part){.width = (picture->width + shrink - 1) / shrink,
                              .height = (picture->height + shrink - 1) / shrink,
                              .shrink = shrink};
}

static void check_parts(const char *name, const struct buf *bytes, const struct picture *picture,
                        int shrink, uint64_t seed)
{
    struct data_decoder *const decoder = data_decoder_new();
    const struct data_part all = all_of(picture, shrink);
    struct data_image whole = {0}, image = {0};
    struct philox random;
    struct err err = {0};

    if (decode(decoder, bytes, shrink == 1 ? NULL : &all, &whole, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    assert_int_equal(whole.width, all.width);
    assert_int_equal(whole.height, all.height);
    expect_plain(name, bytes, &whole);
    philox_init(&random, seed, (uint64_t)shrink, 0, PHILOX_SYNTH);
    for (int i = 0; i < PARTS; i++) {
        const struct data_part part = draw(&random, all.width, all.height, shrink);

        if (decode(decoder, bytes, &part, &image, &err) < 0)
            fail_msg("%s: a part: %s", name, err.msg);
        check(name, &whole, &image, &part);
    }
    data_image_release(&whole);
    data_image_release(&image);
    data_decoder_free(decoder);
}

static void part_is_what_the_whole_has_there_for_every_kind_of_jpeg(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++)
        for (size_t s = 0; s < SIDES; s++) {
            struct picture picture = kinds[k].picture;
            struct buf jpeg = {0};

            picture.width = sides[s][0];
            picture.height = sides[s][1];
            picture_jpeg_formed(&picture, &kinds[k].form, &jpeg);
            for (int shrink = 1; shrink <= 8; shrink *= 2)
                check_parts(kinds[k].name, &jpeg, &picture, shrink, k * SIDES + s);
            buf_release(&jpeg);
        }
}

/* What becomes of damaged data does not depend on the part: the same error or none, the same
 * pixels; and the same flag where the file has lost its end. */
static void check_damaged(const char *name, const struct buf *bytes, bool has_end,
                          struct philox *random, int *pictures)
{
    static struct data_image whole, image; /* released at the end */
    struct data_decoder *const decoder = data_decoder_new();
    struct err err = {0}, part_err = {0};
    const int rc = decode(decoder, bytes, NULL, &whole, &err);

    for (int i = 0; i < 4; i++) {
        const int width = rc < 0 ? 8 : whole.width, height = rc < 0 ? 8 : whole.height;
        const struct data_part part = draw(random, width, height, 1);

        if (decode(decoder, bytes, &part, &image, &part_err) != rc)
            fail_msg("%s: %s or %s", name, err.msg, part_err.msg);
        assert_string_equal(part_err.msg, err.msg);
        if (rc == 0)
            check(name, &whole, &image, &part);
        if (rc == 0 && !has_end)
            assert_int_equal(image.truncated, whole.truncated);
    }
    *pictures += rc == 0;
    data_decoder_free(decoder);
    data_image_release(&whole);
    data_image_release(&image);
}

static void part_of_a_cut_or_damaged_jpeg_is_what_the_whole_has_there(void **state)
{
    struct philox random;
    int pictures = 0;

    (void)state;
    philox_init(&random, 7, 0, 0, PHILOX_SYNTH);
    for (size_t k = 0; k < KINDS; k++) {
        struct picture picture = kinds[k].picture;
        struct buf jpeg = {0};

        picture.width = 61;
        picture.height = 73;
        picture_jpeg_formed(&picture, &kinds[k].form, &jpeg);
        for (int round = 0; round < DAMAGED; round++) {
            struct buf damaged = {0};
            const uint32_t from = philox_below(&random, (uint32_t)jpeg.bytes);

            buf_append(&damaged, jpeg.data, round % 3 == 0 ? from : jpeg.bytes);
            if (round % 3 == 1)
                memset(damaged.data + from, 0, jpeg.bytes - from);
            for (int i = 0; round % 3 == 2 && i < 1 + round % 4; i++)
                damaged.data[philox_below(&random, (uint32_t)jpeg.bytes)] =
                    (unsigned char)philox_u32(&random);
            check_damaged(kinds[k].name, &damaged, round % 3 == 2, &random, &pictures);
            buf_release(&damaged);
        }
        buf_release(&jpeg);
    }
    assert_true(pictures > (int)KINDS * DAMAGED / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(part_is_what_the_whole_has_there_for_every_kind_of_jpeg),
        cmocka_unit_test(part_of_a_cut_or_damaged_jpeg_is_what_the_whole_has_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
