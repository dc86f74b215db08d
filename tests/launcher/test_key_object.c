/* tests/launcher/test_key_object.c -- the key that hosts agree on below a prefix in S3, with a real
 * server. */
#include "launcher/key_object.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "s3io/client.h"
#include "s3io/object.h"

#define PREFIX "s3://test-a/check/points/"
#define JOB    "arn:aws:sagemaker:eu-west-1:111122223333:training-job/dogs"
#define HOSTS  8

struct host {
    pthread_t thread;
    unsigned char key[LAUNCH_KEY_BYTES];
    int rc;
};

static void *agree(void *context)
{
    struct host *host = context;
    struct err err = {0};

    host->rc = launch_key_object_agree(PREFIX, JOB, host->key, &err);
    return NULL;
}

static void all_hosts_that_come_at_once_get_one_key(void **state)
{
    struct host hosts[HOSTS] = {0};
    unsigned char zero[LAUNCH_KEY_BYTES] = {0};

    (void)state;
    for (int i = 0; i < HOSTS; i++)
        assert_int_equal(pthread_create(&hosts[i].thread, NULL, agree, &hosts[i]), 0);
    for (int i = 0; i < HOSTS; i++)
        pthread_join(hosts[i].thread, NULL);
    for (int i = 0; i < HOSTS; i++) {
        assert_int_equal(hosts[i].rc, 0);
        assert_memory_equal(hosts[i].key, hosts[0].key, LAUNCH_KEY_BYTES);
    }
    assert_memory_not_equal(hosts[0].key, zero, LAUNCH_KEY_BYTES);
    launch_key_object_forget(PREFIX, JOB);
}

static void another_job_and_another_attempt_after_the_end_get_other_keys(void **state)
{
    unsigned char first[LAUNCH_KEY_BYTES], other[LAUNCH_KEY_BYTES], later[LAUNCH_KEY_BYTES];
    struct err err = {0};

    (void)state;
    assert_int_equal(launch_key_object_agree(PREFIX, JOB, first, &err), 0);
    assert_int_equal(launch_key_object_agree(PREFIX, JOB "2", other, &err), 0);
    assert_memory_not_equal(first, other, sizeof first);
    launch_key_object_forget(PREFIX, JOB);
    launch_key_object_forget(PREFIX, JOB "2");
    assert_int_equal(launch_key_object_agree(PREFIX, JOB, later, &err), 0);
    assert_memory_not_equal(first, later, sizeof first);
    launch_key_object_forget(PREFIX, JOB);
}

static void refused(const char *place, enum err_code code, const char *part)
{
    unsigned char key[LAUNCH_KEY_BYTES];
    struct err err = {0};

    assert_int_equal(launch_key_object_agree(place, NULL, key, &err), -1);
    assert_int_equal(err.code, code);
    if (strstr(err.msg, part) == NULL)
        fail_msg("'%s' is not in: %s", part, err.msg);
}

static void what_is_no_key_is_refused_by_its_name(void **state)
{
    const char *name = "check/points/convoy-job-key-e3b0c44298fc1c14"; /* of no job's name */
    const char *contents[] = {"", "0123", "xx"};
    char text[65];

    (void)state;
    memset(text, 'g', 64);
    text[64] = '\0';
    for (size_t i = 0; i < 4; i++) {
        const char *content = i < 3 ? contents[i] : text;
        const struct s3_put put = {
            .bucket = "test-a", .key = name, .data = content, .bytes = strlen(content)};
        struct err err = {0};

        assert_int_equal(s3_object_put(s3_client_shared(&err), &put, NULL, &err), S3_YES);
        refused(PREFIX, ERR_INPUT, "convoy-job-key-e3b0c44298fc1c14' is not the key of a job");
    }
    launch_key_object_forget(PREFIX, NULL);
    refused("s3://no-such-bucket/x", ERR_INPUT, "--checkpoint 's3://no-such-bucket/x'");
}

static int close_client(void **state)
{
    (void)state;
    s3_client_shared_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_hosts_that_come_at_once_get_one_key),
        cmocka_unit_test(another_job_and_another_attempt_after_the_end_get_other_keys),
        cmocka_unit_test(what_is_no_key_is_refused_by_its_name),
    };

    return cmocka_run_group_tests_name("launcher/key_object", tests, NULL, close_client);
}
