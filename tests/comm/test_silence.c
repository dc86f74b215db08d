/* tests/comm/test_silence.c -- WHEN RANKS_OF_HOST DEADLINE: the last rank freezes in the middle of
 * an exchange; the others name it and leave with status 3. "elsewhere": it reads and never comes
 * back. "killed ...": it dies. "any": at a moment of many small steps that is a matter of chance.
 * "all": every rank freezes, for longer than the deadline, and nobody is given up. "barrier",
 * "broadcast", "gather", "all in a gather": the same without an exchange. See silence.sh. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/exchange.h"

#define COUNT       (8u << 20)
#define COUNT_SMALL 1000
#define STEPS       3
#define WAKE_S      4
#define ELSEWHERE_S 1

static struct comm comm;
static size_t count = COUNT;
static int blow = SIGSTOP; /* what strikes the last rank */

/* A process that is stopped cannot wake itself: somebody else stops it so much later, and wakes it.
 */
static void be_stopped_after(double seconds)
{
    const pid_t sleeper = getpid();

    if (fork() != 0)
        return;
    clock_sleep_s(seconds);
    kill(sleeper, SIGSTOP);
    clock_sleep_s(WAKE_S);
    kill(sleeper, SIGCONT);
    _exit(0);
}

static void freeze(int number)
{
    (void)number;
    raise(blow);
}

static void freeze_some_time(void)
{
    const struct itimerval timer = {.it_value.tv_usec =
                                        1 + (suseconds_t)(clock_now_s() * 1e9) % 300000};

    signal(SIGALRM, freeze);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static int run_step(struct comm_exchange *exchange, const char *when, double deadline_s,
                    struct err *err)
{
    const int last = comm.rank == comm.size - 1;
    int mine = 1, answers[16];
    float *x;

    if (comm_exchange_begin(exchange, (uint32_t)comm.size, deadline_s, err) < 0)
        return -1;
    if (last && strcmp(when, "computing") == 0)
        raise(blow);
    if (last && strcmp(when, "elsewhere") == 0) {
        comm_exchange_elsewhere(exchange, true);
        pause();
    }
    if (strcmp(when, "all") == 0)
        be_stopped_after(0);
    x = comm_exchange_leaf(exchange);
    memset(x, 0, count * sizeof *x);
    if (last && strcmp(when, "backward") == 0) {
        comm_exchange_ready(exchange, count / 2);
        clock_sleep_s(0.05);
        raise(blow);
    }
    comm_exchange_written(exchange);
    if (comm_exchange_gather(exchange, &mine, sizeof mine, answers, err) < 0)
        return -1;
    if (last && strcmp(when, "answered") == 0)
        raise(blow);
    return comm_exchange_settle(exchange, err);
}

/* Without an exchange. 1: not one of these. */
static int meet(const char *how, double deadline_s, struct err *err)
{
    const bool last = comm.rank == comm.size - 1, all = strcmp(how, "all in a gather") == 0;
    int64_t one = 1;

    if (!all && strcmp(how, "barrier") != 0 && strcmp(how, "broadcast") != 0 &&
        strcmp(how, "gather") != 0)
        return 1;
    comm.deadline_s = deadline_s;
    if (all)
        be_stopped_after(0.3);
    if (last && all)
        clock_sleep_s(WAKE_S + 0.6 * deadline_s);
    else if (last)
        raise(SIGSTOP);
    if (strcmp(how, "barrier") == 0)
        return comm_barrier(&comm, err);
    if (strcmp(how, "broadcast") == 0)
        return comm_broadcast(&comm, &one, sizeof one, comm.size - 1, err);
    return comm_sum_integers(&comm, &one, 1, err);
}

int main(int argc, char **argv)
{
    const double begun_s = clock_now_s();
    struct comm_exchange_options options = {.bucket_bytes = 4u << 20, .elsewhere_s = ELSEWHERE_S};
    struct comm_exchange *exchange;
    struct err err = {0};
    bool any;
    int rc;

    if (argc != 4 || comm_open(&comm, &err) < 0)
        return 1;
    rc = meet(argv[1], atof(argv[3]), &err);
    if (rc < 0) {
        fprintf(stderr, "after %.1f s: %s\n", clock_now_s() - begun_s, err.msg);
        comm_abort(&comm, 3);
    }
    if (rc == 0) {
        comm_close(&comm);
        return 0;
    }
    if (strncmp(argv[1], "killed ", 7) == 0) {
        blow = SIGKILL;
        argv[1] += 7;
    }
    any = strcmp(argv[1], "any") == 0;
    options.count = count = any ? COUNT_SMALL : COUNT;
    if (any && comm.rank == comm.size - 1)
        freeze_some_time();
    for (int rank = 0; rank < comm.size; rank++)
        comm.host_of[rank] = rank / atoi(argv[2]);
    options.lanes = (uint32_t)comm.size;
    exchange = comm_exchange_new(&comm, &options, &err);
    for (int step = 0; (any || step < STEPS) && exchange != NULL; step++) {
        const double begun = clock_now_s();

        if (run_step(exchange, step == 1 ? argv[1] : "", atof(argv[3]), &err) < 0) {
            fprintf(stderr, "after %.1f s: %s\n", clock_now_s() - begun, err.msg);
            comm_abort(&comm, 3);
        }
    }
    comm_exchange_free(exchange);
    comm_close(&comm);
    return 0;
}
