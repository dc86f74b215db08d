/*
 * trainer/bench/layer.h -- one convolution of a network, computed alone with operands as the
 * network gives them.
 */
#ifndef BENCH_LAYER_H
#define BENCH_LAYER_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/nn/conv/conv.h"
#include "trainer/nn/kernel/scratch.h"

struct err;

#define BENCH_DIRECTIONS 3

/* A convolution, and how often the network has one of this shape. */
struct bench_layer {
    char name[64]; /* of the first: "layer1.0.conv2" */
    struct nn_conv conv;
    int count;
    bool first; /* reads the pictures: there is no backward to its data */
    bool raw;   /* reads another convolution's result, through its batch norm */
    bool joins; /* reads a block's end that is not written down: the two ends, added */
    bool adds;  /* backward to its data adds to the gradient of another reader */
    bool masks; /* ... which is whole then, and goes through ReLU and batch norm before it */
};

/** The distinct convolutions of a network (nn_model_names) in its order. The caller frees them. */
struct bench_layer *bench_layers_find(const char *model, int image_size, size_t *count);

/** Is this direction part of training? */
bool bench_layer_has(const struct bench_layer *layer, enum nn_direction direction);

/** "forward", "backward-data", "backward-weights". */
const char *bench_direction_name(enum nn_direction direction);

/** Floating-point operations of a direct convolution, a product and its addition counted as two;
 * the same in each direction. */
double bench_layer_flops(const struct bench_layer *layer, int n);

/* Buffers that are large enough for every layer of a network. */
struct bench_operands {
    bool plain; /* rows as they are in memory, and nothing done to the result */
    int n;      /* images */
    float *x, *other, *y, *dx, *dy, *w, *dw;
    float *channels; /* (C): batch norm's factors */
    float *sums;
    uint32_t *block_rows;
    struct nn_scratch scratch;
};

/** ERR_MEMORY. Release in any case; it accepts all-zero. */
int bench_operands_init(struct bench_operands *operands, const struct bench_layer *layers,
                        size_t count, struct err *err);
void bench_operands_release(struct bench_operands *operands);

/** Compute it once. */
void bench_layer_run(const struct bench_layer *layer, enum nn_direction direction,
                     const struct bench_operands *operands);

#endif
