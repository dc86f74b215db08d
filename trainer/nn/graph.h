/*
 * trainer/nn/graph.h -- a network as data: a list of nodes in forward order, the values between
 * them, and its tensors.
 *
 * Node i reads values and writes value `out`; backward goes through the list from its end. Value 0
 * is the input. The tensors are in the order of the nodes, which builders keep equal to that of
 * torchvision's state_dict.
 *
 * A convolution and its batch norm are one node. What it writes is the convolution's raw result;
 * whoever reads it applies the batch norm and ReLU on the way (kernel/sink.h). Where a ReLU's
 * result has several readers a join writes it down: y = ReLU(bn(main) [+ residual]), the end of a
 * block.
 */
#ifndef NN_GRAPH_H
#define NN_GRAPH_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/nn/conv/conv.h"
#include "trainer/nn/linear.h"
#include "trainer/nn/model.h"
#include "trainer/nn/pool.h"
#include "trainer/nn/shortcut.h"

enum nn_node_kind {
    NN_NODE_CONV, /* with its batch norm */
    NN_NODE_JOIN,
    NN_NODE_MAXPOOL,
    NN_NODE_AVGPOOL,
    NN_NODE_SHORTCUT,
    NN_NODE_LINEAR,
};

#define NN_NONE (-1)

struct nn_node {
    enum nn_node_kind kind;
    const char *name; /* "layer1.0.conv1", "layer1.0.join": its module's in torchvision, where there
                         is one. Stays as long as the process */
    int in, out;      /* values; of a join, `in` is the main path */
    int residual;     /* of a join: a value, or NN_NONE */
    int tensor; /* the first of its tensors: weight, [batch norm's weight,] bias, running_mean,
                   running_var as its kind has them */
    union {
        struct nn_conv conv;
        struct nn_pool pool;
        struct nn_shortcut shortcut;
        struct nn_linear linear;
    };
};

struct nn_value {
    int c, h, w;      /* for one image */
    int writer;       /* the node that writes it, or NN_NONE: the input */
    bool unwritten;   /* in training: a join's value that readers compute by themselves */
    int joined_by;    /* the join that reads it, or NN_NONE */
    int reader_first; /* the lowest node that reads it: in backward the last to add to its gradient
                       */
    int reader_last;  /* the highest: in backward it overwrites the gradient */
};

struct nn_graph {
    struct nn_node *nodes;
    struct nn_value *values;
    struct nn_tensor *tensors; /* names on the heap */
    int node_count, value_count, tensor_count;
    size_t weight_count, running_count;
    int first_trained;  /* the nodes before it are frozen: backward ends there */
    int first_measured; /* the batch norms before it do not measure the batch: 0 or first_trained */
    size_t trained_count;    /* weights of trained nodes: the first of the weight vector */
    size_t unmeasured_count; /* running statistics that stay: the first of the running vector */
};

/* The tensors of a convolution, counted from node->tensor. */
enum { NN_CONV_FILTERS, NN_NORM_WEIGHT, NN_NORM_BIAS, NN_NORM_MEAN, NN_NORM_VARIANCE };

size_t nn_value_floats(const struct nn_value *value);

/** The node that makes a join's value in evaluation: the last convolution before it. */
int nn_graph_finisher(const struct nn_graph *graph, int join);

/** Is the value a convolution's raw result, to be read through its batch norm? */
bool nn_value_is_raw(const struct nn_graph *graph, int value);

/** Does backward compute a value's gradient? Not that of the input, nor of what frozen nodes write.
 */
bool nn_graph_wants_gradient(const struct nn_graph *graph, int value);

/** The value at which the trained part begins: all that it reads of the frozen one; NN_NONE where
 * nothing is frozen. */
int nn_graph_boundary(const struct nn_graph *graph);

void nn_graph_release(struct nn_graph *graph);

/** Start with the input as value 0. */
void nn_graph_init(struct nn_graph *graph, int c, int h, int w);

/* Each appends a node and returns the value that it writes. Names are those of modules:
 * "layer1.0.conv1". */
int nn_graph_conv(struct nn_graph *graph, const char *conv, const char *norm, int in, int k, int r,
                  int stride);
int nn_graph_join(struct nn_graph *graph, int in, int residual);
int nn_graph_maxpool(struct nn_graph *graph, int in);
int nn_graph_avgpool(struct nn_graph *graph, int in);
int nn_graph_shortcut(struct nn_graph *graph, int in, int k);
int nn_graph_linear(struct nn_graph *graph, const char *name, int in, int k, bool relu);

/** All nodes so far are frozen: those behind them read only the last one's value. measured: their
 * batch norms measure the batch all the same. */
void nn_graph_freeze(struct nn_graph *graph, bool measured);

/** When all nodes are there: place the tensors in their vectors and note who reads what. */
void nn_graph_finish(struct nn_graph *graph);

#endif
