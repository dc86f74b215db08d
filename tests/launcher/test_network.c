/* tests/launcher/test_network.c */
#include "launcher/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

static void network_cover_is_the_smallest_that_holds_both(void **state)
{
    static const struct {
        const char *a, *b, *want;
    } cases[] = {
        {"", "10.0.1.5/24", "10.0.1.0/24"},
        {"10.0.1.0/24", "10.0.1.77/24", "10.0.1.0/24"},
        {"10.0.1.0/24", "10.0.2.7/24", "10.0.0.0/22"},
        {"10.0.1.0/24", "10.0.1.9/16", "10.0.0.0/16"},
        {"127.0.0.0/8", "127.0.0.1/8", "127.0.0.0/8"},
        {"", "192.0.2.9/32", "192.0.2.9/32"},
        {"10.0.0.0/8", "172.17.0.1/16", NULL}, /* nothing but "everything" holds both */
        {"10.0.0.0/24", "", NULL},
        {"10.0.0.0/24", "fd00::1/64", NULL},
        {"", "10.0.0.1/33", NULL},
        {"", "10.0.0.1", NULL},
        {"", "10.0.0.1/x", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char all[LAUNCH_ADDRESS_CHARS];

        snprintf(all, sizeof all, "%s", cases[i].a);
        assert_int_equal(launch_network_cover(all, cases[i].b), cases[i].want != NULL);
        if (cases[i].want != NULL)
            assert_string_equal(all, cases[i].want);
    }
}

static void network_knows_its_own_addresses(void **state)
{
    (void)state;
    assert_true(launch_network_is_own("127.0.0.1"));
    assert_false(launch_network_is_own("192.0.2.254"));
    assert_false(launch_network_is_own("localhost")); /* names are not looked up */
    assert_false(launch_network_is_own(""));
}

static void network_listens_and_tells_a_connections_network(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char cidr[LAUNCH_ADDRESS_CHARS], text[LAUNCH_ADDRESS_CHARS];
    struct sockaddr_storage from;
    socklen_t bytes = sizeof from;
    struct err err = {0};
    int fd, port, caller, called, second;

    (void)state;
    assert_int_equal(launch_network_listen(0, &fd, &port, &err), 0);
    assert_true(port > 0);
    assert_int_equal(launch_network_listen(port, &second, &port, &err), -1);
    assert_non_null(strstr(err.msg, "port"));
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    caller = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(caller, (const struct sockaddr *)&address, sizeof address), 0);
    called = accept(fd, (struct sockaddr *)&from, &bytes);
    assert_true(called >= 0);
    launch_network_text(&from, text);
    assert_string_equal(text, "127.0.0.1"); /* though it is an IPv6 socket */
    launch_network_of(called, cidr);
    assert_string_equal(cidr, "127.0.0.1/8");
    launch_network_of(caller, cidr);
    assert_string_equal(cidr, "127.0.0.1/8");
    close(caller);
    close(called);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(network_cover_is_the_smallest_that_holds_both),
        cmocka_unit_test(network_knows_its_own_addresses),
        cmocka_unit_test(network_listens_and_tells_a_connections_network),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
