/* tests/base/test_option.c -- options from a table: parsing, checks, sources, help. */
#include "base/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static const struct option_spec table[] = {
    {.name = "data",
     .kind = OPTION_TEXT,
     .metavar = "DIR",
     .env = "T_CHANNEL_A T_CHANNEL_B",
     .help = "a folder"},
    {.name = "global-batch",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1e6,
     .fallback = "256",
     .help = "images"},
    {.name = "lr", .kind = OPTION_NUMBER, .metavar = "X", .min = 0, .max = 10, .help = "rate"},
    {.name = "last-batch",
     .kind = OPTION_CHOICE,
     .metavar = "keep|drop",
     .choices = "keep|drop",
     .fallback = "keep",
     .help = "what\nof it"},
    {.name = "nesterov", .kind = OPTION_FLAG, .fallback = "false", .help = "a flag"},
};
#define COUNT (sizeof table / sizeof table[0])

static int setup(void **state)
{
    static struct option_set set;

    option_set_init(&set, table, COUNT);
    *state = &set;
    return 0;
}

static int teardown(void **state)
{
    option_set_release(*state);
    return 0;
}

static int parse(struct option_set *set, const char *a, const char *b, struct err *err)
{
    char *argv[] = {(char *)a, (char *)b};

    return option_set_parse(set, b != NULL ? 2 : 1, argv, err);
}

static void option_takes_both_spellings_and_both_dashes(void **state)
{
    struct option_set *const set = *state;
    struct err err = {0};

    assert_int_equal(parse(set, "--global_batch", "64", &err), 0);
    assert_int_equal(option_integer(set, "global-batch"), 64);
    assert_int_equal(parse(set, "--global-batch=65", NULL, &err), 0);
    assert_int_equal(option_integer(set, "global-batch"), 65);
    assert_int_equal(parse(set, "--global-batch=66.0", NULL, &err), 0);
    assert_int_equal(option_integer(set, "global-batch"), 66);
    assert_int_equal(parse(set, "--nesterov", "--nesterov=false", &err), 0);
    assert_false(option_flag(set, "nesterov"));
    assert_int_equal(option_source(set, "global-batch"), OPTION_COMMAND_LINE);
    assert_int_equal(option_source(set, "lr"), OPTION_ABSENT);
    assert_null(option_text(set, "lr"));
}

static void option_refuses_what_the_table_forbids(void **state)
{
    static const struct {
        const char *a, *b, *says;
    } cases[] = {
        {"--globl-batch", "1", "did you mean '--global-batch'"},
        {"--zzzzzz", "1", "unknown option '--zzzzzz'"},
        {"--global-batch", NULL, "--global-batch needs a value (N)"},
        {"--global-batch", "0", "--global-batch: 0 is not within 1 and 1000000"},
        {"--global-batch", "1.5", "not a whole number"},
        {"--global-batch", "12x", "not a number"},
        {"--lr", "nan", "not a number"},
        {"--lr", "-1", "not within"},
        {"--last-batch", "kee", "'kee' is not one of keep|drop"},
        {"--nesterov=perhaps", NULL, "neither true nor false"},
        {"--data=", NULL, "the value is empty"},
        {"data", NULL, "'data' belongs to no option"},
    };
    struct option_set *const set = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};

        assert_int_equal(parse(set, cases[i].a, cases[i].b, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        if (strstr(err.msg, cases[i].says) == NULL)
            fail_msg("case %zu says '%s'", i, err.msg);
    }
}

static void option_sources_outrank_each_other_in_order(void **state)
{
    struct option_set *const set = *state;
    struct err err = {0};

    setenv("T_CHANNEL_B", "/b", 1);
    setenv("T_HP_GLOBAL_BATCH", "\"32\"", 1); /* as a tuner writes it: a JSON string */
    setenv("T_HP_LR", "0.5", 1);
    assert_int_equal(parse(set, "--lr", "0.25", &err), 0);
    assert_int_equal(option_set_environment(set, "T_HP_", &err), 0);
    assert_string_equal(option_text(set, "data"), "/b");
    assert_int_equal(option_integer(set, "global-batch"), 32);
    assert_true(option_number(set, "lr") == 0.25);
    assert_int_equal(option_set_assign(set, "global-batch", "99", OPTION_CHECKPOINT, "c", &err), 0);
    assert_int_equal(option_integer(set, "global-batch"), 32); /* the environment is stronger */
    assert_int_equal(option_set_assign(set, "last-batch", "drop", OPTION_CHECKPOINT, "c", &err), 0);
    assert_string_equal(option_text(set, "last-batch"), "drop");
    setenv("T_HP_GLOBAL_BATCH", "many", 1);
    assert_int_equal(option_set_environment(set, "T_HP_", &err), -1);
    assert_non_null(strstr(err.msg, "(T_HP_GLOBAL_BATCH): 'many'"));
    unsetenv("T_CHANNEL_B");
    unsetenv("T_HP_GLOBAL_BATCH");
    unsetenv("T_HP_LR");
}

static void option_decodes_hyperparameters_as_their_senders_wrote_them(void **state)
{
    static const char *const cases[][2] = {
        {"64", "64"},
        {" 64.0\r\n", "64.0"},
        {"\"sgd\"", "sgd"},
        {" \"10,20\" ", "10,20"},
        {"\"\\\"twice\\\"\"", "\"twice\""},
        {"\"a\\u00e9\"", "a\xc3\xa9"},
        {"\"open", "\"open"},
        {"\"a\" b", "\"a\" b"},
        {"[10, 20]", "[10, 20]"},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *const text = option_decode(cases[i][0]);

        assert_string_equal(text, cases[i][1]);
        free(text);
    }
}

static void option_takes_hyperparameters_with_either_dash_and_says_so(void **state)
{
    struct option_set *const set = *state;
    struct err err = {0};
    size_t i = 0;
    char *text = NULL;

    setenv("T_HP_GLOBAL-BATCH", "32.0", 1);
    setenv("T_HP_A-B_C", "x", 1);
    setenv("T_HP_BLANK", " \n", 1);
    assert_int_equal(option_set_environment(set, "T_HP_", &err), 0);
    assert_int_equal(option_integer(set, "global-batch"), 32);
    while (strcmp(set->specs[i].name, "global-batch") != 0)
        i++;
    assert_string_equal(option_origin(set, i), "hyperparameter global_batch (T_HP_GLOBAL_BATCH)");
    text = option_hyperparameter("T_HP_", "a_b-c");
    assert_string_equal(text, "x");
    free(text);
    assert_null(option_hyperparameter("T_HP_", "a_b"));
    assert_null(option_hyperparameter("T_HP_", "blank"));
    unsetenv("T_HP_GLOBAL-BATCH");
    unsetenv("T_HP_A-B_C");
    unsetenv("T_HP_BLANK");
}

static void option_names_stray_hyperparameters_but_not_the_platforms(void **state)
{
    struct option_set *const set = *state;
    const char *name = NULL;
    size_t at = 0;

    setenv("T_HP_GLOBAL-BATCH", "1", 1);
    setenv("T_HP_SAGEMAKER_PROGRAM", "x", 1);
    setenv("T_HP_EPOCS", "3", 1);
    name = option_set_stray(set, "T_HP_", &at);
    assert_non_null(name);
    assert_string_equal(name, "T_HP_EPOCS=3");
    assert_null(option_set_stray(set, "T_HP_", &at));
    unsetenv("T_HP_GLOBAL-BATCH");
    unsetenv("T_HP_SAGEMAKER_PROGRAM");
    unsetenv("T_HP_EPOCS");
}

static void option_help_shows_every_entry_with_its_default(void **state)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *const out = open_memstream(&text, &bytes);

    option_set_help(*state, out);
    fclose(out);
    for (size_t i = 0; i < COUNT; i++)
        assert_non_null(strstr(text, table[i].name));
    assert_non_null(strstr(text, "--global-batch N             images [256]"));
    assert_non_null(strstr(text, "of it [keep]"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(option_takes_both_spellings_and_both_dashes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(option_refuses_what_the_table_forbids, setup, teardown),
        cmocka_unit_test_setup_teardown(option_sources_outrank_each_other_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(option_decodes_hyperparameters_as_their_senders_wrote_them,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(option_takes_hyperparameters_with_either_dash_and_says_so,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(option_names_stray_hyperparameters_but_not_the_platforms,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(option_help_shows_every_entry_with_its_default, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
