/*
 * base/trace.h -- what each thread did when: spans of time, kept in memory until somebody takes
 * them.
 *
 * A thread records into a ring of its own, without a lock; when it is full the oldest spans make
 * room, and how many did is told. A span is recorded as a whole when it ends, so that a ring that
 * went round holds no beginning without an end. While nothing is traced a call costs one branch.
 *
 * Tracing is of the whole process, and what is timed lies in folders that share nothing else: the
 * switch and the list of rings are the one state here that is not handed from caller to caller.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct err;

/** Whether spans are recorded; for those who would prepare something for one. Set by trace_start
 * and trace_stop alone. */
extern bool trace_on;

/** Record from now on, in rings of so many spans (sizeof(struct trace_span) bytes each, taken when
 * a thread's first span comes). Before the threads begin that shall record. */
void trace_start(size_t spans_per_thread);
/** Record no more. What was recorded stays. */
void trace_stop(void);
/** Forget all. Other threads that recorded have ended. */
void trace_release(void);

#define TRACE_THREAD_CHARS 32

/** Name the calling thread's track. One of an ended thread of this name is continued, so that
 * threads that come and go take no new memory; where there is another thread of the name, this one
 * is "NAME 2". Does nothing while nothing is traced. */
void trace_thread(const char *name);

/** A copy that stays as long as the process, the same for equal texts: names for spans that are not
 * literals. */
const char *trace_intern(const char *text);

struct trace_span {
    const char *category, *name; /* kept as they are: literals, or trace_intern's */
    double begun_s, ended_s;     /* clock_now_s; ended 0: now */
    const char *argument;        /* what `value` is; NULL: nothing. Kept too */
    int64_t value;
    /* Spans of one thread lie within each other or apart, but for those that are `async`: they may
     * overlap, each id on a line of its own, where spans of one id do not. */
    bool async;
    uint64_t id;
};

void trace_put(const struct trace_span *span);

/** The time, or 0 while nothing is traced. */
double trace_begin(void);
/** A span from begun_s (trace_begin's) till now. */
void trace_end(const char *category, const char *name, double begun_s);

/** All that was recorded, as base/trace_pack.h describes it, into an empty buf. Nobody records
 * meanwhile: other threads have ended, or wait for this one. ERR_MEMORY. */
int trace_take(struct buf *out, struct err *err);

#endif
