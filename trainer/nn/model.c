#include "trainer/nn/model.h"

#include <assert.h>
#include <limits.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/trace.h"
#include "trainer/nn/graph.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/loss.h"
#include "trainer/nn/memory.h"
#include "trainer/nn/pass.h"
#include "trainer/nn/resnet.h"

#define MICRO_BATCH_MAX 65536
#define IMAGE_SIZE_MAX  4096
#define CLASSES_MAX     (1 << 20)

struct nn_model {
    struct nn_graph graph;
    int micro_batch_max;
    bool training;
    float *weights, *running;
    struct nn_memory memory;
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

int nn_model_default_classes(const char *name)
{
    return nn_model_default_image_size(name) == 32 ? 10 : 1000;
}

/* --- a model --- */

/* Pixels of a micro-batch are counted in int. No value has more of them than the pictures. */
static int check_pixels(const struct nn_model_options *options, struct err *err)
{
    const int most = INT_MAX / (options->image_size * options->image_size);

    if (options->micro_batch_max <= most)
        return 0;
    return err_set(err, ERR_USAGE,
                   "micro-batch %d: a network takes up to %d images of %d pixels at once",
                   options->micro_batch_max, most, options->image_size);
}

int nn_model_check(const struct nn_model_options *options, struct err *err)
{
    const struct nn_resnet *const resnet = nn_resnet_find(options->name);

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
    return check_pixels(options, err);
}

static size_t feature_count(const struct nn_graph *graph)
{
    const int boundary = nn_graph_boundary(graph);

    return boundary == NN_NONE || graph->first_measured == 0
               ? 0
               : nn_value_floats(&graph->values[boundary]);
}

int nn_model_memory(const struct nn_model_options *options, struct nn_model_memory *memory,
                    struct err *err)
{
    struct nn_graph graph = {0};
    struct nn_memory_size size;

    if (nn_model_check(options, err) < 0)
        return -1;
    nn_resnet_build(nn_resnet_find(options->name), options->image_size, options->classes,
                    &options->tuning, &graph);
    size = nn_memory_size(&graph, options->micro_batch_max, options->training);
    *memory = (struct nn_model_memory){
        .weights = (graph.weight_count + graph.running_count) * sizeof(float),
        .trained = graph.trained_count * sizeof(float),
        .gradient =
            (graph.trained_count + graph.running_count - graph.unmeasured_count) * sizeof(float),
        .values = (size.values + size.features) * sizeof(float),
        .working = (size.norms + size.sums + size.packed + size.shared) * sizeof(float) +
                   size.block_rows * sizeof(uint32_t),
        .working_of_thread = size.private * sizeof(float),
        .features = feature_count(&graph) * sizeof(float),
    };
    nn_graph_release(&graph);
    return 0;
}

struct nn_model *nn_model_new(const struct nn_model_options *options, struct err *err)
{
    struct nn_model *model;

    if (nn_model_check(options, err) < 0)
        return NULL;
    if ((model = calloc(1, sizeof(*model))) == NULL)
        abort();
    model->micro_batch_max = options->micro_batch_max;
    model->training = options->training;
    nn_resnet_build(nn_resnet_find(options->name), options->image_size, options->classes,
                    &options->tuning, &model->graph);
    model->weights = nn_floats_new(model->graph.weight_count, err);
    model->running = nn_floats_new(model->graph.running_count, err);
    if (model->weights == NULL || model->running == NULL ||
        nn_memory_init(&model->memory, &model->graph, options->micro_batch_max, options->training,
                       err) < 0) {
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
    nn_memory_release(&model->memory);
    nn_graph_release(&model->graph);
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
    return model->graph.trained_count;
}

size_t nn_model_measured_count(const struct nn_model *model)
{
    return model->graph.running_count - model->graph.unmeasured_count;
}

size_t nn_model_feature_count(const struct nn_model *model)
{
    return feature_count(&model->graph);
}

void nn_model_frozen_changed(struct nn_model *model)
{
    for (int i = 0; i < model->graph.node_count; i++)
        model->memory.packed[i].ready = false;
}

/* --- one micro-batch --- */

/* A model has scratch for the threads that there were when it was made; it does not use more. */
static void begin(const struct nn_model *model, int n)
{
    (void)n;
    assert(n >= 1 && n <= model->micro_batch_max);
    if (omp_get_max_threads() > model->memory.scratch.threads)
        omp_set_num_threads(model->memory.scratch.threads);
#pragma omp parallel
    nn_threads_flush_denormals();
}

static int logits_value(const struct nn_model *model)
{
    return model->graph.value_count - 1;
}

static struct nn_pass evaluation(const struct nn_model *model, int n,
                                 const volatile sig_atomic_t *cancel)
{
    return (struct nn_pass){.graph = &model->graph,
                            .memory = &model->memory,
                            .weights = model->weights,
                            .running = model->running,
                            .n = n,
                            .cancel = cancel};
}

int nn_model_features(struct nn_model *model, const float *x, int n, float *features,
                      const volatile sig_atomic_t *cancel)
{
    const size_t count = nn_model_feature_count(model);
    const size_t floats = nn_value_floats(&model->graph.values[0]);
    const int most = nn_memory_frozen_images(&model->graph, n), runs = (n + most - 1) / most;
    const int once = (n + runs - 1) / runs;

    assert(count > 0);
    begin(model, n);
    for (int at = 0; at < n; at += once) {
        struct nn_pass pass = evaluation(model, n - at < once ? n - at : once, cancel);

        pass.x = x + (size_t)at * floats;
        pass.frozen_only = true;
        if (nn_pass_forward(&pass) != 0)
            return 1;
        memcpy(features + (size_t)at * count, model->memory.data[nn_graph_boundary(&model->graph)],
               (size_t)pass.n * count * sizeof(*features));
    }
    return 0;
}

/* Frozen layers first, where they give features. Returns 0, or 1 when cancelled. */
static int feature_first(struct nn_model *model, struct nn_pass *pass)
{
    if (pass->features != NULL || nn_model_feature_count(model) == 0)
        return 0;
    pass->features = model->memory.features;
    return nn_model_features(model, pass->x, pass->n, model->memory.features, pass->cancel);
}

static struct nn_pass training(const struct nn_model *model, const struct nn_step *step)
{
    return (struct nn_pass){
        .graph = &model->graph,
        .memory = &model->memory,
        .weights = model->weights,
        .running = model->running,
        .x = step->x,
        .features = step->features,
        .n = step->n,
        .statistics = step->statistics,
        .gradient = step->gradient,
        .cancel = step->cancel,
        .need = step->need,
        .context = step->context,
    };
}

int nn_model_forward(struct nn_model *model, const struct nn_step *step, struct nn_score *score)
{
    const int logits = logits_value(model);
    struct nn_pass pass = training(model, step);
    const struct nn_loss loss = {
        .classes = model->graph.values[logits].c,
        .scale = step->scale,
        .label_smoothing = step->label_smoothing,
        .class_weights = step->class_weights,
    };
    double begun;

    assert(model->training && (step->features == NULL || nn_model_feature_count(model) > 0));
    begin(model, step->n);
    if (feature_first(model, &pass) != 0 || nn_pass_forward(&pass) != 0)
        return 1;
    begun = trace_begin();
    nn_loss_score(&loss, step->n, model->memory.data[logits], step->labels,
                  model->memory.gradient[logits], score);
    trace_end("loss", "loss", begun);
    return 0;
}

int nn_model_backward(struct nn_model *model, const struct nn_step *step)
{
    struct nn_pass pass = training(model, step);

    if (pass.features == NULL && nn_model_feature_count(model) > 0)
        pass.features = model->memory.features; /* as forward left them */
    return nn_pass_backward(&pass, step->ready, step->context);
}

int nn_model_train(struct nn_model *model, const struct nn_step *step, struct nn_score *score)
{
    return nn_model_forward(model, step, score) != 0 ? 1 : nn_model_backward(model, step);
}

void nn_model_update_running(struct nn_model *model, const float *statistics, float momentum)
{
    float *const running = model->running + model->graph.unmeasured_count;

    for (size_t i = 0; i < nn_model_measured_count(model); i++)
        running[i] += momentum * (statistics[i] - running[i]);
}

static int evaluate(struct nn_model *model, struct nn_pass *pass, const int32_t *labels,
                    float *logits, struct nn_score *score)
{
    const int value = logits_value(model);
    const float *const found = model->memory.data[value];
    const struct nn_loss loss = {.classes = model->graph.values[value].c};

    begin(model, pass->n);
    if (feature_first(model, pass) != 0 || nn_pass_forward(pass) != 0)
        return 1;
    if (labels != NULL)
        nn_loss_score(&loss, pass->n, found, labels, NULL, score);
    if (logits != NULL)
        memcpy(logits, found, (size_t)pass->n * (size_t)loss.classes * sizeof(*logits));
    return 0;
}

int nn_model_evaluate(struct nn_model *model, const float *x, const int32_t *labels, int n,
                      float *logits, const volatile sig_atomic_t *cancel, struct nn_score *score)
{
    struct nn_pass pass = evaluation(model, n, cancel);

    pass.x = x;
    return evaluate(model, &pass, labels, logits, score);
}

int nn_model_evaluate_features(struct nn_model *model, const float *features, const int32_t *labels,
                               int n, float *logits, const volatile sig_atomic_t *cancel,
                               struct nn_score *score)
{
    struct nn_pass pass = evaluation(model, n, cancel);

    assert(nn_model_feature_count(model) > 0);
    pass.features = features;
    return evaluate(model, &pass, labels, logits, score);
}
