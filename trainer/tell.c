/* trainer/tell.c -- scores as the report wants them; what an evaluation found, class by class:
 * tables in the report's folder, and the classes known least on stderr; and which rank is slow. */
#include "trainer/run.h"

#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "comm/exchange.h"
#include "trainer/report/tables.h"
#include "trainer/straggler.h"
#include "trainer/tally.h"

struct report_sum train_report_sum(const struct nn_score *score)
{
    const int64_t finite = score->images - score->nonfinite;

    return (struct report_sum){
        .images = score->images,
        .correct = score->correct,
        .correct5 = score->correct5,
        .loss = finite > 0 ? (double)score->loss / NN_LOSS_UNIT / (double)finite : 0};
}

struct report_sum train_report_epoch(const struct train_position *p)
{
    struct report_sum sum = train_report_sum(&p->epoch_score);

    if (sum.images > 0)
        sum.loss = (double)p->epoch_score.loss / NN_LOSS_UNIT / p->epoch_weight;
    return sum;
}

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
    comm_exchange_elsewhere(run->exchange, true);
    if (report_tables_write(&tables, buf_text(&folder), &failure) < 0)
        log_warn("%s", failure.msg);
    comm_exchange_elsewhere(run->exchange, false);
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

json_t *train_straggler_json(const struct train_run *run, const double *busy_s)
{
    struct train_straggler slowest;

    if (run->comm->size == 1)
        return NULL;
    slowest = train_straggler_of(busy_s, run->comm->size);
    return json_pack("{s:s, s:i, s:f, s:f}", "host", comm_host_name(run->comm, slowest.rank),
                     "rank", slowest.rank, "busy_s", slowest.busy_s, "over_s", slowest.over_s);
}
