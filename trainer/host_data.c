/* trainer/host_data.c -- --host-data: pictures of which each host has its own share. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "comm/comm.h"
#include "trainer/data/set/join.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/webdataset.h"
#include "trainer/run.h"
#include "trainer/stop.h"

/* The first rank of a host, which lists what is there. */
static int first_of(const struct comm *comm, int host)
{
    int rank = 0;

    while (comm->host_of[rank] != host)
        rank++;
    return rank;
}

/* One host's index for all ranks. */
static int share_part(struct train_run *run, int host, struct data_index *part, struct err *err)
{
    const int root = first_of(run->comm, host);
    const bool own = run->comm->rank == root;
    struct buf bytes = {0};
    uint64_t length = 0;
    int rc = -1;

    if (own)
        data_index_encode(part, &bytes);
    length = bytes.bytes;
    if (comm_broadcast(run->comm, &length, sizeof length, root, err) < 0 ||
        (!own && buf_reserve(&bytes, length, err) < 0) ||
        comm_broadcast(run->comm, bytes.data, length, root, err) < 0)
        goto out;
    rc = own ? 0 : data_index_decode(part, bytes.data, length, err);
out:
    buf_release(&bytes);
    return rc;
}

static int join(struct train_run *run, struct data_index *index, const char *root,
                const struct data_index *parts, const struct data_index *bound, struct err *err)
{
    const int count = run->comm->hosts;
    const char **const hosts = calloc((size_t)count, sizeof *hosts);
    int rc;

    if (hosts == NULL)
        abort();
    for (int host = 0; host < count; host++)
        hosts[host] = comm_host_name(run->comm, first_of(run->comm, host));
    rc = data_join(index, root, parts, hosts, (size_t)count,
                   bound == NULL ? NULL : bound->class_names, bound == NULL ? 0 : bound->classes,
                   err);
    free(hosts);
    if (rc < 0)
        run->agreed = err->code == ERR_INPUT; /* all ranks join the same parts */
    return rc;
}

/* What each host has of it. */
static int open_parts(struct train_run *run, const char *root, struct data_index *parts,
                      struct err *err)
{
    struct comm *const comm = run->comm;
    const bool first = comm->local_rank == 0;
    struct data_index *const own = &parts[comm->host_of[comm->rank]];
    const int rc = first ? data_join_open(own, root, &train_stop_asked, err) : 0;
    int64_t failed = rc < 0;

    if (comm_sum_integers(comm, &failed, 1, err) < 0)
        return -1;
    if (failed > 0)
        return train_share_failure(run, rc, err);
    if (first)
        log_debug("'%s': %zu pictures of %d classes are here", root, own->count, own->classes);
    for (int host = 0; host < comm->hosts; host++)
        if (share_part(run, host, &parts[host], err) < 0)
            return -1;
    return 0;
}

static int open_joined(struct train_run *run, const char *root, const struct data_index *bound,
                       struct data_index *index, struct err *err)
{
    const size_t count = (size_t)run->comm->hosts;
    struct data_index *const parts = calloc(count, sizeof *parts);
    int rc = -1;

    if (parts == NULL)
        abort();
    if (open_parts(run, root, parts, err) == 0)
        rc = join(run, index, root, parts, bound, err);
    for (size_t i = 0; i < count; i++)
        data_index_release(&parts[i]);
    free(parts);
    return rc;
}

/* Pictures that every host has: rank 0 lists them, as it does for all without --host-data. */
static int open_shared(struct train_run *run, const char *root, const struct data_index *bound,
                       struct data_index *index, struct err *err)
{
    struct buf bytes = {0};
    int rc = run->comm->rank == 0 ? data_index_open(index, root, bound->class_names, bound->classes,
                                                    &train_stop_asked, err)
                                  : 0;

    if (train_share_outcome(run, rc, err) < 0)
        return -1;
    if (run->comm->rank == 0)
        data_index_encode(index, &bytes);
    rc = train_share_bytes(run, &bytes, err);
    if (rc == 0 && run->comm->rank != 0)
        rc = data_index_decode(index, bytes.data, bytes.bytes, err);
    buf_release(&bytes);
    return rc;
}

static int check(struct train_run *run, const struct data_index *index, struct err *err)
{
    if (train_dataset_tell(index, run->options->stop_at_bad, err) < 0)
        return -1;
    return index == &run->dataset.train ? train_dataset_check(index, run->options, err) : 0;
}

static void tell_part(const struct train_run *run, const struct data_index *index, size_t part,
                      const char *what)
{
    const char *const host = comm_host_name(run->comm, first_of(run->comm, (int)part));

    if (index->parts[part].count == 0)
        log_warn("%s: host '%s' has none of the %zu pictures in '%s'", what, host, index->count,
                 index->root);
    else
        log_info("%s: %zu of %zu pictures are on host '%s' in '%s'", what, index->parts[part].count,
                 index->count, host, index->root);
}

static void tell(const struct train_run *run, const struct data_index *index, const char *what)
{
    if (run->comm->rank != 0)
        return;
    if (index->parts == NULL)
        log_info("%s: %zu pictures of %d classes in '%s'", what, index->count, index->classes,
                 index->root);
    for (size_t p = 0; p < index->part_count; p++)
        tell_part(run, index, p, what);
}

static int open_one(struct train_run *run, unsigned which, const char *root,
                    struct data_index *index, struct err *err)
{
    const struct data_index *const bound =
        index == &run->dataset.train ? NULL : &run->dataset.train;
    const bool apart = (run->options->host_data & which) != 0;

    if ((apart ? open_joined(run, root, bound, index, err)
               : open_shared(run, root, bound, index, err)) < 0)
        return -1;
    return train_share_outcome(run, run->comm->rank == 0 ? check(run, index, err) : 0, err);
}

static int open_validation(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;
    struct train_dataset *const d = &run->dataset;

    if (o->val_split > 0) {
        if (train_dataset_split(d, o->val_split, err) < 0) {
            run->agreed = true; /* every rank splits the same */
            return -1;
        }
    } else if (o->val != NULL) {
        if (open_one(run, TRAIN_HOST_VAL, o->val, &d->val, err) < 0)
            return -1;
        d->has_val = true;
    } else if (run->comm->rank == 0) {
        log_warn("no validation pictures: nothing is scored; give --val DIR or --val-split 0.1");
    }
    return 0;
}

int train_host_data_open(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;
    struct train_dataset *const d = &run->dataset;

    memset(d, 0, sizeof *d);
    data_webdataset_keep(o->cache);
    if (open_one(run, TRAIN_HOST_TRAIN, o->train != NULL ? o->train : o->data, &d->train, err) <
            0 ||
        open_validation(run, err) < 0)
        return -1;
    tell(run, &d->train, "training");
    if (d->has_val)
        tell(run, &d->val, "validation");
    if (o->test == NULL)
        return 0;
    if (open_one(run, TRAIN_HOST_TEST, o->test, &d->test, err) < 0)
        return -1;
    d->has_test = true;
    tell(run, &d->test, "test");
    return 0;
}

/* Of each host: the lanes of its ranks. */
static uint32_t *lanes_of_hosts(const struct train_run *run)
{
    const struct comm *const comm = run->comm;
    uint32_t *const lanes = calloc((size_t)comm->hosts, sizeof *lanes);

    if (lanes == NULL)
        abort();
    for (int rank = 0; rank < comm->size; rank++) {
        const struct comm_leaves own =
            comm_tree_share((uint32_t)run->options->lanes, rank, comm->size);

        lanes[comm->host_of[rank]] += own.end - own.begin;
    }
    return lanes;
}

void train_host_data_lanes(const struct train_run *run, struct buf *text)
{
    uint32_t *lanes;

    if (run->dataset.train.parts == NULL)
        return;
    lanes = lanes_of_hosts(run);
    for (int host = 0; host < run->comm->hosts; host++)
        buf_printf(text, "%s%" PRIu32, host > 0 ? "," : "", lanes[host]);
    free(lanes);
}

int train_host_data_parts(struct train_run *run, struct err *err)
{
    const struct comm *const comm = run->comm;
    const struct data_index *const index = &run->dataset.train;
    uint32_t *lanes, lane = 0;

    if (index->parts == NULL)
        return 0;
    lanes = lanes_of_hosts(run);
    run->parts = calloc((size_t)comm->hosts, sizeof *run->parts);
    if (run->parts == NULL)
        abort();
    for (int host = 0; host < comm->hosts; host++) {
        run->parts[host] = (struct data_order_part){.sample_begin = index->parts[host].begin,
                                                    .samples = index->parts[host].count,
                                                    .lane_begin = lane,
                                                    .lanes = lanes[host]};
        lane += lanes[host];
    }
    free(lanes);
    run->order.parts = run->parts;
    run->order.part_count = (uint32_t)comm->hosts;
    for (int host = 0; host < comm->hosts; host++)
        if (run->parts[host].samples > 0 && run->parts[host].lanes == 0) {
            run->agreed = true; /* every rank finds the same */
            return err_set(err, ERR_USAGE,
                           "host '%s' has %" PRIu64 " pictures of its own, and none of the %d "
                           "micro-batches of a step: start fewer ranks",
                           comm_host_name(comm, first_of(comm, host)), run->parts[host].samples,
                           run->options->lanes);
        }
    return 0;
}
