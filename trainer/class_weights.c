#include "trainer/class_weights.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "comm/comm.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"

#define FILE_BYTES_MAX (4u << 20)
/* Beyond these a step's rate would be another one's. */
#define WEIGHT_MIN     1e-6
#define WEIGHT_MAX     1e6

/* The object with numbers alone in it, as text that is the same for the same weights. */
static char *canonical(const json_t *given, const char *what, struct err *err)
{
    json_t *const object = json_object();
    const char *name = NULL;
    json_t *value = NULL;
    char *text = NULL;

    json_object_foreach((json_t *)given, name, value)
    {
        const double weight = json_number_value(value); /* 0 where it is none */

        if (!(weight >= WEIGHT_MIN && weight <= WEIGHT_MAX)) {
            err_set(err, ERR_INPUT, "%s: the weight of class '%s' is no number within %g and %g",
                    what, name, WEIGHT_MIN, WEIGHT_MAX);
            goto out;
        }
        json_object_set_new(object, name, json_real(weight));
    }
    text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    if (text == NULL)
        abort();
out:
    json_decref(object);
    return text;
}

static bool is_word(const char *given)
{
    return strcmp(given, "none") == 0 || strcmp(given, "balanced") == 0;
}

bool train_class_weights_is_file(const char *given)
{
    return *given != '{' && !is_word(given);
}

char *train_class_weights_text(const char *given, struct err *err)
{
    const bool inside = *given == '{';
    const char *const what = inside ? "--class-weights" : given;
    json_t *object = NULL;
    char *text = NULL;

    if (is_word(given)) {
        if ((text = strdup(given)) == NULL)
            abort();
        return text;
    }
    object = inside ? json_read_text(given, strlen(given), what, err)
                    : json_read_file(given, FILE_BYTES_MAX, err);
    if (object != NULL && !json_is_object(object))
        err_set(err, ERR_INPUT, "'%s' is not an object {\"CLASS\": WEIGHT, ...}", what);
    else if (object != NULL)
        text = canonical(object, what, err);
    json_decref(object);
    if (text == NULL && !inside)
        err_wrap(err, "--class-weights, which is none, balanced or a JSON file");
    return text;
}

/* Only proportions count: by a power of two, which is exact, so that the largest is from 1 to 2 and
 * no loss is taken for one of a run that diverged (NN_LOSS_MAX). */
static void scale(struct train_class_weights *weights)
{
    double largest = 0;
    int exponent = 0;

    for (int c = 0; c < weights->classes; c++)
        largest = weights->weight[c] > largest ? weights->weight[c] : largest;
    frexp(largest, &exponent);
    for (int c = 0; c < weights->classes; c++)
        weights->weight[c] = ldexp(weights->weight[c], 1 - exponent);
}

/* pictures / (classes * pictures of the class), as scikit-learn calls "balanced": a class's
 * pictures together count as much as another's. */
static void balance(struct train_class_weights *weights, const struct data_index *train)
{
    assert(train->pages == NULL);
    for (size_t i = 0; i < train->count; i++)
        weights->count[train->samples[i].label]++;
    for (int c = 0; c < train->classes; c++)
        weights->weight[c] =
            weights->count[c] == 0
                ? 1 /* met by no label */
                : (double)train->count / ((double)train->classes * (double)weights->count[c]);
}

static int take(struct train_class_weights *weights, const json_t *object,
                const struct data_index *train, struct err *err)
{
    const char *name = NULL;
    json_t *value = NULL;

    for (int c = 0; c < train->classes; c++) {
        weights->weight[c] = json_number_value(json_object_get(object, train->class_names[c]));
        if (weights->weight[c] == 0)
            return err_set(err, ERR_INPUT, "--class-weights has no weight for class '%s'",
                           train->class_names[c]);
    }
    if (json_object_size(object) == (size_t)train->classes)
        return 0;
    json_object_foreach((json_t *)object, name, value)
    {
        int c = 0;

        while (c < train->classes && strcmp(train->class_names[c], name) != 0)
            c++;
        if (c == train->classes)
            break;
    }
    return err_set(err, ERR_INPUT, "--class-weights: there is no class '%s' in '%s'", name,
                   train->root);
}

int train_class_weights_init(struct train_class_weights *weights, const char *text,
                             const struct data_index *train, struct err *err)
{
    json_t *object = NULL;
    int rc = 0;

    memset(weights, 0, sizeof *weights);
    if (strcmp(text, "none") == 0)
        return 0;
    weights->classes = train->classes;
    weights->weight = calloc((size_t)train->classes, sizeof(double));
    weights->count = calloc((size_t)train->classes, sizeof(uint32_t));
    weights->met = calloc((size_t)train->classes, sizeof(int64_t));
    if (weights->weight == NULL || weights->count == NULL || weights->met == NULL)
        abort();
    if (strcmp(text, "balanced") == 0) {
        balance(weights, train);
        scale(weights);
        return 0;
    }
    object = json_read_text(text, strlen(text), "--class-weights", err);
    rc = object == NULL ? -1 : take(weights, object, train, err);
    json_decref(object);
    if (rc < 0)
        train_class_weights_release(weights);
    else
        scale(weights);
    return rc;
}

void train_class_weights_release(struct train_class_weights *weights)
{
    free(weights->weight);
    free(weights->count);
    free(weights->met);
    memset(weights, 0, sizeof *weights);
}

double train_class_weights_sum(struct train_class_weights *weights, const struct data_index *train,
                               const struct data_order *order, uint32_t epoch, uint64_t step)
{
    double sum = 0;

    if (weights->weight == NULL)
        return data_order_step_images(order, step);
    assert(train->pages == NULL);
    memset(weights->count, 0, (size_t)weights->classes * sizeof(uint32_t));
    memset(weights->met, 0, (size_t)weights->classes * sizeof(int64_t));
    for (uint32_t lane = 0; lane < order->lanes; lane++) {
        const uint32_t images = data_order_lane_images(order, step, lane);

        for (uint32_t i = 0; i < images; i++)
            weights->count[train->samples[data_order_sample(order, epoch, step, lane, i)].label]++;
    }
    for (int c = 0; c < weights->classes; c++)
        sum += weights->count[c] * weights->weight[c];
    return sum;
}

void train_class_weights_meet(struct train_class_weights *weights, int n, const int32_t *labels)
{
    for (int i = 0; i < n && weights->weight != NULL; i++)
        weights->met[labels[i]]++;
}

int train_class_weights_met(struct train_class_weights *weights, struct comm *comm, int64_t images,
                            double *sum, struct err *err)
{
    *sum = weights->weight == NULL ? (double)images : 0;
    for (int c = 0; c < weights->classes; c += COMM_INTEGERS_MAX) {
        const int left = weights->classes - c;

        if (comm_sum_integers(comm, weights->met + c,
                              left < COMM_INTEGERS_MAX ? left : COMM_INTEGERS_MAX, err) < 0)
            return -1;
    }
    for (int c = 0; c < weights->classes; c++)
        *sum += (double)weights->met[c] * weights->weight[c];
    return 0;
}
