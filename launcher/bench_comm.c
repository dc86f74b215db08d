#include "launcher/bench_comm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "launcher/bench_comm_options.h"
#include "launcher/bench_comm_record.h"
#include "launcher/bench_comm_table.h"
#include "launcher/bench_run.h"
#include "launcher/job.h"
#include "launcher/machine.h"

struct bench {
    struct launch_bench_comm_options options;
    struct launch_machine machine;
    struct launch_bench_runner runner;
    struct launch_bench_record record;
    struct launch_bench_sums sums;
    struct launch_bench_comm_report report;
};

static void release(struct bench *b)
{
    launch_bench_record_close(&b->record);
    launch_bench_runner_close(&b->runner);
    launch_bench_sums_release(&b->sums);
    launch_bench_comm_options_release(&b->options);
}

static int prepare(struct bench *b, struct err *err)
{
    launch_machine_read(&b->machine);
    b->report = (struct launch_bench_comm_report){.options = &b->options,
                                                  .machine = &b->machine,
                                                  .sums = &b->sums,
                                                  .version = CONVOY_VERSION,
                                                  .time = b->runner.time};
    return launch_bench_runner_open(&b->runner, err);
}

/* What is written of the run is there even where it is no good. */
static int run(struct bench *b, struct err *err)
{
    struct launch_words command = {0};
    struct buf shown = {0}, lines = {0};
    struct err why = {0};
    int rc;

    launch_words_push(&command, b->runner.self);
    launch_words_push(&command, "train");
    launch_bench_comm_words(&b->options, &command);
    launch_words_show(&command, &shown);
    log_debug("%s", buf_text(&shown));
    rc = launch_bench_run_command(&b->runner, &command, &lines, &why);
    if (launch_bench_comm_record_run(&b->record, buf_text(&lines), err) < 0)
        rc = -1;
    else if (rc < 0 || launch_bench_sums_read(&b->sums, &lines, b->options.ranks, b->options.rounds,
                                              &why) < 0)
        rc = err_set(err, why.code, "the run failed: %s; it was `%s`", why.msg, buf_text(&shown));
    buf_release(&lines);
    buf_release(&shown);
    launch_words_release(&command);
    return rc;
}

static int finish(struct bench *b, struct err *err)
{
    if (b->record.file != stdout)
        launch_bench_comm_table_print(&b->report, stdout);
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set_errno(err, ERR_IO, errno, "cannot write the table to stdout");
    return launch_bench_comm_record_results(&b->record, &b->report, err);
}

static int measure(struct bench *b, int argc, char *const *argv, struct err *err)
{
    struct buf shown = {0};
    int rc;

    launch_bench_show_command("comm", argc, argv, &shown);
    launch_bench_warn_of_load(&b->machine);
    rc = launch_bench_comm_record_setting(&b->record, &b->report, buf_text(&shown), err);
    buf_release(&shown);
    if (rc < 0 || run(b, err) < 0)
        return -1;
    return finish(b, err);
}

static int check(struct bench *b, const char *program, struct err *err)
{
    struct launch_words words = {0};
    int rc;

    launch_bench_comm_words(&b->options, &words);
    rc = launch_bench_check(&b->runner, program, &words, b->options.ranks, err);
    launch_words_release(&words);
    return rc;
}

static int print_help(struct err *err)
{
    printf("convoy bench comm [options] [-- options of convoy train]\n\n"
           "Sums vectors over all ranks: by the exchange that training has, by MPI_Allreduce as it "
           "comes, and\nby each algorithm that Open MPI can be held to, all in turn in one run.\n\n"
           "options [default]:\n");
    launch_bench_comm_options_help(stdout);
    printf("\nWhat stands behind -- the run gets too: --bucket-bytes, --interface, ...\n"
           "In a SageMaker job of several hosts each measures itself alone: over several hosts it "
           "needs ssh.\n");
    return fflush(stdout) == 0 ? 0 : err_set_errno(err, ERR_IO, errno, "cannot write to stdout");
}

int launch_bench_comm(int argc, char *const *argv, const char *program, int *status,
                      struct err *err)
{
    struct bench b = {.runner.signal_fd = -1};
    int rc = -1;

    if (launch_bench_comm_options_read(&b.options, argc, argv, err) < 0)
        goto out;
    if (b.options.help) {
        rc = print_help(err);
        goto out;
    }
    if (launch_job_foreign_rank() >= 0) {
        err_set(err, ERR_USAGE, "convoy bench starts the ranks itself: give it without mpirun");
        goto out;
    }
    if (prepare(&b, err) < 0)
        goto out;
    rc = check(&b, program, err);
    if (rc > 0) { /* convoy-train has said what is wrong */
        *status = rc;
        rc = 0;
        goto out;
    }
    if (rc == 0)
        rc = launch_bench_record_open(&b.record, b.options.json, b.options.results_only, err);
    if (rc == 0)
        rc = measure(&b, argc, argv, err);
    if (b.runner.stopped_by != 0) {
        log_error("%s: the benchmark has ended", strsignal(b.runner.stopped_by));
        *status = 128 + b.runner.stopped_by;
        rc = 0;
    }
out:
    release(&b);
    return rc;
}
