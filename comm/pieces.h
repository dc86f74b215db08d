/*
 * comm/pieces.h -- a step's partial sums over all ranks, and the additions that make one sum of
 * them.
 *
 * A rank ends its leaves with one piece per maximal subtree of them (comm/tree.h). The pieces of a
 * host's ranks are added up in shared memory as far as the tree allows: to the host's parts, the
 * maximal subtrees of all leaves of the host. The parts of all hosts are added up at the owners of
 * chunks. Everybody can work out who has what, so no message describes another.
 *
 * Pure arithmetic; no MPI.
 */
#ifndef COMM_PIECES_H
#define COMM_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/tree.h"

struct comm_layout;

/* A partial sum: number `number` of rank or host `of`. */
struct comm_piece {
    int of, number;
    struct comm_leaves leaves;
};

/* Add piece `from` to piece `to`, numbers in a list of pieces. In the order of the list of merges
 * both sides are complete when their turn comes. */
struct comm_merge {
    int to, from;
};

struct comm_pieces {
    uint32_t lanes, leaves; /* leaves: of the step that is planned; 0: none yet */
    bool joined;            /* a host's parts become one, whatever the tree says */

    struct comm_piece *local; /* of this host's ranks, from left to right */
    struct comm_merge *local_merges;
    int *local_parts; /* numbers in `local` of what remains: this host's parts */
    int local_count, local_merge_count, local_part_count;

    struct comm_piece *parts; /* of all hosts, from left to right */
    struct comm_merge *merges;
    int part_count, merge_count; /* after all merges parts[0] is the sum */
};

/** Room for the worst step of `lanes` lanes. */
void comm_pieces_init(struct comm_pieces *pieces, const struct comm_layout *layout, uint32_t lanes,
                      bool joined);
/** Accepts all-zero. */
void comm_pieces_release(struct comm_pieces *pieces);

/** Plan a step of `leaves` leaves (1 .. lanes) for the ranks of `host`. */
void comm_pieces_plan(struct comm_pieces *pieces, const struct comm_layout *layout, int host,
                      uint32_t leaves);

/** The most parts that all hosts together have in a step of 1 .. lanes leaves. */
int comm_pieces_parts_max(const struct comm_layout *layout, uint32_t lanes, bool joined);

#endif
