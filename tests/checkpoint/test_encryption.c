/* tests/checkpoint/test_encryption.c -- with a KMS key configured, every request that makes an
 * object below a prefix asks for encryption with it: a checkpoint in one piece or in parts, a file
 * of the model, the probe, the lease. The server is a script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "s3io/client.h"
#include "tests/s3io/faults.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/lease.h"
#include "trainer/checkpoint/place.h"

#define PLACE       "s3://bucket/prefix"
#define COUNT_LARGE (5 << 20) /* 20 MiB: more than two parts of an upload */

#define ANSWER(status, headers, body)                                                              \
    "HTTP/1.1 " status "\r\n" headers "Connection: close\r\n\r\n" body
#define WRITTEN ANSWER("200 OK", "ETag: \"e\"\r\n", "")
#define NOTHING                                                                                    \
    ANSWER("200 OK", "", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

static struct faults *server;
static struct err err;

static int setup(void **state)
{
    (void)state;
    setenv("AWS_ACCESS_KEY_ID", "AK", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    setenv("AWS_REGION", "us-east-1", 1);
    setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
    setenv("CONVOY_SSE_KMS_KEY_ID", "key-7", 1);
    err = (struct err){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    s3_client_shared_close();
    faults_stop(server);
    server = NULL;
    return 0;
}

static void begin(const struct fault_step *steps, size_t count)
{
    server = faults_start(steps, count);
    setenv("AWS_ENDPOINT_URL_S3", faults_url(server), 1);
}
#define BEGIN(steps) begin(steps, sizeof(steps) / sizeof *(steps))

/* Requests that begin with `line` and ask for the key; fails where one of them does not. */
static int asking(const char *line)
{
    int found = 0;

    for (int i = 0; i < faults_requests(server); i++) {
        const char *const request = faults_request(server, i);

        if (strncmp(request, line, strlen(line)) != 0)
            continue;
        found++;
        if (strstr(request, "\r\nx-amz-server-side-encryption: aws:kms\r\n") == NULL ||
            strstr(request, "\r\nx-amz-server-side-encryption-aws-kms-key-id: key-7\r\n") == NULL)
            fail_msg("%.*s", (int)strcspn(request, "\r"), request);
    }
    return found;
}

static int save(int count)
{
    float *const weights = calloc((size_t)count, sizeof *weights);
    struct safetensors_entry entry = {"weight", SAFETENSORS_F32, 1, {(uint64_t)count}, weights};
    const struct safetensors_pair metadata = {"step", "1"};
    int rc;

    assert_non_null(weights);
    rc = checkpoint_save(PLACE, (struct checkpoint_name){1, 1}, &entry, 1, &metadata, 1, 3, NULL,
                         &err);
    free(weights);
    return rc;
}

static void checkpoint_in_one_piece_is_encrypted(void **state)
{
    const struct fault_step steps[] = {{.text = WRITTEN, .then = FAULT_CLOSE},
                                       {.text = NOTHING, .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    if (save(16) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(asking("PUT /bucket/prefix/step-000000000001-g1.safetensors "), 1);
}

/* The parts are encrypted as the upload they belong to. */
static void checkpoint_in_parts_is_encrypted(void **state)
{
    static const char begun[] = ANSWER("200 OK", "",
                                       "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                                       "</InitiateMultipartUploadResult>");
    static const char done[] = ANSWER("200 OK", "",
                                      "<CompleteMultipartUploadResult><ETag>\"e\"</ETag>"
                                      "</CompleteMultipartUploadResult>");
    const struct fault_step steps[] = {
        {.text = begun, .then = FAULT_CLOSE},
        {.text = WRITTEN, .then = FAULT_CLOSE},
        {.text = WRITTEN, .then = FAULT_CLOSE},
        {.text = WRITTEN, .then = FAULT_CLOSE},
        {.text = ANSWER("404 Not Found", "", ""), .then = FAULT_CLOSE}, /* it is not there yet */
        {.text = done, .then = FAULT_CLOSE},
        {.text = NOTHING, .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    if (save(COUNT_LARGE) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(asking("POST /bucket/prefix/step-000000000001-g1.safetensors?uploads"), 1);
}

static void file_of_the_model_and_the_probe_are_encrypted(void **state)
{
    const struct fault_step steps[] = {{.text = WRITTEN, .then = FAULT_CLOSE}};
    struct file_new file = {.fd = -1};
    struct place place = {0};
    int rc;

    (void)state;
    BEGIN(steps);
    assert_int_equal(place_open(&place, PLACE, &err), 0);
    rc = place_check_writable(&place, &err);
    if (rc == 0 && (rc = place_begin(&place, "config.json", &file, &err)) == 0 &&
        (rc = file_new_write(&file, "{}", 2, &err)) == 0)
        rc = place_commit(&place, "config.json", &file, PLACE_REPLACE, &err);
    file_new_release(&file);
    place_release(&place);
    if (rc < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(asking("PUT "), 2);
}

static void lease_is_encrypted(void **state)
{
    static const char none[] =
        ANSWER("404 Not Found", "", "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>");
    static const char taken[] =
        ANSWER("412 Precondition Failed", "", "<Error><Code>PreconditionFailed</Code></Error>");
    const struct fault_step steps[] = {{.text = none, .then = FAULT_CLOSE},
                                       {.text = WRITTEN, .then = FAULT_CLOSE},
                                       {.text = taken, .then = FAULT_CLOSE}, /* to a second one */
                                       {.text = WRITTEN, .then = FAULT_CLOSE}};
    const struct lease_options options = {.place = PLACE, .job = "job", .host = "host"};
    struct lease *lease = NULL;

    (void)state;
    BEGIN(steps);
    if (lease_take(&lease, &options, &err) != 1)
        fail_msg("%s", err.msg);
    lease_release(lease);
    assert_int_equal(asking("PUT /bucket/prefix/" LEASE_NAME " "),
                     3); /* taken, tried, given back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(checkpoint_in_one_piece_is_encrypted, setup, teardown),
        cmocka_unit_test_setup_teardown(checkpoint_in_parts_is_encrypted, setup, teardown),
        cmocka_unit_test_setup_teardown(file_of_the_model_and_the_probe_are_encrypted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lease_is_encrypted, setup, teardown),
    };

    return cmocka_run_group_tests_name("encryption", tests, NULL, NULL);
}
