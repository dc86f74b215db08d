/*
 * trainer/nn/conv/direct_weights.c -- backward to the filters, as outer products over pixels.
 *
 * dw = the sum over output pixels of (the window of x) (x) (dy). The pixels are cut into blocks
 * (strip.h), the blocks into at most PARTS_MAX parts with sums of their own, and the parts' sums
 * are added in a tree of fixed shape. An item of work is a part and a range of dy's panels; so each
 * row of dy is read once for each channel, whatever the number of ranges.
 *
 * Within a block the range's channels of dy are written in panels (pixels, width), then x chunk by
 * chunk in groups (pixels, NN_TILE_ROWS), for each tap groups of its own with the pixel that the
 * tap sees: so that each output pixel's operands follow the last one's, whatever the stride and
 * however short the lines, and kernel calls are few. A panel (16 KiB with 16 columns) and a group
 * (6 KiB) lie densely in L1. The panel stays while the groups of a chunk (some 120 to 220 KiB, in
 * L2) pass by.
 *
 * Where there are few channels, groups of one tap would waste much; there the windows are dealt as
 * if they were pixels of R * R * C channels: the stem's 7x7 taps of 3 channels are 25 groups.
 */
#include <omp.h>
#include <stdbool.h>

#include "trainer/nn/conv/ahead.h"
#include "trainer/nn/conv/deal.h"
#include "trainer/nn/conv/direct.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/size.h"

/* These numbers are part of the bits. */
#define PANEL_FLOATS 4096       /* of dy: 16 KiB, half of L1. 256 pixels, where it is 16 wide */
#define PANEL_SHORT  2048       /* where the sums stay in L2 beside what the next block reads */
#define SUMS_SHORT   (1u << 18) /* floats: 1 MiB */
#define WIDTH_MAX    32         /* wider ones would be shorter, and C read more often */
#define PARTS_MAX    16         /* a power of two */
#define PARTS_FLOATS (2500000u) /* of all parts' sums together */
#define PART_PIXELS  2048       /* at least: with 16 parts of few, a small layer took 7 % longer */

#define DENSE_MAX 47 /* channels: groups of more waste little */

/* These are not. */
#define CHUNK          132 /* channels of x that are read at once, at most; whole groups */
#define CHUNK_TAPS     66  /* where each tap has groups of its own */
#define RANGE_CHANNELS 512 /* of dy that are read at once */
#define ROWS_AT_ONCE   16
#define FETCHED_MIN    (1u << 15) /* floats of panels that may leave L2 between two chunks */
#define FETCHING       4 /* the next panel is fetched during a quarter of a panel's tiles */
#define ITEMS          4 /* for each thread are enough, even if some thread gets one more */

struct plan {
    struct nn_strips strips;
    struct nn_sums sums;
    size_t c, k, panels, parts;
    bool lines; /* does the strip have lines, or only pixels? */
};

static struct plan plan_of(const struct nn_conv *conv, int n)
{
    struct plan plan = {
        .strips = nn_direct_forward_strips(conv, n),
        .c = (size_t)conv->c,
        .k = (size_t)conv->k,
        .parts = 1,
        .lines = conv->r > 1,
    };
    const size_t most = conv->r == 1 ? CHUNK : conv->c <= DENSE_MAX ? DENSE_MAX : CHUNK_TAPS;
    const size_t chunks = nn_size_pieces(plan.c, most);
    const size_t pixels = (size_t)n * (size_t)plan.strips.out_h * (size_t)plan.strips.out_w;
    size_t floats;

    plan.sums = (struct nn_sums){
        .conv = conv,
        .chunk =
            nn_size_least(nn_size_round_up(nn_size_pieces(plan.c, chunks), NN_TILE_ROWS), plan.c),
        .width = nn_size_least(nn_kernels()->panel_width(plan.k), WIDTH_MAX),
        .dense = conv->r > 1 && conv->c <= DENSE_MAX,
    };
    floats = conv->r == 1 && plan.c * plan.k <= SUMS_SHORT ? PANEL_SHORT : PANEL_FLOATS;
    nn_strips_cut(&plan.strips, floats / plan.sums.width);
    plan.panels = nn_size_pieces(plan.k, plan.sums.width);
    floats = plan.panels * nn_sums_panel_floats(&plan.sums);
    while (2 * plan.parts <= nn_size_least(PARTS_MAX, nn_strips_blocks(&plan.strips)) &&
           2 * plan.parts * PART_PIXELS <= pixels && 2 * plan.parts * floats <= PARTS_FLOATS)
        plan.parts *= 2;
    return plan;
}

/* Ranges of panels: so many that every thread finds as much as the others. No bit depends on it. */
static size_t ranges_of(const struct plan *plan)
{
    const size_t threads = (size_t)omp_get_max_threads();
    size_t ranges = nn_size_pieces(plan->panels * plan->sums.width, RANGE_CHANNELS);

    while (ranges < plan->panels && plan->parts * ranges % threads != 0 &&
           plan->parts * ranges < ITEMS * threads)
        ranges++;
    return nn_size_least(ranges, plan->panels);
}

static size_t range_channels(const struct plan *plan)
{
    return nn_size_least(plan->panels * plan->sums.width,
                         nn_size_most(RANGE_CHANNELS, plan->sums.width));
}

/* --- private memory --- */

struct desk {
    float *run;    /* pixels as they are read, before they are dealt */
    float *groups; /* (taps, groups, pixels, NN_TILE_ROWS) */
    float *dy;     /* (panels, pixels, width) */
};

static size_t run_floats(const struct plan *plan)
{
    const size_t pixels =
        plan->sums.dense ? nn_strips_pixels(&plan->strips) : nn_strips_run_pixels(&plan->strips);

    return nn_size_round_up(
        nn_size_most(pixels * plan->sums.chunk, ROWS_AT_ONCE * range_channels(plan)), NN_LANES);
}

/* From group to group. */
static size_t group_floats(const struct plan *plan)
{
    return nn_size_round_up(nn_strips_rows(&plan->strips) * NN_TILE_ROWS, NN_LANES);
}

static size_t groups_floats(const struct plan *plan)
{
    return nn_sums_rows(&plan->sums, plan->sums.chunk) / NN_TILE_ROWS * group_floats(plan);
}

static size_t dy_floats(const struct plan *plan)
{
    return nn_strips_rows(&plan->strips) * range_channels(plan);
}

static size_t desk_floats(const struct plan *plan)
{
    return run_floats(plan) + groups_floats(plan) + dy_floats(plan);
}

static struct desk desk_at(const struct plan *plan, float *memory)
{
    struct desk desk = {.run = memory};

    desk.groups = desk.run + run_floats(plan);
    desk.dy = desk.groups + groups_floats(plan);
    return desk;
}

/* --- one item --- */

struct item {
    const struct plan *plan;
    const struct nn_conv_backward_weights *args;
    const struct nn_kernels *kernels;
    float *sums; /* of the part */
    size_t first_block, end_block, first_panel, end_panel;
    struct nn_ahead ahead;
};

static size_t first_row(const struct plan *plan, const struct nn_block *block)
{
    return (block->image * (size_t)plan->strips.out_h + block->line) * (size_t)plan->strips.out_w;
}

static size_t rows_of(const struct plan *plan, const struct nn_block *block)
{
    return block->images * block->lines * (size_t)plan->strips.out_w;
}

/* Of each image. */
static size_t strip_lines(const struct plan *plan, const struct nn_block *block)
{
    return nn_strips_window(&plan->strips, block, 1, 0) / nn_strips_width(&plan->strips);
}

/* A whole strip to the groups of all taps together. */
static void deal_strip(const struct plan *plan, const struct nn_block *block,
                       const struct desk *desk)
{
    const size_t r = (size_t)plan->sums.conv->r, width = (size_t)plan->strips.out_w;
    float *out = desk->groups;

    for (size_t i = 0; i < block->images; i++)
        for (size_t y = 0; y < block->lines; y++, out += width * NN_TILE_ROWS)
            nn_deal_windows(desk->run + nn_strips_window(&plan->strips, block, i, y) * plan->c,
                            nn_strips_step(&plan->strips) * plan->c, width,
                            nn_strips_width(&plan->strips) * plan->c, r, r * plan->c, out,
                            group_floats(plan));
}

/* Pixels of a plain source that are looked at by one tap, straight from there. */
static void deal_plain(const struct plan *plan, const float *x, const struct nn_block *block,
                       size_t count, const struct desk *desk)
{
    const struct nn_strips *strips = &plan->strips;
    const size_t width = (size_t)strips->out_w, step = (size_t)strips->step;
    float *out = desk->groups;

    for (size_t i = 0; i < block->images; i++)
        for (size_t l = 0; l < block->lines; l++, out += width * NN_TILE_ROWS) {
            const size_t line =
                (block->image + i) * (size_t)strips->in_h + (block->line + l) * step;

            nn_deal_groups(x + line * (size_t)strips->in_w * plan->c, step * plan->c, width, count,
                           out, group_floats(plan));
        }
}

/* Line `line` of a strip to the groups of the taps that see it. */
static void deal_line(const struct plan *plan, const struct nn_block *block, size_t line,
                      size_t count, const struct desk *desk)
{
    const size_t r = (size_t)plan->sums.conv->r, width = (size_t)plan->strips.out_w;
    const size_t step = nn_strips_step(&plan->strips), distance = group_floats(plan);
    const size_t height = strip_lines(plan, block);
    const size_t image = line / height, in = line % height;
    const size_t tap = nn_sums_tap(&plan->sums, count) / NN_TILE_ROWS * distance;

    for (size_t y = 0; y < r && y <= in; y++) {
        const size_t out = (in - y) / step;
        float *groups =
            desk->groups + y * r * tap + (image * block->lines + out) * width * NN_TILE_ROWS;

        if ((in - y) % step != 0 || out >= block->lines)
            continue;
        for (size_t x = 0; x < r; x++)
            nn_deal_groups(desk->run + x * count, step * count, width, count, groups + x * tap,
                           distance);
    }
}

static void read_x(const struct item *item, const struct nn_block *block, const struct desk *desk,
                   size_t begin, size_t count)
{
    const struct plan *plan = item->plan;
    const struct nn_source *x = &item->args->x;
    size_t run, at = 0;

    if (plan->sums.dense) {
        nn_strips_read(&plan->strips, block, x, begin, count, desk->run, count);
        deal_strip(plan, block, desk);
        return;
    }
    if (!plan->lines && plan->strips.step == 1 && nn_source_is_plain(x)) {
        nn_deal_groups(x->x + first_row(plan, block) * plan->c + begin, plan->c,
                       rows_of(plan, block), count, desk->groups, group_floats(plan));
        return;
    }
    if (!plan->lines && nn_source_is_plain(x)) {
        deal_plain(plan, x->x + begin, block, count, desk);
        return;
    }
    do {
        run = nn_strips_read_run(&plan->strips, block, x, at, begin, count, desk->run, count);
        if (run > 0 && plan->lines)
            deal_line(plan, block, at / run, count, desk);
        else
            nn_deal_groups(desk->run, count, run, count, desk->groups + at * NN_TILE_ROWS,
                           group_floats(plan));
        at += run;
    } while (run > 0);
}

static void read_dy(const struct item *item, size_t row, size_t rows, const struct desk *desk)
{
    const struct plan *plan = item->plan;
    const size_t width = plan->sums.width, first = item->first_panel * width;
    const size_t count = nn_size_least(item->end_panel * width, plan->k) - first;
    const size_t distance = nn_strips_rows(&plan->strips) * width;

    if (nn_source_is_plain(&item->args->dy)) {
        nn_deal_panels(item->args->dy.x + row * plan->k + first, plan->k, rows, count, width,
                       desk->dy, distance);
        return;
    }
    for (size_t i = 0; i < rows; i += ROWS_AT_ONCE) {
        const size_t once = nn_size_least(ROWS_AT_ONCE, rows - i);

        nn_source_read(&item->args->dy, row + i, once, first, count, desk->run, count);
        nn_deal_panels(desk->run, count, once, count, width, desk->dy + i * width, distance);
    }
}

/* Of a chunk with so many tiles: those during which the next panel is fetched. */
static size_t first_tiles(const struct item *item, size_t tiles)
{
    const struct plan *plan = item->plan;
    const size_t panels = item->end_panel - item->first_panel;

    return panels * plan->sums.width * nn_strips_rows(&plan->strips) > FETCHED_MIN
               ? tiles / FETCHING
               : 0;
}

/* The sums of channels [begin, begin + count) of x with all panels of the item. During the first
 * tiles the next panel is fetched into L2, if there are so many that they leave it between two
 * chunks; during the others, what the next block reads. */
static void chunk_run(struct item *item, size_t rows, const struct desk *desk, size_t begin,
                      size_t count, bool add)
{
    const struct plan *plan = item->plan;
    const size_t width = plan->sums.width, floats = nn_sums_panel_floats(&plan->sums);
    const size_t before = begin / plan->sums.chunk * nn_sums_rows(&plan->sums, plan->sums.chunk);
    const size_t tiles = nn_sums_rows(&plan->sums, count) / NN_TILE_ROWS;
    const size_t distance = nn_strips_rows(&plan->strips) * width;
    const size_t panels = item->end_panel - item->first_panel;
    const size_t first = first_tiles(item, tiles);
    struct nn_outer outer = {
        .pixels = rows,
        .width = width,
        .a_tile = group_floats(plan),
        .a_step = NN_TILE_ROWS,
        .b_step = width,
        .add = add,
    };

    for (size_t panel = 0; panel < panels; panel++) {
        float *sums = item->sums + (item->first_panel + panel) * floats + before * width;

        outer.b = desk->dy + panel * distance;
        if (first > 0) {
            outer.tiles = first;
            outer.a = desk->groups;
            outer.c = sums;
            outer.ahead = desk->dy + (panel + 1) % panels * distance;
            outer.ahead_lines = rows * width / NN_LANES;
            item->kernels->outer(&outer);
        }
        outer.tiles = tiles - first;
        outer.a = desk->groups + first * outer.a_tile;
        outer.c = sums + first * NN_TILE_ROWS * width;
        outer.ahead = nn_ahead_next(&item->ahead, &outer.ahead_lines);
        item->kernels->outer(&outer);
    }
}

static void look_ahead(struct item *item, const struct nn_block *block, size_t index)
{
    const struct plan *plan = item->plan;
    const size_t chunks = nn_size_pieces(plan->c, plan->sums.chunk);

    item->ahead = (struct nn_ahead){0};
    if (index + 1 < item->end_block) {
        const struct nn_block next = nn_strips_block(&plan->strips, index + 1);

        nn_ahead_add_block(&item->ahead, &plan->strips, block, &next, &item->args->x);
        nn_ahead_add(&item->ahead, &item->args->dy, first_row(plan, &next),
                     first_row(plan, &next) + rows_of(plan, &next));
    }
    nn_ahead_cut(&item->ahead, chunks * (item->end_panel - item->first_panel));
}

static void item_run(struct item *item, const struct desk *desk)
{
    const struct plan *plan = item->plan;

    for (size_t i = item->first_block; i < item->end_block; i++) {
        const struct nn_block block = nn_strips_block(&plan->strips, i);

        look_ahead(item, &block, i);
        read_dy(item, first_row(plan, &block), rows_of(plan, &block), desk);
        for (size_t begin = 0; begin < plan->c; begin += plan->sums.chunk) {
            const size_t count = nn_size_least(plan->sums.chunk, plan->c - begin);

            read_x(item, &block, desk, begin, count);
            chunk_run(item, rows_of(plan, &block), desk, begin, count, i > item->first_block);
        }
    }
}

/* --- all items --- */

/* sums[0] = the sum of `parts` runs of count floats, `distance` apart; they are used up. */
static void add_parts(float *sums, size_t parts, size_t distance, size_t count)
{
    for (size_t step = 1; step < parts; step *= 2)
        for (size_t p = 0; p + step < parts; p += 2 * step) {
            float *restrict sum = sums + p * distance;
            const float *restrict part = sums + (p + step) * distance;

            for (size_t i = 0; i < count; i++)
                sum[i] += part[i];
        }
}

void nn_direct_weights(const struct nn_conv_backward_weights *args,
                       const struct nn_scratch *scratch)
{
    const struct plan plan = plan_of(args->conv, args->n);
    const size_t blocks = nn_strips_blocks(&plan.strips), ranges = ranges_of(&plan);
    const size_t panel_floats = nn_sums_panel_floats(&plan.sums);
    const size_t part_floats = plan.panels * panel_floats;

#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < plan.parts * ranges; i++) {
        const size_t part = i / ranges, range = i % ranges;
        const struct desk desk = desk_at(&plan, nn_scratch_mine(scratch));
        struct item item = {
            .plan = &plan,
            .args = args,
            .kernels = nn_kernels(),
            .sums = scratch->shared + part * part_floats,
            .first_block = blocks * part / plan.parts,
            .end_block = blocks * (part + 1) / plan.parts,
            .first_panel = plan.panels * range / ranges,
            .end_panel = plan.panels * (range + 1) / ranges,
        };

        item_run(&item, &desk);
    }
#pragma omp parallel for
    for (size_t panel = 0; panel < plan.panels; panel++) {
        float *sums = scratch->shared + panel * panel_floats;

        add_parts(sums, plan.parts, part_floats, panel_floats);
        nn_sums_unpack(&plan.sums, sums, panel, args->dw);
    }
}

struct nn_conv_size nn_direct_weights_size(const struct nn_conv *conv, int n)
{
    const struct plan plan = plan_of(conv, n);

    return (struct nn_conv_size){
        .shared = plan.parts * plan.panels * nn_sums_panel_floats(&plan.sums),
        .private = desk_floats(&plan),
    };
}
