/* tests/data/test_decode.c -- every kind of JPEG and PNG, whole, cut short and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/philox.h"
#include "tests/data/pictures.h"
#include "trainer/data/picture/decode.h"

/* How what was stored looks. */
struct look {
    bool grey;         /* channel 0 everywhere */
    bool columns_only; /* row 0 everywhere */
    int light;         /* of 255 */
};

static const struct look plain = {.light = 255};

/* The largest difference from the drawn picture in rows row_begin .. row_end-1. */
static int difference(const struct data_image *image, int row_begin, int row_end, struct look look)
{
    int most = 0;

    for (int y = row_begin; y < row_end; y++)
        for (int x = 0; x < image->width; x++)
            for (int c = 0; c < 3; c++) {
                const int drawn = picture_value(x, look.columns_only ? 0 : y, look.grey ? 0 : c);
                const int want = drawn * look.light / 255;
                const int got =
                    image->rgb[((size_t)y * (size_t)image->width + (size_t)x) * 3 + (size_t)c];

                if (abs(want - got) > most)
                    most = abs(want - got);
            }
    return most;
}

static void decode_gives_rgb_for_every_kind_of_jpeg(void **state)
{
    static const struct {
        const char *name;
        struct picture picture;
        int tolerance; /* grey levels: quality 95; 4:2:0 blurs colours where the pattern jumps */
    } cases[] = {
        {"greyscale", {45, 40, PICTURE_GREY, false, 0}, 6},
        {"RGB", {45, 40, PICTURE_RGB, false, 0}, 6},
        {"YCbCr", {45, 40, PICTURE_YCC, false, 0}, 12},
        {"CMYK without Adobe marker", {45, 40, PICTURE_CMYK, false, 0}, 6},
        {"CMYK by Adobe", {45, 40, PICTURE_CMYK_ADOBE, false, 0}, 6},
        {"YCCK", {45, 40, PICTURE_YCCK, false, 0}, 12},
        {"progressive", {45, 40, PICTURE_YCC, true, 0}, 12},
        {"progressive CMYK", {45, 40, PICTURE_CMYK_ADOBE, true, 0}, 6},
        {"restart markers", {45, 40, PICTURE_YCC, false, 1}, 12},
        {"one pixel", {1, 1, PICTURE_YCC, false, 0}, 6},
    };
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct picture *picture = &cases[i].picture;
        const struct look look = {
            .grey = picture->colours == PICTURE_GREY,
            .light = picture->colours >= PICTURE_CMYK ? PICTURE_BLACK_LIGHT : 255,
        };
        struct buf jpeg = {0};
        struct err err = {0};
        int off;

        picture_jpeg(picture, &jpeg);
        if (data_decode(jpeg.data, jpeg.bytes, &image, &err) < 0)
            fail_msg("%s: %s", cases[i].name, err.msg);
        assert_int_equal(image.width, picture->width);
        assert_int_equal(image.height, picture->height);
        assert_false(image.truncated);
        off = difference(&image, 0, image.height, look);
        if (off > cases[i].tolerance)
            fail_msg("%s: off by %d", cases[i].name, off);
        buf_release(&jpeg);
    }
    data_image_release(&image);
}

static void decode_gives_the_pixels_exactly_for_every_kind_of_png(void **state)
{
    static const enum picture_png kinds[] = {PICTURE_PNG_RGB, PICTURE_PNG_RGBA, PICTURE_PNG_GREY,
                                             PICTURE_PNG_PALETTE, PICTURE_PNG_16};
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof kinds / sizeof *kinds; i++) {
        const enum picture_png kind = kinds[i / 2];
        const struct look look = {kind == PICTURE_PNG_GREY, kind == PICTURE_PNG_PALETTE, 255};
        struct buf png = {0};
        struct err err = {0};

        picture_png(37, 29, kind, i % 2 == 1, &png);
        if (data_decode(png.data, png.bytes, &image, &err) < 0)
            fail_msg("kind %d: %s", kind, err.msg);
        assert_int_equal(image.width, 37);
        assert_int_equal(image.height, 29);
        assert_false(image.truncated);
        assert_int_equal(difference(&image, 0, image.height, look), 0);
        buf_release(&png);
    }
    data_image_release(&image);
}

/* Cut at every byte: never a crash; from the first whole row of blocks on it is a picture, said to
 * be truncated, whose first rows grow right with the length. */
static void decode_goes_as_far_as_the_data_for_a_jpeg_cut_anywhere(void **state)
{
    static const bool progressive[] = {false, true};
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct picture picture = {64, 96, PICTURE_YCC, progressive[i], 0};
        struct buf jpeg = {0};
        size_t first = 0, refused_after = 0;

        picture_jpeg(&picture, &jpeg);
        for (size_t cut = 0; cut < jpeg.bytes; cut++) {
            unsigned char *data =
                malloc(cut + 1); /* its own memory: a read beyond shows under asan */
            struct err err = {0};

            memcpy(data, jpeg.data, cut);
            if (data_decode(data, cut, &image, &err) == 0) {
                first = first == 0 ? cut : first;
                assert_true(image.truncated);
                if (!progressive[i])
                    assert_true(difference(&image, 0, 12, plain) <= 12);
            } else {
                assert_int_equal(err.code, ERR_INPUT);
                refused_after += first > 0;
            }
            free(data);
        }
        assert_true(first > 0 && first < jpeg.bytes * 3 / 4);
        assert_int_equal(refused_after, 0);
        buf_release(&jpeg);
    }
    data_image_release(&image);
}

static void decode_shows_the_upper_half_when_the_lower_is_cut(void **state)
{
    const struct picture picture = {320, 480, PICTURE_YCC, false, 0};
    struct data_image image = {0};
    struct buf jpeg = {0};

    (void)state;
    picture_jpeg(&picture, &jpeg);
    assert_int_equal(data_decode(jpeg.data, jpeg.bytes * 6 / 10, &image, NULL), 0);
    assert_true(image.truncated);
    assert_int_equal(image.height, 480);
    assert_true(difference(&image, 0, 200, plain) <= 12);
    assert_true(difference(&image, 400, 480, plain) > 60);
    assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &image, NULL),
                     0); /* the flag does not stick */
    assert_false(image.truncated);
    buf_release(&jpeg);
    data_image_release(&image);
}

/* Rows of the picture from the top, then grey where the file has no more. */
static int rows_shown(const struct data_image *image, struct look look)
{
    int rows = 0;

    while (rows < image->height && difference(image, rows, rows + 1, look) == 0)
        rows++;
    return rows;
}

/* Cut at every byte: a picture from some byte of the first rows on, and ever more of it. */
static void decode_goes_as_far_as_the_data_for_a_png_cut_anywhere(void **state)
{
    static const enum picture_png kinds[] = {PICTURE_PNG_RGB, PICTURE_PNG_RGBA, PICTURE_PNG_GREY,
                                             PICTURE_PNG_PALETTE, PICTURE_PNG_16};
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct look look = {kinds[i] == PICTURE_PNG_GREY, kinds[i] == PICTURE_PNG_PALETTE,
                                  255};
        struct buf png = {0};
        size_t first = 0;
        int rows = 0;

        picture_png(64, 96, kinds[i], false, &png);
        for (size_t cut = 0; cut < png.bytes; cut++) {
            unsigned char *data = malloc(cut + 1);
            struct err err = {0};

            memcpy(data, png.data, cut);
            if (data_decode(data, cut, &image, &err) == 0) {
                const int now = rows_shown(&image, look);

                first = first == 0 ? cut : first;
                assert_true(image.truncated);
                assert_true(now >= rows);
                rows = now;
            } else {
                assert_int_equal(err.code, ERR_INPUT);
                assert_int_equal(first, 0);
            }
            free(data);
        }
        assert_in_range(first, 1, kinds[i] == PICTURE_PNG_PALETTE ? png.bytes : png.bytes * 3 / 4);
        assert_int_equal(rows, 96);
        buf_release(&png);
    }
    data_image_release(&image);
}

static void decode_shows_the_upper_rows_of_a_png_whose_end_is_lost(void **state)
{
    struct data_image image = {0};
    struct buf png = {0};
    struct err err = {0};

    (void)state;
    picture_png(700, 1300, PICTURE_PNG_16, false, &png);
    memset(png.data + png.bytes / 2, 0, png.bytes - png.bytes / 2);
    if (data_decode(png.data, png.bytes, &image, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(image.truncated);
    assert_true(rows_shown(&image, plain) > 300);
    buf_release(&png);
    data_image_release(&image);
}

/* As a download leaves it that reserved the file's length first. */
static void decode_goes_as_far_as_the_data_for_a_jpeg_whose_end_is_zeros(void **state)
{
    static const bool progressive[] = {false, true};
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct picture picture = {64, 96, PICTURE_YCC, progressive[i], 0};
        struct buf jpeg = {0};
        int whole = 0;

        picture_jpeg(&picture, &jpeg);
        for (size_t cut = jpeg.bytes * 3 / 4; cut < jpeg.bytes - 16; cut++) {
            unsigned char *data = calloc(1, jpeg.bytes);
            struct err err = {0};

            memcpy(data, jpeg.data, cut);
            if (data_decode(data, jpeg.bytes, &image, &err) < 0)
                fail_msg("%s at %zu: %s", progressive[i] ? "progressive" : "baseline", cut,
                         err.msg);
            whole += !image.truncated;
            if (!progressive[i])
                assert_true(difference(&image, 0, 12, plain) <= 12);
            free(data);
        }
        assert_in_range(whole, 0, 20); /* zeros may pass for the last blocks */
        buf_release(&jpeg);
    }
    data_image_release(&image);
}

static unsigned char *find_size(struct buf *jpeg);

static void decode_takes_what_follows_a_picture_or_lacks_only_its_end_mark(void **state)
{
    const struct picture picture = {45, 40, PICTURE_YCC, false, 0};
    struct data_image image = {0};
    struct buf jpeg = {0};

    (void)state;
    picture_jpeg(&picture, &jpeg);
    assert_int_equal(data_decode(jpeg.data, jpeg.bytes - 2, &image, NULL), 0);
    assert_true(image.truncated);
    assert_true(difference(&image, 0, 40, plain) <= 12);
    buf_append(&jpeg, "garbage behind the end", 22);
    assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &image, NULL), 0);
    assert_false(image.truncated);
    assert_true(difference(&image, 0, 40, plain) <= 12);
    buf_release(&jpeg);
    data_image_release(&image);
}

static void decode_takes_pictures_of_a_pixel_across_or_down(void **state)
{
    static const int sizes[][2] = {{1, 70}, {70, 1}, {1, 1}};
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct picture picture = {sizes[i][0], sizes[i][1], PICTURE_YCC, i == 0, 0};
        struct buf jpeg = {0}, png = {0};

        picture_jpeg(&picture, &jpeg);
        picture_png(sizes[i][0], sizes[i][1], PICTURE_PNG_RGB, true, &png);
        assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &image, NULL), 0);
        assert_int_equal(image.width, sizes[i][0]);
        assert_int_equal(data_decode(png.data, png.bytes, &image, NULL), 0);
        assert_int_equal(difference(&image, 0, image.height, plain), 0);
        assert_false(image.truncated);
        buf_release(&jpeg);
        buf_release(&png);
    }
    data_image_release(&image);
}

/* libjpeg has no way from two samples to three. */
static void decode_says_that_odd_sampling_is_not_read(void **state)
{
    const struct picture picture = {32, 32, PICTURE_YCC, false, 0};
    struct data_image image = {0};
    struct buf jpeg = {0};
    struct err err = {0};
    unsigned char *size;

    (void)state;
    picture_jpeg(&picture, &jpeg);
    size = find_size(&jpeg);
    size[6] = 0x31; /* of the first component: 3 across, 1 down */
    size[9] = 0x21;
    assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &image, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "a JPEG of a kind that is not read"));
    data_image_release(&image);
    buf_release(&jpeg);
}

static void decode_says_that_a_jpeg_of_12_bits_is_not_read(void **state)
{
    const struct picture picture = {32, 32, PICTURE_YCC, false, 0};
    struct data_image image = {0};
    struct buf jpeg = {0};
    struct err err = {0};

    (void)state;
    picture_jpeg(&picture, &jpeg);
    find_size(&jpeg)[-1] = 12; /* the precision stands ahead of the height */
    assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &image, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "a JPEG of a kind that is not read"));
    assert_non_null(strstr(err.msg, "12"));
    buf_release(&jpeg);
    data_image_release(&image);
}

static void decode_refuses_what_is_no_picture(void **state)
{
    static const unsigned char jpeg_start[] = {0xff, 0xd8, 0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F'};
    static const unsigned char png_start[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0, 0, 13};
    static const struct {
        const void *data;
        size_t bytes;
        const char *message;
    } cases[] = {
        {"", 0, "empty"},
        {"GIF89a and more of it", 21, "neither a JPEG nor a PNG, but a GIF"},
        {"RIFF\x10\0\0\0WEBPVP8 ", 16, "neither a JPEG nor a PNG, but a WebP"},
        {"BM\x10\0", 4, "neither a JPEG nor a PNG, but a BMP"},
        {"II*\0", 4, "neither a JPEG nor a PNG, but a TIFF"},
        {"plain text", 10, "neither a JPEG nor a PNG"},
        {"<html>", 6, "neither a JPEG nor a PNG"},
        {"\xff", 1, "neither a JPEG nor a PNG"},
        {jpeg_start, sizeof jpeg_start, "a damaged JPEG"},
        {png_start, sizeof png_start, "a damaged PNG"},
    };
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};

        assert_int_equal(data_decode(cases[i].data, cases[i].bytes, &image, &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_non_null(strstr(err.msg, cases[i].message));
    }
    assert_null(image.rgb);
    data_image_release(&image);
}

/* Where a JPEG's frame header (SOF0) holds height and width. */
static unsigned char *find_size(struct buf *jpeg)
{
    for (size_t i = 0; i + 9 < jpeg->bytes; i++)
        if (jpeg->data[i] == 0xff && jpeg->data[i + 1] == 0xc0)
            return jpeg->data + i + 5;
    return NULL;
}

static void decode_refuses_too_many_pixels_before_it_takes_memory(void **state)
{
    const struct picture picture = {32, 32, PICTURE_YCC, false, 0};
    struct data_image image = {0};
    struct buf jpeg = {0};
    struct err err = {0};

    (void)state;
    picture_jpeg(&picture, &jpeg);
    memset(find_size(&jpeg), 0xf0, 4);
    assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &image, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "61680 x 61680"));
    assert_null(image.rgb);
    buf_release(&jpeg);
}

/* What decides is that nothing crashes (the asan preset looks closer); each result must be one of
 * the two promised. */
static void fuzz(const struct buf *good, uint64_t seed, int rounds, int *decoded)
{
    unsigned char *data = malloc(good->bytes);
    struct data_image image = {0};
    struct philox random;

    philox_init(&random, seed, 0, 0, PHILOX_SYNTH);
    for (int round = 0; round < rounds; round++) {
        const uint32_t flips = 1 + philox_below(&random, 6);
        size_t bytes = good->bytes;
        struct err err = {0};

        memcpy(data, good->data, good->bytes);
        for (uint32_t i = 0; i < flips; i++)
            data[philox_below(&random, (uint32_t)bytes)] = (unsigned char)philox_u32(&random);
        if (philox_below(&random, 4) == 0)
            bytes = philox_below(&random, (uint32_t)bytes);
        if (data_decode(data, bytes, &image, &err) == 0) {
            assert_true(image.width > 0 && image.height > 0);
            ++*decoded;
        } else {
            assert_int_equal(err.code, ERR_INPUT);
            assert_true(err.msg[0] != '\0');
        }
    }
    data_image_release(&image);
    free(data);
}

static void decode_survives_flipped_and_missing_bytes(void **state)
{
    static const struct picture pictures[] = {
        {24, 40, PICTURE_YCC, false, 0},
        {24, 40, PICTURE_YCC, true, 0},
        {24, 40, PICTURE_CMYK_ADOBE, false, 1},
    };
    int decoded = 0;

    (void)state;
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        struct buf jpeg = {0};

        picture_jpeg(&pictures[i], &jpeg);
        fuzz(&jpeg, i, 1000, &decoded);
        buf_release(&jpeg);
    }
    for (int kind = PICTURE_PNG_RGB; kind <= PICTURE_PNG_16; kind++) {
        struct buf png = {0};

        picture_png(24, 40, (enum picture_png)kind, kind % 2 == 0, &png);
        fuzz(&png, 10 + (uint64_t)kind, 500, &decoded);
        buf_release(&png);
    }
    assert_true(decoded > 100); /* the flips reached beyond the headers */
}

static void image_refuses_sides_and_areas_beyond_the_limits(void **state)
{
    static const struct {
        uint32_t width, height;
        int rc;
    } cases[] = {{0, 1, -1},    {1, 0, -1},     {1, 1, 0},        {65500, 1, 0},
                 {1, 65500, 0}, {65501, 1, -1}, {1, 1000000, -1}, {20000, 20000, -1}};
    struct data_image image = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};

        assert_int_equal(data_image_reserve(&image, cases[i].width, cases[i].height, &err),
                         cases[i].rc);
        assert_int_equal(err.code, cases[i].rc < 0 ? ERR_INPUT : ERR_NONE);
    }
    data_image_release(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_gives_rgb_for_every_kind_of_jpeg),
        cmocka_unit_test(decode_gives_the_pixels_exactly_for_every_kind_of_png),
        cmocka_unit_test(decode_goes_as_far_as_the_data_for_a_jpeg_cut_anywhere),
        cmocka_unit_test(decode_shows_the_upper_half_when_the_lower_is_cut),
        cmocka_unit_test(decode_goes_as_far_as_the_data_for_a_png_cut_anywhere),
        cmocka_unit_test(decode_shows_the_upper_rows_of_a_png_whose_end_is_lost),
        cmocka_unit_test(decode_goes_as_far_as_the_data_for_a_jpeg_whose_end_is_zeros),
        cmocka_unit_test(decode_takes_what_follows_a_picture_or_lacks_only_its_end_mark),
        cmocka_unit_test(decode_takes_pictures_of_a_pixel_across_or_down),
        cmocka_unit_test(decode_says_that_odd_sampling_is_not_read),
        cmocka_unit_test(decode_says_that_a_jpeg_of_12_bits_is_not_read),
        cmocka_unit_test(decode_refuses_what_is_no_picture),
        cmocka_unit_test(decode_refuses_too_many_pixels_before_it_takes_memory),
        cmocka_unit_test(image_refuses_sides_and_areas_beyond_the_limits),
        cmocka_unit_test(decode_survives_flipped_and_missing_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
