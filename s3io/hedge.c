#include "s3io/hedge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MULTIPLE 2.0 /* of the 95th percentile */
#define RENEWED  16  /* samples between two computations of it: a sort is not free */

void s3_hedge_init(struct s3_hedge *hedge)
{
    *hedge = (struct s3_hedge){.min_s = S3_HEDGE_MIN_S};
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
    double limit_s = 0;

    pthread_mutex_lock(&hedge->mutex);
    if ((hedge->second + 1) * S3_HEDGE_SHARE <= hedge->first)
        limit_s = class_of(hedge, bytes)->limit_s;
    pthread_mutex_unlock(&hedge->mutex);
    return limit_s > 0 ? fmax(limit_s, hedge->min_s) : 0;
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

void s3_hedge_note(struct s3_hedge *hedge, uint64_t bytes, double seconds, bool hedged)
{
    struct s3_hedge_class *class;

    pthread_mutex_lock(&hedge->mutex);
    class = class_of(hedge, bytes);
    hedge->first++;
    hedge->second += hedged;
    if (seconds > 0) {
        class->seconds[class->count++ % S3_HEDGE_MEMORY] = (float)seconds;
        if (class->count % RENEWED == 0 && class->count >= S3_HEDGE_SAMPLES)
            class->limit_s = limit_of(class);
    }
    pthread_mutex_unlock(&hedge->mutex);
}
