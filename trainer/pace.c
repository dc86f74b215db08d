#include "trainer/pace.h"

#include <stdlib.h>
#include <string.h>

void train_pace_add(struct train_pace *pace, double seconds)
{
    pace->seconds[pace->count++ % TRAIN_PACE_KEPT] = seconds;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double train_pace_median(const struct train_pace *pace)
{
    const size_t kept = pace->count < TRAIN_PACE_KEPT ? pace->count : TRAIN_PACE_KEPT;
    double sorted[TRAIN_PACE_KEPT];

    if (kept == 0)
        return 0;
    memcpy(sorted, pace->seconds, kept * sizeof *sorted);
    qsort(sorted, kept, sizeof *sorted, by_size);
    return sorted[kept / 2];
}

double train_pace_deadline(const struct train_pace *pace, double asked_s)
{
    const double seconds = TRAIN_PACE_FACTOR * train_pace_median(pace);

    if (asked_s > 0)
        return asked_s;
    return seconds > TRAIN_PACE_S_MIN ? seconds : TRAIN_PACE_S_MIN;
}
