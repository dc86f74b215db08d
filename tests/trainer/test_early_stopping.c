/* tests/trainer/test_early_stopping.c -- when a training ends before its last epoch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/early_stopping.h"

#define NEVER UINT32_MAX

static void ends_by_the_rule(void **state)
{
    static const struct {
        const char *name;
        struct train_early_stopping stopping;
        double accuracies[9]; /* the last one goes on for ever */
        uint32_t end;
    } cases[] = {
        {"off", {false, 1, 0, 0}, {0.5, 0.5}, NEVER},
        {"patience", {true, 3, 0, 0}, {0.5, 0.6, 0.6, 0.6, 0.6}, 4},
        {"no patience wasted on the first", {true, 1, 0, 0}, {0, 0}, 1},
        {"not before the least epochs", {true, 2, 7, 0}, {0.5, 0.4, 0.4, 0.4}, 6},
        {"just the least epochs", {true, 6, 7, 0}, {0.5, 0.4, 0.4, 0.4}, 6},
        {"an improvement begins anew", {true, 2, 0, 0}, {0.5, 0.4, 0.6, 0.5, 0.5}, 4},
        {"equal is none", {true, 2, 0, 0}, {0.5, 0.5, 0.5}, 2},
        {"from nothing", {true, 2, 0, 0.5}, {0, 0.1, 0.1, 0.1}, 3},
        {"too small a share", {true, 3, 0, 0.25}, {0.5, 0.6, 0.62, 0.62}, 3},
        {"just the share", {true, 3, 0, 0.25}, {0.5, 0.625, 0.6, 0.6, 0.6}, 4},
        /* each is too little above the one before, whatever they make together */
        {"creeping", {true, 3, 0, 0.25}, {0.5, 0.6, 0.7, 0.8, 0.9}, 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double best = -1;
        uint32_t improved = 0, end = NEVER;

        for (uint32_t epoch = 0; epoch < 20 && end == NEVER; epoch++) {
            double accuracy = cases[i].accuracies[0];

            for (uint32_t e = 1; e <= epoch && e < 9 && cases[i].accuracies[e] > 0; e++)
                accuracy = cases[i].accuracies[e];
            if (train_early_stopping_improves(&cases[i].stopping, accuracy, best))
                improved = epoch;
            best = accuracy > best ? accuracy : best;
            if (train_early_stopping_ends(&cases[i].stopping, epoch, improved))
                end = epoch;
        }
        if (end != cases[i].end)
            fail_msg("%s: ends after %u, not %u", cases[i].name, end, cases[i].end);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(ends_by_the_rule)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
