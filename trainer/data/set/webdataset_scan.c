/*
 * trainer/data/set/webdataset_scan.c -- a folder of other people's tars as an index: the second
 * half of webdataset.h.
 *
 * A file that is kept is named by the SHA-256 of the tar's path and ".idx": 8 bytes "CVYSCN1\n",
 * the SHA-256 of what the tar is known by, and an index file as README.md describes it, whose
 * CRC-32C covers that.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/place.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/set/folder.h"
#include "trainer/data/set/manifest.h"
#include "trainer/data/set/webdataset.h"

/* Headers are waited for, not computed on: 8 tars at once are 8 requests under way. */
#define SCAN_THREADS   8
#define KEPT_BYTES_MAX ((size_t)1 << 32)

static const char magic[8] = "CVYSCN1\n";

static char *keep_folder; /* data_webdataset_keep */

struct tar {
    char *name;
    struct data_shard shard; /* what was found */
    char *etag;
    size_t empty; /* pictures without bytes */
    char *empty_first;
    bool kept;
};

struct scan {
    struct data_index *index;
    struct data_manifest *manifest; /* NULL: none */
    const volatile sig_atomic_t *cancel;
    struct tar *tars; /* sorted by name */
    size_t count, capacity;
    bool half_packed, unfinished; /* packing.json; an index file of our own shards */
    char *folder;                 /* where indices are kept; NULL: nowhere */
    atomic_size_t next, done;
    pthread_mutex_t mutex; /* guards the two below */
    struct err err;        /* the first tar's, by name, that failed */
    size_t failed;         /* its place; count: none */
};

void data_webdataset_keep(const char *folder)
{
    free(keep_folder);
    keep_folder = folder != NULL ? text_copy(folder) : NULL;
}

/* --- which tars there are --- */

static void meet(struct scan *scan, const char *name, bool folder)
{
    if (data_entry_is_hidden(name) || folder)
        return;
    scan->half_packed = scan->half_packed || strcmp(name, SHARD_PACKING_NAME) == 0;
    scan->unfinished = scan->unfinished || data_shard_is_name(name, ".idx");
    if (!data_entry_is_tar(name))
        return;
    if (scan->count == scan->capacity) {
        scan->capacity = scan->capacity * 2 + 16;
        scan->tars = reallocarray(scan->tars, scan->capacity, sizeof *scan->tars);
        if (scan->tars == NULL)
            abort();
    }
    scan->tars[scan->count++] = (struct tar){.name = text_copy(name)};
}

static int meet_remote(void *context, const struct data_found *found, struct err *err)
{
    (void)err;
    meet(context, found->name, found->folder);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tar *)a)->name, ((const struct tar *)b)->name);
}

static int list_tars(struct scan *scan, struct err *err)
{
    const char *const root = scan->index->root;
    const struct dirent *entry;
    DIR *dir;

    if (data_place_is_remote(root)) {
        if (data_manifest_list(scan->manifest, root, false, meet_remote, scan, scan->cancel, err) <
            0)
            return -1;
    } else {
        dir = opendir(root);
        if (dir == NULL)
            return err_set_errno(err, ERR_IO, errno, "cannot read folder '%s'", root);
        while ((entry = readdir(dir)) != NULL)
            meet(scan, entry->d_name, data_entry_is_folder(dirfd(dir), entry));
        closedir(dir);
    }
    if (scan->half_packed)
        return err_set(err, ERR_INPUT,
                       "'%s' is half packed: the same 'convoy pack' again goes on with it", root);
    if (scan->unfinished)
        return err_set(err, ERR_INPUT,
                       "'%s' holds shards of 'convoy pack' but no " SHARD_TOP_NAME
                       ": they were not finished, or not copied whole; pack again",
                       root);
    qsort(scan->tars, scan->count, sizeof *scan->tars, by_name);
    return 0;
}

/* --- what is kept of earlier scans --- */

/* A folder that is this user's alone: in /tmp anybody may have made one of that name. */
static bool is_own_folder(const char *path)
{
    struct stat stat;

    return lstat(path, &stat) == 0 && S_ISDIR(stat.st_mode) && stat.st_uid == geteuid() &&
           (stat.st_mode & 022) == 0;
}

static void find_folder(struct scan *scan)
{
    struct err err = {0};
    char *own = NULL;

    if (keep_folder != NULL) {
        scan->folder = uri_join(keep_folder, "index");
    } else {
        if (asprintf(&own, "%s/convoy-%u", file_temp_root(), (unsigned)geteuid()) < 0)
            abort();
        if (mkdir(own, 0700) < 0 && errno == ENOENT)
            (void)file_make_folder(file_temp_root(), NULL);
        if ((mkdir(own, 0700) < 0 && errno != EEXIST) || !is_own_folder(own))
            err_set(&err, ERR_IO, "'%s' is not this user's folder", own);
        else
            scan->folder = uri_join(own, "index");
        free(own);
    }
    if (scan->folder != NULL && file_make_folder(scan->folder, &err) == 0)
        return;
    log_warn("what is found in tars is not kept for the next time: %s", err.msg);
    free(scan->folder);
    scan->folder = NULL;
}

/* The path as it is the same for every caller. */
static char *whole_path(const char *path)
{
    char *real = data_place_is_remote(path) ? NULL : realpath(path, NULL);

    return real != NULL ? real : text_copy(path);
}

static char *kept_path(const struct scan *scan, const char *tar_path)
{
    unsigned char sha[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS], name[DIGEST_HEX_CHARS + 8], *whole = whole_path(tar_path);

    digest_sha256(whole, strlen(whole), sha);
    digest_hex(sha, hex);
    snprintf(name, sizeof name, "%s.idx", hex);
    free(whole);
    return uri_join(scan->folder, name);
}

/* What a tar is known by. */
static void identify(const struct data_bytes *bytes, unsigned char sha[DIGEST_SHA256_BYTES])
{
    struct buf text = {0};
    char *whole = whole_path(bytes->name);

    buf_printf(&text, "%s\n%" PRIu64 "\n%s\n%" PRId64 "\n", whole, bytes->total,
               bytes->etag != NULL ? bytes->etag : "", bytes->changed_ns);
    digest_sha256(text.data, text.bytes, sha);
    free(whole);
    buf_release(&text);
}

/* Whether what is kept is of this very tar; damaged or of another state: no. */
static bool read_kept(const char *path, const unsigned char *identity, uint64_t tar_bytes,
                      struct data_shard *shard)
{
    const size_t head = sizeof magic + DIGEST_SHA256_BYTES;
    struct buf file = {0};
    struct err err = {0};
    bool good = false;

    if (file_exists(path) && file_read(path, KEPT_BYTES_MAX, &file, &err) == 0 &&
        file.bytes > head && memcmp(file.data, magic, sizeof magic) == 0 &&
        memcmp(file.data + sizeof magic, identity, DIGEST_SHA256_BYTES) == 0)
        good = data_shard_decode(shard, file.data + head, file.bytes - head, path, &err) == 0 &&
               shard->tar_bytes == tar_bytes;
    for (size_t i = 0; good && i < shard->count; i++)
        good = shard->records[i].label <= DATA_LABEL_MAX;
    if (!good)
        data_shard_release(shard);
    buf_release(&file);
    return good;
}

static void keep(const char *path, const unsigned char *identity, const struct data_shard *shard)
{
    struct buf file = {0};
    struct err err = {0};

    buf_append(&file, magic, sizeof magic);
    buf_append(&file, identity, DIGEST_SHA256_BYTES);
    data_shard_encode(shard, &file);
    if (file_replace(path, file.data, file.bytes, &err) < 0)
        log_warn("what was found in a tar is not kept for the next time: %s", err.msg);
    buf_release(&file);
}

/* --- the scan --- */

static int scan_bytes(struct tar *tar, struct data_bytes *bytes, struct err *err)
{
    struct data_webdataset set = {.bytes = bytes};
    struct buf key = {0};
    int rc;

    while ((rc = data_webdataset_next(&set, NULL, err)) == 1) {
        const struct data_shard_record record = {.offset = set.offset,
                                                 .bytes = (uint32_t)set.picture_bytes,
                                                 .label = (uint32_t)set.label};

        key.bytes = 0;
        buf_printf(&key, "%s/%s", tar->name, set.name);
        if (key.bytes > SHARD_KEY_BYTES_MAX || tar->shard.keys.bytes + key.bytes >= UINT32_MAX) {
            rc = data_bytes_refuse(bytes, set.stem_at, err, "a name of more than %d bytes",
                                   SHARD_KEY_BYTES_MAX);
            break;
        }
        if (record.bytes > 0) {
            data_shard_add(&tar->shard, &record, buf_text(&key));
            continue;
        }
        tar->empty++;
        if (tar->empty_first == NULL)
            tar->empty_first = text_copy(buf_text(&key));
    }
    buf_release(&key);
    if (rc == 0 && tar->shard.count == 0)
        rc = err_set(err, ERR_INPUT,
                     "'%s' has no pictures with a class: KEY.jpg (.jpeg, .png) beside KEY.cls",
                     bytes->name);
    tar->shard.tar_bytes = bytes->total;
    return rc;
}

static int scan_tar(struct scan *scan, struct tar *tar, struct err *err)
{
    char *path = uri_join(scan->index->root, tar->name), *kept = NULL;
    unsigned char identity[DIGEST_SHA256_BYTES];
    struct data_bytes bytes = {.fd = -1};
    int rc = -1;

    if (data_bytes_open(&bytes, path, scan->cancel, err) < 0)
        goto out;
    identify(&bytes, identity);
    kept = scan->folder != NULL ? kept_path(scan, path) : NULL;
    tar->kept = kept != NULL && read_kept(kept, identity, bytes.total, &tar->shard);
    if (!tar->kept) {
        if (scan_bytes(tar, &bytes, err) < 0)
            goto out;
        if (kept != NULL && tar->empty == 0) /* what is empty is told each time */
            keep(kept, identity, &tar->shard);
    }
    tar->etag = text_copy(bytes.etag != NULL ? bytes.etag : "");
    rc = 0;
out:
    data_bytes_close(&bytes);
    free(kept);
    free(path);
    return rc;
}

static void note_failure(struct scan *scan, size_t place, const struct err *err)
{
    pthread_mutex_lock(&scan->mutex);
    if (place < scan->failed) {
        scan->failed = place;
        scan->err = *err;
    }
    pthread_mutex_unlock(&scan->mutex);
}

/* A thread: tar after tar, until one failed. Those before it are under way, so that the first by
 * name is the one that is told. */
static void *scan_some(void *context)
{
    struct scan *scan = context;

    for (;;) {
        const size_t place = atomic_fetch_add(&scan->next, 1);
        struct err err = {0};
        bool over;

        pthread_mutex_lock(&scan->mutex);
        over = place >= scan->failed;
        pthread_mutex_unlock(&scan->mutex);
        if (over)
            return NULL;
        if (scan_tar(scan, &scan->tars[place], &err) < 0)
            note_failure(scan, place, &err);
        atomic_fetch_add(&scan->done, 1);
    }
}

static int scan_all(struct scan *scan, struct err *err)
{
    pthread_t threads[SCAN_THREADS];
    size_t started = 0;

    scan->failed = scan->count;
    for (; started < SCAN_THREADS && started < scan->count; started++)
        if (pthread_create(&threads[started], NULL, scan_some, scan) != 0)
            break;
    if (started == 0)
        scan_some(scan);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (scan->failed == scan->count)
        return 0;
    if (err != NULL)
        *err = scan->err;
    return -1;
}

static int hand_over(struct scan *scan, struct err *err)
{
    struct data_index *index = scan->index;
    struct data_builder builder = {0};
    const bool remote = data_place_is_remote(index->root);

    index->sharded = true;
    index->file_names = calloc(scan->count + 1, sizeof *index->file_names);
    index->file_etags = remote ? calloc(scan->count + 1, sizeof *index->file_etags) : NULL;
    if (index->file_names == NULL || (remote && index->file_etags == NULL))
        abort();
    for (size_t t = 0; t < scan->count; t++) {
        struct tar *tar = &scan->tars[t];

        index->file_names[t] = text_copy(tar->name);
        if (remote)
            index->file_etags[t] = text_copy(tar->etag);
        index->files++;
        for (size_t i = 0; i < tar->shard.count; i++) {
            const struct data_shard_record *record = &tar->shard.records[i];
            const struct data_sample sample = {.offset = record->offset,
                                               .bytes = record->bytes,
                                               .file = (uint32_t)t,
                                               .label = (int32_t)record->label};

            if (data_builder_add(&builder, &sample, data_shard_key(&tar->shard, i), err) < 0) {
                data_builder_release(&builder);
                return -1;
            }
        }
        if (tar->empty > 0)
            data_folder_leave(&index->empty, tar->empty_first, strlen(tar->empty_first));
        index->empty.count += tar->empty > 0 ? tar->empty - 1 : 0;
        data_shard_release(&tar->shard);
    }
    data_builder_finish(&builder, index);
    return 0;
}

static void tell(const struct scan *scan, double seconds)
{
    size_t kept = 0;

    for (size_t i = 0; i < scan->count; i++)
        kept += scan->tars[i].kept;
    if (kept < scan->count)
        log_info("read the headers of %zu tars in '%s' in %.1f s (%zu more were known)",
                 scan->count - kept, scan->index->root, seconds, kept);
}

int data_webdataset_read(struct data_index *index, struct data_manifest *manifest,
                         const volatile sig_atomic_t *cancel, struct err *err)
{
    struct scan scan = {
        .index = index, .manifest = manifest, .cancel = cancel, .mutex = PTHREAD_MUTEX_INITIALIZER};
    const double begun_s = clock_now_s();
    int rc = -1;

    if (list_tars(&scan, err) < 0)
        goto out;
    find_folder(&scan);
    if (scan_all(&scan, err) < 0)
        goto out;
    tell(&scan, clock_now_s() - begun_s);
    rc = hand_over(&scan, err);
out:
    for (size_t i = 0; i < scan.count; i++) {
        data_shard_release(&scan.tars[i].shard);
        free(scan.tars[i].name);
        free(scan.tars[i].etag);
        free(scan.tars[i].empty_first);
    }
    free(scan.tars);
    free(scan.folder);
    return rc;
}
