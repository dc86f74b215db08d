#include "trainer/nn/loss.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

#include "trainer/nn/model.h"

#define TOP 5

/* log(sum of exp(z)), the largest logit taken out first. */
static double log_sum_exp(const float *z, int classes)
{
    double largest = z[0], sum = 0;

    for (int j = 1; j < classes; j++)
        largest = z[j] > largest ? z[j] : largest;
    for (int j = 0; j < classes; j++)
        sum += exp(z[j] - largest);
    return largest + log(sum);
}

static double weight_of(const struct nn_loss *loss, int class)
{
    return loss->class_weights == NULL ? 1 : loss->class_weights[class];
}

/* Sum over classes of target * (logsum - z): a class without a share of the target adds nothing,
 * whatever its logit. */
static double cross_entropy(const struct nn_loss *loss, const float *z, int32_t label,
                            double logsum)
{
    const double smoothing = loss->label_smoothing;
    double all = 0;

    if (smoothing == 0)
        return weight_of(loss, label) * (logsum - z[label]);
    for (int j = 0; j < loss->classes; j++)
        all += weight_of(loss, j) * (logsum - z[j]);
    return weight_of(loss, label) * (1 - smoothing) * (logsum - z[label]) +
           smoothing / loss->classes * all;
}

/* The sum of a picture's target: 1 where no class has a weight, without the rounding of adding it
 * up. */
static double target_sum(const struct nn_loss *loss, int32_t label)
{
    const double smoothing = loss->label_smoothing;
    double all = 0;

    if (loss->class_weights == NULL)
        return 1;
    for (int j = 0; j < loss->classes; j++)
        all += loss->class_weights[j];
    return (1 - smoothing) * loss->class_weights[label] + smoothing / loss->classes * all;
}

static void write_gradient(const struct nn_loss *loss, const float *z, int32_t label, double logsum,
                           float *dz)
{
    const double smoothing = loss->label_smoothing, sum = target_sum(loss, label);

    for (int j = 0; j < loss->classes; j++) {
        const double target =
            weight_of(loss, j) * (smoothing / loss->classes + (j == label ? 1 - smoothing : 0));

        dz[j] = (float)(loss->scale * (sum * exp(z[j] - logsum) - target));
    }
}

/* How many classes come before the label when logits are sorted; of equals the first class wins. */
static int rank_of(const float *z, int classes, int32_t label)
{
    int before = 0;

    for (int j = 0; j < classes; j++)
        before += z[j] > z[label] || (z[j] == z[label] && j < label);
    return before;
}

static void count(const struct nn_loss *loss, const float *z, int32_t label, double value,
                  struct nn_score *score)
{
    score->images++;
    if (!isfinite(value)) {
        score->nonfinite++;
        return;
    }
    score->loss += llround((value < NN_LOSS_MAX ? value : NN_LOSS_MAX) * NN_LOSS_UNIT);
    score->correct += rank_of(z, loss->classes, label) == 0;
    score->correct5 += rank_of(z, loss->classes, label) < TOP;
}

void nn_loss_score(const struct nn_loss *loss, int n, const float *logits, const int32_t *labels,
                   float *dlogits, struct nn_score *score)
{
    for (int i = 0; i < n; i++) {
        const float *z = logits + (size_t)i * loss->classes;
        const double logsum = log_sum_exp(z, loss->classes);

        assert(labels[i] >= 0 && labels[i] < loss->classes);
        count(loss, z, labels[i], cross_entropy(loss, z, labels[i], logsum), score);
        if (dlogits != NULL)
            write_gradient(loss, z, labels[i], logsum, dlogits + (size_t)i * loss->classes);
    }
}

int nn_loss_guess(const float *logits, int classes, int32_t label, int *before)
{
    int first = 0;

    assert(label >= 0 && label < classes);
    *before = rank_of(logits, classes, label);
    if (!isfinite(log_sum_exp(logits, classes) - logits[label]))
        return -1;
    for (int j = 1; j < classes; j++)
        first = logits[j] > logits[first] ? j : first;
    return first;
}

void nn_score_add(struct nn_score *a, const struct nn_score *b)
{
    a->images += b->images;
    a->correct += b->correct;
    a->correct5 += b->correct5;
    a->loss += b->loss;
    a->nonfinite += b->nonfinite;
}
