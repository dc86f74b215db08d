/*
 * launcher/bench_options.h -- what `convoy bench scaling` is asked to measure.
 */
#ifndef LAUNCH_BENCH_OPTIONS_H
#define LAUNCH_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/option.h"
#include "launcher/bench_point.h"
#include "launcher/hosts.h"
#include "launcher/words.h"

struct err;

#define LAUNCH_BENCH_COUNTS_MAX 64

struct launch_bench_options {
    struct option_set set;
    bool help;
    bool weak, strong;
    bool by_hosts; /* counts are of hosts, the first of `hosts`; else of ranks on this host */
    struct launch_hosts hosts;
    int counts[LAUNCH_BENCH_COUNTS_MAX]; /* (count_count), ascending */
    int count_count;
    int ranks_per_host; /* with by_hosts */
    int threads;        /* of a rank; 0: as the launcher chooses on each host */
    int micro_batch, batch_per_rank, global_batch; /* images */
    int image_size;                                /* pixels; 0: the model's */
    int steps, rounds;
    const char *model;
    const char *data;         /* where pictures are read; NULL: made up */
    const char *json;         /* a file, "-": stdout; NULL: none */
    bool results_only;        /* json is what --json alone asks for: no runs, no setting */
    const char *svg;          /* a file; NULL: none */
    struct launch_words more; /* behind "--": every run gets them */
};

/** Read the words behind "scaling" and check them. ERR_USAGE, ERR_INPUT. Where help is asked for
 * nothing else is checked. Release also after a failure; it accepts all-zero. */
int launch_bench_options_read(struct launch_bench_options *options, int argc, char *const *argv,
                              struct err *err);
void launch_bench_options_release(struct launch_bench_options *options);

void launch_bench_options_help(FILE *out);

/** Parse a benchmark's words: its table has "json", which may be given without a file. *json is the
 * file, "-" for stdout, NULL for none; *results_only: it was given alone. ERR_USAGE. */
int launch_bench_options_parse(struct option_set *set, int argc, char *const *argv,
                               const char **json, bool *results_only, struct err *err);

/** The points in the order of a round: weak before strong, few ranks before many. samples are
 * NULL. Returns a heap array of *count. */
struct launch_bench_point *launch_bench_points(const struct launch_bench_options *options,
                                               size_t *count);

/** The words of `convoy train` behind "train" that run a point. */
void launch_bench_words(const struct launch_bench_options *options,
                        const struct launch_bench_point *point, enum launch_bench_way way,
                        struct launch_words *words);

#endif
