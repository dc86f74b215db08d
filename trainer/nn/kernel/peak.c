#include "trainer/nn/kernel/peak.h"

#include <stdlib.h>
#include <time.h>

#include "trainer/nn/kernel/kernels.h"

#define SAMPLES        9
#define SAMPLE_SECONDS 5e-4 /* long against the clock's resolution and a timer interrupt */
#define ROUNDS_MAX     ((size_t)1 << 30)

static double seconds_of_thread(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double nn_kernels_peak_gflops(void)
{
    const struct nn_kernels *kernels = nn_kernels();
    double gflops[SAMPLES];
    size_t rounds = 1000;

    /* Finding the number of rounds also gives the core time to settle on the clock that it has with
     * vectors this wide. */
    for (int i = 0; i < SAMPLES;) {
        const double begin = seconds_of_thread();
        const double flops = kernels->spin(rounds), seconds = seconds_of_thread() - begin;

        if (seconds < SAMPLE_SECONDS && rounds < ROUNDS_MAX)
            rounds *= 2;
        else
            gflops[i++] = flops / seconds * 1e-9;
    }
    qsort(gflops, SAMPLES, sizeof(*gflops), by_value);
    return gflops[SAMPLES / 2];
}
