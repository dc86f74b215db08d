/* tests/optim/test_adam.c -- Adam and AdamW beside PyTorch's, by parts, and on several threads. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "trainer/optim/optimizer.h"

#define COUNT 24 /* as make_adam.py */
#define LONG  100003

/* The same hash as make_adam.py's. */
static float uniform(uint32_t stream, uint32_t i)
{
    uint32_t h = i + stream * 0x9E3779B1u;

    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return (float)((h ^ (h >> 16)) >> 8) * 0x1p-23f - 1;
}

static float gradient_at(uint32_t step, uint32_t i)
{
    return i == COUNT - 1 ? 0 : uniform(step, i) * ldexpf(1, (int)(i % 8) * 3 - 18);
}

static void fill(float *x, size_t count, uint32_t stream)
{
    for (size_t i = 0; i < count; i++)
        x[i] = uniform(stream, (uint32_t)i);
}

struct line {
    char name[8];
    struct optim_optimizer optimizer;
    double lr;
    int steps;
    float want[COUNT];
};

static int read_line(FILE *file, struct line *line)
{
    struct optim_adam *const adam = &line->optimizer.adam;

    memset(line, 0, sizeof *line);
    if (fscanf(file, "%7s %lf %lf %lf %lf %lf %d", line->name, &line->lr, &adam->beta1,
               &adam->beta2, &adam->eps, &adam->weight_decay, &line->steps) != 7)
        return 0;
    line->optimizer.kind = OPTIM_ADAM;
    adam->decoupled = strcmp(line->name, "adamw") == 0;
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(fscanf(file, "%f", &line->want[i]), 1);
    return 1;
}

static void steps_equal_pytorchs(void **state)
{
    FILE *const file = fopen("adam.table", "r");
    struct line line;
    int lines = 0;

    (void)state;
    assert_non_null(file);
    for (; read_line(file, &line); lines++) {
        struct optim_state own;
        struct err err = {0};
        float w[COUNT], gradient[COUNT];

        assert_int_equal(optim_state_init(&own, OPTIM_ADAM, COUNT, &err), 0);
        fill(w, COUNT, 0);
        for (int t = 1; t <= line.steps; t++) {
            for (uint32_t i = 0; i < COUNT; i++)
                gradient[i] = gradient_at((uint32_t)t, i);
            optim_optimizer_step(&line.optimizer, &own, (uint64_t)t, line.lr, w, gradient, 0,
                                 COUNT);
        }
        for (int i = 0; i < COUNT; i++)
            if (!(fabsf(w[i] - line.want[i]) <= 3e-7f))
                fail_msg("%s at %g, step %d: weight %d is %.9g, PyTorch has %.9g", line.name,
                         line.lr, line.steps, i, (double)w[i], (double)line.want[i]);
        optim_state_release(&own);
    }
    fclose(file);
    assert_int_equal(lines, 15);
}

static const struct optim_optimizer optimizers[] = {
    {.kind = OPTIM_SGD, .sgd = {.momentum = 0.9f, .weight_decay = 1e-4f}},
    {.kind = OPTIM_ADAM,
     .adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .decoupled = true}},
};

/* Two steps of LONG weights, in parts that end at `cut`, the last first. */
static void two_steps(const struct optim_optimizer *optimizer, size_t cut, float *w)
{
    float *const gradient = malloc(sizeof(float) * LONG);
    struct optim_state own;
    struct err err = {0};

    assert_non_null(gradient);
    assert_int_equal(optim_state_init(&own, optimizer->kind, LONG, &err), 0);
    fill(w, LONG, 1);
    for (uint64_t t = 1; t <= 2; t++) {
        fill(gradient, LONG, 1 + (uint32_t)t);
        optim_optimizer_step(optimizer, &own, t, 0.01, w, gradient, cut, LONG);
        optim_optimizer_step(optimizer, &own, t, 0.01, w, gradient, 0, cut);
    }
    optim_state_release(&own);
    free(gradient);
}

static void bits_depend_neither_on_threads_nor_on_parts(void **state)
{
    static const size_t cuts[] = {0, 1, 33333, LONG - 1, LONG};
    static float first[LONG], w[LONG];
    const int threads_before = omp_get_max_threads();
    int wrong = 0;

    (void)state;
    for (size_t o = 0; o < sizeof optimizers / sizeof optimizers[0]; o++) {
        omp_set_num_threads(1);
        two_steps(&optimizers[o], 0, first);
        for (int threads = 1; threads <= 3; threads++) {
            omp_set_num_threads(threads);
            for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
                two_steps(&optimizers[o], cuts[c], w);
                wrong += memcmp(first, w, sizeof w) != 0;
            }
        }
    }
    omp_set_num_threads(threads_before);
    assert_int_equal(wrong, 0);
}

/* What lies outside of the range stays: weights and state. */
static void a_part_leaves_the_rest_alone(void **state)
{
    enum { N = 9 };
    struct err err = {0};

    (void)state;
    for (size_t o = 0; o < sizeof optimizers / sizeof optimizers[0]; o++) {
        struct optim_state own;
        float w[N], gradient[N];

        assert_int_equal(optim_state_init(&own, optimizers[o].kind, N, &err), 0);
        fill(w, N, 1);
        fill(gradient, N, 2);
        optim_optimizer_step(&optimizers[o], &own, 1, 0.01, w, gradient, 2, 5);
        for (uint32_t i = 0; i < N; i++) {
            const int inside = i >= 2 && i < 5;

            assert_int_equal(w[i] != uniform(1, i), inside);
            for (int v = 0; v < own.vectors; v++)
                assert_int_equal(own.vector[v][i] != 0, inside);
        }
        optim_state_release(&own);
    }
}

static void a_thousand_steps_need_no_thousand_factors(void **state)
{
    const struct optim_optimizer adam = {.kind = OPTIM_ADAM,
                                         .adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}};
    struct optim_state own;
    struct err err = {0};
    float w = 1, gradient = 1;

    (void)state;
    assert_int_equal(optim_state_init(&own, OPTIM_ADAM, 1, &err), 0);
    /* With one gradient for ever both means are exact: each step is the rate. */
    for (uint64_t t = 1; t <= 1000; t++)
        optim_optimizer_step(&adam, &own, t, 1e-3, &w, &gradient, 0, 1);
    assert_true(fabsf(w) < 1e-4f);
    optim_optimizer_step(&adam, &own, UINT64_C(1) << 60, 1e-3, &w, &gradient, 0, 1);
    assert_true(isfinite(w));
    optim_state_release(&own);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_pytorchs),
        cmocka_unit_test(bits_depend_neither_on_threads_nor_on_parts),
        cmocka_unit_test(a_part_leaves_the_rest_alone),
        cmocka_unit_test(a_thousand_steps_need_no_thousand_factors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
