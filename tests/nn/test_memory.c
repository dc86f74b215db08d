/* tests/nn/test_memory.c -- the plan of buffers, played through and measured against memory that
 * nothing shares. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/size.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/memory.h"
#include "trainer/nn/model.h"
#include "trainer/nn/pass.h"
#include "trainer/nn/resnet.h"
#include "trainer/nn/tuning.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define CLASSES      5

static const struct network {
    const char *name;
    int size, n;
} networks[] = {{"resnet20", 16, 3}, {"resnet18", 37, 2}, {"resnet50", 32, 2}};

/* --- who reads and writes what, played through ---
 *
 * Each float of the planned memory has a mark: which content was written there last. An operation
 * requires the marks of what it reads, before it and after it, so that nothing that it reads has
 * been overwritten, not even by itself.
 */

struct play {
    struct nn_graph graph;
    struct nn_memory memory;
    size_t n, floats;
    int *marks;                   /* per float */
    int last;                     /* the newest content */
    int *data, *gradient, *taken; /* contents, per value, per value and per node */
    int wrong;
    const char *name;
};

static void play_open(struct play *play, const struct network *network, bool training)
{
    struct err err = {0};
    size_t values;

    *play = (struct play){.n = (size_t)network->n, .name = network->name};
    nn_resnet_build(nn_resnet_find(network->name), network->size, CLASSES, &(struct nn_tuning){0},
                    &play->graph);
    assert_int_equal(nn_memory_init(&play->memory, &play->graph, network->n, training, &err), 0);
    play->floats = nn_memory_size(&play->graph, network->n, training).values;
    values = (size_t)play->graph.value_count;
    play->marks = calloc(play->floats, sizeof(int));
    play->data = calloc(values, sizeof(int));
    play->gradient = calloc(values, sizeof(int));
    play->taken = calloc((size_t)play->graph.node_count, sizeof(int));
}

static void play_close(struct play *play)
{
    nn_memory_release(&play->memory);
    nn_graph_release(&play->graph);
    free(play->marks);
    free(play->data);
    free(play->gradient);
    free(play->taken);
}

static size_t floats_of(const struct play *play, int value)
{
    return nn_value_floats(&play->graph.values[value]) * play->n;
}

static size_t place_of(struct play *play, const void *at, size_t floats)
{
    const ptrdiff_t place = (const float *)at - play->memory.floats;

    if (at == NULL || place < 0 || (size_t)place + floats > play->floats)
        fail_msg("%s: a buffer outside of the plan", play->name);
    return (size_t)place;
}

static void reads(struct play *play, const void *at, size_t floats, int content, const char *what,
                  int step)
{
    const size_t place = place_of(play, at, floats);

    for (size_t i = 0; i < floats; i++) {
        if (content > 0 && play->marks[place + i] == content)
            continue;
        print_error("%s: %s is gone at node %d\n", play->name, what, step);
        play->wrong++;
        return;
    }
}

static void writes(struct play *play, const void *at, size_t floats, int *content)
{
    const size_t place = place_of(play, at, floats);

    *content = ++play->last;
    for (size_t i = 0; i < floats; i++)
        play->marks[place + i] = *content;
}

/* The input is the caller's, and nothing of it is here. */
static void reads_data(struct play *play, int value, int step)
{
    if (value > 0)
        reads(play, play->memory.data[value], floats_of(play, value), play->data[value], "a value",
              step);
}

/* A value as training reads it: an unwritten join from its operands. */
static void reads_value(struct play *play, int value, int step)
{
    const struct nn_value *v = &play->graph.values[value];

    if (!v->unwritten) {
        reads_data(play, value, step);
        return;
    }
    reads_value(play, play->graph.nodes[v->writer].in, step);
    if (play->graph.nodes[v->writer].residual != NN_NONE)
        reads_value(play, play->graph.nodes[v->writer].residual, step);
}

static void reads_gradient(struct play *play, int value, int step)
{
    reads(play, play->memory.gradient[value], floats_of(play, value), play->gradient[value],
          "a gradient", step);
}

static void writes_data(struct play *play, int value)
{
    writes(play, play->memory.data[value], floats_of(play, value), &play->data[value]);
}

static size_t taken_floats(const struct play *play, const struct nn_node *node)
{
    return (floats_of(play, node->out) + sizeof(float) - 1) / sizeof(float);
}

static void play_forward(struct play *play, int i)
{
    const struct nn_node *node = &play->graph.nodes[i];

    if (play->graph.values[node->out].unwritten)
        return;
    for (int twice = 0; twice < 2; twice++) {
        reads_value(play, node->in, i);
        if (node->residual != NN_NONE)
            reads_value(play, node->residual, i);
        if (twice > 0)
            break;
        writes_data(play, node->out);
        if (node->kind == NN_NODE_MAXPOOL)
            writes(play, play->memory.taken[i], taken_floats(play, node), &play->taken[i]);
    }
    reads_data(play, node->out, i); /* the choices do not overlap it */
}

/* What a reader of `value` needs beside: the mask, and what the batch norms before it read. */
static void reads_mask(struct play *play, int value, int step)
{
    const struct nn_node *writer = &play->graph.nodes[play->graph.values[value].writer];

    reads_value(play, value, step);
    if (writer->kind == NN_NODE_JOIN) {
        reads_data(play, writer->in, step);
        if (writer->residual != NN_NONE && nn_value_is_raw(&play->graph, writer->residual))
            reads_data(play, writer->residual, step);
    }
}

static void reads_for_input_gradient(struct play *play, int i, int dy)
{
    const struct nn_node *node = &play->graph.nodes[i];
    const struct nn_value *in = &play->graph.values[node->in];

    if (node->kind == NN_NODE_CONV) /* its gradient stands where its result stood */
        reads(play, play->memory.data[node->out], floats_of(play, node->out), dy,
              "a convolution's gradient", i);
    else
        reads_gradient(play, node->out, i);
    if (node->kind == NN_NODE_MAXPOOL)
        reads(play, play->memory.taken[i], taken_floats(play, node), play->taken[i], "a choice", i);
    if (in->reader_first == i)
        reads_mask(play, node->in, i);
}

/* The gradient of what node i reads: overwritten by the last reader in the list, else added to. */
static void play_input_gradient(struct play *play, int i, int dy)
{
    const int in = play->graph.nodes[i].in;

    reads_for_input_gradient(play, i, dy);
    if (play->graph.values[in].reader_last != i)
        reads_gradient(play, in, i);
    writes(play, play->memory.gradient[in], floats_of(play, in), &play->gradient[in]);
    reads_for_input_gradient(play, i, dy);
}

/* The gradient of a sum is that of its addends. */
static void play_join(struct play *play, int i)
{
    const struct nn_node *node = &play->graph.nodes[i];

    play->gradient[node->in] = play->gradient[node->out];
    reads_gradient(play, node->in, i);
    if (node->residual != NN_NONE) {
        play->gradient[node->residual] = play->gradient[node->out];
        reads_gradient(play, node->residual, i);
    }
}

static void play_backward(struct play *play, int i)
{
    const struct nn_node *node = &play->graph.nodes[i];
    int dy = 0;

    reads_gradient(play, node->out, i);
    if (node->kind == NN_NODE_JOIN) {
        play_join(play, i);
        return;
    }
    if (node->kind == NN_NODE_CONV || node->kind == NN_NODE_LINEAR)
        reads_value(play, node->in, i);
    if (node->kind == NN_NODE_CONV) {
        reads_data(play, node->out, i);
        writes(play, play->memory.data[node->out], floats_of(play, node->out), &dy);
        reads_value(play, node->in, i);
        reads_gradient(play, node->out, i);
    }
    if (node->in != 0)
        play_input_gradient(play, i, dy);
}

static void training_never_overwrites_what_is_still_needed(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t k = 0; k < COUNT(networks); k++) {
        struct play play;
        int logits;

        play_open(&play, &networks[k], true);
        logits = play.graph.value_count - 1;
        for (int i = 0; i < play.graph.node_count; i++)
            play_forward(&play, i);
        writes(&play, play.memory.gradient[logits], floats_of(&play, logits),
               &play.gradient[logits]);
        reads_data(&play, logits, play.graph.node_count);
        for (int i = play.graph.node_count - 1; i >= 0; i--)
            play_backward(&play, i);
        wrong += play.wrong;
        play_close(&play);
    }
    assert_int_equal(wrong, 0);
}

/* In evaluation the last convolution before a join writes the join's value, and reads the other
 * addend. */
static void play_evaluation(struct play *play, int i)
{
    const struct nn_node *node = &play->graph.nodes[i];
    const int join = play->graph.values[node->out].joined_by;
    int out = node->out, other = NN_NONE;

    if (node->kind == NN_NODE_JOIN)
        return;
    if (node->kind == NN_NODE_CONV && join != NN_NONE &&
        nn_graph_finisher(&play->graph, join) == i) {
        const struct nn_node *end = &play->graph.nodes[join];

        out = end->out;
        other = end->in == node->out ? end->residual : end->in;
    }
    for (int twice = 0; twice < 2; twice++) {
        reads_data(play, node->in, i);
        if (other != NN_NONE)
            reads_data(play, other, i);
        if (twice == 0)
            writes_data(play, out);
    }
}

static void evaluation_never_overwrites_what_is_still_needed(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t k = 0; k < COUNT(networks); k++) {
        for (int training = 0; training < 2; training++) {
            struct play play;

            play_open(&play, &networks[k], training != 0);
            for (int i = 0; i < play.graph.node_count; i++)
                play_evaluation(&play, i);
            reads_data(&play, play.graph.value_count - 1, play.graph.node_count);
            wrong += play.wrong;
            play_close(&play);
        }
    }
    assert_int_equal(wrong, 0);
}

/* --- the same bits as without sharing --- */

/* Equal bits say nothing if they are NaN or zeros. */
static void check_finite(const float *x, size_t count)
{
    const double square = numbers_dot(x, x, count);

    assert_true(isfinite(square) && square > 0);
}

/* Every buffer for itself: what nn_memory_init planned to share. */
struct apart {
    float **data, **gradient;
    uint8_t **taken;
};

static float *filled(size_t floats)
{
    float *memory = malloc((floats + 1) * sizeof(*memory));

    assert_non_null(memory);
    memset(memory, 0xff, floats * sizeof(*memory)); /* NaN: nothing is read that was not written */
    return memory;
}

static void take_apart(struct play *play, struct apart *apart)
{
    const size_t values = (size_t)play->graph.value_count;
    const size_t nodes = (size_t)play->graph.node_count;

    *apart = (struct apart){calloc(values, sizeof(float *)), calloc(values, sizeof(float *)),
                            calloc(nodes, sizeof(uint8_t *))};
    for (int v = 1; v < play->graph.value_count; v++) {
        apart->data[v] = play->memory.data[v] = filled(floats_of(play, v));
        apart->gradient[v] = filled(floats_of(play, v));
    }
    /* A join's gradient is that of its addends: that much is how backward works. */
    for (int v = play->graph.value_count - 1; v > 0; v--) {
        const int join = play->graph.values[v].joined_by;

        play->memory.gradient[v] = join == NN_NONE
                                       ? apart->gradient[v]
                                       : play->memory.gradient[play->graph.nodes[join].out];
    }
    for (size_t i = 0; i < nodes; i++)
        if (play->memory.taken[i] != NULL)
            apart->taken[i] = play->memory.taken[i] =
                (uint8_t *)filled(taken_floats(play, &play->graph.nodes[i]));
}

static void apart_free(const struct play *play, struct apart *apart)
{
    for (int v = 0; v < play->graph.value_count; v++) {
        free(apart->data[v]);
        free(apart->gradient[v]);
    }
    for (int i = 0; i < play->graph.node_count; i++)
        free(apart->taken[i]);
    free(apart->data);
    free(apart->gradient);
    free(apart->taken);
}

struct run {
    float *weights, *running, *x, *statistics, *gradient, *logits;
};

static void run_open(struct run *run, const struct play *play)
{
    const struct nn_graph *graph = &play->graph;

    run->weights = numbers_new(1, graph->weight_count);
    run->running = numbers_new(2, graph->running_count);
    numbers_fill_tensors(graph->tensors, (size_t)graph->tensor_count, run->weights, run->running);
    run->x = numbers_new(3, floats_of(play, 0));
    run->statistics = numbers_new(4, graph->running_count);
    run->gradient = numbers_new(5, graph->weight_count);
    run->logits = numbers_new(6, play->n * CLASSES);
}

static void run_close(struct run *run)
{
    float *all[] = {run->weights,    run->running,  run->x,
                    run->statistics, run->gradient, run->logits};

    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

/* A step, or an evaluation, with the gradient of the logits given. */
static void run_pass(struct run *run, const struct play *play, bool training)
{
    const int logits = play->graph.value_count - 1;
    const struct nn_pass pass = {
        .graph = &play->graph,
        .memory = &play->memory,
        .weights = run->weights,
        .running = run->running,
        .x = run->x,
        .n = (int)play->n,
        .statistics = training ? run->statistics : NULL,
        .gradient = training ? run->gradient : NULL,
    };

    assert_int_equal(nn_pass_forward(&pass), 0);
    memcpy(run->logits, play->memory.data[logits], play->n * CLASSES * sizeof(float));
    if (!training)
        return;
    numbers_fill(7, play->memory.gradient[logits], play->n * CLASSES);
    assert_int_equal(nn_pass_backward(&pass, NULL, NULL), 0);
}

static void sharing_memory_changes_no_bits_of(const struct network *network, bool training)
{
    struct play shared, own;
    struct apart apart;
    struct run a, b;

    play_open(&shared, network, true);
    play_open(&own, network, true);
    memset(shared.memory.floats, 0xff, shared.floats * sizeof(float));
    take_apart(&own, &apart);
    run_open(&a, &shared);
    run_open(&b, &own);
    run_pass(&a, &shared, training);
    run_pass(&b, &own, training);
    assert_memory_equal(a.logits, b.logits, own.n * CLASSES * sizeof(float));
    assert_memory_equal(a.statistics, b.statistics, own.graph.running_count * sizeof(float));
    assert_memory_equal(a.gradient, b.gradient, own.graph.weight_count * sizeof(float));
    check_finite(b.gradient, own.graph.weight_count);
    check_finite(b.logits, own.n * CLASSES);
    run_close(&a);
    run_close(&b);
    apart_free(&own, &apart);
    play_close(&shared);
    play_close(&own);
}

static void sharing_memory_changes_no_bits(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(networks); k++) {
        sharing_memory_changes_no_bits_of(&networks[k], true);
        sharing_memory_changes_no_bits_of(&networks[k], false);
    }
}

/* --- models --- */

static struct nn_model *model_new(const struct network *network, int n, bool training)
{
    const struct nn_model_options options = {network->name, CLASSES, network->size, n,
                                             training,      {0}};
    struct err err = {0};
    struct nn_model *model = nn_model_new(&options, &err);

    if (model == NULL)
        fail_msg("%s", err.msg);
    numbers_fill_tensors(nn_model_tensors(model), nn_model_tensor_count(model),
                         nn_model_weights(model), nn_model_running(model));
    return model;
}

static void evaluation_has_the_same_bits_in_a_model_made_for_training(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(networks); k++) {
        const struct network *network = &networks[k];
        const size_t images = (size_t)network->n, image = (size_t)network->size * network->size * 3;
        struct nn_model *evaluating = model_new(network, network->n, false);
        struct nn_model *training = model_new(network, network->n, true);
        float *x = numbers_new(1, images * image), a[CLASSES * 8], b[CLASSES * 8];

        nn_model_evaluate(evaluating, x, NULL, network->n, a, NULL, NULL);
        nn_model_evaluate(training, x, NULL, network->n, b, NULL, NULL);
        assert_memory_equal(a, b, images * CLASSES * sizeof(float));
        check_finite(a, images * CLASSES);
        free(x);
        nn_model_free(evaluating);
        nn_model_free(training);
    }
}

static bool is_enough(const struct nn_conv_size *size, struct nn_conv_size needed)
{
    return size->shared >= needed.shared && size->private >= needed.private &&
           size->blocks >= needed.blocks;
}

/* What the largest micro-batch needs is enough for a smaller one. */
static void no_layer_needs_more_for_fewer_images(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(networks); k++) {
        struct nn_graph graph;

        nn_resnet_build(nn_resnet_find(networks[k].name), networks[k].size, CLASSES,
                        &(struct nn_tuning){0}, &graph);
        for (int i = 0; i < graph.node_count; i++) {
            const struct nn_conv *conv = &graph.nodes[i].conv;

            if (graph.nodes[i].kind != NN_NODE_CONV)
                continue;
            for (int d = NN_FORWARD; d <= NN_BACKWARD_WEIGHTS; d++) {
                const enum nn_direction direction = (enum nn_direction)d;

                for (int n = 1; n < 40; n++) {
                    const struct nn_conv_size most = nn_conv_size_most(conv, direction, n);
                    const struct nn_conv_size more = nn_conv_size_most(conv, direction, n + 1);

                    assert_true(is_enough(&most, nn_conv_size(conv, direction, n)));
                    assert_true(is_enough(&more, most));
                }
            }
        }
        nn_graph_release(&graph);
    }
}

/* The working memory of each layer by itself, however many have the same shape. */
static void check_room(const struct nn_graph *graph, int n)
{
    const struct nn_memory_size size = nn_memory_size(graph, n, true);
    struct nn_conv_size most = {0};

    for (int i = 0; i < graph->node_count; i++) {
        const struct nn_node *node = &graph->nodes[i];

        for (int d = NN_FORWARD; d <= NN_BACKWARD_WEIGHTS; d++) {
            struct nn_conv_size here;

            if (node->kind != NN_NODE_CONV || (d == NN_BACKWARD_DATA && node->in == 0))
                continue;
            here = nn_conv_size_most(&node->conv, (enum nn_direction)d, n);
            most.shared = nn_size_most(most.shared, here.shared);
            most.private = nn_size_most(most.private, here.private);
            most.blocks = nn_size_most(most.blocks, here.blocks);
        }
    }
    assert_int_equal(size.shared, most.shared);
    assert_int_equal(size.private, most.private);
    assert_int_equal(size.block_rows, most.blocks);
}

static void a_network_has_room_for_every_layer_and_no_more(void **state)
{
    /* Convolutions one behind the other, the last of them the largest: it has the input, the
     * filters or the taps of an earlier one, but not all three. */
    static const struct chain {
        int k, r;
    } chains[][4] = {
        {{64, 1}, {64, 3}, {512, 1}, {64, 3}},
        {{64, 1}, {64, 3}, {64, 3}, {512, 3}},
        {{64, 1}, {64, 1}, {64, 1}, {64, 5}},
    };

    (void)state;
    for (size_t k = 0; k < COUNT(networks); k++) {
        struct nn_graph graph;

        nn_resnet_build(nn_resnet_find(networks[k].name), networks[k].size, CLASSES,
                        &(struct nn_tuning){0}, &graph);
        check_room(&graph, 7);
        nn_graph_release(&graph);
    }
    for (size_t k = 0; k < COUNT(chains); k++) {
        struct nn_graph graph;
        int value = 0;

        nn_graph_init(&graph, 3, 12, 12);
        for (size_t i = 0; i < COUNT(chains[k]); i++)
            value = nn_graph_conv(&graph, "conv", "bn", value, chains[k][i].k, chains[k][i].r, 1);
        nn_graph_finish(&graph);
        check_room(&graph, 7);
        nn_graph_release(&graph);
    }
}

/* --- a step allocates nothing --- */

/* The linker sends our own code's calls here (--wrap in CMakeLists.txt). */
static int allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes);

static void count_allocation(void)
{
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
}

void *__wrap_malloc(size_t bytes)
{
    count_allocation();
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    count_allocation();
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    count_allocation();
    return __real_realloc(memory, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    count_allocation();
    return __real_aligned_alloc(alignment, bytes);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    count_allocation();
    return __real_posix_memalign(memory, alignment, bytes);
}

static void a_step_and_an_evaluation_allocate_nothing(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(networks); k++) {
        const struct network *network = &networks[k];
        struct nn_model *model = model_new(network, network->n, true);
        const size_t image = (size_t)network->size * network->size * 3;
        float *x = numbers_new(1, (size_t)network->n * image);
        float *gradient = numbers_new(2, nn_model_weight_count(model));
        float *statistics = numbers_new(3, nn_model_running_count(model));
        const int32_t labels[8] = {0};
        struct nn_score score = {0};
        const struct nn_step step = {
            .x = x,
            .labels = labels,
            .n = network->n,
            .scale = 1,
            .statistics = statistics,
            .gradient = gradient,
        };
        const int before = allocations;
        int made;

        assert_true(before > 0); /* the counter counts */
        nn_model_train(model, &step, &score);
        nn_model_evaluate(model, x, labels, network->n, NULL, NULL, &score);
        made = allocations - before;
        free(x);
        free(gradient);
        free(statistics);
        nn_model_free(model);
        assert_int_equal(made, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_never_overwrites_what_is_still_needed),
        cmocka_unit_test(evaluation_never_overwrites_what_is_still_needed),
        cmocka_unit_test(sharing_memory_changes_no_bits),
        cmocka_unit_test(evaluation_has_the_same_bits_in_a_model_made_for_training),
        cmocka_unit_test(no_layer_needs_more_for_fewer_images),
        cmocka_unit_test(a_network_has_room_for_every_layer_and_no_more),
        cmocka_unit_test(a_step_and_an_evaluation_allocate_nothing),
    };

    nn_threads_init(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
