/*
 * launcher/job.h -- a training job: find its hosts, check the options, and lead it or follow.
 */
#ifndef LAUNCH_JOB_H
#define LAUNCH_JOB_H

struct err;
struct launch_options;
struct launch_sagemaker;

/** Run the job to its end with `program` (convoy-train's path). Returns 0 with the exit status of
 * `convoy train` in *status, the same on every host: the ranks' own, or 128 + the signal that ended
 * one; else -1. Either way the platform's failure file is written when the status is not 0.
 * sagemaker may be NULL. Call once, from a process with one thread. */
int launch_job_run(const struct launch_options *options, const struct launch_sagemaker *sagemaker,
                   const char *program, int *status, struct err *err);

/** Become one rank of somebody else's mpirun: returns only on failure, -1. rank: ours there. */
int launch_job_become_rank(const struct launch_options *options,
                           const struct launch_sagemaker *sagemaker, const char *program, int rank,
                           struct err *err);

/** Our rank under a foreign mpirun or srun, as its environment tells; -1: there is none. */
int launch_job_foreign_rank(void);

#endif
