/*
 * trainer/audit/record.h -- the bytes of an audit file: which pictures a rank trained, step by
 * step.
 *
 * A file is the 8 bytes "CVYAUD1\n" and frames behind one another; all numbers are little-endian:
 *
 *     length of the body (4) | CRC-32C of these 4 bytes (4) | body | CRC-32C of the body (4)
 *
 * A writer that is killed leaves a last frame that is not whole (a machine that loses its power
 * perhaps zeros): such a tail is torn, and what is before it counts. A frame that is all there and
 * does not match its sums is damage. A body begins with its kind (1):
 *
 *     1 begin  drop last (1) | order version, rank, ranks, generation (4 each) | resumed step,
 *              started: microseconds since 1970 by rank 0 (8 each) | launch, parent (16 each) |
 *              samples n, chunk G, seed (8 each) | batch B, lanes V (4 each) | fingerprint (32);
 *              of an order with parts also: count of parts (4) | for each: first sample, samples
 *              (8 each), first lane, lanes (4 each)
 *     2 step   epoch (4) | step of the epoch, from 0; step of the run, from 1 (8 each) | count of
 *              lanes (4) | for each: lane, trained, left out (4 each), index places (W each)
 *     3 end    how (1) | steps done (8)
 *
 * Each launch of a rank writes a begin, a step for each step that it worked on, even where it had
 * no lane in it, and an end if it comes to one. W is the fewest bytes that hold n - 1. A launch is
 * one start of all ranks, by a random id; its parent wrote the checkpoint that it resumed from.
 */
#ifndef AUDIT_RECORD_H
#define AUDIT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "trainer/data/index/order.h"

struct buf;

#define AUDIT_MAGIC          "CVYAUD1\n"
#define AUDIT_MAGIC_BYTES    8
#define AUDIT_LAUNCH_BYTES   16
#define AUDIT_BODY_BYTES_MAX ((uint32_t)1 << 28)

struct audit_begin {
    unsigned char launch[AUDIT_LAUNCH_BYTES], parent[AUDIT_LAUNCH_BYTES]; /* parent zeros: unknown,
                                                                             or not resumed */
    uint32_t generation, rank, ranks;
    uint64_t resumed_step; /* steps that were done before; 0: from the start */
    uint64_t started_us;
    struct data_order order;    /* as read: parts NULL, part_count as recorded */
    const unsigned char *parts; /* as read: what is recorded of them */
    unsigned char fingerprint[DIGEST_SHA256_BYTES]; /* of the training index */
};

struct audit_step {
    uint32_t epoch;
    uint64_t epoch_step, step;
    uint32_t lanes;
    const unsigned char *at, *end; /* what is left of its lanes */
};

struct audit_lane {
    uint32_t lane, trained, left_out;
    const unsigned char *samples; /* (trained + left_out) index places of width bytes */
};

enum audit_how { AUDIT_FINISHED = 1, AUDIT_STOPPED = 2, AUDIT_FAILED = 3 };

struct audit_end {
    enum audit_how how;
    uint64_t step; /* steps done: what was begun after it does not count */
};

enum audit_kind { AUDIT_BEGIN = 1, AUDIT_STEP = 2, AUDIT_END = 3 };

struct audit_frame {
    enum audit_kind kind;
    struct audit_begin begin; /* of the three the one of the kind */
    struct audit_step step;
    struct audit_end end;
};

/** Whether two launches are of one run: the same pictures in the same order. */
bool audit_begin_same_run(const struct audit_begin *a, const struct audit_begin *b);

/** The order's parts as read. Heap; NULL where it has none. */
struct data_order_part *audit_begin_parts(const struct audit_begin *begin);

/** Bytes of an index place. */
int audit_width(uint64_t samples);

/* Bodies, appended to an empty buf. A step is begun, then given its lanes. */
void audit_begin_encode(struct buf *body, const struct audit_begin *begin);
void audit_step_encode(struct buf *body, uint32_t epoch, uint64_t epoch_step, uint64_t step);
/** samples: those trained, in their order; bad: those that were left out. */
void audit_step_add(struct buf *body, int width, uint32_t lane, const uint64_t *samples,
                    uint32_t trained, const uint64_t *bad, uint32_t left_out);
void audit_end_encode(struct buf *body, const struct audit_end *end);
/** The body as a frame. */
void audit_frame_append(struct buf *out, const struct buf *body);

enum audit_read {
    AUDIT_READ_END,
    AUDIT_READ_FRAME,
    AUDIT_READ_TORN,   /* a frame that is not all there, or zeros to the end */
    AUDIT_READ_DAMAGED /* all there, and not as its sums say or of no meaning */
};

/** Read the frame at *at of a file's bytes and go behind it. *at of 0 is behind the magic: that too
 * may be torn or another. What the frame says points into data. */
enum audit_read audit_read(const unsigned char *data, size_t bytes, size_t *at,
                           struct audit_frame *frame);

/** The next lane of a step; false where there is none. The samples' width was checked. */
bool audit_step_lane(struct audit_step *step, int width, struct audit_lane *lane);
uint64_t audit_lane_sample(const struct audit_lane *lane, int width, uint32_t i);

#endif
