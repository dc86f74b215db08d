/* tests/nn/test_transforms.c -- the transforms of Winograd's convolution against their matrices, of
 * every instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/winograd.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static float *copy_of(const float *x, size_t count)
{
    float *copy = malloc((count + 1) * sizeof(float));

    memcpy(copy, x, count * sizeof(float));
    return copy;
}

struct points {
    size_t m;
    double bt[6][6], at[4][6], g[6][3];
};

/* From the points: A and G by the formulas of winograd.h, and B by what makes them one: for all
 * d and g, A^T (G g . B^T d) is the correlation of d and g. */
static struct points points_of(size_t m)
{
    const double a = sqrt(0.5), b = sqrt(2);
    const struct points four = {
        4,
        {{1, 0, -2.5, 0, 1, 0},
         {0, -a * b * b, -b * b, a, 1, 0},
         {0, a * b * b, -b * b, -a, 1, 0},
         {0, -b * a * a, -a * a, b, 1, 0},
         {0, b * a * a, -a * a, -b, 1, 0},
         {0, 1, 0, -2.5, 0, 1}},
        {{1, 1, 1, 1, 1, 0},
         {0, a, -a, b, -b, 0},
         {0, a * a, a * a, b * b, b * b, 0},
         {0, a * a * a, -a * a * a, b * b * b, -b * b * b, 1}},
        {{1, 0, 0},
         {-2.0 / 3, -2 * a / 3, -2 * a * a / 3},
         {-2.0 / 3, 2 * a / 3, -2 * a * a / 3},
         {1.0 / 6, b / 6, b * b / 6},
         {1.0 / 6, -b / 6, b * b / 6},
         {0, 0, 1}},
    };
    const struct points two = {
        2,
        {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}},
        {{1, 1, 1, 0}, {0, 1, -1, 1}},
        {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}},
    };

    return m == 4 ? four : two;
}

static void the_matrices_make_a_correlation(void **state)
{
    (void)state;
    for (size_t m = 2; m <= 4; m += 2) {
        const struct points p = points_of(m);

        for (size_t y = 0; y < m; y++)
            for (size_t d = 0; d < m + 2; d++)
                for (size_t r = 0; r < 3; r++) {
                    double sum = 0;

                    for (size_t i = 0; i < m + 2; i++)
                        sum += p.at[y][i] * p.g[i][r] * p.bt[i][d];
                    assert_true(fabs(sum - (d == y + r)) < 1e-12);
                }
    }
}

/* Memory that ends where a page begins that nobody may touch. */
struct guarded {
    char *pages;
    size_t bytes;
    float *floats;
};

static struct guarded guarded_new(size_t count)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = count * sizeof(float);
    struct guarded guarded = {.bytes = (bytes + page - 1) / page * page + page};

    guarded.pages =
        mmap(NULL, guarded.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(guarded.pages != MAP_FAILED);
    assert_int_equal(mprotect(guarded.pages + guarded.bytes - page, page, PROT_NONE), 0);
    guarded.floats = (float *)(void *)(guarded.pages + guarded.bytes - page - bytes);
    numbers_fill(31, guarded.floats, count);
    return guarded;
}

static void guarded_free(struct guarded *guarded)
{
    munmap(guarded->pages, guarded->bytes);
}

#define TILES    7 /* more than a run, and not whole runs */
#define CHANNELS 48

/* input (halo 1) or gradient (halo 0) against the matrices. */
static void points_are_right(const struct nn_winograd *set, bool gradient)
{
    const struct points p = points_of(set->m);
    const size_t rows = gradient ? set->m : set->side;
    const size_t columns = set->m * TILES + (gradient ? 0 : 2), tile_step = CHANNELS;
    const size_t point_step = TILES * tile_step;
    struct guarded in = guarded_new(rows * columns * CHANNELS);
    struct guarded out = guarded_new(set->points * point_step);
    struct nn_winograd_in args = {.column_step = CHANNELS,
                                  .tiles = TILES,
                                  .channels = CHANNELS,
                                  .out = out.floats,
                                  .point_step = point_step,
                                  .panel_step = 16,
                                  .tile_step = tile_step,
                                  .width = 16};

    for (size_t i = 0; i < rows; i++)
        args.rows[i] = in.floats + i * columns * CHANNELS;
    (gradient ? set->gradient : set->input)(&args);
    for (size_t at = 0; at < set->points * point_step; at++) {
        const size_t point = at / point_step, tile = at % point_step / CHANNELS, c = at % CHANNELS;
        const size_t i = point / set->side, j = point % set->side;
        double sum = 0;

        for (size_t y = 0; y < rows; y++)
            for (size_t x = 0; x < rows; x++)
                sum += (gradient ? p.at[y][i] * p.at[x][j] : p.bt[i][y] * p.bt[j][x]) *
                       args.rows[y][(tile * set->m + x) * CHANNELS + c];
        assert_true(fabs(out.floats[at] - sum) < 1e-5);
    }
    guarded_free(&in);
    guarded_free(&out);
}

static void outputs_are_right(const struct nn_winograd *set, size_t height, size_t last_width)
{
    const struct points p = points_of(set->m);
    const size_t channels = 24, width = (TILES - 1) * set->m + last_width;
    const size_t point_step = TILES * channels;
    struct guarded in = guarded_new(set->points * point_step);
    struct guarded y = guarded_new(height * width * channels);
    float *before = copy_of(y.floats, height * width * channels);
    const struct nn_winograd_out args = {.in = in.floats,
                                         .point_step = point_step,
                                         .tile_step = channels,
                                         .tiles = TILES,
                                         .channels = channels,
                                         .y = y.floats,
                                         .row_step = width * channels,
                                         .column_step = channels,
                                         .height = height,
                                         .last_width = last_width,
                                         .add = height % 2 == 0};

    set->output(&args);
    for (size_t at = 0; at < height * width * channels; at++) {
        const size_t c = at % channels, column = at / channels % width, row = at / channels / width;
        double sum = args.add ? before[at] : 0;

        for (size_t point = 0; point < set->points; point++)
            sum += p.at[row][point / set->side] * p.at[column % set->m][point % set->side] *
                   in.floats[point * point_step + column / set->m * channels + c];
        assert_true(fabs(y.floats[at] - sum) < 2e-5);
    }
    free(before);
    guarded_free(&in);
    guarded_free(&y);
}

static void transforms_are_right(const struct nn_winograd *set)
{
    points_are_right(set, false);
    points_are_right(set, true);
    for (size_t height = 1; height <= set->m; height++)
        for (size_t width = 1; width <= set->m; width++)
            outputs_are_right(set, height, width);
}

static void transforms_equal_their_matrices_and_stay_inside(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        transforms_are_right(&nn_winograd_generic[i]);
#if defined(__x86_64__)
        if (nn_kernels_find("avx2") != NULL)
            transforms_are_right(&nn_winograd_avx2[i]);
#endif
    }
}

/* --- stride 2 --- */

/* One dimension of a tile that leaves `left` outputs: its 9 inputs to planes (the odd phase's 5
 * points, then the even one's 4), the points of filters, and 5 sums to outputs. */
struct phases {
    bool has[9];
    double in[9][9], filter[6][3], out[4][5];
};

/* The coefficients of the product of (t - q) over the first `count` points but number `skip`,
 * divided by its value at that one. */
static void polynomial(const double *q, size_t count, size_t skip, double *coefficients)
{
    double value = 1;

    coefficients[0] = 1;
    for (size_t i = 0, degree = 0; i < count; i++) {
        if (i == skip)
            continue;
        coefficients[++degree] = 0;
        for (size_t t = degree; t > 0; t--)
            coefficients[t] = coefficients[t - 1] - q[i] * coefficients[t];
        coefficients[0] *= -q[i];
        value *= skip < count ? q[skip] - q[i] : 1;
    }
    for (size_t t = 0; t < count + (skip == count); t++)
        coefficients[t] /= value;
}

/* By the formulas of winograd.h. */
static struct phases phases_of(size_t left)
{
    static const double q[] = {0.5, -0.5, 1.5, -1.5};
    struct phases p = {.filter = {[4] = {0, 0, 1}, [5] = {0, 1, 0}}};
    double coefficients[5];

    for (size_t i = 0; i < 4; i++) {
        p.filter[i][0] = 1;
        p.filter[i][2] = q[i];
    }
    for (size_t i = 0; i < left; i++) {
        polynomial(q, left, i, coefficients);
        p.has[i] = p.has[5 + i] = true;
        for (size_t t = 0; t < left; t++)
            p.in[i][2 * t] = p.in[5 + i][2 * t + 1] = coefficients[t];
        for (size_t y = 0; y < left; y++)
            p.out[y][i] = pow(q[i], (double)y);
    }
    polynomial(q, left, left, coefficients);
    p.has[4] = true;
    for (size_t t = 0; t <= left; t++)
        p.in[4][2 * t] = coefficients[t];
    p.out[left - 1][4] = 1;
    return p;
}

static void the_phases_make_a_correlation_with_stride_2(void **state)
{
    (void)state;
    for (size_t left = 1; left <= 4; left++) {
        const struct phases p = phases_of(left);

        for (size_t y = 0; y < left; y++)
            for (size_t d = 0; d < 9; d++)
                for (size_t r = 0; r < 3; r++) {
                    double sum = 0;

                    for (size_t i = 0; i < 9; i++)
                        sum += p.out[y][i % 5] * p.filter[i < 5 ? i : 5][r] * p.in[i][d];
                    assert_true(fabs(sum - (d == 2 * y + r)) < 1e-12);
                }
    }
}

static void planes_are_right(const struct nn_winograd *set, size_t height, size_t last_width)
{
    const struct phases down = phases_of(height);
    const size_t columns = 8 * (TILES - 1) + 2 * last_width + 1, point_step = TILES * CHANNELS;
    struct guarded in = guarded_new(9 * columns * CHANNELS);
    struct guarded out = guarded_new(set->planes * point_step);
    struct nn_winograd_in args = {.column_step = CHANNELS,
                                  .tiles = TILES,
                                  .channels = CHANNELS,
                                  .height = height,
                                  .last_width = last_width,
                                  .out = out.floats,
                                  .point_step = point_step,
                                  .panel_step = 16,
                                  .tile_step = CHANNELS,
                                  .width = 16};

    for (size_t i = 0; i < 9; i++)
        args.rows[i] = in.floats + i * columns * CHANNELS;
    set->input(&args);
    for (size_t at = 0; at < set->planes * point_step; at++) {
        const size_t plane = at / point_step, tile = at % point_step / CHANNELS, c = at % CHANNELS;
        const size_t i = plane / 9, j = plane % 9, width = tile + 1 < TILES ? 4 : last_width;
        const struct phases across = phases_of(width);
        double sum = 0;

        if (!down.has[i] || !across.has[j])
            continue;
        for (size_t y = 0; y < 2 * height + 1; y++)
            for (size_t x = 0; x < 2 * width + 1; x++)
                sum +=
                    down.in[i][y] * across.in[j][x] * args.rows[y][(8 * tile + x) * CHANNELS + c];
        assert_true(fabs(out.floats[at] - sum) < 2e-5);
    }
    guarded_free(&in);
    guarded_free(&out);
}

static void sums_are_right(const struct nn_winograd *set, size_t height, size_t last_width)
{
    const struct phases down = phases_of(height);
    const size_t channels = 24, width = (TILES - 1) * 4 + last_width, point_step = TILES * channels;
    struct guarded in = guarded_new(set->sums * point_step);
    struct guarded y = guarded_new(height * width * channels);
    float *before = copy_of(y.floats, height * width * channels);
    const struct nn_winograd_out args = {.in = in.floats,
                                         .point_step = point_step,
                                         .tile_step = channels,
                                         .tiles = TILES,
                                         .channels = channels,
                                         .y = y.floats,
                                         .row_step = width * channels,
                                         .column_step = channels,
                                         .height = height,
                                         .last_width = last_width,
                                         .add = height % 2 == 0};

    set->output(&args);
    for (size_t at = 0; at < height * width * channels; at++) {
        const size_t c = at % channels, column = at / channels % width, row = at / channels / width;
        const struct phases across = phases_of(column / 4 + 1 < TILES ? 4 : last_width);
        double sum = args.add ? before[at] : 0;

        for (size_t s = 0; s < set->sums; s++)
            sum += down.out[row][s / 5] * across.out[column % 4][s % 5] *
                   in.floats[s * point_step + column / 4 * channels + c];
        assert_true(fabs(y.floats[at] - sum) < 1e-4);
    }
    free(before);
    guarded_free(&in);
    guarded_free(&y);
}

/* Filters as forward has them: (columns, 3, 3, depth). */
static void filters_are_right(const struct nn_winograd *set)
{
    enum { DEPTH = 19, COLUMNS = 13, WIDTH = 16 };
    const struct phases p = phases_of(4);
    const size_t point_step = DEPTH * WIDTH;
    struct guarded w = guarded_new(COLUMNS * 9 * DEPTH), scale = guarded_new(COLUMNS);
    float *u = aligned_alloc(64, set->points * point_step * sizeof(float));
    const struct nn_winograd_filters args = {.w = w.floats,
                                             .tap_step = DEPTH,
                                             .depth = DEPTH,
                                             .depth_step = 1,
                                             .columns = COLUMNS,
                                             .column_step = 9 * DEPTH,
                                             .scale = scale.floats,
                                             .u = u,
                                             .point_step = point_step,
                                             .width = WIDTH};

    set->filters(&args);
    for (size_t at = 0; at < set->points * point_step; at++) {
        const size_t point = at / point_step, row = at % point_step / WIDTH, k = at % WIDTH;
        double sum = 0;

        for (size_t tap = 0; tap < 9 && k < COLUMNS; tap++)
            sum += p.filter[point / 6][tap / 3] * p.filter[point % 6][tap % 3] * scale.floats[k] *
                   w.floats[(k * 9 + tap) * DEPTH + row];
        assert_true(fabs(u[at] - sum) < 1e-5);
    }
    free(u);
    guarded_free(&w);
    guarded_free(&scale);
}

static void phases_are_right(const struct nn_winograd *set)
{
    assert_int_equal(set->stride, 2);
    filters_are_right(set);
    for (size_t height = 1; height <= 4; height++)
        for (size_t width = 1; width <= 4; width++) {
            planes_are_right(set, height, width);
            sums_are_right(set, height, width);
        }
}

static void transforms_of_stride_2_equal_their_polynomials_and_stay_inside(void **state)
{
    (void)state;
    phases_are_right(&nn_winograd_generic[2]);
#if defined(__x86_64__)
    if (nn_kernels_find("avx2") != NULL)
        phases_are_right(&nn_winograd_avx2[2]);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_matrices_make_a_correlation),
        cmocka_unit_test(transforms_equal_their_matrices_and_stay_inside),
        cmocka_unit_test(the_phases_make_a_correlation_with_stride_2),
        cmocka_unit_test(transforms_of_stride_2_equal_their_polynomials_and_stay_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
