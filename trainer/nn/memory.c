#include "trainer/nn/memory.h"

#include <stdlib.h>

#include "base/err.h"
#include "trainer/nn/kernel/size.h"
#include "trainer/nn/plan.h"

#define ALIGN_FLOATS  16 /* a cache line */
#define FROZEN_IMAGES 16 /* ResNet-50 on two cores: 2 % faster than 32, as fast as 8 */

/*
 * Node i is at step i in forward and at step 2N - i in backward; the loss is step N. `buffers`
 * holds one buffer per value for its data, one per value for its gradient and one per node for a
 * max pool's choices.
 */
struct timeline {
    const struct nn_graph *graph;
    size_t n;
    bool training;
    int *data_of, *gradient_of; /* per value: the value whose buffer it uses */
    struct nn_plan_buffer *data, *gradient, *taken;
};

int nn_memory_frozen_images(const struct nn_graph *graph, int n)
{
    return graph->first_measured > 0 && n > FROZEN_IMAGES ? FROZEN_IMAGES : n;
}

/* What node i computes is of so many images at once; -1: the input. */
static int images_of(const struct nn_graph *graph, int i, int n)
{
    return i >= 0 && i < graph->first_trained ? nn_memory_frozen_images(graph, n) : n;
}

static void *small(size_t count, size_t bytes)
{
    void *memory = calloc(count + 1, bytes);

    if (memory == NULL)
        abort();
    return memory;
}

static void needed_at(struct nn_plan_buffer *buffer, int step)
{
    buffer->first = step < buffer->first ? step : buffer->first;
    buffer->last = step > buffer->last ? step : buffer->last;
}

static void need_data(struct timeline *line, int value, int step)
{
    needed_at(&line->data[line->data_of[value]], step);
}

static void need_gradient(struct timeline *line, int value, int step)
{
    needed_at(&line->gradient[line->gradient_of[value]], step);
}

/* A value is read: an unwritten join's operands are. */
static void need_read(struct timeline *line, int value, int step)
{
    const struct nn_value *v = &line->graph->values[value];

    if (line->training && v->unwritten) {
        const struct nn_node *join = &line->graph->nodes[v->writer];

        need_data(line, join->in, step);
        need_data(line, join->residual, step);
        return;
    }
    need_data(line, value, step);
}

/* A join's gradient is that of the shortcut, and what its batch norms' backward reads. In
 * evaluation the last convolution before a join writes the join's value; with memory made for
 * training, an unwritten join's value goes where that convolution's would. */
static void share_buffers(struct timeline *line)
{
    const struct nn_graph *graph = line->graph;

    for (int v = 0; v < graph->value_count; v++)
        line->data_of[v] = line->gradient_of[v] = v;
    for (int v = graph->value_count - 1; v > 0; v--) {
        const int join = graph->values[v].joined_by;

        if (join == NN_NONE)
            continue;
        line->gradient_of[v] = line->gradient_of[graph->nodes[join].out];
        if (nn_graph_finisher(graph, join) != graph->values[v].writer)
            continue;
        if (!line->training || join < graph->first_measured)
            line->data_of[v] = graph->nodes[join].out;
        else if (graph->values[graph->nodes[join].out].unwritten)
            line->data_of[graph->nodes[join].out] = v;
    }
}

static void need_forward(struct timeline *line, int i)
{
    const struct nn_node *node = &line->graph->nodes[i];

    need_read(line, node->in, i);
    need_data(line, node->out, i);
    if (node->residual != NN_NONE)
        need_read(line, node->residual, i);
    if (node->kind == NN_NODE_JOIN) /* an evaluation with this memory writes it here */
        need_data(line, node->out, nn_graph_finisher(line->graph, i));
}

/* What the sink reads that finishes a value's gradient. */
static void need_mask(struct timeline *line, int value, int step)
{
    const struct nn_graph *graph = line->graph;
    const int writer = graph->values[value].writer;

    need_read(line, value, step);
    if (writer != NN_NONE && graph->nodes[writer].kind == NN_NODE_JOIN) {
        need_data(line, graph->nodes[writer].in, step);
        if (graph->nodes[writer].residual != NN_NONE)
            need_data(line, graph->nodes[writer].residual, step);
    }
}

static void need_backward(struct timeline *line, int i)
{
    const struct nn_node *node = &line->graph->nodes[i];
    const int step = 2 * line->graph->node_count - i;

    const bool goes_on = nn_graph_wants_gradient(line->graph, node->in);

    need_gradient(line, node->out, step);
    if (goes_on)
        need_gradient(line, node->in, step);
    if (node->kind == NN_NODE_CONV || (node->kind == NN_NODE_LINEAR && node->linear.relu))
        need_data(line, node->out, step);
    if (node->kind == NN_NODE_CONV || node->kind == NN_NODE_LINEAR)
        need_read(line, node->in, step);
    if (goes_on && node->kind != NN_NODE_JOIN && line->graph->values[node->in].reader_first == i)
        need_mask(line, node->in, step);
    if (node->kind == NN_NODE_MAXPOOL) {
        needed_at(&line->taken[i], i);
        needed_at(&line->taken[i], step);
    }
}

static void lay_out(struct timeline *line)
{
    const struct nn_graph *graph = line->graph;
    const int loss = graph->node_count, logits = graph->value_count - 1;
    const struct nn_plan_buffer never = {.first = 2 * loss + 1, .last = -1};

    for (int v = 0; v < graph->value_count; v++) {
        line->data[v] = line->gradient[v] = never;
        line->data[v].floats = line->gradient[v].floats =
            nn_value_floats(&graph->values[v]) *
            (size_t)images_of(graph, graph->values[v].writer, (int)line->n);
    }
    share_buffers(line);
    for (int i = 0; i < graph->node_count; i++) {
        line->taken[i] = never;
        line->taken[i].floats = line->data[graph->nodes[i].out].floats / sizeof(float) + 1;
        need_forward(line, i);
    }
    need_data(line, logits, loss);
    if (line->training)
        need_gradient(line, logits, loss);
    for (int i = graph->first_trained; i < graph->node_count && line->training; i++)
        need_backward(line, i);
    if (graph->first_measured > 0) /* what is trained reads memory->features instead */
        line->data[line->data_of[nn_graph_boundary(graph)]].last = graph->first_trained - 1;
    /* The input's data are the caller's, and nobody wants its gradient. */
    line->data[0].last = line->gradient[0].last = -1;
}

static struct timeline timeline_new(const struct nn_graph *graph, int micro_batch, bool training)
{
    const size_t values = (size_t)graph->value_count, nodes = (size_t)graph->node_count;
    struct nn_plan_buffer *buffers = small(2 * values + nodes, sizeof(*buffers));
    struct timeline line = {
        .graph = graph,
        .n = (size_t)micro_batch,
        .training = training,
        .data_of = small(values, sizeof(int)),
        .gradient_of = small(values, sizeof(int)),
        .data = buffers,
        .gradient = buffers + values,
        .taken = buffers + 2 * values,
    };

    lay_out(&line);
    return line;
}

static void timeline_free(struct timeline *line)
{
    free(line->data);
    free(line->data_of);
    free(line->gradient_of);
}

static size_t place(struct timeline *line)
{
    return nn_plan_place(line->data, 2 * line->graph->value_count + line->graph->node_count);
}

/* --- sizes --- */

static void grow(size_t *size, size_t needed)
{
    *size = needed > *size ? needed : *size;
}

static void grow_by_sink(struct nn_memory_size *size, size_t blocks, int c)
{
    grow(&size->sums, blocks * NN_BLOCK_SUMS * (size_t)c);
    grow(&size->block_rows, blocks);
}

/* What a node's layer does. */
enum {
    MEASURES = 1, /* the batch, in forward */
    TRAINS = 2,   /* backward to the weights */
    GOES_ON = 4,  /* backward to the data */
    KEEPS = 8,    /* its packed filters, from every pass to the next */
};

static unsigned deeds_of(const struct nn_graph *graph, int i, bool training)
{
    unsigned deeds = 0;

    if (!training)
        return 0;
    if (i >= graph->first_measured)
        deeds |= MEASURES;
    else
        deeds |= KEEPS;
    if (i >= graph->first_trained)
        deeds |= TRAINS;
    if (i >= graph->first_trained && nn_graph_wants_gradient(graph, graph->nodes[i].in))
        deeds |= GOES_ON;
    return deeds;
}

static void grow_by_conv(struct nn_memory_size *size, const struct nn_conv *conv, int n,
                         unsigned deeds)
{
    static const unsigned wants[] = {
        [NN_FORWARD] = 0, [NN_BACKWARD_DATA] = GOES_ON, [NN_BACKWARD_WEIGHTS] = TRAINS};

    for (int d = NN_FORWARD; d <= NN_BACKWARD_WEIGHTS; d++) {
        const enum nn_direction direction = (enum nn_direction)d;
        struct nn_conv_size most;

        if ((deeds & wants[d]) != wants[d])
            continue;
        most = nn_conv_size_most(conv, direction, n);
        grow(&size->shared, most.shared - (deeds & KEEPS ? most.filters : 0));
        grow(&size->private, most.private);
        if (deeds & MEASURES)
            grow_by_sink(size, most.blocks, direction == NN_FORWARD ? conv->k : conv->c);
    }
}

/* Does a convolution before node i take all that this one takes? A network has few shapes. */
static bool is_repeated(const struct nn_graph *graph, int i, int n, bool training)
{
    const struct nn_node *const node = &graph->nodes[i];
    const unsigned deeds = deeds_of(graph, i, training);

    for (int j = 0; j < i; j++) {
        const struct nn_node *const other = &graph->nodes[j];

        if (other->kind == NN_NODE_CONV && (deeds & ~deeds_of(graph, j, training)) == 0 &&
            images_of(graph, j, n) >= images_of(graph, i, n) &&
            nn_conv_is_same(&other->conv, &node->conv))
            return true;
    }
    return false;
}

/* Frozen filters are packed once. Where their batch norms look at the batch, an evaluation packs
 * its own, into which batch norm is folded. */
static size_t packed_floats(const struct nn_graph *graph, int i, bool training)
{
    const struct nn_node *const node = &graph->nodes[i];

    if (!training || i >= graph->first_trained || node->kind != NN_NODE_CONV)
        return 0;
    return nn_size_round_up(nn_conv_size(&node->conv, NN_FORWARD, 1).filters, ALIGN_FLOATS);
}

static void grow_by_node(struct nn_memory_size *size, const struct nn_graph *graph, int i,
                         int micro_batch, bool training)
{
    const struct nn_node *const node = &graph->nodes[i];
    const int n = images_of(graph, i, micro_batch);
    const unsigned deeds = deeds_of(graph, i, training);
    const size_t blocks = deeds & GOES_ON ? (size_t)n : 0;

    switch (node->kind) {
    case NN_NODE_CONV:
        size->packed += packed_floats(graph, i, training);
        size->norms += NN_BATCHNORM_ARRAYS * (size_t)node->conv.k;
        if (!is_repeated(graph, i, micro_batch, training))
            grow_by_conv(size, &node->conv, n, deeds);
        break;
    case NN_NODE_MAXPOOL:
        grow(&size->private, nn_maxpool_private_floats(&node->pool));
        grow_by_sink(size, blocks, node->pool.c);
        break;
    case NN_NODE_AVGPOOL:
        grow_by_sink(size, blocks, node->pool.c);
        break;
    case NN_NODE_LINEAR:
        grow_by_conv(size, &node->linear.conv, n, deeds & ~(unsigned)MEASURES);
        break;
    case NN_NODE_JOIN:
    case NN_NODE_SHORTCUT:
        break;
    }
}

static struct nn_memory_size size_without_values(const struct nn_graph *graph, int micro_batch,
                                                 bool training)
{
    struct nn_memory_size size = {0};

    for (int i = 0; i < graph->node_count; i++)
        grow_by_node(&size, graph, i, micro_batch, training);
    if (graph->first_measured > 0)
        size.features =
            (size_t)micro_batch * nn_value_floats(&graph->values[nn_graph_boundary(graph)]);
    return size;
}

struct nn_memory_size nn_memory_size(const struct nn_graph *graph, int micro_batch, bool training)
{
    struct nn_memory_size size = size_without_values(graph, micro_batch, training);
    struct timeline line = timeline_new(graph, micro_batch, training);

    size.values = place(&line);
    timeline_free(&line);
    return size;
}

/* --- taking it --- */

static void point_into(struct nn_memory *memory, const struct timeline *line)
{
    const struct nn_graph *graph = line->graph;
    const size_t values = (size_t)graph->value_count, nodes = (size_t)graph->node_count;
    float *norm = memory->norm_floats, *packed = memory->packed_floats;

    memory->data = small(values, sizeof(float *));
    memory->gradient = small(values, sizeof(float *));
    memory->taken = small(nodes, sizeof(uint8_t *));
    memory->norms = small(nodes, sizeof(*memory->norms));
    memory->packed = small(nodes, sizeof(*memory->packed));
    for (size_t v = 1; v < values; v++) {
        memory->data[v] = memory->floats + line->data[line->data_of[v]].offset;
        if (line->training)
            memory->gradient[v] = memory->floats + line->gradient[line->gradient_of[v]].offset;
    }
    for (size_t i = 0; i < nodes; i++) {
        const struct nn_node *node = &graph->nodes[i];

        if (node->kind == NN_NODE_MAXPOOL && line->training)
            memory->taken[i] = (uint8_t *)(memory->floats + line->taken[i].offset);
        if (node->kind == NN_NODE_CONV) {
            memory->norms[i] = nn_batchnorm_at(norm, (size_t)node->conv.k);
            norm += NN_BATCHNORM_ARRAYS * (size_t)node->conv.k;
        }
        if (packed_floats(graph, (int)i, line->training) > 0) {
            memory->packed[i].floats = packed;
            packed += packed_floats(graph, (int)i, line->training);
        }
    }
}

int nn_memory_init(struct nn_memory *memory, const struct nn_graph *graph, int micro_batch,
                   bool training, struct err *err)
{
    const struct nn_memory_size size = size_without_values(graph, micro_batch, training);
    struct timeline line = timeline_new(graph, micro_batch, training);
    int rc = -1;

    *memory = (struct nn_memory){0};
    if ((memory->floats = nn_floats_new(place(&line), err)) == NULL ||
        (memory->norm_floats = nn_floats_new(size.norms, err)) == NULL ||
        (memory->sums = nn_floats_new(size.sums, err)) == NULL ||
        (memory->features = nn_floats_new(size.features, err)) == NULL ||
        (memory->packed_floats = nn_floats_new(size.packed, err)) == NULL ||
        nn_scratch_init(&memory->scratch, size.shared, size.private, err) < 0)
        goto out;
    memory->block_rows = small(size.block_rows, sizeof(*memory->block_rows));
    point_into(memory, &line);
    rc = 0;
out:
    timeline_free(&line);
    return rc;
}

void nn_memory_release(struct nn_memory *memory)
{
    nn_scratch_release(&memory->scratch);
    free(memory->features);
    free(memory->packed_floats);
    free(memory->packed);
    free(memory->block_rows);
    free(memory->sums);
    free(memory->norms);
    free(memory->norm_floats);
    free(memory->taken);
    free(memory->gradient);
    free(memory->data);
    free(memory->floats);
    *memory = (struct nn_memory){0};
}
