/* trainer/share.c -- what all ranks are to know alike, outside of steps. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "trainer/run.h"

int train_share_outcome(struct train_run *run, int rc, struct err *err)
{
    struct {
        struct err err;
        int rc;
    } outcome;

    memset(&outcome, 0, sizeof outcome);
    outcome.rc = rc;
    if (rc < 0)
        outcome.err = *err;
    if (comm_broadcast(run->comm, &outcome, sizeof outcome, 0, err) < 0)
        return -1;
    if (outcome.rc < 0) {
        *err = outcome.err;
        run->agreed = true;
    }
    return outcome.rc;
}

int train_share_failure(struct train_run *run, int rc, struct err *err)
{
    struct outcome {
        struct err err;
        int rc;
    } mine, *const all = calloc((size_t)run->comm->size, sizeof *all);
    int first = 0;

    if (all == NULL)
        abort();
    memset(&mine, 0, sizeof mine);
    mine.rc = rc;
    if (rc < 0)
        mine.err = *err;
    if (rc < 0 && run->comm->rank != 0) /* which prints it under its own name */
        err_wrap(&mine.err, "rank %d on %s", run->comm->rank, run->comm->host);
    if (comm_gather(run->comm, &mine, sizeof mine, all, err) == 0) {
        while (first < run->comm->size - 1 && all[first].rc >= 0)
            first++;
        *err = all[first].err;
        run->agreed = true;
    }
    free(all);
    return -1;
}

int train_share_bytes(struct train_run *run, struct buf *bytes, struct err *err)
{
    const bool first = run->comm->rank == 0;
    uint64_t length = bytes->bytes;

    if (run->comm->size == 1)
        return 0;
    if (comm_broadcast(run->comm, &length, sizeof length, 0, err) < 0 ||
        (!first && buf_reserve(bytes, length, err) < 0) ||
        comm_broadcast(run->comm, bytes->data, length, 0, err) < 0)
        return -1;
    bytes->bytes = length;
    return 0;
}

int train_share_dataset(struct train_run *run, int rc, struct err *err)
{
    const bool first = run->comm->rank == 0;
    struct buf bytes = {0};

    if (train_share_outcome(run, rc, err) < 0)
        return -1;
    if (run->comm->size == 1)
        return 0;
    if (first)
        train_dataset_encode(&run->dataset, &bytes);
    rc = train_share_bytes(run, &bytes, err);
    if (rc == 0 && !first)
        rc = train_dataset_decode(&run->dataset, bytes.data, bytes.bytes, err);
    buf_release(&bytes);
    return rc;
}

int train_share_floats(struct train_run *run, float *x, size_t count, struct err *err)
{
    return comm_broadcast(run->comm, x, count * sizeof(float), 0, err);
}

int train_share_model(struct train_run *run, struct err *err)
{
    struct nn_model *const model = run->model;

    if (train_share_floats(run, nn_model_weights(model), nn_model_weight_count(model), err) < 0)
        return -1;
    return train_share_floats(run, nn_model_running(model), nn_model_running_count(model), err);
}
