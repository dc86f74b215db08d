/*
 * tests/golden/test_model.c -- a whole network against PyTorch: losses, every gradient, running
 * statistics and five steps of SGD, as make_golden.py wrote them, and the momentum that they leave,
 * which is of all five gradients, whatever the rate. Tolerance: per tensor max|a - b|
 * <= 1e-4 max|b|, or 1e-3 where a convolution of the network is computed by Winograd's algorithm.
 *
 *     test_golden_model [NETWORK]
 *
 * CONVOY_CONV and CONVOY_ISA choose what computes. A name that nobody knows is a failure, as is an
 * algorithm that takes no layer; an instruction set that this CPU lacks is a skip.
 */
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
#include "trainer/nn/conv/conv.h"
#include "trainer/nn/graph.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/nn/resnet.h"
#include "trainer/nn/tuning.h"
#include "trainer/optim/sgd.h"

/* As in make_golden.py. */
#define BATCH        4
#define CLASSES      10
#define STEPS        5
#define MOMENTUM     0.9f
#define WEIGHT_DECAY 5e-4f
#define SMOOTHING    0.1f
#define X_STREAM     1000
#define LABEL_STREAM 900

#define TOLERANCE          1e-4
#define TOLERANCE_WINOGRAD 1e-3
#define TIMES_MOMENTUM     300 /* times that: ReLUs of later steps may well be at a corner */
#define MOMENTUM_MOST      0.1

#define SKIPPED 77 /* ctest's SKIP_RETURN_CODE */

#define RECORDS_MAX    1024
#define FILE_BYTES_MAX (1 << 20)

static uint32_t hashed(uint32_t stream, uint32_t i)
{
    uint32_t h = i + stream * 0x9E3779B1u;

    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return h ^ (h >> 16);
}

static float uniform(uint32_t stream, size_t i)
{
    return (float)(hashed(stream, (uint32_t)i) >> 8) * 0x1p-23f - 1;
}

/* --- the golden file --- */

struct record {
    const char *name;
    uint32_t name_bytes, count;
    const unsigned char *values;
};

struct golden {
    unsigned char *bytes;
    struct record records[RECORDS_MAX];
    int count;
};

static uint32_t get_u32(const unsigned char **at)
{
    uint32_t value;

    memcpy(&value, *at, sizeof(value));
    *at += sizeof(value);
    return value;
}

static void golden_open(struct golden *golden, const char *model)
{
    const unsigned char *at, *end;
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "%s.golden", model);
    file = fopen(path, "rb");
    assert_non_null(file);
    golden->bytes = malloc(FILE_BYTES_MAX);
    assert_non_null(golden->bytes);
    end = golden->bytes + fread(golden->bytes, 1, FILE_BYTES_MAX, file);
    fclose(file);
    assert_memory_equal(golden->bytes, "CVGOLD1\n", 8);
    for (at = golden->bytes + 8; at < end;) {
        struct record *record = &golden->records[golden->count++];

        assert_true(golden->count < RECORDS_MAX);
        record->name_bytes = get_u32(&at);
        record->name = (const char *)at;
        at += record->name_bytes;
        record->count = get_u32(&at);
        record->values = at;
        at += record->count * sizeof(float);
    }
    assert_ptr_equal(at, end);
}

static const struct record *golden_find(const struct golden *golden, const char *name)
{
    for (int i = 0; i < golden->count; i++)
        if (golden->records[i].name_bytes == strlen(name) &&
            memcmp(golden->records[i].name, name, strlen(name)) == 0)
            return &golden->records[i];
    fail_msg("no record '%s'", name);
    return NULL;
}

static double record_value(const struct record *record, size_t i)
{
    float value;

    memcpy(&value, record->values + i * sizeof(value), sizeof(value));
    return value;
}

static double tolerance = TOLERANCE; /* of the network at hand */

/* 1 if the values are too far from the record; those kept of a long tensor are spread evenly. */
static int differs(const struct record *record, const float *values, size_t count)
{
    double largest = 0, error = 0;

    for (size_t i = 0; i < record->count; i++) {
        const double b = record_value(record, i), a = values[i * count / record->count];

        largest = fabs(b) > largest ? fabs(b) : largest;
        error = !(fabs(a - b) <= error) ? fabs(a - b) : error; /* a NaN sticks */
    }
    if (error <= tolerance * largest)
        return 0;
    print_error("%.*s: max|a-b| %.3g, max|b| %.3g: %.1e\n", (int)record->name_bytes, record->name,
                error, largest, error / largest);
    return 1;
}

static double norm_of(const float *x, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* --- the network --- */

struct bed {
    struct golden golden;
    struct nn_model *model;
    int size;
    uint32_t stream; /* of the hash that draws the pictures */
    float *x, *gradient, *momentum, *statistics, *file;
    int32_t labels[BATCH];
};

static float first_value(const struct nn_tensor *tensor, uint32_t number, size_t i)
{
    const float u = uniform(number, i);

    if (tensor->kind == NN_TENSOR_CONV)
        return u * (float)sqrt(6.0 / (double)(tensor->size[0] * tensor->size[2] * tensor->size[3]));
    if (tensor->kind == NN_TENSOR_RUNNING)
        return strstr(tensor->name, "running_var") != NULL ? 1 : 0;
    if (strncmp(tensor->name, "fc.", 3) == 0)
        return u * 0.125f;
    return u * 0.25f + (strstr(tensor->name, "weight") != NULL ? 1.0f : 0.0f);
}

static float *vector_of(struct bed *bed, const struct nn_tensor *tensor, float *weights)
{
    return tensor->kind == NN_TENSOR_RUNNING ? nn_model_running(bed->model) : weights;
}

static void set_weights(struct bed *bed)
{
    const struct nn_tensor *tensors = nn_model_tensors(bed->model);

    for (uint32_t t = 0; t < nn_model_tensor_count(bed->model); t++) {
        for (size_t i = 0; i < tensors[t].count; i++)
            bed->file[i] = first_value(&tensors[t], t, i);
        nn_tensor_from_file_order(&tensors[t], bed->file,
                                  vector_of(bed, &tensors[t], nn_model_weights(bed->model)));
    }
}

static void bed_open(struct bed *bed, const char *name, int size)
{
    struct err err = {0};
    const struct nn_model_options options = {
        .name = name,
        .classes = CLASSES,
        .image_size = size,
        .micro_batch_max = BATCH,
        .training = true,
    };

    *bed = (struct bed){.size = size};
    golden_open(&bed->golden, name);
    bed->stream = (uint32_t)record_value(golden_find(&bed->golden, "stream"), 0);
    bed->model = nn_model_new(&options, &err);
    assert_non_null(bed->model);
    bed->x = calloc((size_t)BATCH * size * size * 3, sizeof(float));
    bed->gradient = calloc(nn_model_weight_count(bed->model), sizeof(float));
    bed->momentum = calloc(nn_model_weight_count(bed->model), sizeof(float));
    bed->statistics = calloc(nn_model_running_count(bed->model), sizeof(float));
    bed->file = calloc(nn_model_weight_count(bed->model), sizeof(float));
    set_weights(bed);
}

static void bed_close(struct bed *bed)
{
    nn_model_free(bed->model);
    free(bed->golden.bytes);
    free(bed->x);
    free(bed->gradient);
    free(bed->momentum);
    free(bed->statistics);
    free(bed->file);
}

static void draw_pictures(struct bed *bed, uint32_t step)
{
    for (size_t i = 0; i < (size_t)BATCH * bed->size * bed->size * 3; i++)
        bed->x[i] = uniform(bed->stream + step, i);
    for (uint32_t i = 0; i < BATCH; i++)
        bed->labels[i] = (int32_t)(hashed(LABEL_STREAM + step, i) % CLASSES);
}

static float step_once(struct bed *bed, uint32_t number)
{
    struct nn_score score = {0};
    const struct nn_step step = {
        .x = bed->x,
        .labels = bed->labels,
        .n = BATCH,
        .scale = 1.0f / BATCH,
        .label_smoothing = SMOOTHING,
        .statistics = bed->statistics,
        .gradient = bed->gradient,
    };

    draw_pictures(bed, number);
    assert_int_equal(nn_model_train(bed->model, &step, &score), 0);
    nn_model_update_running(bed->model, bed->statistics, 0.1f);
    return (float)((double)score.loss / NN_LOSS_UNIT / BATCH);
}

static void descend(struct bed *bed, float lr)
{
    const struct optim_sgd sgd = {
        .momentum = MOMENTUM, .weight_decay = WEIGHT_DECAY, .nesterov = true};

    optim_sgd_step(&sgd, lr, nn_model_weights(bed->model), bed->momentum, bed->gradient,
                   nn_model_weight_count(bed->model));
}

enum part { WEIGHTS = 1, RUNNING = 2 };

/* All tensors of these parts against "<group>/<name>", and their norms, which see the elements that
 * were not kept. */
static int group_differs(struct bed *bed, const char *group, int parts, float *weights)
{
    const struct nn_tensor *tensors = nn_model_tensors(bed->model);
    char name[128];
    size_t number = 0;
    int wrong = 0;

    for (size_t t = 0; t < nn_model_tensor_count(bed->model); t++) {
        const int part = tensors[t].kind == NN_TENSOR_RUNNING ? RUNNING : WEIGHTS;
        double expected, found;

        if ((parts & part) == 0)
            continue;
        nn_tensor_to_file_order(&tensors[t], vector_of(bed, &tensors[t], weights), bed->file);
        snprintf(name, sizeof(name), "%s/%s", group, tensors[t].name);
        wrong += differs(golden_find(&bed->golden, name), bed->file, tensors[t].count);
        snprintf(name, sizeof(name), "%s.norms", group);
        expected = record_value(golden_find(&bed->golden, name), number++);
        found = norm_of(bed->file, tensors[t].count);
        if (!(fabs(found - expected) <= tolerance * expected)) {
            print_error("%s of %s: %.9g, not %.9g\n", name, tensors[t].name, found, expected);
            wrong++;
        }
    }
    return wrong;
}

/* Convolutions of a network whose algorithm, in any direction, has a name that begins so. */
static int layers_by(const char *network, int size, const char *algorithm)
{
    struct nn_graph graph;
    int layers = 0;

    nn_resnet_build(nn_resnet_find(network), size, CLASSES, &(struct nn_tuning){0}, &graph);
    for (int i = 0; i < graph.node_count; i++) {
        bool found = false;

        if (graph.nodes[i].kind != NN_NODE_CONV)
            continue;
        for (int d = NN_FORWARD; d <= NN_BACKWARD_WEIGHTS; d++)
            found |= strncmp(nn_conv_algorithm_name(&graph.nodes[i].conv, (enum nn_direction)d),
                             algorithm, strlen(algorithm)) == 0;
        layers += found;
    }
    nn_graph_release(&graph);
    return layers;
}

static void network_agrees(const char *name, int size, float lr)
{
    const char *forced = getenv("CONVOY_CONV");
    float losses[STEPS], logits[BATCH * CLASSES];
    struct bed bed;
    int wrong = 0;

    if (forced != NULL && *forced != '\0' && layers_by(name, size, forced) == 0)
        fail_msg("no layer of %s is computed by '%s'", name, forced);
    tolerance = layers_by(name, size, "winograd") > 0 ? TOLERANCE_WINOGRAD : TOLERANCE;
    bed_open(&bed, name, size);
    for (uint32_t step = 0; step < STEPS; step++) {
        losses[step] = step_once(&bed, step);
        if (step == 0) {
            wrong += group_differs(&bed, "gradient", WEIGHTS, bed.gradient);
            wrong += group_differs(&bed, "running", RUNNING, NULL);
        }
        descend(&bed, lr);
    }
    wrong += differs(golden_find(&bed.golden, "losses"), losses, STEPS);
    wrong += group_differs(&bed, "after", WEIGHTS | RUNNING, nn_model_weights(bed.model));
    draw_pictures(&bed, 0);
    nn_model_evaluate(bed.model, bed.x, NULL, BATCH, logits, NULL, NULL);
    wrong += differs(golden_find(&bed.golden, "logits"), logits, BATCH * CLASSES);
    tolerance = fmin(tolerance * TIMES_MOMENTUM, MOMENTUM_MOST);
    wrong += group_differs(&bed, "momentum", WEIGHTS, bed.momentum);
    bed_close(&bed);
    assert_int_equal(wrong, 0);
}

static void resnet20_agrees_with_pytorch_over_five_steps(void **state)
{
    (void)state;
    network_agrees("resnet20", 32, 0.002f);
}

static void resnet18_agrees_with_torchvision_over_five_steps(void **state)
{
    (void)state;
    network_agrees("resnet18", 64, 5e-6f);
}

/* The state_dict's names and shapes, one tensor a line: NAME SIZE... */
static void names_agree(const char *model_name)
{
    const struct nn_model_options options = {model_name, 1000, 32, 1, false, {0}};
    struct err err = {0};
    struct nn_model *model = nn_model_new(&options, &err);
    char path[64], line[256], ours[256];
    size_t t = 0;
    FILE *file;

    assert_non_null(model);
    snprintf(path, sizeof(path), "%s.tensors", model_name);
    file = fopen(path, "r");
    assert_non_null(file);
    for (; fgets(line, sizeof(line), file) != NULL; t++) {
        const struct nn_tensor *tensor = &nn_model_tensors(model)[t];
        int length;

        assert_true(t < nn_model_tensor_count(model));
        length = snprintf(ours, sizeof(ours), "%s", tensor->name);
        for (int i = 0; i < tensor->dims; i++)
            length +=
                snprintf(ours + length, sizeof(ours) - (size_t)length, " %zu", tensor->size[i]);
        line[strcspn(line, "\n")] = '\0';
        assert_string_equal(ours, line);
    }
    fclose(file);
    assert_int_equal(t, nn_model_tensor_count(model));
    nn_model_free(model);
}

static void tensors_are_named_and_shaped_as_in_torchvision(void **state)
{
    (void)state;
    names_agree("resnet18");
    names_agree("resnet50");
}

/* Is there what the environment asks for? 0, or what to exit with. */
static int check_environment(void)
{
    struct err err = {0};

    if (nn_conv_check(&err) == 0 && nn_kernels_check(&err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return strstr(err.msg, "this CPU") != NULL ? SKIPPED : 1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resnet20_agrees_with_pytorch_over_five_steps),
        cmocka_unit_test(resnet18_agrees_with_torchvision_over_five_steps),
        cmocka_unit_test(tensors_are_named_and_shaped_as_in_torchvision),
    };
    const int status = check_environment();

    if (status != 0)
        return status;
    if (argc > 1 && strcmp(argv[1], "resnet18") != 0 && strcmp(argv[1], "resnet20") != 0) {
        fprintf(stderr, "no golden values of '%s'\n", argv[1]);
        return 1;
    }
    if (argc > 1)
        cmocka_set_test_filter(strcmp(argv[1], "resnet18") == 0 ? "resnet18_*" : "resnet20_*");
    nn_threads_init(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
