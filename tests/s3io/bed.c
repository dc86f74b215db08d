#include "bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "place.h"
#include "s3io/request.h"

volatile sig_atomic_t bed_cancel;
struct faults *bed_faults;
struct s3_client *bed_client;
struct err bed_err;

void bed_begin(const struct fault_step *steps, size_t count)
{
    struct s3_client_options options = {.cancel = &bed_cancel};

    bed_cancel = 0;
    bed_err = (struct err){0};
    bed_faults = faults_start(steps, count);
    options.endpoint = faults_url(bed_faults);
    assert_int_equal(s3_client_open(&bed_client, &options, &bed_err), 0);
    bed_client->backoff_s = 0.001;
    bed_client->stall_s = 0.4;
    bed_client->config.attempts = 3;
}

void bed_end(void)
{
    s3_client_close(bed_client);
    faults_stop(bed_faults);
}

void bed_end_after(int requests)
{
    assert_int_equal(faults_requests(bed_faults), requests);
    bed_end();
}

int read_hello(void)
{
    const struct s3_get get = {.bucket = "imgs", .key = "k", .bytes = 5};
    char out[6] = "";
    const int rc = s3_object_read(bed_client, &get, out, NULL, &bed_err);

    if (rc == S3_YES)
        assert_string_equal(out, "hello");
    return rc;
}

int put_hello(bool if_none)
{
    const struct s3_put put = {
        .bucket = "imgs", .key = "k", .data = "hello", .bytes = 5, .if_none = if_none};

    return s3_object_put(bed_client, &put, NULL, &bed_err);
}

void assert_says(const char *part)
{
    if (strstr(bed_err.msg, part) == NULL)
        fail_msg("'%s' is not in: %s", part, bed_err.msg);
    assert_null(strstr(bed_err.msg, PLACE_SECRET));
}

void assert_request_has(int index, const char *part)
{
    if (strcasestr(faults_request(bed_faults, index), part) == NULL)
        fail_msg("'%s' is not in request %d: %.600s", part, index,
                 faults_request(bed_faults, index));
}
