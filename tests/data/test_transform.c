/* tests/data/test_transform.c -- crops, resizes and flips against what they are defined to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/philox.h"
#include "tests/data/pictures.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/picture/resize.h"
#include "trainer/data/picture/transform.h"

/* A normalisation that leaves grey levels as they are. */
#define LEVELS .mean = {0, 0, 0}, .std = {1 / 255.0f, 1 / 255.0f, 1 / 255.0f}

/* Grey levels. Weights are whole numbers of sum 16384, and so are sums of 1/128 between passes. */
#define TOLERANCE 0.05

/* (height, width, 3): red tells x, green tells y, blue is 200. */
static struct data_image ramp(int width, int height)
{
    struct data_image image = {0};

    assert_int_equal(data_image_reserve(&image, (uint32_t)width, (uint32_t)height, NULL), 0);
    for (int i = 0; i < width * height; i++) {
        image.rgb[3 * i] = (uint8_t)(i % width * 255 / width);
        image.rgb[3 * i + 1] = (uint8_t)(i / width * 255 / height);
        image.rgb[3 * i + 2] = 200;
    }
    return image;
}

static float *apply(const struct data_transform *transform, const struct data_image *image,
                    uint64_t sample, uint32_t epoch)
{
    const size_t floats = (size_t)transform->size * (size_t)transform->size * 3;
    struct data_scratch scratch = {0};
    float *out = malloc(floats * sizeof *out);

    memset(out, 0xff, floats * sizeof *out);
    data_transform_apply(transform, image, sample, epoch, &scratch, out);
    data_scratch_release(&scratch);
    return out;
}

static void transform_leaves_pixels_alone_when_the_size_is_right(void **state)
{
    const struct data_transform transform = {DATA_TRANSFORM_RESIZE, 32, .mean = {0.5f, 0.25f, 0},
                                             .std = {0.5f, 1, 2}};
    struct data_image image = ramp(32, 32);
    float *out = apply(&transform, &image, 0, 0);

    (void)state;
    for (int i = 0; i < 32 * 32 * 3; i++) {
        const int c = i % 3;
        const float want = ((float)image.rgb[i] / 255 - transform.mean[c]) / transform.std[c];

        assert_float_equal(out[i], want, 1e-6);
    }
    free(out);
    data_image_release(&image);
}

/* The definition, in doubles: a triangle as wide as the scale around each output's centre. */
static double resized(const struct data_image *image, int c, double scale_x, double scale_y, int x,
                      int y)
{
    const double wide_x = scale_x > 1 ? scale_x : 1, wide_y = scale_y > 1 ? scale_y : 1;
    const double at_x = (x + 0.5) * scale_x, at_y = (y + 0.5) * scale_y;
    double sum = 0, weights = 0;

    for (int v = 0; v < image->height; v++)
        for (int u = 0; u < image->width; u++) {
            const double dx = (u + 0.5 - at_x) / wide_x, dy = (v + 0.5 - at_y) / wide_y;
            const double wx = dx < 0 ? 1 + dx : 1 - dx, wy = dy < 0 ? 1 + dy : 1 - dy;

            if (wx > 0 && wy > 0) {
                sum += wx * wy * image->rgb[(v * image->width + u) * 3 + c];
                weights += wx * wy;
            }
        }
    return sum / weights;
}

static void transform_resizes_with_a_triangle_filter_for_every_shape(void **state)
{
    static const struct {
        enum data_transform_kind kind;
        int width, height, size;
        double scale_x, scale_y; /* input pixels per output pixel */
        int win_x, win_y;
    } cases[] = {
        {DATA_TRANSFORM_RESIZE, 50, 30, 16, 50 / 16.0, 30 / 16.0, 0, 0},
        {DATA_TRANSFORM_RESIZE, 5, 40, 16, 5 / 16.0, 40 / 16.0, 0, 0},
        {DATA_TRANSFORM_RESIZE, 1, 1, 8, 1 / 8.0, 1 / 8.0, 0, 0},
        /* 28 * 256 / 224 = 32; 32 * 70 / 40 = 56; (56 - 28) / 2 = 14, (32 - 28) / 2 = 2 */
        {DATA_TRANSFORM_CENTER, 70, 40, 28, 70 / 56.0, 40 / 32.0, 14, 2},
        {DATA_TRANSFORM_CENTER, 40, 70, 28, 40 / 32.0, 70 / 56.0, 2, 14},
        {DATA_TRANSFORM_CENTER, 20, 20, 28, 20 / 32.0, 20 / 32.0, 2, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct data_transform transform = {cases[i].kind, cases[i].size, LEVELS};
        struct data_image image = ramp(cases[i].width, cases[i].height);
        float *out = apply(&transform, &image, 0, 0);

        for (int p = 0; p < transform.size * transform.size * 3; p++) {
            const int x = p / 3 % transform.size, y = p / 3 / transform.size;
            const double want = resized(&image, p % 3, cases[i].scale_x, cases[i].scale_y,
                                        cases[i].win_x + x, cases[i].win_y + y);

            if (!(out[p] > want - TOLERANCE && out[p] < want + TOLERANCE))
                fail_msg("case %zu at %d, %d: %f, not %f", i, x, y, (double)out[p], want);
        }
        free(out);
        data_image_release(&image);
    }
}

/* Without resizing, the ramp's levels tell which pixel came from where. */
static void transform_pads_crops_and_flips_by_up_to_four(void **state)
{
    const struct data_transform transform = {DATA_TRANSFORM_PAD_CROP, 32, .mean = {-1, -1, -1},
                                             .std = {1 / 255.0f, 1 / 255.0f, 1 / 255.0f}};
    struct data_image image = ramp(32, 32);
    int seen[9][9][2] = {0}, places = 0;

    (void)state;
    for (uint64_t sample = 0; sample < 2000; sample++) {
        float *out = apply(&transform, &image, sample, 3);
        const float red = out[(16 * 32 + 16) * 3] - 255, next = out[(16 * 32 + 17) * 3] - 255;
        const float green = out[(16 * 32 + 16) * 3 + 1] - 255;
        const bool flip = next < red;
        const int x = (int)(red * 32 / 255 + 0.99f), y = (int)(green * 32 / 255 + 0.99f);
        const int dx = x - (flip ? 15 : 16), dy = y - 16;

        assert_in_range(dx + 4, 0, 8);
        assert_in_range(dy + 4, 0, 8);
        seen[dy + 4][dx + 4][flip]++;
        for (int p = 0; p < 32 * 32; p++) {
            const int from_x = (flip ? 31 - p % 32 : p % 32) + dx, from_y = p / 32 + dy;
            const bool inside = from_x >= 0 && from_x < 32 && from_y >= 0 && from_y < 32;
            const float blue = inside ? 455 : 0;

            assert_float_equal(out[3 * p + 2], blue, 1e-3);
            if (inside)
                assert_float_equal(out[3 * p], image.rgb[3 * (from_y * 32 + from_x)] + 255.0f,
                                   1e-3);
        }
        free(out);
    }
    for (int i = 0; i < 9 * 9 * 2; i++)
        places += (&seen[0][0][0])[i] > 0;
    assert_int_equal(places, 9 * 9 * 2); /* 2,000 draws of 162: each comes up */
    data_image_release(&image);
}

/* The ramp's levels tell the box. Areas are uniform, but many of the large ones do not fit. */
static void transform_crops_areas_and_aspects_within_their_bounds(void **state)
{
    const struct data_transform transform = {DATA_TRANSFORM_RESIZED_CROP, 8, LEVELS};
    struct data_image image = ramp(250, 200);
    double area_sum = 0, area_min = 1, area_max = 0;
    int flips = 0, draws = 2000;

    (void)state;
    for (uint64_t sample = 0; sample < (uint64_t)draws; sample++) {
        float *out = apply(&transform, &image, sample, 0);
        /* outputs 2 and 5, away from the edges, are 3/8 of the box apart */
        const double left = out[(3 * 8 + 2) * 3], right = out[(3 * 8 + 5) * 3];
        const double top = out[2 * 8 * 3 + 1], bottom = out[5 * 8 * 3 + 1];
        const double w = (right > left ? right - left : left - right) / 255 * 8 / 3;
        const double h = (bottom - top) / 255 * 8 / 3;
        const double area = w * h, aspect = w * 250 / (h * 200);

        flips += right < left;
        assert_true(bottom > top);
        if (area < 0.06 || area > 1.06 || aspect < 0.65 || aspect > 1.55)
            fail_msg("sample %d: area %f, aspect %f", (int)sample, area, aspect);
        area_sum += area;
        area_min = area < area_min ? area : area_min;
        area_max = area > area_max ? area : area_max;
        free(out);
    }
    assert_true(area_min < 0.12 && area_max > 0.85);
    assert_true(area_sum / draws > 0.44 && area_sum / draws < 0.475); /* torchvision: 0.458 */
    assert_true(flips > draws * 45 / 100 && flips < draws * 55 / 100);
    data_image_release(&image);
}

static void transform_falls_back_to_the_middle_when_no_crop_fits(void **state)
{
    const struct data_transform transform = {DATA_TRANSFORM_RESIZED_CROP, 8, LEVELS};
    struct data_image image =
        ramp(900, 3); /* each allowed box is higher than 3 pixels, or nearly */
    int middle = 0;

    (void)state;
    for (uint64_t sample = 0; sample < 50; sample++) {
        float *out = apply(&transform, &image, sample, 0);

        middle += out[3 * 4] > 126 && out[3 * 4] < 129;
        free(out);
    }
    assert_true(middle > 40);
    data_image_release(&image);
}

static void transform_gives_the_same_floats_whatever_came_before(void **state)
{
    static const enum data_transform_kind kinds[] = {DATA_TRANSFORM_RESIZED_CROP,
                                                     DATA_TRANSFORM_PAD_CROP, DATA_TRANSFORM_CENTER,
                                                     DATA_TRANSFORM_RESIZE};
    struct data_image image = ramp(60, 45), large = ramp(300, 300);
    struct data_scratch scratch = {0};
    float used[24 * 24 * 3];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        const struct data_transform transform = {kinds[i], 24, LEVELS, 7};
        float *fresh = apply(&transform, &image, 11, 2), *other = apply(&transform, &image, 11, 3);

        data_transform_apply(&transform, &large, 5, 0, &scratch, used);
        data_transform_apply(&transform, &image, 11, 2, &scratch, used);
        assert_memory_equal(used, fresh, sizeof used);
        if (i < 2) /* training: another epoch draws another crop */
            assert_memory_not_equal(fresh, other, sizeof used);
        free(fresh);
        free(other);
    }
    data_scratch_release(&scratch);
    data_image_release(&image);
    data_image_release(&large);
}

static void transform_goes_round_its_views_epoch_by_epoch(void **state)
{
    static const enum data_transform_kind kinds[] = {DATA_TRANSFORM_RESIZED_CROP,
                                                     DATA_TRANSFORM_PAD_CROP};
    struct data_image image = ramp(60, 45);

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct data_transform fresh = {kinds[i], 24, LEVELS, 7};
        const struct data_transform round = {kinds[i], 24, LEVELS, 7, .views = 3};
        float *views[7], *epochs[7];

        for (uint32_t e = 0; e < 7; e++) {
            views[e] = apply(&round, &image, 11, e);
            epochs[e] = apply(&fresh, &image, 11, e);
            assert_int_equal(data_transform_view(&fresh, e), e);
            assert_int_equal(data_transform_view(&round, e), e % 3);
        }
        for (uint32_t e = 0; e < 7; e++) {
            const bool same = memcmp(views[e], epochs[e], 24 * 24 * 3 * sizeof(float)) == 0;

            assert_memory_equal(views[e], epochs[e % 3], 24 * 24 * 3 * sizeof(float));
            assert_int_equal(same, e < 3);
        }
        for (uint32_t e = 0; e < 7; e++) {
            free(views[e]);
            free(epochs[e]);
        }
    }
    data_image_release(&image);
}

static void transform_has_one_view_in_evaluation(void **state)
{
    const struct data_transform center = {DATA_TRANSFORM_CENTER, 24, LEVELS, 7, .views = 3};
    const struct data_transform resize = {DATA_TRANSFORM_RESIZE, 24, LEVELS};

    (void)state;
    assert_int_equal(data_transform_view(&center, 5), 0);
    assert_int_equal(data_transform_view(&resize, 5), 0);
}

static uint8_t *pixel(struct data_image *image, int x, int y)
{
    return image->rgb + ((size_t)y * (size_t)image->width + (size_t)x) * 3;
}

/* The stored picture that is `upright` when it is held as the orientation says: EXIF's table, which
 * tells where row 0 and column 0 of the stored one are seen. */
static struct data_image stored_as(struct data_image *upright, int orientation)
{
    static const struct {
        bool right, bottom,
            swapped; /* x counts from the right, y from the bottom; rows for columns */
    } seen[] = {{0},
                {false, false, false},
                {true, false, false},
                {true, true, false},
                {false, true, false},
                {false, false, true},
                {true, false, true},
                {true, true, true},
                {false, true, true}};
    const bool swapped = seen[orientation].swapped;
    const int w = upright->width, h = upright->height;
    struct data_image stored = {0};

    assert_int_equal(
        data_image_reserve(&stored, (uint32_t)(swapped ? h : w), (uint32_t)(swapped ? w : h), NULL),
        0);
    stored.whole.orientation = orientation;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int from_x = seen[orientation].right ? w - 1 - x : x;
            const int from_y = seen[orientation].bottom ? h - 1 - y : y;

            memcpy(pixel(&stored, swapped ? from_y : from_x, swapped ? from_x : from_y),
                   pixel(upright, x, y), 3);
        }
    return stored;
}

static void transform_holds_pictures_upright_by_their_orientation(void **state)
{
    static const enum data_transform_kind kinds[] = {DATA_TRANSFORM_RESIZED_CROP,
                                                     DATA_TRANSFORM_PAD_CROP, DATA_TRANSFORM_CENTER,
                                                     DATA_TRANSFORM_RESIZE};
    struct data_image upright = ramp(61, 47);

    (void)state;
    for (int orientation = 1; orientation <= 8; orientation++) {
        struct data_image stored = stored_as(&upright, orientation);

        for (size_t i = 0; i < 4 * 5; i++) {
            const struct data_transform transform = {kinds[i % 4], 23, LEVELS, 7};
            float *want = apply(&transform, &upright, i, 2),
                  *got = apply(&transform, &stored, i, 2);

            for (int p = 0; p < 23 * 23 * 3; p++)
                if (!(got[p] > want[p] - TOLERANCE && got[p] < want[p] + TOLERANCE))
                    fail_msg("orientation %d, kind %zu: %f at %d, %d, not %f", orientation, i % 4,
                             (double)got[p], p / 3 % 23, p / 3 / 23, (double)want[p]);
            free(want);
            free(got);
        }
        data_image_release(&stored);
    }
    data_image_release(&upright);
}

static void expect_equal_kernels(const struct resize_want *want, int size, int shrink)
{
    const struct resize_kernel *const kernels[] = {&resize_kernel_generic, resize_kernel_best()};
    static const float scale[3] = {0.1f, 0.3f, 0.7f}, shift[3] = {1, 2, 3};
    int *const memory = malloc(resize_axis_ints(want, size, shrink) * sizeof(int));
    struct resize_axis axis;
    struct philox random;
    size_t stride, values;
    uint8_t *in;
    int16_t *rows[2][2];
    float *out[2][2];

    resize_axis_init(&axis, want, size, shrink, memory);
    stride = 3 * (size_t)(axis.end - axis.first);
    values = stride + 3 * (size_t)axis.taps + RESIZE_BEYOND;
    in = malloc(stride * (size_t)axis.taps);
    philox_init(&random, stride, 0, 0, PHILOX_SYNTH);
    for (size_t i = 0; i < stride * (size_t)axis.taps; i++)
        in[i] = (uint8_t)philox_u32(&random);
    for (int k = 0; k < 2; k++) {
        for (int r = 0; r < 2; r++) {
            const int i = r * (size - 1);

            rows[k][r] = calloc(values, sizeof(int16_t));
            out[k][r] = calloc(3 * (size_t)size, sizeof(float));
            kernels[k]->down(in, stride, axis.weights + i * axis.taps, axis.count[i], stride,
                             rows[k][r]);
            assert_memory_equal(rows[k][r], rows[0][r], stride * sizeof(int16_t));
        }
        kernels[k]->across((const int16_t *const *)rows[k], &axis, scale, shift, out[k]);
    }
    for (int r = 0; r < 2; r++) {
        assert_memory_equal(out[1][r], out[0][r], 3 * (size_t)size * sizeof(float));
        for (int k = 0; k < 2; k++) {
            free(rows[k][r]);
            free(out[k][r]);
        }
    }
    free(in);
    free(memory);
}

static void transform_gives_the_same_bits_with_every_instruction_set(void **state)
{
    static const struct {
        struct resize_want want;
        int size, shrink;
    } cases[] = {
        {{.length = 400, .begin = 30, .span = 340, .full = 224}, 224, 1},
        {{.length = 400, .begin = 30, .span = 340, .full = 224, .flip = true}, 224, 1},
        {{.length = 400, .begin = 7, .span = 100, .full = 224, .mirrored = true}, 224, 1},
        {{.length = 32, .span = 32, .full = 32, .win = -4}, 32, 1},
        {{.length = 32, .span = 32, .full = 32, .win = 3, .flip = true}, 32, 1},
        {{.length = 3, .span = 3, .full = 8}, 8, 1},
        {{.length = 5000, .begin = 1, .span = 4998, .full = 33}, 33, 1},
        {{.length = 1001, .begin = 3, .span = 997, .full = 120}, 120, 8},
        {{.length = 900, .begin = 33, .span = 461, .full = 225, .mirrored = true}, 225, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_equal_kernels(&cases[i].want, cases[i].size, cases[i].shrink);
}

static void resize_weights_sum_up_exactly_and_stay_in_the_box(void **state)
{
    (void)state;
    for (int shrink = 1; shrink <= 8; shrink *= 2)
        for (int span = 8 * shrink; span < 90 * shrink; span += 3) {
            const struct resize_want want = {
                .length = 800, .begin = 5 + span % 7, .span = span, .full = 8 + span % 5};
            int *const memory = malloc(resize_axis_ints(&want, 12, shrink) * sizeof(int));
            struct resize_axis axis;

            resize_axis_init(&axis, &want, want.full, shrink, memory);
            assert_true(axis.first >= want.begin / shrink);
            assert_true(axis.end <= (want.begin + span + shrink - 1) / shrink);
            for (int i = 0; i < want.full; i++) {
                int sum = 0;

                for (int k = 0; k < axis.count[i]; k++) {
                    assert_true(axis.weights[i * axis.taps + k] >= 0);
                    sum += axis.weights[i * axis.taps + k];
                }
                assert_int_equal(sum, 1 << RESIZE_WEIGHT_BITS);
            }
            free(memory);
        }
}

/* A part is decoded shrunk by the most that leaves a pixel for each output along both sides. */
static void transform_shrinks_by_what_the_crop_has_too_much(void **state)
{
    static const struct {
        int width, height, size, shrink;
    } cases[] = {{500, 375, 224, 1},   {448, 448, 224, 2},  {448, 447, 224, 1},
                 {900, 896, 224, 4},   {2000, 895, 224, 2}, {4000, 3000, 224, 8},
                 {8000, 8000, 224, 8}, {64, 64, 8, 8}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct data_transform transform = {DATA_TRANSFORM_RESIZE, cases[i].size, LEVELS};
        struct data_shape shape = {cases[i].width, cases[i].height, 1, true};
        struct data_part part = data_transform_part(&transform, &shape, 0, 0);

        assert_int_equal(part.shrink, cases[i].shrink);
        assert_int_equal(part.width, (cases[i].width + part.shrink - 1) / part.shrink);
        shape.shrinks = false;
        part = data_transform_part(&transform, &shape, 0, 0);
        assert_int_equal(part.shrink, 1);
    }
}

/* The mean difference of a transform from the same one of the whole picture, not shrunk. */
static double shrunk_difference(const struct data_transform *transform, const struct buf *jpeg,
                                uint64_t sample, int *shrink)
{
    const size_t floats = (size_t)transform->size * (size_t)transform->size * 3;
    struct data_decoder *const decoder = data_decoder_new();
    struct data_image whole = {0}, part = {0};
    double sum = 0;
    float *want, *got;

    assert_int_equal(data_decode(jpeg->data, jpeg->bytes, &whole, NULL), 0);
    assert_int_equal(
        data_transform_decode(transform, decoder, jpeg->data, jpeg->bytes, sample, 0, &part, NULL),
        0);
    want = apply(transform, &whole, sample, 0);
    got = apply(transform, &part, sample, 0);
    for (size_t i = 0; i < floats; i++)
        sum += got[i] > want[i] ? (double)(got[i] - want[i]) : (double)(want[i] - got[i]);
    *shrink = part.shrink;
    free(want);
    free(got);
    data_decoder_free(decoder);
    data_image_release(&whole);
    data_image_release(&part);
    return sum / (double)floats;
}

/* Shrunk by the DCT and then resized, or resized at once: nearly the same; not shrunk: the same. */
static void transform_of_a_shrunk_part_is_near_that_of_the_whole(void **state)
{
    static const int sizes[] = {300, 150, 96, 60, 33, 20};
    const struct picture picture = {611, 467, PICTURE_YCC, false, 0};
    int seen[9] = {0}, shrink;
    struct buf jpeg = {0};

    (void)state;
    picture_jpeg(&picture, &jpeg);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint64_t sample = 0; sample < 12; sample++) {
            const struct data_transform transform = {sample % 3 == 0 ? DATA_TRANSFORM_CENTER
                                                     : sample % 3 == 1
                                                         ? DATA_TRANSFORM_RESIZE
                                                         : DATA_TRANSFORM_RESIZED_CROP,
                                                     sizes[i], LEVELS};
            const double difference = shrunk_difference(&transform, &jpeg, sample, &shrink);

            seen[shrink]++;
            if (difference > (shrink == 1 ? 0 : 1.5))
                fail_msg("size %d, sample %d, by %d: %f", sizes[i], (int)sample, shrink,
                         difference);
        }
    assert_true(seen[1] > 0 && seen[2] > 0 && seen[4] > 0 && seen[8] > 0);
    buf_release(&jpeg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transform_leaves_pixels_alone_when_the_size_is_right),
        cmocka_unit_test(transform_resizes_with_a_triangle_filter_for_every_shape),
        cmocka_unit_test(transform_pads_crops_and_flips_by_up_to_four),
        cmocka_unit_test(transform_crops_areas_and_aspects_within_their_bounds),
        cmocka_unit_test(transform_falls_back_to_the_middle_when_no_crop_fits),
        cmocka_unit_test(transform_gives_the_same_floats_whatever_came_before),
        cmocka_unit_test(transform_goes_round_its_views_epoch_by_epoch),
        cmocka_unit_test(transform_has_one_view_in_evaluation),
        cmocka_unit_test(transform_holds_pictures_upright_by_their_orientation),
        cmocka_unit_test(transform_gives_the_same_bits_with_every_instruction_set),
        cmocka_unit_test(resize_weights_sum_up_exactly_and_stay_in_the_box),
        cmocka_unit_test(transform_shrinks_by_what_the_crop_has_too_much),
        cmocka_unit_test(transform_of_a_shrunk_part_is_near_that_of_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
