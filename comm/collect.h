/* comm/collect.h -- bytes of any length from one rank to rank 0. */
#ifndef COMM_COLLECT_H
#define COMM_COLLECT_H

struct buf;
struct comm;
struct err;

/**
 * Move the bytes of rank `from` to rank 0, appended there to `bytes`. Called by these two only, at
 * the same time; by one of them if they are the same, and then nothing is done.
 *
 * ERR_PEER. ERR_MEMORY on rank 0 where there is no room for them: they are not sent then, the other
 * rank knows nothing of it, and comm can be used on.
 */
int comm_collect(struct comm *comm, int from, struct buf *bytes, struct err *err);

#endif
