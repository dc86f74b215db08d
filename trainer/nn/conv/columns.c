/*
 * trainer/nn/conv/columns.c -- convolution by im2col of a tile and one single-threaded GEMM
 * (Chellapilla, Puri, Simard, "High performance convolutional neural networks for document
 * processing", 2006); 1x1 with stride 1 is the GEMM alone. In NHWC the taps of one filter row lie
 * side by side in the picture, so im2col copies runs of R*C floats.
 *
 * OpenBLAS knows many CPUs: this is the way for those that our own kernels do not know, and what
 * the others are compared with. Operands that are not in memory as they are read are written there
 * first, whole.
 */
#include "trainer/nn/conv/algorithm.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "trainer/nn/kernel/gemm.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/simd.h"
#include "trainer/nn/kernel/size.h"

/* These numbers are part of the bits. A tile of columns should stay in a core's L2 cache, but have
 * enough rows to pay for OpenBLAS's packing of the filters. */
#define TILE_FLOATS   131072 /* of columns: 512 KiB */
#define TILE_ROWS_MIN 256
#define TILE_ROWS_MAX 1024

/* Backward to the filters: rows of one product, and how the work is cut so that many threads find
 * some. */
#define GROUP_ROWS        1024
#define BLOCK_COLUMNS_MAX 256 /* GROUP_ROWS of them: 1 MiB */
#define BLOCK_SIDE_MIN    32
#define PARTS_MAX         16
#define PARTS_FLOATS      (1u << 20) /* of all partial sums together */
#define JOBS_MIN          16

/* Rows and channels of an operand that are read at once. */
#define ROWS_AT_ONCE     16
#define CHANNELS_AT_ONCE 512

struct range {
    size_t begin, end;
};

/* The i-th of `blocks` nearly equal runs of [0, total). */
static struct range range_at(size_t total, size_t blocks, size_t i)
{
    return (struct range){total * i / blocks, total * (i + 1) / blocks};
}

static size_t columns_of(const struct nn_conv *conv)
{
    return (size_t)conv->r * conv->r * conv->c;
}

static size_t rows_of(const struct nn_conv *conv)
{
    return (size_t)conv->oh * conv->ow;
}

static size_t picture_of(const struct nn_conv *conv)
{
    return (size_t)conv->h * conv->w * conv->c;
}

static bool is_pointwise(const struct nn_conv *conv)
{
    return conv->r == 1 && conv->stride == 1 && conv->pad == 0;
}

/* Tiles of rows into which one image's output is cut. */
static size_t tiles_of(const struct nn_conv *conv)
{
    size_t rows = TILE_FLOATS / columns_of(conv);

    rows = rows < TILE_ROWS_MIN ? TILE_ROWS_MIN : rows > TILE_ROWS_MAX ? TILE_ROWS_MAX : rows;
    return (rows_of(conv) + rows - 1) / rows;
}

static size_t tile_rows_max(const struct nn_conv *conv)
{
    const size_t tiles = tiles_of(conv);

    return (rows_of(conv) + tiles - 1) / tiles;
}

/* An output row's place in the output picture. Stepping from row to row saves a division each. */
struct place {
    int y, x;
};

static struct place place_of(const struct nn_conv *conv, size_t m)
{
    return (struct place){(int)(m / conv->ow), (int)(m % conv->ow)};
}

static struct place place_next(const struct nn_conv *conv, struct place place)
{
    place.x++;
    return place.x < conv->ow ? place : (struct place){place.y + 1, 0};
}

/* What filter row `row` sees from a place: its column 0 would be x[at], the columns before `low`
 * are left of the picture and those from `high` on right of it. `outside`: nothing of it is inside.
 */
struct window {
    bool outside;
    ptrdiff_t at;
    size_t low, high;
};

static struct window window_of(const struct nn_conv *conv, struct place place, int row)
{
    const int y = place.y * conv->stride - conv->pad + row;
    const int x = place.x * conv->stride - conv->pad;
    const int low = x < 0 ? -x : 0;
    const int high = conv->w - x < conv->r ? conv->w - x : conv->r;

    return (struct window){
        .outside = y < 0 || y >= conv->h || high <= low,
        .at = ((ptrdiff_t)y * conv->w + x) * conv->c,
        .low = (size_t)low * conv->c,
        .high = high < 0 ? 0 : (size_t)high * conv->c,
    };
}

/* Columns [j.begin, j.end) of filter row `row` as seen from a place; zeros where they leave the
 * picture. */
static void gather(const struct nn_conv *conv, const float *x, struct place place, int row,
                   struct range j, float *out)
{
    const struct window window = window_of(conv, place, row);
    const size_t low = window.low > j.begin ? window.low : j.begin;
    const size_t high = window.high < j.end ? window.high : j.end;

    if (window.outside || high <= low) {
        memset(out, 0, (j.end - j.begin) * sizeof(*out));
        return;
    }
    if (low > j.begin) /* most windows lie inside: spare them the calls */
        memset(out, 0, (low - j.begin) * sizeof(*out));
    memcpy(out + (low - j.begin), x + window.at + (ptrdiff_t)low, (high - low) * sizeof(*out));
    if (high < j.end)
        memset(out + (high - j.begin), 0, (j.end - high) * sizeof(*out));
}

static void im2col(const struct nn_conv *conv, const float *x, struct range rows, float *columns)
{
    const size_t run = (size_t)conv->r * conv->c;
    struct place place = place_of(conv, rows.begin);

    for (size_t m = rows.begin; m < rows.end; m++, place = place_next(conv, place))
        for (int row = 0; row < conv->r; row++, columns += run)
            gather(conv, x, place, row, (struct range){0, run}, columns);
}

NN_CLONES static void add_to(float *restrict y, const float *restrict x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] += x[i];
}

/* The transpose of im2col: adds each column to the place of the picture that it came from. */
static void col2im(const struct nn_conv *conv, const float *columns, struct range rows, float *dx)
{
    const size_t run = (size_t)conv->r * conv->c;
    struct place place = place_of(conv, rows.begin);

    for (size_t m = rows.begin; m < rows.end; m++, place = place_next(conv, place)) {
        for (int row = 0; row < conv->r; row++, columns += run) {
            const struct window window = window_of(conv, place, row);

            if (!window.outside)
                add_to(dx + window.at + (ptrdiff_t)window.low, columns + window.low,
                       window.high - window.low);
        }
    }
}

static size_t floats_of(const struct nn_source *source, size_t rows)
{
    return rows * source->c;
}

/* The rows of an operand as they are read: where they are, or written to their store, or to
 * `place`. */
static const float *materialise(const struct nn_source *source, size_t rows, float *place)
{
    struct nn_source whole = *source;
    const size_t jobs = nn_size_pieces(rows, ROWS_AT_ONCE);

    if (nn_source_is_plain(source))
        return source->x;
    if (source->store == NULL)
        whole.store = place;
#pragma omp parallel for
    for (size_t job = 0; job < jobs; job++) {
        const struct range run = range_at(rows, jobs, job);
        float read[ROWS_AT_ONCE * CHANNELS_AT_ONCE];

        for (size_t begin = 0; begin < source->c; begin += CHANNELS_AT_ONCE) {
            const size_t left = source->c - begin;

            nn_source_read(&whole, run.begin, run.end - run.begin, begin,
                           left < CHANNELS_AT_ONCE ? left : CHANNELS_AT_ONCE, read,
                           CHANNELS_AT_ONCE);
        }
    }
    return whole.store;
}

/* y = conv(x, filters), one job per tile of an image. Filters stand as (R, R, C, K): OpenBLAS packs
 * them for each tile anew, and from there it reads whole rows. */
static void convolve(const struct nn_conv *conv, int n, const float *x, const float *filters,
                     const struct nn_sink *sink, const struct nn_scratch *scratch)
{
    const size_t tiles = tiles_of(conv), columns = columns_of(conv), k = (size_t)conv->k;
    const size_t jobs = (size_t)n * tiles;

#pragma omp parallel for schedule(dynamic)
    for (size_t job = 0; job < jobs; job++) {
        const struct range rows = range_at(rows_of(conv), tiles, job % tiles);
        const size_t row = job / tiles * rows_of(conv) + rows.begin;
        const float *image = x + job / tiles * picture_of(conv);
        const float *tile = image + rows.begin * columns;

        if (!is_pointwise(conv)) {
            im2col(conv, image, rows, nn_scratch_mine(scratch));
            tile = nn_scratch_mine(scratch);
        }
        nn_gemm_nn(rows.end - rows.begin, k, columns, tile, columns, filters, k,
                   sink->add ? 1.0f : 0.0f, sink->y + row * k, k);
        nn_sink_rows(sink, job, true, row, rows.end - rows.begin, 0, k);
    }
}

/* Filters as (R, R, C, K), each multiplied by its scale. */
static void transpose_filters(const struct nn_conv *conv, const float *w, const float *scale,
                              float *filters)
{
    const size_t k = (size_t)conv->k, columns = columns_of(conv);

    nn_transpose(k, columns, w, filters);
    for (size_t i = 0; i < columns && scale != NULL; i++)
        for (size_t j = 0; j < k; j++)
            filters[i * k + j] *= scale[j];
}

/* Shared scratch: filters or parts of dw, then operands. */
static size_t filter_floats(const struct nn_conv *conv)
{
    return (size_t)conv->k * columns_of(conv);
}

static void forward(const struct nn_conv_forward *args, const struct nn_scratch *scratch)
{
    const struct nn_conv *conv = args->conv;
    const size_t pixels = (size_t)args->n * conv->h * conv->w;
    const float *x = materialise(&args->x, pixels, scratch->shared + filter_floats(conv));

    transpose_filters(conv, args->w, args->scale, scratch->shared);
    convolve(conv, args->n, x, scratch->shared, &args->y, scratch);
}

/* The mirror's filters, (R, R, K, C): both filter axes reversed, a run of C floats at a time. */
static void turn_filters(const struct nn_conv *conv, const float *w, float *turned)
{
    const int taps = conv->r * conv->r;
    const size_t c = (size_t)conv->c;

#pragma omp parallel for
    for (int tap = 0; tap < taps; tap++)
        for (int k = 0; k < conv->k; k++)
            memcpy(turned + ((size_t)tap * conv->k + (size_t)k) * c,
                   w + ((size_t)k * taps + (size_t)(taps - 1 - tap)) * c, c * sizeof(*w));
}

static void pointwise_backward_data(const struct nn_conv *conv, int n, const float *dy,
                                    const float *w, const struct nn_sink *sink)
{
    const size_t tiles = tiles_of(conv), k = (size_t)conv->k, c = (size_t)conv->c;
    const size_t jobs = (size_t)n * tiles;

#pragma omp parallel for schedule(dynamic)
    for (size_t job = 0; job < jobs; job++) {
        const struct range rows = range_at(rows_of(conv), tiles, job % tiles);
        const size_t row = job / tiles * rows_of(conv) + rows.begin;

        nn_gemm_nn(rows.end - rows.begin, c, k, dy + row * k, k, w, c, sink->add ? 1.0f : 0.0f,
                   sink->y + row * c, c);
        nn_sink_rows(sink, job, true, row, rows.end - rows.begin, 0, c);
    }
}

/* One job per image: its tiles overlap in dx and are added in order. */
static void strided_backward_data(const struct nn_conv *conv, int n, const float *dy,
                                  const float *w, const struct nn_sink *sink,
                                  const struct nn_scratch *scratch)
{
    const size_t tiles = tiles_of(conv), columns = columns_of(conv), k = (size_t)conv->k;
    const size_t pixels = (size_t)conv->h * conv->w;

#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++) {
        float *image = sink->y + (size_t)i * picture_of(conv);
        float *tile = nn_scratch_mine(scratch);

        if (!sink->add)
            memset(image, 0, picture_of(conv) * sizeof(*image));
        for (size_t t = 0; t < tiles; t++) {
            const struct range rows = range_at(rows_of(conv), tiles, t);
            const float *out = dy + ((size_t)i * rows_of(conv) + rows.begin) * k;

            nn_gemm_nn(rows.end - rows.begin, columns, k, out, k, w, columns, 0, tile, columns);
            col2im(conv, tile, rows, image);
        }
        nn_sink_rows(sink, (size_t)i, true, (size_t)i * pixels, pixels, 0, (size_t)conv->c);
    }
}

static void backward_data(const struct nn_conv_backward_data *args,
                          const struct nn_scratch *scratch)
{
    const struct nn_conv *conv = args->conv;
    const float *dy = materialise(&args->dy, (size_t)args->n * rows_of(conv),
                                  scratch->shared + filter_floats(conv));

    if (is_pointwise(conv)) {
        pointwise_backward_data(conv, args->n, dy, args->w, &args->dx);
    } else if (conv->stride == 1) {
        const struct nn_conv mirror = nn_conv_mirror(conv);

        turn_filters(conv, args->w, scratch->shared);
        convolve(&mirror, args->n, dy, scratch->shared, &args->dx, scratch);
    } else {
        strided_backward_data(conv, args->n, dy, args->w, &args->dx, scratch);
    }
}

/*
 * Backward to the filters: dw (K, columns) = dy^T (K, rows) columns (rows, columns), where rows run
 * over all images. A job computes one block of dw (some filters, one filter row, some of its
 * columns) over one part of the images. A block's products are added in order within a part; the
 * parts are added in a tree of fixed shape.
 */
struct cut {
    size_t parts, k_blocks, j_blocks;
};

static struct cut cut_of(const struct nn_conv *conv, int n)
{
    const size_t weights = (size_t)conv->k * columns_of(conv), run = (size_t)conv->r * conv->c;
    struct cut cut = {1, 1, 1};

    while (cut.parts < PARTS_MAX && cut.parts * 2 <= (size_t)n &&
           cut.parts * 2 * weights <= PARTS_FLOATS)
        cut.parts *= 2;
    while (run / cut.j_blocks > BLOCK_COLUMNS_MAX)
        cut.j_blocks *= 2;
    while (cut.parts * cut.k_blocks * cut.j_blocks * conv->r < JOBS_MIN) {
        const size_t height = conv->k / cut.k_blocks, width = run / cut.j_blocks;

        if ((height > width ? height : width) < 2 * BLOCK_SIDE_MIN)
            break;
        if (height >= width)
            cut.k_blocks *= 2;
        else
            cut.j_blocks *= 2;
    }
    return cut;
}

struct block {
    struct range images, k, j;
    int row; /* of the filter */
};

static struct block block_at(const struct nn_conv *conv, int n, struct cut cut, size_t job)
{
    struct block block;

    block.images = range_at((size_t)n, cut.parts, job % cut.parts);
    job /= cut.parts;
    block.k = range_at((size_t)conv->k, cut.k_blocks, job % cut.k_blocks);
    job /= cut.k_blocks;
    block.j = range_at((size_t)conv->r * conv->c, cut.j_blocks, job % cut.j_blocks);
    block.row = (int)(job / cut.j_blocks);
    return block;
}

/* A block's columns of output rows [rows.begin, rows.end), counted over all images. */
static void block_im2col(const struct nn_conv *conv, const struct block *block, const float *x,
                         struct range rows, float *columns)
{
    const float *image = x + rows.begin / rows_of(conv) * picture_of(conv);
    struct place place = place_of(conv, rows.begin % rows_of(conv));

    for (size_t m = rows.begin; m < rows.end; m++) {
        gather(conv, image, place, block->row, block->j, columns);
        columns += block->j.end - block->j.begin;
        place = place_next(conv, place);
        if (place.y == conv->oh) {
            place.y = 0;
            image += picture_of(conv);
        }
    }
}

static void block_backward_weights(const struct nn_conv *conv, const struct block *block,
                                   const float *x, const float *dy, float *dw, float *tile)
{
    const size_t k = (size_t)conv->k, c = (size_t)conv->c, width = block->j.end - block->j.begin;
    const size_t end = block->images.end * rows_of(conv);
    struct range rows = {block->images.begin * rows_of(conv), 0};
    float *out =
        dw + block->k.begin * columns_of(conv) + (size_t)block->row * conv->r * c + block->j.begin;
    float beta = 0;

    for (; rows.begin < end; rows.begin = rows.end, beta = 1) {
        const float *columns = tile;
        size_t distance = width;

        rows.end = end - rows.begin < GROUP_ROWS ? end : rows.begin + GROUP_ROWS;
        if (is_pointwise(conv)) {
            columns = x + rows.begin * c + block->j.begin;
            distance = c;
        } else {
            block_im2col(conv, block, x, rows, tile);
        }
        nn_gemm_tn(block->k.end - block->k.begin, width, rows.end - rows.begin,
                   dy + rows.begin * k + block->k.begin, k, columns, distance, beta, out,
                   columns_of(conv));
    }
}

/* dw = the sum of the parts, each `count` floats; the parts are used up. */
static void add_parts(float *part, size_t parts, size_t count, float *dw)
{
    const size_t chunk = 4096, chunks = nn_size_pieces(count, chunk);

#pragma omp parallel for
    for (size_t i = 0; i < chunks; i++) {
        const struct range run = range_at(count, chunks, i);

        for (size_t step = 1; step < parts; step *= 2)
            for (size_t p = 0; p + step < parts; p += 2 * step)
                add_to(part + p * count + run.begin, part + (p + step) * count + run.begin,
                       run.end - run.begin);
        memcpy(dw + run.begin, part + run.begin, (run.end - run.begin) * sizeof(*dw));
    }
}

static void backward_weights(const struct nn_conv_backward_weights *args,
                             const struct nn_scratch *scratch)
{
    const struct nn_conv *conv = args->conv;
    const int n = args->n;
    const struct cut cut = cut_of(conv, n);
    const size_t weights = filter_floats(conv), pixels = (size_t)n * conv->h * conv->w;
    const size_t jobs = cut.parts * cut.k_blocks * cut.j_blocks * conv->r;
    float *const sums = cut.parts == 1 ? args->dw : scratch->shared;
    float *const operands = scratch->shared + cut.parts * weights;
    const float *const x = materialise(&args->x, pixels, operands);
    const float *const dy =
        materialise(&args->dy, (size_t)n * rows_of(conv), operands + floats_of(&args->x, pixels));

#pragma omp parallel for schedule(dynamic)
    for (size_t job = 0; job < jobs; job++) {
        const struct block block = block_at(conv, n, cut, job);

        block_backward_weights(conv, &block, x, dy, sums + job % cut.parts * weights,
                               nn_scratch_mine(scratch));
    }
    if (cut.parts > 1)
        add_parts(sums, cut.parts, weights, args->dw);
}

static bool takes(const struct nn_conv *conv, enum nn_direction direction)
{
    (void)conv;
    (void)direction;
    return true;
}

static size_t shared_floats(const struct nn_conv *conv, enum nn_direction direction, int n)
{
    const size_t x = (size_t)n * picture_of(conv), y = (size_t)n * rows_of(conv) * conv->k;

    if (direction == NN_FORWARD)
        return filter_floats(conv) + x;
    if (direction == NN_BACKWARD_DATA)
        return filter_floats(conv) + y;
    return cut_of(conv, n).parts * filter_floats(conv) + x + y;
}

static size_t private_floats(const struct nn_conv *conv, enum nn_direction direction)
{
    const struct nn_conv mirror = nn_conv_mirror(conv);

    if (is_pointwise(conv))
        return 0;
    if (direction == NN_BACKWARD_WEIGHTS)
        return GROUP_ROWS * (BLOCK_COLUMNS_MAX + 1);
    if (direction == NN_BACKWARD_DATA && conv->stride == 1)
        return tile_rows_max(&mirror) * columns_of(&mirror);
    return tile_rows_max(conv) * columns_of(conv);
}

static size_t blocks(const struct nn_conv *conv, enum nn_direction direction, int n)
{
    const struct nn_conv mirror = nn_conv_mirror(conv);

    if (direction == NN_BACKWARD_WEIGHTS)
        return 0;
    if (direction == NN_FORWARD || is_pointwise(conv))
        return (size_t)n * tiles_of(conv);
    return conv->stride == 1 ? (size_t)n * tiles_of(&mirror) : (size_t)n;
}

static struct nn_conv_size size(const struct nn_conv *conv, enum nn_direction direction, int n)
{
    return (struct nn_conv_size){
        .shared = shared_floats(conv, direction, n),
        .private = private_floats(conv, direction),
        .blocks = blocks(conv, direction, n),
    };
}

const struct nn_conv_algorithm nn_conv_gemm = {
    .name = "gemm",
    .takes = takes,
    .size = size,
    .forward = forward,
    .backward_data = backward_data,
    .backward_weights = backward_weights,
};
