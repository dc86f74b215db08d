#include "launcher/ssh.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "launcher/child.h"
#include "launcher/polls.h"
#include "launcher/words.h"

#define LINES_BYTES_MAX 16384 /* kept of what it says before it is through */
#define READ_BYTES      4096

/* The other host's shell takes the command apart again; everything within '...' stays as it is. */
static void quote(struct buf *out, const char *text)
{
    buf_printf(out, "'");
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            buf_printf(out, "'\\''");
        else
            buf_append(out, text, 1);
    }
    buf_printf(out, "'");
}

int launch_ssh_start(struct launch_ssh *ssh, const char *host, const char *program,
                     const char *hand_over, const struct launch_signals *signals, struct err *err)
{
    static const char *const options[] = {
        "BatchMode=yes", /* a question could not be answered */
        "ConnectTimeout=10",
        "ServerAliveInterval=15",
        "LogLevel=ERROR",
    };
    struct launch_words words = {0};
    struct buf command = {0};

    launch_words_push(&words, "ssh");
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        launch_words_push(&words, "-o");
        launch_words_push(&words, options[i]);
    }
    launch_words_push(&words, "-T");
    launch_words_push(&words, host);
    quote(&command, program);
    buf_printf(&command, " agent");
    launch_words_push(&words, buf_text(&command));
    *ssh = (struct launch_ssh){.program = program};
    ssh->child = launch_child_start_piped(words.at, signals, &ssh->in, &ssh->out);
    launch_words_release(&words);
    buf_release(&command);
    if (ssh->child < 0) {
        *ssh = (struct launch_ssh){0};
        return err_set_errno(err, ERR_IO, errno, "cannot start ssh for host '%s'", host);
    }
    buf_printf(&ssh->unsent, "%s\n", hand_over);
    return 0;
}

static void close_end(int *fd)
{
    if (*fd > 0)
        close(*fd);
    *fd = 0;
}

void launch_ssh_release(struct launch_ssh *ssh)
{
    close_end(&ssh->in);
    close_end(&ssh->out);
    if (ssh->unsent.data != NULL) /* it holds the key */
        explicit_bzero(ssh->unsent.data, ssh->unsent.capacity);
    buf_release(&ssh->unsent);
    buf_release(&ssh->lines);
}

void launch_ssh_polls(const struct launch_ssh *ssh, struct launch_polls *polls)
{
    if (ssh->out > 0)
        launch_polls_add(polls, ssh->out, POLLIN);
    if (ssh->in > 0 && ssh->unsent.bytes > 0)
        launch_polls_add(polls, ssh->in, POLLOUT);
}

/* Whole lines to our stderr; of one that has no end, what there is room for at a time. */
static void show_lines(struct launch_ssh *ssh)
{
    struct buf *lines = &ssh->lines;
    const unsigned char *last = lines->bytes == 0 ? NULL : memrchr(lines->data, '\n', lines->bytes);
    const bool full = last == NULL && lines->bytes > LINES_BYTES_MAX - READ_BYTES;
    const size_t bytes = full ? lines->bytes : last == NULL ? 0 : (size_t)(last - lines->data) + 1;

    if (bytes == 0)
        return;
    if (write(STDERR_FILENO, lines->data, bytes) < 0)
        return; /* nobody reads: then nobody misses it */
    memmove(lines->data, lines->data + bytes, lines->bytes - bytes);
    lines->bytes -= bytes;
}

void launch_ssh_step(struct launch_ssh *ssh)
{
    char bytes[READ_BYTES];
    ssize_t n = 0;

    while (ssh->in > 0 && ssh->unsent.bytes > 0 &&
           (n = write(ssh->in, ssh->unsent.data, ssh->unsent.bytes)) > 0) {
        memmove(ssh->unsent.data, ssh->unsent.data + n, ssh->unsent.bytes - (size_t)n);
        ssh->unsent.bytes -= (size_t)n;
    }
    if (ssh->in > 0 && ssh->unsent.bytes > 0 && n < 0 && errno != EAGAIN && errno != EINTR)
        close_end(&ssh->in); /* it reads no more: its end is told by waitpid */
    while (ssh->out > 0 && (n = read(ssh->out, bytes, sizeof bytes)) >= 0) {
        if (n == 0)
            close_end(&ssh->out);
        else if (ssh->lines.bytes + (size_t)n <= LINES_BYTES_MAX)
            buf_append(&ssh->lines, bytes, (size_t)n);
        if (ssh->through)
            show_lines(ssh);
    }
    if (ssh->through)
        show_lines(ssh);
}

void launch_ssh_reason(struct launch_ssh *ssh, char reason[512])
{
    const int code = launch_child_exit_code(ssh->status);
    const char *last = NULL;

    launch_ssh_step(ssh);
    for (char *line = strtok(buf_text(&ssh->lines), "\r\n"); line != NULL;
         line = strtok(NULL, "\r\n"))
        last = line;
    if (code == 127)
        snprintf(reason, 512,
                 "cannot run '%.200s' there: install Convoy under the same path on every host",
                 ssh->program);
    else if (last != NULL)
        snprintf(reason, 512, "%.500s", last);
    else
        snprintf(reason, 512, "ssh ended with status %d", code);
}
