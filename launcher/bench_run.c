#include "launcher/bench_run.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "launcher/machine.h"
#include "launcher/options.h"
#include "launcher/outcome.h"
#include "launcher/words.h"

#define OUTPUT_BYTES_MAX ((size_t)16 << 20)
#define SHOWN_BYTES      60
#define BUSY             0.5 /* processes: a benchmark alone on its host finds about 0.1 */
/* There is nothing to save: the second interrupt ends the ranks (stop.h; two at once would be one).
 * A third kills them, and what mpirun leaves behind then stays: it comes late, or from the user. */
#define INTERRUPT_S      0.3
#define KILL_S           8.0

int launch_bench_runner_open(struct launch_bench_runner *runner, struct err *err)
{
    *runner = (struct launch_bench_runner){.signal_fd = -1};
    if (readlink("/proc/self/exe", runner->self, sizeof runner->self - 1) < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot read /proc/self/exe");
    launch_bench_time(runner->time);
    launch_signals_init(&runner->signals);
    runner->signal_fd = signalfd(-1, &runner->signals.waited, SFD_CLOEXEC | SFD_NONBLOCK);
    if (runner->signal_fd < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot wait for signals");
    return 0;
}

void launch_bench_runner_close(struct launch_bench_runner *runner)
{
    if (runner->signal_fd > 0)
        close(runner->signal_fd);
    runner->signal_fd = -1;
}

void launch_bench_time(char text[LAUNCH_BENCH_TIME_CHARS])
{
    const time_t now = time(NULL);
    struct tm utc;

    gmtime_r(&now, &utc);
    strftime(text, LAUNCH_BENCH_TIME_CHARS, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

void launch_bench_show_command(const char *name, int argc, char *const *argv, struct buf *line)
{
    struct launch_words command = {0};

    launch_words_push(&command, "convoy");
    launch_words_push(&command, "bench");
    launch_words_push(&command, name);
    for (int i = 0; i < argc; i++)
        launch_words_push(&command, argv[i]);
    launch_words_show(&command, line);
    launch_words_release(&command);
}

void launch_bench_runner_quiet(void)
{
    setenv("CONVOY_LOG", "warn", 0);
}

void launch_bench_warn_of_load(const struct launch_machine *machine)
{
    if (machine->load > BUSY)
        log_warn(
            "this host is busy already (load %.1f on %d core%s): what else runs here is measured "
            "too",
            machine->load, machine->cores, machine->cores == 1 ? "" : "s");
}

int launch_bench_check(struct launch_bench_runner *runner, const char *program,
                       const struct launch_words *words, int ranks, struct err *err)
{
    struct launch_options options = {0};
    struct launch_words check = {0};
    char text[16];
    pid_t child;
    int rc = -1;

    if (launch_options_read(&options, (int)words->count, words->at, err) < 0 ||
        launch_options_check(&options, err) < 0)
        goto out;
    launch_words_push(&check, program);
    launch_words_push(&check, "train");
    launch_words_push(&check, "--check-options");
    launch_words_push_all(&check, &options.train);
    snprintf(text, sizeof text, "%d", ranks);
    setenv("CONVOY_RANKS", text, 1);
    child = launch_child_start(check.at, true, &runner->signals);
    unsetenv("CONVOY_RANKS");
    if (child < 0)
        err_set_errno(err, ERR_INTERNAL, errno, "cannot start '%s'", program);
    else
        rc = launch_child_wait(child) == 0 ? 0 : 2;
out:
    launch_words_release(&check);
    launch_options_release(&options);
    return rc;
}

/* --- the command --- */

struct running {
    pid_t child; /* 0: ended */
    int status;
    int out; /* the end of its stdout's pipe; -1: closed */
    struct buf *output;
    double interrupt_s; /* when it is to be interrupted (again) */
    int interrupts;
};

/* All that is there. What is beyond the bound is dropped: it is not the line we want. */
static void take_output(struct running *r)
{
    char bytes[4096];
    ssize_t got = 0;

    while (r->out >= 0 && (got = read(r->out, bytes, sizeof bytes)) > 0)
        if (r->output->bytes < OUTPUT_BYTES_MAX)
            buf_append(r->output, bytes, (size_t)got);
    if (r->out >= 0 && (got == 0 || errno != EAGAIN)) {
        close(r->out);
        r->out = -1;
    }
}

static void take_signals(struct launch_bench_runner *runner, struct running *r)
{
    struct signalfd_siginfo signal;

    while (read(runner->signal_fd, &signal, sizeof signal) == sizeof signal) {
        if (signal.ssi_signo == SIGCHLD)
            continue;
        if (runner->stopped_by == 0)
            runner->stopped_by = (int)signal.ssi_signo;
        r->interrupt_s = clock_now_s();
    }
    if (waitpid(r->child, &r->status, WNOHANG) == r->child)
        r->child = 0;
}

static void interrupt(const struct launch_bench_runner *runner, struct running *r)
{
    if (runner->stopped_by == 0 || r->child == 0 || clock_now_s() < r->interrupt_s)
        return;
    kill(r->child, SIGINT);
    r->interrupt_s = clock_now_s() + (++r->interrupts == 1 ? INTERRUPT_S : KILL_S);
}

static void wait_for_end(struct launch_bench_runner *runner, struct running *r)
{
    while (r->child != 0) {
        struct pollfd polls[] = {{.fd = runner->signal_fd, .events = POLLIN},
                                 {.fd = r->out, .events = POLLIN}}; /* -1 is passed over */

        poll(polls, 2, runner->stopped_by != 0 ? (int)(INTERRUPT_S * 1000 / 2) : -1);
        take_signals(runner, r);
        take_output(r);
        interrupt(runner, r);
    }
    take_output(r); /* what somebody it left behind may still write does not count */
    if (r->out >= 0)
        close(r->out);
}

/* --- its figures --- */

static bool is_figure(const json_t *figures, const char *key, double *value)
{
    const json_t *number = json_object_get(figures, key);

    *value = json_number_value(number);
    return json_is_number(number) && isfinite(*value) && *value >= 0;
}

/* The last line that is not empty. */
static const char *last_line(struct buf *output)
{
    char *text = buf_text(output), *line;

    for (size_t n = strlen(text); n > 0 && text[n - 1] == '\n';)
        text[--n] = '\0';
    line = strrchr(text, '\n');
    return line == NULL ? text : line + 1;
}

static int read_figures(struct buf *output, int ranks, struct launch_bench_sample *sample,
                        json_t **figures, struct err *err)
{
    const char *line = last_line(output), *event;
    char shown[LAUNCH_FAILURE_BYTES];
    struct err ignored = {0};
    json_t *tree = json_read_text(line, strlen(line), "its last line", &ignored);

    event = json_string_value(json_object_get(tree, "event"));
    if (event == NULL || strcmp(event, "bench") != 0 ||
        !is_figure(tree, "images_per_s", &sample->images_per_s) ||
        !is_figure(tree, "seconds", &sample->seconds) ||
        !is_figure(tree, "ranks_s", &sample->ranks_s) ||
        !is_figure(tree, "exchange_s", &sample->exchange_s) ||
        !is_figure(tree, "input_s", &sample->input_s) ||
        !is_figure(tree, "imbalance", &sample->imbalance) || sample->images_per_s == 0 ||
        sample->seconds == 0) {
        launch_local_clean(shown, line, strnlen(line, SHOWN_BYTES));
        json_decref(tree);
        return err_set(err, ERR_INTERNAL, "it printed '%s' where its figures should be", shown);
    }
    if (json_integer_value(json_object_get(tree, "ranks")) != ranks) {
        err_set(err, ERR_INTERNAL, "it ran %d ranks, not %d",
                (int)json_integer_value(json_object_get(tree, "ranks")), ranks);
        json_decref(tree);
        return -1;
    }
    *figures = tree;
    return 0;
}

static int fail(int status, struct err *err)
{
    const enum err_code code = status == 2                     ? ERR_INPUT
                               : status == LAUNCH_EXIT_PEER    ? ERR_PEER
                               : status == LAUNCH_EXIT_STOPPED ? ERR_STOPPED
                                                               : ERR_INTERNAL;

    if (status > 128)
        return err_set(err, code, "it ended by signal %d (%s)", status - 128,
                       strsignal(status - 128));
    return err_set(err, code, "it ended with exit status %d", status);
}

int launch_bench_run_command(struct launch_bench_runner *runner, const struct launch_words *command,
                             struct buf *output, struct err *err)
{
    struct running r = {.out = -1, .output = output};
    int status;

    r.child = launch_child_start_captured(command->at, &runner->signals, &r.out);
    if (r.child < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot start '%s'", command->at[0]);
    wait_for_end(runner, &r);
    status = launch_child_exit_code(r.status);
    if (runner->stopped_by != 0)
        return err_set(err, ERR_STOPPED, "stopped (%s)", strsignal(runner->stopped_by));
    return status == 0 ? 0 : fail(status, err);
}

int launch_bench_run(struct launch_bench_runner *runner, const struct launch_words *command,
                     int ranks, struct launch_bench_sample *sample, json_t **figures,
                     struct err *err)
{
    struct buf output = {0};
    int rc = launch_bench_run_command(runner, command, &output, err);

    if (rc == 0)
        rc = read_figures(&output, ranks, sample, figures, err);
    buf_release(&output);
    return rc;
}
