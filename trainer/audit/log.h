/*
 * trainer/audit/log.h -- a rank's audit file while it trains.
 *
 * A step is one write(2), made before the ranks agree that the step is done: so whatever a
 * checkpoint holds stands in the files of all ranks, if they outlive it. What processes do to each
 * other (SIGKILL included) loses nothing; a machine that loses its power may lose the last seconds,
 * which a judge then names.
 */
#ifndef AUDIT_LOG_H
#define AUDIT_LOG_H

#include "base/buf.h"
#include "trainer/audit/record.h"

struct err;

struct audit_log {
    char *path;
    int fd; /* -1: none */
    int width;
    struct buf body, frame; /* of the record in work */
};

/** The file of a rank of --audit PATH: PATH of rank 0, PATH.rank-N of rank N. Heap. */
char *audit_log_path(const char *path, uint32_t rank);

/**
 * Open the file of begin->rank, made with its folder if missing, and add a begin. What is there
 * stays, but for a torn end. Waits some seconds while another process writes it.
 *
 * -1: ERR_USAGE: another run's (other pictures, other options), one that has finished where this
 * one begins anew, damaged, none of ours, or being written; ERR_IO.
 */
int audit_log_open(struct audit_log *log, const char *path, const struct audit_begin *begin,
                   struct err *err);
/** Accepts all-zero but for fd -1. */
void audit_log_release(struct audit_log *log);

/** Begin a step's record, add the rank's lanes as they come, and write it. ERR_IO: there would be a
 * hole, so the run has to end. */
void audit_log_step(struct audit_log *log, uint32_t epoch, uint64_t epoch_step, uint64_t step);
void audit_log_lane(struct audit_log *log, uint32_t lane, const uint64_t *samples, uint32_t trained,
                    const uint64_t *bad, uint32_t left_out);
int audit_log_write(struct audit_log *log, struct err *err);

/** Write the end, and wait until all of the file is on its disk. */
int audit_log_end(struct audit_log *log, const struct audit_end *end, struct err *err);

#endif
