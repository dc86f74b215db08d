/*
 * base/trace_json.h -- the spans of several ranks in one file that Perfetto (ui.perfetto.dev) and
 * chrome://tracing open.
 *
 * Source: "Trace Event Format", Google: an object with traceEvents. A rank is a process (pid =
 * rank, named "rank 3 on node-2"), a thread of it is a thread (tid from 1), a span is a complete
 * event
 * ("X", ts and dur in microseconds), an async one a pair "b" and "e" whose id counts within its
 * rank (id2.local). What rings have lost stands in otherData.
 */
#ifndef BASE_TRACE_JSON_H
#define BASE_TRACE_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/file.h"

struct err;

/* What has to be added to a rank's clock at a moment of that clock to have the first rank's. */
struct trace_json_clock {
    double at_s, offset_s;
};

struct trace_json_rank {
    int rank;
    const char *host;
    struct trace_json_clock clock[2]; /* between the two, and beyond, the offset changes evenly */
};

struct trace_json {
    struct file_new file;
    struct buf text, lost_of; /* not written yet; what stands in otherData */
    double origin_s;          /* of the first rank's clock: ts 0 */
    uint64_t spans, lost;     /* so far */
};

/** Begin a file, which appears when it is committed. Release in any case; it removes what was not,
 * and accepts all-zero but for file.fd = -1. ERR_IO. */
int trace_json_open(struct trace_json *json, const char *path, double origin_s, struct err *err);
void trace_json_release(struct trace_json *json);

/** Write a rank's spans, in the order of their beginning: what trace_take packed there. ERR_IO,
 * ERR_INTERNAL, ERR_MEMORY. */
int trace_json_add(struct trace_json *json, const struct trace_json_rank *rank, const void *packed,
                   size_t bytes, struct err *err);

/** All ranks are there: the file appears. ERR_IO. */
int trace_json_commit(struct trace_json *json, struct err *err);

#endif
