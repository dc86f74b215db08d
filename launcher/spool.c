#include "launcher/spool.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/log.h"
#include "launcher/child.h"
#include "launcher/words.h"

struct spools {
    pid_t *children; /* (count) 0: has ended */
    size_t count, running;
    int status; /* the first that is not 0 */
};

static void end_all(const struct spools *spools)
{
    for (size_t i = 0; i < spools->count; i++)
        if (spools->children[i] > 0)
            kill(spools->children[i], SIGTERM);
}

static int start(struct spools *spools, const char *program, const char *fifo, const char *folder,
                 const struct launch_signals *signals, struct err *err)
{
    struct launch_words words = {0};
    pid_t child;

    launch_words_push(&words, program);
    launch_words_push(&words, "spool");
    launch_words_push(&words, fifo);
    launch_words_push(&words, folder);
    child = launch_child_start(words.at, true, signals);
    launch_words_release(&words);
    if (child < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot start '%s'", program);
    spools->children[spools->count++] = child;
    spools->running++;
    return 0;
}

/* Take the ends of those that have ended. */
static void reap(struct spools *spools)
{
    for (size_t i = 0; i < spools->count; i++) {
        int status;

        if (spools->children[i] <= 0 || waitpid(spools->children[i], &status, WNOHANG) <= 0)
            continue;
        spools->children[i] = 0;
        spools->running--;
        if (spools->status != 0 || launch_child_exit_code(status) == 0)
            continue;
        spools->status = launch_child_exit_code(status);
        end_all(spools);
    }
}

/* SIGCHLD or what asks for the end. */
static void await(struct spools *spools, const struct launch_signals *signals)
{
    while (reap(spools), spools->running > 0) {
        const int number = sigwaitinfo(&signals->waited, NULL);

        if (number < 0 || number == SIGCHLD)
            continue;
        log_info("stopping, as asked by signal %d: the channels are not read yet", number);
        end_all(spools);
    }
}

int launch_spool_run(const struct launch_words *pipes, const char *program,
                     const struct launch_signals *signals, int *status, struct err *err)
{
    struct spools spools = {.children = calloc(pipes->count / 2 + 1, sizeof *spools.children)};
    int rc = 0;

    if (spools.children == NULL)
        abort();
    for (size_t i = 0; i + 1 < pipes->count && rc == 0; i += 2)
        rc = start(&spools, program, pipes->at[i], pipes->at[i + 1], signals, err);
    if (rc < 0)
        end_all(&spools);
    await(&spools, signals);
    *status = spools.status;
    free(spools.children);
    return rc;
}
