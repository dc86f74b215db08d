#include "launcher/child.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "launcher/words.h"

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
    signal(SIGPIPE, SIG_IGN); /* whoever reads a pipe of ours may be gone: write says so */
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
    signal(SIGPIPE, SIG_DFL);
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

pid_t launch_child_start_piped(char *const *argv, const struct launch_signals *signals, int *in,
                               int *out)
{
    const pid_t parent = getpid();
    int to_child[2], from_child[2];
    pid_t child;

    if (pipe2(to_child, O_CLOEXEC) < 0)
        return -1;
    if (pipe2(from_child, O_CLOEXEC) < 0) {
        close(to_child[0]);
        close(to_child[1]);
        return -1;
    }
    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        dup2(to_child[0], STDIN_FILENO);
        dup2(from_child[1], STDOUT_FILENO);
        dup2(from_child[1], STDERR_FILENO);
        child_main(argv, false, signals, parent);
    }
    close(to_child[0]);
    close(from_child[1]);
    if (child < 0) {
        close(to_child[1]);
        close(from_child[0]);
        return -1;
    }
    fcntl(to_child[1], F_SETFL, O_NONBLOCK);
    fcntl(from_child[0], F_SETFL, O_NONBLOCK);
    *in = to_child[1];
    *out = from_child[0];
    return child;
}

pid_t launch_child_start_captured(char *const *argv, const struct launch_signals *signals, int *out)
{
    const pid_t parent = getpid();
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        signal(SIGINT, SIG_DFL);
        child_main(argv, true, signals, parent);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return -1;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *out = ends[0];
    return child;
}

int launch_child_exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int launch_child_become(const char *program, int argc, char *const *argv, struct err *err)
{
    struct launch_words words = {0};

    launch_words_push(&words, program);
    for (int i = 0; i < argc; i++)
        launch_words_push(&words, argv[i]);
    execv(program, words.at);
    err_set_errno(err, ERR_INTERNAL, errno, "cannot run '%s'", program);
    launch_words_release(&words);
    return -1;
}

int launch_child_wait(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return launch_child_exit_code(status);
}
