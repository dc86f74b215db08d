#include "s3io/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "s3io/keys.h"

#define OUT_BYTES_MAX ((size_t)64 << 10)
#define POLL_MS       50
#define AFTER_END_MS  2 /* its pipe is closed: it ends in a moment */

extern char **environ;

/* --- words --- */

static void add_word(char ***words, size_t *count, struct buf *word)
{
    *words = realloc(*words, (*count + 2) * sizeof **words);
    if (*words == NULL)
        abort();
    (*words)[*count] = text_copy(buf_text(word));
    (*words)[++*count] = NULL;
    word->bytes = 0;
}

/* A quoted piece, *at behind its opening quote; moves behind the closing one. In double quotes a
 * backslash hides a quote or another backslash, in single ones nothing does. */
static bool take_quoted(const char **at, char quote, struct buf *word)
{
    for (; **at != '\0'; (*at)++) {
        if (**at == quote) {
            (*at)++;
            return true;
        }
        if (quote == '"' && **at == '\\') {
            if ((*at)[1] == '\0')
                return false;
            if ((*at)[1] == '"' || (*at)[1] == '\\')
                (*at)++;
        }
        buf_append(word, *at, 1);
    }
    return false;
}

/* One word, *at at its first character. False: it does not end. */
static bool take_word(const char **at, struct buf *word)
{
    while (**at != '\0' && strchr(" \t\r\n", **at) == NULL) {
        const char c = *(*at)++;

        if (c == '\'' || c == '"') {
            if (!take_quoted(at, c, word))
                return false;
        } else if (c == '\\') {
            if (**at == '\0')
                return false;
            buf_append(word, (*at)++, 1);
        } else {
            buf_append(word, &c, 1);
        }
    }
    return true;
}

char **s3_process_words(const char *command, struct err *err)
{
    char **words = NULL;
    size_t count = 0;
    struct buf word = {0};
    bool whole = true;

    for (const char *at = command; whole && *(at += strspn(at, " \t\r\n")) != '\0';) {
        whole = take_word(&at, &word);
        if (whole)
            add_word(&words, &count, &word);
    }
    buf_release(&word);
    if (whole && words != NULL)
        return words;
    s3_process_words_free(words);
    err_set(err, ERR_INPUT, "its command line %s",
            whole ? "has no word" : "ends inside quotes or behind a backslash");
    return NULL;
}

void s3_process_words_free(char **words)
{
    for (char **word = words; word != NULL && *word != NULL; word++)
        free(*word);
    free(words);
}

/* --- the program --- */

/* While it runs. */
struct child {
    pid_t pid;
    int out; /* our end of its pipe; -1: closed */
    struct buf text;
    bool too_long;
};

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* 0, or an errno value. */
static int spawn(struct child *child, char **words, int out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    /* What it complains of may have keys in it, and belongs into nobody's log. */
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawnp(&child->pid, words[0], &files, &attributes, words, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return rc;
}

/* Ends above the standard ones: dup2 onto itself would leave close-on-exec set. */
static int make_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return errno;
    for (int i = 0; i < 2; i++) {
        const int high = fcntl(ends[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

        if (high < 0)
            return errno;
        close(ends[i]);
        ends[i] = high;
    }
    /* The program's end shall block as it is used to. */
    return fcntl(ends[1], F_SETFL, 0) < 0 ? errno : 0;
}

static int start(struct child *child, char **words, struct err *err)
{
    int out[2] = {-1, -1};
    int rc = make_pipe(out);

    if (rc == 0)
        rc = spawn(child, words, out[1]);
    close_end(&out[1]);
    if (rc != 0) {
        close_end(&out[0]);
        return err_set_errno(err, ERR_INPUT, rc, "cannot start '%s'", words[0]);
    }
    child->out = out[0];
    return 0;
}

/* What is there now. What does not fit is read all the same, so that the program does not wait. */
static void drain(struct child *child)
{
    char piece[4096];

    while (child->out >= 0) {
        const ssize_t got = read(child->out, piece, sizeof piece);
        const size_t room = OUT_BYTES_MAX - child->text.bytes;

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            close_end(&child->out);
            return;
        }
        buf_append(&child->text, piece, (size_t)got < room ? (size_t)got : room);
        child->too_long |= (size_t)got > room;
        explicit_bzero(piece, (size_t)got);
    }
}

static void read_some(struct child *child, int wait_ms)
{
    struct pollfd ready = {.fd = child->out, .events = POLLIN};

    if (child->out < 0 && wait_ms > AFTER_END_MS)
        wait_ms = AFTER_END_MS;
    poll(&ready, 1, wait_ms);
    drain(child);
}

/* Whether it has ended: with *status, or -1 where a part of this program that waits for all of its
 * children (the launcher does) was faster. */
static bool has_ended(const struct child *child, int *status)
{
    const pid_t ended = waitpid(child->pid, status, WNOHANG);

    if (ended < 0 && errno == ECHILD)
        *status = -1;
    return ended == child->pid || (ended < 0 && errno == ECHILD);
}

static int end(const struct child *child)
{
    int status;

    kill(-child->pid, SIGKILL); /* its session: what it has started, too */
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return -1;
}

static int wait_for(struct child *child, const struct s3_process *process, int *status,
                    struct err *err)
{
    const double until = clock_now_s() + process->limit_s;

    while (!has_ended(child, status)) {
        if (process->cancel != NULL && __atomic_load_n(process->cancel, __ATOMIC_RELAXED)) {
            err_set(err, ERR_STOPPED, "it was stopped");
            return end(child);
        }
        if (clock_now_s() >= until) {
            err_set(err, ERR_NET, "it did not end within %g s", process->limit_s);
            return end(child);
        }
        read_some(child, POLL_MS);
    }
    read_some(child, 0); /* what it wrote last; not what a child of its own may still write */
    return 0;
}

/* Take its keys; else why is what is wrong with it. */
static int judge(struct child *child, int status, struct s3_keys *keys, struct err *why)
{
    if (status != -1 && WIFSIGNALED(status))
        return err_set(why, ERR_INPUT, "it was ended by signal %d", WTERMSIG(status));
    if (status != -1 && WEXITSTATUS(status) != 0)
        return err_set(why, ERR_INPUT, "its exit status is %d", WEXITSTATUS(status));
    if (child->too_long)
        return err_set(why, ERR_INPUT, "what it writes is longer than 64 KiB");
    return s3_keys_parse_process(keys, buf_text(&child->text), child->text.bytes, "what it writes",
                                 why);
}

static int take(struct child *child, int status, struct s3_keys *keys, struct err *err)
{
    struct err why = {0};

    if (judge(child, status, keys, &why) == 0)
        return 0;
    return err_set(err, why.code, "%s; run it by hand to see why", why.msg);
}

int s3_process_fetch(const struct s3_process *process, struct s3_keys *keys, struct err *err)
{
    struct child child = {.out = -1};
    char **words = s3_process_words(process->command, err);
    int status = 0, rc = -1;

    if (words != NULL && start(&child, words, err) == 0 &&
        wait_for(&child, process, &status, err) == 0)
        rc = take(&child, status, keys, err);
    close_end(&child.out);
    if (child.text.data != NULL)
        explicit_bzero(child.text.data, child.text.capacity);
    buf_release(&child.text);
    s3_process_words_free(words);
    return rc;
}
