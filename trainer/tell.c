/* trainer/tell.c -- what an evaluation found, class by class: tables in the report's folder, and
 * the classes known least on stderr; and
 * what was odd about pictures. */
#include "trainer/run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "trainer/report/tables.h"
#include "trainer/tally.h"

int train_tell_classes(struct train_run *run, struct train_tally *tally, const char *split,
                       struct err *err)
{
    struct report_tables tables;
    struct buf folder = {0};
    struct err failure = {0};

    if (train_tally_sum(tally, run->comm, err) < 0)
        return -1;
    if (run->comm->rank != 0)
        return 0;
    tables = train_tally_tables(tally, run->dataset.train.class_names);
    buf_printf(&folder, "%s/%s", run->options->report, split);
    if (report_tables_write(&tables, buf_text(&folder), &failure) < 0)
        log_warn("%s", failure.msg);
    buf_release(&folder);
    buf_release(&run->worst);
    report_tables_worst(&tables, TRAIN_WORST_LINES, &run->worst);
    return 0;
}

void train_tell_worst(struct train_run *run, const char *heading)
{
    char *rest = NULL;

    if (run->worst.bytes > 0)
        log_info("%s, the classes known least:", heading);
    for (const char *line = strtok_r(buf_text(&run->worst), "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        log_info("  %s", line);
    buf_release(&run->worst);
}

/* Every rank notes the odd pictures it met; rank 0 tells the sum. Collective. */
static int tell_noted(struct train_run *run, const struct train_noted *mine, const char *what,
                      int64_t *count, struct err *err)
{
    struct train_noted *const all = calloc((size_t)run->comm->size, sizeof *all);
    const char *first = NULL;
    int rc = 0;

    if (all == NULL)
        abort();
    rc = comm_gather(run->comm, mine, sizeof *mine, all, err);
    for (int r = 0; r < run->comm->size; r++) {
        first = first == NULL && all[r].count > 0 ? all[r].first : first;
        *count += all[r].count;
    }
    if (rc == 0 && first != NULL && run->comm->rank == 0)
        log_warn("%" PRId64 " times a picture %s; the first is %s", *count, what, first);
    free(all);
    return rc;
}

int train_tell_odd(struct train_run *run, int64_t *truncated, int64_t *left_out, struct err *err)
{
    if (tell_noted(run, &run->truncated, "was cut short and decoded as far as it goes", truncated,
                   err) < 0)
        return -1;
    return tell_noted(run, &run->left_out, "could not be decoded and was left out", left_out, err);
}
