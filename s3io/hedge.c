#include "s3io/hedge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define MULTIPLE 2.0 /* of the 95th percentile */
#define RENEWED  16  /* samples between two computations of it: a sort is not free */

void s3_hedge_init(struct s3_hedge *hedge)
{
    *hedge = (struct s3_hedge){.min_s = S3_HEDGE_MIN_S, .quiet_s = S3_HEDGE_QUIET_S};
    pthread_mutex_init(&hedge->mutex, NULL);
}

void s3_hedge_release(struct s3_hedge *hedge)
{
    pthread_mutex_destroy(&hedge->mutex);
}

static struct s3_hedge_class *class_of(struct s3_hedge *hedge, uint64_t bytes)
{
    size_t class = 0;

    for (; bytes > 1 && class < S3_HEDGE_CLASSES - 1; bytes /= 2)
        class ++;
    return &hedge->classes[class];
}

double s3_hedge_after_s(struct s3_hedge *hedge, uint64_t bytes)
{
    double limit_s;

    pthread_mutex_lock(&hedge->mutex);
    limit_s = class_of(hedge, bytes)->limit_s;
    pthread_mutex_unlock(&hedge->mutex);
    return limit_s > 0 ? fmax(limit_s, hedge->min_s) : 0;
}

/* Where all requests are slow at a time, all ask: the bucket of credit is for them together. */
bool s3_hedge_take(struct s3_hedge *hedge)
{
    bool taken;

    pthread_mutex_lock(&hedge->mutex);
    taken = hedge->credit >= S3_HEDGE_SHARE && clock_now_s() >= hedge->quiet_until_s;
    if (taken)
        hedge->credit -= S3_HEDGE_SHARE;
    pthread_mutex_unlock(&hedge->mutex);
    return taken;
}

void s3_hedge_quiet(struct s3_hedge *hedge)
{
    pthread_mutex_lock(&hedge->mutex);
    hedge->quiet_until_s = clock_now_s() + hedge->quiet_s;
    pthread_mutex_unlock(&hedge->mutex);
}

static int by_value(const void *left, const void *right)
{
    const float a = *(const float *)left, b = *(const float *)right;

    return (a > b) - (a < b);
}

static double limit_of(const struct s3_hedge_class *class)
{
    const size_t count = class->count < S3_HEDGE_MEMORY ? class->count : S3_HEDGE_MEMORY;
    float sorted[S3_HEDGE_MEMORY];

    memcpy(sorted, class->seconds, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_value);
    return MULTIPLE * (double)sorted[(count - 1) * 95 / 100];
}

void s3_hedge_note(struct s3_hedge *hedge, uint64_t bytes, double seconds)
{
    struct s3_hedge_class *class;

    pthread_mutex_lock(&hedge->mutex);
    class = class_of(hedge, bytes);
    if (hedge->credit < S3_HEDGE_SHARE * S3_HEDGE_BURST)
        hedge->credit++;
    if (seconds > 0) {
        class->seconds[class->count++ % S3_HEDGE_MEMORY] = (float)seconds;
        if (class->count % RENEWED == 0 && class->count >= S3_HEDGE_SAMPLES)
            class->limit_s = limit_of(class);
    }
    pthread_mutex_unlock(&hedge->mutex);
}
