/*
 * tests/golden/logits.c -- logits MODEL.safetensors NAME SIZE CLASSES N INPUT.f32 LOGITS.f32: make
 * N pictures from an integer hash, and write them (N, SIZE, SIZE, 3) and what the model file's
 * network NAME makes of them (N, CLASSES), as little-endian floats. check_torchvision.py compares.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "trainer/weights/safetensors.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/tensors.h"

static float hashed(uint32_t i)
{
    uint32_t h = i * 0x9E3779B1u;

    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return (float)((h ^ (h >> 16)) >> 8) * 0x1p-22f - 2; /* [-2, 2), as normalised pictures are */
}

static int write_floats(const char *path, const float *x, size_t count, struct err *err)
{
    FILE *const file = fopen(path, "wb");
    int rc = 0;

    if (file == NULL || fwrite(x, sizeof x[0], count, file) != count)
        rc = -1;
    if (file != NULL && fclose(file) != 0)
        rc = -1;
    return rc == 0 ? 0 : err_set(err, ERR_IO, "cannot write '%s'", path);
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

static int run(char *const *argv, struct err *err)
{
    const int size = atoi(argv[3]), classes = atoi(argv[4]), n = atoi(argv[5]);
    const struct nn_model_options options = {
        .name = argv[2], .classes = classes, .image_size = size, .micro_batch_max = n};
    const size_t inputs = (size_t)n * size * size * 3, outputs = (size_t)n * classes;
    float *const x = calloc(inputs, sizeof(float)), *const logits = calloc(outputs, sizeof(float));
    struct nn_model *const model = nn_model_new(&options, err);
    int rc = -1;

    if (model == NULL || x == NULL || logits == NULL || restore(model, argv[1], err) < 0)
        goto out;
    for (size_t i = 0; i < inputs; i++)
        x[i] = hashed((uint32_t)i);
    nn_model_evaluate(model, x, NULL, n, logits, NULL, NULL);
    rc = write_floats(argv[6], x, inputs, err) < 0 ? -1
                                                   : write_floats(argv[7], logits, outputs, err);
out:
    nn_model_free(model);
    free(x);
    free(logits);
    return rc;
}

int main(int argc, char **argv)
{
    struct err err = {0};

    if (argc != 8) {
        fprintf(stderr, "usage: logits MODEL NAME SIZE CLASSES N INPUT LOGITS\n");
        return 2;
    }
    nn_threads_init(1);
    if (run(argv, &err) < 0) {
        fprintf(stderr, "logits: %s\n", err.msg);
        return 1;
    }
    return 0;
}
