#include "s3io/backoff.h"

#include <math.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/entropy.h"

#define SLICE_S      0.1
#define DOUBLING_MAX 30

double s3_backoff_s(int tries, double first_s, double max_s)
{
    const int doubled = tries <= DOUBLING_MAX ? tries - 1 : DOUBLING_MAX;
    uint32_t random;

    entropy_fill(&random, sizeof random);
    return fmin(max_s, ldexp(first_s, doubled)) * (double)random / 4294967296.0;
}

static bool is_set(const volatile sig_atomic_t *flag)
{
    return flag != NULL && __atomic_load_n(flag, __ATOMIC_RELAXED); /* a thread's, too */
}

bool s3_backoff_wait(double seconds, const volatile sig_atomic_t *cancel,
                     const volatile sig_atomic_t *stop)
{
    const double until = clock_now_s() + seconds;

    while (clock_now_s() < until && !is_set(cancel) && !is_set(stop))
        clock_sleep_s(fmin(SLICE_S, until - clock_now_s()));
    return !is_set(cancel) && !is_set(stop);
}
