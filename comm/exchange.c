/* comm/exchange.c -- see exchange.h. */
#include "comm/exchange.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/trace.h"
#include "comm/comm.h"
#include "comm/post.h"
#include "comm/queue.h"
#include "comm/roll.h"
#include "comm/shared.h"
#include "comm/traffic.h"
#include "comm/wait.h"

/* With messages under way the thread looks again after a sleep that grows while nothing happens: a
 * core that computing uses is only borrowed. Quick links shorten it. Without any it waits for the
 * computing thread, and looks now and then whether another rank gave a sign of life. */
#define SLEEP_S_MIN       20e-6
#define SLEEP_S_MAX       500e-6
#define SLEEP_GROWTH      4     /* from the first sleep after something happened to the longest */
#define RATE_S            20e-3 /* over which bytes per second are looked at */
#define SLEEP_S_IDLE      10e-3
#define SLEEP_S_REST      0.1
#define BEAT_TRIES        100 /* of SLEEP_S_MAX */
#define BEAT_S            0.25
#define STANDSTILL        4 /* a deadline's part between two looks: this process was stopped */
#define BUCKETS_MIN       16
#define BUCKET_FLOATS_MIN 16384
#define BUCKET_LAST       16 /* the last one, which the next forward waits for, is that much smaller */
#define PART_ALIGN        64

_Static_assert(COMM_EXCHANGE_ANSWER_MAX <= COMM_ROLL_BYTES_MAX, "an answer fits");

struct comm_exchange {
    struct comm *comm;
    struct comm_exchange_options options;
    int buckets;
    struct comm_buckets cut;
    struct comm_shared shared;
    struct comm_board **boards; /* (ranks that share memory) */
    float ***vectors;           /* (ranks that share memory)(partial sums) */
    struct comm_tree_sum tree;
    float *sum;

    struct comm_queue queue;
    struct comm_post post;
    struct comm_traffic traffic;
    struct comm_roll roll;
    pthread_t thread;
    bool running; /* the thread */
    clockid_t clock;

    unsigned char answer[COMM_EXCHANGE_ANSWER_MAX]; /* the computing thread's until it is given */
    size_t answer_bytes;
};

/* --- memory --- */

/* So many buckets at least, where they would not be tiny, that the wire is busy both ways while the
 * first parts and the last sums are under way. The last one is small, unless all are. */
static struct comm_buckets cut_of(const struct comm_exchange_options *options)
{
    const size_t asked = options->bucket_bytes / sizeof(float),
                 even = (options->count + BUCKETS_MIN - 1) / BUCKETS_MIN,
                 enough = even > BUCKET_FLOATS_MIN ? even : BUCKET_FLOATS_MIN,
                 most = asked < enough ? asked : enough,
                 last = most / BUCKET_LAST > BUCKET_FLOATS_MIN ? most / BUCKET_LAST
                                                               : BUCKET_FLOATS_MIN;

    return (struct comm_buckets){.floats = options->count,
                                 .prefix = options->wire == COMM_WIRE_BF16 ? options->exact : 0,
                                 .most = most,
                                 .last = last < most ? last : most};
}

static size_t board_room(int buckets)
{
    return (comm_board_bytes(buckets) + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
}

/* Vectors of a rank: its partial sums; a host's first rank has the sum too, where no partial sum of
 * a lone rank can take it. */
static size_t vectors_of(uint32_t lanes, int rank, int ranks, bool first, bool alone)
{
    const size_t own = (size_t)comm_tree_sum_buffers(lanes, comm_tree_share(lanes, rank, ranks));

    return own + (first && (!alone || own == 0));
}

static size_t part_bytes(const struct comm_exchange_options *options, int rank, int ranks,
                         bool first, bool alone)
{
    const struct comm_buckets cut = cut_of(options);

    return board_room(comm_buckets_count(&cut)) +
           vectors_of(options->lanes, rank, ranks, first, alone) *
               comm_tree_stride(options->count) * sizeof(float);
}

struct comm_exchange_memory comm_exchange_memory(const struct comm_exchange_options *options,
                                                 int ranks, int ranks_of_host)
{
    const struct comm_buckets cut = cut_of(options);
    struct comm_exchange_memory memory = {0};
    struct comm_layout layout;
    int *const host_of = calloc((size_t)ranks, sizeof *host_of);

    if (host_of == NULL)
        abort();
    for (int rank = 0; rank < ranks; rank++) {
        const size_t bytes =
            part_bytes(options, rank, ranks, rank % ranks_of_host == 0, ranks_of_host == 1);

        host_of[rank] = rank / ranks_of_host;
        memory.vectors = bytes > memory.vectors ? bytes : memory.vectors;
    }
    comm_layout_init(&layout, ranks, host_of);
    memory.buffers = comm_traffic_memory(&layout, options->lanes, &cut, options->wire);
    comm_layout_release(&layout);
    free(host_of);
    return memory;
}

/* Where the parts of the ranks that share memory have what. */
static void find_parts(struct comm_exchange *exchange)
{
    const struct comm_exchange_options *const o = &exchange->options;
    const struct comm_shared *const shared = &exchange->shared;

    exchange->boards = calloc((size_t)shared->count, sizeof *exchange->boards);
    exchange->vectors = calloc((size_t)shared->count, sizeof *exchange->vectors);
    if (exchange->boards == NULL || exchange->vectors == NULL)
        abort();
    for (int i = 0; i < shared->count; i++) {
        const int rank = shared->first + i;
        unsigned char *const part = comm_shared_part(shared, rank);
        float *const memory = (float *)(void *)(part + board_room(exchange->buckets));
        struct comm_tree_sum tree;

        comm_tree_sum_init(&tree, o->lanes, comm_tree_share(o->lanes, rank, exchange->comm->size),
                           o->count, memory);
        exchange->boards[i] = (struct comm_board *)(void *)part;
        exchange->vectors[i] = calloc(COMM_TREE_PIECES_MAX, sizeof *exchange->vectors[i]);
        if (exchange->vectors[i] == NULL)
            abort();
        memcpy(exchange->vectors[i], tree.vector, sizeof tree.vector);
        if (i == 0)
            exchange->sum = memory + (shared->count == 1 ? 0 : (size_t)tree.vectors) *
                                         comm_tree_stride(o->count);
        if (rank == exchange->comm->rank)
            exchange->tree = tree;
    }
}

static int open_memory(struct comm_exchange *exchange, struct err *err)
{
    struct comm *const comm = exchange->comm;
    const int *const host_of = comm->host_of;
    const bool first = comm->rank == 0 || host_of[comm->rank - 1] != host_of[comm->rank];
    const bool last =
        comm->rank == comm->size - 1 || host_of[comm->rank + 1] != host_of[comm->rank];
    const size_t bytes =
                     part_bytes(&exchange->options, comm->rank, comm->size, first, first && last),
                 bytes_alone = part_bytes(&exchange->options, comm->rank, comm->size, true, true);

    if (comm_shared_open(comm, bytes, bytes_alone, &exchange->shared, err) < 0)
        return -1;
    find_parts(exchange);
    return 0;
}

/* --- the communication thread --- */

/* What the communication thread remembers of a step. */
struct serving {
    struct comm_wishes seen;
    bool *told; /* (buckets) */
    bool answered, heard, through;
    uint64_t computed; /* micro-batches that the last sign of life told of */
    double looked_s;   /* the last time */
    uint64_t arrived;  /* bytes, when looked at the last time */
    double rate;       /* of late, bytes/s */
};

/* Another rank's silence: it does not even say that it waits. Who was stopped for a while itself
 * has not heard what came meanwhile, and counts silence from now on; it may be stopped at any line.
 */
static int check_silence(struct comm_exchange *exchange, struct serving *serving, struct err *err)
{
    const double deadline_s = serving->seen.deadline_s, now = clock_now_s();
    double seconds = 0;
    int rank;

    if (now - serving->looked_s > deadline_s / STANDSTILL)
        comm_roll_forgive(&exchange->roll, now);
    serving->looked_s = now;
    rank = comm_roll_silent(&exchange->roll, now, &seconds);
    if (deadline_s <= 0 || rank < 0 || seconds <= deadline_s)
        return 0;
    return err_set(err, ERR_PEER,
                   "no sign of progress from host '%s' (rank %d) for %.0f s "
                   "(--step-timeout): " COMM_SILENT_MEANS,
                   comm_host_name(exchange->comm, rank), rank, seconds);
}

/* Bytes per second of late: a mean whose memory fades. */
static void measure_rate(const struct comm_exchange *exchange, struct serving *serving)
{
    const double passed = clock_now_s() - serving->looked_s,
                 kept = passed < RATE_S ? 1 - passed / RATE_S : 0;

    serving->rate =
        serving->rate * kept + (double)(exchange->post.arrived - serving->arrived) / RATE_S;
    serving->arrived = exchange->post.arrived;
}

/* As long as half a flow's window takes to come: who sends would have to wait for a longer one. */
static double sleep_most_s(const struct serving *serving)
{
    const double half_s = serving->rate > 0 ? COMM_WINDOW_BYTES / 2 / serving->rate : SLEEP_S_MAX;

    return half_s < SLEEP_S_MIN ? SLEEP_S_MIN : half_s < SLEEP_S_MAX ? half_s : SLEEP_S_MAX;
}

/* A sign of life: for a micro-batch that is done, or while this rank waits for something, as it
 * does from its answer on. */
static int show_life(struct comm_exchange *exchange, struct serving *serving, struct err *err)
{
    const struct comm_wishes *const wishes = &serving->seen;
    const double now = clock_now_s(), most_s = exchange->options.elsewhere_s;
    const bool elsewhere = wishes->doing == COMM_WAITS &&
                           now - wishes->doing_since_s < (most_s > 0 ? most_s : COMM_PATIENCE_S),
               waits = elsewhere || (serving->answered && !serving->through);

    if (now - exchange->roll.beaten_s < BEAT_S || (!waits && wishes->computed == serving->computed))
        return 0;
    serving->computed = wishes->computed;
    return comm_roll_beat(&exchange->roll, err);
}

/* Tell the computing thread of what has come since. */
static void tell_there(struct comm_exchange *exchange, bool *told)
{
    for (int bucket = exchange->buckets - 1; bucket >= 0; bucket--) {
        if (told[bucket] || !comm_traffic_is_there(&exchange->traffic, bucket))
            continue;
        told[bucket] = true;
        comm_queue_there(&exchange->queue, bucket);
    }
}

/* Nothing of the step is left to do for this rank. */
static bool is_through(const struct comm_exchange *exchange, const struct serving *serving)
{
    if (!serving->heard || !comm_traffic_is_through(&exchange->traffic))
        return false;
    for (int bucket = 0; bucket < exchange->buckets; bucket++)
        if (!serving->told[bucket])
            return false;
    return true;
}

/* One look at everything. *moved: something happened. */
static int look_around(struct comm_exchange *exchange, struct serving *serving, bool *moved,
                       struct err *err)
{
    const struct comm_wishes *const wishes = &serving->seen;
    bool travelled = false, listened = false;
    int finished = 0;

    if (comm_post_test(&exchange->post, &finished, err) < 0)
        return -1;
    measure_rate(exchange, serving);
    comm_traffic_ready(&exchange->traffic, wishes->ready);
    if (wishes->answered && !serving->answered) {
        serving->answered = true;
        if (comm_roll_answer(&exchange->roll, exchange->answer, exchange->answer_bytes, err) < 0)
            return -1;
    }
    if (comm_traffic_advance(&exchange->traffic, &travelled, err) < 0 ||
        comm_roll_listen(&exchange->roll, &listened, err) < 0 ||
        show_life(exchange, serving, err) < 0 || check_silence(exchange, serving, err) < 0)
        return -1;
    if (!serving->heard && comm_roll_is_complete(&exchange->roll)) {
        serving->heard = true;
        comm_queue_heard(&exchange->queue);
    }
    tell_there(exchange, serving->told);
    if (!serving->through && is_through(exchange, serving)) {
        serving->through = true;
        if (comm_roll_through(&exchange->roll, err) < 0)
            return -1;
    }
    *moved = finished > 0 || travelled || listened;
    return 0;
}

static int serve_step(struct comm_exchange *exchange, struct serving *serving, struct err *err)
{
    double sleep_s = SLEEP_S_MIN;

    memset(serving->told, 0, (size_t)exchange->buckets * sizeof *serving->told);
    serving->answered = serving->heard = serving->through = false;
    serving->looked_s = clock_now_s();
    if (comm_traffic_begin(&exchange->traffic, serving->seen.leaves, err) < 0 ||
        comm_roll_begin(&exchange->roll, err) < 0)
        return -1;
    while (!serving->seen.closing) {
        bool moved = false;

        if (look_around(exchange, serving, &moved, err) < 0)
            return -1;
        if (comm_roll_is_settled(&exchange->roll)) {
            comm_queue_settled(&exchange->queue);
            return 0;
        }
        if (moved)
            sleep_s = fmax(SLEEP_S_MIN, sleep_most_s(serving) / SLEEP_GROWTH);
        serving->seen = comm_queue_sleep(
            &exchange->queue, &serving->seen,
            comm_traffic_is_busy(&exchange->traffic) || serving->answered ? sleep_s : SLEEP_S_IDLE);
        sleep_s = fmin(2 * sleep_s, sleep_most_s(serving));
    }
    return 0;
}

/* A sign of life between two steps, which must have left before the computing thread goes on: it
 * may call MPI then. */
static int speak(struct comm_exchange *exchange, struct serving *serving, struct err *err)
{
    int finished = 0;

    if (show_life(exchange, serving, err) < 0)
        return -1;
    for (int tries = 0; tries < BEAT_TRIES && comm_roll_is_beating(&exchange->roll); tries++) {
        if (comm_post_test(&exchange->post, &finished, err) < 0)
            return -1;
        clock_sleep_s(finished > 0 ? 0 : SLEEP_S_MAX);
    }
    return 0;
}

/* Between two steps: nothing, or signs of life. */
static int rest(struct comm_exchange *exchange, struct serving *serving, struct err *err)
{
    int rc;

    serving->seen = comm_queue_sleep(&exchange->queue, &serving->seen,
                                     serving->seen.doing == COMM_WAITS ? SLEEP_S_REST : 3600);
    if (!comm_queue_speak(&exchange->queue))
        return 0;
    rc = speak(exchange, serving, err);
    comm_queue_spoken(&exchange->queue);
    return rc;
}

static void *serve(void *context)
{
    struct comm_exchange *const exchange = context;
    struct serving serving = {.told = calloc((size_t)exchange->buckets + 1, sizeof(bool))};
    struct err err = {0};
    int rc = 0;

    if (serving.told == NULL)
        abort();
    trace_thread("exchange");
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul); /* sleeps are as long as they say */
    while (rc == 0 && !serving.seen.closing) {
        const uint64_t done = serving.seen.step;

        rc = rest(exchange, &serving, &err);
        if (rc == 0 && serving.seen.step != done)
            rc = serve_step(exchange, &serving, &err);
    }
    if (rc < 0) {
        err_wrap(&err, "cannot exchange gradients over %d ranks", exchange->comm->size);
        comm_queue_fail(&exchange->queue, &err);
    }
    free(serving.told);
    return NULL;
}

/* --- what callers see --- */

static bool is_alone(const struct comm_exchange *exchange)
{
    return exchange->comm->size == 1;
}

static int start(struct comm_exchange *exchange, struct err *err)
{
    const struct comm_traffic_options options = {
        .lanes = exchange->options.lanes,
        .buckets = exchange->cut,
        .wire = exchange->options.wire,
        .group_of = exchange->shared.group_of,
        .boards = exchange->boards,
        .vectors = (float *const *const *)exchange->vectors,
        .sum = exchange->sum,
    };

    comm_post_init(&exchange->post, exchange->comm);
    comm_roll_init(&exchange->roll, exchange->comm, &exchange->post);
    if (comm_traffic_init(&exchange->traffic, exchange->comm, &exchange->post, &options, err) < 0)
        return -1;
    comm_queue_init(&exchange->queue, exchange->buckets);
    if (pthread_create(&exchange->thread, NULL, serve, exchange) != 0)
        return err_set(err, ERR_MEMORY, "cannot start the communication thread");
    exchange->running = true;
    pthread_setname_np(exchange->thread, "exchange");
    pthread_getcpuclockid(exchange->thread, &exchange->clock);
    return 0;
}

struct comm_exchange *
comm_exchange_new(struct comm *comm, const struct comm_exchange_options *options, struct err *err)
{
    struct comm_exchange *const exchange = calloc(1, sizeof *exchange);

    assert(options->lanes > 0 && options->bucket_bytes > 0 &&
           options->bucket_bytes % sizeof(float) == 0);
    if (exchange == NULL)
        abort();
    exchange->comm = comm;
    exchange->options = *options;
    exchange->cut = cut_of(options);
    exchange->buckets = comm_buckets_count(&exchange->cut);
    if (open_memory(exchange, err) < 0 || (comm->size > 1 && start(exchange, err) < 0)) {
        comm_exchange_free(exchange);
        return NULL;
    }
    return exchange;
}

void comm_exchange_free(struct comm_exchange *exchange)
{
    if (exchange == NULL)
        return;
    if (exchange->running) {
        comm_queue_close(&exchange->queue);
        pthread_join(exchange->thread, NULL);
    }
    if (exchange->post.count > 0)
        return; /* MPI may still write to what it was given: it stays until the process ends */
    for (int i = 0; exchange->vectors != NULL && i < exchange->shared.count; i++)
        free(exchange->vectors[i]);
    free(exchange->vectors);
    free(exchange->boards);
    comm_traffic_release(&exchange->traffic);
    comm_roll_release(&exchange->roll);
    comm_post_release(&exchange->post);
    comm_queue_release(&exchange->queue);
    comm_shared_close(&exchange->shared);
    free(exchange);
}

int comm_exchange_begin(struct comm_exchange *exchange, uint32_t leaves, double deadline_s,
                        struct err *err)
{
    assert(leaves > 0 && leaves <= exchange->options.lanes);
    if (comm_exchange_settle(exchange, err) < 0)
        return -1;
    comm_tree_sum_begin(
        &exchange->tree, leaves,
        comm_tree_share(exchange->options.lanes, exchange->comm->rank, exchange->comm->size));
    if (is_alone(exchange))
        return 0;
    comm_queue_begin(&exchange->queue, leaves, deadline_s);
    if (exchange->tree.next == exchange->tree.own.end)
        comm_queue_ready(&exchange->queue, exchange->options.count);
    return 0;
}

float *comm_exchange_leaf(struct comm_exchange *exchange)
{
    return exchange->tree.next < exchange->tree.own.end ? comm_tree_sum_leaf(&exchange->tree)
                                                        : NULL;
}

/* Floats that are final when the rank's last leaf is; before it none are. */
void comm_exchange_ready(struct comm_exchange *exchange, size_t floats)
{
    comm_tree_sum_push_until(&exchange->tree, floats);
    if (exchange->tree.next + 1 == exchange->tree.own.end && !is_alone(exchange))
        comm_queue_ready(&exchange->queue, floats);
}

void comm_exchange_written(struct comm_exchange *exchange)
{
    const bool last = exchange->tree.next + 1 == exchange->tree.own.end;

    comm_tree_sum_push(&exchange->tree);
    if (is_alone(exchange))
        return;
    comm_queue_computed(&exchange->queue);
    if (last)
        comm_queue_ready(&exchange->queue, exchange->options.count);
}

void comm_exchange_give_up(struct comm_exchange *exchange)
{
    if (exchange->tree.next == exchange->tree.own.end)
        return;
    comm_tree_sum_give_up(&exchange->tree);
    if (!is_alone(exchange))
        comm_queue_ready(&exchange->queue, exchange->options.count);
}

int comm_exchange_gather(struct comm_exchange *exchange, const void *mine, size_t bytes, void *all,
                         struct err *err)
{
    assert(bytes <= COMM_EXCHANGE_ANSWER_MAX && exchange->tree.next == exchange->tree.own.end);
    memcpy((unsigned char *)all + (size_t)exchange->comm->rank * bytes, mine, bytes);
    if (is_alone(exchange))
        return 0;
    memcpy(exchange->answer, mine, bytes);
    exchange->answer_bytes = bytes;
    comm_queue_answer(&exchange->queue);
    if (comm_queue_wait_answers(&exchange->queue, err) < 0)
        return -1;
    for (int rank = 0; rank < exchange->comm->size; rank++)
        memcpy((unsigned char *)all + (size_t)rank * bytes,
               comm_roll_answer_of(&exchange->roll, rank), bytes);
    return 0;
}

int comm_exchange_check(struct comm_exchange *exchange, struct err *err)
{
    return is_alone(exchange) ? 0 : comm_queue_check(&exchange->queue, err);
}

const float *comm_exchange_sum(const struct comm_exchange *exchange)
{
    return exchange->sum;
}

int comm_exchange_wait(struct comm_exchange *exchange, size_t begin, size_t end, struct err *err)
{
    assert(begin <= end && end <= exchange->options.count);
    if (is_alone(exchange) || begin == end)
        return 0;
    return comm_queue_wait_sums(&exchange->queue, comm_buckets_at(&exchange->cut, begin),
                                comm_buckets_at(&exchange->cut, end - 1) + 1, err);
}

int comm_exchange_settle(struct comm_exchange *exchange, struct err *err)
{
    return is_alone(exchange) ? 0 : comm_queue_wait_settled(&exchange->queue, err);
}

void comm_exchange_elsewhere(struct comm_exchange *exchange, bool elsewhere)
{
    if (!is_alone(exchange))
        comm_queue_doing(&exchange->queue, elsewhere ? COMM_WAITS : COMM_COMPUTES);
}

double comm_exchange_cpu_s(const struct comm_exchange *exchange)
{
    struct timespec used = {0};

    if (exchange->running)
        clock_gettime(exchange->clock, &used);
    return (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
}

bool comm_exchange_shares(const struct comm_exchange *exchange)
{
    return exchange->shared.together;
}
