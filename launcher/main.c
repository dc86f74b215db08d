/*
 * launcher/main.c -- the program `convoy`.
 *
 * `train` and `eval` are launched from here; verbs that touch pictures run convoy-train, which
 * stands in the same folder, as git finds its commands. In a SageMaker training container the
 * platform's own word is `train`, and words of the user's may stand in its place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "launcher/bench.h"
#include "launcher/child.h"
#include "launcher/handover.h"
#include "launcher/hosts.h"
#include "launcher/job.h"
#include "launcher/local.h"
#include "launcher/options.h"
#include "launcher/rsh.h"
#include "launcher/s3/s3.h"
#include "launcher/sagemaker.h"

static const struct {
    const char *name, *help;
} verbs[] = {
    {"train", "[launch options] [train options]\n"
              "    train a network, with any number of ranks on one or several hosts"},
    {"eval", "[launch options] --model DIR --test DIR [eval options]\n"
             "    how well a trained model knows labelled pictures, class by class"},
    {"predict", "--model DIR [predict options] FILE|FOLDER|SHARDS|s3://...\n"
                "    what a trained model takes pictures for"},
    {"synth", "DIR [--classes N] [--size PX] [--photos] [--count N] [--seed N]\n"
              "    draw a labelled set of pictures to try things with: DIR/train/CLASS/*.jpg, "
              "DIR/val/CLASS/*.jpg"},
    {"pack", "SRC DST\n"
             "    turn a folder per class, a list, RecordIO or other people's tars into tar shards "
             "with an index"},
    {"export", "--model DIR [--format pth|safetensors] [--output FILE]\n"
               "    write a trained model as a file for PyTorch"},
    {"audit", "FILE... [--train DIR] [--checkpoint DIR]\n"
              "    was each picture trained exactly once an epoch? by what train --audit FILE "
              "recorded"},
    {"s3", "ls|cp|cat|rm ...\n"
           "    look at, copy and delete what is in S3"},
    {"bench",
     "model|layers|input|scaling|comm|s3 ...\n"
     "    measure how fast a network trains here, its layers one by one, how pictures and S3 "
     "are\n    read, and how the rate grows with hosts or ranks"},
};
#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

static bool is_verb(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return true;
    return false;
}

static void print_help(void)
{
    printf("convoy %s trains convolutional networks on CPU hosts.\n\n", CONVOY_VERSION);
    for (size_t i = 0; i < VERB_COUNT; i++)
        printf("convoy %s %s\n\n", verbs[i].name, verbs[i].help);
    printf("convoy VERB --help    all options of a verb, with their defaults\n"
           "convoy --version\n\n"
           "Under somebody else's mpirun, `mpirun -np N convoy train [train options]` makes each "
           "process one rank; so does eval.\n"
           "In a SageMaker training container, no verb, or options alone, mean `train`.\n\n"
           "exit status: 0 done; 2 wrong options or input; 75 stopped before the last epoch (with "
           "--checkpoint, the state is saved);\n"
           "128+N ended by signal N; 1 and 3 failures (3: network, another rank)\n");
}

/* Stderr carries every message; a full or closed stdout must not pass for a help that was read. */
static int close_stdout(void)
{
    return fflush(stdout) == 0 ? 0 : 1;
}

/* convoy-train beside our own file, wherever the link in PATH that started us is. */
static int find_program(char **program, struct err *err)
{
    char own[4096];
    const ssize_t bytes = readlink("/proc/self/exe", own, sizeof own - 1);
    char *slash;

    if (bytes < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot read /proc/self/exe");
    own[bytes] = '\0';
    slash = strrchr(own, '/');
    if (slash == NULL)
        return err_set(err, ERR_INTERNAL, "/proc/self/exe is '%s', not a path", own);
    *slash = '\0';
    if (asprintf(program, "%s/convoy-train", own) < 0)
        abort();
    if (access(*program, X_OK) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot run '%s'", *program);
    return 0;
}

static int ranks_help(const char *program, char *verb, struct err *err)
{
    char help[] = "--help";
    char *const args[] = {verb, help};

    printf("convoy %s [launch options] [%s options]\n\nlaunch options:\n", verb, verb);
    launch_options_help(stdout);
    printf("\n");
    fflush(stdout);
    return launch_child_become(program, 2, args, err);
}

/* The ranks of the job and those of a host, as the launch would have them. */
static int tell_ranks(const struct launch_options *options,
                      const struct launch_sagemaker *sagemaker, struct err *err)
{
    const struct launch_hosts_options where = {
        .list = options->hosts, .file = options->hostfile, .sagemaker = sagemaker};
    struct launch_hosts hosts = {0};
    char all[16], here[16];
    int rc = launch_hosts_find(&hosts, &where, err);

    if (rc == 0) {
        snprintf(all, sizeof all, "%d", options->ranks * (int)hosts.names.count);
        snprintf(here, sizeof here, "%d", options->ranks);
        setenv("CONVOY_RANKS", all, 1);
        setenv("CONVOY_RANKS_OF_HOST", here, 1);
    }
    launch_hosts_release(&hosts);
    return rc;
}

/* The plan of one of this host's ranks, printed by convoy-train. */
static int train_memory(const char *program, const struct launch_sagemaker *sagemaker,
                        const struct launch_options *options, struct err *err)
{
    struct launch_words words = {0};

    if (launch_job_foreign_rank() < 0 && tell_ranks(options, sagemaker, err) < 0)
        return -1;
    launch_local_set_threads(options->threads, options->ranks);
    launch_words_push(&words, "train");
    launch_words_push_all(&words, &options->train);
    return launch_child_become(program, (int)words.count, words.at, err);
}

/* A verb of several ranks; argv[0] is it. */
static int launch(const char *program, const struct launch_sagemaker *sagemaker, int argc,
                  char *const *argv, int *status, struct err *err)
{
    const bool trains = strcmp(argv[0], "train") == 0;
    const int rank = launch_job_foreign_rank();
    struct launch_options options = {0};
    int rc = -1;

    if (launch_options_read(&options, argc - 1, argv + 1, err) < 0)
        goto out;
    options.verb = argv[0];
    if (options.help)
        rc = ranks_help(program, argv[0], err);
    else if (options.memory && trains)
        rc = launch_options_check(&options, err) < 0
                 ? -1
                 : train_memory(program, sagemaker, &options, err);
    else if (rank >= 0)
        rc = launch_job_become_rank(&options, sagemaker, program, rank, err);
    else if (launch_options_check(&options, err) == 0)
        rc = launch_job_run(&options, sagemaker, program, status, err);
out:
    launch_options_release(&options);
    return rc;
}

static bool has_ranks(const char *verb)
{
    return strcmp(verb, "train") == 0 || strcmp(verb, "eval") == 0;
}

static int predict(const char *program, int argc, char *const *argv, struct err *err)
{
    if (launch_job_foreign_rank() >= 0)
        return err_set(err, ERR_USAGE, "convoy predict is one process: give it without mpirun");
    launch_local_set_threads(0, 1); /* as many as a rank has that is alone; --threads goes before */
    return launch_child_become(program, argc, argv, err);
}

/* argv[0] is the verb. */
static int run_verb(const struct launch_sagemaker *sagemaker, int argc, char *const *argv,
                    int *status, struct err *err)
{
    char *program = NULL;
    int rc = -1;

    if (strcmp(argv[0], "s3") == 0)
        return launch_s3_run(argc, argv, err);
    if (find_program(&program, err) < 0)
        goto out;
    if (has_ranks(argv[0]))
        rc = launch(program, sagemaker, argc, argv, status, err);
    else if (strcmp(argv[0], "predict") == 0)
        rc = predict(program, argc, argv, err);
    else if (strcmp(argv[0], "bench") == 0)
        rc = launch_bench_main(argc, argv, program, status, err);
    else
        rc = launch_child_become(program, argc, argv, err);
out:
    free(program);
    return rc;
}

static int refuse_verb(const char *word, struct err *err)
{
    if (word == NULL)
        return err_set(err, ERR_USAGE, "no verb given; convoy --help lists them");
    if (strcmp(word, "serve") == 0)
        return err_set(err, ERR_USAGE,
                       "cannot serve a model yet; convoy --help lists what there is");
    return err_set(err, ERR_USAGE, "unknown verb '%s'; convoy --help lists them", word);
}

/* The words behind the program's name. A SageMaker container gets `train`, or in its place what the
 * job's ContainerArguments are: nothing but options, as a rule. What goes wrong with any word but
 * another verb is the job's failure. */
static int run_words(struct launch_sagemaker *sagemaker, int argc, char *const *argv, int *status,
                     struct err *err)
{
    const bool options_only = argc == 0 || strncmp(argv[0], "--", 2) == 0;
    const bool ranks = options_only || has_ranks(argv[0]);
    struct launch_words words = {0};
    int rc = -1;

    if (argc > 0 && strcmp(argv[0], "rsh") == 0) /* these two are for launchers, not for people */
        return launch_rsh_call(argc - 1, argv + 1, err);
    if (argc > 0 && strcmp(argv[0], "agent") == 0)
        return launch_handover_serve(status, err);
    if (!ranks && is_verb(argv[0]))
        return run_verb(sagemaker, argc, argv, status, err);
    rc = launch_sagemaker_read(sagemaker, err);
    if (!ranks || (options_only && !sagemaker->active))
        return refuse_verb(argc > 0 ? argv[0] : NULL, err);
    if (rc < 0)
        return -1;
    if (options_only)
        launch_words_push(&words, "train");
    for (int i = 0; i < argc; i++)
        launch_words_push(&words, argv[i]);
    rc = run_verb(sagemaker, (int)words.count, words.at, status, err);
    launch_words_release(&words);
    return rc;
}

/* A file or socket of ours must not get the number of a stream that is closed, or messages would
 * be written into it. What stands there instead fails as the closed one did. */
static void hold_closed_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    struct launch_sagemaker sagemaker = {0};
    struct err err = {0};
    int status = 0, rc = 0;

    hold_closed_streams();

    log_init("launcher:", false);
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("convoy %s\n", CONVOY_VERSION);
        return close_stdout();
    }
    if (argc > 2 && strcmp(argv[1], "help") == 0) { /* `help train` is `train --help` */
        char option[] = "--help";
        char *const words[] = {argv[2], option};

        rc = run_words(&sagemaker, 2, words, &status, &err);
    } else if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                            strcmp(argv[1], "help") == 0)) {
        print_help();
        return close_stdout();
    } else {
        rc = run_words(&sagemaker, argc - 1, argv + 1, &status, &err);
    }
    if (rc < 0) {
        /* Under a foreign mpirun every rank finds the same mistake: one says it. */
        if (launch_job_foreign_rank() <= 0)
            log_error("%s", err.msg);
        launch_sagemaker_fail(&sagemaker, err.msg);
        status = err_exit_code(err.code);
    }
    launch_sagemaker_release(&sagemaker);
    return status;
}
