/*
 * trainer/nn/conv/direct.c -- convolution as a product of windows, read where they lie, with packed
 * filters.
 *
 * Forward and backward to the data are the same: output pixels in blocks (strip.h), the depth in
 * chunks of channels, the filters in panels (pack.h); for each block, for each chunk, for each
 * panel one call of the kernel over the block's pixels. So a chunk of a panel (some 16 KiB) stays
 * in L1, the block's chunk of input in L2, and the filters stream from L3: the blocking of Goto and
 * van de Geijn, "Anatomy of high-performance matrix multiplication", 2008, without their packing of
 * A where the windows can be read in place.
 */
#include "trainer/nn/conv/direct.h"

#include <assert.h>
#include <omp.h>
#include <stdbool.h>
#include <string.h>

#include "trainer/nn/conv/ahead.h"
#include "trainer/nn/conv/algorithm.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/share.h"
#include "trainer/nn/kernel/size.h"

/* None of these numbers is part of the bits. */
#define SINK_CHANNELS 512   /* panels after which rows go to the sink: while they are in L2 */
#define JOBS          16    /* for each thread are enough, even if some thread gets one more */
#define FAR_FLOATS    32768 /* of filters that are fetched into L2 again and again: 128 KiB */
#define SKIPPED_MAX   256   /* channels of pixels that may be fetched and not read */
#define ROWS_AT_ONCE  16
#define PACKED        4 /* panels at a time: backward, of each row a few cache lines (deal.c) */
#define LINE_FLOATS   16
#define R_MAX         15 /* what a table on the stack holds */

/* Channels of pixels that are read where they are. Those of more, or such as are skipped, lie so
 * far apart that the six rows of a tile meet in few sets of L1. */
#define IN_PLACE_MAX      1024
#define IN_PLACE_MAX_STEP 256

/* Floats from a pixel of a copy to the next, so that pixels spread over all sets of L1: an odd
 * number of cache lines. */
static size_t odd_lines(size_t channels)
{
    return (nn_size_round_up(channels, LINE_FLOATS) / LINE_FLOATS | 1) * LINE_FLOATS;
}

/* --- private memory --- */

/* For each class: where its pixels' windows are and where its pixels go, from the block's first
 * window and first pixel on; the same for all blocks of one shape. */
struct lists {
    size_t images, lines, step;
    bool cut; /* is the block's last line beyond what some class has? */
    size_t rows[NN_DIRECT_CLASSES_MAX];
    ptrdiff_t *a_at[NN_DIRECT_CLASSES_MAX], *c_at[NN_DIRECT_CLASSES_MAX];
};

struct desk {
    float *strip, *spare, *tile; /* spare: a row of C; tile: a panel's results, side by side */
    ptrdiff_t *tile_at;
    struct lists lists;
};

static size_t list_length(const struct nn_direct_plan *plan)
{
    return nn_size_round_up(nn_strips_rows(&plan->strips), NN_TILE_ROWS);
}

static size_t floats_of_list(const struct nn_direct_plan *plan)
{
    return nn_size_round_up(list_length(plan) * sizeof(ptrdiff_t) / sizeof(float), LINE_FLOATS);
}

/* Pixels with neighbours' taps beside theirs must be adjacent; others had better not be. */
static size_t pixel_step(const struct nn_direct_plan *plan, size_t channels)
{
    for (size_t i = 0; i < plan->classes; i++)
        if (plan->class[i].pack.x.count > 1)
            return channels;
    return odd_lines(channels);
}

static size_t strip_floats(const struct nn_direct_plan *plan)
{
    return nn_size_round_up(nn_strips_pixels(&plan->strips) * pixel_step(plan, plan->chunk),
                            LINE_FLOATS);
}

static size_t desk_floats(const struct nn_direct_plan *plan)
{
    return strip_floats(plan) + (2 * plan->classes + 1) * floats_of_list(plan) +
           plan->panels * plan->width + list_length(plan) * plan->width;
}

static struct desk desk_at(const struct nn_direct_plan *plan, float *memory)
{
    struct desk desk = {.strip = memory};

    memory += strip_floats(plan);
    for (size_t i = 0; i < plan->classes; i++) {
        desk.lists.a_at[i] = (ptrdiff_t *)(void *)memory;
        desk.lists.c_at[i] = (ptrdiff_t *)(void *)(memory + floats_of_list(plan));
        memory += 2 * floats_of_list(plan);
    }
    desk.tile_at = (ptrdiff_t *)(void *)memory;
    for (size_t i = 0; i < list_length(plan); i++)
        desk.tile_at[i] = (ptrdiff_t)(i * plan->width);
    desk.spare = memory + floats_of_list(plan);
    desk.tile = desk.spare + plan->panels * plan->width;
    return desk;
}

/* --- one block --- */

struct job {
    const struct nn_direct_plan *plan;
    const struct nn_kernels *kernels;
    const struct nn_source *source;
    const struct nn_sink *sink;
    const float *filters;
    size_t index; /* of the block */
    struct nn_block block;
    float *y; /* the block's first pixel in the sink's */
    size_t first_panel, end_panel;
    bool far_filters; /* do they not stay in L2? */
    struct nn_ahead ahead;
};

/* Are all windows single pixels that may be read where they are? */
static bool in_place(const struct nn_direct_plan *plan, const struct nn_source *source)
{
    const struct nn_strips *strips = &plan->strips;

    return strips->low == 0 && strips->high == 1 && nn_source_is_plain(source) &&
           plan->in_c <= (strips->step == 1 ? IN_PLACE_MAX : IN_PLACE_MAX_STEP);
}

/* Floats from the block's first window to that of pixel 0 of a line. */
static size_t window_at(const struct job *job, const struct nn_direct_class *class, size_t image,
                        size_t line, size_t step)
{
    const struct nn_strips *strips = &job->plan->strips;

    if (in_place(job->plan, job->source))
        return (image * (size_t)strips->in_h + line * (size_t)strips->step) * (size_t)strips->in_w *
               step;
    return (nn_strips_window(strips, &job->block, image, line) +
            (size_t)(class->low_y - strips->low) * nn_strips_width(strips) +
            (size_t)(class->low_x - strips->low)) *
           step;
}

static size_t list_class(const struct job *job, size_t number, size_t step, size_t stride,
                         struct desk *desk)
{
    const struct nn_direct_plan *plan = job->plan;
    const struct nn_direct_class *class = &plan->class[number];
    const struct nn_block *block = &job->block;
    ptrdiff_t *a_at = desk->lists.a_at[number], *c_at = desk->lists.c_at[number];
    size_t rows = 0;

    for (size_t image = 0; image < block->images; image++)
        for (size_t line = 0; line < block->lines; line++) {
            const size_t y = line * plan->out_step + (size_t) class->first_y;
            const size_t a = window_at(job, class, image, line, step);
            const size_t c = (image * plan->out_h + y) * plan->out_w;

            if (block->line * plan->out_step + y >= plan->out_h)
                continue;
            for (size_t x = (size_t) class->first_x, q = 0; x < plan->out_w;
                 x += plan->out_step, q++) {
                a_at[rows] = (ptrdiff_t)(a + q * stride);
                c_at[rows++] = (ptrdiff_t)((c + x) * plan->out_c);
            }
        }
    return rows;
}

/* The last tile's rows beyond the pixels. */
static void pad_list(const struct job *job, size_t number, const struct desk *desk)
{
    ptrdiff_t *a_at = desk->lists.a_at[number], *c_at = desk->lists.c_at[number];

    for (size_t i = desk->lists.rows[number]; i > 0 && i % NN_TILE_ROWS != 0; i++) {
        a_at[i] = a_at[i - 1];
        c_at[i] = desk->spare - job->y;
    }
}

/* step: from pixel to pixel where the windows are read. */
static void list_windows(const struct job *job, size_t step, struct desk *desk)
{
    const struct nn_direct_plan *plan = job->plan;
    const struct nn_strips *strips = &plan->strips;
    const struct nn_block *block = &job->block;
    struct lists *lists = &desk->lists;
    const bool plain = in_place(plan, job->source);
    const size_t pixels = plain ? (size_t)strips->step : nn_strips_step(strips);
    const bool cut = (block->line + block->lines) * plan->out_step > plan->out_h;

    if (lists->images != block->images || lists->lines != block->lines || lists->step != step ||
        lists->cut != cut) {
        for (size_t i = 0; i < plan->classes; i++)
            lists->rows[i] = list_class(job, i, step, pixels * step, desk);
        lists->images = block->images;
        lists->lines = block->lines;
        lists->step = step;
        lists->cut = cut;
    }
    for (size_t i = 0; i < plan->classes; i++)
        pad_list(job, i, desk);
}

/* C of a panel's `columns` valid columns from the tile. */
static void copy_tile(const struct job *job, const struct desk *desk, size_t number, size_t column,
                      bool add)
{
    const size_t width = job->plan->width, columns = job->plan->out_c - column;

    for (size_t i = 0; i < desk->lists.rows[number]; i++) {
        const float *tile = desk->tile + i * width;
        float *c = job->y + desk->lists.c_at[number][i] + column;

        for (size_t j = 0; j < columns; j++)
            c[j] = add ? c[j] + tile[j] : tile[j];
    }
}

/* Does no filter reach any pixel of the class's lines? */
static bool dead_line(const struct nn_direct_plan *plan, int first_y)
{
    for (size_t i = 0; i < plan->classes; i++)
        if (plan->class[i].first_y == first_y && nn_direct_taps(&plan->class[i]) > 0)
            return false;
    return true;
}

/* Pixels that no filter reaches: a line in one piece where that is possible, with its leftmost
 * class. */
static void zero_panels(const struct job *job, const struct desk *desk, size_t number, size_t panel,
                        size_t panels)
{
    const struct nn_direct_plan *plan = job->plan;
    const struct nn_direct_class *class = &plan->class[number];
    const size_t column = panel * plan->width;
    const size_t columns = nn_size_least(panels * plan->width, plan->out_c - column);
    const bool line = columns == plan->out_c && dead_line(plan, class->first_y);
    const size_t step = line ? nn_size_pieces(plan->out_w, plan->out_step) : 1;
    const size_t floats = line ? plan->out_w * plan->out_c : columns;

    if (line && class->first_x > 0)
        return;
    for (size_t i = 0; i < desk->lists.rows[number]; i += step)
        memset(job->y + desk->lists.c_at[number][i] + column, 0, floats * sizeof(float));
}

/* The same chunk of the next panel, or the panel that follows the last one: of the next chunk, or
 * the next block. */
static const float *next_filters(const struct job *job, const struct nn_direct_class *class,
                                 size_t panel, size_t begin, size_t count)
{
    const size_t floats = nn_pack_panel_floats(&class->pack);
    const size_t depth = nn_direct_taps(class) * job->plan->width; /* floats of a channel */
    const float *filters = job->filters + class->panels_at;

    if (panel + 1 < job->end_panel)
        return filters + (panel + 1) * floats + begin * depth;
    return filters + job->first_panel * floats + (begin + count) % job->plan->in_c * depth;
}

/* Two calls: there are two things to fetch ahead, the next filters and the next block's input. */
static void call_twice(struct job *job, struct nn_product *product, const float *filters,
                       size_t filter_lines)
{
    const size_t rows = product->rows, half = rows / NN_TILE_ROWS / 2 * NN_TILE_ROWS;

    if (half > 0 && job->far_filters) {
        product->rows = half;
        product->ahead = filters;
        product->ahead_lines = filter_lines;
        job->kernels->product(product);
        product->rows = rows - half;
        product->a_at += half;
        product->c_at += half;
    }
    product->ahead = nn_ahead_next(&job->ahead, &product->ahead_lines);
    job->kernels->product(product);
}

/* One panel of a class over the block's pixels, channels [begin, begin + count). */
static void multiply(struct job *job, const struct desk *desk, size_t number, size_t panel,
                     struct nn_product *product, size_t begin, size_t count)
{
    const struct nn_direct_plan *plan = job->plan;
    const struct nn_direct_class *class = &plan->class[number];
    const size_t column = panel * plan->width, taps = nn_direct_taps(class);
    const bool add = job->sink->add || begin > 0, whole = column + plan->width <= plan->out_c;

    product->b = job->filters + class->panels_at + panel * nn_pack_panel_floats(&class->pack) +
                 begin * taps * plan->width;
    product->rows = nn_size_round_up(desk->lists.rows[number], NN_TILE_ROWS);
    product->a_at = desk->lists.a_at[number];
    product->c = whole ? job->y + column : desk->tile;
    product->c_at = whole ? desk->lists.c_at[number] : desk->tile_at;
    product->add = add && whole;
    call_twice(job, product, next_filters(job, class, panel, begin, count),
               count * taps * plan->width / LINE_FLOATS);
    if (!whole)
        copy_tile(job, desk, number, column, add);
}

struct rows {
    size_t begin, end;
};

/* A block's rows of the output. */
static struct rows rows_of(const struct nn_direct_plan *plan, const struct nn_block *block)
{
    const size_t lines = nn_size_least((block->line + block->lines) * plan->out_step, plan->out_h);
    const size_t last = block->image + block->images - 1;

    return (struct rows){
        (block->image * plan->out_h + block->line * plan->out_step) * plan->out_w,
        (last * plan->out_h + lines) * plan->out_w,
    };
}

static void leave(const struct job *job, size_t panel, size_t panels)
{
    const struct nn_direct_plan *plan = job->plan;
    const struct rows rows = rows_of(plan, &job->block);
    const size_t begin = panel * plan->width;

    nn_sink_rows(job->sink, job->index, true, rows.begin, rows.end - rows.begin, begin,
                 nn_size_least(panels * plan->width, plan->out_c - begin));
}

/* All panels of the job for a chunk whose windows are listed; a: channel `begin` of pixel 0. */
static void chunk_run(struct job *job, const struct desk *desk, const float *a, size_t step,
                      size_t begin, size_t count)
{
    const struct nn_direct_plan *plan = job->plan;
    const size_t group = nn_size_most(SINK_CHANNELS / plan->width, 1);
    const size_t line = nn_strips_width(&plan->strips) * step;
    ptrdiff_t segment_at[NN_DIRECT_CLASSES_MAX][R_MAX];
    struct nn_product product[NN_DIRECT_CLASSES_MAX];

    for (size_t i = 0; i < plan->classes; i++) {
        const struct nn_pack *pack = &plan->class[i].pack;

        for (int s = 0; s < pack->y.count; s++)
            segment_at[i][s] = s * (ptrdiff_t)line;
        product[i] = (struct nn_product){
            .width = plan->width,
            .segments = (size_t)pack->y.count,
            .run = (size_t)pack->x.count * count,
            .a = a,
            .segment_at = segment_at[i],
        };
    }
    for (size_t first = job->first_panel; first < job->end_panel; first += group) {
        const size_t panels = nn_size_least(group, job->end_panel - first);

        for (size_t i = 0; i < plan->classes; i++) {
            if (nn_direct_taps(&plan->class[i]) == 0 && begin == 0 && !job->sink->add)
                zero_panels(job, desk, i, first, panels);
            if (nn_direct_taps(&plan->class[i]) == 0 || desk->lists.rows[i] == 0)
                continue;
            for (size_t panel = first; panel < first + panels; panel++)
                multiply(job, desk, i, panel, &product[i], begin, count);
        }
        if (begin + count == plan->in_c)
            leave(job, first, panels);
    }
}

/* Classes that some filter reaches. */
static size_t reached(const struct nn_direct_plan *plan)
{
    size_t classes = 0;

    for (size_t i = 0; i < plan->classes; i++)
        classes += nn_direct_taps(&plan->class[i]) > 0;
    return classes;
}

static void look_ahead(struct job *job)
{
    const struct nn_direct_plan *plan = job->plan;
    const struct nn_strips *strips = &plan->strips;
    const size_t chunks = nn_size_pieces(plan->in_c, plan->chunk);

    job->ahead = (struct nn_ahead){0};
    if (job->index + 1 < nn_strips_blocks(strips)) {
        const struct nn_block next = nn_strips_block(strips, job->index + 1);
        const struct rows rows = rows_of(plan, &next);

        nn_ahead_add_sink(&job->ahead, job->sink, rows.begin, rows.end);
        if (reached(plan) < plan->classes)
            nn_ahead_add_rows(&job->ahead, job->sink->y, plan->out_c, rows.begin, rows.end);
        if (!nn_strips_skip(strips) || plan->in_c <= SKIPPED_MAX)
            nn_ahead_add_block(&job->ahead, strips, &job->block, &next, job->source);
    }
    nn_ahead_cut(&job->ahead, chunks * (job->end_panel - job->first_panel) * reached(plan));
}

static void job_run(struct job *job, struct desk *desk)
{
    const struct nn_direct_plan *plan = job->plan;
    const struct nn_strips *strips = &plan->strips;
    const bool plain = in_place(plan, job->source);
    const float *x;

    job->block = nn_strips_block(strips, job->index);
    job->y = job->sink->y + rows_of(plan, &job->block).begin * plan->out_c;
    x = job->source->x +
        (job->block.image * (size_t)strips->in_h + job->block.line * (size_t)strips->step) *
            (size_t)strips->in_w * plan->in_c;
    look_ahead(job);
    for (size_t begin = 0; begin < plan->in_c; begin += plan->chunk) {
        const size_t count = nn_size_least(plan->chunk, plan->in_c - begin);
        const size_t step = plain ? plan->in_c : pixel_step(plan, count);

        list_windows(job, step, desk);
        if (!plain)
            nn_strips_read(strips, &job->block, job->source, begin, count, desk->strip, step);
        chunk_run(job, desk, plain ? x + begin : desk->strip, step, begin, count);
    }
}

/* --- all blocks --- */

static void pack_filters(const struct nn_direct_plan *plan, const float *w, const float *scale,
                         float *out)
{
    const size_t runs = nn_size_pieces(plan->panels, PACKED);

#pragma omp parallel for
    for (size_t i = 0; i < plan->classes * runs; i++) {
        const struct nn_direct_class *class = &plan->class[i % plan->classes];
        const size_t panel = i / plan->classes * PACKED;

        if (nn_direct_taps(class) > 0)
            nn_pack_panels(&class->pack, w, scale, panel,
                           nn_size_least(PACKED, plan->panels - panel),
                           out + class->panels_at + panel * nn_pack_panel_floats(&class->pack));
    }
}

/* Where strips overlap, rows are read more than once, but may be stored only once: do it first. */
static void store_first(const struct nn_direct_plan *plan, struct nn_source *source,
                        const struct nn_scratch *scratch)
{
    const struct nn_strips *strips = &plan->strips;
    const size_t pixels = (size_t)strips->n * (size_t)strips->in_h * (size_t)strips->in_w;
    const size_t once = nn_size_least(nn_strips_pixels(strips), ROWS_AT_ONCE);

#pragma omp parallel for
    for (size_t row = 0; row < pixels; row += once)
        for (size_t begin = 0; begin < plan->in_c; begin += plan->chunk)
            nn_source_read(source, row, nn_size_least(once, pixels - row), begin,
                           nn_size_least(plan->chunk, plan->in_c - begin), nn_scratch_mine(scratch),
                           plan->chunk);
    *source = (struct nn_source){.kind = NN_SOURCE_PLAIN, .c = source->c, .x = source->store};
}

/* Into how many runs the panels are cut so that all threads find as much. No bit depends on it. */
static size_t cuts_of(const struct nn_direct_plan *plan, const struct nn_source *source)
{
    const size_t threads = (size_t)omp_get_max_threads(), blocks = nn_strips_blocks(&plan->strips);
    size_t cuts = 1;

    if (source->store != NULL)
        return 1; /* each row is stored once */
    while (cuts < plan->panels && cuts * blocks % threads != 0 && cuts * blocks < JOBS * threads)
        cuts++;
    return cuts;
}

static void run(const struct nn_direct_plan *plan, struct nn_source source, const float *filters,
                const struct nn_sink *sink, const struct nn_scratch *scratch)
{
    const size_t blocks = nn_strips_blocks(&plan->strips);
    struct nn_share share;
    size_t cuts;

    if (source.store != NULL &&
        !(plan->strips.low == 0 && plan->strips.high == 1 && plan->strips.step == 1))
        store_first(plan, &source, scratch);
    cuts = cuts_of(plan, &source);
    nn_share_out(&share, cuts * blocks, (size_t)omp_get_max_threads());
#pragma omp parallel
    {
        struct desk desk = desk_at(plan, nn_scratch_mine(scratch));
        size_t i;

        while (nn_share_next(&share, (size_t)omp_get_thread_num(), &i)) {
            struct job job = {
                .plan = plan,
                .kernels = nn_kernels(),
                .source = &source,
                .sink = sink,
                .filters = filters,
                .index = i % blocks,
                .first_panel = plan->panels * (i / blocks) / cuts,
                .end_panel = plan->panels * (i / blocks + 1) / cuts,
                .far_filters = plan->filter_floats / cuts > FAR_FLOATS,
            };

            job_run(&job, &desk);
        }
    }
}

static void forward(const struct nn_conv_forward *args, const struct nn_scratch *scratch)
{
    const struct nn_direct_plan plan = nn_direct_plan_of(args->conv, NN_FORWARD, args->n);
    float *const filters = nn_conv_filters(args->packed, scratch);

    if (nn_conv_must_pack(args->packed))
        pack_filters(&plan, args->w, args->scale, filters);
    run(&plan, args->x, filters, &args->y, scratch);
}

static void backward_data(const struct nn_conv_backward_data *args,
                          const struct nn_scratch *scratch)
{
    const struct nn_direct_plan plan = nn_direct_plan_of(args->conv, NN_BACKWARD_DATA, args->n);

    pack_filters(&plan, args->w, NULL, scratch->shared);
    run(&plan, args->dy, scratch->shared, &args->dx, scratch);
}

static bool takes(const struct nn_conv *conv, enum nn_direction direction)
{
    return conv->r <= R_MAX &&
           (direction != NN_BACKWARD_DATA || conv->stride <= NN_DIRECT_STRIDE_MAX);
}

static struct nn_conv_size size(const struct nn_conv *conv, enum nn_direction direction, int n)
{
    struct nn_direct_plan plan;

    if (direction == NN_BACKWARD_WEIGHTS)
        return nn_direct_weights_size(conv, n);
    plan = nn_direct_plan_of(conv, direction, n);
    return (struct nn_conv_size){
        .shared = plan.filter_floats,
        .private = desk_floats(&plan),
        .filters = plan.filter_floats,
        .blocks = nn_strips_blocks(&plan.strips),
    };
}

const struct nn_conv_algorithm nn_conv_direct = {
    .name = "direct",
    .takes = takes,
    .size = size,
    .forward = forward,
    .backward_data = backward_data,
    .backward_weights = nn_direct_weights,
};
