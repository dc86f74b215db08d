/*
 * launcher/options.h -- the launch options: what `convoy train` and `convoy eval` keep for
 * themselves. All other words are convoy-train's.
 */
#ifndef LAUNCH_OPTIONS_H
#define LAUNCH_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/option.h"
#include "launcher/words.h"

struct err;

#define LAUNCH_PORT_SAGEMAKER 7777 /* where hosts start by themselves, all know it */

struct launch_options {
    struct option_set set;
    const char *verb; /* of convoy-train: "train" where the caller sets no other */
    int ranks;        /* on each host */
    int threads;      /* of a rank; 0: not given */
    int restarts_max; /* generations after the first */
    int hosts_min;
    int port; /* -1: not given */
    int rendezvous_s;
    const char *interface, *leader_address, *hosts, *hostfile; /* NULL: not given */
    bool help;                                                 /* --help is among the words */
    bool memory;                /* --memory is: nothing is launched, a plan is printed */
    struct launch_words mpirun; /* more words for mpirun */
    struct launch_words train;  /* what is convoy-train's, unchanged and in order */
};

/** Accepts all-zero. */
void launch_options_release(struct launch_options *options);

/** Part the words behind the verb and check those that are the launcher's. Behind a "--" all are
 * convoy-train's. ERR_USAGE. Release also after a failure. */
int launch_options_read(struct launch_options *options, int argc, char *const *argv,
                        struct err *err);

/** Check what needs more than one option or the verb: --hosts and --hostfile, --max-restarts.
 * ERR_USAGE. Not for a rank under a foreign mpirun, whose hosts are not ours. */
int launch_options_check(const struct launch_options *options, struct err *err);

/** Where checkpoints go: the words' --checkpoint, else the hyperparameter, else CONVOY_CHECKPOINT;
 * NULL: none. Belongs to the options or the environment. */
const char *launch_options_checkpoint(const struct launch_options *options);

/** The name of a launch option given on the command line that has no meaning for a rank under a
 * foreign mpirun; NULL: none. */
const char *launch_options_idle_name(const struct launch_options *options);

/** The launch options as --help shows them. */
void launch_options_help(FILE *out);

#endif
