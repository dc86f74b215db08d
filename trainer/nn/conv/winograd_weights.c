/*
 * trainer/nn/conv/winograd_weights.c -- the gradient of the filters.
 *
 *     V[point] (tiles, C)  B^T d B of a block of tiles, in panels
 *     Z[point] (tiles, K)  A dy A^T of the same tiles
 *     S[point] (K, C)      += Z[point]^T V[point]
 *     dw                   G^T S G
 *
 * S stands in tiles of NN_TILE_ROWS filters and a panel of channels, as nn_outer leaves them.
 *
 * Narrow layers: the blocks are dealt to a fixed number of parts, each with S and dw of its own;
 * the parts' dw are added in a tree. Wide layers, whose S would stream past every block: V and Z of
 * many blocks are written to shared memory first; then a task is a range of filters and a range of
 * channels whose S stays in L2, over all those blocks. How many ranges there are may depend on the
 * threads, because no element's additions do.
 */
#include "trainer/nn/conv/winograd_weights.h"

#include <string.h>

#include "trainer/nn/conv/ahead.h"
#include "trainer/nn/conv/conv.h"
#include "trainer/nn/conv/winograd_tiles.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/simd.h"
#include "trainer/nn/kernel/size.h"

/* These numbers are part of the bits, but for those of the ranges.
 *
 * A block of a narrow layer: V and Z take about twice as many floats as S, but between 512 KiB and
 * 2 MiB: the larger S is, the more tiles should be added to it while it is in cache.
 */
#define NARROW_FLOATS_MIN (1u << 17)
#define NARROW_FLOATS_MAX (1u << 19)
#define NARROW_S_MAX      (1u << 20) /* floats of S beyond which a layer is wide: 4 MiB */
#define PARTS_MAX         16
#define PARTS_FLOATS      (1u << 21) /* of all parts' dw */
#define TILES_MIN         48
#define WIDE_TILES        96         /* of a block: S is read and written as often less */
#define WIDE_MAX          (1u << 22) /* floats of V and Z of all blocks at once: 16 MiB */

#define RANGE_CHANNELS 128
#define RANGE_GROUPS   22 /* of NN_TILE_ROWS filters */
#define TASKS_A_THREAD 4
#define GROUPS_AT_ONCE 4 /* in L1: of Z 16 KiB, beside a panel of V */

#define CHUNK 4096 /* floats of dw that are added at once */

struct plan {
    struct nn_winograd_tiles tiles;
    size_t c, k;
    size_t panel, panels; /* of channels */
    size_t groups;        /* of NN_TILE_ROWS filters */
    bool wide;
    size_t parts;                        /* of narrow layers */
    size_t together;                     /* blocks of wide layers */
    size_t range_panels, range_groups;   /* of a task's S, at most */
    size_t panel_step;                   /* of V: from panel to panel */
    size_t z_tile_step;                  /* of Z: from tile to tile */
    size_t v_step, z_step, s_step;       /* from point to point */
    size_t v_floats, z_floats, s_floats; /* v and z: of a block; s: of a task */
    size_t strip_floats;
};

static size_t dw_floats(const struct plan *plan)
{
    return plan->k * 9 * plan->c;
}

static size_t tiles_wanted(const struct plan *plan, size_t m, size_t n, size_t h, size_t w)
{
    const size_t points = (m + 2) * (m + 2), all = n * nn_size_pieces(h, m) * nn_size_pieces(w, m);
    const size_t channels = nn_winograd_channels(plan->c) + nn_winograd_channels(plan->k);
    size_t floats = 2 * points * plan->c * plan->k, wanted;

    if (plan->wide)
        return WIDE_TILES;
    floats =
        floats < NARROW_FLOATS_MIN ? NARROW_FLOATS_MIN : nn_size_least(floats, NARROW_FLOATS_MAX);
    wanted = nn_size_least(floats / (points * channels), nn_size_pieces(all, PARTS_MAX));
    return wanted < TILES_MIN ? TILES_MIN : wanted;
}

static struct plan plan_of(const struct nn_conv *conv, size_t n, size_t m)
{
    const size_t h = (size_t)conv->h, w = (size_t)conv->w, points = (m + 2) * (m + 2);
    struct plan plan = {.c = (size_t)conv->c, .k = (size_t)conv->k, .parts = 1, .together = 1};
    size_t strip_x, strip_dy;

    plan.panel = nn_kernels()->panel_width(plan.c);
    plan.panels = nn_winograd_channels(plan.c) / plan.panel;
    plan.groups = nn_size_pieces(plan.k, NN_TILE_ROWS);
    plan.wide = points * plan.c * plan.k > NARROW_S_MAX;
    plan.tiles =
        nn_winograd_tiles_make(nn_winograd(m, 1), n, h, w, tiles_wanted(&plan, m, n, h, w));
    plan.panel_step = plan.tiles.tiles * plan.panel;
    plan.v_step = nn_winograd_point_step(plan.panels * plan.panel_step);
    plan.z_tile_step = nn_winograd_point_step(nn_winograd_channels(plan.k));
    plan.z_step = nn_winograd_point_step(plan.tiles.tiles * plan.z_tile_step + NN_TILE_ROWS);
    plan.v_floats = points * plan.v_step;
    plan.z_floats = points * plan.z_step;
    plan.range_panels = plan.panels;
    plan.range_groups = plan.groups;
    if (plan.wide) {
        plan.range_panels = nn_size_least(plan.panels, nn_size_pieces(RANGE_CHANNELS, plan.panel));
        plan.range_groups = nn_size_pieces(plan.groups, nn_size_pieces(plan.groups, RANGE_GROUPS));
        plan.together = nn_size_least(plan.tiles.blocks,
                                      nn_size_pieces(WIDE_MAX, plan.v_floats + plan.z_floats));
    } else {
        while (plan.parts < PARTS_MAX && plan.parts * 2 <= plan.tiles.blocks &&
               plan.parts * 2 * dw_floats(&plan) <= PARTS_FLOATS)
            plan.parts *= 2;
    }
    plan.s_step =
        nn_winograd_point_step(plan.range_panels * plan.range_groups * NN_TILE_ROWS * plan.panel);
    plan.s_floats = points * plan.s_step;
    strip_x = nn_winograd_strip_floats(&plan.tiles, plan.c);
    strip_dy = nn_winograd_strip_floats(&plan.tiles, plan.k);
    plan.strip_floats = strip_x > strip_dy ? strip_x : strip_dy;
    return plan;
}

/* Shared scratch: the parts' dw, or V and Z of the blocks that are worked on. Private: S, then V
 * and Z of narrow layers, then the strip. */
struct nn_conv_size nn_winograd_weights_size(const struct nn_conv *conv, size_t n, size_t m)
{
    const struct plan plan = plan_of(conv, n, m);
    const size_t block = plan.v_floats + plan.z_floats;

    if (plan.wide)
        return (struct nn_conv_size){.shared = plan.together * block,
                                     .private = plan.s_floats + plan.strip_floats};
    return (struct nn_conv_size){
        .shared = plan.parts > 1 ? plan.parts * dw_floats(&plan) : 0,
        .private = plan.s_floats + block + plan.strip_floats,
    };
}

struct job {
    struct plan plan;
    const struct nn_conv_backward_weights *args;
    const struct nn_scratch *scratch;
};

/* V, then Z behind it. */
static void read_block(const struct job *job, size_t number, float *v, float *strip)
{
    const struct plan *plan = &job->plan;
    const struct nn_winograd_in to_v = {
        .out = v,
        .point_step = plan->v_step,
        .panel_step = plan->panel_step,
        .tile_step = plan->panel,
        .width = plan->panel,
    };
    const struct nn_winograd_in to_z = {
        .out = v + plan->v_floats,
        .point_step = plan->z_step,
        .tile_step = plan->z_tile_step,
        .width = nn_winograd_channels(plan->k),
    };

    nn_winograd_read(&plan->tiles, number, &job->args->x, false, strip, to_v);
    nn_winograd_read(&plan->tiles, number, &job->args->dy, true, strip, to_z);
}

/* Some panels of channels by some groups of filters. */
struct patch {
    size_t panel, panels, group, groups;
};

static float *tile_of_s(const struct plan *plan, const struct patch *patch, float *s, size_t panel,
                        size_t group)
{
    return s + (panel * patch->groups + group) * NN_TILE_ROWS * plan->panel;
}

/* Some groups of Z stay in L1 while the panels of V go by. */
static void accumulate_groups(const struct job *job, const struct patch *patch, size_t point,
                              size_t begin, size_t end, struct nn_outer *outer, const float *v,
                              struct nn_ahead *ahead, float *s)
{
    const struct plan *plan = &job->plan;
    const struct nn_kernels *kernels = nn_kernels();
    const float *z = v + plan->v_floats + point * plan->z_step;

    outer->tiles = end - begin;
    outer->a = z + (patch->group + begin) * NN_TILE_ROWS;
    for (size_t i = 0; i < patch->panels; i++) {
        outer->b = v + point * plan->v_step + (patch->panel + i) * plan->panel_step;
        outer->c = tile_of_s(plan, patch, s, i, begin) + point * plan->s_step;
        outer->ahead = nn_ahead_next(ahead, &outer->ahead_lines);
        kernels->outer(outer);
    }
}

/* S of a patch += [=] Z^T V of a block. */
static void accumulate(const struct job *job, size_t number, const struct patch *patch,
                       const float *v, bool add, struct nn_ahead *ahead, float *s)
{
    const struct plan *plan = &job->plan;
    struct nn_outer outer = {
        .pixels = nn_winograd_tiles_of(&plan->tiles, number),
        .width = plan->panel,
        .a_tile = NN_TILE_ROWS,
        .a_step = plan->z_tile_step,
        .b_step = plan->panel,
        .add = add,
    };

    for (size_t point = 0; point < plan->tiles.transforms->points; point++)
        for (size_t j = 0; j < patch->groups; j += GROUPS_AT_ONCE)
            accumulate_groups(job, patch, point, j,
                              nn_size_least(j + GROUPS_AT_ONCE, patch->groups), &outer, v, ahead,
                              s);
}

/* dw of a patch += [=] G^T S G. */
static void leave(const struct plan *plan, const struct patch *patch, float *s, bool add, float *dw)
{
    struct nn_winograd_dw out = {
        .point_step = plan->s_step,
        .width = plan->panel,
        .row_step = 9 * plan->c,
        .tap_step = plan->c,
        .add = add,
    };

    for (size_t j = 0; j < patch->groups; j++) {
        const size_t row = (patch->group + j) * NN_TILE_ROWS;

        out.rows = nn_size_least(NN_TILE_ROWS, plan->k - row);
        for (size_t i = 0; i < patch->panels; i++) {
            const size_t column = (patch->panel + i) * plan->panel;

            out.columns = nn_size_least(plan->panel, plan->c - column);
            out.sums = tile_of_s(plan, patch, s, i, j);
            out.dw = dw + row * out.row_step + column;
            plan->tiles.transforms->weights(&out);
        }
    }
}

/* What block `next` reads. */
static struct nn_ahead ahead_of(const struct job *job, size_t next)
{
    const struct plan *plan = &job->plan;
    const struct nn_winograd_block rows = nn_winograd_rows_of(&plan->tiles, next);
    struct nn_ahead ahead = {.ranges = 0};

    nn_ahead_add(&ahead, &job->args->x, rows.begin, rows.end);
    nn_ahead_add(&ahead, &job->args->dy, rows.begin, rows.end);
    nn_ahead_cut(&ahead, plan->tiles.transforms->points * plan->panels *
                             nn_size_pieces(plan->groups, GROUPS_AT_ONCE));
    return ahead;
}

static void part_of_narrow(const struct job *job, size_t part, float *dw)
{
    const struct plan *plan = &job->plan;
    const struct patch all = {0, plan->panels, 0, plan->groups};
    const size_t begin = part * plan->tiles.blocks / plan->parts;
    const size_t end = (part + 1) * plan->tiles.blocks / plan->parts;
    float *s = nn_scratch_mine(job->scratch), *v = s + plan->s_floats;

    for (size_t block = begin; block < end; block++) {
        struct nn_ahead ahead = ahead_of(job, block + 1 < end ? block + 1 : block);

        read_block(job, block, v, v + plan->v_floats + plan->z_floats);
        accumulate(job, block, &all, v, block > begin, &ahead, s);
    }
    leave(plan, &all, s, false, dw);
}

NN_CLONES static void add_to(float *restrict y, const float *restrict x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] += x[i];
}

/* dw = the sum of the parts; they are used up. */
static void add_parts(float *part, size_t parts, size_t count, float *dw)
{
#pragma omp parallel for
    for (size_t at = 0; at < count; at += CHUNK) {
        const size_t floats = nn_size_least(CHUNK, count - at);

        for (size_t step = 1; step < parts; step *= 2)
            for (size_t p = 0; p + step < parts; p += 2 * step)
                add_to(part + p * count + at, part + (p + step) * count + at, floats);
        memcpy(dw + at, part + at, floats * sizeof(*dw));
    }
}

static void weights_narrow(const struct job *job)
{
    const struct plan *plan = &job->plan;
    const size_t count = dw_floats(plan);
    float *dw = plan->parts > 1 ? job->scratch->shared : job->args->dw;

#pragma omp parallel for schedule(dynamic)
    for (size_t part = 0; part < plan->parts; part++)
        part_of_narrow(job, part, dw + part * count);
    if (plan->parts > 1)
        add_parts(dw, plan->parts, count, job->args->dw);
}

/* Ranges small enough for every thread to find some. */
static void share_out(struct plan *plan, size_t threads)
{
    while (nn_size_pieces(plan->panels, plan->range_panels) *
               nn_size_pieces(plan->groups, plan->range_groups) <
           threads * TASKS_A_THREAD) {
        if (plan->range_groups > 1 &&
            plan->range_groups * NN_TILE_ROWS >= plan->range_panels * plan->panel)
            plan->range_groups = nn_size_pieces(plan->range_groups, 2);
        else if (plan->range_panels > 1)
            plan->range_panels = nn_size_pieces(plan->range_panels, 2);
        else
            break;
    }
}

static void weights_wide(const struct job *job)
{
    const struct plan *plan = &job->plan;
    const size_t across = nn_size_pieces(plan->panels, plan->range_panels);
    const size_t down = nn_size_pieces(plan->groups, plan->range_groups);
    const size_t block_floats = plan->v_floats + plan->z_floats;
    float *const v = job->scratch->shared;

    for (size_t first = 0; first < plan->tiles.blocks; first += plan->together) {
        const size_t blocks = nn_size_least(plan->together, plan->tiles.blocks - first);

#pragma omp parallel for schedule(dynamic)
        for (size_t i = 0; i < blocks; i++)
            read_block(job, first + i, v + i * block_floats,
                       nn_scratch_mine(job->scratch) + plan->s_floats);
#pragma omp parallel for schedule(dynamic)
        for (size_t task = 0; task < across * down; task++) {
            const size_t panel = task % across * plan->range_panels;
            const size_t group = task / across * plan->range_groups;
            const struct patch patch = {
                .panel = panel,
                .panels = nn_size_least(plan->range_panels, plan->panels - panel),
                .group = group,
                .groups = nn_size_least(plan->range_groups, plan->groups - group),
            };
            struct nn_ahead ahead = {.ranges = 0};
            float *s = nn_scratch_mine(job->scratch);

            for (size_t i = 0; i < blocks; i++)
                accumulate(job, first + i, &patch, v + i * block_floats, i > 0, &ahead, s);
            leave(plan, &patch, s, first > 0, job->args->dw);
        }
    }
}

void nn_winograd_backward_weights(const struct nn_conv_backward_weights *args, size_t m,
                                  const struct nn_scratch *scratch)
{
    struct job job = {
        .plan = plan_of(args->conv, (size_t)args->n, m),
        .args = args,
        .scratch = scratch,
    };

    if (job.plan.wide) {
        share_out(&job.plan, (size_t)scratch->threads);
        weights_wide(&job);
    } else {
        weights_narrow(&job);
    }
}
