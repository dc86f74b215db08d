#include "launcher/bench_comm_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "launcher/bench_options.h"

#define RANKS_HERE 2 /* without --hosts: the fewest that exchange anything */

static const struct option_spec table[] = {
    {.name = "hosts",
     .kind = OPTION_TEXT,
     .metavar = "A,B,...",
     .shown = "this host alone",
     .help = "measure on these hosts, reached over ssh as by convoy\ntrain"},
    {.name = "hostfile",
     .kind = OPTION_TEXT,
     .metavar = "FILE",
     .help = "the same from a file, a name per line"},
    {.name = "ranks-per-host",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .shown = "1; 2 on this host alone",
     .help = "processes on each host"},
    {.name = "threads",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .shown = "usable cores / ranks of a host",
     .help = "computing threads of a rank"},
    {.name = "sizes",
     .kind = OPTION_TEXT,
     .metavar = "SIZE,SIZE,...",
     .fallback = "1MB,10MB,100MB",
     .help = "of the vectors that are summed: bytes, kB, MB, GB, or\nKiB, MiB, GiB"},
    {.name = "repeats",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1000,
     .fallback = "5",
     .help =
         "rounds: each measures every size in every way in turn, so that\nnoise hits all alike"},
    {.name = "link",
     .kind = OPTION_TEXT,
     .metavar = "RATE",
     .help =
         "with several hosts: the rate of a host's link, as 1gbit or 250mbit;\nthen results are "
         "also shown as a share of what it allows"},
    {.name = "json",
     .kind = OPTION_TEXT,
     .metavar = "[FILE]",
     .help =
         "alone: the results on stdout, a JSON object per line, instead\nof the table; with "
         "FILE: every measurement, the results and the\nmachine there; - is stdout, without the "
         "table"},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

void launch_bench_comm_options_release(struct launch_bench_comm_options *options)
{
    option_set_release(&options->set);
    launch_hosts_release(&options->hosts);
    launch_words_release(&options->more);
    *options = (struct launch_bench_comm_options){0};
}

void launch_bench_comm_options_help(FILE *out)
{
    struct option_set set = {0};

    option_set_init(&set, table, TABLE_COUNT);
    option_set_help(&set, out);
    option_set_release(&set);
}

static int take_hosts(struct launch_bench_comm_options *o, struct err *err)
{
    const struct launch_hosts_options named = {.list = option_text(&o->set, "hosts"),
                                               .file = option_text(&o->set, "hostfile")};

    if (named.list != NULL && named.file != NULL)
        return err_set(err, ERR_USAGE,
                       "--hosts and --hostfile both name the hosts: give one of them");
    o->by_hosts = named.list != NULL || named.file != NULL;
    return o->by_hosts ? launch_hosts_find(&o->hosts, &named, err) : 0;
}

static size_t host_count(const struct launch_bench_comm_options *o)
{
    return o->by_hosts ? o->hosts.names.count : 1;
}

static int take_ranks(struct launch_bench_comm_options *o, struct err *err)
{
    const bool given = option_source(&o->set, "ranks-per-host") != OPTION_ABSENT;

    o->ranks_per_host = given                ? (int)option_integer(&o->set, "ranks-per-host")
                        : host_count(o) == 1 ? RANKS_HERE
                                             : 1;
    o->ranks = o->ranks_per_host * (int)host_count(o);
    if (o->ranks < 2)
        return err_set(err, ERR_USAGE,
                       "--ranks-per-host %d on one host: one rank has nobody to exchange with",
                       o->ranks_per_host);
    return 0;
}

/* "1gbit", "2.5gbit", "250mbit", "800kbit": as tc(8) writes rates. */
static int take_link(struct launch_bench_comm_options *o, struct err *err)
{
    char *unit = NULL;
    double bits_per_s;

    o->link = option_text(&o->set, "link");
    if (o->link == NULL)
        return 0;
    bits_per_s = strtod(o->link, &unit);
    bits_per_s *= strcmp(unit, "gbit") == 0   ? 1e9
                  : strcmp(unit, "mbit") == 0 ? 1e6
                  : strcmp(unit, "kbit") == 0 ? 1e3
                                              : NAN;
    if (strchr("0123456789", o->link[0]) == NULL || !(bits_per_s >= 1e3 && bits_per_s <= 1e15))
        return err_set(err, ERR_USAGE, "--link: '%.100s' is no rate such as 1gbit or 250mbit",
                       o->link);
    if (host_count(o) < 2)
        return err_set(err, ERR_USAGE, "--link needs several hosts (--hosts): one has no link");
    o->link_bytes_per_s = bits_per_s / 8;
    return 0;
}

static int take(struct launch_bench_comm_options *o, struct err *err)
{
    o->sizes = option_text(&o->set, "sizes");
    o->rounds = (int)option_integer(&o->set, "repeats");
    if (option_source(&o->set, "threads") != OPTION_ABSENT)
        o->threads = (int)option_integer(&o->set, "threads");
    if (take_hosts(o, err) < 0 || take_ranks(o, err) < 0)
        return -1;
    return take_link(o, err);
}

int launch_bench_comm_options_read(struct launch_bench_comm_options *options, int argc,
                                   char *const *argv, struct err *err)
{
    int ours = 0;

    *options = (struct launch_bench_comm_options){0};
    option_set_init(&options->set, table, TABLE_COUNT);
    for (; ours < argc && strcmp(argv[ours], "--") != 0; ours++)
        if (strcmp(argv[ours], "--help") == 0 || strcmp(argv[ours], "-h") == 0)
            options->help = true;
    for (int i = ours + 1; i < argc; i++)
        launch_words_push(&options->more, argv[i]);
    if (options->help)
        return 0;
    if (launch_bench_options_parse(&options->set, ours, argv, &options->json,
                                   &options->results_only, err) < 0)
        return -1;
    return take(options, err);
}

void launch_bench_comm_words(const struct launch_bench_comm_options *options,
                             struct launch_words *words)
{
    struct buf list = {0};

    /* Without --hosts it is localhost by name: a SageMaker job's hosts are not meant. */
    for (size_t i = 0; options->by_hosts && i < options->hosts.names.count; i++)
        buf_printf(&list, "%s%s", i == 0 ? "" : ",", options->hosts.names.at[i]);
    launch_words_push(words, "--hosts");
    launch_words_push(words, options->by_hosts ? buf_text(&list) : "localhost");
    buf_release(&list);
    launch_words_push_integer(words, "--ranks-per-host", options->ranks_per_host);
    if (options->threads > 0)
        launch_words_push_integer(words, "--threads", options->threads);
    launch_words_push(words, "--bench-comm");
    launch_words_push(words, options->sizes);
    launch_words_push_integer(words, "--bench-rounds", options->rounds);
    launch_words_push_all(words, &options->more);
}
