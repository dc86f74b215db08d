/*
 * trainer/data/synth/synth.c -- the folders and files of a drawn dataset.
 *
 * Everything is written in a hidden folder inside the target and renamed when it is whole, so that
 * a stop leaves nothing that looks like a dataset. Picture k of a split is of class k mod classes
 * and draws from Philox(seed, k, split): any thread may draw it.
 */
#include "trainer/data/synth/synth.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/philox.h"
#include "base/uri.h"
#include "trainer/data/picture/codec.h"
#include "trainer/data/synth/draw.h"
#include "trainer/data/synth/photo.h"

#define SYNTH_THREADS_MAX 16
#define SYNTH_SIZE_MIN    16
#define SYNTH_SIZE_MAX    8192
#define QUALITY_MIN       70 /* of the JPEGs: drawn from 70 to 95 */
#define QUALITIES         26
#define PHOTO_QUALITY_MIN 85 /* from 85 to 95 */
#define PHOTO_QUALITIES   11
#define NAME_MAX_BYTES    64

static const char *const split_names[] = {"train", "val"};
#define SPLITS 2

struct synth {
    const struct data_synth_options *options;
    char *folder; /* the hidden one */
    uint64_t counts[SPLITS];
    struct data_grain *grain; /* of photographs; else NULL */

    pthread_mutex_t mutex; /* guards what follows */
    uint64_t next;         /* the next picture, counted over the splits */
    bool stop;             /* after an error */
    struct err err;        /* the first one */
};

/* "00-disc-stripes": as many digits as the last class needs, at least two. */
static void synth_class_name(const struct synth *synth, int class, char name[NAME_MAX_BYTES])
{
    char what[NAME_MAX_BYTES / 2];

    data_draw_name(class, what, sizeof what);
    snprintf(name, NAME_MAX_BYTES, "%0*d-%s", synth->options->classes > 100 ? 3 : 2, class, what);
}

static int synth_write(const char *path, const struct buf *jpeg, struct err *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    size_t written = 0;

    while (fd >= 0 && written < jpeg->bytes) {
        const ssize_t n = write(fd, jpeg->data + written, jpeg->bytes - written);

        if (n < 0 && errno != EINTR)
            break;
        written += n > 0 ? (size_t)n : 0;
    }
    if (fd < 0 || written < jpeg->bytes)
        err_set_errno(err, ERR_IO, errno, "cannot write '%s'", path);
    if (fd >= 0 && close(fd) < 0 && written == jpeg->bytes) {
        written = 0;
        err_set_errno(err, ERR_IO, errno, "cannot write '%s'", path);
    }
    return fd >= 0 && written == jpeg->bytes ? 0 : -1;
}

/* Draw one picture and encode it. */
static int synth_draw_one(const struct synth *synth, int class, struct philox *random, uint8_t *rgb,
                          struct buf *jpeg, struct err *err)
{
    const int size = synth->options->size;
    int width = size, height = size, quality;

    if (synth->grain != NULL) {
        data_photo_size(size, random, &width, &height);
        data_photo_draw(synth->grain, class, width, height, random, rgb);
        quality = PHOTO_QUALITY_MIN + (int)philox_below(random, PHOTO_QUALITIES);
    } else {
        data_draw(class, size, random, rgb);
        quality = QUALITY_MIN + (int)philox_below(random, QUALITIES);
    }
    return data_jpeg_encode(rgb, width, height, quality, jpeg, err);
}

static int synth_picture(const struct synth *synth, int split, uint64_t number, uint8_t *rgb,
                         struct buf *jpeg, struct err *err)
{
    const struct data_synth_options *options = synth->options;
    const int class = (int)(number % (uint64_t)options->classes);
    char name[NAME_MAX_BYTES];
    struct philox random;
    struct buf path = {0};
    int rc = -1;

    philox_init(&random, options->seed, number, (uint64_t)split, PHILOX_SYNTH);
    jpeg->bytes = 0;
    if (synth_draw_one(synth, class, &random, rgb, jpeg, err) < 0)
        return -1;
    synth_class_name(synth, class, name);
    buf_printf(&path, "%s/%s/%s/%05" PRIu64 ".jpg", synth->folder, split_names[split], name,
               number / (uint64_t)options->classes);
    rc = synth_write(buf_text(&path), jpeg, err);
    buf_release(&path);
    return rc;
}

/* The next picture to draw; false when all are in work or it is time to stop. */
static bool synth_take(struct synth *synth, int *split, uint64_t *number)
{
    bool taken;

    pthread_mutex_lock(&synth->mutex);
    *split = synth->next >= synth->counts[0];
    *number = synth->next - (*split ? synth->counts[0] : 0);
    taken = !synth->stop && synth->next < synth->counts[0] + synth->counts[1];
    synth->next += taken;
    pthread_mutex_unlock(&synth->mutex);
    return taken;
}

static void synth_fail(struct synth *synth, const struct err *err)
{
    pthread_mutex_lock(&synth->mutex);
    if (!synth->stop)
        synth->err = *err;
    synth->stop = true;
    pthread_mutex_unlock(&synth->mutex);
}

/* cancel is NULL on all threads but the caller's, where signals arrive. */
static void synth_draw(struct synth *synth, const volatile sig_atomic_t *cancel)
{
    const size_t size = (size_t)synth->options->size;
    uint8_t *rgb = malloc(
        (synth->grain != NULL ? data_photo_pixels_max(synth->options->size) : size * size) * 3);
    struct buf jpeg = {0};
    struct err err = {0};
    uint64_t number;
    int split;

    if (rgb == NULL)
        abort();
    while (synth_take(synth, &split, &number)) {
        if (synth_picture(synth, split, number, rgb, &jpeg, &err) < 0)
            synth_fail(synth, &err);
        if (cancel != NULL && *cancel != 0) {
            err_set(&err, ERR_STOPPED, "stopped while drawing pictures");
            synth_fail(synth, &err);
        }
    }
    buf_release(&jpeg);
    free(rgb);
}

static void *synth_work(void *synth)
{
    synth_draw(synth, NULL);
    return NULL;
}

/* Draw on all cores; this thread is one of them. Fewer threads than asked for are enough. */
static int synth_run(struct synth *synth, struct err *err)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int want = cores > SYNTH_THREADS_MAX ? SYNTH_THREADS_MAX : (int)cores;
    pthread_t threads[SYNTH_THREADS_MAX];
    sigset_t all, before;
    int running = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (running < want - 1 && pthread_create(&threads[running], NULL, synth_work, synth) == 0)
        running++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    synth_draw(synth, synth->options->cancel);
    for (int i = 0; i < running; i++)
        pthread_join(threads[i], NULL);
    if (synth->stop)
        return err_set(err, synth->err.code, "%s", synth->err.msg);
    return 0;
}

/* ERR_INPUT unless the folder is missing or empty. */
static int synth_check_free(const char *path, struct err *err)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    bool empty = true;

    if (folder == NULL) {
        if (errno == ENOENT)
            return 0;
        return err_set_errno(err, ERR_INPUT, errno, "cannot draw pictures into '%s'", path);
    }
    while ((entry = readdir(folder)) != NULL)
        empty &= strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    if (!empty)
        return err_set(err, ERR_INPUT, "'%s' is not empty: choose another folder or remove it",
                       path);
    return 0;
}

static int synth_make_folders(const struct synth *synth, struct err *err)
{
    char name[NAME_MAX_BYTES];
    struct buf path = {0};
    int rc = 0;

    for (int split = 0; rc == 0 && split < SPLITS; split++)
        for (int class = 0; rc == 0 && class < synth->options->classes; class ++) {
            synth_class_name(synth, class, name);
            path.bytes = 0;
            buf_printf(&path, "%s/%s/%s", synth->folder, split_names[split], name);
            rc = file_make_folder(buf_text(&path), err);
        }
    buf_release(&path);
    return rc;
}

/* Let both splits appear; train comes last: where there is one, the dataset is whole. */
static int synth_publish(const struct synth *synth, struct err *err)
{
    int rc = 0;

    for (int split = SPLITS; rc == 0 && split-- > 0;) {
        char *from = uri_join(synth->folder, split_names[split]);
        char *to = uri_join(synth->options->target, split_names[split]);

        if (rename(from, to) < 0)
            rc = err_set_errno(err, ERR_IO, errno, "cannot rename '%s' to '%s'", from, to);
        free(from);
        free(to);
    }
    return rc;
}

static int synth_remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    remove(path);
    return 0;
}

static int synth_check(const struct data_synth_options *options, struct err *err)
{
    int rc = 0;

    if (options->classes < 2 || options->classes > DATA_SYNTH_CLASSES_MAX)
        return err_set(err, ERR_USAGE, "--classes %d: from 2 to %d", options->classes,
                       DATA_SYNTH_CLASSES_MAX);
    if (options->size < SYNTH_SIZE_MIN || options->size > SYNTH_SIZE_MAX)
        return err_set(err, ERR_USAGE, "--size %d: from %d to %d pixels", options->size,
                       SYNTH_SIZE_MIN, SYNTH_SIZE_MAX);
    if (options->count < (uint64_t)options->classes)
        return err_set(err, ERR_USAGE,
                       "--count %" PRIu64 ": at least one picture for each of %d classes",
                       options->count, options->classes);
    for (int split = 0; rc == 0 && split < SPLITS; split++) {
        char *path = uri_join(options->target, split_names[split]);

        rc = synth_check_free(path, err);
        free(path);
    }
    return rc;
}

int data_synth(const struct data_synth_options *options, struct err *err)
{
    const uint64_t fifth = options->count / 5, classes = (uint64_t)options->classes;
    struct synth synth = {.options = options,
                          .counts = {options->count, fifth < classes ? classes : fifth}};
    char hidden[32];
    int rc = -1;

    if (synth_check(options, err) < 0)
        return -1;
    snprintf(hidden, sizeof hidden, ".synth.tmp-%ld", (long)getpid());
    synth.folder = uri_join(options->target, hidden);
    pthread_mutex_init(&synth.mutex, NULL);
    if (options->photos)
        synth.grain = data_grain_new();
    if (synth_make_folders(&synth, err) < 0)
        goto out;
    if (synth_run(&synth, err) < 0)
        goto out;
    rc = synth_publish(&synth, err);
out:
    nftw(synth.folder, synth_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    pthread_mutex_destroy(&synth.mutex);
    data_grain_free(synth.grain);
    free(synth.folder);
    return rc;
}
