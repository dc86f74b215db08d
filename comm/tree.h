/*
 * comm/tree.h -- the canonical tree: the one shape in which micro-batches' results are added.
 *
 * IEEE addition commutes but does not associate, so a sum has the same bits on any number of ranks
 * exactly when it is always taken in the same shape. The tree of n leaves is: one leaf for n = 1;
 * else the tree of the first k leaves and the tree of the other n - k, added, with k the largest
 * power of two below n (the shape of RFC 6962's Merkle trees, section 2.1). A step with m present
 * micro-batches (always the first m) uses the tree of m leaves; it is what remains of the tree of n
 * > m leaves when the absent ones are passed over, so an absent leaf is absent, not zero.
 *
 * Pure arithmetic and memory; no MPI.
 */
#ifndef COMM_TREE_H
#define COMM_TREE_H

#include <stddef.h>
#include <stdint.h>

/* A run of leaves [begin, end). */
struct comm_leaves {
    uint32_t begin, end;
};

/** The lanes that rank `rank` of `ranks` owns out of `lanes`: floor(rank V / P) .. floor((rank + 1)
 * V / P) - 1; may be empty. */
struct comm_leaves comm_tree_share(uint32_t lanes, int rank, int ranks);

#define COMM_TREE_PIECES_MAX 64

/** Cut `own` (within [0, leaves)) into the maximal subtrees of the tree of `leaves` leaves, from
 * left to right. Returns how many, at most COMM_TREE_PIECES_MAX. */
int comm_tree_pieces(uint32_t leaves, struct comm_leaves own,
                     struct comm_leaves pieces[COMM_TREE_PIECES_MAX]);

/*
 * A rank's own part of a step's sum: takes the leaves it owns, one after the other from left to
 * right, and holds one partial sum per piece in the end. Its vectors are the caller's memory, made
 * once, for the worst step.
 */
struct comm_tree_sum {
    size_t count;           /* floats of a vector */
    uint32_t leaves;        /* of this step's tree */
    struct comm_leaves own; /* this step's, of this rank */
    uint32_t next;          /* the next leaf to come */
    size_t pushed;          /* floats of that leaf that have been added already */
    int held; /* partial sums on the stack: vector[0 .. held) stand for held_leaves[0 .. held) */
    struct comm_leaves held_leaves[COMM_TREE_PIECES_MAX];
    float *vector[COMM_TREE_PIECES_MAX];
    int vectors; /* there are */
};

/** Vectors that a rank needs that owns `own` of `lanes`: the most partial sums alive at once, the
 * leaf in work included, over the full step and every shorter one. */
int comm_tree_sum_buffers(uint32_t lanes, struct comm_leaves own);

/** Floats from one vector of `count` floats to the next: whole cache lines. */
size_t comm_tree_stride(size_t count);

/** memory: comm_tree_sum_buffers() vectors, comm_tree_stride(count) floats apart; it stays the
 * caller's. */
void comm_tree_sum_init(struct comm_tree_sum *sum, uint32_t lanes, struct comm_leaves own,
                        size_t count, float *memory);

/** Begin a step with `leaves` present leaves; own is cut to them. */
void comm_tree_sum_begin(struct comm_tree_sum *sum, uint32_t leaves, struct comm_leaves own);
/** Where the next leaf's vector is to be written (count floats). */
float *comm_tree_sum_leaf(struct comm_tree_sum *sum);
/** The leaf's first `floats` floats have been written: add what is new among them to what the leaf
 * completes. After the rank's last leaf the partial sums are final as far as this was called. */
void comm_tree_sum_push_until(struct comm_tree_sum *sum, size_t floats);
/** The whole leaf has been written. */
void comm_tree_sum_push(struct comm_tree_sum *sum);
/** No leaf will come any more; the partial sums are worth nothing. Nothing is added. */
void comm_tree_sum_give_up(struct comm_tree_sum *sum);

#endif
