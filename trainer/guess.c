#include "trainer/guess.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Before they are divided probabilities are logits. */
static int by_logit(const void *a, const void *b)
{
    const struct train_guess *const x = a, *const y = b;

    if (x->probability != y->probability)
        return x->probability > y->probability ? -1 : 1;
    return x->label - y->label;
}

int train_guess(const float *logits, int classes, int count, struct train_guess *guesses)
{
    double largest = 0, sum = 0;

    assert(count > 0 && count <= classes);
    for (int i = 0; i < classes; i++) {
        if (!isfinite(logits[i]))
            return -1;
        largest = i == 0 || logits[i] > largest ? logits[i] : largest;
        guesses[i] = (struct train_guess){.label = i, .probability = logits[i]};
    }
    for (int i = 0; i < classes; i++)
        sum += exp(logits[i] - largest);
    qsort(guesses, (size_t)classes, sizeof *guesses, by_logit);
    for (int i = 0; i < count; i++)
        guesses[i].probability = exp(guesses[i].probability - largest) / sum;
    return 0;
}
