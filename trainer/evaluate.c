#include "trainer/run.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "trainer/data/stream.h"
#include "trainer/stop.h"
#include "trainer/tally.h"

/* The ranks look up together every so many batches, so that all leave when one was asked to stop.
 * A look costs less than a millisecond, a batch seconds where the network is large. */
#define BATCHES_BETWEEN_LOOKS 1

struct report_sum train_report_sum(const struct nn_score *score)
{
    return (struct report_sum){
        .images = score->images,
        .correct = score->correct,
        .correct5 = score->correct5,
        .loss = score->images > 0 ? (double)score->loss / NN_LOSS_UNIT / (double)score->images : 0};
}

struct report_sum train_report_epoch(const struct train_position *p)
{
    struct report_sum sum = train_report_sum(&p->epoch_score);

    if (sum.images > 0)
        sum.loss = (double)p->epoch_score.loss / NN_LOSS_UNIT / p->epoch_weight;
    return sum;
}

static struct data_stream *open_stream(const struct train_run *run, const struct data_index *index,
                                       uint64_t begin, uint64_t end, struct err *err)
{
    const struct train_options *const o = run->options;
    const struct data_stream_options options = {.index = index,
                                                .transform = o->evaluation,
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

/* What an evaluation counts, of this rank's pictures. */
struct found {
    struct nn_score score;
    struct train_tally *tally;
    float *logits; /* (micro_batch, classes) */
};

/* Score up to `batches` batches. Returns 1 when asked to stop. */
static int score_batches(struct train_run *run, struct data_stream *stream, int batches,
                         struct found *found, struct err *err)
{
    for (int i = 0; i < batches; i++) {
        struct data_batch batch = {0};
        const int got = data_stream_next(stream, &batch, &train_stop_asked, err);
        int cancelled = 0;

        if (got <= 0)
            return got == 0 ? 0 : err->code == ERR_STOPPED ? 1 : -1;
        if (batch.n > 0)
            cancelled = nn_model_evaluate(run->model, batch.x, batch.labels, batch.n, found->logits,
                                          &train_stop_asked, &found->score);
        if (!cancelled && batch.n > 0)
            train_tally_add(found->tally, batch.n, found->logits, batch.labels);
        data_stream_give_back(stream, &batch);
        if (cancelled)
            return 1;
    }
    return 0;
}

static void show(struct train_run *run, const char *what, const struct nn_score *score, uint64_t of)
{
    const struct report_sum sum = train_report_sum(score);

    report_progress_show(&run->progress, &(struct report_place){.what = what,
                                                                .epoch = (int)run->position.epoch,
                                                                .epochs = run->options->epochs,
                                                                .done = (uint64_t)score->images,
                                                                .of = of,
                                                                .loss = sum.loss,
                                                                .accuracy = report_accuracy(&sum)});
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

int train_no_picture(struct train_run *run, const struct data_index *index, struct err *err)
{
    const char *const first = run->left_out.first;
    const int rc = err_set(err, ERR_INPUT, "not one picture in '%s' can be decoded%s%s",
                           index->root, *first != '\0' ? "; the first: " : "", first);

    return train_share_failure(run, rc, err);
}

int train_evaluate(struct train_run *run, const struct data_index *index, const char *what,
                   struct nn_score *score, struct train_tally *tally, struct err *err)
{
    const uint64_t n = index->count, size = (uint64_t)run->comm->size,
                   rank = (uint64_t)run->comm->rank;
    const uint64_t begin = rank * n / size, end = (rank + 1) * n / size,
                   share_max = (n + size - 1) / size;
    const uint64_t batch = (uint64_t)run->options->micro_batch;
    const uint64_t rounds =
        ((share_max + batch - 1) / batch + BATCHES_BETWEEN_LOOKS - 1) / BATCHES_BETWEEN_LOOKS;
    struct data_stream *const stream = open_stream(run, index, begin, end, err);
    struct found mine = {.tally = tally,
                         .logits =
                             calloc(batch * (uint64_t)run->dataset.train.classes, sizeof(float))};
    int rc = stream == NULL ? -1 : 0;

    if (mine.logits == NULL)
        abort();
    for (uint64_t round = 0; round < rounds && rc == 0; round++) {
        int64_t asked[2] = {0}; /* to stop; to give up */

        rc = score_batches(run, stream, BATCHES_BETWEEN_LOOKS, &mine, err);
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
            rc = err_set(err, ERR_STOPPED, "asked to stop while %s", what);
        }
        show(run, what, &mine.score, end - begin);
    }
    train_note_odd(run, stream);
    data_stream_free(stream);
    free(mine.logits);
    if (rc < 0)
        return -1;
    *score = mine.score;
    if (comm_sum_integers(run->comm, &score->images, sizeof *score / sizeof(int64_t), err) < 0)
        return -1;
    return score->images == 0 ? train_no_picture(run, index, err) : 0;
}
