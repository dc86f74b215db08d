/* tests/data/test_exif.c -- the orientation that a JPEG asks for, and tags that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/philox.h"
#include "tests/data/pictures.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/picture/exif.h"
#include "trainer/data/picture/transform.h"

/* What is put into the tag's segment. */
struct tag {
    bool big; /* the order of bytes */
    int type, value;
    unsigned first; /* where the directory begins: 8 is right behind the header */
    int before;     /* other tags ahead of it */
};

static void append_number(struct buf *out, bool big, unsigned value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)(value >> 8 * (big ? bytes - 1 - i : i));

        buf_append(out, &byte, 1);
    }
}

static void append_entry(struct buf *out, bool big, unsigned tag, int type, int value)
{
    append_number(out, big, tag, 2);
    append_number(out, big, (unsigned)type, 2);
    append_number(out, big, 1, 4);
    append_number(out, big, (unsigned)value, 2);
    append_number(out, big, 0, 2);
}

/* A JPEG of 45 x 40 with the segment behind its JFIF one. */
static void make(const struct tag *tag, struct buf *out)
{
    const struct picture picture = {45, 40, PICTURE_YCC, false, 0};
    const size_t jfif = 2 + 18; /* the start mark, and APP0 as libjpeg writes it */
    struct buf jpeg = {0}, tiff = {0};

    picture_jpeg(&picture, &jpeg);
    buf_append(&tiff, tag->big ? "MM\0*" : "II*\0", 4);
    append_number(&tiff, tag->big, tag->first, 4);
    append_number(&tiff, tag->big, (unsigned)tag->before + 1, 2);
    for (int i = 0; i < tag->before; i++)
        append_entry(&tiff, tag->big, 0x0100, 3, 7);
    append_entry(&tiff, tag->big, 0x0112, tag->type, tag->value);
    buf_append(out, jpeg.data, jfif);
    buf_append(out, "\xff\xe1", 2);
    append_number(out, true, (unsigned)(2 + 6 + tiff.bytes), 2);
    buf_append(out, "Exif\0\0", 6);
    buf_append(out, tiff.data, tiff.bytes);
    buf_append(out, jpeg.data + jfif, jpeg.bytes - jfif);
    buf_release(&jpeg);
    buf_release(&tiff);
}

static void exif_tells_each_orientation_in_both_orders_of_bytes(void **state)
{
    (void)state;
    for (int value = 1; value <= 8; value++)
        for (int big = 0; big < 2; big++) {
            const struct tag tag = {big, 3, value, 8, value % 3};
            struct data_image image = {0};
            struct buf jpeg = {0};

            make(&tag, &jpeg);
            assert_int_equal(data_exif_orientation(jpeg.data, jpeg.bytes), value);
            assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &image, NULL), 0);
            assert_int_equal(image.whole.orientation, value);
            assert_int_equal(image.width, 45); /* as it is stored */
            data_image_release(&image);
            buf_release(&jpeg);
        }
}

/* The crop is the upright picture's, and what is decoded of the stored one is enough for it. */
static void exif_turns_the_part_of_a_crop_as_it_turns_the_whole(void **state)
{
    enum { SIZE = 24, FLOATS = SIZE * SIZE * 3 };
    const struct data_transform transform = {
        .kind = DATA_TRANSFORM_RESIZED_CROP, .size = SIZE, .std = {1, 1, 1}};
    struct data_decoder *const decoder = data_decoder_new();
    struct data_scratch scratch = {0};
    struct data_image whole = {0}, part = {0};
    static float want[FLOATS], got[FLOATS];
    int smaller = 0;

    (void)state;
    for (int value = 1; value <= 8; value++) {
        const struct tag tag = {false, 3, value, 8, 0};
        struct buf jpeg = {0};

        make(&tag, &jpeg);
        assert_int_equal(data_decode(jpeg.data, jpeg.bytes, &whole, NULL), 0);
        for (uint64_t sample = 0; sample < 50; sample++) {
            assert_int_equal(data_transform_decode(&transform, decoder, jpeg.data, jpeg.bytes,
                                                   sample, 0, &part, NULL),
                             0);
            smaller += part.height < whole.height;
            data_transform_apply(&transform, &whole, sample, 0, &scratch, want);
            data_transform_apply(&transform, &part, sample, 0, &scratch, got);
            assert_memory_equal(got, want, sizeof want);
        }
        buf_release(&jpeg);
    }
    assert_true(smaller > 8 * 50 / 2);
    data_image_release(&whole);
    data_image_release(&part);
    data_scratch_release(&scratch);
    data_decoder_free(decoder);
}

static void exif_that_says_nothing_sensible_is_upright(void **state)
{
    static const struct tag tags[] = {{false, 3, 0, 8, 0},          {false, 3, 9, 8, 0},
                                      {true, 3, 0x1234, 8, 0},      {false, 2, 6, 8, 0},
                                      {false, 3, 6, 7, 0},          {false, 3, 6, 1000000, 0},
                                      {false, 3, 6, 0xffffffff, 0}, {true, 3, 6, 0xfffffffe, 0}};
    const struct picture plain = {45, 40, PICTURE_YCC, false, 0};
    struct buf jpeg = {0};

    (void)state;
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        buf_release(&jpeg);
        make(&tags[i], &jpeg);
        assert_int_equal(data_exif_orientation(jpeg.data, jpeg.bytes), 1);
    }
    buf_release(&jpeg);
    picture_jpeg(&plain, &jpeg);
    assert_int_equal(data_exif_orientation(jpeg.data, jpeg.bytes), 1);
    buf_release(&jpeg);
}

/* Each in memory of its own: a read beyond shows under asan. */
static void exif_of_cut_and_flipped_bytes_is_some_orientation(void **state)
{
    const struct tag tag = {true, 3, 6, 8, 2};
    struct philox random;
    struct buf jpeg = {0};

    (void)state;
    make(&tag, &jpeg);
    philox_init(&random, 3, 0, 0, PHILOX_SYNTH);
    for (int round = 0; round < 3000; round++) {
        const size_t bytes = round < 200 ? (size_t)round : 120;
        unsigned char *const data = malloc(bytes + 1);
        int orientation;

        memcpy(data, jpeg.data, bytes);
        for (int i = 0; round >= 200 && i < 3; i++)
            data[20 + philox_below(&random, 100)] = (unsigned char)philox_u32(&random);
        orientation = data_exif_orientation(data, bytes);
        assert_in_range(orientation, 1, 8);
        free(data);
    }
    buf_release(&jpeg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exif_tells_each_orientation_in_both_orders_of_bytes),
        cmocka_unit_test(exif_turns_the_part_of_a_crop_as_it_turns_the_whole),
        cmocka_unit_test(exif_that_says_nothing_sensible_is_upright),
        cmocka_unit_test(exif_of_cut_and_flipped_bytes_is_some_orientation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
