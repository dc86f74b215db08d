/* tests/nn/test_model.c -- whole networks: slopes, bits, hooks, files, limits. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
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

struct bed {
    struct nn_model *model;
    int n, size;
    float *x, *gradient, *statistics;
    int32_t *labels;
    struct nn_step step;
};

static struct nn_model *model_new(const char *name, int size, int n, bool training)
{
    const struct nn_model_options options = {name, CLASSES, size, n, training, {0}};
    struct err err = {0};
    struct nn_model *model = nn_model_new(&options, &err);

    if (model == NULL)
        fail_msg("%s", err.msg);
    return model;
}

static void draw_weights(struct nn_model *model)
{
    numbers_fill_tensors(nn_model_tensors(model), nn_model_tensor_count(model),
                         nn_model_weights(model), nn_model_running(model));
}

static void bed_open(struct bed *bed, const char *name, int size, int n, int threads)
{
    nn_threads_init(threads);
    *bed = (struct bed){.model = model_new(name, size, n, true), .n = n, .size = size};
    draw_weights(bed->model);
    bed->x = numbers_new(1, (size_t)n * size * size * 3);
    bed->gradient = numbers_new(2, nn_model_weight_count(bed->model));
    bed->statistics = numbers_new(3, nn_model_running_count(bed->model));
    bed->labels = calloc((size_t)n, sizeof(int32_t));
    for (int i = 0; i < n; i++)
        bed->labels[i] = i % CLASSES;
    bed->step = (struct nn_step){
        .x = bed->x,
        .labels = bed->labels,
        .n = n,
        .scale = 1.0f / (float)n,
        .label_smoothing = 0.1f,
        .statistics = bed->statistics,
        .gradient = bed->gradient,
    };
}

static void bed_close(struct bed *bed)
{
    nn_model_free(bed->model);
    free(bed->x);
    free(bed->gradient);
    free(bed->statistics);
    free(bed->labels);
}

/* --- slopes --- */

struct probe {
    struct bed *bed;
    struct nn_step step;
};

static double objective(void *context)
{
    struct probe *probe = context;
    struct nn_score score = {0};

    nn_model_train(probe->bed->model, &probe->step, &score);
    return (double)score.loss / NN_LOSS_UNIT * probe->step.scale;
}

/* Each tensor as a whole: the loss's slope along its own gradient is the gradient's length. Float
 * rounding, ReLU's corners and the loss's unit allow some per cent. */
static int tensor_differs(struct bed *bed, const struct nn_tensor *tensor, struct probe *probe)
{
    float *w = nn_model_weights(bed->model) + tensor->offset;
    const float *g = bed->gradient + tensor->offset;
    const double length = sqrt(numbers_dot(g, g, tensor->count));
    const float h = (float)(2e-3 / length);
    double slope;

    for (size_t i = 0; i < tensor->count; i++)
        w[i] += h * g[i];
    slope = objective(probe);
    for (size_t i = 0; i < tensor->count; i++)
        w[i] -= 2 * h * g[i];
    slope = (slope - objective(probe)) / (2 * h * length);
    for (size_t i = 0; i < tensor->count; i++)
        w[i] += h * g[i];
    if (fabs(slope - length) <= 0.05 * length)
        return 0;
    print_error("%s: slope %.5g, backward says %.5g\n", tensor->name, slope, length);
    return 1;
}

static void model_gradient_is_the_slope_of_the_loss_for_every_tensor(void **state)
{
    struct nn_score score = {0};
    struct bed bed;
    struct probe probe;
    int wrong = 0;

    (void)state;
    bed_open(&bed, "resnet20", 8, 4, 2);
    nn_model_train(bed.model, &bed.step, &score);
    probe = (struct probe){.bed = &bed, .step = bed.step};
    probe.step.gradient = calloc(nn_model_weight_count(bed.model), sizeof(float));
    for (size_t t = 0; t < nn_model_tensor_count(bed.model); t++)
        if (nn_model_tensors(bed.model)[t].kind != NN_TENSOR_RUNNING)
            wrong += tensor_differs(&bed, &nn_model_tensors(bed.model)[t], &probe);
    free(probe.step.gradient);
    bed_close(&bed);
    assert_int_equal(wrong, 0);
}

/* --- bits --- */

static const struct network {
    const char *name;
    int size, n;
} networks[] = {{"resnet20", 32, 3}, {"resnet18", 64, 2}, {"resnet18", 37, 5}, {"resnet50", 32, 2}};

static void model_has_the_same_bits_for_any_number_of_threads(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(networks); i++) {
        const struct network *network = &networks[i];
        struct nn_score first = {0};
        struct bed one;

        bed_open(&one, network->name, network->size, network->n, 1);
        nn_model_train(one.model, &one.step, &first);
        for (int threads = 2; threads <= 3; threads++) {
            struct nn_score score = {0};
            struct bed many;

            bed_open(&many, network->name, network->size, network->n, threads);
            nn_model_train(many.model, &many.step, &score);
            assert_memory_equal(one.gradient, many.gradient,
                                nn_model_weight_count(one.model) * sizeof(float));
            assert_memory_equal(one.statistics, many.statistics,
                                nn_model_running_count(one.model) * sizeof(float));
            assert_memory_equal(&first, &score, sizeof(score));
            bed_close(&many);
        }
        bed_close(&one);
    }
}

static void model_gives_the_same_bits_again_after_other_batches_and_an_evaluation(void **state)
{
    struct nn_score first = {0}, again = {0}, other = {0};
    struct bed bed;
    float *gradient;

    (void)state;
    bed_open(&bed, "resnet20", 16, 6, 2);
    nn_model_train(bed.model, &bed.step, &first);
    gradient = malloc(nn_model_weight_count(bed.model) * sizeof(float));
    memcpy(gradient, bed.gradient, nn_model_weight_count(bed.model) * sizeof(float));
    bed.step.n = 5;
    nn_model_train(bed.model, &bed.step, &other);
    nn_model_evaluate(bed.model, bed.x, bed.labels, 4, NULL, NULL, &other);
    bed.step.n = 6;
    nn_model_train(bed.model, &bed.step, &again);
    assert_memory_equal(gradient, bed.gradient, nn_model_weight_count(bed.model) * sizeof(float));
    assert_memory_equal(&first, &again, sizeof(first));
    free(gradient);
    bed_close(&bed);
}

static void model_steps_to_the_same_bits_in_memory_for_more_images(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(networks); i++) {
        const struct network *network = &networks[i];
        struct nn_score first = {0}, second = {0};
        struct bed tight, wide;

        bed_open(&tight, network->name, network->size, network->n, 2);
        bed_open(&wide, network->name, network->size, network->n + 4, 2);
        wide.step.n = network->n;
        wide.step.scale = tight.step.scale;
        nn_model_train(tight.model, &tight.step, &first);
        nn_model_train(wide.model, &wide.step, &second);
        assert_memory_equal(tight.gradient, wide.gradient,
                            nn_model_weight_count(tight.model) * sizeof(float));
        assert_memory_equal(tight.statistics, wide.statistics,
                            nn_model_running_count(tight.model) * sizeof(float));
        assert_memory_equal(&first, &second, sizeof(first));
        bed_close(&tight);
        bed_close(&wide);
    }
}

static void model_uses_no_more_threads_than_it_has_scratch_for(void **state)
{
    struct nn_score score = {0};
    struct bed bed;

    (void)state;
    bed_open(&bed, "resnet20", 16, 2, 1);
    nn_threads_init(3);
    assert_int_equal(nn_model_train(bed.model, &bed.step, &score), 0);
    assert_int_equal(score.images, 2);
    bed_close(&bed);
}

static void model_evaluates_an_image_to_the_same_bits_in_any_batch_and_place(void **state)
{
    static const int batches[] = {2, 5};

    (void)state;
    for (size_t i = 0; i < COUNT(networks); i++) {
        const size_t image = (size_t)networks[i].size * networks[i].size * 3;
        float *pictures, *batch = numbers_new(9, 5 * image), alone[CLASSES], all[5 * CLASSES];
        struct nn_model *model;

        nn_threads_init(2);
        model = model_new(networks[i].name, networks[i].size, 5, false);
        draw_weights(model);
        pictures = numbers_new(1, image);
        nn_model_evaluate(model, pictures, NULL, 1, alone, NULL, NULL);
        for (size_t b = 0; b < COUNT(batches); b++) {
            for (int place = 0; place < batches[b]; place++) {
                numbers_fill((uint32_t)(10 + place), batch, 5 * image);
                memcpy(batch + (size_t)place * image, pictures, image * sizeof(float));
                nn_model_evaluate(model, batch, NULL, batches[b], all, NULL, NULL);
                assert_memory_equal(alone, all + place * CLASSES, sizeof(alone));
            }
        }
        free(pictures);
        free(batch);
        nn_model_free(model);
    }
}

/* --- hooks --- */

struct progress {
    size_t calls, floats;
    volatile sig_atomic_t cancel;
    size_t cancel_after;
    int backwards;
};

static void note(void *context, size_t floats)
{
    struct progress *progress = context;

    progress->backwards += floats <= progress->floats;
    progress->floats = floats;
    progress->calls++;
    if (progress->calls == progress->cancel_after)
        progress->cancel = 1;
}

/* Convolutions with their batch norms, and fc. */
static const struct progress_case {
    const char *name;
    int size;
    size_t calls;
} progress_cases[] = {{"resnet18", 32, 20 + 1}, {"resnet20", 8, 19 + 1}, {"resnet50", 32, 53 + 1}};

static void model_tells_which_prefix_of_the_gradient_is_final(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(progress_cases); i++) {
        struct progress progress = {0};
        struct nn_score score = {0};
        struct bed bed;

        bed_open(&bed, progress_cases[i].name, progress_cases[i].size, 2, 1);
        bed.step.ready = note;
        bed.step.context = &progress;
        nn_model_train(bed.model, &bed.step, &score);
        assert_int_equal(progress.backwards, 0);
        assert_int_equal(progress.floats, nn_model_trained_count(bed.model));
        assert_int_equal(progress.calls, progress_cases[i].calls);
        bed_close(&bed);
    }
}

struct prefix {
    const float *gradient, *expected;
    int wrong;
};

static void compare_prefix(void *context, size_t floats)
{
    struct prefix *prefix = context;

    prefix->wrong += memcmp(prefix->gradient, prefix->expected, floats * sizeof(float)) != 0;
}

static int prefixes_differ(const char *name, int size)
{
    struct nn_score score = {0};
    struct prefix prefix;
    struct bed bed;
    float *expected;

    bed_open(&bed, name, size, 2, 1);
    expected = malloc(nn_model_weight_count(bed.model) * sizeof(float));
    nn_model_train(bed.model, &bed.step, &score);
    memcpy(expected, bed.gradient, nn_model_weight_count(bed.model) * sizeof(float));
    memset(bed.gradient, 0xff, nn_model_weight_count(bed.model) * sizeof(float));
    prefix = (struct prefix){.gradient = bed.gradient, .expected = expected};
    bed.step.ready = compare_prefix;
    bed.step.context = &prefix;
    nn_model_train(bed.model, &bed.step, &score);
    free(expected);
    bed_close(&bed);
    return prefix.wrong;
}

static void model_has_finished_what_it_calls_final(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(progress_cases); i++)
        assert_int_equal(prefixes_differ(progress_cases[i].name, progress_cases[i].size), 0);
}

static void model_gives_up_when_cancelled(void **state)
{
    struct progress progress = {.cancel_after = 3};
    const sig_atomic_t at_once = 1;
    struct nn_score score = {0};
    struct bed bed;

    (void)state;
    bed_open(&bed, "resnet20", 16, 2, 1);
    bed.step.ready = note;
    bed.step.context = &progress;
    bed.step.cancel = &progress.cancel;
    assert_int_equal(nn_model_train(bed.model, &bed.step, &score), 1);
    assert_int_equal(progress.calls, 3);
    bed.step.cancel = &at_once;
    assert_int_equal(nn_model_train(bed.model, &bed.step, &score), 1);
    assert_int_equal(nn_model_evaluate(bed.model, bed.x, NULL, 2, NULL, &at_once, NULL), 1);
    bed.step.cancel = NULL;
    assert_int_equal(nn_model_train(bed.model, &bed.step, &score), 0);
    bed_close(&bed);
}

/* --- limits --- */

static void model_trains_on_one_image_whose_last_layers_see_one_pixel(void **state)
{
    struct nn_score score = {0};
    struct bed bed;
    double sum;

    (void)state;
    bed_open(&bed, "resnet18", 32, 1, 2);
    assert_int_equal(nn_model_train(bed.model, &bed.step, &score), 0);
    assert_int_equal(score.nonfinite, 0);
    sum = numbers_dot(bed.gradient, bed.gradient, nn_model_weight_count(bed.model));
    assert_true(isfinite(sum) && sum > 0);
    sum = numbers_dot(bed.statistics, bed.statistics, nn_model_running_count(bed.model));
    assert_true(isfinite(sum));
    bed_close(&bed);
}

static void model_counts_images_with_a_nan(void **state)
{
    struct nn_score score = {0};
    struct bed bed;

    (void)state;
    bed_open(&bed, "resnet18", 32, 2, 1);
    bed.x[0] = NAN;
    nn_model_evaluate(bed.model, bed.x, bed.labels, 2, NULL, NULL, &score);
    assert_int_equal(score.nonfinite, 1);
    bed_close(&bed);
}

static void model_new_refuses_what_cannot_be(void **state)
{
    static const struct {
        struct nn_model_options options;
        const char *says;
    } cases[] = {
        {{"resnet19", 10, 224, 1, true, {0}}, "unknown model 'resnet19': one of resnet18, "},
        {{"resnet18", 10, 31, 1, true, {0}}, "image size 31"},
        {{"resnet20", 10, 7, 1, true, {0}}, "image size 7"},
        {{"resnet18", 1, 224, 1, true, {0}}, "1 classes"},
        {{"resnet18", 10, 224, 0, true, {0}}, "micro-batch 0"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};

        assert_null(nn_model_new(&cases[i].options, &err));
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, cases[i].says));
    }
}

static void model_names_are_all_known(void **state)
{
    char names[512], *rest = names;
    int known = 0;

    (void)state;
    snprintf(names, sizeof(names), "%s", nn_model_names());
    for (char *name; (name = strsep(&rest, ",")) != NULL; known++) {
        const int size = nn_model_default_image_size(name + strspn(name, " "));

        assert_true(size == 224 || size == 32);
    }
    assert_int_equal(known, 16);
    assert_int_equal(nn_model_default_image_size("vgg16"), 0);
}

/* --- parameters --- */

/* torchvision's models/resnet.py has the first five ("num_params"); the 200 layers are 152 and 16
 * more blocks of layer2, of 280,064 each. The CIFAR networks' are counted by hand, of 1,000
 * classes: 269,722 of 10 (the paper's table 6: 0.27M), and two projections with batch norms. */
static void model_has_as_many_parameters_as_published(void **state)
{
    static const struct {
        const char *name;
        size_t parameters;
    } cases[] = {{"resnet18", 11689512},
                 {"resnet34", 21797672},
                 {"resnet50", 25557032},
                 {"resnet101", 44549160},
                 {"resnet152", 60192808},
                 {"resnet200", 64673832},
                 {"resnet20", 269722 + 990 * 65},
                 {"resnet20b", 269722 + 990 * 65 + 16 * 32 + 32 * 64 + 2 * (32 + 64)}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct nn_model_options options = {
            .name = cases[i].name, .classes = 1000, .image_size = 64, .micro_batch_max = 1};
        struct nn_model_memory memory = {0};

        assert_int_equal(nn_model_memory(&options, &memory, NULL), 0);
        assert_int_equal(memory.trained, cases[i].parameters * sizeof(float));
    }
}

static void model_weights_stand_in_the_order_in_which_backward_finishes(void **state)
{
    struct nn_model *model = model_new("resnet18", 64, 1, false);
    const struct nn_tensor *tensors = nn_model_tensors(model);
    const size_t count = nn_model_tensor_count(model);
    size_t weights = 0, running = 0;

    (void)state;
    assert_string_equal(tensors[0].name, "conv1.weight");
    assert_string_equal(tensors[2].name, "bn1.bias");
    assert_int_equal(tensors[2].offset + tensors[2].count, nn_model_weight_count(model));
    assert_string_equal(tensors[count - 2].name, "fc.weight");
    assert_int_equal(tensors[count - 2].offset, 0);
    for (size_t t = 0; t < count; t++) {
        weights += tensors[t].kind != NN_TENSOR_RUNNING ? tensors[t].count : 0;
        running += tensors[t].kind == NN_TENSOR_RUNNING ? tensors[t].count : 0;
    }
    assert_int_equal(weights, nn_model_weight_count(model));
    assert_int_equal(running, nn_model_running_count(model));
    nn_model_free(model);
}

static void tensor_survives_the_order_of_files_and_back(void **state)
{
    struct nn_model *model = model_new("resnet20", 32, 1, false);
    const size_t count = nn_model_weight_count(model);
    float *copy = calloc(count, sizeof(float)), *file = calloc(count, sizeof(float));
    const struct nn_tensor *tensor = &nn_model_tensors(model)[0];
    const float *w = nn_model_weights(model);

    (void)state;
    draw_weights(model);
    nn_tensor_to_file_order(tensor, w, file);
    /* Filter 1, channel 2, row 0, column 1: (K, C, R, S) there, (K, R, S, C) here. */
    assert_true(file[(1 * 3 + 2) * 9 + 1] == w[tensor->offset + (1 * 9 + 1) * 3 + 2]);
    for (size_t t = 0; t < nn_model_tensor_count(model); t++) {
        tensor = &nn_model_tensors(model)[t];
        if (tensor->kind == NN_TENSOR_RUNNING)
            continue;
        nn_tensor_to_file_order(tensor, w, file);
        nn_tensor_from_file_order(tensor, file, copy);
    }
    assert_memory_equal(copy, w, count * sizeof(float));
    free(copy);
    free(file);
    nn_model_free(model);
}

static double mean_square(struct nn_model *model, const char *name, float *largest)
{
    for (size_t t = 0; t < nn_model_tensor_count(model); t++) {
        const struct nn_tensor *tensor = &nn_model_tensors(model)[t];
        const float *x = (tensor->kind == NN_TENSOR_RUNNING ? nn_model_running(model)
                                                            : nn_model_weights(model)) +
                         tensor->offset;

        if (strcmp(tensor->name, name) != 0)
            continue;
        *largest = 0;
        for (size_t i = 0; i < tensor->count; i++)
            *largest = fmaxf(*largest, fabsf(x[i]));
        return numbers_dot(x, x, tensor->count) / (double)tensor->count;
    }
    fail_msg("no tensor '%s'", name);
    return 0;
}

static void init_draws_as_torchvision_does_and_depends_on_the_seed_only(void **state)
{
    struct nn_model *model = model_new("resnet18", 64, 1, false);
    struct nn_model *same, *other;
    const size_t bytes = nn_model_weight_count(model) * sizeof(float);
    float largest;

    (void)state;
    nn_model_init(model, 7);
    assert_true(fabs(mean_square(model, "layer1.0.conv1.weight", &largest) * 64 * 9 / 2 - 1) <
                0.05);
    assert_true(fabs(mean_square(model, "layer4.0.downsample.0.weight", &largest) * 512 / 2 - 1) <
                0.05);
    assert_true(fabs(mean_square(model, "fc.weight", &largest) * 512 * 3 - 1) < 0.1);
    assert_true(largest <= 1 / sqrtf(512));
    assert_true(mean_square(model, "fc.bias", &largest) > 0 && largest <= 1 / sqrtf(512));
    assert_true(mean_square(model, "bn1.weight", &largest) == 1);
    assert_true(mean_square(model, "bn1.bias", &largest) == 0);
    assert_true(mean_square(model, "bn1.running_mean", &largest) == 0);
    assert_true(mean_square(model, "bn1.running_var", &largest) == 1);
    nn_threads_init(3);
    same = model_new("resnet18", 32, 2, true);
    nn_model_init(same, 7);
    assert_memory_equal(nn_model_weights(model), nn_model_weights(same), bytes);
    other = model_new("resnet18", 64, 1, false);
    nn_model_init(other, 8);
    assert_memory_not_equal(nn_model_weights(model), nn_model_weights(other), bytes);
    nn_model_free(model);
    nn_model_free(same);
    nn_model_free(other);
}

static void update_running_moves_towards_the_statistics(void **state)
{
    struct nn_model *model = model_new("resnet20", 32, 1, false);
    float *statistics = numbers_new(4, nn_model_running_count(model));

    (void)state;
    nn_model_init(model, 7);
    nn_model_update_running(model, statistics, 0.25f);
    assert_true(nn_model_running(model)[0] == 0.25f * statistics[0]); /* a mean, from 0 */
    assert_true(nn_model_running(model)[16] == 1 + 0.25f * (statistics[16] - 1)); /* a variance */
    free(statistics);
    nn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_gradient_is_the_slope_of_the_loss_for_every_tensor),
        cmocka_unit_test(model_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(model_gives_the_same_bits_again_after_other_batches_and_an_evaluation),
        cmocka_unit_test(model_steps_to_the_same_bits_in_memory_for_more_images),
        cmocka_unit_test(model_uses_no_more_threads_than_it_has_scratch_for),
        cmocka_unit_test(model_evaluates_an_image_to_the_same_bits_in_any_batch_and_place),
        cmocka_unit_test(model_tells_which_prefix_of_the_gradient_is_final),
        cmocka_unit_test(model_has_finished_what_it_calls_final),
        cmocka_unit_test(model_gives_up_when_cancelled),
        cmocka_unit_test(model_trains_on_one_image_whose_last_layers_see_one_pixel),
        cmocka_unit_test(model_counts_images_with_a_nan),
        cmocka_unit_test(model_new_refuses_what_cannot_be),
        cmocka_unit_test(model_names_are_all_known),
        cmocka_unit_test(model_has_as_many_parameters_as_published),
        cmocka_unit_test(model_weights_stand_in_the_order_in_which_backward_finishes),
        cmocka_unit_test(tensor_survives_the_order_of_files_and_back),
        cmocka_unit_test(init_draws_as_torchvision_does_and_depends_on_the_seed_only),
        cmocka_unit_test(update_running_moves_towards_the_statistics),
    };

    nn_threads_init(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
