/* trainer/optim/schedule.c -- see schedule.h. */
#include "trainer/optim/schedule.h"

#include <assert.h>
#include <math.h>

/* From 1 at the end of the warm-up to 0 at the end of the run. */
static double cosine(const struct optim_schedule *schedule, double seen)
{
    const double length = schedule->total_samples - schedule->warmup_samples;
    const double done = seen - schedule->warmup_samples;

    if (done <= 0)
        return 1;
    if (done >= length)
        return 0;
    return 0.5 * (1 + cos(acos(-1.0) * done / length));
}

static double steps(const struct optim_schedule *schedule, double seen)
{
    double factor = 1;

    assert(schedule->step_count >= 0 && schedule->step_count <= OPTIM_SCHEDULE_STEPS_MAX);
    for (int i = 0; i < schedule->step_count && seen >= schedule->step_samples[i]; i++)
        factor *= schedule->gamma;
    return factor;
}

double optim_schedule_lr(const struct optim_schedule *schedule, uint64_t seen, uint32_t images)
{
    const double at = (double)seen, end = at + (double)images;
    double lr = schedule->lr;

    if (schedule->kind == OPTIM_COSINE)
        lr *= cosine(schedule, at);
    else if (schedule->kind == OPTIM_STEP)
        lr *= steps(schedule, at);
    /* The step in which the warm-up ends has the full rate. */
    if (end < schedule->warmup_samples)
        lr *= end / schedule->warmup_samples;
    return lr;
}
