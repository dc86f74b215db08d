#include "trainer/audit.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/entropy.h"
#include "base/err.h"
#include "base/log.h"
#include "trainer/data/stream/stream.h"
#include "trainer/feature_cache.h"
#include "trainer/run.h"

/* What rank 0 says of this launch. */
struct launch {
    unsigned char id[AUDIT_LAUNCH_BYTES];
    uint64_t started_us;
};

/* What became of all ranks' files. */
static int agree(struct train_run *run, int rc, struct err *err)
{
    int64_t failed = rc < 0;

    if (comm_sum_integers(run->comm, &failed, 1, err) < 0)
        return -1;
    return failed > 0 ? train_share_failure(run, rc, err) : 0;
}

static int open_log(struct train_run *run, struct audit_begin *begin, struct err *err)
{
    struct train_audit *const audit = &run->audit;

    audit->on = true;
    audit->log.fd = -1;
    audit->bad = calloc((size_t)run->options->micro_batch, sizeof *audit->bad);
    if (audit->bad == NULL)
        abort();
    memcpy(begin->fingerprint, run->dataset.train.fingerprint, sizeof begin->fingerprint);
    if (audit_log_open(&audit->log, run->options->audit, begin, err) < 0)
        return err_wrap(err, "--audit");
    return 0;
}

int train_audit_begin(struct train_run *run, struct err *err)
{
    struct audit_begin begin = {.rank = (uint32_t)run->comm->rank,
                                .ranks = (uint32_t)run->comm->size,
                                .generation = (uint32_t)run->position.generation,
                                .resumed_step = run->position.step,
                                .order = run->order};
    struct launch launch = {.started_us = (uint64_t)(clock_wall_s() * 1e6)};

    entropy_fill(launch.id, sizeof launch.id);
    if (comm_broadcast(run->comm, &launch, sizeof launch, 0, err) < 0)
        return -1;
    memcpy(begin.parent, run->position.launch, sizeof begin.parent);
    memcpy(begin.launch, launch.id, sizeof begin.launch);
    begin.started_us = launch.started_us;
    memcpy(run->position.launch, launch.id, sizeof launch.id);
    return run->options->audit == NULL ? 0 : agree(run, open_log(run, &begin, err), err);
}

void train_audit_step(struct train_run *run)
{
    const struct train_position *const p = &run->position;

    if (run->audit.on)
        audit_log_step(&run->audit.log, p->epoch, p->epoch_step, p->step + 1);
}

void train_audit_lane(struct train_run *run, uint32_t lane, const struct data_batch *batch)
{
    struct train_audit *const audit = &run->audit;
    const uint64_t *samples;
    uint32_t trained, left_out;

    if (!audit->on)
        return;
    if (run->feature_cache != NULL) {
        samples = train_feature_cache_samples(run->feature_cache, &trained, &left_out);
        audit_log_lane(&audit->log, lane, samples, trained, samples + trained, left_out);
        return;
    }
    for (int i = 0; i < batch->bad_count; i++)
        audit->bad[i] = batch->bad[i].sample;
    audit_log_lane(&audit->log, lane, batch->samples, (uint32_t)batch->n, audit->bad,
                   (uint32_t)batch->bad_count);
}

int train_audit_write(struct train_run *run, struct err *err)
{
    return run->audit.on ? audit_log_write(&run->audit.log, err) : 0;
}

int train_audit_finish(struct train_run *run, struct err *err)
{
    const struct audit_end end = {.how = AUDIT_FINISHED, .step = run->position.step};

    if (!run->audit.on)
        return 0;
    return agree(run, audit_log_end(&run->audit.log, &end, err), err);
}

void train_audit_close(struct train_run *run, const struct err *why)
{
    const struct audit_end end = {.how = why->code == ERR_STOPPED ? AUDIT_STOPPED : AUDIT_FAILED,
                                  .step = run->position.step};
    struct err err = {0};

    if (run->audit.on && run->audit.log.fd >= 0 && run->exchange != NULL &&
        audit_log_end(&run->audit.log, &end, &err) < 0)
        log_warn("%s", err.msg);
}

void train_audit_release(struct train_run *run)
{
    if (run->audit.on)
        audit_log_release(&run->audit.log);
    free(run->audit.bad);
    run->audit = (struct train_audit){0};
}
