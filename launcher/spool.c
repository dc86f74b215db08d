#include "launcher/spool.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "launcher/child.h"
#include "launcher/outcome.h"
#include "launcher/words.h"

struct spools {
    const struct launch_words *pipes;
    pid_t *children; /* (count) 0: has ended */
    size_t count, running;
    struct launch_outcome *outcome;
    int stopped; /* the first signal that asked for the end; 0: none did */
    int interrupts;
    double asked_s; /* when the processes were asked to end; 0: not */
};

static void signal_all(const struct spools *spools, int number)
{
    for (size_t i = 0; i < spools->count; i++)
        if (spools->children[i] > 0)
            kill(spools->children[i], number);
}

static void end_all(struct spools *spools)
{
    signal_all(spools, SIGTERM);
    if (spools->asked_s == 0)
        spools->asked_s = clock_now_s();
}

static int start(struct spools *spools, const char *program, const struct launch_signals *signals,
                 struct err *err)
{
    char *const *const names = spools->pipes->at + 2 * spools->count; /* FIFO, folder */
    struct launch_words words = {0};
    pid_t child;

    launch_words_push(&words, program);
    launch_words_push(&words, "spool");
    launch_words_push(&words, names[0]);
    launch_words_push(&words, names[1]);
    child = launch_child_start(words.at, true, signals);
    launch_words_release(&words);
    if (child < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot start '%s'", program);
    spools->children[spools->count++] = child;
    spools->running++;
    return 0;
}

const char *launch_spool_name(const struct launch_words *pipes, size_t index)
{
    const char *const folder = pipes->at[2 * index + 1];

    return strrchr(folder, '/') + 1; /* it is NAME below another folder */
}

/* The first one that fails decides. Who was killed cannot say it. */
static void take_end(struct spools *spools, size_t index, int status)
{
    const int code = launch_child_exit_code(status);
    char how[LAUNCH_OUTCOME_END_BYTES];

    spools->children[index] = 0;
    spools->running--;
    if (code == 0 || spools->asked_s != 0) /* asked to end, or the second that fails */
        return;
    launch_outcome_set(spools->outcome, code,
                       "channel '%s' is not read: the process that read '%s' %s",
                       launch_spool_name(spools->pipes, index), spools->pipes->at[2 * index],
                       launch_outcome_end(code, how));
    if (WIFSIGNALED(status))
        log_error("%s", spools->outcome->failure);
    end_all(spools);
}

static void reap(struct spools *spools)
{
    for (size_t i = 0; i < spools->count; i++) {
        int status;

        if (spools->children[i] > 0 && waitpid(spools->children[i], &status, WNOHANG) > 0)
            take_end(spools, i, status);
    }
}

static void stop(struct spools *spools, int number)
{
    if (spools->stopped == 0) {
        log_info("stopping, as asked by signal %d: the channels are not read yet", number);
        launch_outcome_set(spools->outcome, LAUNCH_EXIT_STOPPED,
                           "stopped (%s) while the channels in Pipe mode were read",
                           strsignal(number));
        spools->stopped = number;
    }
    end_all(spools);
    spools->interrupts += number == SIGINT;
    if (number != SIGINT || spools->interrupts < 2)
        return;
    spools->outcome->code = 128 + SIGINT;
    signal_all(spools, SIGKILL);
}

/* A signal goes before SIGCHLD, which has the greater number: an end that it brought about is known
 * for one. */
static void await(struct spools *spools, const struct launch_signals *signals)
{
    static const struct timespec second = {.tv_sec = 1};

    while (spools->running > 0) {
        const int number = sigtimedwait(&signals->waited, NULL, &second);

        if (number > 0 && number != SIGCHLD) {
            stop(spools, number);
            continue;
        }
        reap(spools);
        if (spools->asked_s != 0 && clock_now_s() - spools->asked_s > LAUNCH_SPOOL_END_S)
            signal_all(spools, SIGKILL);
    }
}

int launch_spool_run(const struct launch_words *pipes, const char *program,
                     const struct launch_signals *signals, struct launch_outcome *outcome,
                     struct err *err)
{
    struct spools spools = {.pipes = pipes,
                            .children = calloc(pipes->count / 2 + 1, sizeof *spools.children),
                            .outcome = outcome};
    int rc = 0;

    if (spools.children == NULL)
        abort();
    while (spools.count < pipes->count / 2 && rc == 0)
        rc = start(&spools, program, signals, err);
    if (rc < 0)
        end_all(&spools);
    await(&spools, signals);
    if (spools.stopped != 0)
        kill(getpid(), spools.stopped); /* it is blocked: it waits for its reader */
    free(spools.children);
    return rc;
}
