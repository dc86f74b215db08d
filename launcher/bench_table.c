#include "launcher/bench_table.h"

#include "launcher/machine.h"

#define CELL_CHARS 32

/* Three figures or more, whatever the size. */
static void show_rate(double rate, char text[CELL_CHARS])
{
    snprintf(text, CELL_CHARS, "%.*f", rate < 10 ? 2 : rate < 1000 ? 1 : 0, rate);
}

/* Three figures, or all that stand before the point. */
static void show_bound(double rate, char text[CELL_CHARS])
{
    snprintf(text, CELL_CHARS, "%.*f", rate < 10 ? 2 : rate < 100 ? 1 : 0, rate);
}

static void show_rates(const struct launch_bench_spread *rates, char text[CELL_CHARS])
{
    char min[CELL_CHARS], max[CELL_CHARS];

    show_bound(rates->min, min);
    show_bound(rates->max, max);
    snprintf(text, CELL_CHARS, "%.14s-%.14s", min, max);
}

static void print_head(const struct launch_bench_report *report, FILE *out)
{
    const struct launch_bench_point *const first = &report->points[0];
    char one[CELL_CHARS];

    snprintf(one, sizeof one, "of %d", report->options->by_hosts ? first->hosts : first->ranks);
    fprintf(out, "%31s%-25s%-18s%s\n", "", "efficiency, %", "waiting, % for", "imbal-");
    fprintf(out, "%5s %5s %8s %9s %5s %11s %6s %5s %5s %5s %6s\n", "hosts", "ranks", "images/s",
            "min-max", one, "min-max", "beside", "ranks", "sums", "input", "ance,%");
}

static void print_point(const struct launch_bench_report *report,
                        const struct launch_bench_point *point, FILE *out)
{
    const struct launch_bench_summary s = launch_bench_summarise(
        point, launch_bench_baseline(report, point), report->options->rounds);
    char rate[CELL_CHARS], rates[CELL_CHARS], efficiencies[CELL_CHARS];

    show_rate(s.images_per_s.median, rate);
    show_rates(&s.images_per_s, rates);
    snprintf(efficiencies, sizeof efficiencies, "%.1f-%.1f", 100 * s.efficiency.min,
             100 * s.efficiency.max);
    fprintf(out, "%5d %5d %8s %9s %5.1f %11s %6.1f %5.1f %5.1f %5.1f %6.1f\n", point->hosts,
            point->ranks, rate, rates, 100 * s.efficiency.median, efficiencies,
            100 * s.efficiency_side_by_side.median, 100 * s.ranks_share.median,
            100 * s.exchange_share.median, 100 * s.input_share.median, 100 * s.imbalance.median);
}

static void print_mode(const struct launch_bench_report *report, enum launch_bench_mode mode,
                       FILE *out)
{
    const struct launch_bench_options *o = report->options;

    if (mode == LAUNCH_BENCH_WEAK)
        fprintf(out, "\nweak: %d images of a step on each rank, micro-batches of %d\n",
                o->batch_per_rank, o->micro_batch);
    else
        fprintf(out, "\nstrong: %d images of a step on all ranks together, micro-batches of %d\n",
                o->global_batch, o->micro_batch);
    print_head(report, out);
    for (size_t i = 0; i < report->count; i++)
        if (report->points[i].mode == mode)
            print_point(report, &report->points[i], out);
}

static void print_micro_batches(const struct launch_bench_report *report, FILE *out)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct launch_bench_point *p = &report->points[i];
        const double limit = launch_bench_limit(p, launch_bench_baseline(report, p));

        if (limit < 1)
            fprintf(out, "%s, %d ranks: %d micro-batches allow at most %.1f %%.\n",
                    launch_bench_mode_name(p->mode), p->ranks,
                    (p->global_batch + p->micro_batch - 1) / p->micro_batch, 100 * limit);
    }
}

/* The cores of the other hosts are not known here. */
static void print_cores(const struct launch_bench_report *report, FILE *out)
{
    const int cores = report->machine->cores;

    for (int i = 0; !report->options->by_hosts && i < report->options->count_count; i++) {
        const int ranks = report->options->counts[i], threads = ranks * report->threads;

        if (threads > cores)
            fprintf(out, "%d ranks: %d threads share %d core%s.\n", ranks, threads, cores,
                    cores == 1 ? "" : "s");
    }
}

const struct launch_bench_point *launch_bench_baseline(const struct launch_bench_report *report,
                                                       const struct launch_bench_point *point)
{
    size_t i = 0;

    while (report->points[i].mode != point->mode)
        i++;
    return &report->points[i];
}

static void print_legend(const struct launch_bench_report *report, FILE *out)
{
    const struct launch_bench_point *const first = &report->points[0];
    const bool hosts = report->options->by_hosts;
    const int one = hosts ? first->hosts : first->ranks;
    const char *const what = hosts ? "host" : "rank";

    fprintf(out,
            "\nMedians. Efficiency of %d: the rate for each %s, against that of %d %s%s in the\n"
            "same round; beside: against the same %ss side by side without exchange.\n"
            "Waiting, share of a step: for other ranks' answers, for sums, for pictures.\n"
            "Imbalance: how much longer than the mean the slowest rank computes.\n",
            one, what, one, what, one == 1 ? "" : "s", what);
}

void launch_bench_table_print(const struct launch_bench_report *report, FILE *out)
{
    const struct launch_bench_options *o = report->options;
    const struct launch_machine *m = report->machine;

    fprintf(out, "%s, %d x %d pixels, %d thread%s a rank; %d steps a run, %d round%s\n", o->model,
            report->image_size, report->image_size, report->threads,
            report->threads == 1 ? "" : "s", o->steps, o->rounds, o->rounds == 1 ? "" : "s");
    if (o->data != NULL)
        fprintf(out, "pictures of %s\n", o->data);
    fprintf(out, "%s: %s, %d core%s\n%s, convoy %s, %s, load %.1f\n", m->host, m->cpu, m->cores,
            m->cores == 1 ? "" : "s", m->kernel, report->version, report->time, m->load);
    if (o->weak)
        print_mode(report, LAUNCH_BENCH_WEAK, out);
    if (o->strong)
        print_mode(report, LAUNCH_BENCH_STRONG, out);
    print_legend(report, out);
    print_micro_batches(report, out); /* why less than 100 % was to be expected */
    print_cores(report, out);
}
