/*
 * trainer/audit.h -- --audit FILE: the pictures of each step, as each rank trained them.
 *
 * Each rank appends to a file of its own (audit/record.h has its bytes): FILE of rank 0,
 * FILE.rank-N of rank N, on its own host. A step's record is written when the rank's lanes are done
 * and before the ranks agree that the step is, so a checkpoint never holds a step that is not on
 * record. A proof with holes is none: a record that cannot be written is an error of every rank.
 */
#ifndef TRAIN_AUDIT_H
#define TRAIN_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/audit/log.h"

struct data_batch;
struct err;
struct train_run;

struct train_audit {
    bool on;
    struct audit_log log;
    uint64_t *bad; /* (micro-batch) places of pictures that were left out */
};

/** This launch of the run gets its id, known to every rank: run->position.launch; its parent's was
 * there before. Then, with --audit, open the files. Collective; ERR_USAGE, ERR_IO, agreed. */
int train_audit_begin(struct train_run *run, struct err *err);

/** A step is begun; this rank has trained a lane of it (the batch that data_stream_next gave, or
 * the feature cache's); all its lanes are done: ERR_IO. Not collective. Nothing without --audit. */
void train_audit_step(struct train_run *run);
void train_audit_lane(struct train_run *run, uint32_t lane, const struct data_batch *batch);
int train_audit_write(struct train_run *run, struct err *err);

/** The run has finished. Collective; ERR_IO, agreed. */
int train_audit_finish(struct train_run *run, struct err *err);

/** It ends otherwise: the last whole step is on record, if that can be written. */
void train_audit_close(struct train_run *run, const struct err *why);

/** Accepts all-zero. */
void train_audit_release(struct train_run *run);

#endif
