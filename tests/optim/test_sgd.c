/* tests/optim/test_sgd.c -- steps, norms and clipping against their definitions in double. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "trainer/optim/sgd.h"

static void fill(float *x, size_t count, uint64_t stream)
{
    struct philox philox;

    philox_init(&philox, 7, stream, 0, PHILOX_SYNTH);
    for (size_t i = 0; i < count; i++)
        x[i] = philox_normal(&philox);
}

static void step_follows_the_definition_for_five_steps(void **state)
{
    static const struct {
        const char *name;
        struct optim_sgd sgd;
    } cases[] = {
        {"plain", {0, 0, false}},          {"weight decay", {0, 0.01f, false}},
        {"momentum", {0.9f, 0, false}},    {"momentum and weight decay", {0.9f, 1e-4f, false}},
        {"Nesterov", {0.9f, 1e-4f, true}},
    };
    enum { COUNT = 1003, STEPS = 5 };
    static float w[COUNT], m[COUNT], gradient[COUNT];
    static double want_w[COUNT], want_m[COUNT];

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const double mu = (double)cases[c].sgd.momentum, decay = (double)cases[c].sgd.weight_decay;
        double worst = 0;

        fill(w, COUNT, 1);
        memset(m, 0, sizeof m);
        memset(want_m, 0, sizeof want_m);
        for (size_t i = 0; i < COUNT; i++)
            want_w[i] = (double)w[i];
        for (int step = 0; step < STEPS; step++) {
            fill(gradient, COUNT, 10 + (uint64_t)step);
            optim_sgd_step(&cases[c].sgd, 0.1f, w, m, gradient, COUNT);
            for (size_t i = 0; i < COUNT; i++) {
                const double g = (double)gradient[i] + decay * want_w[i];

                want_m[i] = mu * want_m[i] + g;
                want_w[i] -=
                    (double)0.1f * (cases[c].sgd.nesterov ? g + mu * want_m[i] : want_m[i]);
                worst = fmax(worst, fabs(want_w[i] - (double)w[i]));
                worst = fmax(worst, fabs(want_m[i] - (double)m[i]));
            }
        }
        if (!(worst < 3e-6))
            fail_msg("%s: off by %g", cases[c].name, worst);
    }
}

/* All terms are of one size, so that an operation fused with the next gives other floats. */
static void step_rounds_every_operation(void **state)
{
    const struct optim_sgd sgd = {.momentum = 0.9f, .weight_decay = 0.7f, .nesterov = true};
    enum { COUNT = 4099 };
    static float w[COUNT], m[COUNT], gradient[COUNT], before[COUNT], m_before[COUNT];
    int wrong = 0;

    (void)state;
    fill(before, COUNT, 1);
    memcpy(w, before, sizeof w);
    fill(gradient, COUNT, 2);
    fill(m, COUNT, 3);
    memcpy(m_before, m, sizeof m);
    optim_sgd_step(&sgd, 0.3f, w, m, gradient, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        volatile float decayed =
            0.7f * before[i]; /* volatile: rounded to float before it is used */
        volatile float g = gradient[i] + decayed;
        volatile float old = 0.9f * m_before[i];
        volatile float new = old + g;
        volatile float ahead = 0.9f * new;
        volatile float direction = g + ahead;
        volatile float change = 0.3f * direction;
        volatile float want = before[i] - change;

        wrong += m[i] != new || w[i] != want;
    }
    assert_int_equal(wrong, 0);
}

static void step_and_norm_have_the_same_bits_on_any_number_of_threads(void **state)
{
    static const size_t counts[] = {0, 1, 4097, 100003};
    const struct optim_sgd sgd = {.momentum = 0.9f, .weight_decay = 1e-4f};
    enum { LONGEST = 100003 };
    float *first = malloc(sizeof(float) * LONGEST), *w = malloc(sizeof(float) * LONGEST);
    float *m = malloc(sizeof(float) * LONGEST), *gradient = malloc(sizeof(float) * LONGEST);
    const int threads_before = omp_get_max_threads();
    int wrong = 0;

    (void)state;
    fill(gradient, LONGEST, 2);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        const size_t count = counts[c];
        double norm = 0;

        for (int threads = 1; threads <= 5; threads++) {
            omp_set_num_threads(threads);
            fill(w, LONGEST, 1);
            memset(m, 0, sizeof(float) * LONGEST);
            optim_sgd_step(&sgd, 0.1f, w, m, gradient, count);
            optim_sgd_step(&sgd, 0.1f, w, m, gradient, count);
            if (threads == 1) {
                memcpy(first, w, sizeof(float) * LONGEST);
                norm = optim_norm(w, count);
            }
            wrong += memcmp(first, w, sizeof(float) * LONGEST) != 0;
            wrong += memcmp(&norm, &(double){optim_norm(w, count)}, sizeof norm) != 0;
        }
    }
    omp_set_num_threads(threads_before);
    free(first);
    free(w);
    free(m);
    free(gradient);
    assert_int_equal(wrong, 0);
}

static void norm_is_exact_for_small_integers_at_every_length(void **state)
{
    enum { LONGEST = 70000 };
    float *x = malloc(sizeof(float) * LONGEST);
    double squares = 0;
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < LONGEST; i++)
        x[i] = (float)((int)(i % 17) - 8);
    for (size_t count = 0; count <= LONGEST; count++) {
        if (count < 600 || count % 997 == 0 || count % 4096 < 2)
            wrong += optim_norm(x, count) != sqrt(squares);
        if (count < LONGEST)
            squares += (double)x[count] * (double)x[count];
    }
    free(x);
    assert_int_equal(wrong, 0);
}

static void norm_does_not_overflow_where_floats_would(void **state)
{
    const float x[] = {3e30f, 4e30f};

    (void)state;
    assert_true(fabs(optim_norm(x, 2) - 5e30) < 1e24);
}

static void clip_shortens_only_what_is_longer(void **state)
{
    static const struct {
        const char *name;
        double max_norm;
        float x, y; /* of (3, 4) */
    } cases[] = {{"longer", 2.5, 1.5f, 2}, {"just as long", 5, 3, 4}, {"shorter", 10, 3, 4}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float gradient[] = {3, 4};

        if (optim_clip(gradient, 2, cases[i].max_norm) != 5 || gradient[0] != cases[i].x ||
            gradient[1] != cases[i].y)
            fail_msg("%s", cases[i].name);
    }
}

static void clip_leaves_nothing_to_divide_when_all_is_zero_or_not_a_number(void **state)
{
    float zero[] = {0, 0}, nan[] = {NAN, 1};

    (void)state;
    assert_true(optim_clip(zero, 2, 1) == 0);
    assert_true(zero[0] == 0 && zero[1] == 0);
    assert_true(isnan(optim_clip(nan, 2, 1)));
    assert_true(nan[1] == 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_follows_the_definition_for_five_steps),
        cmocka_unit_test(step_rounds_every_operation),
        cmocka_unit_test(step_and_norm_have_the_same_bits_on_any_number_of_threads),
        cmocka_unit_test(norm_is_exact_for_small_integers_at_every_length),
        cmocka_unit_test(norm_does_not_overflow_where_floats_would),
        cmocka_unit_test(clip_shortens_only_what_is_longer),
        cmocka_unit_test(clip_leaves_nothing_to_divide_when_all_is_zero_or_not_a_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
