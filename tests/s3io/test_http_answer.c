/* tests/s3io/test_http_answer.c -- an answer's lines, as they come from a server or from somebody
 * who is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "s3io/http.h"
#include "s3io/http_answer.h"

static enum s3_http_line take(struct s3_http_answer *answer, const char *line)
{
    return s3_http_answer_line(answer, line, strlen(line));
}

static void line_keeps_headers_of_the_last_answer_only(void **state)
{
    struct s3_http_answer answer = {0};
    char value[32];

    (void)state;
    assert_int_equal(take(&answer, "HTTP/1.1 100 Continue\r\n"), S3_HTTP_LINE_STATUS);
    assert_int_equal(take(&answer, "ETag: \"old\"\r\n"), S3_HTTP_LINE_HEADER);
    assert_int_equal(take(&answer, "\r\n"), S3_HTTP_LINE_END);
    assert_int_equal(take(&answer, "HTTP/1.1 206 Partial Content\r\n"), S3_HTTP_LINE_STATUS);
    assert_int_equal(take(&answer, "Content-Range:  bytes 0-1/2 \r\n"), S3_HTTP_LINE_HEADER);
    assert_int_equal(answer.status, 206);
    assert_false(s3_http_header(&answer, "etag", value, sizeof value));
    assert_true(s3_http_header(&answer, "content-range", value, sizeof value));
    assert_string_equal(value, "bytes 0-1/2");
    s3_http_answer_release(&answer);
}

/* Found by tests/fuzz/http.c. */
static void line_passes_over_what_is_no_header(void **state)
{
    struct s3_http_answer answer = {0};

    (void)state;
    assert_int_equal(take(&answer, ": without a name\r\n"), S3_HTTP_LINE_HEADER);
    assert_int_equal(take(&answer, "without a colon\r\n"), S3_HTTP_LINE_HEADER);
    assert_int_equal(answer.headers.bytes, 0);
    s3_http_answer_release(&answer);
}

/* Found by tests/fuzz/http.c: such an ETag could not be sent back. */
static void line_makes_blanks_of_line_breaks_inside_a_value(void **state)
{
    static const char line[] = "ETag: \"a\rb\0c\"\r\n";
    struct s3_http_answer answer = {0};
    char value[32];

    (void)state;
    assert_int_equal(s3_http_answer_line(&answer, line, sizeof line - 1), S3_HTTP_LINE_HEADER);
    assert_true(s3_http_header(&answer, "etag", value, sizeof value));
    assert_string_equal(value, "\"a b c\"");
    s3_http_answer_release(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_keeps_headers_of_the_last_answer_only),
        cmocka_unit_test(line_passes_over_what_is_no_header),
        cmocka_unit_test(line_makes_blanks_of_line_breaks_inside_a_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
