#include "trainer/tally.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "comm/comm.h"
#include "trainer/nn/loss.h"
#include "trainer/report/tables.h"

#define TOP          5
#define SUM_INTEGERS 512 /* as many as comm_gather takes of a rank */

enum { PICTURES, CORRECT, CORRECT5, GUESSED, VECTORS };

static int64_t *vector(const struct train_tally *tally, int which)
{
    return tally->counts + (size_t)which * (size_t)tally->classes;
}

static bool has_matrix(const struct train_tally *tally)
{
    return tally->classes <= TRAIN_TALLY_MATRIX_CLASSES;
}

void train_tally_init(struct train_tally *tally, int classes)
{
    const size_t n = (size_t)classes;

    tally->classes = classes;
    tally->count = VECTORS * n + (has_matrix(tally) ? n * n : 0);
    tally->counts = calloc(tally->count, sizeof(int64_t));
    if (tally->counts == NULL)
        abort();
}

void train_tally_release(struct train_tally *tally)
{
    free(tally->counts);
    memset(tally, 0, sizeof *tally);
}

static void count_one(struct train_tally *tally, const float *z, int32_t label)
{
    int before = 0;
    const int guess = nn_loss_guess(z, tally->classes, label, &before);

    vector(tally, PICTURES)[label]++;
    if (guess < 0)
        return;
    vector(tally, GUESSED)[guess]++;
    vector(tally, CORRECT)[label] += before == 0;
    vector(tally, CORRECT5)[label] += before < TOP;
    if (has_matrix(tally))
        vector(tally, VECTORS)[(size_t)label * (size_t)tally->classes + (size_t)guess]++;
}

void train_tally_add(struct train_tally *tally, int n, const float *logits, const int32_t *labels)
{
    for (int i = 0; i < n; i++)
        count_one(tally, logits + (size_t)i * (size_t)tally->classes, labels[i]);
}

/* x (count) becomes the sum; all (ranks, count) is scratch. */
static int sum_run(int64_t *x, size_t count, int64_t *all, struct comm *comm, struct err *err)
{
    if (comm_gather(comm, x, count * sizeof(int64_t), all, err) < 0)
        return -1;
    memset(x, 0, count * sizeof(int64_t));
    for (size_t r = 0; r < (size_t)comm->size; r++)
        for (size_t i = 0; i < count; i++)
            x[i] += all[r * count + i];
    return 0;
}

int train_tally_sum(struct train_tally *tally, struct comm *comm, struct err *err)
{
    int64_t *const all = calloc((size_t)comm->size * SUM_INTEGERS, sizeof(int64_t));
    int rc = 0;

    if (all == NULL)
        abort();
    for (size_t at = 0; at < tally->count && rc == 0; at += SUM_INTEGERS) {
        const size_t left = tally->count - at;

        rc = sum_run(tally->counts + at, left < SUM_INTEGERS ? left : SUM_INTEGERS, all, comm, err);
    }
    free(all);
    return rc;
}

struct report_tables train_tally_tables(const struct train_tally *tally, char *const *names)
{
    return (struct report_tables){.classes = tally->classes,
                                  .names = names,
                                  .pictures = vector(tally, PICTURES),
                                  .correct = vector(tally, CORRECT),
                                  .correct5 = vector(tally, CORRECT5),
                                  .guessed = vector(tally, GUESSED),
                                  .confusion = has_matrix(tally) ? vector(tally, VECTORS) : NULL};
}
