#include "fake.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"

#define SILENT_MAX        64
#define REQUEST_BYTES_MAX ((size_t)1 << 20)

struct fake {
    int listener, port;
    int stop[2]; /* a pipe whose other end is closed when the server is to end */
    pthread_t thread;
    fake_answer *answer;
    void *context;
    int silent[SILENT_MAX], silent_count;
    pthread_mutex_t mutex; /* guards requests and what answer works on */
    int requests;
};

/* How long a request is whose head is there; REQUEST_BYTES_MAX until then. */
static size_t whole_bytes(struct buf *request)
{
    const char *end = strstr(buf_text(request), "\r\n\r\n");
    const char *length = strcasestr(buf_text(request), "\r\nContent-Length:");

    if (end == NULL)
        return REQUEST_BYTES_MAX;
    return (size_t)(end + 4 - buf_text(request)) +
           (length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0);
}

/* Head and body, or until the client sends no more. */
static void read_request(int fd, struct buf *head)
{
    while (head->bytes < REQUEST_BYTES_MAX && head->bytes < whole_bytes(head)) {
        char piece[4096];
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        ssize_t got;

        if (poll(&ready, 1, 5000) != 1)
            return;
        got = read(fd, piece, sizeof piece);
        if (got <= 0)
            return;
        buf_append(head, piece, (size_t)got);
    }
}

static void serve_one(struct fake *fake, int fd)
{
    struct buf head = {0}, out = {0};
    bool silent = false;

    read_request(fd, &head);
    pthread_mutex_lock(&fake->mutex);
    fake->requests++;
    fake->answer(fake->context, buf_text(&head), &out, &silent);
    pthread_mutex_unlock(&fake->mutex);
    for (size_t done = 0; done < out.bytes;) {
        const ssize_t sent = send(fd, out.data + done, out.bytes - done, MSG_NOSIGNAL);

        if (sent <= 0)
            break;
        done += (size_t)sent;
    }
    if (silent && fake->silent_count < SILENT_MAX) {
        fake->silent[fake->silent_count++] = fd;
    } else {
        shutdown(fd, SHUT_WR);
        close(fd);
    }
    buf_release(&head);
    buf_release(&out);
}

static void *serve(void *context)
{
    struct fake *fake = context;

    for (;;) {
        struct pollfd ready[2] = {{.fd = fake->listener, .events = POLLIN},
                                  {.fd = fake->stop[0], .events = POLLIN}};
        int fd;

        poll(ready, 2, -1);
        if (ready[1].revents != 0)
            return NULL;
        fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            serve_one(fake, fd);
    }
}

static int listen_on(const char *address, int port)
{
    const int yes = 1, six = strchr(address, ':') != NULL;
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, address,
                               six ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr),
                     1);
    if (bind(fd, six ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4,
             six ? sizeof a6 : sizeof a4) < 0 ||
        listen(fd, 128) < 0)
        fail_msg("cannot listen on %s port %d", address, port);
    return fd;
}

struct fake *fake_start(const char *address, int port, fake_answer *answer, void *context)
{
    struct fake *fake = calloc(1, sizeof *fake);
    struct sockaddr_in6 bound = {0}; /* room for either kind; the port is at the same place */
    socklen_t bytes = sizeof bound;

    assert_non_null(fake);
    fake->listener = listen_on(address, port);
    assert_int_equal(getsockname(fake->listener, (struct sockaddr *)&bound, &bytes), 0);
    fake->port = ntohs(bound.sin6_port);
    fake->answer = answer;
    fake->context = context;
    pthread_mutex_init(&fake->mutex, NULL);
    assert_int_equal(pipe(fake->stop), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, serve, fake), 0);
    return fake;
}

void fake_stop(struct fake *fake)
{
    if (fake == NULL)
        return;
    close(fake->stop[1]);
    pthread_join(fake->thread, NULL);
    for (int i = 0; i < fake->silent_count; i++)
        close(fake->silent[i]);
    close(fake->stop[0]);
    close(fake->listener);
    pthread_mutex_destroy(&fake->mutex);
    free(fake);
}

int fake_port(const struct fake *fake)
{
    return fake->port;
}

void fake_lock(struct fake *fake)
{
    pthread_mutex_lock(&fake->mutex);
}

void fake_unlock(struct fake *fake)
{
    pthread_mutex_unlock(&fake->mutex);
}

int fake_requests(struct fake *fake)
{
    int requests;

    pthread_mutex_lock(&fake->mutex);
    requests = fake->requests;
    pthread_mutex_unlock(&fake->mutex);
    return requests;
}

void fake_reply(struct buf *out, int status, const char *headers, const char *body)
{
    buf_printf(out, "HTTP/1.1 %d x\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n%s", status,
               strlen(body), headers, body);
}

bool fake_enter_network(void)
{
    static const char *const commands[] = {"ip link set lo up",
                                           "ip addr add 169.254.170.2/32 dev lo",
                                           "ip addr add 169.254.170.23/32 dev lo",
                                           "ip addr add fd00:ec2::23/128 dev lo nodad",
                                           "ip addr add 169.254.169.254/32 dev lo",
                                           "ip addr add fd00:ec2::254/128 dev lo nodad"};

    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (system(commands[i]) != 0)
            return false;
    return true;
}
