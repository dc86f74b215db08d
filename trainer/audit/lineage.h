/*
 * trainer/audit/lineage.h -- the launches that audit files tell of, and which of them made the
 * weights.
 *
 * Every launch of a run names its parent, the launch whose checkpoint it resumed from, and the step
 * of that checkpoint. So launches are a tree, and the surviving lineage is the way from its root to
 * the last launch: of each launch the steps up to where the next one resumed. What a launch did
 * beyond that was lost with it, and does not count.
 */
#ifndef AUDIT_LINEAGE_H
#define AUDIT_LINEAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/audit/record.h"

struct err;

/* What one rank recorded of a launch. */
struct audit_part {
    uint32_t rank;
    const char *name;          /* of its file, the caller's */
    const unsigned char *data; /* of the file, the caller's */
    size_t at, end;            /* its steps and its end in there */
    uint64_t last_step;        /* 0: none */
    struct audit_end how;      /* how.how 0: it was killed, or goes on */
};

struct audit_launch {
    struct audit_begin begin; /* of any of its ranks */
    struct audit_part *parts; /* (part_count) of the ranks that have a file, by rank */
    uint32_t part_count;
    long parent; /* its number; -1: not among these */
    bool has_children;
    uint64_t last_step;          /* that some rank recorded */
    uint64_t from_step, to_step; /* set by trace: what survived of it is (from_step, to_step] */
};

struct audit_lineage {
    struct audit_launch *launches;
    size_t count;
    size_t *chain; /* (chain_count) numbers of the launches that survived, oldest first */
    size_t chain_count;
    size_t torn;      /* files whose last record is not whole */
    const char *name; /* of the first file with a launch */
};
/** Accepts all-zero. */
void audit_lineage_release(struct audit_lineage *lineage);

/** Take a file's launches over; name and data stay the caller's until release. ERR_INPUT names what
 * is damaged, no audit, of another run than the files before it, or there twice. */
int audit_lineage_add(struct audit_lineage *lineage, const char *name, const void *data,
                      size_t bytes, struct err *err);

/** How many launches have an id that in hex begins with `id`; *found: one of them, if there are. */
size_t audit_lineage_find(const struct audit_lineage *lineage, const char *id, size_t *found);

/** Find the lineage that ends with a launch, by its number; AUDIT_LAST: with the last one.
 * step: of the checkpoint that it made and that is to be judged, 0: all that it did. ERR_INPUT: no
 * launches; with AUDIT_LAST a fork: another launch went on from the same run as well, to an end of
 * its own. */
#define AUDIT_LAST ((size_t)-1)
int audit_lineage_trace(struct audit_lineage *lineage, size_t end, uint64_t step, struct err *err);

/** The first digits of a launch's id. */
#define AUDIT_ID_CHARS 9 /* with the NUL */
void audit_lineage_id(const unsigned char launch[AUDIT_LAUNCH_BYTES], char id[AUDIT_ID_CHARS]);

#endif
