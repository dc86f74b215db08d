/*
 * tests/nn/test_pass.c -- whole networks, forward in training and in evaluation, and backward,
 * against a plain walk through their nodes in double that knows nothing of sources and sinks, of
 * folding and of shared memory.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/nn/numbers.h"
#include "trainer/nn/graph.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/memory.h"
#include "trainer/nn/pass.h"
#include "trainer/nn/resnet.h"
#include "trainer/nn/tuning.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define CLASSES      5
#define IMAGES_MAX   4
#define EPS          1e-5

/* Relative to the largest of a tensor. Winograd's transforms lose more than plain sums. In training
 * the last batch norms of these small pictures divide by the deviation of a few rows only, and
 * magnify what fifty layers have rounded. */
#define TOLERANCE 1e-5
#define WINOGRAD  10
#define TRAINING  20
#define BACKWARD  5 /* times as much again */

/* `far`: biases keep what ReLU sees away from its corner, whole channels open or shut. Of the
 * largest network's outputs rounding takes one or two across it, and each changes the gradient of
 * all layers before by a per cent. */
static const struct network {
    const char *name;
    int size, n;
    bool far;
} networks[] = {
    {"resnet20", 16, 3, false}, {"resnet20", 9, 2, false}, {"resnet20b", 16, 3, false},
    {"resnet18", 37, 3, false}, {"resnet50", 33, 4, true},
};

struct bed {
    const struct network *network;
    double tolerance;
    struct nn_graph graph;
    struct nn_memory memory;
    float *x, *weights, *running, *statistics, *gradient;
    double **raws;   /* of convolutions: before batch norm */
    double **values; /* as a reader sees them: batch norm and ReLU done */
    double **gradients;
    double *expected, *expected_gradient; /* statistics; of the weights */
};

static size_t floats_of(const struct bed *bed, int value)
{
    return nn_value_floats(&bed->graph.values[value]) * (size_t)bed->network->n;
}

/* A block whose convolutions add little to its input is near to it, so that deep networks magnify
 * no rounding. What is normalised lies within six deviations, and most within four. */
static void tame(struct bed *bed)
{
    for (int i = 0; i < bed->graph.node_count; i++) {
        const struct nn_node *node = &bed->graph.nodes[i];
        const struct nn_tensor *tensors = &bed->graph.tensors[node->tensor];
        const bool joined = bed->graph.values[node->out].joined_by != NN_NONE;

        if (node->kind != NN_NODE_CONV)
            continue;
        for (size_t j = 0; j < (size_t)node->conv.k; j++) {
            bed->weights[tensors[NN_NORM_WEIGHT].offset + j] *= joined && node->in != 0 ? 0.3f : 1;
            if (bed->network->far)
                bed->weights[tensors[NN_NORM_BIAS].offset + j] += joined       ? 2.0f
                                                                  : j % 3 == 0 ? -8.0f
                                                                               : 8.0f;
        }
    }
}

static void bed_open(struct bed *bed, const struct network *network, bool training)
{
    struct err err = {0};

    *bed = (struct bed){.network = network};
    nn_resnet_build(nn_resnet_find(network->name), network->size, CLASSES, &(struct nn_tuning){0},
                    &bed->graph);
    assert_int_equal(nn_memory_init(&bed->memory, &bed->graph, network->n, training, &err), 0);
    bed->x = numbers_new(1, floats_of(bed, 0));
    bed->weights = numbers_new(2, bed->graph.weight_count);
    bed->running = numbers_new(3, bed->graph.running_count);
    bed->statistics = numbers_new(4, bed->graph.running_count);
    bed->expected = calloc(bed->graph.running_count, sizeof(double));
    numbers_fill_tensors(bed->graph.tensors, (size_t)bed->graph.tensor_count, bed->weights,
                         bed->running);
    tame(bed);
    for (size_t i = 0; i < bed->graph.running_count; i++) /* not all near 0 and 1 */
        bed->running[i] *= 1 + 0.5f * (float)(i % 5);
    bed->gradient = numbers_new(5, bed->graph.weight_count);
    bed->expected_gradient = calloc(bed->graph.weight_count, sizeof(double));
    bed->raws = calloc((size_t)bed->graph.value_count, sizeof(double *));
    bed->values = calloc((size_t)bed->graph.value_count, sizeof(double *));
    bed->gradients = calloc((size_t)bed->graph.value_count, sizeof(double *));
    for (int v = 0; v < bed->graph.value_count; v++) {
        bed->values[v] = calloc(floats_of(bed, v), sizeof(double));
        bed->gradients[v] = calloc(floats_of(bed, v), sizeof(double));
        bed->raws[v] = calloc(floats_of(bed, v), sizeof(double));
    }
    for (size_t i = 0; i < floats_of(bed, 0); i++)
        bed->values[0][i] = bed->x[i];
}

static void bed_close(struct bed *bed)
{
    for (int v = 0; v < bed->graph.value_count; v++) {
        free(bed->values[v]);
        free(bed->gradients[v]);
        free(bed->raws[v]);
    }
    free(bed->values);
    free(bed->gradients);
    free(bed->raws);
    free(bed->gradient);
    free(bed->expected_gradient);
    free(bed->expected);
    free(bed->x);
    free(bed->weights);
    free(bed->running);
    free(bed->statistics);
    nn_memory_release(&bed->memory);
    nn_graph_release(&bed->graph);
}

/* --- the plain walk --- */

/* The value of a picture at one pixel, or NULL outside. */
static const double *pixel(const double *x, const struct nn_value *shape, int i, int y, int column)
{
    if (y < 0 || y >= shape->h || column < 0 || column >= shape->w)
        return NULL;
    return x + (((size_t)i * shape->h + (size_t)y) * shape->w + (size_t)column) * shape->c;
}

static double filter_at(const struct nn_conv *conv, const double *x, const struct nn_value *shape,
                        const float *w, int i, int oy, int ox)
{
    double sum = 0;

    for (int r = 0; r < conv->r; r++) {
        for (int s = 0; s < conv->r; s++, w += conv->c) {
            const double *in = pixel(x, shape, i, oy * conv->stride - conv->pad + r,
                                     ox * conv->stride - conv->pad + s);

            for (int c = 0; c < conv->c && in != NULL; c++)
                sum += in[c] * w[c];
        }
    }
    return sum;
}

static void convolve(const struct bed *bed, const struct nn_node *node, double *y)
{
    const struct nn_conv *conv = &node->conv;
    const float *w = bed->weights + bed->graph.tensors[node->tensor].offset;
    const size_t filter = (size_t)conv->r * conv->r * conv->c;

    for (int i = 0; i < bed->network->n; i++)
        for (int o = 0; o < conv->oh * conv->ow; o++)
            for (int k = 0; k < conv->k; k++)
                *y++ = filter_at(conv, bed->values[node->in], &bed->graph.values[node->in],
                                 w + (size_t)k * filter, i, o / conv->ow, o % conv->ow);
}

/* The mean and the variance with which a channel is normalised; in training they are noted. */
static void moments(struct bed *bed, const struct nn_node *node, size_t j, bool training,
                    const double *x, double *mean, double *variance)
{
    const size_t c = (size_t)node->conv.k, rows = floats_of(bed, node->out) / c;
    const size_t at = bed->graph.tensors[node->tensor + NN_NORM_MEAN].offset + j;
    double m2 = 0;

    *mean = bed->running[at];
    *variance = bed->running[at + c];
    if (!training)
        return;
    *mean = 0;
    for (size_t row = 0; row < rows; row++)
        *mean += x[row * c + j] / (double)rows;
    for (size_t row = 0; row < rows; row++)
        m2 += pow(x[row * c + j] - *mean, 2);
    *variance = m2 / (double)rows;
    bed->expected[at] = *mean;
    bed->expected[at + c] = rows > 1 ? m2 / (double)(rows - 1) : 0;
}

static void rectify(double *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] < 0 ? 0 : x[i];
}

static void walk_conv(struct bed *bed, const struct nn_node *node, bool training)
{
    const struct nn_tensor *tensors = bed->graph.tensors + node->tensor;
    const size_t c = (size_t)node->conv.k, count = floats_of(bed, node->out);
    double *x = bed->raws[node->out], *y = bed->values[node->out];

    convolve(bed, node, x);
    for (size_t j = 0; j < c; j++) {
        const double weight = bed->weights[tensors[NN_NORM_WEIGHT].offset + j];
        const double bias = bed->weights[tensors[NN_NORM_BIAS].offset + j];
        double mean, variance;

        moments(bed, node, j, training, x, &mean, &variance);
        for (size_t at = j; at < count; at += c)
            y[at] = (x[at] - mean) / sqrt(variance + EPS) * weight + bias;
    }
    if (bed->graph.values[node->out].joined_by == NN_NONE)
        rectify(y, count);
}

static void walk_join(struct bed *bed, const struct nn_node *node)
{
    const size_t count = floats_of(bed, node->out);
    double *y = bed->values[node->out];

    for (size_t i = 0; i < count; i++)
        y[i] = bed->values[node->in][i] +
               (node->residual != NN_NONE ? bed->values[node->residual][i] : 0);
    rectify(y, count);
}

static double largest_near(const struct bed *bed, const struct nn_node *node, int i, int oy, int ox,
                           int c)
{
    double largest = -INFINITY;

    for (int y = 2 * oy - 1; y <= 2 * oy + 1; y++) {
        for (int x = 2 * ox - 1; x <= 2 * ox + 1; x++) {
            const double *in = pixel(bed->values[node->in], &bed->graph.values[node->in], i, y, x);

            if (in != NULL)
                largest = fmax(largest, in[c]);
        }
    }
    return largest;
}

static double mean_of(const struct bed *bed, const struct nn_node *node, int i, int c)
{
    const struct nn_value *shape = &bed->graph.values[node->in];
    double sum = 0;

    for (int o = 0; o < shape->h * shape->w; o++)
        sum += pixel(bed->values[node->in], shape, i, o / shape->w, o % shape->w)[c];
    return sum / (shape->h * shape->w);
}

static double product_of(const struct bed *bed, const struct nn_node *node, int i, int k)
{
    const struct nn_tensor *tensors = bed->graph.tensors + node->tensor;
    const size_t c = (size_t)node->linear.conv.c;
    const float *w = bed->weights + tensors[0].offset + (size_t)k * c;
    double sum = bed->weights[tensors[1].offset + (size_t)k];

    for (size_t j = 0; j < c; j++)
        sum += bed->values[node->in][(size_t)i * c + j] * w[j];
    return sum;
}

/* Every second pixel; channels that the input lacks are zero. */
static double shortcut_of(const struct bed *bed, const struct nn_node *node, int i, int oy, int ox,
                          int c)
{
    const struct nn_value *shape = &bed->graph.values[node->in];

    return c < shape->c ? pixel(bed->values[node->in], shape, i, 2 * oy, 2 * ox)[c] : 0;
}

/* One element of a node that is neither convolution nor join. */
static double element_of(const struct bed *bed, const struct nn_node *node, int i, int oy, int ox,
                         int c)
{
    switch (node->kind) {
    case NN_NODE_MAXPOOL:
        return largest_near(bed, node, i, oy, ox, c);
    case NN_NODE_AVGPOOL:
        return mean_of(bed, node, i, c);
    case NN_NODE_SHORTCUT:
        return shortcut_of(bed, node, i, oy, ox, c);
    case NN_NODE_LINEAR:
        return product_of(bed, node, i, c);
    case NN_NODE_CONV:
    case NN_NODE_JOIN:
        break;
    }
    return NAN;
}

static void walk(struct bed *bed, bool training)
{
    for (int i = 0; i < bed->graph.node_count; i++) {
        const struct nn_node *node = &bed->graph.nodes[i];
        const struct nn_value *out = &bed->graph.values[node->out];

        if (node->kind == NN_NODE_CONV)
            walk_conv(bed, node, training);
        else if (node->kind == NN_NODE_JOIN)
            walk_join(bed, node);
        for (size_t at = 0; at < floats_of(bed, node->out); at++) {
            const int c = (int)(at % (size_t)out->c), row = (int)(at / (size_t)out->c);

            if (node->kind == NN_NODE_CONV || node->kind == NN_NODE_JOIN)
                break;
            bed->values[node->out][at] = element_of(bed, node, row / (out->h * out->w),
                                                    row / out->w % out->h, row % out->w, c);
        }
    }
}

/* --- and back: each reader adds to the gradient of what it reads --- */

/* From the gradient of y = (x - mean) / deviation * weight + bias, in place, to that of x. */
static void back_through_norm(struct bed *bed, const struct nn_node *node)
{
    const struct nn_tensor *tensors = bed->graph.tensors + node->tensor;
    const size_t c = (size_t)node->conv.k, count = floats_of(bed, node->out);
    const double *x = bed->raws[node->out], rows = (double)count / (double)c;
    double *g = bed->gradients[node->out];

    for (size_t j = 0; j < c; j++) {
        const double weight = bed->weights[tensors[NN_NORM_WEIGHT].offset + j];
        double mean, variance, deviation, sum = 0, product = 0;

        moments(bed, node, j, true, x, &mean, &variance);
        deviation = sqrt(variance + EPS);
        for (size_t at = j; at < count; at += c) {
            sum += g[at];
            product += g[at] * (x[at] - mean) / deviation;
        }
        bed->expected_gradient[tensors[NN_NORM_WEIGHT].offset + j] = product;
        bed->expected_gradient[tensors[NN_NORM_BIAS].offset + j] = sum;
        for (size_t at = j; at < count; at += c)
            g[at] = weight / deviation *
                    (g[at] - sum / rows - (x[at] - mean) / deviation * product / rows);
    }
}

/* What gradient g of one output of filter w gives to the filter and to the pixels that it saw. */
static void back_through_filter(struct bed *bed, const struct nn_node *node, int i, int o, int k,
                                double g)
{
    const struct nn_conv *conv = &node->conv;
    const struct nn_value *shape = &bed->graph.values[node->in];
    size_t at = bed->graph.tensors[node->tensor].offset + (size_t)k * conv->r * conv->r * conv->c;

    for (int tap = 0; tap < conv->r * conv->r; tap++, at += (size_t)conv->c) {
        const double *in = pixel(bed->values[node->in], shape, i,
                                 o / conv->ow * conv->stride - conv->pad + tap / conv->r,
                                 o % conv->ow * conv->stride - conv->pad + tap % conv->r);
        double *din = bed->gradients[node->in];

        if (in == NULL)
            continue;
        din += in - bed->values[node->in];
        for (size_t c = 0; c < (size_t)conv->c; c++) {
            bed->expected_gradient[at + c] += g * in[c];
            din[c] += g * bed->weights[at + c];
        }
    }
}

static void shut(const double *out, double *g, size_t count)
{
    for (size_t i = 0; i < count; i++)
        g[i] = out[i] > 0 ? g[i] : 0;
}

static void back_conv(struct bed *bed, const struct nn_node *node)
{
    const struct nn_conv *conv = &node->conv;
    const double *g = bed->gradients[node->out];

    if (bed->graph.values[node->out].joined_by == NN_NONE)
        shut(bed->values[node->out], bed->gradients[node->out], floats_of(bed, node->out));
    back_through_norm(bed, node);
    for (int i = 0; i < bed->network->n; i++)
        for (int o = 0; o < conv->oh * conv->ow; o++)
            for (int k = 0; k < conv->k; k++)
                back_through_filter(bed, node, i, o, k, *g++);
}

static void back_join(struct bed *bed, const struct nn_node *node)
{
    const size_t count = floats_of(bed, node->out);
    const double *g = bed->gradients[node->out];

    shut(bed->values[node->out], bed->gradients[node->out], count);
    for (size_t i = 0; i < count; i++) {
        bed->gradients[node->in][i] += g[i];
        if (node->residual != NN_NONE)
            bed->gradients[node->residual][i] += g[i];
    }
}

/* Row after row of the picture, so that of equals the first is found. */
static void back_maxpool(struct bed *bed, const struct nn_node *node, int i, int oy, int ox, int c,
                         double g)
{
    const double largest = largest_near(bed, node, i, oy, ox, c);

    for (int tap = 0; tap < 9; tap++) {
        const double *in = pixel(bed->values[node->in], &bed->graph.values[node->in], i,
                                 2 * oy - 1 + tap / 3, 2 * ox - 1 + tap % 3);

        if (in == NULL || in[c] < largest)
            continue;
        bed->gradients[node->in][in - bed->values[node->in] + c] += g;
        return;
    }
}

static void back_linear(struct bed *bed, const struct nn_node *node, int i, int k, double g)
{
    const struct nn_tensor *tensors = bed->graph.tensors + node->tensor;
    const size_t c = (size_t)node->linear.conv.c, w = tensors[0].offset + (size_t)k * c;

    bed->expected_gradient[tensors[1].offset + (size_t)k] += g;
    for (size_t j = 0; j < c; j++) {
        bed->expected_gradient[w + j] += g * bed->values[node->in][(size_t)i * c + j];
        bed->gradients[node->in][(size_t)i * c + j] += g * bed->weights[w + j];
    }
}

/* What one element's gradient gives back through a node that is neither convolution nor join. */
static void back_element(struct bed *bed, const struct nn_node *node, int i, int oy, int ox, int c,
                         double g)
{
    const struct nn_value *in = &bed->graph.values[node->in];
    double *dx = bed->gradients[node->in] + (size_t)i * nn_value_floats(in);

    if (node->kind == NN_NODE_MAXPOOL)
        back_maxpool(bed, node, i, oy, ox, c, g);
    if (node->kind == NN_NODE_AVGPOOL)
        for (int o = 0; o < in->h * in->w; o++)
            dx[o * in->c + c] += g / (in->h * in->w);
    if (node->kind == NN_NODE_SHORTCUT && c < in->c)
        dx[(2 * oy * in->w + 2 * ox) * in->c + c] += g;
    if (node->kind == NN_NODE_LINEAR)
        back_linear(bed, node, i, c, g);
}

static void walk_back(struct bed *bed)
{
    for (int n = bed->graph.node_count - 1; n >= 0; n--) {
        const struct nn_node *node = &bed->graph.nodes[n];
        const struct nn_value *out = &bed->graph.values[node->out];

        if (node->kind == NN_NODE_CONV)
            back_conv(bed, node);
        else if (node->kind == NN_NODE_JOIN)
            back_join(bed, node);
        for (size_t at = 0; at < floats_of(bed, node->out); at++) {
            const int c = (int)(at % (size_t)out->c), row = (int)(at / (size_t)out->c);

            if (node->kind == NN_NODE_CONV || node->kind == NN_NODE_JOIN)
                break;
            back_element(bed, node, row / (out->h * out->w), row / out->w % out->h, row % out->w, c,
                         bed->gradients[node->out][at]);
        }
    }
}

/* --- against them --- */

static bool uses_winograd(const struct nn_graph *graph)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].kind == NN_NODE_CONV &&
            strncmp(nn_conv_algorithm_name(&graph->nodes[i].conv, NN_FORWARD), "winograd", 8) == 0)
            return true;
    return false;
}

static int differs(const struct bed *bed, const char *what, const float *found,
                   const double *expected, size_t count)
{
    double largest = 0, error = 0;

    for (size_t i = 0; i < count; i++) {
        const double off = fabs(found[i] - expected[i]);

        largest = fmax(largest, fabs(expected[i]));
        error = !(off <= error) ? off : error; /* a NaN sticks */
    }
    if (error <= bed->tolerance * largest)
        return 0;
    print_error("%s, %d px: %s off by %.3g of %.3g\n", bed->network->name, bed->network->size, what,
                error, largest);
    return 1;
}

/* A step with the gradient of the logits given, or an evaluation. */
static void run(struct bed *bed, float *logits, bool training)
{
    const int value = bed->graph.value_count - 1;
    const size_t count = floats_of(bed, value);
    const struct nn_pass pass = {
        .graph = &bed->graph,
        .memory = &bed->memory,
        .weights = bed->weights,
        .running = bed->running,
        .x = bed->x,
        .n = bed->network->n,
        .statistics = training ? bed->statistics : NULL,
        .gradient = training ? bed->gradient : NULL,
    };

    assert_int_equal(nn_pass_forward(&pass), 0);
    memcpy(logits, bed->memory.data[value], count * sizeof(float));
    if (!training)
        return;
    numbers_fill(6, bed->memory.gradient[value], count);
    for (size_t i = 0; i < count; i++)
        bed->gradients[value][i] = bed->memory.gradient[value][i];
    assert_int_equal(nn_pass_backward(&pass, NULL, NULL), 0);
}

static double length_of(const double *x, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* A bias before another batch norm can have a gradient of 0: it is measured by its weight's, the
 * tensor before. */
static int gradient_differs(const struct bed *bed, const struct nn_tensor *tensor)
{
    const float *found = bed->gradient + tensor->offset;
    const double *expected = bed->expected_gradient + tensor->offset;
    double length = length_of(expected, tensor->count), error = 0;

    for (size_t i = 0; i < tensor->count; i++)
        error += pow(found[i] - expected[i], 2);
    if (strstr(tensor->name, ".bias") != NULL)
        length =
            fmax(length, length_of(bed->expected_gradient + tensor[-1].offset, tensor[-1].count));
    if (sqrt(error) <= BACKWARD * bed->tolerance * length)
        return 0;
    print_error("%s, %d px: gradient of %s off by %.2g of %.2g\n", bed->network->name,
                bed->network->size, tensor->name, sqrt(error), length);
    return 1;
}

static int training_differs(const struct bed *bed)
{
    int wrong = 0;

    for (int t = 0; t < bed->graph.tensor_count; t++) {
        const struct nn_tensor *tensor = &bed->graph.tensors[t];

        if (tensor->kind == NN_TENSOR_RUNNING)
            wrong += differs(bed, tensor->name, bed->statistics + tensor->offset,
                             bed->expected + tensor->offset, tensor->count);
        else
            wrong += gradient_differs(bed, tensor);
    }
    return wrong;
}

static int pass_differs(const struct network *network, bool training)
{
    float logits[IMAGES_MAX * CLASSES];
    struct bed bed;
    int wrong;

    bed_open(&bed, network, training);
    bed.tolerance =
        TOLERANCE * (uses_winograd(&bed.graph) ? WINOGRAD : 1) * (training ? TRAINING : 1);
    run(&bed, logits, training);
    walk(&bed, training);
    wrong = differs(&bed, "logits", logits, bed.values[bed.graph.value_count - 1],
                    (size_t)network->n * CLASSES);
    if (training) {
        walk_back(&bed);
        wrong += training_differs(&bed);
    }
    bed_close(&bed);
    return wrong;
}

static void evaluation_with_folded_batch_norms_equals_the_plain_walk(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(networks); i++)
        wrong += pass_differs(&networks[i], false);
    assert_int_equal(wrong, 0);
}

static void training_its_statistics_and_gradients_equal_the_plain_walk(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(networks); i++)
        wrong += pass_differs(&networks[i], true);
    assert_int_equal(wrong, 0);
}

/* A name says which block a node is of, and which of its nodes: no two are alike. */
static void nodes_are_named_as_torchvision_names_modules(void **state)
{
    static const struct {
        const char *network;
        const char *names[3];
    } cases[] = {
        {"resnet20", {"conv1", "layer2.0.shortcut", "layer3.2.join"}},
        {"resnet18", {"maxpool", "layer2.0.downsample.0", "layer2.0.join"}},
        {"resnet50", {"layer4.2.conv3", "avgpool", "fc"}},
    };

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        const struct nn_tuning tuning = {0};
        struct nn_graph graph;
        int found = 0;

        nn_resnet_build(nn_resnet_find(cases[c].network), 64, CLASSES, &tuning, &graph);
        for (int i = 0; i < graph.node_count; i++) {
            assert_true(graph.nodes[i].name[0] != '\0');
            for (int j = 0; j < i; j++)
                assert_string_not_equal(graph.nodes[i].name, graph.nodes[j].name);
            for (int k = 0; k < 3; k++)
                found += strcmp(graph.nodes[i].name, cases[c].names[k]) == 0;
        }
        nn_graph_release(&graph);
        assert_int_equal(found, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_named_as_torchvision_names_modules),
        cmocka_unit_test(evaluation_with_folded_batch_norms_equals_the_plain_walk),
        cmocka_unit_test(training_its_statistics_and_gradients_equal_the_plain_walk),
    };

    nn_threads_init(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
