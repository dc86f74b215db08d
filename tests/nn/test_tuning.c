/* tests/nn/test_tuning.c -- networks of which a part is frozen, and heads with hidden layers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define CLASSES      5
#define N            6
#define MANY         19
#define CANARY       12345.0f

/* Every kind of block, and a boundary behind each kind of part. */
static const struct network {
    const char *name;
    int size;
    int frozen;
} networks[] = {
    {"resnet18", 37, 1},
    {"resnet18", 64, 3},
    {"resnet18", 33, NN_FROZEN_BODY},
    {"resnet50", 33, 1},
    {"resnet50", 40, 2},
    {"resnet50", 64, 4},
    {"resnet20", 17, 1},
    {"resnet20", 32, 2},
    {"resnet20", 15, 3},
    {"resnet50", 64, NN_FROZEN_BODY},
    {"resnet20", 16, NN_FROZEN_BODY},
};

struct bed {
    struct nn_model *model;
    float *x, *gradient, *statistics;
    int32_t labels[N];
    struct nn_step step;
};

static struct nn_model *model_for(const struct network *network, struct nn_tuning tuning, int n)
{
    const struct nn_model_options options = {.name = network->name,
                                             .classes = CLASSES,
                                             .image_size = network->size,
                                             .micro_batch_max = n,
                                             .training = true,
                                             .tuning = tuning};
    struct err err = {0};
    struct nn_model *model = nn_model_new(&options, &err);

    if (model == NULL)
        fail_msg("%s", err.msg);
    numbers_fill_tensors(nn_model_tensors(model), nn_model_tensor_count(model),
                         nn_model_weights(model), nn_model_running(model));
    return model;
}

static struct nn_model *model_new(const struct network *network, struct nn_tuning tuning)
{
    return model_for(network, tuning, N);
}

/* Behind what backward may write stands a canary. */
static void bed_open(struct bed *bed, const struct network *network, struct nn_tuning tuning)
{
    const size_t pixels = (size_t)network->size * (size_t)network->size;

    *bed = (struct bed){.model = model_new(network, tuning)};
    bed->x = numbers_new(1, N * pixels * 3);
    bed->gradient = numbers_new(2, nn_model_trained_count(bed->model) + 1);
    bed->statistics = numbers_new(3, nn_model_measured_count(bed->model) + 1);
    bed->gradient[nn_model_trained_count(bed->model)] = CANARY;
    bed->statistics[nn_model_measured_count(bed->model)] = CANARY;
    for (int i = 0; i < N; i++)
        bed->labels[i] = i % CLASSES;
    bed->step = (struct nn_step){
        .x = bed->x,
        .labels = bed->labels,
        .n = N,
        .scale = 1.0f / N,
        .statistics = bed->statistics,
        .gradient = bed->gradient,
    };
}

static void bed_close(struct bed *bed)
{
    assert_true(bed->gradient[nn_model_trained_count(bed->model)] == CANARY);
    assert_true(bed->statistics[nn_model_measured_count(bed->model)] == CANARY);
    nn_model_free(bed->model);
    free(bed->x);
    free(bed->gradient);
    free(bed->statistics);
}

static void train(struct bed *bed)
{
    struct nn_score score = {0};

    assert_int_equal(nn_model_train(bed->model, &bed->step, &score), 0);
    assert_int_equal(score.images, N);
    assert_int_equal(score.nonfinite, 0);
}

static void assert_same_floats(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof(*a)) != 0)
            fail_msg("float %zu of %zu is %.9g, not %.9g", i, count, a[i], b[i]);
}

/* Frozen layers whose batch norms measure the batch compute what they did before; so the others'
 * gradients have the same bits as in a network that is trained whole. */
static void what_is_trained_has_the_gradients_of_the_whole_network(void **state)
{
    (void)state;
    nn_threads_init(2);
    for (size_t i = 0; i < COUNT(networks); i++) {
        const struct network *network = &networks[i];
        struct bed whole, part;

        bed_open(&whole, network, (struct nn_tuning){0});
        bed_open(&part, network,
                 (struct nn_tuning){.frozen = network->frozen, .frozen_batch = true});
        train(&whole);
        train(&part);
        assert_true(nn_model_trained_count(part.model) < nn_model_trained_count(whole.model));
        assert_int_equal(nn_model_feature_count(part.model), 0);
        assert_same_floats(part.gradient, whole.gradient, nn_model_trained_count(part.model));
        assert_int_equal(nn_model_measured_count(part.model), nn_model_running_count(whole.model));
        assert_same_floats(part.statistics, whole.statistics, nn_model_running_count(whole.model));
        bed_close(&part);
        bed_close(&whole);
    }
}

/* Each tensor as a whole: the loss's slope along its own gradient is the gradient's length. */
static void check_slopes(struct bed *bed)
{
    const struct nn_tensor *tensors = nn_model_tensors(bed->model);
    float *copy = numbers_new(4, nn_model_trained_count(bed->model));

    train(bed);
    memcpy(copy, bed->gradient, nn_model_trained_count(bed->model) * sizeof(*copy));
    for (size_t t = 0; t < nn_model_tensor_count(bed->model); t++) {
        const float *g = copy + tensors[t].offset;
        float *w = nn_model_weights(bed->model) + tensors[t].offset;
        double length, loss[2];

        if (tensors[t].kind == NN_TENSOR_RUNNING ||
            tensors[t].offset >= nn_model_trained_count(bed->model))
            continue;
        length = sqrt(numbers_dot(g, g, tensors[t].count));
        for (int side = 0; side < 2; side++) {
            const float h = (float)((side == 0 ? 2e-3 : -4e-3) / length);
            struct nn_score score = {0};

            for (size_t i = 0; i < tensors[t].count; i++)
                w[i] += h * g[i];
            nn_model_train(bed->model, &bed->step, &score);
            loss[side] = (double)score.loss / NN_LOSS_UNIT / N;
        }
        for (size_t i = 0; i < tensors[t].count; i++)
            w[i] += (float)(2e-3 / length) * g[i];
        if (fabs((loss[0] - loss[1]) / 4e-3 - length) > 0.05 * length)
            fail_msg("%s: slope %.5g, backward says %.5g", tensors[t].name,
                     (loss[0] - loss[1]) / 4e-3, length);
    }
    free(copy);
}

static void what_is_trained_behind_fixed_batch_norms_has_the_slope_of_the_loss(void **state)
{
    static const struct network some[] = {
        {"resnet18", 64, 4}, {"resnet50", 64, 4}, {"resnet20", 16, 2}};

    (void)state;
    nn_threads_init(2);
    for (size_t i = 0; i < COUNT(some); i++) {
        struct bed bed;

        bed_open(&bed, &some[i], (struct nn_tuning){.frozen = some[i].frozen});
        check_slopes(&bed);
        bed_close(&bed);
    }
}

static void a_head_with_hidden_layers_has_the_slope_of_the_loss(void **state)
{
    static const struct network network = {"resnet18", 33, 0};
    static const char *const names[] = {"fc.0.weight", "fc.0.bias",   "fc.2.weight",
                                        "fc.2.bias",   "fc.4.weight", "fc.4.bias"};
    const struct nn_tuning tuning = {
        .frozen = NN_FROZEN_BODY, .hidden = {24, 17}, .hidden_count = 2};
    const struct nn_tensor *tensors;
    size_t count;
    struct bed bed;

    (void)state;
    bed_open(&bed, &network, tuning);
    tensors = nn_model_tensors(bed.model);
    count = nn_model_tensor_count(bed.model);
    for (size_t i = 0; i < COUNT(names); i++)
        assert_string_equal(tensors[count - COUNT(names) + i].name, names[i]);
    assert_int_equal(nn_model_trained_count(bed.model),
                     512 * 24 + 24 + 24 * 17 + 17 + 17 * CLASSES + CLASSES);
    check_slopes(&bed);
    bed_close(&bed);
}

/* The same bits from pictures and from their features, for any number of threads; and an image's
 * features are its own. */
static void features_stand_for_their_pictures(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(networks); i++) {
        const struct network *network = &networks[i];
        const struct nn_tuning tuning = {.frozen = network->frozen};
        const size_t pixels = (size_t)network->size * (size_t)network->size * 3;
        struct bed bed;
        float *features, *alone, *gradient, *statistics;
        size_t count, trained, measured;

        nn_threads_init(1);
        bed_open(&bed, network, tuning);
        count = nn_model_feature_count(bed.model);
        trained = nn_model_trained_count(bed.model);
        measured = nn_model_measured_count(bed.model);
        features = numbers_new(5, N * count);
        alone = numbers_new(6, count);
        gradient = numbers_new(7, trained);
        statistics = numbers_new(8, measured + 1);
        train(&bed);
        memcpy(gradient, bed.gradient, trained * sizeof(*gradient));
        memcpy(statistics, bed.statistics, measured * sizeof(*statistics));
        assert_int_equal(nn_model_features(bed.model, bed.x, N, features, NULL), 0);
        assert_int_equal(nn_model_features(bed.model, bed.x + 2 * pixels, 1, alone, NULL), 0);
        assert_same_floats(alone, features + 2 * count, count);
        bed_close(&bed);
        for (int threads = 1; threads <= 3; threads++) {
            nn_threads_init(threads);
            bed_open(&bed, network, tuning);
            bed.step.x = NULL;
            bed.step.features = features;
            train(&bed);
            assert_same_floats(bed.gradient, gradient, trained);
            assert_same_floats(bed.statistics, statistics, measured);
            bed_close(&bed);
        }
        free(features);
        free(alone);
        free(gradient);
        free(statistics);
    }
}

/* More than go through the frozen layers at once; the last run is shorter. */
static void many_pictures_have_the_features_of_each(void **state)
{
    static const struct network network = {"resnet18", 33, 3};
    const struct nn_tuning tuning = {.frozen = network.frozen};
    const size_t pixels = (size_t)network.size * (size_t)network.size * 3;
    struct nn_model *model = model_for(&network, tuning, MANY);
    const size_t count = nn_model_feature_count(model);
    float *x = numbers_new(1, MANY * pixels), *features = numbers_new(2, MANY * count);
    float *alone = numbers_new(3, count), logits[MANY * CLASSES], expected[MANY * CLASSES];

    (void)state;
    assert_int_equal(nn_model_features(model, x, MANY, features, NULL), 0);
    for (size_t i = 0; i < MANY; i += 3) {
        assert_int_equal(nn_model_features(model, x + i * pixels, 1, alone, NULL), 0);
        assert_same_floats(alone, features + i * count, count);
    }
    nn_model_evaluate(model, x, NULL, MANY, logits, NULL, NULL);
    nn_model_evaluate_features(model, features, NULL, MANY, expected, NULL, NULL);
    assert_same_floats(logits, expected, MANY * CLASSES);
    free(x);
    free(features);
    free(alone);
    nn_model_free(model);
}

/* What a model says whose frozen weights were changed after a step is what a new one says. */
static void frozen_layers_that_change_are_read_anew_when_that_is_said(void **state)
{
    (void)state;
    for (int frozen_batch = 0; frozen_batch <= 1; frozen_batch++) {
        const struct nn_tuning tuning = {.frozen = 2, .frozen_batch = frozen_batch != 0};
        float logits[N * CLASSES], expected[N * CLASSES];
        struct bed used, fresh;
        size_t count, trained;

        bed_open(&used, &networks[7], tuning);
        bed_open(&fresh, &networks[7], tuning);
        trained = nn_model_trained_count(used.model);
        count = nn_model_weight_count(used.model);
        train(&used);
        for (size_t i = trained; i < count; i++)
            nn_model_weights(used.model)[i] *= 1.25f;
        nn_model_running(used.model)[0] += 0.25f;
        memcpy(nn_model_running(fresh.model), nn_model_running(used.model),
               nn_model_running_count(used.model) * sizeof(float));
        memcpy(nn_model_weights(fresh.model), nn_model_weights(used.model), count * sizeof(float));
        nn_model_frozen_changed(used.model);
        train(&used);
        train(&fresh);
        assert_same_floats(used.gradient, fresh.gradient, trained);
        nn_model_evaluate(used.model, used.x, NULL, N, logits, NULL, NULL);
        nn_model_evaluate(fresh.model, used.x, NULL, N, expected, NULL, NULL);
        assert_same_floats(logits, expected, N * CLASSES);
        bed_close(&used);
        bed_close(&fresh);
    }
}

/* Frozen filters are kept from step to step; an evaluation with running statistics folds its own.
 */
static void evaluation_between_two_steps_changes_no_bit(void **state)
{
    (void)state;
    for (int frozen_batch = 0; frozen_batch <= 1; frozen_batch++) {
        const struct nn_tuning tuning = {.frozen = 2, .frozen_batch = frozen_batch != 0};
        float logits[N * CLASSES], expected[N * CLASSES];
        struct bed used, fresh;

        bed_open(&used, &networks[7], tuning);
        bed_open(&fresh, &networks[7], tuning);
        train(&used);
        nn_model_evaluate(used.model, used.x, NULL, N, logits, NULL, NULL);
        train(&used);
        nn_model_evaluate(fresh.model, used.x, NULL, N, expected, NULL, NULL);
        train(&fresh);
        assert_same_floats(logits, expected, N * CLASSES);
        assert_same_floats(used.gradient, fresh.gradient, nn_model_trained_count(used.model));
        bed_close(&used);
        bed_close(&fresh);
    }
}

/* Evaluation does not know what is frozen. */
static void evaluation_is_the_same(void **state)
{
    (void)state;
    nn_threads_init(2);
    for (size_t i = 0; i < COUNT(networks); i++) {
        const struct network *network = &networks[i];
        float expected[N * CLASSES], logits[N * CLASSES];
        struct nn_score a = {0}, b = {0};
        struct bed whole, part;
        float *features;

        bed_open(&whole, network, (struct nn_tuning){0});
        bed_open(&part, network, (struct nn_tuning){.frozen = network->frozen});
        nn_model_evaluate(whole.model, whole.x, whole.labels, N, expected, NULL, &a);
        nn_model_evaluate(part.model, part.x, part.labels, N, logits, NULL, &b);
        assert_same_floats(logits, expected, N * CLASSES);
        features = numbers_new(5, N * nn_model_feature_count(part.model));
        nn_model_features(part.model, part.x, N, features, NULL);
        nn_model_evaluate_features(part.model, features, part.labels, N, logits, NULL, &b);
        assert_same_floats(logits, expected, N * CLASSES);
        assert_int_equal(b.loss, 2 * a.loss);
        free(features);
        bed_close(&part);
        bed_close(&whole);
    }
}

/* Only the running statistics behind the boundary move. */
static void frozen_running_statistics_stay(void **state)
{
    static const struct network network = {"resnet18", 33, 3};
    struct bed bed;
    size_t all, measured;
    float *before;

    (void)state;
    bed_open(&bed, &network, (struct nn_tuning){.frozen = network.frozen});
    all = nn_model_running_count(bed.model);
    measured = nn_model_measured_count(bed.model);
    before = numbers_new(9, all);
    memcpy(before, nn_model_running(bed.model), all * sizeof(*before));
    train(&bed);
    nn_model_update_running(bed.model, bed.statistics, 0.5f);
    assert_true(measured > 0 && measured < all);
    assert_same_floats(nn_model_running(bed.model), before, all - measured);
    for (size_t i = 0; i < measured; i++) {
        const float old = before[all - measured + i];

        assert_true(nn_model_running(bed.model)[all - measured + i] ==
                    old + 0.5f * (bed.statistics[i] - old));
    }
    free(before);
    bed_close(&bed);
}

static void what_is_frozen_takes_less_memory(void **state)
{
    struct nn_model_options options = {.name = "resnet50",
                                       .classes = 133,
                                       .image_size = 224,
                                       .micro_batch_max = 32,
                                       .training = true};
    struct nn_model_memory whole, part, batch;
    struct err err = {0};

    (void)state;
    nn_model_memory(&options, &whole, &err);
    options.tuning = (struct nn_tuning){.frozen = NN_FROZEN_BODY};
    nn_model_memory(&options, &part, &err);
    options.tuning.frozen_batch = true;
    nn_model_memory(&options, &batch, &err);
    assert_true(part.values * 4 < whole.values);
    assert_true(batch.values * 3 < whole.values);
    assert_int_equal(part.gradient, (2048 * 133 + 133) * sizeof(float));
}

static void words_are_read(void **state)
{
    static const struct {
        const char *network, *layers, *head, *says; /* NULL: right */
        int frozen, hidden_count, hidden;
    } cases[] = {
        {"resnet50", "all", "linear", NULL, 0, 0, 0},
        {"resnet50", "head", "2048-128-relu", NULL, NN_FROZEN_BODY, 1, 128},
        {"resnet50", "from:layer4", "2048-256-128-relu", NULL, 4, 2, 256},
        {"resnet18", "from:layer1", "512-10-relu", NULL, 1, 1, 10},
        {"resnet20", "from:layer3", "64-7-relu", NULL, 3, 1, 7},
        {"resnet20", "from:layer4", "linear", "from:layer1 to from:layer3", 0, 0, 0},
        {"resnet50", "from:layer0", "linear", "from:layer1 to", 0, 0, 0},
        {"resnet50", "from:layer33", "linear", "from:layer1 to", 0, 0, 0},
        {"resnet50", "fc", "linear", "all, head, or", 0, 0, 0},
        {"resnet50", "", "linear", "all, head, or", 0, 0, 0},
        {"resnet50", "all", "512-128-relu", "has 2048 inputs", 0, 0, 0},
        {"resnet50", "all", "2048-relu", "as in 2048-128-relu", 0, 0, 0},
        {"resnet50", "all", "2048-128", "as in 2048-128-relu", 0, 0, 0},
        {"resnet50", "all", "2048-0-relu", "as in 2048-128-relu", 0, 0, 0},
        {"resnet50", "all", "2048-99999999999-relu", "as in 2048-128-relu", 0, 0, 0},
        {"resnet50", "all", "2048-128-tanh", "as in 2048-128-relu", 0, 0, 0},
        {"resnet50", "all", "2048-1-2-3-4-5-relu", "up to 4 hidden", 0, 0, 0},
        {"resnet50", "all", "", "as in 2048-128-relu", 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct nn_tuning tuning = {0};
        struct err err = {0};
        int rc = nn_tuning_parse_layers(&tuning, cases[i].network, cases[i].layers, &err);

        if (rc == 0)
            rc = nn_tuning_parse_head(&tuning, cases[i].network, cases[i].head, &err);
        if (cases[i].says != NULL) {
            assert_int_equal(rc, -1);
            assert_int_equal(err.code, ERR_USAGE);
            if (strstr(err.msg, cases[i].says) == NULL)
                fail_msg("'%s' says: %s", cases[i].says, err.msg);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_int_equal(tuning.frozen, cases[i].frozen);
        assert_int_equal(tuning.hidden_count, cases[i].hidden_count);
        assert_int_equal(tuning.hidden[0], cases[i].hidden);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_trained_has_the_gradients_of_the_whole_network),
        cmocka_unit_test(what_is_trained_behind_fixed_batch_norms_has_the_slope_of_the_loss),
        cmocka_unit_test(a_head_with_hidden_layers_has_the_slope_of_the_loss),
        cmocka_unit_test(features_stand_for_their_pictures),
        cmocka_unit_test(many_pictures_have_the_features_of_each),
        cmocka_unit_test(frozen_layers_that_change_are_read_anew_when_that_is_said),
        cmocka_unit_test(evaluation_between_two_steps_changes_no_bit),
        cmocka_unit_test(evaluation_is_the_same),
        cmocka_unit_test(frozen_running_statistics_stay),
        cmocka_unit_test(what_is_frozen_takes_less_memory),
        cmocka_unit_test(words_are_read),
    };

    return cmocka_run_group_tests_name("nn tuning", tests, NULL, NULL);
}
