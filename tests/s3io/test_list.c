/* tests/s3io/test_list.c -- listings: damaged ones are no shorter ones, and keys come as they are.
 */
#include "s3io/list.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "bed.h"
#include "place.h"
#include "s3io/request.h"

/* The length is not said: the end of the connection is the end of the document. */
#define ANSWER(document) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" document
#define PAGE(inside)     ANSWER("<ListBucketResult>" inside "</ListBucketResult>")
#define ONE              "<Contents><Key>a</Key><Size>1</Size></Contents>"
#define ERROR(code)      "<Error><Code>" code "</Code><RequestId>7QX2</RequestId></Error>"

/* "KEY BYTES|" of each, or "PREFIX|". */
static int write_down(void *context, const struct s3_listed *listed, struct err *visit_err)
{
    struct buf *out = context;

    (void)visit_err;
    if (listed->is_prefix)
        buf_printf(out, "%s|", listed->key);
    else
        buf_printf(out, "%s %" PRIu64 "|", listed->key, listed->bytes);
    return 0;
}

static void expect_in(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, text);
}

static void list_takes_no_damaged_document_for_an_end(void **state)
{
    static const struct {
        const char *text;
        int requests;
        const char *says;
    } cases[] = {
        {ANSWER("<ListBucketResult>" ONE), 3, "XML"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 3, "XML"},
        {ANSWER("\x01\x02garbage"), 3, "XML"},
        {ANSWER("<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult/>"), 3, "document type"},
        {ANSWER("<html/>"), 1, "S3 endpoint"},
        {ANSWER(ERROR("InternalError")), 3, "InternalError"},
        {ANSWER(ERROR("AccessDenied")), 1, "AccessDenied"},
        {PAGE(ONE "<IsTruncated>true</IsTruncated>"), 3, "goes on"},
        {PAGE(ONE "<IsTruncated>trve</IsTruncated>"), 3, "IsTruncated"},
        {PAGE(ONE), 3, "does not begin so"}, /* shorter than the prefix that was asked for */
        {PAGE("<Contents><Size>1</Size></Contents>"), 3, "without a key"},
        {PAGE("<Contents><Key>a</Key><Size>-1</Size></Contents>"), 3, "size"},
        {PAGE("<Contents><Key>a%zz</Key><Size>1</Size></Contents>"), 3, "encoded"},
        {PAGE("<Contents><Key>a%00b</Key><Size>1</Size></Contents>"), 3, "encoded"},
        {"HTTP/1.1 403 x\r\nConnection: close\r\n\r\n" ERROR("AccessDenied"), 1, "s3:ListBucket"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fault_step steps[] = {{.text = cases[i].text, .then = FAULT_CLOSE}};
        struct buf seen = {0};

        BEGIN(steps);
        assert_int_equal(s3_list(bed_client, "imgs", "p/", false, write_down, &seen, &bed_err), -1);
        expect_in(bed_err.msg, cases[i].says);
        expect_in(bed_err.msg, "s3://imgs/p/");
        assert_int_equal(faults_requests(bed_faults), cases[i].requests);
        assert_int_equal(seen.bytes, 0);
        buf_release(&seen);
        bed_end();
    }
}

static void list_gives_keys_and_prefixes_in_one_order(void **state)
{
    const struct fault_step steps[] = {
        {.text = PAGE("<Contents><Key>a+b%2Bc</Key><Size>1</Size><ETag>&quot;e&quot;</ETag>"
                      "<LastModified>2030-01-01T00:00:10.500Z</LastModified></Contents>"
                      "<Contents><Key>c</Key><Size>18446744073709551615</Size></Contents>"
                      "<CommonPrefixes><Prefix>b%0A/</Prefix></CommonPrefixes>"
                      "<IsTruncated>true</IsTruncated><NextContinuationToken>t/=</"
                      "NextContinuationToken>"),
         .then = FAULT_CLOSE},
        {.text = PAGE("<Contents><Key>%C3%A9</Key><Size>0</Size></Contents>"), .then = FAULT_CLOSE},
    };
    struct buf seen = {0};

    (void)state;
    BEGIN(steps);
    assert_int_equal(s3_list(bed_client, "imgs", "", true, write_down, &seen, &bed_err), 0);
    assert_string_equal(buf_text(&seen), "a b+c 1|b\n/|c 18446744073709551615|\xc3\xa9 0|");
    expect_in(faults_request(bed_faults, 0),
              "GET /imgs?delimiter=%2F&encoding-type=url&list-type=2");
    expect_in(faults_request(bed_faults, 1), "GET /imgs?continuation-token=t%2F%3D&delimiter");
    buf_release(&seen);
    bed_end();
}

static int stop_at_the_first(void *context, const struct s3_listed *listed, struct err *visit_err)
{
    (void)visit_err;
    snprintf(context, 16, "%s", listed->key);
    return 7;
}

static void list_ends_where_its_visitor_ends_it(void **state)
{
    const struct fault_step steps[] = {
        {.text = PAGE(ONE "<Contents><Key>b</Key><Size>1</Size></Contents><IsTruncated>true"
                          "</IsTruncated><NextContinuationToken>t</NextContinuationToken>"),
         .then = FAULT_CLOSE}};
    char first[16] = "";

    (void)state;
    BEGIN(steps);
    assert_int_equal(s3_list(bed_client, "imgs", "", false, stop_at_the_first, first, &bed_err), 7);
    assert_string_equal(first, "a");
    assert_int_equal(faults_requests(bed_faults), 1);
    bed_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_takes_no_damaged_document_for_an_end),
        cmocka_unit_test(list_gives_keys_and_prefixes_in_one_order),
        cmocka_unit_test(list_ends_where_its_visitor_ends_it),
    };

    return cmocka_run_group_tests_name("s3io/list", tests, place_setup, place_teardown);
}
