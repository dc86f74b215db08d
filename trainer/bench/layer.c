#include "trainer/bench/layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/bench/common.h"
#include "trainer/nn/graph.h"
#include "trainer/nn/resnet.h"
#include "trainer/nn/tuning.h"

#define CLASSES 1000 /* no convolution depends on it */

/* --- the layers of a network --- */

/* The tensor's name without ".weight". */
static void name_layer(struct bench_layer *layer, const char *tensor)
{
    const char *const end = strrchr(tensor, '.');

    snprintf(layer->name, sizeof layer->name, "%.*s", (int)(end - tensor), tensor);
}

/* What stands around node i decides how it reads and leaves its rows: as nn/pass.c does it. */
static struct bench_layer layer_of(const struct nn_graph *graph, int i)
{
    const struct nn_node *const node = &graph->nodes[i];
    const struct nn_value *const in = &graph->values[node->in];
    const bool joined = in->writer != NN_NONE && graph->nodes[in->writer].kind == NN_NODE_JOIN;
    struct bench_layer layer = {.conv = node->conv, .first = node->in == 0};

    layer.raw = nn_value_is_raw(graph, node->in);
    layer.joins = in->unwritten;
    layer.adds = in->reader_last != i;
    layer.masks = in->reader_first == i && (layer.raw || joined);
    name_layer(&layer, graph->tensors[node->tensor].name);
    return layer;
}

struct bench_layer *bench_layers_find(const char *model, int image_size, size_t *count)
{
    struct nn_graph graph = {0};
    struct bench_layer *layers;

    nn_resnet_build(nn_resnet_find(model), image_size, CLASSES, &(struct nn_tuning){0}, &graph);
    layers = calloc((size_t)graph.node_count, sizeof layers[0]);
    if (layers == NULL)
        abort();
    *count = 0;
    for (int i = 0; i < graph.node_count; i++) {
        const struct nn_node *const node = &graph.nodes[i];
        size_t at = 0;

        if (node->kind != NN_NODE_CONV)
            continue;
        while (at < *count && !nn_conv_is_same(&layers[at].conv, &node->conv))
            at++;
        if (at == *count)
            layers[(*count)++] = layer_of(&graph, i);
        layers[at].count++;
    }
    nn_graph_release(&graph);
    return layers;
}

bool bench_layer_has(const struct bench_layer *layer, enum nn_direction direction)
{
    return !layer->first || direction != NN_BACKWARD_DATA;
}

const char *bench_direction_name(enum nn_direction direction)
{
    return direction == NN_FORWARD         ? "forward"
           : direction == NN_BACKWARD_DATA ? "backward-data"
                                           : "backward-weights";
}

double bench_layer_flops(const struct bench_layer *layer, int n)
{
    const struct nn_conv *const conv = &layer->conv;

    return 2.0 * n * conv->oh * conv->ow * conv->k * conv->r * conv->r * conv->c;
}

/* --- their operands --- */

static void widen(size_t *most, size_t floats)
{
    if (floats > *most)
        *most = floats;
}

struct sizes {
    size_t x, y, w, channels, blocks, sums, shared, private;
};

static void measure_layer(struct sizes *sizes, const struct bench_layer *layer, int n)
{
    const struct nn_conv *const conv = &layer->conv;
    const size_t c = (size_t)(conv->c > conv->k ? conv->c : conv->k);

    widen(&sizes->x, (size_t)n * conv->h * conv->w * conv->c);
    widen(&sizes->y, (size_t)n * conv->oh * conv->ow * conv->k);
    widen(&sizes->w, (size_t)conv->k * conv->r * conv->r * conv->c);
    widen(&sizes->channels, c);
    for (int d = 0; d < BENCH_DIRECTIONS; d++) {
        const enum nn_direction direction = (enum nn_direction)d;
        struct nn_conv_size size;

        if (!bench_layer_has(layer, direction))
            continue;
        size = nn_conv_size(conv, direction, n);
        widen(&sizes->shared, size.shared);
        widen(&sizes->private, size.private);
        widen(&sizes->blocks, size.blocks);
        widen(&sizes->sums, size.blocks * NN_BLOCK_SUMS * c);
    }
}

static float *filled(size_t count, uint64_t stream, struct err *err)
{
    float *const x = nn_floats_new(count, err);

    if (x != NULL)
        bench_fill(x, count, stream);
    return x;
}

int bench_operands_init(struct bench_operands *operands, const struct bench_layer *layers,
                        size_t count, struct err *err)
{
    struct bench_operands *const o = operands;
    struct sizes sizes = {0};

    for (size_t i = 0; i < count; i++)
        measure_layer(&sizes, &layers[i], o->n);
    o->x = filled(sizes.x, 1, err);
    o->dy = filled(sizes.y, 2, err);
    o->w = filled(sizes.w, 3, err);
    o->channels = filled(sizes.channels, 4, err);
    o->y = filled(sizes.y, 5, err);
    o->other = filled(sizes.x, 6, err);
    o->dx = nn_floats_new(sizes.x, err);
    o->dw = nn_floats_new(sizes.w, err);
    o->sums = nn_floats_new(sizes.sums, err);
    o->block_rows = calloc(sizes.blocks + 1, sizeof o->block_rows[0]);
    if (o->x == NULL || o->dy == NULL || o->w == NULL || o->channels == NULL || o->y == NULL ||
        o->other == NULL || o->dx == NULL || o->dw == NULL || o->sums == NULL ||
        o->block_rows == NULL)
        return err_set(err, ERR_MEMORY,
                       "no memory for layers of %d pictures (--batch, --image-size)", o->n);
    return nn_scratch_init(&o->scratch, sizes.shared, sizes.private, err);
}

void bench_operands_release(struct bench_operands *operands)
{
    struct bench_operands *const o = operands;

    free(o->x);
    free(o->other);
    free(o->y);
    free(o->dx);
    free(o->dy);
    free(o->w);
    free(o->dw);
    free(o->channels);
    free(o->sums);
    free(o->block_rows);
    nn_scratch_release(&o->scratch);
    *operands = (struct bench_operands){0};
}

/* --- one convolution --- */

static struct nn_affine affine_of(const struct bench_operands *o)
{
    return (struct nn_affine){.mean = o->channels, .scale = o->channels, .bias = o->channels};
}

/* What forward and backward to the weights read. */
static struct nn_source x_of(const struct bench_layer *layer, const struct bench_operands *o)
{
    const enum nn_source_kind kind = o->plain       ? NN_SOURCE_PLAIN
                                     : layer->joins ? NN_SOURCE_JOINED
                                     : layer->raw   ? NN_SOURCE_SCALED
                                                    : NN_SOURCE_PLAIN;

    return (struct nn_source){.kind = kind,
                              .c = (size_t)layer->conv.c,
                              .x = o->x,
                              .other = kind == NN_SOURCE_JOINED ? o->other : NULL,
                              .affine = affine_of(o)};
}

static void run_forward(const struct bench_layer *layer, const struct bench_operands *o)
{
    const struct nn_conv_forward args = {.conv = &layer->conv,
                                         .n = o->n,
                                         .x = x_of(layer, o),
                                         .w = o->w,
                                         .y = {.kind = o->plain ? NN_SINK_PLAIN : NN_SINK_MEASURE,
                                               .c = (size_t)layer->conv.k,
                                               .y = o->y,
                                               .sums = o->sums,
                                               .block_rows = o->block_rows}};

    nn_conv_forward(&args, &o->scratch);
}

/* The first of the two in backward: it makes its gradient out of that of the batch norm behind,
 * and leaves it in the place of y for the other. */
static void run_backward_weights(const struct bench_layer *layer, const struct bench_operands *o)
{
    const struct nn_conv_backward_weights args = {
        .conv = &layer->conv,
        .n = o->n,
        .x = x_of(layer, o),
        .dy = {.kind = o->plain ? NN_SOURCE_PLAIN : NN_SOURCE_GRADIENT,
               .c = (size_t)layer->conv.k,
               .x = o->y,
               .other = o->dy,
               .mean = o->channels,
               .share = o->channels,
               .pull = o->channels,
               .slope = o->channels,
               .store = o->plain || layer->first ? NULL : o->y},
        .dw = o->dw};

    nn_conv_backward_weights(&args, &o->scratch);
}

static void run_backward_data(const struct bench_layer *layer, const struct bench_operands *o)
{
    const bool masks = layer->masks && !o->plain;
    const struct nn_source out = x_of(layer, o);
    const struct nn_conv_backward_data args = {
        .conv = &layer->conv,
        .n = o->n,
        .dy = {.kind = NN_SOURCE_PLAIN, .c = (size_t)layer->conv.k, .x = o->y},
        .w = o->w,
        .dx = {.kind = masks ? NN_SINK_MASK : NN_SINK_PLAIN,
               .c = (size_t)layer->conv.c,
               .y = o->dx,
               .add = layer->adds && !o->plain,
               .sums = o->sums,
               .block_rows = o->block_rows,
               .out = out.kind == NN_SOURCE_PLAIN ? o->x : NULL,
               .other = out.other,
               .affine = affine_of(o),
               .norms = 1,
               .norm_x = {o->x},
               .norm_mean = {o->channels}}};

    nn_conv_backward_data(&args, &o->scratch);
}

void bench_layer_run(const struct bench_layer *layer, enum nn_direction direction,
                     const struct bench_operands *operands)
{
    if (direction == NN_FORWARD)
        run_forward(layer, operands);
    else if (direction == NN_BACKWARD_DATA)
        run_backward_data(layer, operands);
    else
        run_backward_weights(layer, operands);
}
