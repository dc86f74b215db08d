/* tests/trainer/test_infer_options.c -- the words behind `convoy eval` and `convoy predict`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "trainer/infer_options.h"

#define WORDS_MAX 10

static int clear_environment(void **state)
{
    static const char *const names[] = {"SM_CHANNEL_MODEL",   "SM_MODEL_DIR",    "SM_CHANNEL_TEST",
                                        "SM_OUTPUT_DATA_DIR", "SM_CHANNEL_DATA", "CONVOY_THREADS"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    return 0;
}

/* The words up to the first NULL. */
static int read_words(struct train_infer_options *o, enum train_infer_verb verb,
                      const char *const *words, struct err *err)
{
    int argc = 0;

    while (argc < WORDS_MAX && words[argc] != NULL)
        argc++;
    return train_infer_options_read(o, verb, argc, (char *const *)words, err);
}

static void words_between_options_are_pictures(void **state)
{
    static const char *const words[WORDS_MAX] = {
        "a", "--top_k", "3", "--format=csv", "b", "--output", "o", "file:///c", "--", "-d"};
    static const char *const paths[] = {"a", "b", "/c", "-d"};
    struct train_infer_options o;
    struct err err = {0};

    (void)state;
    assert_int_equal(read_words(&o, TRAIN_PREDICT, words, &err), 0);
    assert_int_equal(o.path_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(o.paths[i], paths[i]);
    assert_int_equal(o.top_k, 3);
    assert_int_equal(o.format, REPORT_CSV);
    assert_string_equal(o.output, "o");
    assert_string_equal(o.model, "model");
    train_infer_options_release(&o);
}

static void flags_take_no_word_with_them(void **state)
{
    static const char *const words[WORDS_MAX] = {"--partial", "--test", "t"};
    struct train_infer_options o;
    struct err err = {0};

    (void)state;
    assert_int_equal(read_words(&o, TRAIN_EVAL, words, &err), 0);
    assert_true(o.partial);
    assert_string_equal(o.test, "t");
    assert_null(o.report);
    train_infer_options_release(&o);
}

static void channels_stand_in_for_what_is_not_given(void **state)
{
    static const char *const none[WORDS_MAX] = {NULL}, *const given[WORDS_MAX] = {"--data", "d"};
    struct train_infer_options o;
    struct err err = {0};

    (void)state;
    setenv("SM_CHANNEL_TEST", "/ml/test", 1);
    setenv("SM_CHANNEL_MODEL", "/ml/model", 1);
    setenv("SM_OUTPUT_DATA_DIR", "/ml/output", 1);
    assert_int_equal(read_words(&o, TRAIN_EVAL, none, &err), 0);
    assert_string_equal(o.test, "/ml/test");
    assert_string_equal(o.model, "/ml/model");
    assert_string_equal(o.report, "/ml/output");
    train_infer_options_release(&o);
    assert_int_equal(read_words(&o, TRAIN_EVAL, given, &err), 0);
    assert_string_equal(o.data, "d");
    assert_null(o.test);
    train_infer_options_release(&o);
}

static void mistakes_are_refused_by_name(void **state)
{
    static const struct {
        enum train_infer_verb verb;
        const char *words[WORDS_MAX], *said;
    } cases[] = {
        {TRAIN_PREDICT, {NULL}, "no pictures"},
        {TRAIN_PREDICT, {"--top-k=0", "a"}, "--top-k"},
        {TRAIN_PREDICT, {"--top-k", "x", "a"}, "--top-k"},
        {TRAIN_PREDICT, {"a", "--top-k"}, "--top-k"},
        {TRAIN_PREDICT, {"--format=xml", "a"}, "--format"},
        {TRAIN_PREDICT, {"--test=t", "a"}, "--test"},
        {TRAIN_PREDICT, {"-k", "3", "a"}, "unknown option '-k' (behind '--'"},
        {TRAIN_PREDICT, {"a", "-"}, "unknown option '-'"},
        {TRAIN_EVAL, {"--test=t", "-k"}, "unknown option '-k'"},
        {TRAIN_PREDICT, {"--output=", "a"}, "--output"},
        {TRAIN_PREDICT, {"--model=http://h/m", "a"}, "--model"},
        {TRAIN_PREDICT, {"http://h/a.jpg"}, "http"},
        {TRAIN_PREDICT, {"s3://"}, "s3://"},
        {TRAIN_PREDICT, {""}, "empty"},
        {TRAIN_EVAL, {NULL}, "--test"},
        {TRAIN_EVAL, {"t"}, "'t'"},
        {TRAIN_EVAL, {"--test=t", "--data=d"}, "--data and --test"},
        {TRAIN_EVAL, {"--test=t", "--top-k=3"}, "--top-k"},
        {TRAIN_EVAL, {"--test=t", "--report=s3://b/r"}, "--report"},
        {TRAIN_EVAL, {"--test=t", "--batch=0"}, "--batch"},
        {TRAIN_EVAL, {"--test=t", "--cache-bytes=5"}, "--cache-bytes: there is no cache"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct train_infer_options o;
        struct err err = {0};

        if (read_words(&o, cases[i].verb, cases[i].words, &err) == 0)
            fail_msg("case %zu was taken", i);
        if (err.code != ERR_USAGE || strstr(err.msg, cases[i].said) == NULL)
            fail_msg("case %zu: %s", i, err.msg);
        train_infer_options_release(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(words_between_options_are_pictures, clear_environment),
        cmocka_unit_test_setup(flags_take_no_word_with_them, clear_environment),
        cmocka_unit_test_setup_teardown(channels_stand_in_for_what_is_not_given, clear_environment,
                                        clear_environment),
        cmocka_unit_test_setup(mistakes_are_refused_by_name, clear_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
