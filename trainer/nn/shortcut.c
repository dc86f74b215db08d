#include "trainer/nn/shortcut.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define STRIDE 2

struct nn_shortcut nn_shortcut_make(int c, int h, int w, int k)
{
    assert(k >= c);
    return (struct nn_shortcut){
        .c = c,
        .h = h,
        .w = w,
        .k = k,
        .oh = (h + STRIDE - 1) / STRIDE,
        .ow = (w + STRIDE - 1) / STRIDE,
    };
}

void nn_shortcut_forward(const struct nn_shortcut *shortcut, int n, const float *x, float *y)
{
    const size_t c = (size_t)shortcut->c, k = (size_t)shortcut->k;
    const int h = shortcut->h, w = shortcut->w, oh = shortcut->oh, ow = shortcut->ow;

#pragma omp parallel for
    for (int job = 0; job < n * oh; job++) {
        const float *in = x + ((size_t)(job / oh) * h + (size_t)(job % oh) * STRIDE) * w * c;
        float *out = y + (size_t)job * ow * k;

        for (int ox = 0; ox < ow; ox++, in += STRIDE * c, out += k) {
            memcpy(out, in, c * sizeof(*out));
            memset(out + c, 0, (k - c) * sizeof(*out));
        }
    }
}

void nn_shortcut_backward(const struct nn_shortcut *shortcut, int n, const float *dy, float *dx)
{
    const size_t c = (size_t)shortcut->c, k = (size_t)shortcut->k;
    const int h = shortcut->h, w = shortcut->w, oh = shortcut->oh, ow = shortcut->ow;

#pragma omp parallel for
    for (int i = 0; i < n; i++) {
        float *image = dx + (size_t)i * h * w * c;

        memset(image, 0, (size_t)h * w * c * sizeof(*image));
        for (int oy = 0; oy < oh; oy++)
            for (int ox = 0; ox < ow; ox++)
                memcpy(image + ((size_t)oy * STRIDE * w + (size_t)ox * STRIDE) * c,
                       dy + (((size_t)i * oh + (size_t)oy) * ow + (size_t)ox) * k,
                       c * sizeof(*image));
    }
}
