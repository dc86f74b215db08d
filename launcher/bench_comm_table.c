#include "launcher/bench_comm_table.h"

#include "launcher/machine.h"

#define CELL_CHARS 32

/* "100 MB", "64 KiB", "4 B": the largest unit of which it is a whole number. */
static void show_size(size_t bytes, char text[CELL_CHARS])
{
    static const struct {
        size_t bytes;
        const char *name;
    } units[] = {{1000000000, "GB"}, {1u << 30, "GiB"}, {1000000, "MB"}, {1u << 20, "MiB"},
                 {1000, "kB"},       {1u << 10, "KiB"}, {1, "B"}};
    size_t unit = 0;

    while (bytes % units[unit].bytes != 0)
        unit++;
    snprintf(text, CELL_CHARS, "%zu %s", bytes / units[unit].bytes, units[unit].name);
}

/* Three figures or more. */
static void show(double value, char text[CELL_CHARS])
{
    snprintf(text, CELL_CHARS, "%.*f",
             value < 1      ? 3
             : value < 100  ? 2
             : value < 1000 ? 1
                            : 0,
             value);
}

/* What a way is called in the table: the names that the runs give are "mpi-ring" and the like. */
static void show_way(const struct launch_bench_sums *sums, int way,
                     char text[LAUNCH_BENCH_NAME_MAX])
{
    const char *const algorithm = sums->names[way] + sizeof "mpi-" - 1;

    if (way == LAUNCH_BENCH_OURS)
        snprintf(text, LAUNCH_BENCH_NAME_MAX, "Convoy");
    else if (way == LAUNCH_BENCH_AS_IT_COMES)
        snprintf(text, LAUNCH_BENCH_NAME_MAX, "MPI_Allreduce as it comes");
    else
        snprintf(text, LAUNCH_BENCH_NAME_MAX, "forced: %.60s", algorithm);
}

static void print_way(const struct launch_bench_comm_report *report, int size, int way,
                      const char *label, FILE *out)
{
    const struct launch_bench_sums *const sums = report->sums;
    const struct launch_bench_sums_summary s = launch_bench_sums_summarise(sums, size, way);
    const double link = report->options->link_bytes_per_s;
    char name[LAUNCH_BENCH_NAME_MAX], ms[CELL_CHARS], rate[CELL_CHARS],
        bound[CELL_CHARS] = "-", ratio[CELL_CHARS] = "-", cpu[CELL_CHARS] = "-";

    show_way(sums, way, name);
    show(1e3 * s.seconds.median, ms);
    show((double)sums->bytes[size] / 1e6 / s.seconds.median, rate);
    if (link > 0)
        snprintf(bound, sizeof bound, "%.1f",
                 100 * launch_bench_sums_bound(sums, size, link) / s.seconds.median);
    if (way == LAUNCH_BENCH_OURS)
        show(s.exchange_cpu_ms_per_mb.median, cpu);
    else
        snprintf(ratio, sizeof ratio, "%.2f", s.ours.median);
    fprintf(out, "%8s  %-27s %8s %8s %6s %5s %6s\n", label, name, ms, rate, bound, ratio, cpu);
}

static void print_size(const struct launch_bench_comm_report *report, int size, FILE *out)
{
    const int best = launch_bench_sums_best(report->sums, size);
    char name[CELL_CHARS];

    show_size(report->sums->bytes[size], name);
    print_way(report, size, LAUNCH_BENCH_OURS, name, out);
    print_way(report, size, LAUNCH_BENCH_AS_IT_COMES, "", out);
    if (best >= 0)
        print_way(report, size, best, "", out);
}

static void print_title(const struct launch_bench_comm_report *report, FILE *out)
{
    const struct launch_bench_sums *const s = report->sums;
    const struct launch_machine *const m = report->machine;

    fprintf(out, "%d rank%s on %d host%s", s->ranks, s->ranks == 1 ? "" : "s", s->hosts,
            s->hosts == 1 ? "" : "s");
    if (report->options->link != NULL)
        fprintf(out, ", links of %.30s", report->options->link);
    fprintf(out, "; %d round%s; buckets of at most %zu bytes\n", s->rounds,
            s->rounds == 1 ? "" : "s", s->bucket_bytes);
    fprintf(out, "%s: %s, %d core%s\n%s, convoy %s, %s, load %.1f\n", m->host, m->cpu, m->cores,
            m->cores == 1 ? "" : "s", m->kernel, report->version, report->time, m->load);
    fprintf(out, "%s, a rank that waits %s its core\n\n", s->mpi,
            s->yields ? "lets go of" : "keeps");
}

static void print_legend(const struct launch_bench_comm_report *report, FILE *out)
{
    const struct launch_bench_sums *const s = report->sums;

    fprintf(out,
            "\nMedians; ms: of a sum, the slowest rank's. MB/s: of the vector. ours/: our ms by\n"
            "its ms in the same round; forced: the best of MPI_Allreduce's algorithms.\n"
            "CPU: of our communication thread, ms for each MB of the vector.\n");
    if (report->options->link_bytes_per_s > 0)
        fprintf(out, "Bound: 2(H-1)/H of the vector at %.0f %% of the link, H = %d hosts.\n",
                100 * LAUNCH_BENCH_GOODPUT, s->hosts);
    if (s->way_count == LAUNCH_BENCH_FORCED)
        fprintf(out, "%s lets no algorithm be forced: only what it chooses was measured.\n",
                s->mpi);
}

void launch_bench_comm_table_print(const struct launch_bench_comm_report *report, FILE *out)
{
    print_title(report, out);
    fprintf(out, "%8s  %-27s %8s %8s %6s %5s %6s\n", "", "", "ms", "MB/s", "bound%", "ours/",
            "CPU");
    for (int size = 0; size < report->sums->size_count; size++)
        print_size(report, size, out);
    print_legend(report, out);
}
