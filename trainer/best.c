#include "trainer/best.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/nn/model.h"

int train_best_init(struct train_best *best, const struct nn_model *model, size_t trained,
                    struct err *err)
{
    const size_t running = nn_model_running_count(model);

    *best = (struct train_best){.trained = trained,
                                .running_count = running,
                                .weights = calloc(trained + 1, sizeof(float)),
                                .running = calloc(running + 1, sizeof(float))};
    if (best->weights != NULL && best->running != NULL)
        return 0;
    train_best_release(best);
    return err_set(err, ERR_MEMORY, "no memory for the best weights (%zu MB; --keep-model last)",
                   (trained + running) * sizeof(float) / 1000000);
}

void train_best_release(struct train_best *best)
{
    free(best->weights);
    free(best->running);
    memset(best, 0, sizeof *best);
}

void train_best_take(struct train_best *best, struct nn_model *model)
{
    if (best->weights == NULL)
        return;
    memcpy(best->weights, nn_model_weights(model), best->trained * sizeof(float));
    memcpy(best->running, nn_model_running(model), best->running_count * sizeof(float));
    best->there = true;
}

static void swap(float *a, float *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float x = a[i];

        a[i] = b[i];
        b[i] = x;
    }
}

void train_best_swap(struct train_best *best, struct nn_model *model)
{
    if (!best->there)
        return;
    swap(best->weights, nn_model_weights(model), best->trained);
    swap(best->running, nn_model_running(model), best->running_count);
    best->swapped = !best->swapped;
}
