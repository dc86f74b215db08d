#include "launcher/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

/* Ranks that are not up this long after a stop was asked for have trained nothing that ending them
 * could lose. */
#define READY_WAIT_S  10.0
/* How often the file is looked for while a signal is held. */
#define READY_POLL_NS 50000000L

void launch_signals_init(struct launch_signals *signals)
{
    static const int numbers[] = {SIGTERM, SIGHUP, SIGUSR1, SIGINT, SIGCHLD};

    sigemptyset(&signals->waited);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action;

        sigaction(numbers[i], NULL, &action);
        if (action.sa_handler == SIG_IGN && (numbers[i] == SIGHUP || numbers[i] == SIGINT))
            continue;
        signal(numbers[i], SIG_DFL); /* an ignored SIGCHLD would take the exit status from us */
        sigaddset(&signals->waited, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &signals->waited, &signals->before);
}

static void child_main(char *const *argv, bool apart, const struct launch_signals *signals,
                       pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it died before the call above */
        _exit(1);
    if (apart) {
        const int null = open("/dev/null", O_RDONLY);

        setpgid(0, 0);
        if (null >= 0) {
            dup2(null, STDIN_FILENO);
            close(null);
        }
    }
    sigprocmask(SIG_SETMASK, &signals->before, NULL);
    execvp(argv[0], argv);
    log_error("cannot run '%s': %s", argv[0], strerror(errno));
    _exit(1);
}

pid_t launch_child_start(char *const *argv, bool apart, const struct launch_signals *signals)
{
    const pid_t parent = getpid(), child = fork();

    if (child == 0)
        child_main(argv, apart, signals, parent);
    return child;
}

/* What the signals so far add up to. */
struct stop {
    int interrupts;
    bool held; /* asked for, not handed on yet */
    double asked_s;
};

static void take_signal(const struct launch_watch *watch, int number, struct stop *stop,
                        struct launch_end *end)
{
    if (number == SIGCHLD)
        return;
    if (!end->stop_asked) {
        stop->asked_s = clock_now_s();
        log_info("%s: the job ends after its last whole step%s", strsignal(number),
                 number == SIGINT ? "; once more ends it now" : "");
    }
    end->stop_asked = true;
    stop->held = true;
    stop->interrupts += number == SIGINT;
    if (stop->interrupts < 2 || number != SIGINT)
        return;
    end->stop_forced = true;
    end->interrupted = true;
    kill(watch->child, watch->mpirun && stop->interrupts == 2 ? SIGTERM : SIGKILL);
}

static void hand_on(const struct launch_watch *watch, struct stop *stop, struct launch_end *end)
{
    if (file_exists(watch->ready)) {
        kill(watch->child, SIGUSR1);
        stop->held = false;
    } else if (clock_now_s() - stop->asked_s > READY_WAIT_S && !end->stop_forced) {
        log_warn("the ranks were not up within %.0f s and have trained nothing yet: ending them",
                 READY_WAIT_S);
        kill(watch->child, watch->mpirun ? SIGTERM : SIGKILL);
        end->stop_forced = true;
    }
}

void launch_child_watch(const struct launch_watch *watch, const struct launch_signals *signals,
                        struct launch_end *end)
{
    struct stop stop = {0};

    *end = (struct launch_end){0};
    while (waitpid(watch->child, &end->status, WNOHANG) == 0) {
        const struct timespec poll = {.tv_nsec = READY_POLL_NS};
        const int number = stop.held ? sigtimedwait(&signals->waited, NULL, &poll)
                                     : sigwaitinfo(&signals->waited, NULL);

        if (number > 0)
            take_signal(watch, number, &stop, end);
        if (stop.held)
            hand_on(watch, &stop, end);
    }
}

int launch_child_exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int launch_child_wait(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return launch_child_exit_code(status);
}
