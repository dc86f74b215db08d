#include "trainer/run.h"

#include <stdlib.h>

#include "base/err.h"
#include "trainer/data/stream/stream.h"
#include "trainer/stop.h"
#include "trainer/tally.h"

/* What an evaluation counts, of this rank's pictures. */
struct found {
    struct nn_model *model;
    struct nn_score score;
    struct train_tally *tally;
    float *logits; /* (micro_batch, classes) */
};

static int score_batch(void *context, const struct data_batch *batch, struct err *err)
{
    struct found *const found = context;

    (void)err;
    if (nn_model_evaluate(found->model, batch->x, batch->labels, batch->n, found->logits,
                          &train_stop_asked, &found->score) != 0)
        return 1;
    train_tally_add(found->tally, batch->n, found->logits, batch->labels);
    return 0;
}

int train_no_picture(struct train_run *run, const struct data_index *index, struct err *err)
{
    const char *const first = run->left_out.first;
    const int rc = err_set(err, ERR_INPUT, "not one picture in '%s' can be decoded%s%s",
                           index->root, *first != '\0' ? "; the first: " : "", first);

    return train_share_failure(run, rc, err);
}

float *train_logits_new(const struct train_run *run, struct err *err)
{
    const int pictures = run->options->micro_batch, classes = run->dataset.train.classes;
    float *const logits = malloc((size_t)pictures * (size_t)classes * sizeof(float));

    if (logits == NULL)
        err_set(err, ERR_MEMORY,
                "no memory for the logits of %d pictures of %d classes: use a smaller micro-batch",
                pictures, classes);
    return logits;
}

int train_score_sum(struct train_run *run, const struct data_index *index, struct nn_score *score,
                    struct err *err)
{
    if (comm_sum_integers(run->comm, &score->images, sizeof *score / sizeof(int64_t), err) < 0)
        return -1;
    return score->images == 0 ? train_no_picture(run, index, err) : 0;
}

int train_evaluate(struct train_run *run, const struct data_index *index, const char *what,
                   struct nn_score *score, struct train_tally *tally, struct err *err)
{
    struct found mine = {.model = run->model, .tally = tally};
    const struct train_walk walk = {.index = index,
                                    .transform = &run->options->evaluation,
                                    .what = what,
                                    .score = &mine.score,
                                    .each = score_batch,
                                    .context = &mine};
    int rc;

    if ((mine.logits = train_logits_new(run, err)) == NULL)
        return -1;
    rc = train_walk(run, &walk, err);
    free(mine.logits);
    if (rc < 0)
        return -1;
    *score = mine.score;
    return train_score_sum(run, index, score, err);
}
