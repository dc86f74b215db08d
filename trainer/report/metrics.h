/*
 * trainer/report/metrics.h -- metrics.jsonl: what happened, one JSON object a line.
 *
 * Every object has "event" (run, generation, step, epoch, eval, checkpoint, end) and "time"
 * (seconds since 1970). The file is appended to, so a resumed run goes on in it; a line is one
 * write.
 */
#ifndef REPORT_METRICS_H
#define REPORT_METRICS_H

#include <jansson.h>

struct err;

struct report_metrics {
    int fd; /* -1: closed; then writing does nothing */
};

/** Open FOLDER/metrics.jsonl for appending; makes the folder. ERR_IO. */
int report_metrics_open(struct report_metrics *metrics, const char *folder, struct err *err);
/** Accepts one that is closed. */
void report_metrics_close(struct report_metrics *metrics);

/** Write one event with the members of `fields` (may be NULL), which is released. A write that
 * fails is warned about, once. */
void report_metrics_write(struct report_metrics *metrics, const char *event, json_t *fields);

#endif
