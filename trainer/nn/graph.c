#include "trainer/nn/graph.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"

size_t nn_value_floats(const struct nn_value *value)
{
    return (size_t)value->h * value->w * value->c;
}

/* Make room for one more element; networks are small, so each time anew. */
static void *grown(void *array, int count, size_t bytes)
{
    void *larger = realloc(array, ((size_t)count + 1) * bytes);

    if (larger == NULL)
        abort();
    return larger;
}

static int add_value(struct nn_graph *graph, int c, int h, int w)
{
    graph->values = grown(graph->values, graph->value_count, sizeof(*graph->values));
    graph->values[graph->value_count] = (struct nn_value){.c = c,
                                                          .h = h,
                                                          .w = w,
                                                          .writer = NN_NONE,
                                                          .joined_by = NN_NONE,
                                                          .reader_first = NN_NONE,
                                                          .reader_last = NN_NONE};
    return graph->value_count++;
}

static void add_tensor(struct nn_graph *graph, const char *module, const char *what,
                       struct nn_tensor tensor)
{
    char *name;

    if (asprintf(&name, "%s.%s", module, what) < 0)
        abort();
    tensor.name = name;
    tensor.count = 1;
    for (int i = 0; i < tensor.dims; i++)
        tensor.count *= tensor.size[i];
    graph->tensors = grown(graph->tensors, graph->tensor_count, sizeof(*graph->tensors));
    graph->tensors[graph->tensor_count++] = tensor;
}

static void add_vector(struct nn_graph *graph, const char *module, const char *what,
                       enum nn_tensor_kind kind, int count)
{
    add_tensor(graph, module, what,
               (struct nn_tensor){.kind = kind, .dims = 1, .size = {(size_t)count}});
}

/* The node that is appended writes a new value of this shape. */
static struct nn_node *add_node(struct nn_graph *graph, enum nn_node_kind kind, int in,
                                struct nn_value shape)
{
    struct nn_node *node;

    graph->nodes = grown(graph->nodes, graph->node_count, sizeof(*graph->nodes));
    node = &graph->nodes[graph->node_count++];
    *node = (struct nn_node){
        .kind = kind,
        .in = in,
        .out = add_value(graph, shape.c, shape.h, shape.w),
        .residual = NN_NONE,
        .tensor = graph->tensor_count,
    };
    graph->values[node->out].writer = graph->node_count - 1;
    return node;
}

void nn_graph_init(struct nn_graph *graph, int c, int h, int w)
{
    *graph = (struct nn_graph){0};
    add_value(graph, c, h, w);
}

bool nn_value_is_raw(const struct nn_graph *graph, int value)
{
    const int writer = graph->values[value].writer;

    return writer != NN_NONE && graph->nodes[writer].kind == NN_NODE_CONV;
}

int nn_graph_finisher(const struct nn_graph *graph, int join)
{
    const struct nn_node *node = &graph->nodes[join];
    const int main_path = graph->values[node->in].writer;

    if (node->residual == NN_NONE || !nn_value_is_raw(graph, node->residual))
        return main_path;
    return graph->values[node->residual].writer > main_path ? graph->values[node->residual].writer
                                                            : main_path;
}

void nn_graph_release(struct nn_graph *graph)
{
    for (int i = 0; i < graph->tensor_count; i++)
        free((char *)(uintptr_t)graph->tensors[i].name);
    free(graph->tensors);
    free(graph->values);
    free(graph->nodes);
    *graph = (struct nn_graph){0};
}

int nn_graph_conv(struct nn_graph *graph, const char *conv, const char *norm, int in, int k, int r,
                  int stride)
{
    const struct nn_value x = graph->values[in];
    const struct nn_conv shape = nn_conv_make(x.c, x.h, x.w, k, r, stride);
    struct nn_node *node =
        add_node(graph, NN_NODE_CONV, in, (struct nn_value){.c = k, .h = shape.oh, .w = shape.ow});

    node->conv = shape;
    add_tensor(graph, conv, "weight",
               (struct nn_tensor){
                   .kind = NN_TENSOR_CONV,
                   .dims = 4,
                   .size = {(size_t)k, (size_t)x.c, (size_t)r, (size_t)r},
               });
    add_vector(graph, norm, "weight", NN_TENSOR_VECTOR, k);
    add_vector(graph, norm, "bias", NN_TENSOR_VECTOR, k);
    add_vector(graph, norm, "running_mean", NN_TENSOR_RUNNING, k);
    add_vector(graph, norm, "running_var", NN_TENSOR_RUNNING, k);
    return node->out;
}

int nn_graph_join(struct nn_graph *graph, int in, int residual)
{
    struct nn_node *node = add_node(graph, NN_NODE_JOIN, in, graph->values[in]);

    assert(residual == NN_NONE ||
           nn_value_floats(&graph->values[residual]) == nn_value_floats(&graph->values[in]));
    node->residual = residual;
    return node->out;
}

int nn_graph_maxpool(struct nn_graph *graph, int in)
{
    const struct nn_value x = graph->values[in];
    const struct nn_pool pool = nn_maxpool_make(x.c, x.h, x.w);
    struct nn_node *node = add_node(graph, NN_NODE_MAXPOOL, in,
                                    (struct nn_value){.c = x.c, .h = pool.oh, .w = pool.ow});

    node->pool = pool;
    return node->out;
}

int nn_graph_avgpool(struct nn_graph *graph, int in)
{
    const struct nn_value x = graph->values[in];
    struct nn_node *node =
        add_node(graph, NN_NODE_AVGPOOL, in, (struct nn_value){.c = x.c, .h = 1, .w = 1});

    node->pool = nn_avgpool_make(x.c, x.h, x.w);
    return node->out;
}

int nn_graph_shortcut(struct nn_graph *graph, int in, int k)
{
    const struct nn_value x = graph->values[in];
    const struct nn_shortcut shortcut = nn_shortcut_make(x.c, x.h, x.w, k);
    struct nn_node *node = add_node(graph, NN_NODE_SHORTCUT, in,
                                    (struct nn_value){.c = k, .h = shortcut.oh, .w = shortcut.ow});

    node->shortcut = shortcut;
    return node->out;
}

int nn_graph_linear(struct nn_graph *graph, const char *name, int in, int k, bool relu)
{
    const int c = (int)nn_value_floats(&graph->values[in]);
    struct nn_node *node =
        add_node(graph, NN_NODE_LINEAR, in, (struct nn_value){.c = k, .h = 1, .w = 1});

    node->linear = nn_linear_make(c, k);
    node->linear.relu = relu;
    add_tensor(
        graph, name, "weight",
        (struct nn_tensor){.kind = NN_TENSOR_LINEAR, .dims = 2, .size = {(size_t)k, (size_t)c}});
    add_vector(graph, name, "bias", NN_TENSOR_VECTOR, k);
    return node->out;
}

void nn_graph_freeze(struct nn_graph *graph, bool measured)
{
    graph->first_trained = graph->node_count;
    graph->first_measured = measured ? 0 : graph->node_count;
}

bool nn_graph_wants_gradient(const struct nn_graph *graph, int value)
{
    const int writer = graph->values[value].writer;

    return writer != NN_NONE && writer >= graph->first_trained;
}

int nn_graph_boundary(const struct nn_graph *graph)
{
    return graph->first_trained == 0 ? NN_NONE : graph->nodes[graph->first_trained].in;
}

/* What stands before the last dot of a tensor's or a node's name; heap. */
static char *parent_of(const char *name)
{
    const char *const dot = strrchr(name, '.');
    char *const parent = strndup(name, dot == NULL ? 0 : (size_t)(dot - name));

    if (parent == NULL)
        abort();
    return parent;
}

/* The name of what has no tensors: "join" in the block of a convolution. */
static const char *name_beside(const char *conv, const char *what)
{
    char *const block = parent_of(conv), *name;
    const char *kept;

    if (asprintf(&name, "%s%s%s", block, block[0] != '\0' ? "." : "", what) < 0)
        abort();
    kept = trace_intern(name);
    free(name);
    free(block);
    return kept;
}

static void name_node(struct nn_graph *graph, int i)
{
    static const char *const names[] = {[NN_NODE_JOIN] = "join",
                                        [NN_NODE_MAXPOOL] = "maxpool",
                                        [NN_NODE_AVGPOOL] = "avgpool",
                                        [NN_NODE_SHORTCUT] = "shortcut"};
    struct nn_node *const node = &graph->nodes[i];
    const int beside = node->kind == NN_NODE_JOIN ? graph->values[node->in].writer : i - 1;

    if (node->kind == NN_NODE_CONV || node->kind == NN_NODE_LINEAR) {
        char *const module = parent_of(graph->tensors[node->tensor].name);

        node->name = trace_intern(module);
        free(module);
    } else if (node->kind == NN_NODE_AVGPOOL || node->kind == NN_NODE_MAXPOOL) {
        node->name = names[node->kind];
    } else {
        node->name = name_beside(beside >= 0 ? graph->nodes[beside].name : "", names[node->kind]);
    }
}

/* The tensors of node i are [begin, end). */
static int tensors_end(const struct nn_graph *graph, int i)
{
    return i + 1 < graph->node_count ? graph->nodes[i + 1].tensor : graph->tensor_count;
}

static void place_tensors(struct nn_graph *graph)
{
    for (int i = 0; i < graph->tensor_count; i++) {
        struct nn_tensor *tensor = &graph->tensors[i];

        if (tensor->kind == NN_TENSOR_RUNNING) {
            tensor->offset = graph->running_count;
            graph->running_count += tensor->count;
            if (i < graph->nodes[graph->first_measured].tensor)
                graph->unmeasured_count = graph->running_count;
        }
    }
    for (int i = graph->node_count - 1; i >= 0; i--) {
        for (int t = graph->nodes[i].tensor; t < tensors_end(graph, i); t++) {
            struct nn_tensor *tensor = &graph->tensors[t];

            if (tensor->kind != NN_TENSOR_RUNNING) {
                tensor->offset = graph->weight_count;
                graph->weight_count += tensor->count;
                if (i >= graph->first_trained)
                    graph->trained_count = graph->weight_count;
            }
        }
    }
}

static void note_reader(struct nn_graph *graph, int value, int node)
{
    struct nn_value *v = &graph->values[value];

    if (v->reader_first == NN_NONE)
        v->reader_first = node;
    v->reader_last = node;
}

static bool only_convs_and_joins_read(const struct nn_graph *graph, int value)
{
    bool only = true;

    for (int i = 0; i < graph->node_count; i++) {
        const struct nn_node *node = &graph->nodes[i];

        if (node->in == value)
            only = only && node->kind == NN_NODE_CONV;
    }
    return only;
}

/* A join need not be written where both its operands are: not two in a row. Where no batch is
 * measured, the convolution before it writes it. Of frozen layers no backward needs the operands
 * again, and they are gone sooner. */
static void leave_joins_unwritten(struct nn_graph *graph)
{
    for (int i = graph->first_trained; i < graph->node_count; i++) {
        const struct nn_node *node = &graph->nodes[i];

        if (node->kind == NN_NODE_JOIN && node->residual != NN_NONE)
            graph->values[node->out].unwritten = !graph->values[node->residual].unwritten &&
                                                 only_convs_and_joins_read(graph, node->out);
    }
}

void nn_graph_finish(struct nn_graph *graph)
{
    place_tensors(graph);
    for (int i = 0; i < graph->node_count; i++) {
        const struct nn_node *node = &graph->nodes[i];

        name_node(graph, i);
        note_reader(graph, node->in, i);
        if (node->kind == NN_NODE_JOIN) {
            assert(nn_value_is_raw(graph, node->in));
            graph->values[node->in].joined_by = i;
        }
        if (node->residual != NN_NONE) {
            note_reader(graph, node->residual, i);
            graph->values[node->residual].joined_by = i;
        }
    }
    leave_joins_unwritten(graph);
}
