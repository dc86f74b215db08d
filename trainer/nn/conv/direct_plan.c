/*
 * trainer/nn/conv/direct_plan.c -- how forward and backward to the data of "direct" are cut: into
 * classes of pixels, blocks of their rows, chunks of channels and panels of filters.
 *
 * All of it follows from the layer, the number of images and the set of kernels. The chunks are the
 * order in which products are added, and the blocks say which rows are summed for a batch norm: a
 * run has other bits when a number here changes, so NN_NUMERICS_VERSION grows (kernel/threads.h).
 */
#include "trainer/nn/conv/direct.h"

#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/size.h"

/* These numbers are part of the bits, the rows by way of the sums of blocks. */
#define DEPTH     256 /* of a chunk, taps * channels: with 16 columns 16 KiB */
#define ROWS      100 /* of a block, about: two images of 7 x 7 */
#define ROWS_WIDE 48  /* where filters are small: they stay in L2 beside all that the sink reads */
#define ROWS_TAPS 288 /* where a chunk has few channels because it has many taps */

#define CHANNELS_FEW  128          /* in and out: both blocks stay in L2 anyway */
#define FILTERS_SMALL (128u << 10) /* floats: half a MiB */

struct nn_strips nn_direct_forward_strips(const struct nn_conv *conv, int n)
{
    struct nn_strips strips = {
        .n = n,
        .in_h = conv->h,
        .in_w = conv->w,
        .out_h = conv->oh,
        .out_w = conv->ow,
        .step = conv->stride,
        .low = -conv->pad,
        .high = conv->r - conv->pad,
    };

    nn_strips_flatten(&strips);
    return strips;
}

static void plan_forward(struct nn_direct_plan *plan, const struct nn_conv *conv, int n)
{
    const struct nn_taps all = {conv->r, 0, 1};

    plan->strips = nn_direct_forward_strips(conv, n);
    plan->out_h = (size_t)plan->strips.out_h;
    plan->out_w = (size_t)plan->strips.out_w;
    plan->out_step = 1;
    plan->classes = 1;
    plan->class[0] = (struct nn_direct_class){
        .low_y = -conv->pad, .low_x = -conv->pad, .pack = {.conv = conv, .y = all, .x = all}};
}

/* Pixel y = first + s * q of dx gets dy[(y + pad - r) / s] w[r] for the filter rows r = f + s * t,
 * f = (first + pad) mod s: dy[q + e - t] with e = (first + pad - f) / s. Turned round, tap i is the
 * filter row of t = T - 1 - i, and the window begins at q + *low, low = e - (T - 1). */
static struct nn_taps taps_of(const struct nn_conv *conv, int first, int *low)
{
    const int s = conv->stride, f = (first + conv->pad) % s;
    const int count = f < conv->r ? (conv->r - f + s - 1) / s : 0;

    *low = (first + conv->pad - f) / s - (count - 1);
    return (struct nn_taps){.count = count, .first = f + s * (count - 1), .step = -s};
}

static void plan_backward(struct nn_direct_plan *plan, const struct nn_conv *conv, int n)
{
    const int s = conv->stride;
    struct nn_strips strips = {
        .n = n,
        .in_h = conv->oh,
        .in_w = conv->ow,
        .out_h = (conv->h + s - 1) / s,
        .out_w = (conv->w + s - 1) / s,
        .step = 1,
        .low = conv->oh + conv->ow,
        .high = -conv->r,
    };

    plan->classes = (size_t)(s * s);
    for (int i = 0; i < s * s; i++) {
        struct nn_direct_class *class = &plan->class[i];

        *class = (struct nn_direct_class){.first_y = i / s, .first_x = i % s};
        class->pack = (struct nn_pack){.conv = conv, .back = true};
        class->pack.y = taps_of(conv, class->first_y, &class->low_y);
        class->pack.x = taps_of(conv, class->first_x, &class->low_x);
        if (class->pack.y.count == 0 || class->pack.x.count == 0)
            continue;
        strips.low = class->low_y < strips.low ? class->low_y : strips.low;
        if (class->low_y + class->pack.y.count > strips.high)
            strips.high = class->low_y + class->pack.y.count;
    }
    if (s == 1)
        nn_strips_flatten(&strips);
    plan->strips = strips;
    plan->out_step = (size_t)s;
    plan->out_h = s == 1 ? (size_t)strips.out_h : (size_t)conv->h;
    plan->out_w = s == 1 ? (size_t)strips.out_w : (size_t)conv->w;
}

size_t nn_direct_taps(const struct nn_direct_class *class)
{
    return (size_t) class->pack.y.count * (size_t) class->pack.x.count;
}

static size_t taps_max(const struct nn_direct_plan *plan)
{
    size_t taps = 0;

    for (size_t i = 0; i < plan->classes; i++)
        taps = nn_size_most(taps, nn_direct_taps(&plan->class[i]));
    return taps;
}

static size_t chunk_of(size_t channels, size_t taps)
{
    const size_t chunks = nn_size_pieces(channels * taps, DEPTH);
    const size_t chunk = nn_size_round_up(nn_size_pieces(channels, chunks), NN_LANES);

    return nn_size_least(chunk, channels);
}

static size_t rows_of(const struct nn_conv *conv)
{
    if (conv->r > 1)
        return ROWS_TAPS;
    if (conv->stride > 1 || (size_t)conv->c * (size_t)conv->k > FILTERS_SMALL)
        return ROWS;
    return conv->c + conv->k > CHANNELS_FEW ? ROWS_WIDE : ROWS;
}

struct nn_direct_plan nn_direct_plan_of(const struct nn_conv *conv, enum nn_direction direction,
                                        int n)
{
    struct nn_direct_plan plan;
    size_t at = 0;

    if (direction == NN_FORWARD)
        plan_forward(&plan, conv, n);
    else
        plan_backward(&plan, conv, n);
    plan.in_c = (size_t)(direction == NN_FORWARD ? conv->c : conv->k);
    plan.out_c = (size_t)(direction == NN_FORWARD ? conv->k : conv->c);
    nn_strips_cut(&plan.strips, rows_of(conv));
    plan.chunk = chunk_of(plan.in_c, taps_max(&plan));
    plan.width = nn_kernels()->panel_width(plan.out_c);
    plan.panels = nn_size_pieces(plan.out_c, plan.width);
    for (size_t i = 0; i < plan.classes; i++) {
        struct nn_direct_class *class = &plan.class[i];

        class->pack.chunk = plan.chunk;
        class->pack.width = plan.width;
        class->panels_at = at;
        at += plan.panels * nn_pack_panel_floats(&class->pack);
    }
    plan.filter_floats = at;
    return plan;
}
