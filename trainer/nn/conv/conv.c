#include "trainer/nn/conv/conv.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/nn/conv/algorithm.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/size.h"

/* In the order in which they are asked. What CONVOY_CONV names is asked before them. */
static const struct nn_conv_algorithm *const algorithms[] = {
    &nn_conv_winograd4, &nn_conv_winograd4s2, &nn_conv_direct, &nn_conv_winograd2, &nn_conv_gemm,
};
#define ALGORITHMS (sizeof(algorithms) / sizeof(*algorithms))

struct nn_conv nn_conv_make(int c, int h, int w, int k, int r, int stride)
{
    const int pad = r / 2;
    const struct nn_conv conv = {
        .c = c,
        .h = h,
        .w = w,
        .k = k,
        .r = r,
        .stride = stride,
        .pad = pad,
        .oh = (h + 2 * pad - r) / stride + 1,
        .ow = (w + 2 * pad - r) / stride + 1,
    };

    assert(c > 0 && k > 0 && conv.oh > 0 && conv.ow > 0 && r % 2 == 1);
    return conv;
}

bool nn_conv_is_same(const struct nn_conv *a, const struct nn_conv *b)
{
    return a->c == b->c && a->h == b->h && a->w == b->w && a->k == b->k && a->r == b->r &&
           a->stride == b->stride;
}

struct nn_conv nn_conv_mirror(const struct nn_conv *conv)
{
    return (struct nn_conv){
        .c = conv->k,
        .h = conv->oh,
        .w = conv->ow,
        .k = conv->c,
        .r = conv->r,
        .stride = 1,
        .pad = conv->r - 1 - conv->pad,
        .oh = conv->h,
        .ow = conv->w,
    };
}

float *nn_conv_filters(const struct nn_conv_packed *packed, const struct nn_scratch *scratch)
{
    return packed != NULL ? packed->floats : scratch->shared;
}

bool nn_conv_must_pack(struct nn_conv_packed *packed)
{
    const bool must = packed == NULL || !packed->ready;

    if (packed != NULL)
        packed->ready = true;
    return must;
}

static const struct nn_conv_algorithm *find(const char *name)
{
    for (size_t i = 0; i < ALGORITHMS; i++)
        if (strcmp(algorithms[i]->name, name) == 0)
            return algorithms[i];
    return NULL;
}

static const struct nn_conv_algorithm *forced; /* by CONVOY_CONV, or NULL */

static void read_environment(void)
{
    const char *name = getenv("CONVOY_CONV");

    if (name != NULL && *name != '\0')
        forced = find(name);
}

int nn_conv_check(struct err *err)
{
    const char *name = getenv("CONVOY_CONV");

    if (name != NULL && *name != '\0' && find(name) == NULL)
        return err_set(
            err, ERR_USAGE,
            "CONVOY_CONV is '%s': one of winograd4, winograd4s2, winograd2, direct, gemm, or unset",
            name);
    return 0;
}

/* Where the kernels are the portable ones, OpenBLAS knows the CPU better. */
static bool own_kernels(void)
{
    return strcmp(nn_kernels()->name, "generic") != 0;
}

static const struct nn_conv_algorithm *choose(const struct nn_conv *conv,
                                              enum nn_direction direction)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, read_environment);
    if (forced != NULL && forced->takes(conv, direction))
        return forced;
    for (size_t i = 0; i < ALGORITHMS && own_kernels(); i++)
        if (algorithms[i]->takes(conv, direction) && conv->c >= algorithms[i]->channels_min)
            return algorithms[i];
    return &nn_conv_gemm;
}

const char *nn_conv_algorithm_name(const struct nn_conv *conv, enum nn_direction direction)
{
    return choose(conv, direction)->name;
}

void nn_conv_forward(const struct nn_conv_forward *args, const struct nn_scratch *scratch)
{
    assert(args->x.c == (size_t)args->conv->c && args->y.c == (size_t)args->conv->k);
    choose(args->conv, NN_FORWARD)->forward(args, scratch);
}

void nn_conv_backward_data(const struct nn_conv_backward_data *args,
                           const struct nn_scratch *scratch)
{
    assert(args->dy.c == (size_t)args->conv->k && args->dx.c == (size_t)args->conv->c);
    choose(args->conv, NN_BACKWARD_DATA)->backward_data(args, scratch);
}

void nn_conv_backward_weights(const struct nn_conv_backward_weights *args,
                              const struct nn_scratch *scratch)
{
    assert(args->x.store == NULL);
    choose(args->conv, NN_BACKWARD_WEIGHTS)->backward_weights(args, scratch);
}

struct nn_conv_size nn_conv_size(const struct nn_conv *conv, enum nn_direction direction, int n)
{
    return choose(conv, direction)->size(conv, direction, n);
}

/* Fewer images may be cut in another way, which needs more: every number of them is asked. */
struct nn_conv_size nn_conv_size_most(const struct nn_conv *conv, enum nn_direction direction,
                                      int n)
{
    const struct nn_conv_algorithm *const algorithm = choose(conv, direction);
    struct nn_conv_size most = {0};

    for (int i = 1; i <= n; i++) {
        const struct nn_conv_size here = algorithm->size(conv, direction, i);

        most.shared = nn_size_most(most.shared, here.shared);
        most.private = nn_size_most(most.private, here.private);
        most.filters = nn_size_most(most.filters, here.filters);
        most.blocks = nn_size_most(most.blocks, here.blocks);
    }
    return most;
}
