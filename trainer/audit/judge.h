/*
 * trainer/audit/judge.h -- was each picture trained exactly once an epoch?
 *
 * Two questions that do not depend on each other: counted, each picture of a whole epoch came once
 * (without the short last step, if that is dropped: as many as the full steps hold), and of an
 * epoch's part at most once; and each micro-batch of each step had the pictures that the order
 * gives it. A picture that could not be decoded had its turn when it was left out.
 */
#ifndef AUDIT_JUDGE_H
#define AUDIT_JUDGE_H

#include "base/buf.h"
#include "trainer/audit/lineage.h"

struct data_index;
struct err;

struct audit_epoch {
    uint32_t epoch;
    uint64_t first_step, last_step; /* of the run, from 1: those that survived */
    uint64_t trained, left_out;
    uint64_t lost, repeated; /* pictures; lost: of a whole epoch */
    bool whole;
};

struct audit_verdict {
    uint64_t faults; /* 0: exactly once */
    struct buf told; /* the first AUDIT_TOLD_MAX of them, a line each */
    char first[256]; /* the first of them */
    uint64_t steps, trained, left_out;
    struct audit_epoch *epochs; /* (epoch_count) in order */
    size_t epoch_count;
};
#define AUDIT_TOLD_MAX 20
/** Accepts all-zero. */
void audit_verdict_release(struct audit_verdict *verdict);

/** Judge a lineage that was traced. index names pictures by their keys (NULL: by their places in
 * the index). Memory: a bit for each picture. ERR_MEMORY; faults are no error. */
int audit_judge(const struct audit_lineage *lineage, const struct data_index *index,
                struct audit_verdict *verdict, struct err *err);

#endif
