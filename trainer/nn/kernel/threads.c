#include "trainer/nn/kernel/threads.h"

#include <cblas.h>
#include <omp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/nn/kernel/kernels.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#define MXCSR_DENORMALS_ARE_ZERO 0x0040u
#define MXCSR_FLUSH_TO_ZERO      0x8000u
#endif

void nn_threads_flush_denormals(void)
{
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() | MXCSR_DENORMALS_ARE_ZERO | MXCSR_FLUSH_TO_ZERO);
#elif defined(__aarch64__)
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (1u << 24))); /* FZ covers inputs too */
#endif
}

void nn_threads_init(int threads)
{
    openblas_set_num_threads(1);
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
    nn_threads_flush_denormals();
#pragma omp parallel
    nn_threads_flush_denormals();
}

static char id[256];

/* OpenBLAS has a say where the kernels are the portable ones, or where it is asked for. */
static void write_id(void)
{
    const char *forced = getenv("CONVOY_CONV");
    const bool is_forced = forced != NULL && *forced != '\0';
    char version[32] = "";
    int length;

    length = snprintf(id, sizeof(id), "convoy %s numerics %d %s %s, kernels %s%s%.16s",
                      CONVOY_VERSION, NN_NUMERICS_VERSION, CONVOY_COMPILER, CONVOY_BUILD_TYPE,
                      nn_kernels()->name, is_forced ? " conv " : "", is_forced ? forced : "");
    if (nn_kernels_level() > 0 && !(is_forced && strcmp(forced, "gemm") == 0))
        return;
    if (sscanf(openblas_get_config(), "OpenBLAS %31s", version) != 1)
        strcpy(version, "unknown"); /* else as in "OpenBLAS 0.3.21 DYNAMIC_ARCH ..." */
    snprintf(id + length, sizeof(id) - (size_t)length, ", OpenBLAS %s %s", version,
             openblas_get_corename());
}

const char *nn_numerics_id(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, write_id);
    return id;
}
