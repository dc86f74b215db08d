#include "trainer/run.h"

#include <stdio.h>

#include "base/err.h"
#include "trainer/data/stream.h"
#include "trainer/stop.h"

static struct data_stream *open_stream(const struct train_run *run, const struct train_walk *walk,
                                       uint64_t begin, uint64_t end, struct err *err)
{
    const struct train_options *const o = run->options;
    const struct data_stream_options options = {.index = walk->index,
                                                .transform = *walk->transform,
                                                .epoch = walk->epoch,
                                                .sample_begin = begin,
                                                .sample_end = end,
                                                .micro_batch = o->micro_batch,
                                                .threads = o->decode_threads,
                                                .depth = TRAIN_BATCHES_AHEAD_EVALUATION,
                                                .fetch_bytes =
                                                    o->prefetch_bytes / TRAIN_PREFETCH_EVALUATION,
                                                .fetch_threads = o->fetch_threads,
                                                .stop_at_bad = o->stop_at_bad};

    return data_stream_new(&options, err);
}

/* quote: stands on both sides of a name that has none. */
static void note(struct train_noted *noted, uint64_t count, const char *quote, const char *first)
{
    if (noted->count == 0)
        snprintf(noted->first, sizeof noted->first, "%s%s%s", quote, first, quote);
    noted->count += (int64_t)count;
}

void train_note_odd(struct train_run *run, struct data_stream *stream)
{
    struct data_stream_stats stats = {0};

    if (stream == NULL)
        return;
    data_stream_stats(stream, &stats);
    note(&run->truncated, stats.truncated, "'", stats.truncated_first);
    note(&run->left_out, stats.left_out, "", stats.left_out_first);
}

/* The next micro-batch, if there is one. Returns 1 when asked to stop. */
static int take_batch(const struct train_walk *walk, struct data_stream *stream, uint64_t *done,
                      struct err *err)
{
    struct data_batch batch = {0};
    const int got = data_stream_next(stream, &batch, &train_stop_asked, err);
    int rc = 0;

    if (got <= 0)
        return got == 0 ? 0 : err->code == ERR_STOPPED ? 1 : -1;
    if (batch.n > 0)
        rc = walk->each(walk->context, &batch, err);
    *done += (uint64_t)batch.n;
    data_stream_give_back(stream, &batch);
    return rc;
}

static void show(struct train_run *run, const struct train_walk *walk, uint64_t done, uint64_t of)
{
    struct report_place place = {.what = walk->what,
                                 .epoch = (int)run->position.epoch,
                                 .epochs = run->options->epochs,
                                 .done = done,
                                 .of = of};

    if (walk->score != NULL) {
        const struct report_sum sum = train_report_sum(walk->score);

        place.loss = sum.loss;
        place.accuracy = report_accuracy(&sum);
    }
    report_progress_show(&run->progress, &place);
}

/* The ranks look up together after each batch, so that all leave when one was asked to stop. A look
 * costs less than a millisecond, a batch seconds where the network is large. */
int train_walk(struct train_run *run, const struct train_walk *walk, struct err *err)
{
    const uint64_t n = walk->index->count, size = (uint64_t)run->comm->size,
                   rank = (uint64_t)run->comm->rank;
    const uint64_t begin = rank * n / size, end = (rank + 1) * n / size,
                   share_max = (n + size - 1) / size;
    const uint64_t batch = (uint64_t)run->options->micro_batch;
    struct data_stream *const stream = open_stream(run, walk, begin, end, err);
    uint64_t done = 0;
    int rc = stream == NULL ? -1 : 0;

    for (uint64_t round = 0; round < (share_max + batch - 1) / batch && rc == 0; round++) {
        int64_t asked[2] = {0}; /* to stop; to give up */

        rc = take_batch(walk, stream, &done, err);
        asked[0] = rc == 1 || train_stop_asked != 0;
        asked[1] = rc < 0;
        if (comm_sum_integers(run->comm, asked, 2, err) < 0)
            rc = -1;
        else if (asked[1] > 0)
            rc = train_share_failure(run, rc, err);
        else
            rc = 0;
        if (rc == 0 && asked[0] > 0) {
            run->agreed = true;
            rc = err_set(err, ERR_STOPPED, "asked to stop while %s", walk->what);
        }
        show(run, walk, done, end - begin);
    }
    train_note_odd(run, stream);
    data_stream_free(stream);
    return rc;
}
