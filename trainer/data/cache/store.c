#include "trainer/data/cache/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/data/cache/chunk.h"
#include "trainer/data/cache/folder.h"
#include "trainer/data/cache/survey.h"
#include "trainer/data/cache/table.h"
#include "trainer/data/index/drafts.h"

#define LOCK_MAGIC   "CVYCCL1\n"
#define LOCK_BYTES   4096
#define LOCK_WAIT_S  1  /* then who wants it does without, */
#define LOCK_LEAVE_S 10 /* and does not ask again for so long */
#define LOCK_OPEN_S  10 /* who opens the folder waits so long for a holder that does not get on */
#define LOCK_NAP_S   0.001
#define FIXED_BLOCKS 6 /* DIR, DIR/pictures, `lock`, and the empty `users` and `warned` */

/* The first bytes of `lock`. */
struct state {
    char magic[DATA_CACHE_MAGIC_BYTES];
    uint64_t marked; /* somebody is changing something, or died in it */
    uint64_t bytes;  /* in use */
    uint64_t beats;  /* goes on while the holder of the lock counts files */
    uint64_t beside; /* of `bytes`: DIR/index */
};

struct data_cache_store {
    char *dir; /* DIR, for messages */
    int folder, lock, users, warned;
    uint64_t bytes_max;
    struct state *state;   /* mapped */
    pthread_mutex_t mutex; /* the flock is the process's: this is its threads' */
    double asked_s;        /* when the lock could not be had */
    const volatile sig_atomic_t *cancel;
    /* With the lock: `marked` stays where it is broken off, or a file was not as it was counted. */
    struct data_cache_survey survey;
    bool surveyed; /* all was counted, since it has the lock */
    bool unsure;
};

static bool is_cancelled(const struct data_cache_store *store)
{
    return store->cancel != NULL && *store->cancel != 0;
}

static int stopped(const struct data_cache_store *store, struct err *err)
{
    return err_set(err, ERR_STOPPED, "stopped while '%s' was opened", store->dir);
}

/* What a file counts for. */
static uint64_t counted(const struct data_cache_store *store, uint64_t bytes)
{
    return data_cache_survey_file(&store->survey, bytes);
}

/* With the lock: count all files, and let all tables be as the files are. */
static void survey(struct data_cache_store *store)
{
    store->state->beside = data_cache_survey_beside(&store->survey);
    store->state->bytes = FIXED_BLOCKS * store->survey.block + store->state->beside +
                          data_cache_survey_datasets(&store->survey);
    store->surveyed = true;
}

/* With the lock: what others put into DIR/index since. */
static void count_beside(struct data_cache_store *store)
{
    const uint64_t bytes = data_cache_survey_beside(&store->survey);

    store->state->bytes += bytes - store->state->beside;
    store->state->beside = bytes;
}

/* ---- the lock ---- */

/* A flock, asked for again for so long. patient: anew whenever its holder gets on, and till the
 * caller is asked to stop. false: errno. */
static bool flock_within(const struct data_cache_store *store, int fd, double seconds, bool patient)
{
    double since = clock_now_s();
    uint64_t beats = 0;

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        const double now = clock_now_s();
        const uint64_t beats_now = patient && store->state != NULL
                                       ? __atomic_load_n(&store->state->beats, __ATOMIC_RELAXED)
                                       : 0;

        if (beats_now != beats)
            since = now;
        beats = beats_now;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        if (now - since > seconds || (patient && is_cancelled(store))) {
            errno = EWOULDBLOCK;
            return false;
        }
        clock_sleep_s(LOCK_NAP_S);
    }
    return true;
}

/* With the flock and the mutex; false: without both. Where all is to be counted first that takes
 * `seconds` at most (0: as long as it does). */
static bool begin_change(struct data_cache_store *store, double seconds)
{
    store->asked_s = 0;
    store->surveyed = false;
    store->survey.until_s = seconds > 0 ? clock_now_s() + seconds : 0;
    if (store->state->marked != 0)
        survey(store);
    store->state->marked = 1;
    if (!store->survey.broken_off)
        return true;
    store->asked_s = clock_now_s();
    data_cache_store_unlock(store);
    return false;
}

bool data_cache_store_lock(struct data_cache_store *store)
{
    pthread_mutex_lock(&store->mutex);
    if (store->asked_s > 0 && clock_now_s() - store->asked_s < LOCK_LEAVE_S) {
        pthread_mutex_unlock(&store->mutex);
        return false;
    }
    if (flock_within(store, store->lock, LOCK_WAIT_S, false))
        return begin_change(store, LOCK_WAIT_S);
    store->asked_s = clock_now_s();
    pthread_mutex_unlock(&store->mutex);
    return false;
}

/* The same for who opens the folder: without the lock it would do without for the whole run. */
static int lock_to_open(struct data_cache_store *store, struct err *err)
{
    pthread_mutex_lock(&store->mutex);
    if (flock_within(store, store->lock, LOCK_OPEN_S, true)) {
        if (begin_change(store, 0))
            return 0;
    } else {
        pthread_mutex_unlock(&store->mutex);
    }
    if (is_cancelled(store))
        return stopped(store, err);
    return err_set(err, ERR_IO,
                   "another process holds '%s/pictures/lock' and has not got on for %d seconds",
                   store->dir, LOCK_OPEN_S);
}

void data_cache_store_unlock(struct data_cache_store *store)
{
    store->state->marked = store->survey.broken_off || store->unsure;
    store->survey.broken_off = store->unsure = false;
    flock(store->lock, LOCK_UN);
    pthread_mutex_unlock(&store->mutex);
}

/* ---- opening ---- */

static int map_lock(struct data_cache_store *store)
{
    struct stat stat;
    void *mapped;
    int rc;

    if (fstat(store->lock, &stat) < 0)
        return -1;
    if (stat.st_size == 0 && (rc = posix_fallocate(store->lock, 0, LOCK_BYTES)) != 0) {
        errno = rc;
        return -1;
    }
    if (stat.st_size != 0 && stat.st_size != LOCK_BYTES) {
        errno = EEXIST;
        return -1;
    }
    mapped = mmap(NULL, LOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, store->lock, 0);
    if (mapped == MAP_FAILED)
        return -1;
    store->state = mapped;
    if (store->state->magic[0] == '\0') {
        store->state->marked = 1; /* to be counted */
        memcpy(store->state->magic, LOCK_MAGIC, sizeof store->state->magic);
    }
    store->survey.folder = store->folder;
    store->survey.beats = &store->state->beats;
    store->survey.cancel = store->cancel;
    errno = EEXIST;
    return memcmp(store->state->magic, LOCK_MAGIC, sizeof store->state->magic) == 0 ? 0 : -1;
}

/* The files that all share; made under the folder's own flock, which nobody holds for long. */
static int open_files(struct data_cache_store *store)
{
    const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    int rc = -1;

    if (!flock_within(store, store->folder, LOCK_OPEN_S, true))
        return -1;
    store->lock = openat(store->folder, "lock", flags, 0666);
    store->users = openat(store->folder, "users", flags, 0666);
    store->warned = openat(store->folder, "warned", flags, 0666);
    if (store->lock >= 0 && store->users >= 0 && store->warned >= 0)
        rc = map_lock(store);
    flock(store->folder, LOCK_UN);
    return rc;
}

static uint64_t half_of_disk(const struct data_cache_store *store)
{
    struct statvfs disk;
    const uint64_t used = store->state->bytes;

    if (fstatvfs(store->folder, &disk) < 0)
        return used;
    return (used + (uint64_t)disk.f_bavail * disk.f_frsize) / 2;
}

/* ".HASH.idx.tmp-PID.sagemaker-ignore", of what is found in tars. */
static bool is_draft(const char *name)
{
    return name[0] == '.' && strspn(name + 1, "0123456789abcdef") == DIGEST_HEX_CHARS - 1 &&
           strncmp(name + DIGEST_HEX_CHARS, ".idx.", 5) == 0;
}

static void remove_drafts(const struct data_cache_store *store)
{
    char *path = uri_join(store->dir, "index");

    data_drafts_remove(path, is_draft);
    free(path);
}

/* With what is there counted. */
static int take_up(struct data_cache_store *store, struct err *err)
{
    bool alone;

    remove_drafts(store);
    if (lock_to_open(store, err) < 0)
        return -1;
    alone = flock(store->users, LOCK_EX | LOCK_NB) == 0;
    if (alone && !store->surveyed)
        survey(store);
    else if (!store->surveyed)
        count_beside(store);
    if (store->survey.broken_off) {
        data_cache_store_unlock(store);
        return stopped(store, err);
    }
    flock(store->users, LOCK_SH | LOCK_NB);
    if (store->bytes_max == 0)
        store->bytes_max = half_of_disk(store);
    while (store->state->bytes > store->bytes_max && data_cache_store_evict_idle(store))
        ;
    data_cache_store_unlock(store);
    return 0;
}

static int check_bytes(const struct data_cache_store *store, uint64_t index_bytes, struct err *err)
{
    const uint64_t least = FIXED_BLOCKS * store->survey.block + index_bytes;

    if (store->bytes_max >= least)
        return 0;
    if (index_bytes > 0)
        return err_set(err, ERR_IO,
                       "%" PRIu64 " bytes (--cache-bytes) hold nothing: '%s/index', what was found "
                       "in tars, takes up %" PRIu64 "; give more, or remove what is not needed",
                       store->bytes_max, store->dir, index_bytes);
    return err_set(err, ERR_IO,
                   "%" PRIu64 " bytes (--cache-bytes) hold nothing: %" PRIu64
                   " are needed before the first picture",
                   store->bytes_max, least);
}

static int open_folder(struct data_cache_store *store, uint64_t bytes, struct err *err)
{
    struct buf path = {0};
    struct statvfs disk;
    int rc = -1;

    buf_printf(&path, "%s/pictures", store->dir);
    store->survey = (struct data_cache_survey){.folder = -1, .block = 4096};
    store->bytes_max = bytes;
    if (bytes > 0 && !file_exists(buf_text(&path)) && check_bytes(store, 0, err) < 0) {
        /* not even made */
    } else if (file_make_folder(buf_text(&path), err) == 0) {
        store->folder = open(buf_text(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (store->folder >= 0 && fstatvfs(store->folder, &disk) == 0 &&
            disk.f_frsize > store->survey.block && disk.f_frsize <= 1 << 16)
            store->survey.block = disk.f_frsize;
        rc = store->folder >= 0 ? open_files(store) : -1;
        if (rc < 0 && is_cancelled(store))
            stopped(store, err);
        else if (rc < 0)
            err_set_errno(err, ERR_IO, errno, "cannot use '%s'", buf_text(&path));
    }
    buf_release(&path);
    return rc;
}

int data_cache_store_open(struct data_cache_store **store, const char *dir, uint64_t bytes,
                          const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_cache_store *const s = calloc(1, sizeof *s);

    if (s == NULL)
        abort();
    s->dir = text_copy(dir);
    s->folder = s->lock = s->users = s->warned = -1;
    s->cancel = cancel;
    pthread_mutex_init(&s->mutex, NULL);
    if (open_folder(s, bytes, err) < 0 || take_up(s, err) < 0 ||
        check_bytes(s, s->state->beside, err) < 0) {
        data_cache_store_close(s);
        return -1;
    }
    *store = s;
    return 0;
}

void data_cache_store_close(struct data_cache_store *store)
{
    if (store == NULL)
        return;
    if (store->state != NULL)
        munmap(store->state, LOCK_BYTES);
    if (store->folder >= 0)
        close(store->folder);
    if (store->lock >= 0)
        close(store->lock);
    if (store->users >= 0)
        close(store->users);
    if (store->warned >= 0)
        close(store->warned);
    pthread_mutex_destroy(&store->mutex);
    free(store->dir);
    free(store);
}

bool data_cache_store_may_warn(const struct data_cache_store *store)
{
    return flock(store->warned, LOCK_EX | LOCK_NB) == 0;
}

uint64_t data_cache_store_bytes_max(const struct data_cache_store *store)
{
    return store->bytes_max;
}

uint64_t data_cache_store_used(const struct data_cache_store *store)
{
    return store->state->bytes;
}

bool data_cache_store_fits(const struct data_cache_store *store, uint64_t file_bytes)
{
    return store->state->bytes + counted(store, file_bytes) <= store->bytes_max;
}

/* ---- datasets ---- */

/* With the lock: a table that can be taken up, or a new one. */
static int open_table(struct data_cache_store *store, struct data_cache_table *table)
{
    const uint64_t bytes = data_cache_table_bytes(table->chunks);
    struct stat stat;
    bool damaged;

    if (data_cache_table_map(table) == 0) {
        if (flock(table->fd, LOCK_EX | LOCK_NB) == 0) /* else others know better */
            for (uint64_t i = 0; i < table->chunks; i++)
                table->states[i] = table->states[i] > 0 ? DATA_CACHE_STATE_FOUND : 0;
        return flock(table->fd, LOCK_SH | LOCK_NB);
    }
    while (!data_cache_store_fits(store, bytes + store->survey.block) &&
           data_cache_store_evict_idle(store))
        ;
    if (!data_cache_store_fits(store, bytes + store->survey.block))
        return 1;
    damaged = fstatat(table->folder, "table", &stat, AT_SYMLINK_NOFOLLOW) == 0;
    if (data_cache_table_make(table) < 0)
        return -1;
    store->state->bytes += counted(store, bytes);
    store->state->bytes -= damaged ? counted(store, (uint64_t)stat.st_size) : 0;
    data_cache_survey_chunks(&store->survey, table->folder, table->states, table->chunks);
    return flock(table->fd, LOCK_SH | LOCK_NB);
}

int data_cache_store_add(struct data_cache_store *store, struct data_cache_table *table,
                         struct err *err)
{
    char name[DIGEST_HEX_CHARS];
    bool made;
    int rc = -1;

    table->folder = table->fd = -1;
    table->states = NULL;
    table->mapped = NULL;
    digest_hex(table->key, name);
    if (lock_to_open(store, err) < 0)
        return -1;
    made = mkdirat(store->folder, name, 0777) == 0;
    store->state->bytes += made ? 2 * store->survey.block : 0;
    table->folder = openat(store->folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (table->folder >= 0)
        rc = open_table(store, table);
    if (rc != 0) {
        if (rc < 0)
            err_set_errno(err, ERR_IO, errno, "cannot use '%s/pictures/%s'", store->dir, name);
        data_cache_table_close(table);
        if (unlinkat(store->folder, name, AT_REMOVEDIR) == 0)
            store->state->bytes -= 2 * store->survey.block;
    }
    data_cache_store_unlock(store);
    return rc < 0 ? -1 : 0;
}

/* ---- files ---- */

static void set_state(struct data_cache_table *table, uint64_t chunk, uint32_t state)
{
    __atomic_store_n(&table->states[chunk], state, __ATOMIC_RELEASE);
}

int data_cache_store_create(struct data_cache_store *store, struct data_cache_table *table,
                            struct data_cache_chunk *chunk, uint32_t state)
{
    const uint64_t bytes = counted(store, data_cache_chunk_bytes(chunk));
    char name[DATA_CACHE_NAME_CHARS];
    int number;

    assert(state > 0 && table->states[chunk->number] == 0);
    data_cache_chunk_name(chunk->number, name);
    chunk->fd =
        openat(table->folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (chunk->fd < 0)
        return -1;
    store->state->bytes += bytes;
    if (flock(chunk->fd, LOCK_SH | LOCK_NB) == 0 && data_cache_chunk_begin(chunk) == 0) {
        set_state(table, chunk->number, state); /* now others look */
        return 0;
    }
    number = errno;
    unlinkat(table->folder, name, 0);
    close(chunk->fd);
    chunk->fd = -1;
    store->state->bytes -= bytes;
    errno = number;
    return -1;
}

bool data_cache_store_evict(struct data_cache_store *store, struct data_cache_table *table,
                            uint64_t chunk, uint64_t file_bytes)
{
    char name[DATA_CACHE_NAME_CHARS];
    enum data_cache_removal removal;
    uint64_t size;

    if (table->states[chunk] == 0)
        return true;
    data_cache_chunk_name(chunk, name);
    removal = data_cache_remove(table->folder, name, &size);
    if (removal == DATA_CACHE_BUSY || removal == DATA_CACHE_FAILED)
        return false;
    store->state->bytes -= counted(store, file_bytes);
    if (removal == DATA_CACHE_ALIEN) /* in its place */
        store->state->bytes += counted(store, size);
    if (removal == DATA_CACHE_REMOVED && size != file_bytes) /* which of them was counted? */
        store->unsure = true;
    set_state(table, chunk, 0);
    return true;
}

/* With the lock: one chunk of this dataset, or what is left when there is none. */
static bool evict_of(struct data_cache_store *store, const char *name, int folder)
{
    struct data_cache_names names = {0};
    uint64_t size = 0;
    bool gone = false;

    for (data_cache_names_open(&names, folder); !gone && data_cache_names_next(&names);)
        gone = data_cache_remove(folder, names.name, &size) == DATA_CACHE_REMOVED;
    data_cache_names_close(&names);
    if (gone) {
        store->state->bytes -= counted(store, size);
        return true;
    }
    if (data_cache_table_remove(folder, &size) < 0)
        return false;
    store->state->bytes -= counted(store, size);
    if (unlinkat(store->folder, name, AT_REMOVEDIR) == 0)
        store->state->bytes -= 2 * store->survey.block;
    return true;
}

bool data_cache_store_evict_idle(struct data_cache_store *store)
{
    struct data_cache_names names = {0};
    unsigned char key[DIGEST_SHA256_BYTES];
    bool gone = false;

    for (data_cache_names_open(&names, store->folder); !gone && data_cache_names_next(&names);) {
        int folder;

        if (!data_cache_key_read(names.name, key))
            continue;
        folder = openat(store->folder, names.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0)
            continue;
        gone = data_cache_table_idle(folder) && evict_of(store, names.name, folder);
        close(folder);
    }
    data_cache_names_close(&names);
    return gone;
}

int data_cache_store_file(const struct data_cache_table *table, uint64_t chunk, bool writing)
{
    char name[DATA_CACHE_NAME_CHARS];
    struct stat stat;
    int fd;

    data_cache_chunk_name(chunk, name);
    fd = openat(table->folder, name, (writing ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_SH | LOCK_NB) == 0 && fstat(fd, &stat) == 0) {
        if (stat.st_nlink > 0)
            return fd;
        errno = ENOENT; /* removed between the two */
    }
    close(fd);
    return -1;
}
