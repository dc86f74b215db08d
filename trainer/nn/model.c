#include "trainer/nn/model.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/nn/graph.h"
#include "trainer/nn/loss.h"
#include "trainer/nn/plan.h"
#include "trainer/nn/resnet.h"
#include "trainer/nn/scratch.h"
#include "trainer/nn/threads.h"

#define MICRO_BATCH_MAX 65536
#define IMAGE_SIZE_MAX  4096
#define CLASSES_MAX     (1 << 20)

struct nn_model {
    struct nn_graph graph;
    int micro_batch_max;
    bool training;
    float *weights, *running;
    float *saved;             /* per batch norm, in running's places: means, then 1 / deviations */
    float *memory;            /* what data, gradient and taken point into */
    float **data, **gradient; /* per value; the input's are NULL */
    uint8_t **taken;          /* per node: a max pool's choices */
    struct nn_scratch scratch;
};

const char *nn_model_names(void)
{
    return nn_resnet_names();
}

int nn_model_default_image_size(const char *name)
{
    const struct nn_resnet *resnet = nn_resnet_find(name);

    return resnet == NULL ? 0 : nn_resnet_image_size(resnet);
}

/* --- memory --- */

/*
 * Time runs through forward (node i at step i), the loss (step N) and backward (node i at step 2N -
 * i). `buffers` holds one buffer per value for its data, one per value for its gradient and one per
 * node for a max pool's choices.
 */
struct timeline {
    const struct nn_graph *graph;
    size_t n;
    bool training;
    int *gradient_of; /* per value: the value whose gradient buffer it uses */
    struct nn_plan_buffer *data, *gradient, *taken;
};

static int backward_step(const struct timeline *line, int node)
{
    return 2 * line->graph->node_count - node;
}

static void needed_at(struct nn_plan_buffer *buffer, int step)
{
    buffer->first = step < buffer->first ? step : buffer->first;
    buffer->last = step > buffer->last ? step : buffer->last;
}

/* Batch norm's backward works in place: its input's gradient stands where its output's stood. */
static void share_gradients(struct timeline *line)
{
    const struct nn_graph *graph = line->graph;

    for (int v = 0; v < graph->value_count; v++)
        line->gradient_of[v] = v;
    for (int i = graph->node_count - 1; i >= 0; i--)
        if (graph->nodes[i].kind == NN_NODE_BATCHNORM)
            line->gradient_of[graph->nodes[i].in] = line->gradient_of[graph->nodes[i].out];
}

static void need_forward(struct timeline *line, int i)
{
    const struct nn_node *node = &line->graph->nodes[i];

    needed_at(&line->data[node->in], i);
    needed_at(&line->data[node->out], i);
    if (node->residual != NN_NONE)
        needed_at(&line->data[node->residual], i);
}

static void need_backward(struct timeline *line, int i)
{
    const struct nn_node *node = &line->graph->nodes[i];
    const int step = backward_step(line, i);

    needed_at(&line->gradient[line->gradient_of[node->in]], step);
    needed_at(&line->gradient[line->gradient_of[node->out]], step);
    if (node->residual != NN_NONE)
        needed_at(&line->gradient[line->gradient_of[node->residual]], step);
    if (node->kind == NN_NODE_CONV || node->kind == NN_NODE_BATCHNORM ||
        node->kind == NN_NODE_LINEAR)
        needed_at(&line->data[node->in], step);
    if (node->kind == NN_NODE_BATCHNORM && node->batchnorm.relu)
        needed_at(&line->data[node->out], step);
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
            nn_value_floats(&graph->values[v]) * line->n;
    }
    share_gradients(line);
    for (int i = 0; i < graph->node_count; i++) {
        line->taken[i] = never;
        line->taken[i].floats = line->data[graph->nodes[i].out].floats / sizeof(float) + 1;
        need_forward(line, i);
    }
    needed_at(&line->data[logits], loss);
    if (!line->training)
        return;
    needed_at(&line->gradient[logits], loss);
    for (int i = 0; i < graph->node_count; i++)
        need_backward(line, i);
}

static void *small(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);

    if (memory == NULL)
        abort();
    return memory;
}

/* The input's data are the caller's, and nobody wants its gradient. */
static void drop_input(struct timeline *line)
{
    line->data[0].last = line->gradient[0].last = -1;
}

static int take_memory(struct nn_model *model, struct err *err)
{
    const struct nn_graph *graph = &model->graph;
    const int values = graph->value_count, nodes = graph->node_count;
    struct nn_plan_buffer *buffers = small((size_t)(2 * values + nodes), sizeof(*buffers));
    struct timeline line = {
        .graph = graph,
        .n = (size_t)model->micro_batch_max,
        .training = model->training,
        .gradient_of = small((size_t)values, sizeof(int)),
        .data = buffers,
        .gradient = buffers + values,
        .taken = buffers + 2 * values,
    };
    int rc = -1;

    lay_out(&line);
    drop_input(&line);
    model->memory = nn_floats_new(nn_plan_place(buffers, 2 * values + nodes), err);
    if (model->memory == NULL)
        goto out;
    model->data = small((size_t)values, sizeof(float *));
    model->gradient = small((size_t)values, sizeof(float *));
    model->taken = small((size_t)nodes, sizeof(uint8_t *));
    for (int v = 1; v < values; v++) {
        model->data[v] = model->memory + line.data[v].offset;
        if (model->training)
            model->gradient[v] = model->memory + line.gradient[line.gradient_of[v]].offset;
    }
    for (int i = 0; i < nodes && model->training; i++)
        if (graph->nodes[i].kind == NN_NODE_MAXPOOL)
            model->taken[i] = (uint8_t *)(model->memory + line.taken[i].offset);
    rc = 0;
out:
    free(line.gradient_of);
    free(buffers);
    return rc;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int take_scratch(struct nn_model *model, struct err *err)
{
    size_t shared = 0, per_thread = 0;

    for (int i = 0; i < model->graph.node_count; i++) {
        const struct nn_node *node = &model->graph.nodes[i];
        const struct nn_value *in = &model->graph.values[node->in];

        if (node->kind == NN_NODE_CONV)
            per_thread = larger(per_thread, nn_conv_private_floats(&node->conv));
        if (node->kind == NN_NODE_LINEAR)
            shared = larger(shared, nn_linear_shared_floats(&node->linear));
        if (node->kind == NN_NODE_CONV)
            shared = larger(shared, nn_conv_shared_floats(&node->conv, model->micro_batch_max));
        if (node->kind == NN_NODE_BATCHNORM && model->training)
            shared = larger(
                shared, nn_batchnorm_shared_floats(&node->batchnorm,
                                                   (size_t)model->micro_batch_max * in->h * in->w));
    }
    return nn_scratch_init(&model->scratch, shared, per_thread, err);
}

/* --- a model --- */

static int check(const struct nn_model_options *options, const struct nn_resnet *resnet,
                 struct err *err)
{
    if (resnet == NULL)
        return err_set(err, ERR_USAGE, "unknown model '%s': one of %s", options->name,
                       nn_resnet_names());
    if (options->image_size < nn_resnet_image_size_min(resnet) ||
        options->image_size > IMAGE_SIZE_MAX)
        return err_set(err, ERR_USAGE, "image size %d: %s takes %d to %d pixels",
                       options->image_size, options->name, nn_resnet_image_size_min(resnet),
                       IMAGE_SIZE_MAX);
    if (options->classes < 2 || options->classes > CLASSES_MAX)
        return err_set(err, ERR_USAGE, "%d classes: a model has 2 to %d", options->classes,
                       CLASSES_MAX);
    if (options->micro_batch_max < 1 || options->micro_batch_max > MICRO_BATCH_MAX)
        return err_set(err, ERR_USAGE, "micro-batch %d: it is 1 to %d images",
                       options->micro_batch_max, MICRO_BATCH_MAX);
    return 0;
}

struct nn_model *nn_model_new(const struct nn_model_options *options, struct err *err)
{
    const struct nn_resnet *resnet = nn_resnet_find(options->name);
    struct nn_model *model;

    if (check(options, resnet, err) < 0)
        return NULL;
    model = small(1, sizeof(*model));
    model->micro_batch_max = options->micro_batch_max;
    model->training = options->training;
    nn_resnet_build(resnet, options->image_size, options->classes, &model->graph);
    model->weights = nn_floats_new(model->graph.weight_count, err);
    model->running = nn_floats_new(model->graph.running_count, err);
    model->saved = nn_floats_new(model->graph.running_count, err);
    if (model->weights == NULL || model->running == NULL || model->saved == NULL ||
        take_memory(model, err) < 0 || take_scratch(model, err) < 0) {
        err_wrap(err, "cannot make %s for micro-batches of %d images of %d px", options->name,
                 options->micro_batch_max, options->image_size);
        nn_model_free(model);
        return NULL;
    }
    return model;
}

void nn_model_free(struct nn_model *model)
{
    if (model == NULL)
        return;
    nn_scratch_release(&model->scratch);
    nn_graph_release(&model->graph);
    free(model->taken);
    free(model->gradient);
    free(model->data);
    free(model->memory);
    free(model->saved);
    free(model->running);
    free(model->weights);
    free(model);
}

size_t nn_model_tensor_count(const struct nn_model *model)
{
    return (size_t)model->graph.tensor_count;
}

const struct nn_tensor *nn_model_tensors(const struct nn_model *model)
{
    return model->graph.tensors;
}

float *nn_model_weights(struct nn_model *model)
{
    return model->weights;
}

size_t nn_model_weight_count(const struct nn_model *model)
{
    return model->graph.weight_count;
}

float *nn_model_running(struct nn_model *model)
{
    return model->running;
}

size_t nn_model_running_count(const struct nn_model *model)
{
    return model->graph.running_count;
}

size_t nn_model_trained_count(const struct nn_model *model)
{
    return model->graph.weight_count;
}

/* --- one micro-batch through the list of nodes --- */

struct pass {
    struct nn_model *model;
    const float *x;
    int n;
    float *statistics; /* NULL: evaluation */
    float *gradient;   /* NULL: no backward */
    const volatile sig_atomic_t *cancel;
};

static bool is_cancelled(const struct pass *pass)
{
    return pass->cancel != NULL && *pass->cancel != 0;
}

/* A model has scratch for the threads that there were when it was made; it does not use more. */
static void begin_pass(const struct pass *pass)
{
    assert(pass->n >= 1 && pass->n <= pass->model->micro_batch_max);
    if (omp_get_max_threads() > pass->model->scratch.threads)
        omp_set_num_threads(pass->model->scratch.threads);
#pragma omp parallel
    nn_threads_flush_denormals();
}

static const float *data_of(const struct pass *pass, int value)
{
    return value == 0 ? pass->x : pass->model->data[value];
}

/* The i-th tensor of a node, in a vector laid out like the one it lives in. */
static size_t tensor_at(const struct pass *pass, const struct nn_node *node, int i)
{
    return pass->model->graph.tensors[node->tensor + i].offset;
}

static size_t rows_of(const struct pass *pass, const struct nn_node *node)
{
    const struct nn_value *value = &pass->model->graph.values[node->in];

    return (size_t)pass->n * value->h * value->w;
}

static void forward_batchnorm(const struct pass *pass, const struct nn_node *node)
{
    struct nn_model *model = pass->model;
    const float *x = data_of(pass, node->in);
    const size_t running = tensor_at(pass, node, 2);

    if (pass->statistics != NULL)
        nn_batchnorm_measure(&node->batchnorm, rows_of(pass, node), x, model->saved + running,
                             pass->statistics + running, &model->scratch);
    else
        nn_batchnorm_recall(&node->batchnorm, model->running + running, model->saved + running);
    nn_batchnorm_forward(
        &node->batchnorm, rows_of(pass, node), x, model->saved + running,
        model->weights + tensor_at(pass, node, 0), model->weights + tensor_at(pass, node, 1),
        node->residual == NN_NONE ? NULL : data_of(pass, node->residual), model->data[node->out]);
}

static void forward_node(const struct pass *pass, int i)
{
    struct nn_model *model = pass->model;
    const struct nn_node *node = &model->graph.nodes[i];
    const float *x = data_of(pass, node->in);
    float *y = model->data[node->out];

    switch (node->kind) {
    case NN_NODE_CONV:
        nn_conv_forward(&node->conv, pass->n, x, model->weights + tensor_at(pass, node, 0), y,
                        &model->scratch);
        break;
    case NN_NODE_BATCHNORM:
        forward_batchnorm(pass, node);
        break;
    case NN_NODE_MAXPOOL:
        nn_maxpool_forward(&node->pool, pass->n, x, y,
                           pass->gradient == NULL ? NULL : model->taken[i]);
        break;
    case NN_NODE_AVGPOOL:
        nn_avgpool_forward(&node->pool, pass->n, x, y);
        break;
    case NN_NODE_SHORTCUT:
        nn_shortcut_forward(&node->shortcut, pass->n, x, y);
        break;
    case NN_NODE_LINEAR:
        nn_linear_forward(&node->linear, pass->n, x, model->weights + tensor_at(pass, node, 0),
                          model->weights + tensor_at(pass, node, 1), y, &model->scratch);
        break;
    }
}

static void backward_batchnorm(const struct pass *pass, const struct nn_node *node)
{
    struct nn_model *model = pass->model;
    const struct nn_batchnorm_backward args = {
        .x = data_of(pass, node->in),
        .y = model->data[node->out],
        .saved = model->saved + tensor_at(pass, node, 2),
        .weight = model->weights + tensor_at(pass, node, 0),
        .dy = model->gradient[node->out], /* and of node->in: they share it */
        .dweight = pass->gradient + tensor_at(pass, node, 0),
        .dbias = pass->gradient + tensor_at(pass, node, 1),
        .dresidual = node->residual == NN_NONE ? NULL : model->gradient[node->residual],
        .dresidual_into = node->residual_into,
    };

    nn_batchnorm_backward(&node->batchnorm, rows_of(pass, node), &args, &model->scratch);
}

static void backward_conv(const struct pass *pass, const struct nn_node *node)
{
    struct nn_model *model = pass->model;
    const size_t weight = tensor_at(pass, node, 0);

    nn_conv_backward_weights(&node->conv, pass->n, data_of(pass, node->in),
                             model->gradient[node->out], pass->gradient + weight, &model->scratch);
    if (node->in != 0)
        nn_conv_backward_data(&node->conv, pass->n, model->gradient[node->out],
                              model->weights + weight, model->gradient[node->in], node->in_into,
                              &model->scratch);
}

static void backward_linear(const struct pass *pass, const struct nn_node *node)
{
    struct nn_model *model = pass->model;
    const float *dy = model->gradient[node->out];
    const size_t weight = tensor_at(pass, node, 0), bias = tensor_at(pass, node, 1);

    nn_linear_backward_weights(&node->linear, pass->n, data_of(pass, node->in), dy,
                               pass->gradient + weight, pass->gradient + bias);
    nn_linear_backward_data(&node->linear, pass->n, dy, model->weights + weight,
                            model->gradient[node->in]);
}

static void backward_node(const struct pass *pass, int i)
{
    struct nn_model *model = pass->model;
    const struct nn_node *node = &model->graph.nodes[i];
    const float *dy = model->gradient[node->out];
    float *dx = model->gradient[node->in];

    switch (node->kind) {
    case NN_NODE_CONV:
        backward_conv(pass, node);
        break;
    case NN_NODE_BATCHNORM:
        backward_batchnorm(pass, node);
        break;
    case NN_NODE_MAXPOOL:
        nn_maxpool_backward(&node->pool, pass->n, model->taken[i], dy, dx);
        break;
    case NN_NODE_AVGPOOL:
        nn_avgpool_backward(&node->pool, pass->n, dy, dx);
        break;
    case NN_NODE_SHORTCUT:
        nn_shortcut_backward(&node->shortcut, pass->n, dy, dx);
        break;
    case NN_NODE_LINEAR:
        backward_linear(pass, node);
        break;
    }
}

static int forward(const struct pass *pass)
{
    begin_pass(pass);
    for (int i = 0; i < pass->model->graph.node_count; i++) {
        if (is_cancelled(pass))
            return 1;
        forward_node(pass, i);
    }
    return 0;
}

/* How much of the gradient is final when node i's backward is done: the place where its last
 * weights end. 0: it has none. */
static size_t finished_by(const struct nn_model *model, int i)
{
    const struct nn_graph *graph = &model->graph;
    const int end = i + 1 < graph->node_count ? graph->nodes[i + 1].tensor : graph->tensor_count;
    size_t floats = 0;

    for (int t = graph->nodes[i].tensor; t < end; t++)
        if (graph->tensors[t].kind != NN_TENSOR_RUNNING)
            floats = graph->tensors[t].offset + graph->tensors[t].count;
    return floats;
}

static int backward(const struct pass *pass, const struct nn_step *step)
{
    for (int i = pass->model->graph.node_count - 1; i >= 0; i--) {
        const size_t finished = finished_by(pass->model, i);

        if (is_cancelled(pass))
            return 1;
        backward_node(pass, i);
        if (step->ready != NULL && finished > 0)
            step->ready(step->context, finished);
    }
    return 0;
}

static int logits_value(const struct nn_model *model)
{
    return model->graph.value_count - 1;
}

int nn_model_train(struct nn_model *model, const struct nn_step *step, struct nn_score *score)
{
    const int logits = logits_value(model);
    const struct pass pass = {
        .model = model,
        .x = step->x,
        .n = step->n,
        .statistics = step->statistics,
        .gradient = step->gradient,
        .cancel = step->cancel,
    };
    const struct nn_loss loss = {
        .classes = model->graph.values[logits].c,
        .scale = step->scale,
        .label_smoothing = step->label_smoothing,
    };

    assert(model->training);
    if (forward(&pass) != 0)
        return 1;
    nn_loss_score(&loss, step->n, model->data[logits], step->labels, model->gradient[logits],
                  score);
    return backward(&pass, step);
}

void nn_model_update_running(struct nn_model *model, const float *statistics, float momentum)
{
    for (size_t i = 0; i < model->graph.running_count; i++)
        model->running[i] += momentum * (statistics[i] - model->running[i]);
}

int nn_model_evaluate(struct nn_model *model, const float *x, const int32_t *labels, int n,
                      float *logits, const volatile sig_atomic_t *cancel, struct nn_score *score)
{
    const int value = logits_value(model);
    const struct nn_loss loss = {.classes = model->graph.values[value].c};
    const struct pass pass = {.model = model, .x = x, .n = n, .cancel = cancel};

    if (forward(&pass) != 0)
        return 1;
    if (labels != NULL)
        nn_loss_score(&loss, n, model->data[value], labels, NULL, score);
    if (logits != NULL)
        memcpy(logits, model->data[value], (size_t)n * loss.classes * sizeof(*logits));
    return 0;
}
