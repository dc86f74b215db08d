#include "trainer/report/progress.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

void report_progress_init(struct report_progress *progress, bool quiet, uint64_t images)
{
    progress->quiet = quiet;
    progress->begun_s = progress->shown_s = clock_now_s();
    progress->begun_images = images;
}

double report_progress_speed(const struct report_progress *progress, uint64_t images)
{
    const double seconds = clock_now_s() - progress->begun_s;

    return seconds > 0 && images > progress->begun_images
               ? (double)(images - progress->begun_images) / seconds
               : 0;
}

/* "1:02:03", "2:03" */
static void format_time(double seconds, char *text, size_t bytes)
{
    const long s = seconds < 360000 ? (long)seconds : 360000;

    if (s >= 3600)
        snprintf(text, bytes, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, bytes, "%ld:%02ld", s / 60, s % 60);
}

/* ": loss 1.2345  ...", or nothing. */
static void format_facts(const struct report_progress *progress, const struct report_place *place,
                         char *text, size_t bytes)
{
    const double speed = report_progress_speed(progress, place->all_done);
    char left[32] = "?";
    int n = 0;

    *text = '\0';
    if (place->scored)
        n = snprintf(text, bytes, ": loss %.4f  accuracy %.1f %%", place->loss,
                     100 * place->accuracy);
    if (place->all_of > 0 && speed > 0 && n > 0 && (size_t)n < bytes) {
        format_time((double)(place->all_of - place->all_done) / speed, left, sizeof left);
        snprintf(text + n, bytes - (size_t)n, "  %.1f images/s  %s left", speed, left);
    }
}

static void draw_bar(const struct report_place *place, double share, const char *facts, int columns)
{
    enum { CELLS = 24 };
    char cells[CELLS + 1], text[512];
    const int full = (int)(share * CELLS);

    memset(cells, '.', CELLS);
    memset(cells, '=', (size_t)(full < CELLS ? full : CELLS));
    cells[CELLS] = '\0';
    snprintf(text, sizeof text, "%s %d/%d [%s] %3.0f %%%s", place->what, place->epoch + 1,
             place->epochs, cells, 100 * share, facts);
    if (columns > 0 && columns < (int)sizeof text)
        text[columns - 1] = '\0';
    log_bar(text);
}

void report_progress_show(struct report_progress *progress, const struct report_place *place)
{
    const double share = place->of > 0 ? (double)place->done / (double)place->of : 0,
                 now = clock_now_s();
    const int columns = log_bar_width();
    char facts[256];

    if (progress->quiet || now - progress->shown_s < (columns > 0 ? 0.1 : REPORT_PROGRESS_LINE_S))
        return;
    progress->shown_s = now;
    format_facts(progress, place, facts, sizeof facts);
    if (columns > 0)
        draw_bar(place, share, facts, columns);
    else
        log_info("%s, epoch %d of %d, %.0f %%%s", place->what, place->epoch + 1, place->epochs,
                 100 * share, facts);
}

void report_progress_end(struct report_progress *progress)
{
    if (!progress->quiet && log_bar_width() > 0)
        log_bar("");
}
