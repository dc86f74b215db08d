#include "trainer/noted.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "trainer/data/stream/stream.h"
#include "trainer/run.h"

/* quote: stands on both sides of a name that has none. */
static void note(struct train_noted *noted, uint64_t count, const char *quote, const char *first)
{
    if (noted->count == 0)
        snprintf(noted->first, sizeof noted->first, "%s%s%s", quote, first, quote);
    noted->count += (int64_t)count;
}

void train_note_odd(struct train_run *run, struct data_stream *stream)
{
    struct data_stream_stats stats = {0};

    if (stream == NULL)
        return;
    data_stream_stats(stream, &stats);
    note(&run->truncated, stats.truncated, "'", stats.truncated_first);
    note(&run->left_out, stats.left_out, "", stats.left_out_first);
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
