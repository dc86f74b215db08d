#include "launcher/bench_scaling.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "launcher/bench_options.h"
#include "launcher/bench_plot.h"
#include "launcher/bench_record.h"
#include "launcher/bench_run.h"
#include "launcher/bench_table.h"
#include "launcher/job.h"
#include "launcher/machine.h"

struct scaling {
    struct launch_bench_options options;
    struct launch_machine machine;
    struct launch_bench_point *points; /* (count) */
    size_t count;
    struct launch_bench_sample
        *samples; /* (count, WAYS, rounds): what the points' samples are of */
    struct launch_bench_runner runner;
    struct launch_bench_report report;
    struct launch_bench_record record;
    int done; /* runs */
    double began_s;
};

static void make_points(struct scaling *s)
{
    const size_t rounds = (size_t)s->options.rounds;

    s->points = launch_bench_points(&s->options, &s->count);
    s->samples = calloc(s->count * LAUNCH_BENCH_WAYS * rounds, sizeof *s->samples);
    if (s->samples == NULL)
        abort();
    for (size_t i = 0; i < s->count; i++)
        for (size_t way = 0; way < LAUNCH_BENCH_WAYS; way++)
            s->points[i].samples[way] = s->samples + (i * LAUNCH_BENCH_WAYS + way) * rounds;
}

static int runs_of(const struct scaling *s)
{
    return (int)s->count * LAUNCH_BENCH_WAYS * s->options.rounds;
}

static int prepare(struct scaling *s, struct err *err)
{
    launch_machine_read(&s->machine);
    make_points(s);
    s->report = (struct launch_bench_report){.options = &s->options,
                                             .machine = &s->machine,
                                             .points = s->points,
                                             .count = s->count,
                                             .version = CONVOY_VERSION,
                                             .time = s->runner.time};
    launch_bench_runner_quiet();
    return launch_bench_runner_open(&s->runner, err);
}

static void release(struct scaling *s)
{
    launch_bench_record_close(&s->record);
    launch_bench_runner_close(&s->runner);
    free(s->points);
    free(s->samples);
    launch_bench_options_release(&s->options);
}

/* Before anything is measured: a mistake in the last point must not show after an hour. */
static int check(struct scaling *s, const char *program, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < s->count && rc == 0; i++) {
        struct launch_words words = {0};

        launch_bench_words(&s->options, &s->points[i], LAUNCH_BENCH_TOGETHER, &words);
        rc = launch_bench_check(&s->runner, program, &words, s->points[i].ranks, err);
        launch_words_release(&words);
    }
    return rc;
}

static void name_run(const struct launch_bench_point *point, enum launch_bench_way way,
                     char text[80])
{
    const char *const how = way == LAUNCH_BENCH_TOGETHER ? "" : " side by side",
                      *const mode = launch_bench_mode_name(point->mode);

    if (point->hosts > 1)
        snprintf(text, 80, "%s, %d hosts, %d ranks%s", mode, point->hosts, point->ranks, how);
    else
        snprintf(text, 80, "%s, %d rank%s%s", mode, point->ranks, point->ranks == 1 ? "" : "s",
                 how);
}

/* "1.5 h", "12 min", "40 s": how long the rest takes if its runs are like those before. */
static void show_rest(const struct scaling *s, int all, char text[32])
{
    const double rest_s = (clock_now_s() - s->began_s) / s->done * (all - s->done);

    if (s->done == all)
        snprintf(text, 32, "done");
    else if (rest_s > 5400)
        snprintf(text, 32, "about %.1f h left", rest_s / 3600);
    else if (rest_s > 90)
        snprintf(text, 32, "about %.0f min left", rest_s / 60);
    else
        snprintf(text, 32, "about %.0f s left", rest_s);
}

static void tell_progress(const struct scaling *s, const char *name, double images_per_s)
{
    const int all = runs_of(s);
    char rest[32];

    show_rest(s, all, rest);
    log_info("run %d of %d: %s: %.4g images/s; %s", s->done, all, name, images_per_s, rest);
}

static void take_facts(struct scaling *s, const json_t *figures)
{
    if (s->report.threads > 0)
        return;
    s->report.threads = (int)json_integer_value(json_object_get(figures, "threads"));
    s->report.image_size = (int)json_integer_value(json_object_get(figures, "image_size"));
}

static int run_point(struct scaling *s, struct launch_bench_point *point, enum launch_bench_way way,
                     int round, struct err *err)
{
    struct launch_bench_sample *const sample = &point->samples[way][round];
    struct launch_words command = {0};
    struct buf shown = {0};
    json_t *figures = NULL;
    struct err why = {0};
    char name[80];
    int rc = -1;

    name_run(point, way, name);
    launch_words_push(&command, s->runner.self);
    launch_words_push(&command, "train");
    launch_bench_words(&s->options, point, way, &command);
    launch_words_show(&command, &shown);
    log_debug("%s", buf_text(&shown));
    if (launch_bench_run(&s->runner, &command, point->ranks, sample, &figures, &why) < 0) {
        err_set(err, why.code, "run %d (%s) failed: %s; it was `%s`", s->done + 1, name, why.msg,
                buf_text(&shown));
        goto out;
    }
    s->done++;
    tell_progress(s, name, sample->images_per_s);
    take_facts(s, figures);
    rc = launch_bench_record_run(&s->record, point, way, round + 1, buf_text(&shown), figures, err);
out:
    json_decref(figures);
    buf_release(&shown);
    launch_words_release(&command);
    return rc;
}

static int run_rounds(struct scaling *s, struct err *err)
{
    s->began_s = clock_now_s();
    for (int round = 0; round < s->options.rounds; round++)
        for (size_t i = 0; i < s->count; i++)
            if (run_point(s, &s->points[i], LAUNCH_BENCH_TOGETHER, round, err) < 0 ||
                run_point(s, &s->points[i], LAUNCH_BENCH_SIDE_BY_SIDE, round, err) < 0)
                return -1;
    return 0;
}

static int finish(struct scaling *s, struct err *err)
{
    if (s->record.file != stdout)
        launch_bench_table_print(&s->report, stdout);
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set_errno(err, ERR_IO, errno, "cannot write the table to stdout");
    if (launch_bench_record_results(&s->record, &s->report, err) < 0)
        return -1;
    return s->options.svg == NULL ? 0 : launch_bench_plot_write(&s->report, s->options.svg, err);
}

static int measure(struct scaling *s, int argc, char *const *argv, struct err *err)
{
    struct buf shown = {0};
    int rc;

    launch_bench_show_command("scaling", argc, argv, &shown);
    launch_bench_warn_of_load(&s->machine);
    rc = launch_bench_record_setting(&s->record, &s->report, buf_text(&shown), err);
    if (rc == 0)
        rc = run_rounds(s, err);
    if (rc == 0)
        rc = finish(s, err);
    buf_release(&shown);
    return rc;
}

static void print_help(void)
{
    printf(
        "convoy bench scaling [options] [-- options of convoy train]\n\n"
        "Trains with more and more hosts or ranks and shows how the rate grows: beside one host, "
        "and\nbeside the same hosts side by side, without the exchange of gradients.\n\n"
        "options [default]:\n");
    launch_bench_options_help(stdout);
    printf("\nWhat stands behind -- every run gets too: --bucket-bytes, --interface, ...\n"
           "In a SageMaker job of several hosts each measures itself alone: over several hosts it "
           "needs ssh.\n");
}

int launch_bench_scaling(int argc, char *const *argv, const char *program, int *status,
                         struct err *err)
{
    struct scaling s = {.runner.signal_fd = -1};
    int rc = -1;

    if (launch_bench_options_read(&s.options, argc, argv, err) < 0)
        goto out;
    if (s.options.help) {
        print_help();
        rc = fflush(stdout) == 0 ? 0 : err_set_errno(err, ERR_IO, errno, "cannot write to stdout");
        goto out;
    }
    if (launch_job_foreign_rank() >= 0) {
        err_set(err, ERR_USAGE, "convoy bench starts the ranks itself: give it without mpirun");
        goto out;
    }
    if (prepare(&s, err) < 0)
        goto out;
    if (launch_bench_plot_check(s.options.svg, err) < 0)
        goto out;
    rc = check(&s, program, err);
    if (rc > 0) { /* convoy-train has said what is wrong */
        *status = rc;
        rc = 0;
        goto out;
    }
    if (rc == 0)
        rc = launch_bench_record_open(&s.record, s.options.json, s.options.results_only, err);
    if (rc == 0)
        rc = measure(&s, argc, argv, err);
    if (s.runner.stopped_by != 0) {
        log_error("%s: the benchmark has ended in run %d of %d", strsignal(s.runner.stopped_by),
                  s.done + 1, runs_of(&s));
        *status = 128 + s.runner.stopped_by;
        rc = 0;
    }
out:
    release(&s);
    return rc;
}
