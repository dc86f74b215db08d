/*
 * trainer/optim/schedule.h -- the learning rate as a function of samples seen.
 *
 * Counted in samples, not steps, so that it does not change with the batch. Linear warm-up from 0
 * (Goyal et al. 2017, arXiv:1706.02677, section 2.2), then constant, cosine to 0 (Loshchilov and
 * Hutter 2017, arXiv:1608.03983, without restarts) or steps (times gamma at each of the given
 * epochs).
 */
#ifndef OPTIM_SCHEDULE_H
#define OPTIM_SCHEDULE_H

#include <stdint.h>

enum optim_schedule_kind { OPTIM_CONSTANT, OPTIM_COSINE, OPTIM_STEP };

#define OPTIM_SCHEDULE_STEPS_MAX 32

struct optim_schedule {
    enum optim_schedule_kind kind;
    double lr;             /* the peak */
    double warmup_samples; /* 0: none */
    double total_samples;  /* epochs x samples of an epoch */
    double gamma;          /* OPTIM_STEP */
    int step_count;
    double step_samples[OPTIM_SCHEDULE_STEPS_MAX]; /* ascending */
};

/** The rate for the step that begins after `seen` samples. In warm-up: lr * (seen + images) /
 * warmup_samples with the step's own images, so that the first step is not lost on a rate of 0. */
double optim_schedule_lr(const struct optim_schedule *schedule, uint64_t seen, uint32_t images);

#endif
