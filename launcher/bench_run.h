/*
 * launcher/bench_run.h -- one run of a benchmark: `convoy train --bench-...` as a person would
 * type it, so that what is measured is what trains, over ssh too.
 */
#ifndef LAUNCH_BENCH_RUN_H
#define LAUNCH_BENCH_RUN_H

#include <jansson.h>

#include "launcher/bench_point.h"
#include "launcher/child.h"

struct buf;
struct err;
struct launch_machine;
struct launch_words;

#define LAUNCH_BENCH_TIME_CHARS 32

/* What all runs share. */
struct launch_bench_runner {
    struct launch_signals signals;
    int signal_fd;
    int stopped_by;                     /* the signal that asked us to end; 0: none */
    char self[4096];                    /* our own path */
    char time[LAUNCH_BENCH_TIME_CHARS]; /* when it was opened */
};

/** Takes over the signals of the process (child.h). ERR_INTERNAL. */
int launch_bench_runner_open(struct launch_bench_runner *runner, struct err *err);
void launch_bench_runner_close(struct launch_bench_runner *runner);

/** Let convoy-train (`program`) look at the words that it will get on so many ranks. 0, or 2 where
 * it refuses them, which it has said by itself; -1 with err. */
int launch_bench_check(struct launch_bench_runner *runner, const char *program,
                       const struct launch_words *words, int ranks, struct err *err);

/** The time now: "2026-11-22T04:00:00Z". */
void launch_bench_time(char text[LAUNCH_BENCH_TIME_CHARS]);

/** Append the line that asked for a benchmark, as a shell takes it: "convoy bench NAME ...". */
void launch_bench_show_command(const char *name, int argc, char *const *argv, struct buf *line);

/** Children print warnings and errors only, unless CONVOY_LOG says otherwise. */
void launch_bench_runner_quiet(void);

/** Warn where other processes keep this host busy: they are measured too. */
void launch_bench_warn_of_load(const struct launch_machine *machine);

/**
 * Run a command to its end; append what it writes to stdout, at most 16 MiB, to `output`.
 *
 * command  the whole line, beginning with a program's path.
 *
 * Blocks. Where a signal asks us to end, the command is interrupted until it is gone, and
 * runner->stopped_by is set: ERR_STOPPED. Else -1 says how it ended instead; the code is the one of
 * its exit status.
 */
int launch_bench_run_command(struct launch_bench_runner *runner, const struct launch_words *command,
                             struct buf *output, struct err *err);

/**
 * launch_bench_run_command(), whose last line are figures (trainer/bench.h).
 *
 * figures  the object of that line, the caller's to json_decref.
 * sample   its numbers, checked: finite, above 0, and of as many ranks as were asked for.
 *
 * ERR_INTERNAL where they are something else.
 */
int launch_bench_run(struct launch_bench_runner *runner, const struct launch_words *command,
                     int ranks, struct launch_bench_sample *sample, json_t **figures,
                     struct err *err);

#endif
