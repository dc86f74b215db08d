#include "trainer/nn/pass.h"

#include <assert.h>

#include "base/trace.h"

/* Rows of a join that a thread works on at a time. */
#define JOIN_ROWS 64

static bool is_cancelled(const struct nn_pass *pass)
{
    return pass->cancel != NULL && *pass->cancel != 0;
}

static bool is_training(const struct nn_pass *pass)
{
    return pass->statistics != NULL;
}

/* Does node i work as in training: does its batch norm measure the batch? */
static bool measures(const struct nn_pass *pass, int i)
{
    return is_training(pass) && i >= pass->graph->first_measured;
}

static float *data_of(const struct nn_pass *pass, int value)
{
    if (pass->features != NULL && value == nn_graph_boundary(pass->graph))
        return (float *)(uintptr_t)pass->features;
    return value == 0 ? (float *)(uintptr_t)pass->x : pass->memory->data[value];
}

static size_t rows_of(const struct nn_pass *pass, int value)
{
    const struct nn_value *v = &pass->graph->values[value];

    return (size_t)pass->n * v->h * v->w;
}

/* The i-th tensor of a node, in a vector laid out like the one it lives in. */
static size_t tensor_at(const struct nn_pass *pass, const struct nn_node *node, int i)
{
    return pass->graph->tensors[node->tensor + i].offset;
}

static const float *weights_of(const struct nn_pass *pass, const struct nn_node *node, int i)
{
    return pass->weights + tensor_at(pass, node, i);
}

static const struct nn_node *writer_of(const struct nn_pass *pass, int value)
{
    return &pass->graph->nodes[pass->graph->values[value].writer];
}

/* The batch norm of a raw value. */
static const struct nn_batchnorm *norm_of(const struct nn_pass *pass, int value)
{
    return &pass->memory->norms[pass->graph->values[value].writer];
}

static struct nn_affine affine_of(const struct nn_pass *pass, int value)
{
    return nn_batchnorm_affine(norm_of(pass, value),
                               weights_of(pass, writer_of(pass, value), NN_NORM_BIAS));
}

/* A join's value from its operands: ReLU(bn(main) [+ residual]), residual through its own batch
 * norm where it is raw. A residual that is unwritten itself is read through `other`. */
static struct nn_source read_join(const struct nn_pass *pass, const struct nn_node *join,
                                  const struct nn_source *other)
{
    struct nn_source source = {.kind = NN_SOURCE_SCALED,
                               .c = (size_t)pass->graph->values[join->out].c,
                               .x = data_of(pass, join->in),
                               .affine = affine_of(pass, join->in)};

    if (join->residual == NN_NONE)
        return source;
    source.kind = NN_SOURCE_JOINED;
    if (pass->graph->values[join->residual].unwritten)
        source.other_source = other;
    else
        source.other = data_of(pass, join->residual);
    if (nn_value_is_raw(pass->graph, join->residual))
        source.other_affine = affine_of(pass, join->residual);
    return source;
}

/* A value as its readers see it. Where no batch is measured, as in evaluation, batch norm, addition
 * and ReLU have been done. */
static struct nn_source read_value(const struct nn_pass *pass, int value)
{
    struct nn_source source = {.kind = NN_SOURCE_PLAIN,
                               .c = (size_t)pass->graph->values[value].c,
                               .x = data_of(pass, value)};

    if (nn_value_is_raw(pass->graph, value) && measures(pass, pass->graph->values[value].writer)) {
        source.kind = NN_SOURCE_SCALED;
        source.affine = affine_of(pass, value);
    }
    if (is_training(pass) && pass->graph->values[value].unwritten)
        return read_join(pass, writer_of(pass, value), NULL); /* its residual is written */
    return source;
}

/* --- forward --- */

static struct nn_batchnorm_sums sums_of(const struct nn_pass *pass, size_t blocks, size_t c)
{
    return (struct nn_batchnorm_sums){.blocks = blocks,
                                      .c = c,
                                      .sums = pass->memory->sums,
                                      .block_rows = pass->memory->block_rows};
}

/* NULL: the filters may have changed since the last pass, or they are packed for training and this
 * is an evaluation. */
static struct nn_conv_packed *packed_of(const struct nn_pass *pass, int i)
{
    struct nn_conv_packed *const packed = &pass->memory->packed[i];

    if (packed->floats == NULL || (i >= pass->graph->first_measured && !is_training(pass)))
        return NULL;
    return packed;
}

static void train_conv(const struct nn_pass *pass, int i)
{
    const struct nn_node *node = &pass->graph->nodes[i];
    const size_t k = (size_t)node->conv.k;
    const struct nn_batchnorm_sums sums =
        sums_of(pass, nn_conv_size(&node->conv, NN_FORWARD, pass->n).blocks, k);
    const struct nn_conv_forward args = {
        .conv = &node->conv,
        .n = pass->n,
        .x = read_value(pass, node->in),
        .w = weights_of(pass, node, NN_CONV_FILTERS),
        .packed = packed_of(pass, i),
        .y = {.kind = NN_SINK_MEASURE,
              .c = k,
              .y = data_of(pass, node->out),
              .sums = pass->memory->sums,
              .block_rows = pass->memory->block_rows},
    };

    nn_conv_forward(&args, &pass->memory->scratch);
    nn_batchnorm_measure(&pass->memory->norms[i], &sums, weights_of(pass, node, NN_NORM_WEIGHT),
                         pass->statistics +
                             (tensor_at(pass, node, NN_NORM_MEAN) - pass->graph->unmeasured_count));
}

/* Where a convolution's result goes in evaluation, and what is done to it: the last one before a
 * join finishes the block, the other one only applies its batch norm. */
static struct nn_sink evaluation_sink(const struct nn_pass *pass, int i)
{
    const struct nn_node *node = &pass->graph->nodes[i];
    const int join = pass->graph->values[node->out].joined_by;
    struct nn_sink sink = {.kind = NN_SINK_FINISH,
                           .c = (size_t)node->conv.k,
                           .y = data_of(pass, node->out),
                           .bias = pass->memory->norms[i].offset,
                           .relu = join == NN_NONE};

    if (join != NN_NONE && nn_graph_finisher(pass->graph, join) == i) {
        const struct nn_node *end = &pass->graph->nodes[join];
        const int other = end->in == node->out ? end->residual : end->in;

        sink.y = data_of(pass, end->out);
        sink.residual = other == NN_NONE ? NULL : data_of(pass, other);
        sink.relu = true;
    }
    return sink;
}

static void evaluate_conv(const struct nn_pass *pass, int i)
{
    const struct nn_node *node = &pass->graph->nodes[i];
    const struct nn_batchnorm *norm = &pass->memory->norms[i];
    const struct nn_conv_forward args = {
        .conv = &node->conv,
        .n = pass->n,
        .x = read_value(pass, node->in),
        .w = weights_of(pass, node, NN_CONV_FILTERS),
        .scale = norm->scale,
        .packed = packed_of(pass, i),
        .y = evaluation_sink(pass, i),
    };

    nn_batchnorm_recall(
        norm, (size_t)node->conv.k, pass->running + tensor_at(pass, node, NN_NORM_MEAN),
        weights_of(pass, node, NN_NORM_WEIGHT), weights_of(pass, node, NN_NORM_BIAS));
    nn_conv_forward(&args, &pass->memory->scratch);
}

/* Where no batch is measured the convolution before a join has written its value; some joins are
 * not written at all. */
static bool writes_join(const struct nn_pass *pass, int i)
{
    return measures(pass, i) && !pass->graph->values[pass->graph->nodes[i].out].unwritten;
}

static void join(const struct nn_pass *pass, const struct nn_node *node)
{
    const size_t rows = rows_of(pass, node->out), c = (size_t)pass->graph->values[node->out].c;
    float *const y = data_of(pass, node->out);
    struct nn_source other = {0}, source;

    if (node->residual != NN_NONE)
        other = read_value(pass, node->residual);
    source = read_join(pass, node, &other);
#pragma omp parallel for
    for (size_t row = 0; row < rows; row += JOIN_ROWS)
        nn_source_read(&source, row, rows - row < JOIN_ROWS ? rows - row : JOIN_ROWS, 0, c,
                       y + row * c, c);
}

static void forward_node(const struct nn_pass *pass, int i)
{
    const struct nn_node *node = &pass->graph->nodes[i];
    const struct nn_source x = read_value(pass, node->in);
    float *const y = data_of(pass, node->out);

    switch (node->kind) {
    case NN_NODE_CONV:
        if (measures(pass, i))
            train_conv(pass, i);
        else
            evaluate_conv(pass, i);
        break;
    case NN_NODE_JOIN:
        if (writes_join(pass, i))
            join(pass, node);
        break;
    case NN_NODE_MAXPOOL:
        nn_maxpool_forward(
            &node->pool, pass->n, &x, y,
            !is_training(pass) || i < pass->graph->first_trained ? NULL : pass->memory->taken[i],
            &pass->memory->scratch);
        break;
    case NN_NODE_AVGPOOL:
        nn_avgpool_forward(&node->pool, pass->n, x.x, y);
        break;
    case NN_NODE_SHORTCUT:
        nn_shortcut_forward(&node->shortcut, pass->n, x.x, y);
        break;
    case NN_NODE_LINEAR:
        nn_linear_forward(&node->linear, pass->n, x.x, weights_of(pass, node, 0),
                          weights_of(pass, node, 1), y, &pass->memory->scratch);
        break;
    }
}

/* Where node i's weights begin in the weight vector; the vector's length where it has none. */
static size_t begun_by(const struct nn_graph *graph, int i)
{
    const int end = i + 1 < graph->node_count ? graph->nodes[i + 1].tensor : graph->tensor_count;
    size_t begin = graph->weight_count;

    for (int t = graph->nodes[i].tensor; t < end; t++)
        if (graph->tensors[t].kind != NN_TENSOR_RUNNING && graph->tensors[t].offset < begin)
            begin = graph->tensors[t].offset;
    return begin;
}

/* Trained weights may still be on their way to their new values. */
static bool lacks_weights(const struct nn_pass *pass, int i)
{
    const size_t begin = begun_by(pass->graph, i);

    return pass->need != NULL && i >= pass->graph->first_trained &&
           begin < pass->graph->weight_count && pass->need(pass->context, begin) != 0;
}

int nn_pass_forward(const struct nn_pass *pass)
{
    const struct nn_graph *graph = pass->graph;
    const int begin = pass->features != NULL ? graph->first_trained : 0;
    const int end = pass->frozen_only ? graph->first_trained : graph->node_count;

    assert(graph->first_measured == 0 || pass->features != NULL ||
           pass->n <= nn_memory_frozen_images(graph, pass->n));
    for (int i = begin; i < end; i++) {
        double begun;

        if (is_cancelled(pass) || lacks_weights(pass, i))
            return 1;
        begun = trace_begin();
        forward_node(pass, i);
        if (graph->nodes[i].kind != NN_NODE_JOIN || writes_join(pass, i))
            trace_end("forward", graph->nodes[i].name, begun);
    }
    return 0;
}

/* --- backward --- */

/* The raw values whose batch norms end in the ReLU that a value's readers see. */
struct ends {
    int count, value[2];
};

static struct ends ends_of(const struct nn_pass *pass, int value)
{
    struct ends ends = {0};

    if (nn_value_is_raw(pass->graph, value)) {
        ends.value[ends.count++] = value;
    } else if (value != 0 && writer_of(pass, value)->kind == NN_NODE_JOIN) {
        const struct nn_node *join_node = writer_of(pass, value);

        ends.value[ends.count++] = join_node->in;
        if (join_node->residual != NN_NONE && nn_value_is_raw(pass->graph, join_node->residual))
            ends.value[ends.count++] = join_node->residual;
    }
    return ends;
}

/* How node i leaves the gradient of the value it reads: of several readers backward meets the last
 * first, which overwrites; the others add; and the first has all of it at hand. */
static struct nn_sink gradient_sink(const struct nn_pass *pass, int i)
{
    const int in = pass->graph->nodes[i].in;
    const struct nn_value *value = &pass->graph->values[in];
    const struct ends ends = ends_of(pass, in);
    const struct nn_source source = read_value(pass, in);
    struct nn_sink sink = {.kind = NN_SINK_PLAIN,
                           .c = (size_t)value->c,
                           .y = pass->memory->gradient[in],
                           .add = value->reader_last != i};

    if (value->reader_first != i || ends.count == 0)
        return sink;
    sink.kind = NN_SINK_MASK;
    sink.sums = pass->memory->sums;
    sink.block_rows = pass->memory->block_rows;
    sink.out = source.kind == NN_SOURCE_PLAIN ? source.x : NULL;
    sink.affine = source.affine;
    sink.other = source.other;
    sink.other_affine = source.other_affine;
    sink.norms = ends.count;
    for (int e = 0; e < ends.count; e++) {
        sink.norm_x[e] = data_of(pass, ends.value[e]);
        sink.norm_mean[e] = norm_of(pass, ends.value[e])->mean;
    }
    return sink;
}

/* After node i: if the gradient of what it reads is whole, so are those of the batch norms there.
 */
static void settle(const struct nn_pass *pass, int i, size_t blocks)
{
    const int in = pass->graph->nodes[i].in;
    const struct nn_value *value = &pass->graph->values[in];
    const struct ends ends = ends_of(pass, in);
    const struct nn_batchnorm_sums sums = sums_of(pass, blocks, (size_t)value->c);

    if (value->reader_first != i)
        return;
    for (int e = 0; e < ends.count; e++) {
        const struct nn_node *conv = writer_of(pass, ends.value[e]);

        nn_batchnorm_settle(norm_of(pass, ends.value[e]), &sums, e,
                            pass->gradient + tensor_at(pass, conv, NN_NORM_WEIGHT),
                            pass->gradient + tensor_at(pass, conv, NN_NORM_BIAS));
    }
}

/* The gradient of a convolution's raw result takes the result's place as it is read for the first
 * time. */
static void backward_conv(const struct nn_pass *pass, int i)
{
    const struct nn_node *node = &pass->graph->nodes[i];
    const struct nn_batchnorm *norm = &pass->memory->norms[i];
    float *const y = data_of(pass, node->out);
    const size_t k = (size_t)node->conv.k;
    const bool goes_on = nn_graph_wants_gradient(pass->graph, node->in);
    const struct nn_conv_backward_weights weights = {
        .conv = &node->conv,
        .n = pass->n,
        .x = read_value(pass, node->in),
        .dy = {.kind = NN_SOURCE_GRADIENT,
               .c = k,
               .x = y,
               .other = pass->memory->gradient[node->out],
               .mean = norm->mean,
               .share = norm->share,
               .pull = norm->pull,
               .slope = norm->scale,
               .store = goes_on ? y : NULL},
        .dw = pass->gradient + tensor_at(pass, node, NN_CONV_FILTERS),
    };

    nn_conv_backward_weights(&weights, &pass->memory->scratch);
    if (goes_on) {
        const struct nn_conv_backward_data data = {
            .conv = &node->conv,
            .n = pass->n,
            .dy = {.kind = NN_SOURCE_PLAIN, .c = k, .x = y},
            .w = weights_of(pass, node, NN_CONV_FILTERS),
            .dx = gradient_sink(pass, i),
        };

        nn_conv_backward_data(&data, &pass->memory->scratch);
        settle(pass, i, nn_conv_size(&node->conv, NN_BACKWARD_DATA, pass->n).blocks);
    }
}

static void backward_linear(const struct nn_pass *pass, const struct nn_node *node)
{
    float *const dy = pass->memory->gradient[node->out];

    nn_linear_mask(&node->linear, pass->n, data_of(pass, node->out), dy);
    nn_linear_backward_weights(&node->linear, pass->n, data_of(pass, node->in), dy,
                               pass->gradient + tensor_at(pass, node, 0),
                               pass->gradient + tensor_at(pass, node, 1), &pass->memory->scratch);
    if (nn_graph_wants_gradient(pass->graph, node->in))
        nn_linear_backward_data(&node->linear, pass->n, dy, weights_of(pass, node, 0),
                                pass->memory->gradient[node->in], &pass->memory->scratch);
}

static void backward_node(const struct nn_pass *pass, int i)
{
    const struct nn_node *node = &pass->graph->nodes[i];
    const float *dy = pass->memory->gradient[node->out];
    struct nn_sink dx;

    if (node->kind == NN_NODE_CONV)
        backward_conv(pass, i);
    else if (node->kind == NN_NODE_LINEAR)
        backward_linear(pass, node);
    if (node->kind == NN_NODE_CONV || !nn_graph_wants_gradient(pass->graph, node->in))
        return;
    dx = gradient_sink(pass, i);
    switch (node->kind) {
    case NN_NODE_CONV:
    case NN_NODE_LINEAR:
    case NN_NODE_JOIN: /* its gradient is its operands' */
        break;
    case NN_NODE_MAXPOOL:
        nn_maxpool_backward(&node->pool, pass->n, pass->memory->taken[i], dy, &dx);
        settle(pass, i, (size_t)pass->n);
        break;
    case NN_NODE_AVGPOOL:
        nn_avgpool_backward(&node->pool, pass->n, dy, &dx);
        settle(pass, i, (size_t)pass->n);
        break;
    case NN_NODE_SHORTCUT:
        nn_shortcut_backward(&node->shortcut, pass->n, dy, dx.y);
        break;
    }
}

/* How much of the gradient is final when node i's backward is done: the place where its last
 * weights end. 0: it has none. */
static size_t finished_by(const struct nn_graph *graph, int i)
{
    const int end = i + 1 < graph->node_count ? graph->nodes[i + 1].tensor : graph->tensor_count;
    size_t floats = 0;

    for (int t = graph->nodes[i].tensor; t < end; t++)
        if (graph->tensors[t].kind != NN_TENSOR_RUNNING)
            floats = graph->tensors[t].offset + graph->tensors[t].count;
    return floats;
}

int nn_pass_backward(const struct nn_pass *pass, void (*ready)(void *context, size_t floats),
                     void *context)
{
    for (int i = pass->graph->node_count - 1; i >= pass->graph->first_trained; i--) {
        const size_t finished = finished_by(pass->graph, i);
        const double begun = trace_begin();

        if (is_cancelled(pass))
            return 1;
        backward_node(pass, i);
        if (pass->graph->nodes[i].kind != NN_NODE_JOIN)
            trace_end("backward", pass->graph->nodes[i].name, begun);
        if (ready != NULL && finished > 0)
            ready(context, finished);
    }
    return 0;
}
