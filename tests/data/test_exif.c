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
#include "trainer/data/exif.h"

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
            struct buf jpeg = {0};

            make(&tag, &jpeg);
            assert_int_equal(data_exif_orientation(jpeg.data, jpeg.bytes), value);
            buf_release(&jpeg);
        }
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
        cmocka_unit_test(exif_that_says_nothing_sensible_is_upright),
        cmocka_unit_test(exif_of_cut_and_flipped_bytes_is_some_orientation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
