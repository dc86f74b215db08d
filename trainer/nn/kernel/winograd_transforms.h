/*
 * trainer/nn/kernel/winograd_transforms.h -- the body of winograd_generic.c and of its like for
 * instruction sets; the maths and the arguments are in winograd.h.
 *
 * The file that includes this one has defined vec (LANES floats), FMA(a, b, c) = ab + c, FNMA(a, b,
 * c) = c - ab, ALL(x), TABLE, transpose() of a square of LANES vectors, STREAM(p, v), a store to an
 * aligned place that bypasses the caches, and STREAM_END(), after which others may read there. A
 * transform of a tile is the transform of its columns, then of the rows of the result. The
 * temporary between the two is in the L1 cache: 36 vectors do not fit into 16 registers.
 */

#define INLINE static inline __attribute__((always_inline))

#define SIDE NN_WINOGRAD_SIDE
#define RUN  4                  /* tiles whose columns are transformed at once */
#define LINE (NN_LANES / LANES) /* vectors of a cache line */

#define ROOT      1.41421356237309505f /* the points: b, and a = 1 / b */
#define ROOT_HALF 0.707106781186547524f

typedef vec vec_memory __attribute__((aligned(4), may_alias));

#define LOAD(p)     ((vec) * (const vec_memory *)(p))
#define STORE(p, v) (*(vec_memory *)(p) = (v))

/* --- in one dimension: from `in`, each `step` vectors apart, to `out`, side by side --- */

typedef void one_dimension(const vec *in, size_t step, vec *out);

/* B^T d */
INLINE void input4(const vec *d, size_t step, vec *out)
{
    const vec d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    const vec even_a = FNMA(ALL(2.0f), d2, d4), odd_a = FNMA(ALL(2.0f), d1, d3);
    const vec even_b = FNMA(ALL(0.5f), d2, d4), odd_b = FNMA(ALL(0.5f), d1, d3);

    out[0] = FNMA(ALL(2.5f), d2, d[0] + d4);
    out[1] = FMA(ALL(ROOT_HALF), odd_a, even_a);
    out[2] = FNMA(ALL(ROOT_HALF), odd_a, even_a);
    out[3] = FMA(ALL(ROOT), odd_b, even_b);
    out[4] = FNMA(ALL(ROOT), odd_b, even_b);
    out[5] = FNMA(ALL(2.5f), d3, d1 + d[5 * step]);
}

INLINE void input2(const vec *d, size_t step, vec *out)
{
    out[0] = d[0] - d[2 * step];
    out[1] = d[step] + d[2 * step];
    out[2] = d[2 * step] - d[step];
    out[3] = d[3 * step] - d[step];
}

/* A^T m */
INLINE void output4(const vec *m, size_t step, vec *out)
{
    const vec sum_a = m[step] + m[2 * step], difference_a = m[step] - m[2 * step];
    const vec sum_b = m[3 * step] + m[4 * step], difference_b = m[3 * step] - m[4 * step];

    out[0] = m[0] + sum_a + sum_b;
    out[1] = ALL(ROOT_HALF) * FMA(ALL(2.0f), difference_b, difference_a);
    out[2] = FMA(ALL(0.5f), sum_a, ALL(2.0f) * sum_b);
    out[3] = FMA(ALL(2 * ROOT), difference_b, FMA(ALL(ROOT_HALF / 2), difference_a, m[5 * step]));
}

INLINE void output2(const vec *m, size_t step, vec *out)
{
    out[0] = m[0] + m[step] + m[2 * step];
    out[1] = m[step] - m[2 * step] + m[3 * step];
}

/* A y */
INLINE void gradient4(const vec *y, size_t step, vec *out)
{
    const vec y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
    const vec even_a = FMA(ALL(0.5f), y2, y0), odd_a = FMA(ALL(0.5f), y3, y1);
    const vec even_b = FMA(ALL(2.0f), y2, y0), odd_b = FMA(ALL(2.0f), y3, y1);

    out[0] = y0;
    out[1] = FMA(ALL(ROOT_HALF), odd_a, even_a);
    out[2] = FNMA(ALL(ROOT_HALF), odd_a, even_a);
    out[3] = FMA(ALL(ROOT), odd_b, even_b);
    out[4] = FNMA(ALL(ROOT), odd_b, even_b);
    out[5] = y3;
}

INLINE void gradient2(const vec *y, size_t step, vec *out)
{
    out[0] = y[0];
    out[1] = y[0] + y[step];
    out[2] = y[0] - y[step];
    out[3] = y[step];
}

/* G g */
INLINE void filter4(const vec *g, size_t step, vec *out)
{
    const vec g0 = g[0], g1 = g[step], g2 = g[2 * step];
    const vec even_a = ALL(-2.0f / 3) * FMA(ALL(0.5f), g2, g0);
    const vec even_b = ALL(1.0f / 6) * FMA(ALL(2.0f), g2, g0);

    out[0] = g0;
    out[1] = FNMA(ALL(2 * ROOT_HALF / 3), g1, even_a);
    out[2] = FMA(ALL(2 * ROOT_HALF / 3), g1, even_a);
    out[3] = FMA(ALL(ROOT / 6), g1, even_b);
    out[4] = FNMA(ALL(ROOT / 6), g1, even_b);
    out[5] = g2;
}

INLINE void filter2(const vec *g, size_t step, vec *out)
{
    const vec even = g[0] + g[2 * step], odd = g[step];

    out[0] = g[0];
    out[1] = ALL(0.5f) * (even + odd);
    out[2] = ALL(0.5f) * (even - odd);
    out[3] = g[2 * step];
}

/* G^T u */
INLINE void weights4(const vec *u, size_t step, vec *out)
{
    const vec sum_a = u[step] + u[2 * step], difference_a = u[step] - u[2 * step];
    const vec sum_b = u[3 * step] + u[4 * step], difference_b = u[3 * step] - u[4 * step];

    out[0] = FMA(ALL(1.0f / 6), sum_b, FNMA(ALL(2.0f / 3), sum_a, u[0]));
    out[1] = FNMA(ALL(2 * ROOT_HALF / 3), difference_a, ALL(ROOT / 6) * difference_b);
    out[2] = FMA(ALL(1.0f / 3), sum_b - sum_a, u[5 * step]);
}

INLINE void weights2(const vec *u, size_t step, vec *out)
{
    const vec sum = u[step] + u[2 * step], difference = u[step] - u[2 * step];

    out[0] = FMA(ALL(0.5f), sum, u[0]);
    out[1] = ALL(0.5f) * difference;
    out[2] = FMA(ALL(0.5f), sum, u[3 * step]);
}

/* --- a run of tiles --- */

/* Neighbours overlap, so columns are transformed once for all tiles of a run. The tile at column x
 * then finds its columns at t + x * side. */
INLINE void points_of_run(const struct nn_winograd_in *args, size_t begin, size_t tiles, size_t c,
                          float *out, size_t m, size_t rows, one_dimension *transform)
{
    const size_t side = m + 2, columns = m * (tiles - 1) + rows;
    const size_t column_step = args->column_step, tile_step = args->tile_step;
    const size_t point_step = args->point_step, at = begin * m * column_step + c;
    const float *row[SIDE];
    vec t[(RUN * 4 + 2) * SIDE * LINE];

    for (size_t i = 0; i < rows; i++)
        row[i] = args->rows[i] + at;
    for (size_t x = 0; x < columns; x++) {
        for (size_t v = 0; v < LINE; v++) {
            vec d[SIDE];

            for (size_t i = 0; i < rows; i++)
                d[i] = LOAD(row[i] + x * column_step + v * LANES);
            transform(d, 1, t + (x * LINE + v) * side);
        }
    }
    for (size_t tile = 0; tile < tiles; tile++) {
        float *point = out + tile * tile_step;

        for (size_t i = 0; i < side; i++, point += side * point_step) {
            for (size_t v = 0; v < LINE; v++) {
                vec o[SIDE];

                transform(t + (tile * m * LINE + v) * side + i, side * LINE, o);
                for (size_t j = 0; j < side; j++) {
                    if (v == 0)
                        __builtin_prefetch(point + j * point_step + tile_step, 1);
                    STORE(point + j * point_step + v * LANES, o[j]);
                }
            }
        }
    }
}

INLINE void points_of_rows(const struct nn_winograd_in *args, size_t m, size_t rows,
                           one_dimension *transform)
{
    const size_t channels = args->channels, width = args->width;

    for (size_t begin = 0; begin < args->tiles; begin += RUN) {
        const size_t left = args->tiles - begin, tiles = left < RUN ? left : RUN;
        float *panel = args->out + begin * args->tile_step;

        for (size_t c = 0; c < channels; c += width, panel += args->panel_step)
            for (size_t i = 0; i < width && c + i < channels; i += LINE * LANES)
                points_of_run(args, begin, tiles, c + i, panel + i, m, rows, transform);
    }
}

static void input_4(const struct nn_winograd_in *args)
{
    points_of_rows(args, 4, 6, input4);
}

static void input_2(const struct nn_winograd_in *args)
{
    points_of_rows(args, 2, 4, input2);
}

static void gradient_4(const struct nn_winograd_in *args)
{
    points_of_rows(args, 4, 4, gradient4);
}

static void gradient_2(const struct nn_winograd_in *args)
{
    points_of_rows(args, 2, 2, gradient2);
}

/* One tile of `line` vectors of channels. `height` and `width` are constants where a whole tile
 * leaves, and so is `add`. */
INLINE void rows_of_tile(const struct nn_winograd_out *args, const float *in, float *y, size_t line,
                         size_t m, size_t height, size_t width, bool add, one_dimension *transform)
{
    const size_t side = m + 2, point_step = args->point_step;
    const size_t row_step = args->row_step, column_step = args->column_step;
    vec t[4 * SIDE * LINE];

    for (size_t i = 0; i < height; i++)
        for (size_t j = 0; j < width; j++)
            __builtin_prefetch(y + i * row_step + j * column_step, 1);
    for (size_t j = 0; j < side; j++) {
        for (size_t v = 0; v < line; v++) {
            vec d[SIDE], o[4];

            for (size_t i = 0; i < side; i++)
                d[i] = LOAD(in + (i * side + j) * point_step + v * LANES);
            transform(d, 1, o);
            for (size_t i = 0; i < m; i++)
                t[(i * line + v) * side + j] = o[i];
        }
    }
    for (size_t i = 0; i < height; i++) {
        for (size_t v = 0; v < line; v++) {
            float *row = y + i * row_step + v * LANES;
            vec o[4];

            transform(t + (i * line + v) * side, 1, o);
            for (size_t j = 0; j < m; j++)
                if (j < width)
                    STORE(row + j * column_step, add ? LOAD(row + j * column_step) + o[j] : o[j]);
        }
    }
}

INLINE void channels_of_tile(const struct nn_winograd_out *args, const float *in, float *y,
                             size_t m, size_t height, size_t width, bool add,
                             one_dimension *transform)
{
    const size_t channels = args->channels;
    size_t c = 0;

    for (; c + LINE * LANES <= channels; c += LINE * LANES)
        rows_of_tile(args, in + c, y + c, LINE, m, height, width, add, transform);
    for (; c < channels; c += LANES)
        rows_of_tile(args, in + c, y + c, 1, m, height, width, add, transform);
}

INLINE void rows_of_tiles(const struct nn_winograd_out *args, size_t m, one_dimension *transform)
{
    for (size_t tile = 0; tile < args->tiles; tile++) {
        const size_t width = tile + 1 < args->tiles ? m : args->last_width;
        const float *in = args->in + tile * args->tile_step;
        float *y = args->y + tile * m * args->column_step;

        if (args->height < m || width < m)
            channels_of_tile(args, in, y, m, args->height, width, args->add, transform);
        else if (args->add)
            channels_of_tile(args, in, y, m, m, m, true, transform);
        else
            channels_of_tile(args, in, y, m, m, m, false, transform);
    }
}

static void output_4(const struct nn_winograd_out *args)
{
    rows_of_tiles(args, 4, output4);
}

static void output_2(const struct nn_winograd_out *args)
{
    rows_of_tiles(args, 2, output2);
}

/* --- filters --- */

/* LANES x LANES elements of one tap, columns side by side. What lies outside is zero. */
INLINE void gather_tap(const struct nn_winograd_filters *args, const float *w, size_t depth,
                       size_t columns, vec *out)
{
    const bool whole = depth == LANES && columns == LANES;

    if (whole && args->column_step == 1) {
        for (size_t i = 0; i < LANES; i++)
            out[i] = LOAD(w + i * args->depth_step);
    } else if (whole && args->depth_step == 1) {
        for (size_t j = 0; j < LANES; j++)
            out[j] = LOAD(w + j * args->column_step);
        transpose(out);
    } else {
        for (size_t i = 0; i < LANES; i++)
            for (size_t j = 0; j < LANES; j++)
                out[i][j] = i < depth && j < columns
                                ? w[i * args->depth_step + j * args->column_step]
                                : 0.0f;
    }
}

/* G g G^T of one vector of filters whose taps are LANES vectors apart. The points are LINE vectors
 * apart. */
INLINE void points_of_filter(const vec *taps, vec scale, vec *points, size_t m,
                             one_dimension *transform)
{
    const size_t side = m + 2;
    vec t[3 * SIDE];

    for (size_t s = 0; s < 3; s++) {
        vec g[3];

        for (size_t r = 0; r < 3; r++)
            g[r] = taps[(3 * r + s) * LANES] * scale;
        transform(g, 1, t + s * side);
    }
    for (size_t i = 0; i < side; i++) {
        vec o[SIDE];

        transform(t + i, side, o);
        for (size_t j = 0; j < side; j++)
            points[(i * side + j) * LINE] = o[j];
    }
}

/* A square of LANES elements of the depth and NN_LANES columns from (i, j) on. Each point's cache
 * line is written at once. */
INLINE void points_of_square(const struct nn_winograd_filters *args, size_t i, size_t j, size_t m,
                             one_dimension *transform)
{
    const size_t depth = args->depth - i < LANES ? args->depth - i : LANES;
    const size_t points = (m + 2) * (m + 2), point_step = args->point_step;
    const bool stream = args->stream;
    vec taps[LINE][9 * LANES], scale[LINE];

    for (size_t v = 0; v < LINE; v++) {
        const size_t column = j + v * LANES;
        const size_t left = args->columns > column ? args->columns - column : 0;
        const size_t columns = left < LANES ? left : LANES;
        const float *w = args->w + i * args->depth_step + column * args->column_step;

        for (size_t l = 0; l < LANES; l++)
            scale[v][l] = args->scale != NULL && l < columns ? args->scale[column + l] : 1.0f;
        for (size_t tap = 0; tap < 9; tap++)
            gather_tap(args, w + (ptrdiff_t)tap * args->tap_step, depth, columns,
                       taps[v] + tap * LANES);
    }
    for (size_t l = 0; l < depth; l++) {
        float *u = args->u + (i + l) * args->width + j;
        vec line[NN_WINOGRAD_POINTS * LINE];

        for (size_t v = 0; v < LINE; v++)
            points_of_filter(taps[v] + l, scale[v], line + v, m, transform);
        for (size_t point = 0; point < points; point++, u += point_step) {
            for (size_t v = 0; v < LINE; v++) {
                if (stream)
                    STREAM(u + v * LANES, line[point * LINE + v]);
                else
                    STORE(u + v * LANES, line[point * LINE + v]);
            }
        }
    }
}

INLINE void points_of_filters(const struct nn_winograd_filters *args, size_t m,
                              one_dimension *transform)
{
    for (size_t i = 0; i < args->depth; i += LANES)
        for (size_t j = 0; j < args->width; j += NN_LANES)
            points_of_square(args, i, j, m, transform);
    if (args->stream)
        STREAM_END();
}

static void filters_4(const struct nn_winograd_filters *args)
{
    points_of_filters(args, 4, filter4);
}

static void filters_2(const struct nn_winograd_filters *args)
{
    points_of_filters(args, 2, filter2);
}

INLINE void weights_of(const struct nn_winograd_dw *args, const float *sums, vec dw[9], size_t m,
                       one_dimension *transform)
{
    const size_t side = m + 2;
    vec t[3 * SIDE];

    for (size_t j = 0; j < side; j++) {
        vec d[SIDE], o[3];

        for (size_t i = 0; i < side; i++)
            d[i] = LOAD(sums + (i * side + j) * args->point_step);
        transform(d, 1, o);
        for (size_t i = 0; i < 3; i++)
            t[i * side + j] = o[i];
    }
    for (size_t i = 0; i < 3; i++)
        transform(t + i * side, 1, dw + 3 * i);
}

INLINE void weights_of_points(const struct nn_winograd_dw *args, size_t m, one_dimension *transform)
{
    for (size_t i = 0; i < args->rows; i++) {
        for (size_t j = 0; j < args->columns; j += LANES) {
            const size_t left = args->columns - j, count = left < LANES ? left : LANES;
            float *dw = args->dw + i * args->row_step + j;
            vec taps[9];

            weights_of(args, args->sums + i * args->width + j, taps, m, transform);
            for (size_t tap = 0; tap < 9; tap++, dw += args->tap_step) {
                if (count == LANES)
                    STORE(dw, args->add ? LOAD(dw) + taps[tap] : taps[tap]);
                else
                    for (size_t l = 0; l < count; l++)
                        dw[l] = args->add ? dw[l] + taps[tap][l] : taps[tap][l];
            }
        }
    }
}

static void weights_4(const struct nn_winograd_dw *args)
{
    weights_of_points(args, 4, weights4);
}

static void weights_2(const struct nn_winograd_dw *args)
{
    weights_of_points(args, 2, weights2);
}

#include "trainer/nn/kernel/winograd_phases.h"

const struct nn_winograd TABLE[3] = {
    {.m = 2,
     .stride = 1,
     .side = 4,
     .points = 16,
     .planes = 16,
     .sums = 16,
     .lanes = LANES,
     .input = input_2,
     .gradient = gradient_2,
     .output = output_2,
     .filters = filters_2,
     .weights = weights_2},
    {.m = 4,
     .stride = 1,
     .side = 6,
     .points = 36,
     .planes = 36,
     .sums = 36,
     .lanes = LANES,
     .input = input_4,
     .gradient = gradient_4,
     .output = output_4,
     .filters = filters_4,
     .weights = weights_4},
    {.m = 4,
     .stride = 2,
     .side = 6,
     .points = 36,
     .planes = 81,
     .sums = 25,
     .lanes = LANES,
     .input = phases_input,
     .output = phases_output,
     .filters = phases_filters},
};

#undef INLINE
#undef SIDE
#undef RUN
#undef LINE
#undef ROOT
#undef ROOT_HALF
#undef LOAD
#undef STORE
