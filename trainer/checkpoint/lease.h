/*
 * trainer/checkpoint/lease.h -- who may commit below an s3:// prefix: one job, and of it one
 * generation.
 *
 * The lease is the object "convoy-lease.json" below the prefix (holder.h). It is taken and renewed
 * by conditional PUT (If-None-Match: *, or If-Match with the ETag seen), so that of two who want it
 * one gets it. Its holder renews it every LEASE_RENEW_S by a thread, and lets it lapse by dying:
 * LEASE_LAPSE_S after its Last-Modified by the server's clock (a response's Date) another job may
 * take it. No clock of a client is compared with another's.
 *
 * A holder that could not renew it for LEASE_LAPSE_S - LEASE_MARGIN_S by its own monotonic clock,
 * counted from before the request, does not commit. The margin is for times in whole seconds, and
 * for the commit's own request; one that arrives even later than that does no harm, since what it
 * makes visible has an older generation than whatever the next holder commits. Source of the
 * scheme: Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file
 * cache consistency", SOSP 1989.
 */
#ifndef CHECKPOINT_LEASE_H
#define CHECKPOINT_LEASE_H

#include <signal.h>
#include <stdbool.h>

struct err;
struct lease;

#define LEASE_NAME     "convoy-lease.json"
#define LEASE_RENEW_S  5.0
#define LEASE_LAPSE_S  20.0
#define LEASE_MARGIN_S 5.0 /* where lapse_s is another, a quarter of that */

#define LEASE_JOB_CHARS 512

/** The job's id: CONVOY_JOB, else TRAINING_JOB_ARN (SageMaker), SLURM_JOB_ID, PBS_JOBID, else
 * random: then this start is a job of its own. */
void lease_job(char job[LEASE_JOB_CHARS]);

struct lease_options {
    const char *place; /* s3://BUCKET[/PREFIX] */
    const char *job;   /* cut at LEASE_JOB_CHARS - 1 bytes */
    const char *host;  /* for messages of others */
    int generation;    /* the highest that is known; ours is above it, and above the lease's */
    double renew_s, lapse_s;             /* 0: the constants; tests set shorter ones */
    const volatile sig_atomic_t *cancel; /* ends the taking with ERR_STOPPED; may be NULL */
};

/**
 * Take the lease of a prefix and keep it renewed by a thread of its own.
 *
 * At once where there is none, where it was released or has lapsed, and where it is this job's.
 * Another job's is watched: it is taken when it has lapsed (one info line meanwhile); when it is
 * renewed instead its holder is alive, and that is ERR_USAGE, naming prefix, job and host. A server
 * that is ill is asked again for 45 s.
 *
 * Returns 1 with *lease; 0 where the server knows no conditional PUT (one warning; *lease is NULL,
 * which every function below takes for "always held"); -1 with err: ERR_USAGE, ERR_INPUT (the
 * permission that is missing; an object of the name that is no lease), ERR_NET, ERR_STOPPED.
 */
int lease_take(struct lease **lease, const struct lease_options *options, struct err *err);

/** The generation that this holder took: above all that were there. */
int lease_generation(const struct lease *lease);
/** Let the lease say a higher one: it is renewed at once, so that whoever takes it goes above. */
void lease_raise(struct lease *lease, int generation);

/** 0: the lease is held now, commit. -1: ERR_PEER, it is lost for good (as lease_lost says);
 * ERR_NET: it could not be renewed lately, nor within wait_s from now. Any thread. */
int lease_check(struct lease *lease, double wait_s, struct err *err);

/** Whether somebody else has it: then err (ERR_PEER) says who. Does not block. Any thread. */
bool lease_lost(struct lease *lease, struct err *err);

/** End the thread; give the lease back if it is held, so that the next job need not wait: the
 * object stays, marked as released, for its generation. Waits for a request in work LEASE_END_S at
 * most. Accepts NULL. */
#define LEASE_END_S 1.0
void lease_release(struct lease *lease);

#endif
