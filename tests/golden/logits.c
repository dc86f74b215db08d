/*
 * tests/golden/logits.c -- logits WEIGHTS NAME SIZE CLASSES HEAD N INPUT.f32 LOGITS.f32: make N
 * pictures from an integer hash, and write them (N, SIZE, SIZE, 3) and what the network NAME makes
 * of them with these weights, safetensors or .pth (N, CLASSES), as little-endian floats.
 * check_torchvision.py compares.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/pretrained.h"

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

static int run(char *const *argv, struct err *err)
{
    const int size = atoi(argv[3]), classes = atoi(argv[4]), n = atoi(argv[6]);
    struct nn_model_options options = {
        .name = argv[2], .classes = classes, .image_size = size, .micro_batch_max = n};
    const size_t inputs = (size_t)n * size * size * 3, outputs = (size_t)n * classes;
    float *const x = calloc(inputs, sizeof(float)), *const logits = calloc(outputs, sizeof(float));
    struct nn_model *model = NULL;
    int rc = -1;

    if (nn_tuning_parse_head(&options.tuning, argv[2], argv[5], err) == 0)
        model = nn_model_new(&options, err);
    if (model == NULL || x == NULL || logits == NULL ||
        train_pretrained_load(model, argv[1], TRAIN_HEAD_KEEP, 0, err) < 0)
        goto out;
    for (size_t i = 0; i < inputs; i++)
        x[i] = hashed((uint32_t)i);
    nn_model_evaluate(model, x, NULL, n, logits, NULL, NULL);
    rc = write_floats(argv[7], x, inputs, err) < 0 ? -1
                                                   : write_floats(argv[8], logits, outputs, err);
out:
    nn_model_free(model);
    free(x);
    free(logits);
    return rc;
}

int main(int argc, char **argv)
{
    struct err err = {0};

    if (argc != 9) {
        fprintf(stderr, "usage: logits WEIGHTS NAME SIZE CLASSES HEAD N INPUT LOGITS\n");
        return 2;
    }
    nn_threads_init(1);
    if (run(argv, &err) < 0) {
        fprintf(stderr, "logits: %s\n", err.msg);
        return 1;
    }
    return 0;
}
