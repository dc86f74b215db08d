#include "trainer/bench_comm.h"

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "comm/allreduce.h"
#include "comm/comm.h"
#include "comm/exchange.h"
#include "trainer/host_memory.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/run.h"
#include "trainer/stop.h"
#include "trainer/vector_sizes.h"

#define NAME_CHARS   80
#define BF16_OFF     0x1p-6f /* two roundings to 8 bits */
#define DEADLINE_S   60      /* of a sum by the exchange; MPI_Allreduce has none */
#define IN_A_ROW_S   0.1     /* ranks leave a barrier up to 0.3 ms apart: little beside this */
#define SUMS_MAX     1000
#define HOPELESS_S   0.5
#define HOPELESS     3 /* times the best forced algorithm's */
/* Vectors that MPI_Allreduce may take besides the caller's. */
#define MPI_VECTORS  2
/* Ways: ours, then those of comm/allreduce.h, whose first forces nothing. */
#define EXCHANGE     0
#define FIRST_FORCED 2

/* What a vector holds before it is summed. */
enum filling { AS_IT_IS, NUMBERS, ZEROS };

/* Of one sum; the most of all ranks. */
struct figures {
    double seconds, cpu_s, exchange_cpu_s;
};

struct bench {
    struct train_run run; /* what train_prepare_evaluation works on, no more */
    struct comm *comm;
    struct train_vector_sizes sizes;
    struct comm_exchange *exchange[TRAIN_VECTOR_SIZES_MAX];
    struct comm_allreduce *allreduce;
    float *x;               /* the largest size */
    int ways;               /* ours first */
    int *sums;              /* (sizes, ways): in a row; 0: not measured */
    unsigned char *answers; /* (ranks) */
    struct figures *all;    /* (ranks) */
};

static size_t floats_of(const struct bench *b, int size)
{
    return b->sizes.bytes[size] / sizeof(float);
}

/* --- a sum --- */

/* "convoy", "mpi-default", "mpi-segmented-ring". */
static void name_way(const struct bench *b, int way, char name[NAME_CHARS])
{
    if (way == EXCHANGE)
        snprintf(name, NAME_CHARS, "convoy");
    else
        snprintf(name, NAME_CHARS, "mpi-%s", comm_allreduce_name(b->allreduce, way - 1));
    for (char *c = name; *c != '\0'; c++)
        *c = *c == '_' ? '-' : *c;
}

/* Small integers, so that their sums are exact whatever the order. */
static float addend(int rank, size_t i)
{
    return (float)(rank % 7 + 1) * (float)(i % 97 + 1);
}

static void fill(float *x, size_t count, enum filling filling, int rank)
{
    if (filling == ZEROS)
        memset(x, 0, count * sizeof *x);
    for (size_t i = 0; filling == NUMBERS && i < count; i++)
        x[i] = addend(rank, i);
}

static int sum_by_exchange(struct bench *b, int size, enum filling filling, struct err *err)
{
    struct comm_exchange *const exchange = b->exchange[size];
    const size_t count = floats_of(b, size);
    const unsigned char answer = 0;

    if (comm_exchange_begin(exchange, (uint32_t)b->comm->size, DEADLINE_S, err) < 0)
        return -1;
    fill(comm_exchange_leaf(exchange), count, filling, b->comm->rank);
    comm_exchange_written(exchange);
    if (comm_exchange_gather(exchange, &answer, 1, b->answers, err) < 0 ||
        comm_exchange_wait(exchange, 0, count, err) < 0)
        return -1;
    return comm_exchange_settle(exchange, err);
}

static int sum(struct bench *b, int size, int way, enum filling filling, struct err *err)
{
    if (way == EXCHANGE)
        return sum_by_exchange(b, size, filling, err);
    fill(b->x, floats_of(b, size), filling, b->comm->rank);
    return comm_allreduce_sum(b->allreduce, way - 1, b->x, floats_of(b, size), err);
}

/* --- before the rounds --- */

/* Wrong elements on this rank. */
static int64_t count_wrong(const struct bench *b, int size, int way)
{
    const float *const x = way == EXCHANGE ? comm_exchange_sum(b->exchange[size]) : b->x;
    const size_t count = floats_of(b, size);
    const float off = way == EXCHANGE && b->run.options->wire == COMM_WIRE_BF16 ? BF16_OFF : 0;
    int64_t wrong = 0;
    float ranks_sum = 0;

    for (int rank = 0; rank < b->comm->size; rank++)
        ranks_sum += addend(rank, 0);
    for (size_t i = 0; i < count; i++)
        wrong += !(fabsf(x[i] - ranks_sum * addend(0, i)) <= off * x[i]); /* a NaN, too */
    return wrong;
}

/* Numbers once, checked; then zeros once: what is summed again and again in place would grow. */
static int check(struct bench *b, int size, int way, struct err *err)
{
    char name[NAME_CHARS];
    int64_t wrong = 0;

    if (sum(b, size, way, NUMBERS, err) < 0)
        return -1;
    wrong = count_wrong(b, size, way);
    if (comm_sum_integers(b->comm, &wrong, 1, err) < 0)
        return -1;
    name_way(b, way, name);
    b->run.agreed = wrong > 0;
    if (wrong > 0)
        return err_set(err, ERR_INTERNAL, "%s: %lld of %zu elements on %d ranks are wrong", name,
                       (long long)wrong, floats_of(b, size) * (size_t)b->comm->size, b->comm->size);
    return sum(b, size, way, ZEROS, err);
}

static double process_cpu_s(void)
{
    struct timespec used = {0};

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
}

/* Every rank gets the same figures: the greatest of all ranks. */
static int share(struct bench *b, struct figures *figures, struct err *err)
{
    const struct figures mine = *figures;

    if (comm_gather(b->comm, &mine, sizeof mine, b->all, err) < 0)
        return -1;
    for (int rank = 0; rank < b->comm->size; rank++) {
        figures->seconds = fmax(figures->seconds, b->all[rank].seconds);
        figures->cpu_s = fmax(figures->cpu_s, b->all[rank].cpu_s);
        figures->exchange_cpu_s = fmax(figures->exchange_cpu_s, b->all[rank].exchange_cpu_s);
    }
    return 0;
}

static int measure(struct bench *b, int size, int way, int sums, struct figures *figures,
                   struct err *err)
{
    double seconds, cpu_s, exchange_cpu_s;

    if (comm_barrier(b->comm, err) < 0)
        return -1;
    seconds = clock_now_s();
    cpu_s = process_cpu_s();
    exchange_cpu_s = comm_exchange_cpu_s(b->exchange[size]);
    for (int i = 0; i < sums; i++)
        if (sum(b, size, way, AS_IT_IS, err) < 0)
            return -1;
    *figures = (struct figures){
        .seconds = (clock_now_s() - seconds) / sums,
        .cpu_s = (process_cpu_s() - cpu_s) / sums,
        .exchange_cpu_s = (comm_exchange_cpu_s(b->exchange[size]) - exchange_cpu_s) / sums};
    return share(b, figures, err);
}

/* --- lines --- */

static int print(const struct bench *b, json_t *line, struct err *err)
{
    int rc = 0;

    if (b->comm->rank == 0 &&
        (json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) < 0 ||
         putchar('\n') == EOF || fflush(stdout) == EOF))
        rc = err_set(err, ERR_IO, "cannot write the figures to stdout");
    json_decref(line);
    return rc;
}

static int print_setting(const struct bench *b, struct err *err)
{
    const struct train_options *const o = b->run.options;
    json_t *const bytes = json_array(), *const algorithms = json_array();
    char name[NAME_CHARS];

    for (int size = 0; size < b->sizes.count; size++)
        json_array_append_new(bytes, json_integer((json_int_t)b->sizes.bytes[size]));
    for (int way = 0; way < b->ways; way++) {
        name_way(b, way, name);
        json_array_append_new(algorithms, json_string(name));
    }
    return print(b,
                 json_pack("{s:s, s:i, s:i, s:i, s:I, s:i, s:o, s:o, s:b, s:s, s:s}", "event",
                           "comm", "ranks", b->comm->size, "hosts", b->comm->hosts, "threads",
                           o->threads, "bucket_bytes", (json_int_t)o->bucket_bytes, "rounds",
                           o->bench_rounds, "bytes", bytes, "algorithms", algorithms,
                           "yield_when_idle", comm_allreduce_yields(), "numerics", nn_numerics_id(),
                           "mpi", b->comm->library),
                 err);
}

static int print_figures(const struct bench *b, int size, int way, int round, int sums,
                         const struct figures *figures, struct err *err)
{
    char name[NAME_CHARS];
    json_t *line;

    name_way(b, way, name);
    line = json_pack("{s:s, s:I, s:s, s:i, s:i, s:f, s:f}", "event", "comm-sum", "bytes",
                     (json_int_t)b->sizes.bytes[size], "algorithm", name, "round", round, "sums",
                     sums, "seconds", figures->seconds, "cpu_s", figures->cpu_s);
    if (way == EXCHANGE)
        json_object_set_new(line, "exchange_cpu_s", json_real(figures->exchange_cpu_s));
    return print(b, line, err);
}

/* --- rounds --- */

static int stop_if_asked(struct bench *b, struct err *err)
{
    int64_t asked = train_stop_asked != 0;

    if (comm_sum_integers(b->comm, &asked, 1, err) < 0)
        return -1;
    b->run.agreed = asked > 0;
    return asked > 0 ? err_set(err, ERR_STOPPED, "stopped while measuring") : 0;
}

static int *sums_of(const struct bench *b, int size, int way)
{
    return &b->sums[size * b->ways + way];
}

/* How often in a row, and which forced algorithms are not worth another look. */
static void plan(struct bench *b, int size, const double *seconds)
{
    double best = INFINITY;

    for (int way = FIRST_FORCED; way < b->ways; way++)
        best = fmin(best, seconds[way]);
    for (int way = 0; way < b->ways; way++) {
        const double in_a_row = ceil(IN_A_ROW_S / fmax(seconds[way], 1e-9));

        *sums_of(b, size, way) = (int)fmin(in_a_row, SUMS_MAX);
        if (way >= FIRST_FORCED && seconds[way] > HOPELESS_S && seconds[way] > HOPELESS * best)
            *sums_of(b, size, way) = 0;
    }
}

/* Round 0: every way's sums are right, and how long they take. */
static int try_size(struct bench *b, int size, struct err *err)
{
    double *const seconds = calloc((size_t)b->ways, sizeof *seconds);
    struct figures figures;
    int rc = 0;

    if (seconds == NULL)
        abort();
    for (int way = 0; way < b->ways && rc == 0; way++) {
        rc = stop_if_asked(b, err);
        if (rc == 0 &&
            (check(b, size, way, err) < 0 || measure(b, size, way, 1, &figures, err) < 0))
            rc = -1;
        if (rc == 0) {
            seconds[way] = figures.seconds;
            rc = print_figures(b, size, way, 0, 1, &figures, err);
        }
    }
    if (rc == 0)
        plan(b, size, seconds);
    free(seconds);
    return rc;
}

static int take_round(struct bench *b, int round, struct err *err)
{
    struct figures figures;

    for (int size = 0; size < b->sizes.count; size++)
        for (int i = 0; i < b->ways; i++) {
            const int way = (round + i) % b->ways, sums = *sums_of(b, size, way);

            if (stop_if_asked(b, err) < 0)
                return -1;
            if (sums == 0)
                continue;
            if (measure(b, size, way, sums, &figures, err) < 0 ||
                print_figures(b, size, way, round, sums, &figures, err) < 0)
                return -1;
        }
    return 0;
}

/* --- all of it --- */

static struct comm_exchange_options exchange_of(const struct bench *b, int size)
{
    return (struct comm_exchange_options){.lanes = (uint32_t)b->comm->size,
                                          .count = floats_of(b, size),
                                          .bucket_bytes = b->run.options->bucket_bytes,
                                          .wire = b->run.options->wire};
}

static size_t largest(const struct bench *b)
{
    size_t bytes = sizeof(float);

    for (int size = 0; size < b->sizes.count; size++)
        bytes = b->sizes.bytes[size] > bytes ? b->sizes.bytes[size] : bytes;
    return bytes;
}

/* Before it is taken: a host that runs out of memory kills whom it likes. */
static int check_memory(struct bench *b, struct err *err)
{
    const int of_host = b->comm->local_size;
    uint64_t available = 0, needed = (1 + MPI_VECTORS) * largest(b);
    int64_t failed;
    int rc = train_host_memory(&available, err);

    for (int size = 0; size < b->sizes.count; size++) {
        const struct comm_exchange_options options = exchange_of(b, size);
        const struct comm_exchange_memory memory =
            comm_exchange_memory(&options, b->comm->size, of_host);

        needed += memory.vectors + memory.buffers;
    }
    needed *= (uint64_t)of_host;
    if (rc == 0 && needed > available)
        rc = err_set(err, ERR_USAGE,
                     "--bench-comm: the sums take %.1f GB of this host, and it has %.1f GB left: "
                     "fewer or smaller sizes do",
                     (double)needed / 1e9, (double)available / 1e9);
    failed = rc < 0;
    if (comm_sum_integers(b->comm, &failed, 1, err) < 0)
        return -1;
    return failed > 0 ? train_share_failure(&b->run, rc, err) : 0;
}

static int prepare(struct bench *b, struct err *err)
{
    const size_t ranks = (size_t)b->comm->size;

    if (train_prepare_evaluation(&b->run, err) < 0 || check_memory(b, err) < 0)
        return -1;
    for (int size = 0; size < b->sizes.count; size++) {
        const struct comm_exchange_options options = exchange_of(b, size);

        if ((b->exchange[size] = comm_exchange_new(b->comm, &options, err)) == NULL)
            return -1;
    }
    if ((b->allreduce = comm_allreduce_new(b->comm, err)) == NULL)
        return -1;
    b->ways = 1 + comm_allreduce_ways(b->allreduce);
    b->sums = calloc((size_t)b->sizes.count * (size_t)b->ways, sizeof *b->sums);
    b->answers = calloc(ranks, 1);
    b->all = calloc(ranks, sizeof *b->all);
    if (b->sums == NULL || b->answers == NULL || b->all == NULL)
        abort();
    b->x = malloc(largest(b));
    return b->x == NULL
               ? err_set(err, ERR_MEMORY, "no memory for a vector of %zu bytes", largest(b))
               : 0;
}

static int run_all(struct bench *b, struct err *err)
{
    if (print_setting(b, err) < 0)
        return -1;
    for (int size = 0; size < b->sizes.count; size++)
        if (try_size(b, size, err) < 0)
            return -1;
    for (int round = 1; round <= b->run.options->bench_rounds; round++) {
        log_info("round %d of %d", round, b->run.options->bench_rounds);
        if (take_round(b, round, err) < 0)
            return -1;
    }
    return 0;
}

static void release(struct bench *b, bool collective)
{
    for (int size = 0; size < b->sizes.count; size++)
        comm_exchange_free(b->exchange[size]);
    if (collective) /* else the others are elsewhere: the process ends */
        comm_allreduce_free(b->allreduce);
    free(b->x);
    free(b->sums);
    free(b->answers);
    free(b->all);
}

void train_bench_comm_prepare(void)
{
    comm_allreduce_prepare();
}

int train_bench_comm(struct train_options *options, struct comm *comm, bool *agreed,
                     struct err *err)
{
    struct bench b = {.run = {.options = options, .comm = comm, .metrics.fd = -1}, .comm = comm};
    int rc = -1;

    if (comm->size == 1) {
        *agreed = true;
        return err_set(err, ERR_USAGE, "--bench-comm: one rank has nobody to exchange with");
    }
    if (train_trace_begin(&b.run, err) == 0 &&
        train_vector_sizes_read(options->bench_comm, &b.sizes, err) == 0 && prepare(&b, err) == 0)
        rc = run_all(&b, err);
    release(&b, rc == 0 || b.run.agreed);
    rc = train_trace_end(&b.run, rc, err);
    *agreed = b.run.agreed;
    return rc;
}
