#include "faults.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

#define CONNECTIONS_MAX 32
#define REQUESTS_MAX    256

struct connection {
    int fd; /* -1: free */
    struct buf in;
    bool continued; /* "100 Continue" was sent for the request that is coming in */
    bool held;      /* its answer has ended */
};

struct faults {
    const struct fault_step *steps;
    size_t count;
    int listener, port, wake[2]; /* a byte into wake[1] ends the thread */
    char url[64];
    pthread_t thread;
    struct connection connections[CONNECTIONS_MAX];
    pthread_mutex_t mutex; /* guards what follows */
    char *requests[REQUESTS_MAX];
    int request_count, accepted;
    unsigned addresses; /* bit n: 127.0.0.n was connected to */
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

static void drop(struct connection *connection)
{
    close(connection->fd);
    buf_release(&connection->in);
    *connection = (struct connection){.fd = -1};
}

/* False when the other side has closed the connection, or faults_stop was called. */
static bool wait_for_drip(const struct faults *faults, const struct connection *connection,
                          double seconds)
{
    struct pollfd ends[2] = {{.fd = connection->fd, .events = POLLRDHUP},
                             {.fd = faults->wake[0], .events = POLLIN}};

    return poll(ends, 2, (int)(seconds * 1000)) == 0;
}

static void say(const struct faults *faults, struct connection *connection,
                const struct fault_step *step)
{
    const size_t bytes = step->text == NULL ? 0
                         : step->bytes > 0  ? step->bytes
                                            : strlen(step->text);
    const char *body = step->drip_s > 0 ? strstr(step->text, "\r\n\r\n") : NULL;
    const size_t head_bytes = body != NULL ? (size_t)(body + 4 - step->text) : bytes;
    size_t sent = 0;

    while (sent < bytes) {
        const size_t piece = sent < head_bytes ? head_bytes - sent : 1;
        const ssize_t n = send(connection->fd, step->text + sent, piece, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        sent += (size_t)n;
        if (step->drip_s > 0 && !wait_for_drip(faults, connection, step->drip_s))
            return;
    }
}

static void answer(struct faults *faults, struct connection *connection, size_t bytes)
{
    const struct linger now = {.l_onoff = 1};
    const struct fault_step *step;
    char *text = malloc(bytes + 1);
    int index;

    must(text != NULL, "malloc");
    memcpy(text, connection->in.data, bytes);
    text[bytes] = '\0';
    pthread_mutex_lock(&faults->mutex);
    index = faults->request_count;
    must(index < REQUESTS_MAX, "too many requests");
    faults->requests[index] = text;
    faults->request_count++;
    pthread_mutex_unlock(&faults->mutex);

    step = &faults->steps[(size_t)index < faults->count ? (size_t)index : faults->count - 1];
    if (step->make != NULL) {
        struct fault_step made = *step;
        struct buf out = {0};

        step->make(faults, &out);
        made.text = buf_text(&out);
        made.bytes = out.bytes;
        say(faults, connection, &made);
        buf_release(&out);
    } else {
        say(faults, connection, step);
    }
    connection->in.bytes -= bytes;
    memmove(connection->in.data, connection->in.data + bytes, connection->in.bytes);
    connection->continued = false;
    connection->held = step->then == FAULT_HOLD;
    if (step->then == FAULT_RESET)
        setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if (step->then == FAULT_CLOSE || step->then == FAULT_RESET)
        drop(connection);
}

/* Answer if a whole request is there. */
static void look(struct faults *faults, struct connection *connection)
{
    const char *text = buf_text(&connection->in), *end = strstr(text, "\r\n\r\n"), *length;
    const size_t index = (size_t)faults->request_count; /* only this thread changes it */
    const bool at_headers =
        faults->steps[index < faults->count ? index : faults->count - 1].at_headers;
    size_t bytes;

    if (end == NULL || connection->held)
        return;
    bytes = (size_t)(end + 4 - text);
    length = strcasestr(text, "\r\ncontent-length:");
    if (length != NULL && length < end && !at_headers)
        bytes += strtoul(length + 17, NULL, 10);
    if (connection->in.bytes >= bytes) {
        answer(faults, connection, bytes);
    } else if (strcasestr(text, "\r\nexpect: 100-continue") != NULL && !connection->continued) {
        connection->continued = true;
        say(faults, connection, &(struct fault_step){.text = "HTTP/1.1 100 Continue\r\n\r\n"});
    }
}

static void receive(struct faults *faults, struct connection *connection)
{
    static char piece[1 << 16];
    const ssize_t n = recv(connection->fd, piece, sizeof piece, 0);

    if (n <= 0) {
        drop(connection);
        return;
    }
    buf_append(&connection->in, piece, (size_t)n);
    look(faults, connection);
}

static void accept_one(struct faults *faults)
{
    struct connection *connection = faults->connections;
    struct sockaddr_in address = {0};
    socklen_t bytes = sizeof address;

    while (connection->fd >= 0)
        must(++connection < faults->connections + CONNECTIONS_MAX, "too many connections");
    connection->fd = accept(faults->listener, NULL, NULL);
    getsockname(connection->fd, (struct sockaddr *)&address, &bytes);
    pthread_mutex_lock(&faults->mutex);
    faults->accepted++;
    faults->addresses |= 1u << (ntohl(address.sin_addr.s_addr) & 31);
    pthread_mutex_unlock(&faults->mutex);
}

static void *serve(void *context)
{
    struct faults *faults = context;
    struct pollfd fds[CONNECTIONS_MAX + 2];

    for (;;) {
        fds[0] = (struct pollfd){.fd = faults->wake[0], .events = POLLIN};
        fds[1] = (struct pollfd){.fd = faults->listener, .events = POLLIN};
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            fds[i + 2] = (struct pollfd){.fd = faults->connections[i].fd, .events = POLLIN};
        must(poll(fds, CONNECTIONS_MAX + 2, -1) > 0, "poll");
        if (fds[0].revents != 0)
            return NULL;
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            if (fds[i + 2].revents != 0)
                receive(faults, &faults->connections[i]);
        if (fds[1].revents != 0)
            accept_one(faults);
    }
}

struct faults *faults_start(const struct fault_step *steps, size_t count)
{
    struct faults *faults = calloc(1, sizeof *faults);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_ANY)}};
    socklen_t bytes = sizeof address;

    must(faults != NULL, "calloc");
    faults->steps = steps;
    faults->count = count;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        faults->connections[i].fd = -1;
    faults->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* All of 127.0.0.0/8, and nobody from outside. */
    must(setsockopt(faults->listener, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0, "loopback");
    must(bind(faults->listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    must(listen(faults->listener, 64) == 0, "listen");
    must(getsockname(faults->listener, (struct sockaddr *)&address, &bytes) == 0, "getsockname");
    faults->port = ntohs(address.sin_port);
    snprintf(faults->url, sizeof faults->url, "http://127.0.0.1:%d", faults->port);
    must(pipe(faults->wake) == 0, "pipe");
    pthread_mutex_init(&faults->mutex, NULL);
    must(pthread_create(&faults->thread, NULL, serve, faults) == 0, "pthread_create");
    return faults;
}

void faults_stop(struct faults *faults)
{
    must(write(faults->wake[1], "x", 1) == 1, "write");
    pthread_join(faults->thread, NULL);
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (faults->connections[i].fd >= 0)
            drop(&faults->connections[i]);
    close(faults->listener);
    close(faults->wake[0]);
    close(faults->wake[1]);
    for (int i = 0; i < faults->request_count; i++)
        free(faults->requests[i]);
    pthread_mutex_destroy(&faults->mutex);
    free(faults);
}

const char *faults_url(const struct faults *faults)
{
    return faults->url;
}

int faults_port(const struct faults *faults)
{
    return faults->port;
}

int faults_requests(struct faults *faults)
{
    int count;

    pthread_mutex_lock(&faults->mutex);
    count = faults->request_count;
    pthread_mutex_unlock(&faults->mutex);
    return count;
}

const char *faults_request(struct faults *faults, int index)
{
    const char *text;

    pthread_mutex_lock(&faults->mutex);
    text = index < faults->request_count ? faults->requests[index] : "";
    pthread_mutex_unlock(&faults->mutex);
    return text;
}

void faults_await_second(const struct faults *faults)
{
    if (faults->accepted < 2) /* only this thread changes it */
        poll(&(struct pollfd){.fd = faults->listener, .events = POLLIN}, 1, 10000);
}

int faults_connections(struct faults *faults)
{
    int count;

    pthread_mutex_lock(&faults->mutex);
    count = faults->accepted;
    pthread_mutex_unlock(&faults->mutex);
    return count;
}

int faults_addresses(struct faults *faults)
{
    int count;

    pthread_mutex_lock(&faults->mutex);
    count = __builtin_popcount(faults->addresses);
    pthread_mutex_unlock(&faults->mutex);
    return count;
}
