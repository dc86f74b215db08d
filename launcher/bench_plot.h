/*
 * launcher/bench_plot.h -- the results of `convoy bench scaling` as a plot (SVG): images/s by hosts
 * or ranks, with the exchange and side by side, medians and ranges, and the ideal line through the
 * first point. Weak and strong stand beside each other with one scale, from 0.
 */
#ifndef LAUNCH_BENCH_PLOT_H
#define LAUNCH_BENCH_PLOT_H

struct buf;
struct err;
struct launch_bench_report;

/** Before anything is measured: can the file be written? ERR_USAGE. NULL is no file. */
int launch_bench_plot_check(const char *path, struct err *err);

/** Replace the file, whole or not at all. ERR_IO. */
int launch_bench_plot_write(const struct launch_bench_report *report, const char *path,
                            struct err *err);

/** What it writes. */
void launch_bench_plot_draw(const struct launch_bench_report *report, struct buf *svg);

/** The distance of ticks, 1, 2 or 5 times a power of ten, that gives four to ten of them up to max
 * (> 0). */
double launch_bench_plot_step(double max);

#endif
