/*
 * trainer/nn/kernel/winograd.h -- the transforms of Winograd's minimal filtering, for 3x3 filters.
 *
 * F(m x m, 3x3) computes a tile of m x m outputs from (m+2) x (m+2) inputs d with (m+2)^2 products
 * for each pair of channels instead of 9 m^2: 4 times fewer for m = 4, 2.25 times for m = 2.
 *
 *     y  = A^T [ (G g G^T) . (B^T d B) ] A            forward; . is element by element
 *     dg = G^T [ (A dy A^T) . (B^T d B) ] G           backward to the filter
 *
 * Backward to the data is forward with the filters turned. Summed over channels (or, for dg, over
 * tiles), each of the (m+2)^2 elements ("points") is a product of matrices of its own.
 *
 * The matrices follow from the points at which polynomials are evaluated. With 0, +-a, +-b and
 * infinity for m = 4:
 *
 *     B^T = a2b2   0  -a2-b2   0     1   0     A^T = 1   1   1   1   1   0
 *            0  -a b2  -b2     a     1   0           0   a  -a   b  -b   0
 *            0   a b2  -b2    -a     1   0           0  a2  a2  b2  b2   0
 *            0  -b a2  -a2     b     1   0           0  a3 -a3  b3 -b3   1
 *            0   b a2  -a2    -b     1   0
 *            0  a2b2    0   -a2-b2   0   1
 *
 *     G   = (1, p, p2) / N(p) for p = 0, a, -a, b, -b; (0, 0, 1), where N(p) is the product of p -
 * q over the other finite points q
 *
 * a = sqrt(1/2) and b = sqrt(2): a2b2 = 1, N = 1, -3/2, -3/2, 6, 6. The numbers stay near 1, and
 * the error is 3 to 6 times smaller than with the textbook's 1 and 2. For m = 2 the points are
 * 0, 1, -1 and infinity.
 *
 * Stride 2: the odd and the even columns of a picture are its phases. In one dimension
 *
 *     y[j] = w0 x[2j - 1] + w2 x[2j + 1]  +  w1 x[2j]
 *
 * is a filter of two taps on the odd phase, 5 products for 4 results with the points +-a, +-b and
 * infinity, and of one tap on the even one, 4 products. They are taken at the same points: the
 * filter (w1, 0) is w1 at each finite point and 0 at infinity. So both add up to the same 5 sums,
 * and the even phase has one point of U for all of its planes of V. In two dimensions there are
 * (5 + 4)^2 = 81 products for 16 results instead of 144: 81 planes of V (row and column: the odd
 * phase's 5 points, then the even one's 4), 6 x 6 points of U, 5 x 5 sums of M. With o and e the
 * phases' inputs, L_p(t) the product of (t - q) / (p - q) over the other finite points q, and N(t)
 * that of (t - q) over all of them, where t^i stands for o[i] or e[i]:
 *
 *     V  = L_p(o) for p = a, -a, b, -b; N(o); L_p(e)     A^T = 1   1   1   1   0
 *     U  = w0 + p w2; w2; w1                                   a  -a   b  -b   0
 *                                                              a2  a2  b2  b2  0
 *                                                              a3 -a3  b3 -b3  1
 *
 * a = 1/2 and b = 3/2: among such points they give nearly the least error, twice that of a direct
 * convolution. A tile at an edge that leaves m' < 4 rows or columns has the first m' finite points
 * and infinity: 7 pixels take 9 + 7 products in a dimension instead of 18. U is the same for all.
 *
 * Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast
 * algorithms for convolutional neural networks", arXiv:1509.09308, 2015.
 *
 * Channels are multiples of `lanes` or NN_LANES; every function treats them independently.
 */
#ifndef NN_WINOGRAD_H
#define NN_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

#define NN_WINOGRAD_SIDE   6 /* m + 2 at most */
#define NN_WINOGRAD_POINTS (NN_WINOGRAD_SIDE * NN_WINOGRAD_SIDE)
#define NN_WINOGRAD_PLANES 81 /* at most */
#define NN_WINOGRAD_ROWS   9  /* that a tile reads, at most */

/*
 * A run of tiles side by side, from rows of a picture to points.
 *
 * For input, rows are m + 2 and begin at the first tile's column 0, tiles are m columns apart and
 * overlap by two: m * tiles + 2 columns are read. For gradient, rows are m, of m * tiles columns.
 * With stride 2 rows are 2m + 1, tiles 2m columns apart and 2m * tiles + 1 columns are read.
 *
 * Channel c of tile t goes to out + point * point_step + (c / width) * panel_step + t * tile_step +
 * c % width; width and channels are multiples of NN_LANES, and whole cache lines are written.
 */
struct nn_winograd_in {
    const float *rows[NN_WINOGRAD_ROWS];
    size_t column_step; /* floats from column to column */
    size_t tiles, channels;
    size_t height, last_width; /* stride 2: outputs of a tile, and of the last one, as below */
    float *out;
    size_t point_step, panel_step, tile_step, width;
};

/* A run of tiles side by side, from points to rows of a picture. Of each tile `height` rows leave,
 * and of the last one `last_width` columns. */
struct nn_winograd_out {
    const float *in;
    size_t point_step, tile_step;
    size_t tiles, channels;
    float *y;
    size_t row_step, column_step;
    size_t height, last_width; /* 1 to m */
    bool add;                  /* to what y holds */
};

/*
 * Filters to points: U[point] (depth, width), a panel or a part of one (kernels.h). Tap (r, s) of
 * element (i, j) is w[(3 r + s) * tap_step + i * depth_step + j * column_step], times scale[j]
 * where scale is not NULL; it is 0 from column `columns` on. One of the steps is 1.
 */
struct nn_winograd_filters {
    const float *w;
    ptrdiff_t tap_step;
    size_t depth, depth_step;
    size_t columns, column_step;
    const float *scale;
    float *u; /* at a cache line; point_step is whole ones */
    size_t point_step, width;
    bool stream; /* past the caches: U is larger than they are */
};

/* dw from sums over tiles: `rows` filters of `columns` channels. Row i of a point is `width` floats
 * at sums + i * width; dw[i * row_step + tap * tap_step + j]. */
struct nn_winograd_dw {
    const float *sums;
    size_t point_step, width;
    size_t rows, columns;
    float *dw;
    size_t row_step, tap_step;
    bool add; /* to what dw holds */
};

struct nn_winograd {
    size_t m, stride, side, points; /* side = m + 2, points = side^2 */
    size_t planes, sums; /* of V and of M: one for each point; of stride 2 as said above */
    size_t lanes;        /* divides NN_LANES */
    void (*input)(const struct nn_winograd_in *args);    /* B^T d B */
    void (*gradient)(const struct nn_winograd_in *args); /* A dy A^T */
    void (*output)(const struct nn_winograd_out *args);  /* A^T (.) A */
    void (*filters)(const struct nn_winograd_filters *args);
    void (*weights)(const struct nn_winograd_dw *args); /* G^T (.) G */
};

/** The transforms for m (4 or 2) that go with nn_kernels(); stride 2 has m = 4. */
const struct nn_winograd *nn_winograd(size_t m, size_t stride);

/* The tables that nn_winograd() chooses from: [0] for m = 2, [1] for 4, [2] for stride 2. */
extern const struct nn_winograd nn_winograd_generic[3]; /* winograd_generic.c: plain C */
#if defined(__x86_64__)
extern const struct nn_winograd nn_winograd_avx2[3]; /* winograd_avx2.c */
#endif

#endif
