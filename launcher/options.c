#include "launcher/options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define LAUNCH_THREADS "threads"
#define LAUNCH_PORT    "port"
#define HYPERPARAMETER "SM_HP_"

static const struct option_spec table[] = {
    {.name = "hosts",
     .kind = OPTION_TEXT,
     .metavar = "A,B,...",
     .shown = "SM_HOSTS, else this host",
     .help = "hosts of the job, reached over ssh; all need Convoy and the\ndata under the same "
             "paths"},
    {.name = "hostfile",
     .kind = OPTION_TEXT,
     .metavar = "FILE",
     .help = "the same from a file, a name per line"},
    {.name = "ranks-per-host",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .fallback = "1",
     .help = "processes on each host; the trained bits do not depend on it"},
    {.name = LAUNCH_THREADS,
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .shown = "usable cores / ranks per host",
     .help = "computing threads of a rank"},
    {.name = "max-restarts",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 0,
     .max = 1000000,
     .fallback = "0",
     .help =
         "start the ranks again, from the newest checkpoint, after\nthey died; needs --checkpoint"},
    {.name = "min-hosts",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1000000,
     .fallback = "1",
     .help = "hosts without which the job does not go on"},
    {.name = LAUNCH_PORT,
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 0,
     .max = 65535,
     .shown = "7777 on SageMaker, else any free one",
     .help = "TCP port on which the first host waits for the others"},
    {.name = "rendezvous-timeout",
     .kind = OPTION_INTEGER,
     .metavar = "SECONDS",
     .min = 1,
     .max = 86400,
     .fallback = "900",
     .help = "how long hosts wait for each other"},
    {.name = "interface",
     .kind = OPTION_TEXT,
     .metavar = "NAME",
     .shown = "SageMaker's, else the network by which the hosts found each other",
     .help = "network interface for the ranks' messages"},
    {.name = "leader-address",
     .kind = OPTION_TEXT,
     .metavar = "ADDRESS",
     .shown = "the first host's name; over ssh, where the connection came from",
     .help = "where the other hosts find the first one"},
    {.name = "mpirun-args",
     .kind = OPTION_TEXT,
     .metavar = "\"...\"",
     .help = "more words for mpirun, cut at blanks; quotes keep them together"},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

void launch_options_release(struct launch_options *options)
{
    option_set_release(&options->set);
    launch_words_release(&options->mpirun);
    launch_words_release(&options->train);
    *options = (struct launch_options){0};
}

void launch_options_help(FILE *out)
{
    struct option_set set = {0};

    option_set_init(&set, table, TABLE_COUNT);
    option_set_help(&set, out);
    option_set_release(&set);
}

/* Whether the word is "--NAME" or "--NAME=...", with '_' and '-' alike. */
static bool is_option(const char *word, const char *name)
{
    if (strncmp(word, "--", 2) != 0)
        return false;
    for (word += 2; *name != '\0'; word++, name++)
        if (*word != *name && !(*word == '_' && *name == '-'))
            return false;
    return *word == '\0' || *word == '=';
}

static bool is_ours(const char *word)
{
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (is_option(word, table[i].name))
            return true;
    return false;
}

/* --memory is convoy-train's, but nothing is launched for it. The last word counts. */
static void note_memory(struct launch_options *options, const char *word)
{
    const char *const value = strchr(word, '=');

    if (!is_option(word, "memory"))
        return;
    options->memory = value == NULL;
    if (value != NULL)
        option_parse_flag(value + 1, &options->memory);
}

/* Every launch option has a value, so a word of ours without '=' takes the next one with it. */
static void part(struct launch_options *options, struct launch_words *ours, int argc,
                 char *const *argv)
{
    bool all_train = false;

    for (int i = 0; i < argc; i++) {
        all_train = all_train || strcmp(argv[i], "--") == 0;
        if (all_train || !is_ours(argv[i])) {
            options->help =
                options->help ||
                (!all_train && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0));
            if (!all_train)
                note_memory(options, argv[i]);
            launch_words_push(&options->train, argv[i]);
            continue;
        }
        launch_words_push(ours, argv[i]);
        if (strchr(argv[i], '=') == NULL && i + 1 < argc)
            launch_words_push(ours, argv[++i]);
    }
}

/* On SageMaker nobody types options: they are hyperparameters. Those of the launcher leave the
 * environment, where convoy-train would take them for mistakes. */
static int take_hyperparameters(struct launch_options *options, struct err *err)
{
    if (option_set_environment(&options->set, HYPERPARAMETER, err) < 0)
        return -1;
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        for (int dashes = 0; dashes < 2; dashes++) {
            char name[64];

            snprintf(name, sizeof name, HYPERPARAMETER "%s", table[i].name);
            for (char *at = name; *at != '\0'; at++)
                *at = *at == '-' && dashes == 0 ? '_' : (char)toupper((unsigned char)*at);
            unsetenv(name);
        }
    }
    return 0;
}

int launch_options_read(struct launch_options *options, int argc, char *const *argv,
                        struct err *err)
{
    struct launch_words ours = {0};
    const char *const memory = getenv(HYPERPARAMETER "MEMORY"), *mpirun;
    int rc = -1;

    *options = (struct launch_options){.verb = "train"};
    if (memory != NULL)
        option_parse_flag(memory, &options->memory);
    option_set_init(&options->set, table, TABLE_COUNT);
    part(options, &ours, argc, argv);
    if (option_set_parse(&options->set, (int)ours.count, ours.at, err) < 0 ||
        take_hyperparameters(options, err) < 0)
        goto out;
    options->ranks = (int)option_integer(&options->set, "ranks-per-host");
    if (option_source(&options->set, LAUNCH_THREADS) != OPTION_ABSENT)
        options->threads = (int)option_integer(&options->set, LAUNCH_THREADS);
    options->restarts_max = (int)option_integer(&options->set, "max-restarts");
    options->hosts_min = (int)option_integer(&options->set, "min-hosts");
    options->port = -1;
    if (option_source(&options->set, LAUNCH_PORT) != OPTION_ABSENT)
        options->port = (int)option_integer(&options->set, LAUNCH_PORT);
    options->rendezvous_s = (int)option_integer(&options->set, "rendezvous-timeout");
    options->interface = option_text(&options->set, "interface");
    options->leader_address = option_text(&options->set, "leader-address");
    options->hosts = option_text(&options->set, "hosts");
    options->hostfile = option_text(&options->set, "hostfile");
    mpirun = option_text(&options->set, "mpirun-args");
    if (mpirun != NULL && launch_words_push_line(&options->mpirun, mpirun, err) < 0) {
        err_wrap(err, "--mpirun-args");
        goto out;
    }
    rc = 0;
out:
    launch_words_release(&ours);
    return rc;
}

/* The value of the last --NAME among convoy-train's words; NULL: not there. */
static const char *train_value(const struct launch_options *options, const char *name)
{
    const char *value = NULL;

    for (size_t i = 0; i < options->train.count; i++) {
        const char *word = options->train.at[i];

        if (is_option(word, name))
            value = strchr(word, '=') != NULL ? strchr(word, '=') + 1 : options->train.at[i + 1];
    }
    return value;
}

const char *launch_options_checkpoint(const struct launch_options *options)
{
    const char *place = train_value(options, "checkpoint");

    if (place == NULL)
        place = getenv(HYPERPARAMETER "CHECKPOINT");
    return place != NULL ? place : getenv("CONVOY_CHECKPOINT");
}

/* Each generation gets the same words, so each must find by itself where the one before it stopped.
 */
static int check_restarts(const struct launch_options *options, struct err *err)
{
    const char *resume = train_value(options, "resume");

    if (resume == NULL)
        resume = getenv(HYPERPARAMETER "RESUME");
    if (options->restarts_max == 0)
        return 0;
    if (strcmp(options->verb, "train") != 0)
        return err_set(err, ERR_USAGE,
                       "--max-restarts is for train: %s that died has nothing to go on from",
                       options->verb);
    if (launch_options_checkpoint(options) == NULL)
        return err_set(err, ERR_USAGE,
                       "--max-restarts needs --checkpoint: a restart without one would begin anew");
    if (resume != NULL && strcmp(resume, "auto") != 0)
        return err_set(
            err, ERR_USAGE,
            "--max-restarts needs --resume auto: with '%s' each restart would begin there again",
            resume);
    return 0;
}

int launch_options_check(const struct launch_options *options, struct err *err)
{
    if (options->hosts != NULL && options->hostfile != NULL)
        return err_set(err, ERR_USAGE,
                       "--hosts and --hostfile both name the hosts: give one of them");
    return check_restarts(options, err);
}

const char *launch_options_idle_name(const struct launch_options *options)
{
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (strcmp(table[i].name, LAUNCH_THREADS) != 0 &&
            option_source(&options->set, table[i].name) == OPTION_COMMAND_LINE)
            return table[i].name;
    return NULL;
}
