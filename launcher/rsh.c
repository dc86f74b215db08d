#include "launcher/rsh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

#define LINE_BYTES_MAX 1100 /* of an answer: more than an err's message */

static int address_of(const char *path, struct sockaddr_un *address, struct err *err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address->sun_path)
        return err_set(err, ERR_IO,
                       "the path '%s' is too long for a socket: set TMPDIR to a "
                       "shorter one",
                       path);
    memcpy(address->sun_path, path, strlen(path));
    return 0;
}

static int write_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;

    while (bytes > 0) {
        const ssize_t sent = send(fd, at, bytes, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -1;
        at += sent;
        bytes -= (size_t)sent;
    }
    return 0;
}

static int read_answer(int fd, const char *host, struct err *err)
{
    char text[LINE_BYTES_MAX + 2];
    size_t bytes = 0;
    ssize_t got;

    while (bytes < sizeof text - 1 &&
           ((got = recv(fd, text + bytes, sizeof text - 1 - bytes, 0)) > 0 ||
            (got < 0 && errno == EINTR)))
        bytes += got > 0 ? (size_t)got : 0;
    text[bytes] = '\0';
    if (bytes == 0)
        return err_set(err, ERR_PEER, "host '%s': the launcher has gone without an answer", host);
    text[strcspn(text, "\n")] = '\0';
    return text[0] == '\0' ? 0 : err_set(err, ERR_PEER, "host '%s': %s", host, text);
}

int launch_rsh_call(int argc, char *const *argv, struct err *err)
{
    const char *path = getenv("CONVOY_RSH");
    struct sockaddr_un address;
    struct buf request = {0};
    int fd, rc = -1;

    if (path == NULL || argc < 2)
        return err_set(err, ERR_USAGE,
                       "convoy rsh HOST COMMAND... is what `convoy train` has mpirun call; it is "
                       "not for people");
    if (address_of(path, &address, err) < 0)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        err_set_errno(err, ERR_PEER, errno, "cannot reach the launcher at '%s'", path);
        goto out;
    }
    for (int i = 0; i < argc; i++)
        buf_append(&request, argv[i], strlen(argv[i]) + 1);
    if (write_all(fd, request.data, request.bytes) < 0 || shutdown(fd, SHUT_WR) < 0) {
        err_set_errno(err, ERR_PEER, errno, "cannot ask the launcher at '%s'", path);
        goto out;
    }
    rc = read_answer(fd, argv[0], err);
out:
    buf_release(&request);
    if (fd >= 0)
        close(fd);
    return rc;
}

int launch_rsh_open(struct launch_rsh *rsh, const char *path, struct err *err)
{
    struct sockaddr_un address;
    int fd;

    *rsh = (struct launch_rsh){0};
    if (address_of(path, &address, err) < 0)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, 128) < 0) {
        err_set_errno(err, ERR_IO, errno, "cannot make the socket '%s'", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    rsh->fd = fd;
    return 0;
}

static void request_release(struct launch_rsh_request *request)
{
    close(request->fd);
    buf_release(&request->bytes);
    free(request->host);
    launch_words_release(&request->words);
}

static void forget(struct launch_rsh *rsh, int index)
{
    request_release(&rsh->at[index]);
    rsh->count--;
    memmove(rsh->at + index, rsh->at + index + 1, (size_t)(rsh->count - index) * sizeof rsh->at[0]);
}

void launch_rsh_close(struct launch_rsh *rsh)
{
    while (rsh->count > 0)
        launch_rsh_answer(rsh, rsh->at[0].number, "the job has ended");
    free(rsh->at);
    if (rsh->fd > 0)
        close(rsh->fd);
    *rsh = (struct launch_rsh){0};
}

static bool is_own_user(int fd)
{
    struct ucred who = {0};
    socklen_t bytes = sizeof who;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && who.uid == geteuid();
}

static void take_callers(struct launch_rsh *rsh)
{
    int fd;

    while ((fd = accept4(rsh->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        if (!is_own_user(fd)) {
            close(fd);
            continue;
        }
        rsh->at = realloc(rsh->at, (size_t)(rsh->count + 1) * sizeof rsh->at[0]);
        if (rsh->at == NULL)
            abort();
        rsh->at[rsh->count++] = (struct launch_rsh_request){.fd = fd, .number = rsh->next_number++};
    }
}

/* Cut the bytes at their NULs. */
static bool cut(struct launch_rsh_request *request)
{
    const struct buf *bytes = &request->bytes;

    if (bytes->bytes == 0 || bytes->data[bytes->bytes - 1] != '\0')
        return false;
    for (size_t at = 0; at < bytes->bytes;) {
        const char *word = (const char *)bytes->data + at;

        at += strlen(word) + 1;
        if (request->host != NULL) {
            launch_words_push(&request->words, word);
            continue;
        }
        request->host = strdup(word);
        if (request->host == NULL)
            abort();
    }
    return true;
}

/* 1: it is whole now; 0: more will come; -1: it is no request. */
static int read_request(struct launch_rsh_request *request)
{
    for (;;) {
        char bytes[8192];
        const ssize_t got = recv(request->fd, bytes, sizeof bytes, 0);

        if (got < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        if (got == 0)
            return cut(request) ? 1 : -1;
        buf_append(&request->bytes, bytes, (size_t)got);
        if (request->bytes.bytes > LAUNCH_RSH_BYTES_MAX)
            return -1;
    }
}

const struct launch_rsh_request *launch_rsh_next(struct launch_rsh *rsh)
{
    if (rsh->fd <= 0)
        return NULL;
    take_callers(rsh);
    for (int i = 0; i < rsh->count;) {
        struct launch_rsh_request *request = &rsh->at[i];
        const int rc = request->whole ? 0 : read_request(request);

        if (rc < 0) {
            launch_rsh_answer(rsh, request->number,
                              "what mpirun asks for is cut short or too long");
            continue;
        }
        request->whole = request->whole || rc == 1;
        if (rc == 1)
            return request;
        i++;
    }
    return NULL;
}

void launch_rsh_answer(struct launch_rsh *rsh, int number, const char *failure)
{
    char line[LINE_BYTES_MAX + 2];

    snprintf(line, sizeof line, "%.*s\n", LINE_BYTES_MAX, failure == NULL ? "" : failure);
    for (int i = 0; i < rsh->count; i++) {
        if (rsh->at[i].number != number)
            continue;
        /* It fits the socket's buffer; a caller that is gone does not matter. */
        send(rsh->at[i].fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
        forget(rsh, i);
        return;
    }
}
