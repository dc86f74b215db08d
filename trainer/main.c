/*
 * trainer/main.c -- the program convoy-train: the verbs that touch pictures or networks.
 *
 * `convoy` starts it, alone or once per rank. Only `train` and `eval` call MPI_Init.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/option.h"
#include "comm/comm.h"
#include "s3io/client.h"
#include "trainer/audit/verb.h"
#include "trainer/bench.h"
#include "trainer/bench/bench.h"
#include "trainer/bench_comm.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/pack/spool.h"
#include "trainer/data/synth/synth.h"
#include "trainer/eval.h"
#include "trainer/export.h"
#include "trainer/failure.h"
#include "trainer/infer_options.h"
#include "trainer/memory.h"
#include "trainer/nn/conv/conv.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/model.h"
#include "trainer/options.h"
#include "trainer/pace.h"
#include "trainer/predict.h"
#include "trainer/run.h"
#include "trainer/stop.h"
#include "trainer/threads.h"

#define S3_PATIENCE_SHARE 0.75 /* of the time after which other ranks give one up */

/* Before MPI is up: under somebody's mpirun every rank finds the same mistake, and one says it. */
static bool is_first_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    const char *rank = NULL;

    for (size_t i = 0; i < sizeof names / sizeof names[0] && rank == NULL; i++)
        rank = getenv(names[i]);
    return rank == NULL || atoi(rank) == 0;
}

static char log_prefix[320] = "convoy:";

/* Say what ends this process, on stderr and to the platform. */
static void tell(const char *message)
{
    log_error("%s", message);
    train_failure_write(log_prefix, message);
}

static int fail(const struct err *err)
{
    if (is_first_rank() && err->code == ERR_STOPPED)
        log_error("%s", err->msg);
    else if (is_first_rank())
        tell(err->msg);
    return err_exit_code(err->code);
}

/* --- train --- */

/* Is there a word that asks for help? */
static bool wants_help(int argc, char *const *argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int check_only(const struct train_options *options, struct err *err)
{
    const char *const ranks = getenv("CONVOY_RANKS");

    /* A job that resumes may have more ranks than micro-batches; only a first start may not. */
    if (ranks != NULL && options->checkpoint == NULL && options->bench_comm == NULL &&
        train_options_check_ranks(options, atoi(ranks), err) < 0)
        return fail(err);
    return 0;
}

static int count_in(const char *name, int otherwise)
{
    const char *const text = getenv(name);
    const int count = text == NULL ? 0 : atoi(text);

    return count > 0 ? count : otherwise;
}

/* Classes are not known without the pictures: the usual numbers. Ranks are those of somebody's
 * mpirun, else what `convoy` says; the first shows its host's plan for all. */
static int show_memory(const struct train_options *options, struct err *err)
{
    const int of_host = count_in("OMPI_COMM_WORLD_LOCAL_SIZE", count_in("CONVOY_RANKS_OF_HOST", 1));
    struct train_memory_job job = {
        .options = options,
        .micro_batch = options->micro_batch,
        .classes = nn_model_default_classes(options->model),
        .threads = options->threads,
        .ranks = count_in("OMPI_COMM_WORLD_SIZE", count_in("CONVOY_RANKS", of_host)),
        .ranks_of_host = of_host};

    if (!is_first_rank())
        return 0;
    if (job.threads == 0)
        job.threads = train_threads(job.ranks_of_host);
    if (train_options_check_ranks(options, job.ranks, err) < 0 ||
        train_memory_print(&job, stdout, err) < 0)
        return fail(err);
    return 0;
}

static void name_rank(const struct comm *comm)
{
    snprintf(log_prefix, sizeof log_prefix, "[%d/%d %s]", comm->rank, comm->size, comm->host);
    log_init(log_prefix, comm->rank != 0);
}

/* What was printed is the result: on a full disk it must not look like success. */
static int check_results(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    tell("cannot write the results to stdout: is its disk full?");
    return 1;
}

/* Open MPI, run as one of its ranks, and end with the others. */
typedef int ranks_run(void *options, struct comm *comm, bool *agreed, struct err *err);

static int on_ranks(ranks_run *run, void *options)
{
    struct comm comm = {0};
    struct err err = {0};
    bool agreed = false;
    int status = 0;

    if (comm_open(&comm, &err) < 0) {
        tell(err.msg);
        return err_exit_code(err.code);
    }
    /* A platform's own name for this host says more than what MPI was told by the kernel. */
    if (comm_call_host(&comm, getenv("CONVOY_HOST"), &err) < 0) {
        tell(err.msg);
        comm_abort(&comm, err_exit_code(err.code));
    }
    name_rank(&comm);
    if (run(options, &comm, &agreed, &err) < 0) {
        status = err_exit_code(err.code);
        agreed = agreed || comm.size == 1; /* MPI_Abort has much to say, and nobody waits */
        if ((!agreed || comm.rank == 0) && err.code != ERR_STOPPED)
            tell(err.msg);
        if (!agreed)
            comm_abort(&comm, status);
    }
    status = status == 0 ? check_results() : status;
    comm_close(&comm);
    return status;
}

static int train_ranks(void *options, struct comm *comm, bool *agreed, struct err *err)
{
    struct train_options *const o = options;
    const struct train_pace unknown = {0};

    /* Of a rank that waits for S3 until the others give it up nobody would know why. */
    if (comm->size > 1)
        s3_client_configure(&(struct s3_client_options){
            .patience_s = S3_PATIENCE_SHARE * train_pace_deadline(&unknown, o->step_timeout_s)});
    if (o->bench_comm != NULL)
        return train_bench_comm(o, comm, agreed, err);
    return (o->bench_steps > 0 ? train_bench : train_run)(o, comm, agreed, err);
}

static int train(int argc, char *const *argv)
{
    struct train_options options = {0};
    struct err err = {0};
    int status = 0;

    if (wants_help(argc, argv)) {
        printf("train options [default]:\n");
        train_options_help(stdout);
        return 0;
    }
    train_options_init(&options);
    if (nn_kernels_check(&err) < 0 || nn_conv_check(&err) < 0 ||
        train_options_read(&options, argc, argv, &err) < 0) {
        status = fail(&err);
    } else if (options.memory) { /* which checks them too */
        status = show_memory(&options, &err);
        status = status == 0 ? check_results() : status;
    } else if (options.check_options) {
        status = check_only(&options, &err);
    } else {
        if (options.bench_comm != NULL)
            train_bench_comm_prepare();
        status = on_ranks(train_ranks, &options);
    }
    train_options_release(&options);
    s3_client_shared_close();
    return status;
}

/* --- eval, predict --- */

static int eval_ranks(void *options, struct comm *comm, bool *agreed, struct err *err)
{
    return train_eval(options, comm, agreed, err);
}

static int eval(int argc, char *const *argv)
{
    struct train_infer_options options = {0};
    struct err err = {0};
    int status = 0;

    if (wants_help(argc, argv)) {
        printf("eval options [default]:\n");
        train_infer_options_help(TRAIN_EVAL, stdout);
        return check_results();
    }
    if (nn_kernels_check(&err) < 0 || nn_conv_check(&err) < 0 ||
        train_infer_options_read(&options, TRAIN_EVAL, argc, argv, &err) < 0)
        status = fail(&err);
    else if (!options.check_options)
        status = on_ranks(eval_ranks, &options);
    train_infer_options_release(&options);
    s3_client_shared_close();
    return status;
}

static int predict(int argc, char *const *argv)
{
    struct train_infer_options options = {0};
    struct err err = {0};
    int rc = -1;

    if (wants_help(argc, argv)) {
        printf("convoy predict [options] FILE|FOLDER|SHARDS|s3://...\n\n"
               "What a trained model takes pictures for, in their order: of files, of all below "
               "folders, of shards made by\nconvoy pack, of an object or all below a prefix in "
               "S3. A picture that cannot be read has a line that says why.\n\n"
               "options [default]:\n");
        train_infer_options_help(TRAIN_PREDICT, stdout);
        return check_results();
    }
    if (nn_kernels_check(&err) == 0 && nn_conv_check(&err) == 0 &&
        train_infer_options_read(&options, TRAIN_PREDICT, argc, argv, &err) == 0)
        rc = train_predict(&options, &err);
    train_infer_options_release(&options);
    s3_client_shared_close();
    return rc < 0 ? fail(&err) : 0;
}

/* --- synth, pack --- */

static const struct option_spec synth_table[] = {
    {.name = "classes",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 2,
     .max = DATA_SYNTH_CLASSES_MAX,
     .fallback = "8",
     .help = "kinds of pictures"},
    {.name = "size",
     .kind = OPTION_INTEGER,
     .metavar = "PX",
     .min = 16,
     .max = 2048,
     .shown = "32; 500 with --photos",
     .help = "pictures are PX x PX pixels; photographs mostly PX x PX * 3/4, or upright"},
    {.name = "photos",
     .kind = OPTION_FLAG,
     .fallback = "false",
     .help = "pictures as large and as detailed as photographs, each of its own size; classes also "
             "have\ncolours of their own"},
    {.name = "count",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 2,
     .max = 1e9,
     .fallback = "4000",
     .help = "training pictures in all; a fifth as many more are for validation"},
    {.name = "seed",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 0,
     .max = 9007199254740992.0,
     .fallback = "1",
     .help = "another seed, other pictures"},
};

static int synth(const char *target, struct option_set *set, struct err *err)
{
    const bool photos = option_flag(set, "photos"), sized = option_text(set, "size") != NULL;
    const struct data_synth_options options = {.target = target,
                                               .classes = (int)option_integer(set, "classes"),
                                               .size = sized    ? (int)option_integer(set, "size")
                                                       : photos ? 500
                                                                : 32,
                                               .photos = photos,
                                               .count = (uint64_t)option_integer(set, "count"),
                                               .seed = (uint64_t)option_integer(set, "seed"),
                                               .cancel = &train_stop_asked};

    return data_synth(&options, err);
}

static const struct option_spec pack_table[] = {
    {.name = "shard-bytes",
     .kind = OPTION_INTEGER,
     .metavar = "BYTES",
     .min = 1,
     .max = 1e12,
     .fallback = "100000000",
     .help = "a shard is closed when it holds this much"},
    {.name = "root",
     .kind = OPTION_TEXT,
     .metavar = "DIR",
     .shown = "the list's own folder",
     .help = "the folder that the paths of a list are below; may be s3://BUCKET/PREFIX"},
    {.name = "threads",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 256,
     .shown = "8; 16 from S3",
     .help = "threads that read; what is written is the same with any number"},
    {.name = "bad-images",
     .kind = OPTION_CHOICE,
     .metavar = "skip|stop",
     .choices = "skip|stop",
     .fallback = "skip",
     .help = "files named like pictures that are none: pack them too, for training to leave them "
             "out; or stop"},
};

static int pack(const char *source, const char *target, struct option_set *set, struct err *err)
{
    const struct data_pack_options options = {
        .source = source,
        .root = option_text(set, "root"),
        .target = target,
        .shard_bytes = (uint64_t)option_integer(set, "shard-bytes"),
        .threads = option_text(set, "threads") != NULL ? (int)option_integer(set, "threads") : 0,
        .stop_at_bad = strcmp(option_text(set, "bad-images"), "stop") == 0,
        .cancel = &train_stop_asked};

    return data_pack(&options, err);
}

/* Both take their folders first and options from one small table. */
static int folder_verb(const char *verb, int argc, char *const *argv)
{
    const bool is_synth = strcmp(verb, "synth") == 0;
    const int folders = is_synth ? 1 : 2;
    const char *const usage = is_synth ? "convoy synth DIR" : "convoy pack SRC DST";
    struct option_set set = {0};
    struct err err = {0};
    int rc = 0;

    option_set_init(&set, is_synth ? synth_table : pack_table,
                    is_synth ? sizeof synth_table / sizeof synth_table[0]
                             : sizeof pack_table / sizeof pack_table[0]);
    if (wants_help(argc, argv)) {
        printf("%s [options]\n\n%soptions [default]:\n", usage,
               is_synth ? ""
                        : "SRC: a folder per class, or train and val below one; a list NAME.lst or "
                          "RecordIO NAME.rec, as MXNet's\nim2rec writes them; a folder of other "
                          "people's tars (WebDataset: KEY.jpg beside KEY.cls). DST: where the tar\n"
                          "shards go. Either may be s3://BUCKET/PREFIX. After a stop, a kill or a "
                          "failure of disk or network the same\ncommand goes on behind the shards "
                          "that are finished.\n\n");
        option_set_help(&set, stdout);
    } else if (argc < folders || strncmp(argv[0], "--", 2) == 0 ||
               strncmp(argv[folders - 1], "--", 2) == 0) {
        rc = err_set(&err, ERR_USAGE, "%s: name %s first", usage,
                     is_synth ? "the folder" : "both folders");
    } else if (option_set_parse(&set, argc - folders, argv + folders, &err) < 0) {
        rc = -1;
    } else {
        rc = is_synth ? synth(argv[0], &set, &err) : pack(argv[0], argv[1], &set, &err);
    }
    option_set_release(&set);
    s3_client_shared_close();
    return rc < 0 ? fail(&err) : 0;
}

/* For launchers, not for people: a Pipe channel's FIFO to shards in a folder. */
static int spool(int argc, char *const *argv)
{
    const struct data_spool_options options = {.fifo = argc > 0 ? argv[0] : "",
                                               .folder = argc > 1 ? argv[1] : "",
                                               .shard_bytes = DATA_PACK_SHARD_BYTES,
                                               .wait_s = DATA_SPOOL_WAIT_S,
                                               .cancel = &train_stop_asked};
    struct err err = {0};

    if (argc != 2)
        err_set(&err, ERR_USAGE, "convoy-train spool FIFO FOLDER");
    else if (data_spool(&options, &err) == 0)
        return 0;
    if (err.code != ERR_STOPPED)
        return fail(&err);
    log_debug("%s", err.msg); /* whoever asked for that has said why */
    return err_exit_code(err.code);
}

/* --- export --- */

static int export(int argc, char *const *argv)
{
    struct err err = {0};
    int rc = 0;

    if (wants_help(argc, argv)) {
        printf("convoy export --model DIR [options]\n\noptions [default]:\n");
        train_export_help(stdout);
    } else {
        rc = train_export(argc, argv, &err);
    }
    s3_client_shared_close();
    return rc < 0 ? fail(&err) : check_results();
}

/* --- audit --- */

static int audit(int argc, char *const *argv)
{
    struct err err = {0};
    int rc = 0;

    if (wants_help(argc, argv)) {
        printf(
            "convoy audit FILE... [options]\n\n"
            "What a run recorded by --audit proves: in the lineage that survived kills, resumes "
            "and other numbers of ranks,\neach picture had its turn once an epoch. Else what was "
            "lost or repeated, and exit 2. FILE stands for FILE.rank-N\nbeside it too; of "
            "several hosts name each one's.\n\noptions [default]:\n");
        audit_help(stdout);
    } else {
        rc = audit_run(argc, argv, &train_stop_asked, &err);
    }
    s3_client_shared_close();
    if (rc < 0)
        fflush(stdout); /* the faults, before the line that counts them */
    return rc < 0 ? fail(&err) : check_results();
}

/* --- bench --- */

static int bench(int argc, char *const *argv)
{
    struct err err = {0};
    const int rc = bench_run(argc, argv, &train_stop_asked, &err);

    s3_client_shared_close();
    return rc < 0 ? fail(&err) : 0;
}

int main(int argc, char **argv)
{
    const char *const verb = argc > 1 ? argv[1] : "";

    train_stop_init();
    log_init(log_prefix, false);
    if (strcmp(verb, "train") == 0)
        return train(argc - 2, argv + 2);
    if (strcmp(verb, "eval") == 0)
        return eval(argc - 2, argv + 2);
    if (strcmp(verb, "predict") == 0)
        return predict(argc - 2, argv + 2);
    if (strcmp(verb, "synth") == 0 || strcmp(verb, "pack") == 0)
        return folder_verb(verb, argc - 2, argv + 2);
    if (strcmp(verb, "spool") == 0)
        return spool(argc - 2, argv + 2);
    if (strcmp(verb, "export") == 0)
        return export(argc - 2, argv + 2);
    if (strcmp(verb, "audit") == 0)
        return audit(argc - 2, argv + 2);
    if (strcmp(verb, "bench") == 0)
        return bench(argc - 2, argv + 2);
    fprintf(stderr, "convoy-train is started by convoy: see convoy --help\n");
    return 2;
}
