#include "kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ftw.h>
#include <signal.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"

char kept_root[64];
static struct data_sample samples[KEPT_COUNT];
struct data_index kept_pictures = {
    .root = "s3://b/p", .sharded = true, .count = KEPT_COUNT, .samples = samples};
static struct data_order order = {
    .samples = KEPT_COUNT, .chunk_samples = KEPT_CHUNK, .seed = 3, .batch = 8, .lanes = 2};
struct data_cache_use kept_use = {.order = &order,
                                  .lane_end = 2,
                                  .samples = KEPT_COUNT,
                                  .chunk_samples = KEPT_CHUNK,
                                  .epoch_end = 1000000,
                                  .epoch_ticks = KEPT_COUNT / 8 + 1};

/* ---- a folder, pictures ---- */

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

int kept_set_up(void **state)
{
    (void)state;
    strcpy(kept_root, "/tmp/convoy-cache-XXXXXX");
    if (mkdtemp(kept_root) == NULL)
        return -1;
    for (uint32_t i = 0; i < KEPT_COUNT; i++)
        samples[i] = (struct data_sample){
            .key = "a/x.jpg", .offset = i * KEPT_BYTES_MAX, .bytes = 1 + i * 7919 % KEPT_BYTES_MAX};
    return 0;
}

int kept_tear_down(void **state)
{
    (void)state;
    return nftw(kept_root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static uint64_t found_bytes;

static int add_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)path, (void)ftw;
    if (type != FTW_NS) /* removed meanwhile */
        found_bytes += (uint64_t)stat->st_blocks * 512;
    return 0;
}

/* What du says. */
uint64_t kept_disk_use(void)
{
    found_bytes = 0;
    nftw(kept_root, add_one, 16, FTW_PHYS);
    return found_bytes;
}

void kept_picture(uint64_t sample, unsigned char *out)
{
    for (uint32_t i = 0; i < samples[sample].bytes; i++)
        out[i] = (unsigned char)(sample * 31 + i * (sample + 3) + (i >> 7));
}

struct data_cache *kept_open_cache(uint64_t bytes)
{
    struct err err = {0};
    struct data_cache *const cache = data_cache_new(kept_root, bytes, NULL, &err);

    if (cache == NULL || data_cache_add(cache, &kept_pictures, &kept_use, &kept_use, &err) < 0)
        fail_msg("%s", err.msg);
    return cache;
}

/* Whether it is there; then it must be right. */
bool kept_get(struct data_cache *cache, uint32_t epoch, uint64_t sample)
{
    unsigned char got[KEPT_BYTES_MAX], want[KEPT_BYTES_MAX];
    unsigned char *const out = got;

    if (!data_cache_get(data_cache_set(cache, &kept_pictures), epoch, &sample, 1, &out))
        return false;
    kept_picture(sample, want);
    if (memcmp(got, want, samples[sample].bytes) != 0)
        abort(); /* also in a child */
    return true;
}

void kept_put(struct data_cache *cache, uint32_t epoch, uint64_t sample)
{
    unsigned char data[KEPT_BYTES_MAX];
    unsigned char *const in = data;

    kept_picture(sample, data);
    data_cache_put(data_cache_set(cache, &kept_pictures), epoch, &sample, 1, &in);
}

/* Read all of an epoch, as a rank does; returns what was there. */
int kept_read_epoch(struct data_cache *cache, uint32_t epoch)
{
    int hits = 0;

    for (uint64_t step = 0; step < data_order_steps(&order); step++) {
        data_cache_now(data_cache_set(cache, &kept_pictures), epoch, step);
        for (uint32_t lane = 0; lane < order.lanes; lane++)
            for (uint32_t i = 0; i < data_order_lane_images(&order, step, lane); i++) {
                const uint64_t sample = data_order_sample(&order, epoch, step, lane, i);

                if (kept_get(cache, epoch, sample))
                    hits++;
                else
                    kept_put(cache, epoch, sample);
            }
    }
    return hits;
}

struct data_cache_stats kept_stats_of(struct data_cache *cache)
{
    struct data_cache_stats stats;

    data_cache_stats(cache, &stats);
    return stats;
}

/* Close it; who then opens it alone counts all files, and comes to what was counted on the way. */
void kept_close_counted(struct data_cache *cache, uint64_t bytes)
{
    const uint64_t used = kept_stats_of(cache).disk_bytes;

    data_cache_free(cache);
    cache = kept_open_cache(bytes);
    assert_int_equal(kept_stats_of(cache).disk_bytes, used);
    data_cache_free(cache);
}

/* ---- what is in the folder ---- */

char kept_paths[256][256];
int kept_path_count;

static int list_chunk(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    if (strstr(path, ".chunk") != NULL && kept_path_count < 256)
        snprintf(kept_paths[kept_path_count++], sizeof kept_paths[0], "%s", path);
    return 0;
}

void kept_list_chunks(void)
{
    kept_path_count = 0;
    nftw(kept_root, list_chunk, 16, FTW_PHYS);
}

void kept_fill(const char *name, size_t bytes)
{
    char path[320], *const data = calloc(1, bytes);

    snprintf(path, sizeof path, "%s/%s", kept_root, name);
    assert_int_equal(file_replace(path, data, bytes, NULL), 0);
    free(data);
}

/* ---- processes ---- */

/* A process that trains till it is ended. */
pid_t kept_begin_process(uint64_t bytes)
{
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err = {0};
        struct data_cache *const cache = data_cache_new(kept_root, bytes, NULL, &err);

        if (cache == NULL || data_cache_add(cache, &kept_pictures, &kept_use, &kept_use, &err) < 0)
            _exit(1);
        for (uint32_t epoch = 0;; epoch++)
            kept_read_epoch(cache, epoch);
    }
    return pid;
}

void kept_end_process(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it found nothing wrong */
}
