/* tests/s3io/test_fault.c -- where an answer says that the next request should go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "s3io/fault.h"
#include "s3io/http.h"

static void read_location(struct s3_fault *fault, const char *location)
{
    struct s3_http_answer answer = {.status = 307};

    buf_printf(&answer.headers, "location: %s\n", location);
    s3_fault_read(fault, &answer);
    s3_http_answer_release(&answer);
}

static void read_endpoint(struct s3_fault *fault, const char *endpoint)
{
    struct s3_http_answer answer = {.status = 301};

    buf_printf(&answer.body, "<Error><Endpoint>%s</Endpoint></Error>", endpoint);
    s3_fault_read(fault, &answer);
    s3_http_answer_release(&answer);
}

static void read_takes_the_host_of_a_location_and_an_endpoint(void **state)
{
    struct s3_fault fault;

    (void)state;
    read_location(&fault, "https://imgs.s3.test:8443/a/b?c");
    assert_string_equal(fault.origin, "https://imgs.s3.test:8443");
    read_location(&fault, "http://[::1]:9000");
    assert_string_equal(fault.origin, "http://[::1]:9000");
    read_endpoint(&fault, "my_imgs.s3.eu-central-1.amazonaws.com");
    assert_string_equal(fault.origin, "https://my_imgs.s3.eu-central-1.amazonaws.com");
}

/* Found by tests/fuzz/http.c: it became a part of the URL and of the Host header. */
static void read_takes_no_host_that_can_be_none(void **state)
{
    static const char *const locations[] = {"https://s3\x99test/k", "https://a b/",  "https:///k",
                                            "https://u:p@host/",    "https://a%2Fb", "https://:80/",
                                            "https://a\"b",         "ftp://host/",   "/k"};
    static const char *const endpoints[] = {"a\nX-Evil: b", "a&#13;&#10;b", "\xc3\xa4.test", "",
                                            "user@host"};
    struct s3_fault fault;

    (void)state;
    for (size_t i = 0; i < sizeof locations / sizeof locations[0]; i++) {
        read_location(&fault, locations[i]);
        if (fault.origin[0] != '\0')
            fail_msg("'%s': %s", locations[i], fault.origin);
    }
    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++) {
        read_endpoint(&fault, endpoints[i]);
        if (fault.origin[0] != '\0')
            fail_msg("'%s': %s", endpoints[i], fault.origin);
    }
}

static void read_takes_a_wait_of_20_s_at_most(void **state)
{
    static const struct {
        const char *text;
        double seconds;
    } cases[] = {{"3", 3}, {"20", 20}, {"60", 20}, {"1e9", 20}, {"-1", 0}, {"Wed, 21 Oct", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct s3_http_answer answer = {.status = 503};
        struct s3_fault fault;

        buf_printf(&answer.headers, "retry-after: %s\n", cases[i].text);
        s3_fault_read(&fault, &answer);
        if (fault.retry_after_s != cases[i].seconds)
            fail_msg("'%s': %g", cases[i].text, fault.retry_after_s);
        s3_http_answer_release(&answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_takes_the_host_of_a_location_and_an_endpoint),
        cmocka_unit_test(read_takes_no_host_that_can_be_none),
        cmocka_unit_test(read_takes_a_wait_of_20_s_at_most),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
