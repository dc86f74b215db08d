/*
 * tests/bench/losses.c -- losses MODEL WEIGHTS.safetensors SIZE BATCH STEPS LR WARMUP X.f32 Y.i32:
 * train the network MODEL from these weights on these pictures, (STEPS, BATCH, SIZE, SIZE, 3), and
 * labels, (STEPS, BATCH), and print each step's loss on a line. SGD with momentum 0.9 and weight
 * decay 1e-4; the rate grows to LR over WARMUP steps and stays there. compare_loss does the same
 * with PyTorch.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "trainer/weights/safetensors.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/optim/sgd.h"
#include "trainer/tensors.h"

struct training {
    struct nn_model *model;
    struct optim_sgd sgd;
    float *x; /* of one step */
    int32_t *labels;
    float *gradient, *momentum, *statistics;
    size_t floats; /* of x */
    int batch, steps, warmup;
    float lr;
};

static void training_release(struct training *t)
{
    nn_model_free(t->model);
    free(t->x);
    free(t->labels);
    free(t->gradient);
    free(t->momentum);
    free(t->statistics);
}

static int restore(struct nn_model *model, const char *path, struct err *err)
{
    struct safetensors file = {0};
    int rc = safetensors_open(&file, path, err);

    if (rc == 0)
        rc = train_tensors_restore(&file, path, model, NULL, NULL, err);
    safetensors_close(&file);
    return rc;
}

static int training_init(struct training *t, char *const *argv, struct err *err)
{
    const int size = atoi(argv[3]);
    const struct nn_model_options options = {.name = argv[1],
                                             .classes = nn_model_default_classes(argv[1]),
                                             .image_size = size,
                                             .micro_batch_max = atoi(argv[4]),
                                             .training = true};

    t->batch = options.micro_batch_max;
    t->steps = atoi(argv[5]);
    t->lr = strtof(argv[6], NULL);
    t->warmup = atoi(argv[7]);
    t->sgd = (struct optim_sgd){.momentum = 0.9f, .weight_decay = 1e-4f};
    t->model = nn_model_new(&options, err);
    if (t->model == NULL || restore(t->model, argv[2], err) < 0)
        return -1;
    t->floats = (size_t)t->batch * (size_t)size * (size_t)size * 3;
    t->x = nn_floats_new(t->floats, err);
    t->labels = calloc((size_t)t->batch, sizeof t->labels[0]);
    t->gradient = nn_floats_new(nn_model_weight_count(t->model), err);
    t->momentum = nn_floats_new(nn_model_weight_count(t->model), err);
    t->statistics = nn_floats_new(nn_model_running_count(t->model), err);
    if (t->x == NULL || t->labels == NULL || t->gradient == NULL || t->momentum == NULL ||
        t->statistics == NULL)
        return err_set(err, ERR_MEMORY, "no memory for %d pictures", t->batch);
    return 0;
}

static int take_step(struct training *t, int i, struct err *err)
{
    const struct nn_step step = {.x = t->x,
                                 .labels = t->labels,
                                 .n = t->batch,
                                 .scale = 1.0f / (float)t->batch,
                                 .statistics = t->statistics,
                                 .gradient = t->gradient};
    const float lr = i + 1 < t->warmup ? t->lr * (float)(i + 1) / (float)t->warmup : t->lr;
    struct nn_score score = {0};

    nn_model_train(t->model, &step, &score);
    if (score.nonfinite != 0)
        return err_set(err, ERR_INTERNAL, "the loss of step %d is not finite", i + 1);
    optim_sgd_step(&t->sgd, lr, nn_model_weights(t->model), t->momentum, t->gradient,
                   nn_model_weight_count(t->model));
    nn_model_update_running(t->model, t->statistics, NN_RUNNING_MOMENTUM);
    printf("%.9g\n", (double)score.loss / NN_LOSS_UNIT / t->batch);
    return 0;
}

static int train(struct training *t, char *const *argv, struct err *err)
{
    FILE *const x = fopen(argv[8], "rb"), *const labels = fopen(argv[9], "rb");
    int rc = x == NULL || labels == NULL ? err_set(err, ERR_IO, "cannot open the pictures") : 0;

    for (int i = 0; i < t->steps && rc == 0; i++) {
        if (fread(t->x, sizeof t->x[0], t->floats, x) != t->floats ||
            fread(t->labels, sizeof t->labels[0], (size_t)t->batch, labels) != (size_t)t->batch)
            rc = err_set(err, ERR_INPUT, "the pictures end before step %d", i + 1);
        else
            rc = take_step(t, i, err);
    }
    if (x != NULL)
        fclose(x);
    if (labels != NULL)
        fclose(labels);
    return rc;
}

int main(int argc, char **argv)
{
    const char *const threads = getenv("OMP_NUM_THREADS");
    struct training t = {0};
    struct err err = {0};
    int rc;

    if (argc != 10) {
        fprintf(stderr, "usage: losses MODEL WEIGHTS SIZE BATCH STEPS LR WARMUP X Y\n");
        return 2;
    }
    nn_threads_init(threads == NULL || atoi(threads) < 1 ? 1 : atoi(threads));
    rc = training_init(&t, argv, &err);
    if (rc == 0)
        rc = train(&t, argv, &err);
    if (rc < 0)
        fprintf(stderr, "losses: %s\n", err.msg);
    training_release(&t);
    return rc < 0 ? 1 : 0;
}
