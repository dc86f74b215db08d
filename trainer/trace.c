#include "trainer/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/trace.h"
#include "base/trace_json.h"
#include "comm/collect.h"
#include "trainer/run.h"

/* What rank 0 has to know of a rank. */
struct about {
    char host[256];
    struct comm_clock begun, ended;
};

size_t train_trace_bytes(int decode_threads)
{
    return (2 + 2 * (size_t)decode_threads) * TRAIN_TRACE_SPANS * sizeof(struct trace_span);
}

/* Rank 0, before hours of work: can the file be made? Its folder has to be there. */
static int check_file(const char *path, struct err *err)
{
    struct file_new probe = {.fd = -1};
    int rc;

    if (file_is_folder(path))
        return err_set(err, ERR_USAGE, "--trace: '%s' is a folder: name a file in it", path);
    rc = file_new_open(&probe, path, err);
    file_new_release(&probe);
    if (rc == 0)
        return 0;
    err->code = ERR_USAGE;
    return err_wrap(err, "--trace");
}

int train_trace_begin(struct train_run *run, struct err *err)
{
    const char *const path = run->options->trace;

    if (path == NULL)
        return 0;
    if (train_share_outcome(run, run->comm->rank == 0 ? check_file(path, err) : 0, err) < 0)
        return -1;
    run->trace.origin_s = clock_now_s();
    if (comm_clock_measure(run->comm, &run->trace.begun, err) < 0)
        return -1;
    trace_start(TRAIN_TRACE_SPANS);
    trace_thread("main");
    return 0;
}

static void tell(const char *path, const struct trace_json *json)
{
    log_info("the trace is in '%s': open it at ui.perfetto.dev", path);
    if (json->lost > 0)
        log_info("it lacks the oldest %" PRIu64 " of %" PRIu64 " spans: a thread keeps its last %d",
                 json->lost, json->lost + json->spans, TRAIN_TRACE_SPANS);
}

static int add_rank(struct trace_json *json, int rank, const struct about *about,
                    const struct buf *packed, struct err *err)
{
    const struct trace_json_rank of = {.rank = rank,
                                       .host = about->host,
                                       .clock = {{about->begun.at_s, about->begun.offset_s},
                                                 {about->ended.at_s, about->ended.offset_s}}};

    return trace_json_add(json, &of, packed->data, packed->bytes, err);
}

/* Rank 0. A failure of the file is kept in *failure: the others are heard out all the same, and
 * what this returns is whether they were. */
static int write_ranks(struct train_run *run, struct trace_json *json, const struct about *all,
                       struct buf *mine, struct err *failure, struct err *err)
{
    for (int rank = 0; rank < run->comm->size; rank++) {
        struct buf theirs = {0}, *const packed = rank == 0 ? mine : &theirs;
        struct err why = {0};
        int rc = comm_collect(run->comm, rank, &theirs, &why);

        if (rc < 0 && why.code != ERR_MEMORY) {
            *err = why;
            buf_release(&theirs);
            return -1;
        }
        if (rc == 0 && failure->code == ERR_NONE)
            rc = add_rank(json, rank, &all[rank], packed, &why);
        if (rc < 0 && failure->code == ERR_NONE)
            *failure = why;
        buf_release(packed);
    }
    return 0;
}

static int write_file(struct train_run *run, const struct about *all, struct buf *mine,
                      struct err *failure, struct err *err)
{
    const char *const path = run->options->trace;
    struct trace_json json = {.file.fd = -1};
    struct err why = {0};
    int rc;

    if (trace_json_open(&json, path, run->trace.origin_s, &why) < 0 && failure->code == ERR_NONE)
        *failure = why;
    rc = write_ranks(run, &json, all, mine, failure, err);
    if (rc == 0 && failure->code == ERR_NONE && trace_json_commit(&json, failure) == 0)
        tell(path, &json);
    trace_json_release(&json);
    return rc;
}

/* This rank's spans are in `mine`: hand them to rank 0, which writes. */
static int bring_together(struct train_run *run, struct buf *mine, struct err *failure,
                          struct err *err)
{
    struct about about = {.begun = run->trace.begun}, *all = NULL;
    int rc;

    snprintf(about.host, sizeof about.host, "%s", run->comm->host);
    if (comm_clock_measure(run->comm, &about.ended, err) < 0)
        return -1;
    all = calloc((size_t)run->comm->size, sizeof *all);
    if (all == NULL)
        abort();
    rc = comm_gather(run->comm, &about, sizeof about, all, err);
    if (rc == 0)
        rc = run->comm->rank == 0 ? write_file(run, all, mine, failure, err)
                                  : comm_collect(run->comm, run->comm->rank, mine, err);
    free(all);
    return rc;
}

static int write_all(struct train_run *run, struct err *err)
{
    struct buf mine = {0};
    struct err failure = {0};
    int rc;

    trace_stop();
    if (trace_take(&mine, &failure) < 0) /* rank 0 finds then that these are none */
        buf_release(&mine);
    trace_release();
    rc = bring_together(run, &mine, &failure, err);
    buf_release(&mine);
    if (rc == 0 && failure.code != ERR_NONE)
        log_warn("%s; there is no trace", failure.msg);
    return rc;
}

int train_trace_end(struct train_run *run, int rc, struct err *err)
{
    struct err why = {0};

    if (!trace_on || (rc < 0 && !run->agreed && run->comm->size > 1) || write_all(run, &why) == 0)
        return rc;
    run->agreed = false;
    if (err != NULL)
        *err = why;
    return -1;
}
