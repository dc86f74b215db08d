/*
 * trainer/nn/kernel/winograd_phases.h -- a part of winograd_transforms.h: the transforms for stride
 * 2. The maths is in winograd.h.
 *
 * A tile at the right or lower edge of a picture may leave fewer than 4 rows or columns. Its
 * transforms of one dimension are for as many outputs then, `left`, and have as many finite points.
 */

#define PHASE_POINTS 5 /* of the odd phase; the even one has the finite ones */
#define PHASE_FINITE 4
#define PHASE_INPUTS 9 /* and results: the points of both */

/* Does a tile that leaves so many outputs have point i? */
INLINE bool phase_has(size_t i, size_t left)
{
    return i < PHASE_POINTS ? i < left || i == PHASE_FINITE : i - PHASE_POINTS < left;
}

/* The finite points of one phase, whose inputs are 2 * step apart. */
INLINE void phase_finite(const vec *d, size_t step, size_t left, vec *out)
{
    const vec d0 = d[0], d1 = d[2 * step], d2 = d[4 * step], d3 = d[6 * step];

    if (left == 4) {
        const vec even_a = ALL(-0.25f) * FNMA(ALL(2.25f), d0, d2);
        const vec odd_a = FNMA(ALL(2.25f), d1, d3);
        const vec even_b = ALL(0.25f) * FNMA(ALL(0.25f), d0, d2);
        const vec odd_b = FNMA(ALL(0.25f), d1, d3);

        out[0] = FNMA(ALL(0.5f), odd_a, even_a);
        out[1] = FMA(ALL(0.5f), odd_a, even_a);
        out[2] = FMA(ALL(1.0f / 6), odd_b, even_b);
        out[3] = FNMA(ALL(1.0f / 6), odd_b, even_b);
    } else if (left == 3) {
        out[0] = FMA(ALL(0.75f), d0, d1) - d2;
        out[1] = FMA(ALL(0.375f), d0, ALL(0.5f) * d2) - d1;
        out[2] = ALL(0.5f) * FNMA(ALL(0.25f), d0, d2);
    } else if (left == 2) {
        out[0] = FMA(ALL(0.5f), d0, d1);
        out[1] = FMA(ALL(0.5f), d0, -d1);
    } else {
        out[0] = d0;
    }
}

/* B^T d: the odd phase's points and infinity, then the even one's. */
INLINE void phase_input(const vec *d, size_t step, size_t left, vec *out)
{
    const vec d0 = d[0], d1 = d[2 * step], d2 = d[4 * step], d3 = d[6 * step];

    phase_finite(d, step, left, out);
    phase_finite(d + step, step, left, out + PHASE_POINTS);
    if (left == 4)
        out[4] = FMA(ALL(0.5625f), d0, FNMA(ALL(2.5f), d2, d[8 * step]));
    else if (left == 3)
        out[4] = FMA(ALL(0.375f), d0, FNMA(ALL(0.25f), d1, FNMA(ALL(1.5f), d2, d3)));
    else if (left == 2)
        out[4] = FNMA(ALL(0.25f), d0, d2);
    else
        out[4] = FNMA(ALL(0.5f), d0, d1);
}

/* A^T m */
INLINE void phase_output(const vec *m, size_t step, size_t left, vec *out)
{
    const vec m0 = m[0], m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], last = m[4 * step];

    if (left == 4) {
        const vec sum_a = m0 + m1, difference_a = m0 - m1;
        const vec sum_b = m2 + m3, difference_b = m2 - m3;

        out[0] = sum_a + sum_b;
        out[1] = FMA(ALL(1.5f), difference_b, ALL(0.5f) * difference_a);
        out[2] = FMA(ALL(2.25f), sum_b, ALL(0.25f) * sum_a);
        out[3] = FMA(ALL(3.375f), difference_b, FMA(ALL(0.125f), difference_a, last));
    } else if (left == 3) {
        out[0] = m0 + m1 + m2;
        out[1] = FMA(ALL(1.5f), m2, ALL(0.5f) * (m0 - m1));
        out[2] = FMA(ALL(2.25f), m2, FMA(ALL(0.25f), m0 + m1, last));
    } else if (left == 2) {
        out[0] = m0 + m1;
        out[1] = FMA(ALL(0.5f), m0 - m1, last);
    } else {
        out[0] = m0 + last;
    }
}

/* G g: the odd phase's points and infinity, then what all the even one's have. */
INLINE void phase_filter(const vec *g, size_t step, vec *out)
{
    const vec g0 = g[0], g1 = g[step], g2 = g[2 * step];

    out[0] = FMA(ALL(0.5f), g2, g0);
    out[1] = FNMA(ALL(0.5f), g2, g0);
    out[2] = FMA(ALL(1.5f), g2, g0);
    out[3] = FNMA(ALL(1.5f), g2, g0);
    out[4] = g2;
    out[5] = g1;
}

/* --- a tile of a cache line of channels; height and width: its outputs --- */

INLINE void planes_of_tile(const struct nn_winograd_in *args, size_t at, float *out, size_t height,
                           size_t width)
{
    vec t[PHASE_INPUTS * PHASE_INPUTS * LINE];

    for (size_t x = 0; x < 2 * width + 1; x++) {
        for (size_t v = 0; v < LINE; v++) {
            vec d[PHASE_INPUTS];

            for (size_t i = 0; i < PHASE_INPUTS; i++)
                d[i] = LOAD(args->rows[i] + at + x * args->column_step + v * LANES);
            phase_input(d, 1, height, t + (x * LINE + v) * PHASE_INPUTS);
        }
    }
    for (size_t i = 0; i < PHASE_INPUTS; i++) {
        float *plane = out + i * PHASE_INPUTS * args->point_step;

        for (size_t v = 0; v < LINE && phase_has(i, height); v++) {
            vec o[PHASE_INPUTS] = {0};

            phase_input(t + v * PHASE_INPUTS + i, LINE * PHASE_INPUTS, width, o);
            for (size_t j = 0; j < PHASE_INPUTS; j++) {
                if (v == 0)
                    __builtin_prefetch(plane + j * args->point_step + args->tile_step, 1);
                if (phase_has(j, width))
                    STORE(plane + j * args->point_step + v * LANES, o[j]);
            }
        }
    }
}

static void planes_of_edge(const struct nn_winograd_in *args, size_t at, float *out, size_t height,
                           size_t width)
{
    planes_of_tile(args, at, out, height, width);
}

static void phases_input(const struct nn_winograd_in *args)
{
    for (size_t tile = 0; tile < args->tiles; tile++) {
        const size_t width = tile + 1 < args->tiles ? 4 : args->last_width;
        const size_t at = tile * 8 * args->column_step;

        for (size_t c = 0; c < args->channels; c += NN_LANES) {
            float *out = args->out + tile * args->tile_step + c / args->width * args->panel_step +
                         c % args->width;

            if (args->height == 4 && width == 4)
                planes_of_tile(args, at + c, out, 4, 4);
            else
                planes_of_edge(args, at + c, out, args->height, width);
        }
    }
}

/* `line` vectors of channels of a tile. */
INLINE void rows_of_sums(const struct nn_winograd_out *args, const float *in, float *y, size_t line,
                         size_t height, size_t width)
{
    vec t[4 * PHASE_POINTS * LINE];

    for (size_t j = 0; j < PHASE_POINTS; j++) {
        for (size_t v = 0; v < line && phase_has(j, width); v++) {
            vec d[PHASE_POINTS], o[4] = {0};

            for (size_t i = 0; i < PHASE_POINTS; i++)
                d[i] = LOAD(in + (i * PHASE_POINTS + j) * args->point_step + v * LANES);
            phase_output(d, 1, height, o);
            for (size_t i = 0; i < height; i++)
                t[(i * line + v) * PHASE_POINTS + j] = o[i];
        }
    }
    for (size_t i = 0; i < height; i++) {
        for (size_t v = 0; v < line; v++) {
            float *row = y + i * args->row_step + v * LANES;
            vec o[4] = {0};

            phase_output(t + (i * line + v) * PHASE_POINTS, 1, width, o);
            for (size_t j = 0; j < width; j++, row += args->column_step)
                STORE(row, args->add ? LOAD(row) + o[j] : o[j]);
        }
    }
}

static void rows_of_edge(const struct nn_winograd_out *args, const float *in, float *y, size_t line,
                         size_t height, size_t width)
{
    rows_of_sums(args, in, y, line, height, width);
}

static void phases_output(const struct nn_winograd_out *args)
{
    for (size_t tile = 0; tile < args->tiles; tile++) {
        const size_t width = tile + 1 < args->tiles ? 4 : args->last_width;
        const float *in = args->in + tile * args->tile_step;
        float *y = args->y + tile * 4 * args->column_step;
        size_t c = 0;

        for (; c + NN_LANES <= args->channels; c += NN_LANES) {
            if (args->height == 4 && width == 4)
                rows_of_sums(args, in + c, y + c, LINE, 4, 4);
            else
                rows_of_edge(args, in + c, y + c, LINE, args->height, width);
        }
        for (; c < args->channels; c += LANES)
            rows_of_edge(args, in + c, y + c, 1, args->height, width);
    }
}

static void phases_filters(const struct nn_winograd_filters *args)
{
    points_of_filters(args, 4, phase_filter);
}

#undef PHASE_POINTS
#undef PHASE_FINITE
#undef PHASE_INPUTS
