/*
 * trainer/nn/kernel/winograd_generic.c -- the transforms in plain C, four channels at a time: a
 * vector register of any CPU, or four scalars.
 */
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/winograd.h"

#define LANES         4
#define FMA(a, b, c)  ((a) * (b) + (c))
#define FNMA(a, b, c) ((c) - (a) * (b))
#define ALL(x)        ((vec){x, x, x, x})
#define STREAM(p, v)  STORE(p, v)
#define STREAM_END()  ((void)0)
#define TABLE         nn_winograd_generic

typedef float vec __attribute__((vector_size(16)));

static inline void transpose(vec *square)
{
    for (int i = 0; i < LANES; i++) {
        for (int j = 0; j < i; j++) {
            const float x = square[i][j];

            square[i][j] = square[j][i];
            square[j][i] = x;
        }
    }
}

#include "trainer/nn/kernel/winograd_transforms.h"
