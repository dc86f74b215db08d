#include "launcher/bench_plot.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "launcher/bench_table.h"
#include "launcher/machine.h"
#include "launcher/svg.h"

/* Pixels. */
#define WIDTH       800
#define HEIGHT      500
#define LEFT        74.0
#define RIGHT       784.0
#define GAP         58.0 /* between two panels: the second one's numbers */
#define TOP         98.0
#define BOTTOM      386.0
#define LEGEND_Y    442.0
#define TICK_GAP    20.0 /* between the numbers of the x axis */
#define LABEL_GAP   46.0 /* between the efficiencies */
#define LABEL_BELOW 17.0
#define LINE_CHARS  120 /* of small text fit beside each other */
#define ASIDE       7.0 /* right of its place: what is side by side, for both ranges to be seen */

/* Room right of the last point: its efficiency stands there. */
#define BEYOND 1.17

static const char style[] =
    "text{font-family:sans-serif;font-size:12px;fill:#222}"
    ".title{font-size:16px;font-weight:bold}.small{font-size:11px;fill:#555}"
    ".panel{font-weight:bold}.middle{text-anchor:middle}.end{text-anchor:end}"
    ".efficiency{font-size:11px;fill:#1f5fa8}"
    ".grid{stroke:#e4e4e4}.axis{stroke:#444}"
    ".ideal{stroke:#777;stroke-dasharray:7 5;stroke-width:1.5}"
    ".together{stroke:#1f5fa8;stroke-width:2;fill:none}.disc{fill:#1f5fa8}"
    ".beside{stroke:#c2570c;stroke-width:1.5;stroke-dasharray:2 3;fill:none}"
    ".range{stroke:#c2570c;stroke-width:1.5}.box{stroke:#c2570c;stroke-width:1.5;fill:#fff}";

/* One mode's place. */
struct panel {
    const struct launch_bench_report *report;
    enum launch_bench_mode mode;
    double left, right;
    double count_max, rate_max, rate_step; /* of all panels: what is at the right, and on top */
};

static int count_of(const struct launch_bench_report *report,
                    const struct launch_bench_point *point)
{
    return report->options->by_hosts ? point->hosts : point->ranks;
}

static struct launch_bench_summary summary_of(const struct launch_bench_report *report,
                                              const struct launch_bench_point *point)
{
    return launch_bench_summarise(point, launch_bench_baseline(report, point),
                                  report->options->rounds);
}

/* Images/s of one host where nothing is lost. */
static double ideal_of(const struct launch_bench_report *report,
                       const struct launch_bench_point *point)
{
    const struct launch_bench_point *const first = launch_bench_baseline(report, point);

    return summary_of(report, first).images_per_s.median / count_of(report, first);
}

double launch_bench_plot_step(double max)
{
    const double decade = pow(10, floor(log10(max)));
    const double parts[] = {0.1, 0.2, 0.5, 1, 2};
    size_t i = 0;

    while (max / (decade * parts[i]) > 10)
        i++;
    return decade * parts[i];
}

static struct launch_svg_at place(const struct panel *panel, double count, double rate)
{
    return (struct launch_svg_at){.x = panel->left + (panel->right - panel->left) * count /
                                                         (panel->count_max * BEYOND),
                                  .y = BOTTOM - (BOTTOM - TOP) * rate / panel->rate_max};
}

static void text(struct buf *svg, const char *class, double x, double y, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* What is too long for the drawing ends in "...". */
static void text(struct buf *svg, const char *class, double x, double y, const char *fmt, ...)
{
    char line[LINE_CHARS + 1];
    va_list args;
    int bytes;

    va_start(args, fmt);
    bytes = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (bytes > LINE_CHARS)
        memcpy(line + LINE_CHARS - 3, "...", 3);
    launch_svg_text(svg, class, (struct launch_svg_at){x, y}, 0, line);
}

/* --- axes --- */

static void draw_rates(struct buf *svg, const struct panel *panel)
{
    const int ticks = (int)lround(panel->rate_max / panel->rate_step);
    const int decimals = panel->rate_step < 1 ? (int)ceil(-log10(panel->rate_step) - 1e-9) : 0;

    for (int i = 0; i <= ticks; i++) {
        const double rate = i * panel->rate_step, y = place(panel, 0, rate).y;

        launch_svg_line(svg, i == 0 ? "axis" : "grid", (struct launch_svg_at){panel->left, y},
                        (struct launch_svg_at){panel->right, y});
        text(svg, "end", panel->left - 6, y + 4, "%.*f", decimals, rate);
    }
    launch_svg_line(svg, "axis", (struct launch_svg_at){panel->left, TOP},
                    (struct launch_svg_at){panel->left, BOTTOM});
}

/* A tick where something was measured; a number where there is room. */
static void draw_counts(struct buf *svg, const struct panel *panel)
{
    const struct launch_bench_options *const o = panel->report->options;
    const double last = place(panel, o->counts[o->count_count - 1], 0).x;
    double before = -1000;

    for (int i = 0; i < o->count_count; i++) {
        const double x = place(panel, o->counts[i], 0).x;
        const bool room = x - before >= TICK_GAP && (last - x >= TICK_GAP || x == last);

        launch_svg_line(svg, "axis", (struct launch_svg_at){x, BOTTOM},
                        (struct launch_svg_at){x, BOTTOM + 5});
        if (!room)
            continue;
        text(svg, "middle", x, BOTTOM + 18, "%d", o->counts[i]);
        before = x;
    }
    text(svg, "middle", (panel->left + panel->right) / 2, BOTTOM + 36, "%s",
         o->by_hosts ? "hosts" : "ranks of this host");
}

/* --- what was measured --- */

static struct launch_svg_at place_way(const struct panel *panel, enum launch_bench_way way,
                                      int count, double rate)
{
    struct launch_svg_at at = place(panel, count, rate);

    at.x += way == LAUNCH_BENCH_SIDE_BY_SIDE ? ASIDE : 0;
    return at;
}

static void draw_range(struct buf *svg, const struct panel *panel, enum launch_bench_way way,
                       int count, const struct launch_bench_spread *rates)
{
    static const char *const range_class[] = {"together", "range"};
    const double half = 4;
    const struct launch_svg_at low = place_way(panel, way, count, rates->min),
                               high = place_way(panel, way, count, rates->max);

    launch_svg_line(svg, range_class[way], low, high);
    launch_svg_line(svg, range_class[way], (struct launch_svg_at){low.x - half, low.y},
                    (struct launch_svg_at){low.x + half, low.y});
    launch_svg_line(svg, range_class[way], (struct launch_svg_at){high.x - half, high.y},
                    (struct launch_svg_at){high.x + half, high.y});
}

static void draw_point(struct buf *svg, const struct panel *panel, enum launch_bench_way way,
                       int count, const struct launch_bench_spread *rates)
{
    const bool together = way == LAUNCH_BENCH_TOGETHER;
    const struct launch_svg_at at = place_way(panel, way, count, rates->median);
    char shown[160];

    snprintf(shown, sizeof shown, "%d %s%s%s: %.4g images/s (%.4g to %.4g)", count,
             panel->report->options->by_hosts ? "host" : "rank", count == 1 ? "" : "s",
             together ? "" : " side by side", rates->median, rates->min, rates->max);
    launch_svg_group(svg, shown);
    draw_range(svg, panel, way, count, rates);
    if (together)
        launch_svg_circle(svg, "disc", at, 4);
    else
        launch_svg_square(svg, "box", at, 4);
    launch_svg_group_end(svg);
}

static void draw_series(struct buf *svg, const struct panel *panel, enum launch_bench_way way)
{
    const struct launch_bench_report *const report = panel->report;
    struct launch_svg_at path[LAUNCH_BENCH_COUNTS_MAX] = {0};
    struct launch_bench_spread rates[LAUNCH_BENCH_COUNTS_MAX];
    int counts[LAUNCH_BENCH_COUNTS_MAX];
    size_t points = 0;

    for (size_t i = 0; i < report->count; i++) {
        const struct launch_bench_point *const point = &report->points[i];
        struct launch_bench_summary s;

        if (point->mode != panel->mode)
            continue;
        s = summary_of(report, point);
        counts[points] = count_of(report, point);
        rates[points] = way == LAUNCH_BENCH_TOGETHER ? s.images_per_s : s.side_by_side;
        path[points] = place_way(panel, way, counts[points], rates[points].median);
        points++;
    }
    launch_svg_path(svg, way == LAUNCH_BENCH_TOGETHER ? "together" : "beside", path, points);
    for (size_t i = 0; i < points; i++)
        draw_point(svg, panel, way, counts[i], &rates[i]);
}

/* Right of the points and below: the lines go up from there. */
static void draw_efficiencies(struct buf *svg, const struct panel *panel)
{
    const struct launch_bench_report *const report = panel->report;
    double before = -1000;

    for (size_t i = 0; i < report->count; i++) {
        const struct launch_bench_point *const point = &report->points[i];
        const struct launch_bench_summary s = summary_of(report, point);
        const struct launch_svg_at at = place(panel, count_of(report, point), s.images_per_s.min);

        if (point->mode != panel->mode || point == launch_bench_baseline(report, point) ||
            at.x - before < LABEL_GAP || at.y + LABEL_BELOW > BOTTOM - 2)
            continue;
        text(svg, "efficiency", at.x + ASIDE, at.y + LABEL_BELOW, "%.1f %%",
             100 * s.efficiency.median);
        before = at.x;
    }
}

static void draw_panel(struct buf *svg, const struct panel *panel)
{
    const struct launch_bench_report *const report = panel->report;
    const struct launch_bench_options *const o = report->options;
    const struct launch_bench_point *first = report->points;

    while (first->mode != panel->mode)
        first++;
    if (panel->mode == LAUNCH_BENCH_WEAK)
        text(svg, "panel", panel->left, TOP - 12, "weak: %d images of a step on each rank",
             o->batch_per_rank);
    else
        text(svg, "panel", panel->left, TOP - 12, "strong: %d images of a step on all ranks",
             o->global_batch);
    draw_rates(svg, panel);
    draw_counts(svg, panel);
    launch_svg_line(svg, "ideal", place(panel, 0, 0),
                    place(panel, panel->count_max, ideal_of(report, first) * panel->count_max));
    draw_series(svg, panel, LAUNCH_BENCH_SIDE_BY_SIDE);
    draw_series(svg, panel, LAUNCH_BENCH_TOGETHER);
    draw_efficiencies(svg, panel);
}

/* --- around it --- */

static void draw_head(struct buf *svg, const struct launch_bench_report *report)
{
    const struct launch_bench_options *const o = report->options;
    char ranks[40] = "";

    text(svg, "title", LEFT, 26, "%s, %d x %d pixels: images/s by %s", o->model, report->image_size,
         report->image_size, o->by_hosts ? "hosts" : "ranks");
    if (o->by_hosts && o->ranks_per_host > 1)
        snprintf(ranks, sizeof ranks, "%d ranks a host, ", o->ranks_per_host);
    text(svg, "small", LEFT, 46,
         "%s%d thread%s a rank, micro-batches of %d; median and range of %d round%s of %d step%s",
         ranks, report->threads, report->threads == 1 ? "" : "s", o->micro_batch, o->rounds,
         o->rounds == 1 ? "" : "s", o->steps, o->steps == 1 ? "" : "s");
    text(svg, "small", LEFT, 61, "pictures %s%s", o->data != NULL ? "of " : "made up in memory",
         o->data != NULL ? o->data : "");
}

static void draw_legend(struct buf *svg, const struct launch_bench_report *report)
{
    static const double places[] = {LEFT, LEFT + 276, LEFT + 490};
    struct launch_svg_at sample[3][3]; /* a line's ends and its middle */

    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 3; k++)
            sample[i][k] = (struct launch_svg_at){places[i] + (double)k * 18, LEGEND_Y};
    launch_svg_path(svg, "together", sample[0], 3);
    launch_svg_circle(svg, "disc", sample[0][1], 4);
    text(svg, "legend", sample[0][2].x + 8, LEGEND_Y + 4, "with the exchange, and its efficiency");
    launch_svg_path(svg, "beside", sample[1], 3);
    launch_svg_square(svg, "box", sample[1][1], 4);
    text(svg, "legend", sample[1][2].x + 8, LEGEND_Y + 4, "side by side, no exchange");
    launch_svg_line(svg, "ideal", sample[2][0], sample[2][2]);
    text(svg, "legend", sample[2][2].x + 8, LEGEND_Y + 4, "ideal: N times one %s",
         report->options->by_hosts ? "host" : "rank");
}

static void draw_machine(struct buf *svg, const struct launch_bench_report *report)
{
    const struct launch_machine *const m = report->machine;

    text(svg, "small", LEFT, LEGEND_Y + 28, "%s: %s, %d core%s", m->host, m->cpu, m->cores,
         m->cores == 1 ? "" : "s");
    text(svg, "small", LEFT, LEGEND_Y + 43, "%s, convoy %s, %s, load %.1f", m->kernel,
         report->version, report->time, m->load);
}

/* What has to have room: the highest of all ranges and of the ideal's ends. */
static double highest(const struct launch_bench_report *report, double count_max)
{
    double most = 0;

    for (size_t i = 0; i < report->count; i++) {
        const struct launch_bench_summary s = summary_of(report, &report->points[i]);

        most = fmax(most, ideal_of(report, &report->points[i]) * count_max);
        most = fmax(most, fmax(s.images_per_s.max, s.side_by_side.max));
    }
    return most;
}

void launch_bench_plot_draw(const struct launch_bench_report *report, struct buf *svg)
{
    const struct launch_bench_options *const o = report->options;
    const bool both = o->weak && o->strong;
    const double count_max = o->counts[o->count_count - 1], most = highest(report, count_max),
                 step = launch_bench_plot_step(most);
    struct panel panel = {.report = report,
                          .mode = o->weak ? LAUNCH_BENCH_WEAK : LAUNCH_BENCH_STRONG,
                          .left = LEFT,
                          .right = both ? (LEFT + RIGHT - GAP) / 2 : RIGHT,
                          .count_max = count_max,
                          .rate_max = ceil(most / step) * step,
                          .rate_step = step};

    launch_svg_open(svg, WIDTH, HEIGHT, "convoy bench scaling: images per second", style);
    draw_head(svg, report);
    launch_svg_text(svg, "middle", (struct launch_svg_at){16, (TOP + BOTTOM) / 2}, -90, "images/s");
    draw_panel(svg, &panel);
    if (both) {
        panel.mode = LAUNCH_BENCH_STRONG;
        panel.left = panel.right + GAP;
        panel.right = RIGHT;
        draw_panel(svg, &panel);
    }
    draw_legend(svg, report);
    draw_machine(svg, report);
    launch_svg_close(svg);
}

/* --- the file --- */

/* "plots/x.svg" to "plots", "x.svg" to ".", "/x.svg" to "/". Heap. */
static char *folder_of(const char *path)
{
    const char *const slash = strrchr(path, '/');
    char *const folder = slash == NULL   ? strdup(".")
                         : slash == path ? strdup("/")
                                         : strndup(path, (size_t)(slash - path));

    if (folder == NULL)
        abort();
    return folder;
}

int launch_bench_plot_check(const char *path, struct err *err)
{
    char *folder;
    int rc = 0;

    if (path == NULL)
        return 0;
    folder = folder_of(path);
    if (file_is_folder(path))
        rc = err_set(err, ERR_USAGE, "--svg: '%s' is a folder", path);
    else if (!file_is_folder(folder))
        rc = err_set(err, ERR_USAGE, "--svg: there is no folder '%s'", folder);
    else if (file_check_writable(folder, err) < 0) {
        err->code = ERR_USAGE;
        rc = err_wrap(err, "--svg");
    }
    free(folder);
    return rc;
}

int launch_bench_plot_write(const struct launch_bench_report *report, const char *path,
                            struct err *err)
{
    struct buf svg = {0};
    int rc;

    launch_bench_plot_draw(report, &svg);
    rc = file_replace(path, svg.data, svg.bytes, err);
    buf_release(&svg);
    return rc < 0 ? err_wrap(err, "--svg") : 0;
}
