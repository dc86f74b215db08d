#include "trainer/nn/linear.h"

#include <string.h>

#include "trainer/nn/kernel/scratch.h"

struct nn_linear nn_linear_make(int c, int k)
{
    return (struct nn_linear){.conv = nn_conv_make(c, 1, 1, k, 1, 1)};
}

static struct nn_source plain(const float *x, int c)
{
    return (struct nn_source){.kind = NN_SOURCE_PLAIN, .c = (size_t)c, .x = x};
}

void nn_linear_forward(const struct nn_linear *linear, int n, const float *x, const float *w,
                       const float *bias, float *y, const struct nn_scratch *scratch)
{
    const struct nn_conv_forward args = {
        .conv = &linear->conv,
        .n = n,
        .x = plain(x, linear->conv.c),
        .w = w,
        .y = {.kind = NN_SINK_FINISH,
              .c = (size_t)linear->conv.k,
              .y = y,
              .bias = bias,
              .relu = linear->relu},
    };

    nn_conv_forward(&args, scratch);
}

/* A NaN in y lets the gradient pass: the loss shows it. */
void nn_linear_mask(const struct nn_linear *linear, int n, const float *y, float *dy)
{
    const size_t count = (size_t)n * (size_t)linear->conv.k;

    for (size_t i = 0; i < count && linear->relu; i++)
        dy[i] = y[i] <= 0 ? 0 : dy[i];
}

void nn_linear_backward_data(const struct nn_linear *linear, int n, const float *dy, const float *w,
                             float *dx, const struct nn_scratch *scratch)
{
    const struct nn_conv_backward_data args = {
        .conv = &linear->conv,
        .n = n,
        .dy = plain(dy, linear->conv.k),
        .w = w,
        .dx = {.kind = NN_SINK_PLAIN, .c = (size_t)linear->conv.c, .y = dx},
    };

    nn_conv_backward_data(&args, scratch);
}

void nn_linear_backward_weights(const struct nn_linear *linear, int n, const float *x,
                                const float *dy, float *dw, float *dbias,
                                const struct nn_scratch *scratch)
{
    const struct nn_conv_backward_weights args = {
        .conv = &linear->conv,
        .n = n,
        .x = plain(x, linear->conv.c),
        .dy = plain(dy, linear->conv.k),
        .dw = dw,
    };

    nn_conv_backward_weights(&args, scratch);
    memset(dbias, 0, (size_t)linear->conv.k * sizeof(*dbias));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < linear->conv.k; j++)
            dbias[j] += dy[(size_t)i * (size_t)linear->conv.k + (size_t)j];
}
