/* tests/audit/play.h -- a run played through the order alone, in memory: what ranks would record.
 */
#ifndef TESTS_AUDIT_PLAY_H
#define TESTS_AUDIT_PLAY_H

#include "base/buf.h"
#include "trainer/audit/judge.h"

#define PLAY_RANKS_MAX 16

struct play {
    struct data_order order;
    struct buf files[PLAY_RANKS_MAX]; /* of rank 0, 1, ... as they lie on a disk */
    struct audit_begin begin;         /* the newest launch's */
    uint32_t launches;
    uint64_t step; /* steps done */
    /* A fault to be played: at this step (0: none) rank `rank` does this. */
    uint64_t bad_step;
    uint32_t bad_rank;
    enum { PLAY_SKIP, PLAY_REPEAT, PLAY_LOSE, PLAY_OTHER, PLAY_LANE } bad;
    bool has_erred; /* the fault was played, in a step with pictures of that rank */
};

void play_release(struct play *play);

/** Every rank of a new launch writes its begin, behind what is whole of its file. It resumes at a
 * step of `parent` (NULL: from the start). */
void play_launch(struct play *play, uint32_t ranks, const struct audit_begin *parent, uint64_t step,
                 uint32_t generation);
/** The next step of ranks [0, ranks): the launch's, or fewer where the step is cut short by a kill.
 * The step is not done until play->step says so. every: a picture in so many is left out. */
void play_step(struct play *play, uint32_t ranks, uint32_t every);
void play_end(struct play *play, enum audit_how how);
/** Cut a file to so many bytes. */
void play_tear(struct play *play, uint32_t rank, size_t bytes);

/** Judge all files; the faults, or UINT64_MAX with err where they are not even read. verdict may be
 * NULL. */
uint64_t play_judge(const struct play *play, struct audit_verdict *verdict, struct err *err);

#endif
