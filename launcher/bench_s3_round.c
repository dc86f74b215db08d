#include "launcher/bench_s3_round.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/text.h"
#include "base/uri.h"
#include "launcher/bench_point.h"
#include "launcher/s3/parallel.h"
#include "s3io/client.h"
#include "s3io/list.h"
#include "s3io/object.h"

#define RANGES_MAX 4000000 /* 130 MB of them */

/* --- the set --- */

static void *must(void *pointer)
{
    if (pointer == NULL)
        abort();
    return pointer;
}

static int add(void *context, const struct s3_listed *listed, struct err *err)
{
    struct launch_bench_set *const set = context;

    (void)err;
    if (listed->bytes == 0) /* a folder's own key, or nothing to be read */
        return 0;
    if (set->object_count == set->object_capacity) {
        set->object_capacity = set->object_capacity == 0 ? 64 : 2 * set->object_capacity;
        set->objects = must(realloc(set->objects, set->object_capacity * sizeof *set->objects));
    }
    set->objects[set->object_count++] = (struct launch_bench_object){
        .key = text_copy(listed->key), .etag = text_copy(listed->etag), .bytes = listed->bytes};
    set->bytes += listed->bytes;
    return 0;
}

static int cut(struct launch_bench_set *set, uint64_t range_bytes, struct err *err)
{
    uint64_t count = 0;

    for (size_t i = 0; i < set->object_count; i++)
        count += (set->objects[i].bytes + range_bytes - 1) / range_bytes;
    if (count > RANGES_MAX)
        return err_set(err, ERR_USAGE,
                       "--range-bytes %" PRIu64 " makes %" PRIu64
                       " requests of these objects, at most %d are made",
                       range_bytes, count, RANGES_MAX);
    set->ranges = must(calloc((size_t)count, sizeof *set->ranges));
    for (size_t i = 0; i < set->object_count; i++)
        for (uint64_t at = 0; at < set->objects[i].bytes; at += range_bytes) {
            const uint64_t left = set->objects[i].bytes - at;
            const uint64_t bytes = left < range_bytes ? left : range_bytes;

            set->ranges[set->range_count++] =
                (struct launch_bench_range){.object = i, .offset = at, .bytes = bytes};
            set->range_bytes = bytes > set->range_bytes ? bytes : set->range_bytes;
        }
    return 0;
}

int launch_bench_set_list(struct launch_bench_set *set, struct s3_client *client,
                          const struct uri *uri, uint64_t range_bytes, struct err *err)
{
    *set = (struct launch_bench_set){.client = client, .bucket = uri->bucket};
    if (s3_list(client, uri->bucket, uri->path, false, add, set, err) < 0)
        return -1;
    if (set->object_count == 0)
        return err_set(err, ERR_INPUT, "no object with a byte in it begins with 's3://%s/%s'",
                       uri->bucket, uri->path);
    return cut(set, range_bytes, err);
}

void launch_bench_set_release(struct launch_bench_set *set)
{
    for (size_t i = 0; i < set->object_count; i++) {
        free(set->objects[i].key);
        free(set->objects[i].etag);
    }
    free(set->objects);
    free(set->ranges);
    *set = (struct launch_bench_set){0};
}

/* --- a round --- */

/* Memory for each request in flight, used again and again. */
struct room {
    struct launch_bench_set *set;
    volatile sig_atomic_t cancel; /* a range could not be read: the others need not be */
    pthread_mutex_t mutex;        /* guards what follows */
    void **free;
    int free_count;
};

static void *room_take(struct room *room)
{
    void *out = NULL;

    pthread_mutex_lock(&room->mutex);
    if (room->free_count > 0)
        out = room->free[--room->free_count];
    pthread_mutex_unlock(&room->mutex);
    return out != NULL ? out : malloc((size_t)room->set->range_bytes);
}

static void room_give(struct room *room, void *memory)
{
    pthread_mutex_lock(&room->mutex);
    room->free[room->free_count++] = memory;
    pthread_mutex_unlock(&room->mutex);
}

static int read_one(void *context, size_t index, struct err *err)
{
    struct room *const room = context;
    struct launch_bench_range *const range = &room->set->ranges[index];
    const struct launch_bench_object *const object = &room->set->objects[range->object];
    const struct s3_get get = {.bucket = room->set->bucket,
                               .key = object->key,
                               .offset = range->offset,
                               .bytes = range->bytes,
                               .object_bytes = object->bytes,
                               .crc32c = &range->crc32c,
                               .if_match = object->etag[0] != '\0' ? object->etag : NULL,
                               .cancel = &room->cancel};
    const double begun = clock_now_s();
    void *const memory = room->set->into_memory ? room_take(room) : NULL;
    int rc;

    if (memory == NULL && room->set->into_memory)
        return err_set(err, ERR_MEMORY, "no memory for a range of %llu bytes (--range-bytes)",
                       (unsigned long long)room->set->range_bytes);
    rc = s3_object_read(room->set->client, &get, memory, NULL, err);
    if (rc == S3_NO)
        rc = s3_object_missing(get.bucket, get.key, err);
    range->seconds = clock_now_s() - begun;
    if (memory != NULL)
        room_give(room, memory);
    return rc < 0 ? -1 : 0;
}

/* Each object's CRC-32C, from those of its ranges. */
static int compare(struct launch_bench_set *set, struct err *err)
{
    const struct launch_bench_range *range = set->ranges;

    for (size_t i = 0; i < set->object_count; i++) {
        struct launch_bench_object *const object = &set->objects[i];
        uint32_t crc = 0;

        for (; range < set->ranges + set->range_count && range->object == i; range++)
            crc = digest_crc32c_join(crc, range->crc32c, range->bytes);
        if (object->seen && crc != object->crc32c)
            return err_set(err, ERR_INPUT, "'s3://%s/%s' had other bytes than in an earlier round",
                           set->bucket, object->key);
        object->seen = true;
        object->crc32c = crc;
    }
    return 0;
}

static void measure_requests(const struct launch_bench_set *set,
                             struct launch_bench_s3_round *round)
{
    double *const seconds = must(malloc(set->range_count * sizeof *seconds));

    for (size_t i = 0; i < set->range_count; i++)
        seconds[i] = set->ranges[i].seconds;
    round->request_s = launch_bench_spread(seconds, set->range_count).median; /* sorts them */
    round->request_s_p95 = seconds[set->range_count * 95 / 100];
    free(seconds);
}

static double cpu_s(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

int launch_bench_s3_round_run(struct launch_bench_set *set, int in_flight,
                              struct launch_bench_s3_round *round, struct err *err)
{
    struct room room = {.set = set, .mutex = PTHREAD_MUTEX_INITIALIZER};
    const struct launch_parallel parallel = {.count = set->range_count,
                                             .threads = in_flight,
                                             .work = read_one,
                                             .context = &room,
                                             .cancel = &room.cancel};
    struct s3_client_stats before, after;
    double begun, cpu;
    int rc;

    room.free = must(calloc((size_t)in_flight, sizeof *room.free));
    s3_client_stats(set->client, &before);
    begun = clock_now_s();
    cpu = cpu_s();
    rc = launch_s3_parallel_run(&parallel, err);
    if (rc == 0)
        rc = compare(set, err);
    round->cpu_s = cpu_s() - cpu;
    round->seconds = clock_now_s() - begun;
    s3_client_stats(set->client, &after);
    round->requests = after.requests - before.requests;
    round->retries = after.retries - before.retries;
    round->hedged = after.hedged - before.hedged;
    round->bytes_in = after.bytes_in - before.bytes_in;
    measure_requests(set, round);
    while (room.free_count > 0)
        free(room.free[--room.free_count]);
    free(room.free);
    pthread_mutex_destroy(&room.mutex);
    return rc;
}
