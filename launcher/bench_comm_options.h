/*
 * launcher/bench_comm_options.h -- what `convoy bench comm` is asked to measure.
 */
#ifndef LAUNCH_BENCH_COMM_OPTIONS_H
#define LAUNCH_BENCH_COMM_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/option.h"
#include "launcher/hosts.h"
#include "launcher/words.h"

struct err;

struct launch_bench_comm_options {
    struct option_set set;
    bool help;
    bool by_hosts;             /* else on this host alone */
    struct launch_hosts hosts; /* with by_hosts */
    int ranks;                 /* of all hosts together, at least 2 */
    int ranks_per_host;
    int threads;       /* of a rank; 0: as the launcher chooses on each host */
    const char *sizes; /* as convoy-train reads them (trainer/bench_comm.h) */
    int rounds;
    double link_bytes_per_s;  /* of a host's link, each way; 0: not given */
    const char *link;         /* as it was given; NULL: not */
    const char *json;         /* a file, "-": stdout; NULL: none */
    bool results_only;        /* json is what --json alone asks for: no runs, no setting */
    struct launch_words more; /* behind "--" */
};

/** Read the words behind "comm" and check them, but for those that convoy-train checks. ERR_USAGE,
 * ERR_INPUT. Where help is asked for nothing else is checked. Release also after a failure; it
 * accepts all-zero. */
int launch_bench_comm_options_read(struct launch_bench_comm_options *options, int argc,
                                   char *const *argv, struct err *err);
void launch_bench_comm_options_release(struct launch_bench_comm_options *options);

void launch_bench_comm_options_help(FILE *out);

/** The words of `convoy train` behind "train" that measure. */
void launch_bench_comm_words(const struct launch_bench_comm_options *options,
                             struct launch_words *words);

#endif
