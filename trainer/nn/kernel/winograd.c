#include "trainer/nn/kernel/winograd.h"

#include <assert.h>
#include <string.h>

#include "trainer/nn/kernel/kernels.h"

const struct nn_winograd *nn_winograd(size_t m)
{
    const size_t i = m == 4;

    assert(m == 2 || m == 4);
#if defined(__x86_64__)
    if (strcmp(nn_kernels()->name, "generic") != 0)
        return &nn_winograd_avx2[i];
#endif
    return &nn_winograd_generic[i];
}
