/*
 * trainer/nn/conv/winograd.c -- 3x3 convolution by Winograd's minimal filtering: forward, with
 * stride 1 or 2, and backward to the data, with stride 1. The maths is in kernel/winograd.h.
 *
 *     U[point] (C, K)      the filters, packed in panels by all threads; once per call, or kept
 *     V[plane] (tiles, C)  B^T d B of a block of tiles
 *     M[sum]   (tiles, K)  = V U: winograd_product.h
 *     y                    A^T M A, and its sink while the rows are hot
 *
 * Two ways to share the work, by the size of U. Narrow layers: a task is a block of tiles; its V
 * and M stay in a core's L2 cache and U comes from there or from L3. Wide layers, whose U (up to
 * 37 MB) would stream past every block: V of many blocks is written to shared memory first; then a
 * task is a block and a range of filters, the ranges outermost, so that a range's part of U is
 * fetched once and used for one block after the other.
 */
#include "trainer/nn/conv/algorithm.h"

#include <string.h>

#include "trainer/nn/conv/ahead.h"
#include "trainer/nn/conv/winograd_product.h"
#include "trainer/nn/conv/winograd_tiles.h"
#include "trainer/nn/conv/winograd_weights.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/size.h"

/* These numbers are part of the bits: they say which rows are summed together for batch norms.
 *
 * A block of a narrow layer: V and M take about twice as many floats as U, but between 512 KiB and
 * 1 MiB. With small U nothing else wants the L2 cache; with large U, more tiles use each of its
 * floats.
 */
#define NARROW_FLOATS_MIN (1u << 17)
#define NARROW_FLOATS_MAX (1u << 18)
#define PHASES_FLOATS     (5u << 17) /* of V and M with stride 2: 2.5 MiB, see README.md */
#define NARROW_U_MAX      (1u << 20) /* floats of U beyond which a layer is wide: 4 MiB */
#define WIDE_TILES        128        /* of a block: each float of U is used as often */
#define WIDE_V_MAX        (1u << 22) /* floats of V of all blocks that exist at once: 16 MiB */
#define BLOCKS_MIN        16         /* fewer make smaller blocks */
#define TILES_MIN         12

/* These are not. */
#define WIDE_FILTERS      256 /* of a range, at most: each float of V is used as often */
#define TASKS_A_THREAD    4   /* fewer make smaller ranges */
#define DEPTH_TASK        64  /* channels of a panel of U that one task makes */
#define DEPTH_TASK_TURNED 8

struct plan {
    struct nn_winograd_tiles tiles;
    size_t c, k, c_padded, k_padded;
    size_t panel; /* columns of a panel of U */
    bool wide;
    size_t range, ranges; /* filters of a task, in whole panels */
    size_t together;      /* blocks whose V exists at once; 1 in narrow layers: each task's own */
    size_t u_step, v_step, m_step;       /* from point to point */
    size_t u_floats, v_floats, m_floats; /* v and m: of a block */
    size_t strip_floats, spare_floats;
};

/* Tiles of a block. */
static size_t tiles_wanted(const struct plan *plan, const struct nn_winograd *transforms, size_t n,
                           size_t h, size_t w)
{
    const size_t step = transforms->m * transforms->stride;
    const size_t all = n * nn_size_pieces(h, step) * nn_size_pieces(w, step);
    const size_t tile = transforms->planes * plan->c_padded + transforms->sums * plan->k_padded;
    size_t floats = 2 * plan->u_floats, wanted;

    if (plan->wide)
        return WIDE_TILES;
    floats =
        floats < NARROW_FLOATS_MIN ? NARROW_FLOATS_MIN : nn_size_least(floats, NARROW_FLOATS_MAX);
    if (transforms->stride > 1)
        floats = PHASES_FLOATS;
    wanted = nn_size_least(floats / tile, nn_size_pieces(all, BLOCKS_MIN));
    return wanted < TILES_MIN ? TILES_MIN : wanted;
}

static struct plan plan_of(const struct nn_conv *conv, size_t n, size_t m)
{
    const struct nn_winograd *transforms = nn_winograd(m, (size_t)conv->stride);
    const size_t h = (size_t)conv->h, w = (size_t)conv->w, points = transforms->points;
    struct plan plan = {.c = (size_t)conv->c, .k = (size_t)conv->k};

    plan.c_padded = nn_winograd_channels(plan.c);
    plan.k_padded = nn_winograd_channels(plan.k);
    plan.panel = nn_kernels()->panel_width(plan.k);
    plan.u_step = nn_winograd_point_step(plan.c * plan.k_padded);
    plan.u_floats = points * plan.u_step;
    plan.wide = points * plan.c * plan.k_padded > NARROW_U_MAX;
    plan.tiles =
        nn_winograd_tiles_make(transforms, n, h, w, tiles_wanted(&plan, transforms, n, h, w));
    plan.range = plan.k_padded;
    if (plan.wide)
        plan.range =
            nn_size_least(plan.k_padded, nn_size_pieces(WIDE_FILTERS, plan.panel) * plan.panel);
    plan.ranges = nn_size_pieces(plan.k_padded, plan.range);
    plan.v_step = nn_winograd_point_step(plan.tiles.tiles * plan.c_padded);
    plan.m_step = nn_winograd_point_step(nn_winograd_product_room(&plan.tiles) * plan.range);
    plan.v_floats = transforms->planes * plan.v_step;
    plan.m_floats = transforms->sums * plan.m_step;
    plan.together = 1;
    if (plan.wide)
        plan.together = nn_size_least(plan.tiles.blocks, nn_size_pieces(WIDE_V_MAX, plan.v_floats));
    plan.strip_floats = nn_winograd_strip_floats(&plan.tiles, plan.c);
    plan.spare_floats = m * m * plan.tiles.across * plan.range;
    return plan;
}

/* Shared scratch: U if it is not kept, then V of wide layers. Private: the strip of input rows or a
 * spare row of output tiles; M; V of narrow layers. */
static size_t shared_floats_of(const struct plan *plan)
{
    return plan->u_floats + (plan->wide ? plan->together * plan->v_floats : 0);
}

static size_t aside_floats(const struct plan *plan)
{
    const size_t floats =
        plan->strip_floats > plan->spare_floats ? plan->strip_floats : plan->spare_floats;

    return nn_size_pieces(floats, NN_LANES) * NN_LANES;
}

static size_t private_floats_of(const struct plan *plan)
{
    return aside_floats(plan) + plan->m_floats + (plan->wide ? 0 : plan->v_floats);
}

/* Ranges small enough for every thread to find some. */
static void share_out(struct plan *plan, size_t threads)
{
    const size_t wanted =
        nn_size_pieces(threads * TASKS_A_THREAD, nn_size_least(plan->together, plan->tiles.blocks));
    const size_t panels = nn_size_pieces(plan->k_padded / plan->panel, wanted);

    if (threads > 1)
        plan->range = nn_size_least(plan->range, panels * plan->panel);
    plan->ranges = nn_size_pieces(plan->k_padded, plan->range);
}

struct job {
    struct plan plan;
    const struct nn_source *source;
    const struct nn_sink *sink;
    const struct nn_scratch *scratch;
    float *u, *v;             /* v: of wide layers */
    struct nn_source settled; /* what `source` points to where its rows were written before */
};

static struct job job_of(const struct nn_conv *conv, size_t n, size_t m,
                         const struct nn_source *source, const struct nn_sink *sink,
                         const struct nn_conv_packed *packed, const struct nn_scratch *scratch)
{
    struct job job = {
        .plan = plan_of(conv, n, m),
        .source = source,
        .sink = sink,
        .scratch = scratch,
        .u = nn_conv_filters(packed, scratch),
    };

    job.v = packed != NULL ? scratch->shared : scratch->shared + job.plan.u_floats;
    if (job.plan.wide)
        share_out(&job.plan, (size_t)scratch->threads);
    return job;
}

/* U. `filters` says how w stands; depth and columns are those of the whole matrix. w is read in
 * long runs: where its columns stand side by side, a task takes all of them. */
static void pack_filters(const struct job *job, struct nn_winograd_filters filters)
{
    const struct plan *plan = &job->plan;
    const bool turned = filters.column_step == 1;
    const size_t depth = turned ? DEPTH_TASK_TURNED : DEPTH_TASK,
                 cuts = nn_size_pieces(plan->c, depth);
    const size_t width = turned ? plan->k_padded : plan->panel;

#pragma omp parallel for
    for (size_t task = 0; task < plan->k_padded / width * cuts; task++) {
        const size_t row = task % cuts * depth, begin = task / cuts * width;

        for (size_t column = begin; column < begin + width; column += plan->panel) {
            struct nn_winograd_filters part = filters;

            part.w += row * part.depth_step + column * part.column_step;
            part.scale = part.scale == NULL ? NULL : part.scale + column;
            part.depth = nn_size_least(depth, plan->c - row);
            part.columns = plan->k > column ? nn_size_least(plan->panel, plan->k - column) : 0;
            part.width = plan->panel;
            part.u = job->u + column * plan->c + row * plan->panel;
            part.point_step = plan->u_step;
            part.stream = plan->wide; /* U is larger than the caches */
            plan->tiles.transforms->filters(&part);
        }
    }
}

static void read_block(const struct job *job, size_t block, float *v)
{
    const struct plan *plan = &job->plan;
    const struct nn_winograd_in to = {
        .out = v,
        .point_step = plan->v_step,
        .tile_step = plan->c_padded,
        .width = plan->c_padded,
    };

    nn_winograd_read(&plan->tiles, block, job->source, false, nn_scratch_mine(job->scratch), to);
}

/* Filters [begin, begin + count) of a block. Of small layers of stride 1 U stays near anyway. */
static struct nn_winograd_product product_of(const struct job *job, size_t block, const float *v,
                                             size_t begin, size_t count, float *m)
{
    const struct plan *plan = &job->plan;

    return (struct nn_winograd_product){
        .tiles = &plan->tiles,
        .block = block,
        .u = job->u,
        .v = v,
        .m = m,
        .u_step = plan->u_step,
        .v_step = plan->v_step,
        .m_step = plan->m_step,
        .v_row = plan->c_padded,
        .m_row = plan->range,
        .depth = plan->c,
        .panel = plan->panel,
        .begin = begin,
        .count = count,
        .fetch = plan->wide || plan->tiles.transforms->stride > 1,
    };
}

/* Channels [begin, begin + count) of a spare row of tiles, to the picture. */
static void copy_out(const struct nn_sink *sink, size_t row, size_t rows, size_t begin,
                     size_t count, const float *spare, size_t step)
{
    for (size_t i = 0; i < rows; i++) {
        float *y = sink->y + (row + i) * sink->c + begin;

        for (size_t j = 0; j < count; j++)
            y[j] = sink->add ? y[j] + spare[i * step + j] : spare[i * step + j];
    }
}

/* One row of tiles from M to the picture: rows [row, row + height * w) of the sink. */
static void leave_row(const struct job *job, const float *m, size_t row, size_t height,
                      size_t begin, size_t count)
{
    const struct plan *plan = &job->plan;
    const struct nn_winograd_tiles *tiles = &plan->tiles;
    const struct nn_sink *sink = job->sink;
    const size_t lanes = tiles->transforms->lanes;
    struct nn_winograd_out out = {
        .in = m,
        .point_step = plan->m_step,
        .tile_step = plan->range,
        .tiles = tiles->across,
        .channels = count,
        .y = sink->y + row * sink->c + begin,
        .row_step = tiles->ow * sink->c,
        .column_step = sink->c,
        .height = height,
        .last_width = nn_winograd_last_width(tiles),
        .add = sink->add,
    };

    if (count % lanes != 0) {
        out.channels = nn_size_pieces(count, lanes) * lanes;
        out.y = nn_scratch_mine(job->scratch);
        out.column_step = plan->range;
        out.row_step = tiles->ow * plan->range;
        out.add = false;
    }
    tiles->transforms->output(&out);
    if (count % lanes != 0)
        copy_out(sink, row, height * tiles->ow, begin, count, out.y, plan->range);
}

static void leave_block(const struct job *job, size_t number, const float *m, size_t begin,
                        size_t count)
{
    const struct nn_winograd_tiles *tiles = &job->plan.tiles;
    const struct nn_winograd_block block = nn_winograd_block_at(tiles, number);
    const size_t side = tiles->transforms->m;

    for (size_t r = block.begin; r < block.end; r++) {
        const size_t y = r % tiles->down * side, height = nn_winograd_height(tiles, r);
        const size_t row = (r / tiles->down * tiles->oh + y) * tiles->ow;

        leave_row(job, m, row, height, begin, count);
        nn_sink_rows(job->sink, number, r == block.begin, row, height * tiles->ow, begin, count);
        m += tiles->across * job->plan.range;
    }
}

/* What the sink reads, and what `next` will read, if there is such a block. */
static struct nn_ahead ahead_of(const struct job *job, const struct nn_winograd_product *product,
                                size_t next)
{
    const struct nn_winograd_tiles *tiles = &job->plan.tiles;
    const struct nn_winograd_block left = nn_winograd_rows_left(tiles, product->block);
    struct nn_ahead ahead = {.ranges = 0};

    if (next < tiles->blocks) {
        const struct nn_winograd_block rows = nn_winograd_rows_of(tiles, next);

        nn_ahead_add(&ahead, job->source, rows.begin, rows.end);
    }
    nn_ahead_add_sink(&ahead, job->sink, left.begin, left.end);
    nn_ahead_cut(&ahead, nn_winograd_product_pieces(product));
    return ahead;
}

/* A task is a run of blocks, so that one knows what the next one reads. */
static void convolve_narrow(const struct job *job)
{
    const struct plan *plan = &job->plan;
    const size_t blocks = plan->tiles.blocks, threads = (size_t)job->scratch->threads;
    const size_t run = nn_size_least(blocks, nn_size_pieces(blocks, threads * TASKS_A_THREAD));

#pragma omp parallel for schedule(dynamic)
    for (size_t begin = 0; begin < blocks; begin += run) {
        float *m = nn_scratch_mine(job->scratch) + aside_floats(plan), *v = m + plan->m_floats;
        const size_t end = nn_size_least(begin + run, blocks);

        for (size_t block = begin; block < end; block++) {
            const struct nn_winograd_product product =
                product_of(job, block, v, 0, plan->k_padded, m);
            struct nn_ahead ahead = ahead_of(job, &product, block + 1 < end ? block + 1 : blocks);

            read_block(job, block, v);
            nn_winograd_multiply(&product, &ahead);
            leave_block(job, block, m, 0, plan->k);
        }
    }
}

/* Filters [range, ...) of a block whose V is there. */
static void finish_range(const struct job *job, size_t block, size_t range, const float *v,
                         float *m)
{
    const struct plan *plan = &job->plan;
    const size_t begin = range * plan->range;
    const struct nn_winograd_product product =
        product_of(job, block, v, begin, nn_size_least(plan->range, plan->k_padded - begin), m);

    nn_winograd_multiply(&product, &(struct nn_ahead){.ranges = 0});
    leave_block(job, block, m, begin, nn_size_least(plan->range, plan->k - begin));
}

static void convolve_wide(const struct job *job)
{
    const struct plan *plan = &job->plan;

    for (size_t first = 0; first < plan->tiles.blocks; first += plan->together) {
        const size_t blocks = nn_size_least(plan->together, plan->tiles.blocks - first);

#pragma omp parallel for schedule(dynamic)
        for (size_t i = 0; i < blocks; i++)
            read_block(job, first + i, job->v + i * plan->v_floats);
#pragma omp parallel for schedule(dynamic)
        for (size_t task = 0; task < blocks * plan->ranges; task++) {
            const size_t i = task % blocks;

            finish_range(job, first + i, task / blocks, job->v + i * plan->v_floats,
                         nn_scratch_mine(job->scratch) + aside_floats(plan));
        }
    }
}

/* The rows of a source that are stored over its own operands, and read by two blocks, are written
 * before. */
static bool stores_in_place(const struct nn_source *source)
{
    return source->store != NULL && (source->store == source->x || source->store == source->other);
}

static struct nn_source settle(const struct nn_source *source, size_t rows, size_t picture_row,
                               const struct nn_scratch *scratch)
{
#pragma omp parallel for
    for (size_t row = 0; row < rows; row += picture_row)
        nn_source_read(source, row, picture_row, 0, source->c, nn_scratch_mine(scratch), source->c);
    return (struct nn_source){.kind = NN_SOURCE_PLAIN, .c = source->c, .x = source->store};
}

static void convolve(struct job *job)
{
    const struct nn_winograd_tiles *tiles = &job->plan.tiles;

    if (stores_in_place(job->source) && nn_winograd_cuts_images(tiles)) {
        job->settled = settle(job->source, tiles->n * tiles->h * tiles->w, tiles->w, job->scratch);
        job->source = &job->settled;
    }
    if (job->plan.wide)
        convolve_wide(job);
    else
        convolve_narrow(job);
}

static void forward(const struct nn_conv_forward *args, size_t m, const struct nn_scratch *scratch)
{
    const size_t c = (size_t)args->conv->c;
    struct job job =
        job_of(args->conv, (size_t)args->n, m, &args->x, &args->y, args->packed, scratch);

    if (nn_conv_must_pack(args->packed))
        pack_filters(&job, (struct nn_winograd_filters){
                               .w = args->w,
                               .tap_step = (ptrdiff_t)c,
                               .depth_step = 1,
                               .column_step = 9 * c,
                               .scale = args->scale,
                           });
    convolve(&job);
}

/* The mirror's filters: w turned by 180 degrees, its c the columns and its k the depth. */
static void backward_data(const struct nn_conv_backward_data *args, size_t m,
                          const struct nn_scratch *scratch)
{
    const struct nn_conv mirror = nn_conv_mirror(args->conv);
    const size_t c = (size_t)args->conv->c;
    struct job job = job_of(&mirror, (size_t)args->n, m, &args->dy, &args->dx, NULL, scratch);

    pack_filters(&job, (struct nn_winograd_filters){
                           .w = args->w + 8 * c,
                           .tap_step = -(ptrdiff_t)c,
                           .depth_step = 9 * c,
                           .column_step = 1,
                       });
    convolve(&job);
}

static bool takes(const struct nn_conv *conv, enum nn_direction direction)
{
    (void)direction;
    return conv->r == 3 && conv->stride == 1 && conv->pad == 1;
}

static bool takes_stride2(const struct nn_conv *conv, enum nn_direction direction)
{
    return conv->r == 3 && conv->stride == 2 && conv->pad == 1 && direction == NN_FORWARD;
}

static struct nn_conv_size size(const struct nn_conv *conv, enum nn_direction direction, int n,
                                size_t m)
{
    const struct nn_conv mirror = nn_conv_mirror(conv);
    struct plan plan;

    if (direction == NN_BACKWARD_WEIGHTS)
        return nn_winograd_weights_size(conv, (size_t)n, m);
    plan = plan_of(direction == NN_FORWARD ? conv : &mirror, (size_t)n, m);
    return (struct nn_conv_size){
        .shared = shared_floats_of(&plan),
        .private = private_floats_of(&plan),
        .filters = plan.u_floats,
        .blocks = plan.tiles.blocks,
    };
}

/* The tables of stride 1 differ in m alone. */
#define WINOGRAD(m)                                                                                \
    static struct nn_conv_size size_##m(const struct nn_conv *conv, enum nn_direction direction,   \
                                        int n)                                                     \
    {                                                                                              \
        return size(conv, direction, n, m);                                                        \
    }                                                                                              \
    static void forward_##m(const struct nn_conv_forward *args, const struct nn_scratch *scratch)  \
    {                                                                                              \
        forward(args, m, scratch);                                                                 \
    }                                                                                              \
    static void backward_data_##m(const struct nn_conv_backward_data *args,                        \
                                  const struct nn_scratch *scratch)                                \
    {                                                                                              \
        backward_data(args, m, scratch);                                                           \
    }                                                                                              \
    static void backward_weights_##m(const struct nn_conv_backward_weights *args,                  \
                                     const struct nn_scratch *scratch)                             \
    {                                                                                              \
        nn_winograd_backward_weights(args, m, scratch);                                            \
    }                                                                                              \
    const struct nn_conv_algorithm nn_conv_winograd##m = {                                         \
        .name = "winograd" #m,                                                                     \
        .takes = takes,                                                                            \
        .size = size_##m,                                                                          \
        .forward = forward_##m,                                                                    \
        .backward_data = backward_data_##m,                                                        \
        .backward_weights = backward_weights_##m,                                                  \
    };

WINOGRAD(4)
WINOGRAD(2)
#undef WINOGRAD

const struct nn_conv_algorithm nn_conv_winograd4s2 = {
    .name = "winograd4s2",
    .takes = takes_stride2,
    .channels_min = 64, /* 16 and 32 of ResNet-20 are faster by direct, README.md */
    .size = size_4,
    .forward = forward_4,
};
