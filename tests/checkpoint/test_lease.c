/* tests/checkpoint/test_lease.c -- of all who want a prefix one holder may commit, and who dies
 * makes room. Runs with an S3 server and the bucket test-a. Times are short: the server's clock
 * counts whole seconds. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "s3io/client.h"
#include "s3io/object.h"
#include "trainer/checkpoint/lease.h"

#define BUCKET  "test-a"
#define RENEW_S 0.3
#define LAPSE_S 3.0
#define WAIT_S  60.0 /* what has not come by then does not come */

static struct s3_client *client;
static char key[64], place[64]; /* of the case's lease; its prefix */

static int begin(void **state)
{
    static int number;

    (void)state;
    number++;
    snprintf(key, sizeof key, "case-%d/" LEASE_NAME, number);
    snprintf(place, sizeof place, "s3://" BUCKET "/case-%d", number);
    return 0;
}

static int take_with(struct lease **lease, const char *job, int generation, double lapse_s,
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    const struct lease_options options = {.place = place,
                                          .job = job,
                                          .host = "host-of-it",
                                          .generation = generation,
                                          .renew_s = RENEW_S,
                                          .lapse_s = lapse_s,
                                          .cancel = cancel};

    return lease_take(lease, &options, err);
}

static struct lease *take(const char *job)
{
    struct lease *lease = NULL;
    struct err err = {0};

    if (take_with(&lease, job, 0, LAPSE_S, NULL, &err) != 1)
        fail_msg("%s", err.msg);
    return lease;
}

/* The object's text; "" where there is none. */
static const char *look(void)
{
    static struct buf text;

    buf_release(&text);
    if (s3_object_load(client, BUCKET, key, 65536, &text, NULL, NULL) != S3_YES)
        text.bytes = 0;
    return buf_text(&text);
}

static bool says(const char *part)
{
    return strstr(look(), part) != NULL;
}

static void wait_until_says(const char *part)
{
    const double until = clock_now_s() + WAIT_S;

    while (!says(part) && clock_now_s() < until)
        clock_sleep_s(0.05);
    if (!says(part))
        fail_msg("no %s in %s", part, look());
}

static void wait_until_lost(struct lease *lease, struct err *err)
{
    const double until = clock_now_s() + WAIT_S;

    while (!lease_lost(lease, err) && clock_now_s() < until)
        clock_sleep_s(0.05);
    assert_true(lease_lost(lease, err));
    assert_int_equal(err->code, ERR_PEER);
}

/* A holder that dies without a word. */
static void leave_behind(const char *job)
{
    int status = -1;

    fflush(NULL);
    const pid_t child = fork();

    if (child == 0) {
        struct lease *lease;

        _exit(take_with(&lease, job, 0, LAPSE_S, NULL, NULL) == 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* The server stands still, as one that cannot be reached: its process is stopped. */
static void signal_server(int number)
{
    char path[256];
    long pid = 0;
    FILE *file;

    snprintf(path, sizeof path, "%s/run/rgw.pid", getenv("S3SERVER_DIR"));
    file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld", &pid), 1);
    fclose(file);
    assert_int_equal(kill((pid_t)pid, number), 0);
}

static void lease_is_taken_kept_and_given_back(void **state)
{
    struct lease *lease = take("job-1");
    struct err err = {0};

    (void)state;
    assert_int_equal(lease_generation(lease), 1);
    assert_int_equal(lease_check(lease, 0, &err), 0);
    assert_true(says("\"job\":\"job-1\"") && says("\"host\":\"host-of-it\"") &&
                says("\"generation\":1") && says("\"released\":false"));
    wait_until_says("\"sequence\":3");
    assert_false(lease_lost(lease, &err));
    lease_release(lease);
    assert_true(says("\"released\":true"));

    const double begun = clock_now_s();

    lease = take("job-2");
    assert_true(clock_now_s() - begun < LAPSE_S); /* there was nothing to wait for */
    assert_int_equal(lease_generation(lease), 2);
    lease_release(lease);
}

static void lease_generation_is_above_all_that_are_known(void **state)
{
    const struct lease_options rare = {.place = place,
                                       .job = "job",
                                       .host = "host-of-it",
                                       .generation = 7,
                                       .renew_s = 10 * WAIT_S, /* nobody waits for that */
                                       .lapse_s = 20 * WAIT_S};
    struct lease *lease = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(lease_take(&lease, &rare, &err), 1);
    assert_int_equal(lease_generation(lease), 8);
    lease_raise(lease, 12);
    wait_until_says("\"generation\":12");
    lease_release(lease);
    assert_int_equal(take_with(&lease, "job", 9, LAPSE_S, NULL, &err), 1);
    assert_int_equal(lease_generation(lease), 13);
    lease_release(lease);
}

static void lease_goes_to_the_same_job_at_once(void **state)
{
    struct lease *first = take("job"), *second;
    struct err err = {0};

    (void)state;
    second = take("job");
    assert_int_equal(lease_generation(second), 2);
    wait_until_lost(first, &err);
    assert_non_null(strstr(err.msg, place));
    assert_non_null(strstr(err.msg, "generation 2"));
    assert_int_equal(lease_check(first, WAIT_S, &err), -1);
    assert_int_equal(err.code, ERR_PEER);
    lease_release(first);
    assert_true(says("\"generation\":2") && says("\"released\":false")); /* no harm done */
    assert_int_equal(lease_check(second, 0, &err), 0);
    lease_release(second);
}

static void lease_of_a_living_job_is_refused_to_another(void **state)
{
    struct lease *first = take("job-1"), *second = first;
    struct err err = {0};

    (void)state;
    assert_int_equal(take_with(&second, "job-2", 0, LAPSE_S, NULL, &err), -1);
    assert_null(second);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, place));
    assert_non_null(strstr(err.msg, "'job-1'"));
    assert_non_null(strstr(err.msg, "host-of-it"));
    assert_int_equal(lease_check(first, 0, &err), 0);
    assert_false(lease_lost(first, &err));
    lease_release(first);
}

static void lease_of_a_dead_job_is_taken_when_it_lapses(void **state)
{
    struct lease *lease;
    double begun;

    (void)state;
    leave_behind("job-1");
    begun = clock_now_s();
    lease = take("job-2");
    assert_true(clock_now_s() - begun > LAPSE_S - 2); /* whole seconds at both ends */
    assert_int_equal(lease_generation(lease), 2);
    lease_release(lease);
}

static volatile sig_atomic_t asked;

static void on_alarm(int number)
{
    (void)number;
    asked = 1;
}

static void waiting_ends_when_asked_to(void **state)
{
    struct lease *lease = NULL;
    struct err err = {0};

    (void)state;
    leave_behind("job-1");
    asked = 0;
    signal(SIGALRM, on_alarm);
    alarm(1);
    assert_int_equal(take_with(&lease, "job-2", 0, 1000, &asked, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_true(says("job-1"));
}

static void *try_to_take(void *argument)
{
    struct lease **const lease = argument;
    static int number;
    char job[16];
    struct err err = {0};

    snprintf(job, sizeof job, "job-%d", __atomic_add_fetch(&number, 1, __ATOMIC_SEQ_CST));
    if (take_with(lease, job, 0, LAPSE_S, NULL, &err) < 0 && err.code != ERR_USAGE)
        fprintf(stderr, "%s\n", err.msg);
    return NULL;
}

static void lease_goes_to_one_of_many(void **state)
{
    enum { MANY = 6 };
    struct lease *leases[MANY] = {NULL};
    pthread_t threads[MANY];
    int taken = 0;

    (void)state;
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, try_to_take, &leases[i]), 0);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < MANY; i++) {
        taken += leases[i] != NULL;
        lease_release(leases[i]);
    }
    assert_int_equal(taken, 1);
}

static void lease_that_somebody_removes_is_made_again(void **state)
{
    struct lease *lease = take("job");
    struct err err = {0};

    (void)state;
    assert_int_equal(s3_object_delete(client, BUCKET, key, &err), S3_YES);
    wait_until_says("\"job\":\"job\"");
    assert_false(lease_lost(lease, &err));
    assert_int_equal(lease_check(lease, WAIT_S, &err), 0);
    lease_release(lease);
}

/* An answer to a renewal that was lost leaves the object with an ETag that its holder does not
 * know. */
static void lease_with_our_own_content_is_ours(void **state)
{
    struct lease *lease = take("job");
    struct err err = {0};
    char text[1024], *number;

    (void)state;
    snprintf(text, sizeof text, "%s", look());
    number = strstr(text, "\"sequence\":");
    assert_non_null(number);
    snprintf(number, sizeof text - (size_t)(number - text), "\"sequence\":900,\"released\":false}");
    assert_int_equal(
        s3_object_put(
            client,
            &(struct s3_put){.bucket = BUCKET, .key = key, .data = text, .bytes = strlen(text)},
            NULL, &err),
        S3_YES);
    wait_until_says("\"sequence\":5"); /* it goes on counting its own */
    assert_false(lease_lost(lease, &err));
    lease_release(lease);
}

static void lease_object_of_another_kind_is_not_touched(void **state)
{
    static const char *const texts[] = {"", "notes of mine", "{\"job\": 1}",
                                        "{\"format\":\"convoy-lease-2\",\"job\":\"a\",\"host\":"
                                        "\"b\",\"generation\":1,\"pid\":1,\"start\":1,"
                                        "\"sequence\":1}"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct lease *lease = NULL;
        struct err err = {0};

        assert_int_equal(s3_object_put(client,
                                       &(struct s3_put){.bucket = BUCKET,
                                                        .key = key,
                                                        .data = texts[i],
                                                        .bytes = strlen(texts[i])},
                                       NULL, &err),
                         S3_YES);
        assert_int_equal(take_with(&lease, "job", 0, LAPSE_S, NULL, &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_non_null(strstr(err.msg, key));
        assert_string_equal(look(), texts[i]);
    }
}

static void lease_is_not_held_while_the_server_is_away_and_held_again_after(void **state)
{
    struct lease *lease = take("job");
    const double until = clock_now_s() + WAIT_S;
    struct err err = {0};

    (void)state;
    signal_server(SIGSTOP);
    while (lease_check(lease, 0, &err) == 0 && clock_now_s() < until)
        clock_sleep_s(0.05);
    const int code = err.code;
    const bool lost = lease_lost(lease, NULL);

    signal_server(SIGCONT);
    assert_int_equal(code, ERR_NET);
    assert_non_null(strstr(err.msg, place));
    assert_false(lost);
    assert_int_equal(lease_check(lease, WAIT_S, &err), 0);
    assert_int_equal(lease_generation(lease), 1);
    lease_release(lease);
}

static void release_does_not_wait_for_a_server_that_is_away(void **state)
{
    struct lease *lease = take("job");

    (void)state;
    signal_server(SIGSTOP);
    clock_sleep_s(2 * RENEW_S); /* a renewal is in work */
    lease_release(lease);       /* hangs here if it waits */
    signal_server(SIGCONT);
    wait_until_says("\"job\":\"job\"");
}

/* --- a server that is ill, whose answers are changed on their way, or that knows no conditions ---
 */

struct simple {
    int listener;
    bool refuses;    /* says 501 to a conditional PUT; else pays no heed */
    char body[4096]; /* of the object; "" where there is none */
    int puts;
    int ill;    /* so many requests get a 503 first */
    bool flips; /* each reading has another byte changed */
    int reads;
};

static void answer(struct simple *simple, int fd, char *request, size_t head_bytes)
{
    const bool conditional = strcasestr(request, "\r\nif-") != NULL;
    char text[8192];

    if (simple->ill > 0) {
        simple->ill--;
        snprintf(text, sizeof text,
                 "HTTP/1.1 503 Slow Down\r\nContent-Length: 36\r\n\r\n"
                 "<Error><Code>SlowDown</Code></Error>");
    } else if (strncmp(request, "PUT", 3) == 0 && conditional && simple->refuses) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 501 Not Implemented\r\nContent-Length: 48\r\n\r\n"
                 "<Error><Code>NotImplemented</Code></Error>      ");
    } else if (strncmp(request, "PUT", 3) == 0) {
        simple->puts++;
        snprintf(simple->body, sizeof simple->body, "%s", request + head_bytes);
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n");
    } else if (strncmp(request, "DELETE", 6) == 0) {
        simple->body[0] = '\0';
        snprintf(text, sizeof text, "HTTP/1.1 204 No Content\r\n\r\n");
    } else if (simple->body[0] != '\0') {
        snprintf(text, sizeof text,
                 "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nDate: Tue, 01 Jan 2030 00:00:10 GMT\r\n"
                 "Content-Length: %zu\r\n\r\n%s",
                 strlen(simple->body), simple->body);
        if (simple->flips)
            strstr(text, "\r\n\r\n")[4 + simple->reads++ % (int)strlen(simple->body)] ^= 1;
    } else {
        snprintf(text, sizeof text,
                 "HTTP/1.1 404 Not Found\r\nContent-Length: 37\r\n\r\n"
                 "<Error><Code>NoSuchKey</Code></Error>");
    }
    (void)!write(fd, text, strlen(text));
}

/* One connection after the other, one request each. */
static void *serve(void *argument)
{
    struct simple *const simple = argument;
    int fd;

    while ((fd = accept(simple->listener, NULL, NULL)) >= 0) {
        char request[16384];
        size_t bytes = 0, want = SIZE_MAX, head_bytes = 0;
        ssize_t got;

        while (bytes < want && (got = read(fd, request + bytes, sizeof request - 1 - bytes)) > 0) {
            const char *end, *length;

            bytes += (size_t)got;
            request[bytes] = '\0';
            if (want == SIZE_MAX && (end = strstr(request, "\r\n\r\n")) != NULL) {
                length = strcasestr(request, "\r\ncontent-length:");
                head_bytes = (size_t)(end + 4 - request);
                want = head_bytes + (length != NULL ? (size_t)atoi(length + 17) : 0);
            }
        }
        if (bytes >= want)
            answer(simple, fd, request, head_bytes);
        close(fd);
    }
    return NULL;
}

/* As lease_take, from this server. */
static int take_from(struct simple *simple, double lapse_s, struct lease **lease, struct err *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char *const before = strdup(getenv("AWS_ENDPOINT_URL_S3"));
    socklen_t at_bytes = sizeof at;
    char url[64];
    pthread_t thread;
    int rc;

    simple->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(simple->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(simple->listener, 8), 0);
    assert_int_equal(getsockname(simple->listener, (struct sockaddr *)&at, &at_bytes), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, simple), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(at.sin_port));
    setenv("AWS_ENDPOINT_URL_S3", url, 1);
    rc = take_with(lease, "job", 0, lapse_s, NULL, err);
    setenv("AWS_ENDPOINT_URL_S3", before, 1);
    shutdown(simple->listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(simple->listener);
    free(before);
    return rc;
}

#define ANOTHERS                                                                                   \
    "{\"format\":\"convoy-lease-1\",\"job\":\"other\",\"host\":\"h\",\"generation\":1,"            \
    "\"pid\":1,\"start\":1,\"sequence\":1,\"released\":false}"

/* More than a renewal is tried: nobody comes again to take it. */
static void server_that_is_ill_is_asked_until_it_is_well(void **state)
{
    struct simple simple = {.refuses = true, .ill = 9};
    struct lease *lease = NULL;
    struct err err = {0};
    const int rc = take_from(&simple, LAPSE_S, &lease, &err);

    (void)state;
    if (rc != 0)
        fail_msg("%d: %s", rc, err.msg);
    assert_int_equal(simple.ill, 0);
}

static void readings_that_differ_are_no_lease(void **state)
{
    struct simple simple = {.flips = true, .body = ANOTHERS};
    struct lease *lease = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(take_from(&simple, LAPSE_S, &lease, &err), -1);
    assert_int_equal(err.code, ERR_NET);
    assert_non_null(strstr(err.msg, "5 readings of"));
    assert_non_null(strstr(err.msg, key));
    assert_non_null(strstr(err.msg, "https"));
    assert_int_equal(simple.reads, 5);
    assert_int_equal(simple.puts, 0);
}

static void server_without_conditions_is_gone_on_with(void **state)
{
    (void)state;
    for (int refuses = 0; refuses < 2; refuses++) {
        struct simple simple = {.refuses = refuses};
        struct lease *lease = NULL;
        struct err err = {0};
        const int rc = take_from(&simple, LAPSE_S, &lease, &err);

        if (rc != 0)
            fail_msg("%d: %s", rc, err.msg);
        assert_null(lease);
        assert_int_equal(simple.puts, refuses ? 0 : 2);
        assert_string_equal(simple.body, ""); /* nobody has to wait for it to lapse */
    }
}

/* An answer that leaves out when the object was written does not make it an old one. */
static void lease_without_a_date_is_watched_until_it_lapses(void **state)
{
    const double lapse_s = 1, begun = clock_now_s();
    struct simple simple = {.refuses = true, .body = ANOTHERS};
    struct lease *lease = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(take_from(&simple, lapse_s, &lease, &err), 0);
    assert_true(clock_now_s() - begun >= lapse_s);
}

static void no_lease_is_always_held(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(lease_check(NULL, 0, &err), 0);
    assert_false(lease_lost(NULL, &err));
    lease_release(NULL);
}

static void job_is_the_platforms_or_random(void **state)
{
    static const char *const names[] = {"PBS_JOBID", "SLURM_JOB_ID", "TRAINING_JOB_ARN",
                                        "CONVOY_JOB"};
    char one[LEASE_JOB_CHARS], two[LEASE_JOB_CHARS];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    lease_job(one);
    lease_job(two);
    assert_int_equal(strlen(one), 16);
    assert_string_not_equal(one, two);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) { /* each goes before the last */
        setenv(names[i], names[i], 1);
        lease_job(one);
        assert_string_equal(one, names[i]);
    }
    setenv("CONVOY_JOB", "", 1);
    lease_job(one);
    assert_string_equal(one, "TRAINING_JOB_ARN");
}

#define CASE(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(lease_is_taken_kept_and_given_back),
        CASE(lease_generation_is_above_all_that_are_known),
        CASE(lease_goes_to_the_same_job_at_once),
        CASE(lease_of_a_living_job_is_refused_to_another),
        CASE(lease_of_a_dead_job_is_taken_when_it_lapses),
        CASE(waiting_ends_when_asked_to),
        CASE(lease_goes_to_one_of_many),
        CASE(lease_that_somebody_removes_is_made_again),
        CASE(lease_with_our_own_content_is_ours),
        CASE(lease_object_of_another_kind_is_not_touched),
        CASE(lease_is_not_held_while_the_server_is_away_and_held_again_after),
        CASE(release_does_not_wait_for_a_server_that_is_away),
        CASE(server_that_is_ill_is_asked_until_it_is_well),
        CASE(readings_that_differ_are_no_lease),
        CASE(server_without_conditions_is_gone_on_with),
        CASE(lease_without_a_date_is_watched_until_it_lapses),
        CASE(no_lease_is_always_held),
        CASE(job_is_the_platforms_or_random),
    };
    struct err err = {0};
    int failed;

    signal(SIGPIPE, SIG_IGN);
    client = s3_client_shared(&err);
    if (client == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)look(); /* and what it holds is released below */
    s3_client_shared_close();
    return failed;
}
