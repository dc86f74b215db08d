/* tests/launcher/test_rsh.c -- what mpirun's remote shell hears: the answer, or that there is none.
 */
#include "launcher/rsh.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

/* A caller, as mpirun starts one. */
struct caller {
    pthread_t thread;
    char *words[3];
    int rc;
    struct err err;
};

static char folder[] = "/tmp/convoy-rsh-XXXXXX", path[64];
static struct launch_rsh rsh;

static int begin(void **state)
{
    struct err err = {0};

    (void)state;
    return launch_rsh_open(&rsh, path, &err);
}

static int end(void **state)
{
    (void)state;
    launch_rsh_close(&rsh);
    return unlink(path);
}

static void *call(void *argument)
{
    struct caller *const caller = argument;

    caller->rc = launch_rsh_call(3, caller->words, &caller->err);
    return NULL;
}

static void start(struct caller *caller, char *last)
{
    static char host[] = "algo-2", orted[] = "orted";

    *caller = (struct caller){.words = {host, orted, last}};
    assert_int_equal(pthread_create(&caller->thread, NULL, call, caller), 0);
}

/* The leader's turns until the caller of that number has asked; NULL: it was refused. */
static const struct launch_rsh_request *serve(int number)
{
    for (;;) {
        const struct launch_rsh_request *const request = launch_rsh_next(&rsh);
        struct pollfd at[2] = {{.fd = rsh.fd, .events = POLLIN},
                               {.fd = rsh.count > 0 ? rsh.at[0].fd : -1, .events = POLLIN}};

        if (request != NULL || (rsh.next_number > number && rsh.count == 0))
            return request;
        poll(at, 2, 1000);
    }
}

static void caller_hears_success_and_failure(void **state)
{
    static const char *const failures[] = {"", NULL, "orted runs here already"};
    char last[] = "--hnp";

    (void)state;
    for (int i = 0; i < 3; i++) {
        const int wanted = i < 2 ? 0 : -1;
        const struct launch_rsh_request *request;
        struct caller caller;

        start(&caller, last);
        request = serve(i);
        assert_non_null(request);
        assert_string_equal(request->host, "algo-2");
        assert_int_equal(request->words.count, 2);
        assert_string_equal(request->words.at[1], "--hnp");
        launch_rsh_answer(&rsh, request->number, failures[i]);
        pthread_join(caller.thread, NULL);
        assert_int_equal(caller.rc, wanted);
        if (wanted < 0)
            assert_string_equal(caller.err.msg, "host 'algo-2': orted runs here already");
    }
}

static void request_that_is_too_long_is_an_error_to_its_caller(void **state)
{
    char *const last = calloc(1, LAUNCH_RSH_BYTES_MAX + 1);
    struct caller caller;

    (void)state;
    assert_non_null(last);
    memset(last, 'x', LAUNCH_RSH_BYTES_MAX);
    start(&caller, last);
    assert_null(serve(0));
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, -1);
    assert_non_null(strstr(caller.err.msg, "too long"));
    free(last);
}

static void leader_that_goes_without_an_answer_is_no_success(void **state)
{
    char last[] = "--hnp";
    struct caller caller;

    (void)state;
    start(&caller, last);
    assert_non_null(serve(0));
    shutdown(rsh.at[0].fd, SHUT_RDWR); /* as the end of its process does */
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, -1);
    assert_non_null(strstr(caller.err.msg, "without an answer"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(caller_hears_success_and_failure, begin, end),
        cmocka_unit_test_setup_teardown(request_that_is_too_long_is_an_error_to_its_caller, begin,
                                        end),
        cmocka_unit_test_setup_teardown(leader_that_goes_without_an_answer_is_no_success, begin,
                                        end),
    };
    int rc;

    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/rsh", folder);
    setenv("CONVOY_RSH", path, 1);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return rc;
}
