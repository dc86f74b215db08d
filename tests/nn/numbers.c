#include "tests/nn/numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/nn/model.h"

#define PROBES 100

void numbers_fill(uint32_t seed, float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t h = ((uint32_t)i + seed * 7919u) * 0x9E3779B1u;

        h = (h ^ (h >> 15)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 13)) * 0xC2B2AE35u;
        x[i] = (float)((h ^ (h >> 16)) >> 8) * 0x1p-23f - 1;
    }
}

float *numbers_new(uint32_t seed, size_t count)
{
    float *x = malloc((count + 1) * sizeof(*x));

    if (x == NULL)
        abort();
    numbers_fill(seed, x, count);
    return x;
}

void numbers_fill_tensors(const struct nn_tensor *tensors, size_t count, float *weights,
                          float *running)
{
    for (size_t t = 0; t < count; t++) {
        const struct nn_tensor *tensor = &tensors[t];
        float *x = (tensor->kind == NN_TENSOR_RUNNING ? running : weights) + tensor->offset;
        const bool centred = strstr(tensor->name, "mean") != NULL ||
                             strstr(tensor->name, "bias") != NULL || tensor->dims > 1;
        const float size =
            tensor->dims == 4 ? sqrtf(6.0f / (float)(tensor->count / tensor->size[1])) : 0.1f;

        numbers_fill((uint32_t)t, x, tensor->count);
        for (size_t i = 0; i < tensor->count; i++)
            x[i] = x[i] * size + (centred ? 0.0f : 1.0f);
    }
}

double numbers_dot(const float *x, const float *y, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

int numbers_differ(const char *what, const float *x, const float *expected, size_t count,
                   double tolerance)
{
    double largest = 0, error = 0;

    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)x[i] - expected[i]);

        largest = fabs(expected[i]) > largest ? fabs(expected[i]) : largest;
        error = !(difference <= error) ? difference : error; /* a NaN sticks */
    }
    if (error <= tolerance * largest)
        return 0;
    fprintf(stderr, "%s: off by %.3g of %.3g\n", what, error, largest);
    return 1;
}

int numbers_gradient_differs(const char *what, double (*objective)(void *), void *context, float *x,
                             const float *dx, size_t count, float h, double tolerance)
{
    double largest = 0;

    for (size_t i = 0; i < count; i++)
        largest = fabs(dx[i]) > largest ? fabs(dx[i]) : largest;
    for (size_t i = 0; i < count; i += count / PROBES + 1) {
        const float middle = x[i], above = middle + h, below = middle - h;
        double slope;

        x[i] = above;
        slope = objective(context);
        x[i] = below;
        slope = (slope - objective(context)) / ((double)above - below);
        x[i] = middle;
        if (!(fabs(slope - dx[i]) <= tolerance * largest)) {
            fprintf(stderr, "%s: at %zu of %zu the slope is %.6g, backward says %.6g\n", what, i,
                    count, slope, dx[i]);
            return 1;
        }
    }
    return 0;
}
