#include "trainer/data/index/pages.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/uri.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"
#include "trainer/data/index/shard.h"

#define NONE SIZE_MAX

/* One shard's samples. */
struct page {
    struct data_shard_top shard;
    struct data_sample *samples; /* NULL: not there */
    char *keys;
    uint64_t bytes;
    uint32_t holds;
    bool reading;        /* a thread is at it */
    size_t older, newer; /* among those there that nobody holds */
};

struct data_pages {
    const char *root;        /* the index's, as are the names: they stay where they are */
    char *const *file_names; /* (count) */
    size_t count;
    uint64_t samples;
    int classes;
    uint64_t bytes_max;
    int32_t *labels; /* (label_count); NULL: as the files say */
    int label_count;

    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t read;
    struct page *pages; /* (count) */
    size_t oldest, newest;
    struct data_pages_stats stats;
};

struct data_pages *data_pages_new(const struct data_index *index,
                                  const struct data_shard_top *shards, uint64_t bytes_max)
{
    struct data_pages *const pages = calloc(1, sizeof *pages);

    if (pages == NULL)
        abort();
    *pages = (struct data_pages){.root = index->root,
                                 .file_names = index->file_names,
                                 .count = index->files,
                                 .samples = index->count,
                                 .classes = index->classes,
                                 .bytes_max = bytes_max,
                                 .oldest = NONE,
                                 .newest = NONE};
    pages->pages = calloc(pages->count + 1, sizeof *pages->pages);
    if (pages->pages == NULL)
        abort();
    for (size_t i = 0; i < pages->count; i++)
        pages->pages[i].shard = shards[i];
    pthread_mutex_init(&pages->mutex, NULL);
    pthread_cond_init(&pages->read, NULL);
    return pages;
}

void data_pages_free(struct data_pages *pages)
{
    if (pages == NULL)
        return;
    for (size_t i = 0; i < pages->count; i++) {
        assert(pages->pages[i].holds == 0);
        free(pages->pages[i].samples);
        free(pages->pages[i].keys);
    }
    pthread_mutex_destroy(&pages->mutex);
    pthread_cond_destroy(&pages->read);
    free(pages->pages);
    free(pages->labels);
    free(pages);
}

void data_pages_bind(struct data_pages *pages, const int32_t *labels, int count)
{
    free(pages->labels);
    pages->labels = calloc((size_t)count + 1, sizeof *pages->labels);
    if (pages->labels == NULL)
        abort();
    memcpy(pages->labels, labels, (size_t)count * sizeof *labels);
    pages->label_count = count;
}

size_t data_pages_file(const struct data_pages *pages, uint64_t sample)
{
    size_t low = 0, high = pages->count; /* it is in [low, high) */

    assert(sample < pages->samples);
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;

        if (pages->pages[middle].shard.first <= sample)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* --- reading a page --- */

/* The shard's records as samples; its keys are the page's then. */
static int take_records(const struct data_pages *pages, struct page *page, size_t number,
                        struct data_shard *shard, const char *index_path, struct err *err)
{
    struct data_sample *const samples = calloc(shard->count, sizeof *samples);

    if (samples == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the %zu samples of '%s'", shard->count,
                       index_path);
    for (size_t i = 0; i < shard->count; i++) {
        samples[i] = data_shard_sample(shard, i, (uint32_t)number);
        if (pages->labels != NULL)
            samples[i].label = pages->labels[samples[i].label];
    }
    page->samples = samples;
    page->keys = (char *)shard->keys.data;
    page->bytes = shard->count * sizeof *samples + shard->keys.capacity;
    shard->keys = (struct buf){0};
    return 0;
}

static int check(const struct data_pages *pages, const struct data_shard_top *top,
                 const struct data_shard *shard, const char *tar_path, const char *index_path,
                 struct err *err)
{
    const int classes = pages->labels != NULL ? pages->label_count : pages->classes;

    if (data_shard_check_top(shard, top, classes, index_path, err) < 0)
        return -1;
    if (data_place_is_remote(pages->root)) /* what is read of the tar has CRCs of its own */
        return 0;
    return data_shard_check_tar(shard, tar_path, index_path, top->first, err);
}

/* Into a page of the caller's, which is empty as before after a failure. */
static int read_page(const struct data_pages *pages, size_t number, struct page *page,
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    char *const tar_path = uri_join(pages->root, pages->file_names[number]);
    char *const index_path = data_shard_index_path(tar_path);
    struct data_shard shard = {0};
    int rc = -1;

    if (data_shard_read(&shard, index_path, cancel, err) == 0 &&
        check(pages, &page->shard, &shard, tar_path, index_path, err) == 0)
        rc = take_records(pages, page, number, &shard, index_path, err);
    data_shard_release(&shard);
    free(index_path);
    free(tar_path);
    return rc;
}

/* --- who is used, and who goes --- */

/* Under the mutex: somebody holds it from now on, or it goes. */
static void take_out(struct data_pages *pages, struct page *page)
{
    if (page->older != NONE)
        pages->pages[page->older].newer = page->newer;
    else
        pages->oldest = page->newer;
    if (page->newer != NONE)
        pages->pages[page->newer].older = page->older;
    else
        pages->newest = page->older;
}

static void put_newest(struct data_pages *pages, size_t number)
{
    struct page *const page = &pages->pages[number];

    page->older = pages->newest;
    page->newer = NONE;
    if (pages->newest != NONE)
        pages->pages[pages->newest].newer = number;
    else
        pages->oldest = number;
    pages->newest = number;
}

static void forget_oldest(struct data_pages *pages)
{
    while (pages->stats.bytes > pages->bytes_max && pages->oldest != NONE) {
        struct page *const page = &pages->pages[pages->oldest];

        take_out(pages, page);
        pages->stats.bytes -= page->bytes;
        free(page->samples);
        free(page->keys);
        page->samples = NULL;
        page->keys = NULL;
    }
}

/* With the mutex, which is let go meanwhile. */
static int fetch_page(struct data_pages *pages, size_t number, const volatile sig_atomic_t *cancel,
                      struct err *err)
{
    struct page *const page = &pages->pages[number];
    struct page fresh = {.shard = page->shard};
    int rc;

    page->reading = true;
    pthread_mutex_unlock(&pages->mutex);
    rc = read_page(pages, number, &fresh, cancel, err);
    pthread_mutex_lock(&pages->mutex);
    page->reading = false;
    pthread_cond_broadcast(&pages->read);
    if (rc < 0)
        return -1;
    page->samples = fresh.samples;
    page->keys = fresh.keys;
    page->bytes = fresh.bytes;
    put_newest(pages, number);
    pages->stats.reads++;
    pages->stats.bytes += page->bytes;
    if (pages->stats.bytes > pages->stats.bytes_max)
        pages->stats.bytes_max = pages->stats.bytes;
    return 0;
}

int data_pages_hold(struct data_pages *pages, uint64_t sample, const volatile sig_atomic_t *cancel,
                    struct err *err)
{
    const size_t number = data_pages_file(pages, sample);
    struct page *const page = &pages->pages[number];
    int rc = 0;

    pthread_mutex_lock(&pages->mutex);
    while (rc == 0 && page->samples == NULL)
        if (page->reading)
            pthread_cond_wait(&pages->read, &pages->mutex);
        else
            rc = fetch_page(pages, number, cancel, err);
    if (rc == 0 && page->holds++ == 0) {
        take_out(pages, page);
        forget_oldest(pages);
    }
    pthread_mutex_unlock(&pages->mutex);
    return rc;
}

void data_pages_drop(struct data_pages *pages, uint64_t sample)
{
    const size_t number = data_pages_file(pages, sample);
    struct page *const page = &pages->pages[number];

    pthread_mutex_lock(&pages->mutex);
    assert(page->holds > 0);
    if (--page->holds == 0) {
        put_newest(pages, number);
        forget_oldest(pages);
    }
    pthread_mutex_unlock(&pages->mutex);
}

const struct data_sample *data_pages_sample(struct data_pages *pages, uint64_t sample)
{
    /* It is held, so what is read here stays as it is. */
    const struct page *const page = &pages->pages[data_pages_file(pages, sample)];

    assert(page->samples != NULL);
    return &page->samples[sample - page->shard.first];
}

void data_pages_stats(struct data_pages *pages, struct data_pages_stats *stats)
{
    pthread_mutex_lock(&pages->mutex);
    *stats = pages->stats;
    pthread_mutex_unlock(&pages->mutex);
}

/* --- to another rank --- */

void data_pages_encode(const struct data_pages *pages, struct buf *out)
{
    const int32_t labels = pages->labels != NULL ? pages->label_count : -1;

    buf_append(out, &labels, sizeof labels);
    if (labels > 0)
        buf_append(out, pages->labels, (size_t)labels * sizeof *pages->labels);
    for (size_t i = 0; i < pages->count; i++)
        buf_append(out, &pages->pages[i].shard, sizeof pages->pages[i].shard);
}

struct data_pages *data_pages_decode(const struct data_index *index, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    struct data_shard_top *shards;
    struct data_pages *pages;
    int32_t labels;
    size_t label_bytes;

    if (bytes < sizeof labels)
        return NULL;
    memcpy(&labels, at, sizeof labels);
    at += sizeof labels;
    bytes -= sizeof labels;
    label_bytes = labels > 0 ? (size_t)labels * sizeof(int32_t) : 0;
    if (bytes < label_bytes || bytes - label_bytes != index->files * sizeof *shards)
        return NULL;
    shards = malloc(index->files * sizeof *shards + 1);
    if (shards == NULL)
        abort();
    memcpy(shards, at + label_bytes, index->files * sizeof *shards);
    pages = data_pages_new(index, shards, DATA_PAGES_BYTES_MAX);
    if (labels >= 0) {
        int32_t *const copy = malloc(label_bytes + 1);

        if (copy == NULL)
            abort();
        memcpy(copy, at, label_bytes);
        data_pages_bind(pages, copy, labels);
        free(copy);
    }
    free(shards);
    return pages;
}
