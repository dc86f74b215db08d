/* tests/launcher/test_key.c -- the secret of a job, from where it may come. */
#include "launcher/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/entropy.h"
#include "base/err.h"

#define SECRET "0123456789abcdef"
#define JOB    "arn:aws:sagemaker:eu-west-1:111122223333:training-job/dogs"

static void key_from_the_environment_leaves_it_and_depends_on_nothing_else(void **state)
{
    unsigned char a[LAUNCH_KEY_BYTES], b[LAUNCH_KEY_BYTES];
    struct err err = {0};

    (void)state;
    setenv("CONVOY_JOB_KEY", SECRET, 1);
    assert_int_equal(launch_key_shared(JOB, a, &err), 0);
    assert_null(getenv("CONVOY_JOB_KEY"));
    setenv("CONVOY_JOB_KEY", SECRET, 1);
    assert_int_equal(launch_key_shared(NULL, b, &err), 0);
    assert_memory_equal(a, b, sizeof a);
    setenv("CONVOY_JOB_KEY", SECRET "0", 1);
    assert_int_equal(launch_key_shared(JOB, b, &err), 0);
    assert_memory_not_equal(a, b, sizeof a);
}

static void key_from_the_jobs_name_is_another_for_each_job(void **state)
{
    unsigned char a[LAUNCH_KEY_BYTES], b[LAUNCH_KEY_BYTES], c[LAUNCH_KEY_BYTES];
    struct err err = {0};

    (void)state;
    unsetenv("CONVOY_JOB_KEY");
    assert_int_equal(launch_key_shared(JOB, a, &err), 0);
    assert_int_equal(launch_key_shared(JOB "-2", b, &err), 0);
    assert_memory_not_equal(a, b, sizeof a);
    setenv("CONVOY_JOB_KEY", JOB, 1); /* the name as a secret is no way to the name's key */
    assert_int_equal(launch_key_shared(JOB, c, &err), 0);
    assert_memory_not_equal(a, c, sizeof a);
}

static void key_that_is_short_is_refused_without_being_shown(void **state)
{
    unsigned char key[LAUNCH_KEY_BYTES];
    struct err err = {0};

    (void)state;
    setenv("CONVOY_JOB_KEY", "tooshort", 1);
    assert_int_equal(launch_key_shared(JOB, key, &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "CONVOY_JOB_KEY"));
    assert_null(strstr(err.msg, "tooshort"));
    setenv("CONVOY_JOB_KEY", "replace-by-the-output-of-openssl-rand-hex-32", 1);
    assert_int_equal(launch_key_shared(JOB, key, &err), -1);
    assert_non_null(strstr(err.msg, "openssl rand -hex 32"));
    unsetenv("CONVOY_JOB_KEY");
}

static void key_goes_through_text_and_nothing_else_does(void **state)
{
    static const char *const wrong[] = {"", "ab", "zz", "-1"};
    unsigned char key[LAUNCH_KEY_BYTES], back[LAUNCH_KEY_BYTES];
    char text[65], longer[67];

    (void)state;
    entropy_fill(key, LAUNCH_KEY_BYTES);
    launch_key_text(key, text);
    assert_true(launch_key_read(text, back));
    assert_memory_equal(key, back, sizeof key);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(launch_key_read(wrong[i], back));
    memcpy(longer, text, 64);
    memcpy(longer + 64, "ab", 3);
    assert_false(launch_key_read(longer, back));
    text[63] = 'G';
    assert_false(launch_key_read(text, back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_from_the_environment_leaves_it_and_depends_on_nothing_else),
        cmocka_unit_test(key_from_the_jobs_name_is_another_for_each_job),
        cmocka_unit_test(key_that_is_short_is_refused_without_being_shown),
        cmocka_unit_test(key_goes_through_text_and_nothing_else_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
