/*
 * trainer/report/progress.h -- how far a run is, for the person who watches: a bar on a terminal,
 * else a line now and then.
 */
#ifndef REPORT_PROGRESS_H
#define REPORT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct report_progress {
    bool quiet;     /* another rank speaks */
    double begun_s; /* when this generation began to train */
    uint64_t begun_images;
    double shown_s; /* when something was shown last */
};

/* Where a run stands. */
struct report_place {
    const char *what;          /* "training", "validating", "testing" */
    int epoch, epochs;         /* the epoch in work, from 0; of how many */
    uint64_t done, of;         /* images of this pass */
    uint64_t all_done, all_of; /* images of the whole training; 0: unknown */
    bool scored;               /* whether there are: */
    double loss, accuracy;     /* so far in this pass */
};

/** Begin to measure at `images` done. quiet: say nothing ever (ranks other than 0). */
void report_progress_init(struct report_progress *progress, bool quiet, uint64_t images);

/** Show where the run is: a terminal gets a bar (log_bar), a file a line at most every
 * REPORT_PROGRESS_LINE_S. Cheap to call each step. */
void report_progress_show(struct report_progress *progress, const struct report_place *place);
#define REPORT_PROGRESS_LINE_S 10

/** Images per second since init. */
double report_progress_speed(const struct report_progress *progress, uint64_t images);

/** Take the bar away. */
void report_progress_end(struct report_progress *progress);

#endif
