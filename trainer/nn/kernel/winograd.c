#include "trainer/nn/kernel/winograd.h"

#include <assert.h>
#include <string.h>

#include "trainer/nn/kernel/kernels.h"

const struct nn_winograd *nn_winograd(size_t m, size_t stride)
{
    const size_t i = stride == 2 ? 2 : m == 4;

    assert((stride == 1 && m == 2) || (stride <= 2 && m == 4));
#if defined(__x86_64__)
    if (strcmp(nn_kernels()->name, "generic") != 0)
        return &nn_winograd_avx2[i];
#endif
    return &nn_winograd_generic[i];
}
