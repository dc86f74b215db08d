/*
 * base/trace_pack.h -- the spans of a process as one run of bytes, which another rank of the same
 * build can read.
 *
 *     head | for each thread: its head, its spans, oldest first | texts, each with its NUL
 *
 * Numbers are the host's own; texts are named by their number. Text 0 is "".
 */
#ifndef BASE_TRACE_PACK_H
#define BASE_TRACE_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/trace.h"

struct buf;
struct err;

struct trace_pack_head {
    uint64_t threads, texts, texts_at; /* at: bytes from the beginning */
};

struct trace_pack_thread {
    char name[TRACE_THREAD_CHARS];
    uint64_t lost, spans; /* lost: older ones that were overwritten */
};

struct trace_pack_span {
    double begun_s, ended_s;
    int64_t value;
    uint64_t id;
    uint32_t category, name, argument, async;
};

/* --- packing --- */

struct trace_packer {
    struct buf *out;
    const char **texts; /* in the order of their numbers; texts are told apart by their address */
    size_t text_count;
};

/** Begin with an empty buf. ERR_MEMORY if there is none for so much; the calls that follow cannot
 * fail then. */
int trace_packer_begin(struct trace_packer *packer, size_t threads, size_t spans, struct err *err);
/** A thread; its spans follow by themselves. */
void trace_packer_thread(struct trace_packer *packer, const char *name, uint64_t lost,
                         uint64_t spans);
void trace_packer_span(struct trace_packer *packer, const struct trace_span *span);
/** All is there. */
void trace_packer_end(struct trace_packer *packer);

/* --- reading --- */

/* Points into the bytes, which stay where they are and are aligned as malloc's. */
struct trace_view {
    const struct trace_pack_thread **threads;
    const struct trace_pack_span **spans; /* of each thread */
    const char **texts;
    size_t thread_count, text_count, span_count;
};

/** ERR_INTERNAL: the bytes are not what trace_take makes. */
int trace_view_init(struct trace_view *view, const void *packed, size_t bytes, struct err *err);
/** Accepts all-zero. */
void trace_view_release(struct trace_view *view);

#endif
