/* tests/launcher/test_outcome.c -- one status and one reason out of what mpirun and the ranks say.
 */
#include "launcher/outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void outcome_takes_made_up_statuses_for_a_lost_host(void **state)
{
    static const struct {
        int mpirun;
        bool spoken;
        int ours;
    } cases[] = {
        {0, false, 0},     {2, false, 2},    {3, true, 3},      {7, false, 7},   {75, false, 75},
        {137, false, 137}, {139, true, 139}, {192, false, 192}, {1, true, 1},    {1, false, 3},
        {17, true, 3},     {205, false, 3},  {205, true, 3},    {213, false, 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (launch_outcome_code(cases[i].mpirun, cases[i].spoken) != cases[i].ours)
            fail_msg("mpirun's %d, spoken %d, is not %d", cases[i].mpirun, cases[i].spoken,
                     cases[i].ours);
}

static void outcome_keeps_the_first_reason(void **state)
{
    struct launch_outcome outcome = {0};

    (void)state;
    launch_outcome_set(&outcome, 3, "host '%s' is lost", "algo-2");
    launch_outcome_set(&outcome, 2, "something that came of it");
    assert_int_equal(outcome.code, 3);
    assert_string_equal(outcome.failure, "host 'algo-2' is lost");
}

static void outcome_cuts_a_long_reason_at_a_whole_character(void **state)
{
    char text[3 * LAUNCH_FAILURE_BYTES];
    struct launch_outcome outcome = {0};

    (void)state;
    memset(text, 'x', sizeof text);
    memcpy(text + 1023, "\xc3\xa4", 2); /* begins at the last byte that fits */
    memcpy(text + 10, "\n\x1b", 2);
    text[sizeof text - 1] = '\0';
    launch_outcome_set(&outcome, 3, "%s", text);
    assert_int_equal(strlen(outcome.failure), 1023);
    assert_memory_equal(outcome.failure + 9, "x ?x", 4);
}

static void outcome_describes_what_nobody_explained(void **state)
{
    static const struct {
        int code;
        const char *part;
    } cases[] = {
        {137, "signal 9 (Killed), as the kernel does when memory runs out"},
        {139, "signal 11 (Segmentation fault)"},
        {3, "status 3: a rank or host is gone"},
        {75, "before the model was written"},
        {4, "status 4"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct launch_outcome outcome = {.code = cases[i].code};

        launch_outcome_describe(&outcome);
        if (strstr(outcome.failure, cases[i].part) == NULL)
            fail_msg("'%s' lacks '%s'", outcome.failure, cases[i].part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outcome_takes_made_up_statuses_for_a_lost_host),
        cmocka_unit_test(outcome_keeps_the_first_reason),
        cmocka_unit_test(outcome_cuts_a_long_reason_at_a_whole_character),
        cmocka_unit_test(outcome_describes_what_nobody_explained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
