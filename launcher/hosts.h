/*
 * launcher/hosts.h -- which hosts a job runs on, which of them this is, and how they are started.
 */
#ifndef LAUNCH_HOSTS_H
#define LAUNCH_HOSTS_H

#include <stdbool.h>

#include "launcher/words.h"

struct err;
struct launch_sagemaker;

enum launch_hosts_kind {
    LAUNCH_HOSTS_ONE,  /* this one alone: no network */
    LAUNCH_HOSTS_SSH,  /* this one starts the others over ssh and leads */
    LAUNCH_HOSTS_EACH, /* each runs `convoy train` by itself (SageMaker); the first leads */
};

struct launch_hosts {
    enum launch_hosts_kind kind;
    struct launch_words names; /* ranks are numbered in this order; EACH: sorted bytewise */
    int own;                   /* this host's index; -1 (SSH only): it leads, but has no ranks */
};

struct launch_hosts_options {
    const char *list, *file;                  /* --hosts, --hostfile; NULL: not given */
    const struct launch_sagemaker *sagemaker; /* may be NULL */
};

/** Find them: --hosts or --hostfile, else resourceconfig.json, else SM_HOSTS with SM_CURRENT_HOST,
 * else this host alone. ERR_USAGE or ERR_INPUT: a name that is none, or a list without this host.
 * Release also after a failure. */
int launch_hosts_find(struct launch_hosts *hosts, const struct launch_hosts_options *options,
                      struct err *err);
void launch_hosts_release(struct launch_hosts *hosts);

/** Whether there is a network to cross; also true for one host that is not this one. */
bool launch_hosts_several(const struct launch_hosts *hosts);

/** Append the hosts of "a,b,c". ERR_USAGE for an empty name. */
int launch_hosts_from_list(struct launch_words *hosts, const char *list, struct err *err);

/** Append the hosts of a host file: one a line, what follows a blank is passed over ("node-1
 * slots=4"), '#' begins a comment. */
int launch_hosts_from_file(struct launch_words *hosts, const char *path, struct err *err);

/** Append the hosts of a JSON list as SM_HOSTS has it: ["algo-1","algo-2"]. */
int launch_hosts_from_json(struct launch_words *hosts, const char *json, struct err *err);

#endif
