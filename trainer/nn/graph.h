/*
 * trainer/nn/graph.h -- a network as data: a list of nodes in forward order, the values between
 * them, and its tensors.
 *
 * Node i reads values and writes value `out`; backward goes through the list from its end. Value 0
 * is the input. The tensors are in the order of the nodes, which builders keep equal to that of
 * torchvision's state_dict.
 */
#ifndef NN_GRAPH_H
#define NN_GRAPH_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/nn/batchnorm.h"
#include "trainer/nn/conv.h"
#include "trainer/nn/linear.h"
#include "trainer/nn/model.h"
#include "trainer/nn/pool.h"
#include "trainer/nn/shortcut.h"

enum nn_node_kind {
    NN_NODE_CONV,
    NN_NODE_BATCHNORM, /* with addition and ReLU */
    NN_NODE_MAXPOOL,
    NN_NODE_AVGPOOL,
    NN_NODE_SHORTCUT,
    NN_NODE_LINEAR,
};

#define NN_NONE (-1)

struct nn_node {
    enum nn_node_kind kind;
    int in, out;  /* values */
    int residual; /* a value that a batch norm adds, or NN_NONE */
    int tensor; /* the first of its tensors: weight, bias, running_mean, running_var as its kind has
                   them */
    /* Several nodes may read one value. Backward meets the last reader first: it overwrites the
     * value's gradient, the others add to it. */
    enum nn_into in_into, residual_into;
    union {
        struct nn_conv conv;
        struct nn_batchnorm batchnorm;
        struct nn_pool pool;
        struct nn_shortcut shortcut;
        struct nn_linear linear;
    };
};

/* The shape of a value for one image. */
struct nn_value {
    int c, h, w;
};

struct nn_graph {
    struct nn_node *nodes;
    struct nn_value *values;
    struct nn_tensor *tensors; /* names on the heap */
    int node_count, value_count, tensor_count;
    size_t weight_count, running_count;
};

size_t nn_value_floats(const struct nn_value *value);

void nn_graph_release(struct nn_graph *graph);

/** Start with the input as value 0. */
void nn_graph_init(struct nn_graph *graph, int c, int h, int w);

/* Each appends a node and returns the value that it writes. Names are those of modules:
 * "layer1.0.conv1". */
int nn_graph_conv(struct nn_graph *graph, const char *name, int in, int k, int r, int stride);
int nn_graph_batchnorm(struct nn_graph *graph, const char *name, int in, int residual, bool relu);
int nn_graph_maxpool(struct nn_graph *graph, int in);
int nn_graph_avgpool(struct nn_graph *graph, int in);
int nn_graph_shortcut(struct nn_graph *graph, int in, int k);
int nn_graph_linear(struct nn_graph *graph, const char *name, int in, int k);

/** When all nodes are there: place the tensors in their vectors and say who overwrites and who
 * adds. */
void nn_graph_finish(struct nn_graph *graph);

#endif
