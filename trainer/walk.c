#include "trainer/run.h"

#include "base/err.h"
#include "base/trace.h"
#include "comm/comm.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"
#include "trainer/data/stream/stream.h"
#include "trainer/stop.h"

#define WAITS                                                                                      \
    10 /* a round's deadline, in those of a step: pictures may take their time, and a save */

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
                                                .cache = run->cache,
                                                .stop_at_bad = o->stop_at_bad};

    data_cache_evaluate(data_cache_set(run->cache, walk->index), run->position.epoch);
    return data_stream_new(&options, err);
}

static void show(struct train_run *run, const struct train_rounds *rounds, uint64_t done)
{
    struct report_place place = {.what = rounds->what,
                                 .epoch = (int)run->position.epoch,
                                 .epochs = run->options->epochs,
                                 .done = done,
                                 .of = rounds->of};

    if (rounds->score != NULL) {
        const struct report_sum sum = train_report_sum(rounds->score);

        place.scored = true;
        place.loss = sum.loss;
        place.accuracy = report_accuracy(&sum);
    }
    report_progress_show(&run->progress, &place);
}

/* What one rank's round came to, made known to all. */
static int agree(struct train_run *run, const char *what, int rc, struct err *err)
{
    int64_t asked[2] = {rc == 1 || train_stop_asked != 0, rc < 0}; /* to stop; to give up */
    const double begun = trace_begin();

    run->comm->deadline_s = WAITS * train_pace_deadline(&run->pace, run->options->step_timeout_s);
    if (comm_sum_integers(run->comm, asked, 2, err) < 0)
        return -1;
    run->comm->deadline_s = 0;
    trace_end("wait", "agreement", begun);
    if (asked[1] > 0)
        return train_share_failure(run, rc, err);
    if (asked[0] == 0)
        return 0;
    run->agreed = true;
    return err_set(err, ERR_STOPPED, "asked to stop while %s", what);
}

int train_take_rounds(struct train_run *run, const struct train_rounds *rounds, struct err *err)
{
    const double begun = trace_begin();
    uint64_t done = 0;
    int rc = 0;

    for (uint64_t i = 0; i < rounds->count && rc == 0; i++) {
        rc = rounds->take(rounds->context, i, &done, err);
        if (rc < 0 && err->code == ERR_PEER)
            return -1; /* no exchange after a broken one */
        rc = agree(run, rounds->what, rc, err);
        show(run, rounds, done);
    }
    trace_end("pass", rounds->what, begun);
    return rc;
}

/* Rounds in which ranks go through their samples of `count`. */
static uint64_t rounds_of(const struct train_run *run, uint64_t count, uint64_t ranks)
{
    const uint64_t batch = (uint64_t)run->options->micro_batch, most = (count + ranks - 1) / ranks;

    return (most + batch - 1) / batch;
}

static uint64_t ranks_of(const struct train_run *run, int host)
{
    uint64_t ranks = 0;

    for (int rank = 0; rank < run->comm->size; rank++)
        ranks += run->comm->host_of[rank] == host;
    return ranks;
}

static struct train_share share_of_parts(const struct train_run *run,
                                         const struct data_index *index)
{
    const struct comm *const comm = run->comm;
    const struct data_index_part *const own = &index->parts[comm->host_of[comm->rank]];
    const uint64_t size = (uint64_t)comm->local_size, rank = (uint64_t)comm->local_rank;
    struct train_share share = {.begin = own->begin + rank * own->count / size,
                                .end = own->begin + (rank + 1) * own->count / size};

    for (int host = 0; host < comm->hosts; host++) {
        const uint64_t rounds = rounds_of(run, index->parts[host].count, ranks_of(run, host));

        share.rounds = rounds > share.rounds ? rounds : share.rounds;
    }
    return share;
}

struct train_share train_share_of_rank(uint64_t count, int rank, int ranks)
{
    return (struct train_share){.begin = (uint64_t)rank * count / (uint64_t)ranks,
                                .end = (uint64_t)(rank + 1) * count / (uint64_t)ranks};
}

struct train_share train_share_of(const struct train_run *run, const struct data_index *index)
{
    struct train_share share;

    if (index->parts != NULL)
        return share_of_parts(run, index);
    share = train_share_of_rank(index->count, run->comm->rank, run->comm->size);
    share.rounds = rounds_of(run, index->count, (uint64_t)run->comm->size);
    return share;
}

struct walking {
    const struct train_walk *walk;
    struct data_stream *stream;
};

/* The next micro-batch, if this rank has one. Returns 1 when asked to stop. */
static int take_batch(void *context, uint64_t round, uint64_t *done, struct err *err)
{
    const struct walking *const walking = context;
    struct data_batch batch = {0};
    const int got = data_stream_next(walking->stream, &batch, &train_stop_asked, err);
    int rc = 0;

    (void)round;
    if (got <= 0)
        return got == 0 ? 0 : err->code == ERR_STOPPED ? 1 : -1;
    if (batch.n > 0)
        rc = walking->walk->each(walking->walk->context, &batch, err);
    *done += (uint64_t)batch.n;
    data_stream_give_back(walking->stream, &batch);
    return rc;
}

int train_walk(struct train_run *run, const struct train_walk *walk, struct err *err)
{
    const struct train_share share = train_share_of(run, walk->index);
    struct walking walking = {.walk = walk,
                              .stream = open_stream(run, walk, share.begin, share.end, err)};
    const struct train_rounds rounds = {.what = walk->what,
                                        .count = share.rounds,
                                        .of = share.end - share.begin,
                                        .score = walk->score,
                                        .take = take_batch,
                                        .context = &walking};
    int rc = -1;

    if (walking.stream == NULL)
        return -1;
    rc = train_take_rounds(run, &rounds, err);
    train_note_odd(run, walking.stream);
    data_stream_free(walking.stream);
    return rc;
}
