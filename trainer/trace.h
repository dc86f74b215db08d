/*
 * trainer/trace.h -- --trace FILE: what all threads of all ranks did when, in one file.
 *
 * Each rank records for itself (base/trace.h). At the end rank 0 takes one rank's spans after the
 * other and writes them on its own clock, by two measurements of the ranks' clocks, at the
 * beginning and at the end. A trace is for looking at: where it cannot be written that is a
 * warning, and the run is what it would have been.
 */
#ifndef TRAIN_TRACE_H
#define TRAIN_TRACE_H

#include <stddef.h>

#include "comm/clock.h"

struct comm;
struct err;
struct train_run;

struct train_trace {
    struct comm_clock begun;
    double origin_s; /* rank 0's: when recording began */
};

/** Spans that a thread keeps: 4 MiB, 6 MB of the file. A step of ResNet-18 has 55 for each of a
 * rank's micro-batches, one of ResNet-50 130. */
#define TRAIN_TRACE_SPANS 65536

/** What the rings of a rank take at most: those of its main thread, of the communication thread and
 * of the decode threads of training and of an evaluation. Threads that fetch record a span for
 * megabytes, so theirs stay nearly empty. */
size_t train_trace_bytes(int decode_threads);

/** Begin to record, if --trace asks for it. ERR_USAGE, agreed, where the file could not be made.
 * Collective. */
int train_trace_begin(struct train_run *run, struct err *err);

/** The end of a run that came to rc and err: write what was recorded, and forget it. Nobody records
 * any more: all threads that did have ended. Collective, but where ranks end without a word to each
 * other (a failure that is not agreed) nothing is done. Returns rc; or -1, not agreed, with
 * ERR_PEER where a rank is gone. */
int train_trace_end(struct train_run *run, int rc, struct err *err);

#endif
