#include "trainer/data/pack/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/foreign/recordio.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/pack/lock.h"
#include "trainer/data/pack/packing.h"
#include "trainer/data/pack/target.h"
#include "trainer/data/pack/writer.h"
#include "trainer/data/picture/codec.h"
#include "trainer/data/set/folder.h"
#include "trainer/data/set/webdataset.h"

#define MARK_NAME   ".convoy-spool"
#define RETRY_MIN_S 0.01 /* for a FIFO that is not there yet */
#define RETRY_MAX_S 1.0
#define POLL_MS     200
/* The disk is not ours alone: checkpoints and logs need some too. Looked at after so many bytes. */
#define SPARE_BYTES ((uint64_t)64 << 20)
#define LOOK_BYTES  ((uint64_t)16 << 20)

struct spool {
    const struct data_spool_options *options;
    struct data_bytes bytes;
    struct data_target target;
    struct data_packing note;
    int mark_fd; /* holds the folder */
    struct data_writer writer;
    struct data_builder builder; /* all samples, for the top index */
    struct buf record, inner;
    struct data_left empty;
    uint64_t written, looked_at;
    double begun_s;
};

static void release(struct spool *spool, bool undo)
{
    if (spool->bytes.fd >= 0)
        close(spool->bytes.fd);
    data_bytes_close(&spool->bytes);
    data_writer_release(&spool->writer);
    data_builder_release(&spool->builder);
    data_target_release(&spool->target, undo);
    data_packing_release(&spool->note);
    if (spool->mark_fd >= 0)
        close(spool->mark_fd);
    buf_release(&spool->record);
    buf_release(&spool->inner);
    free(spool->empty.first);
}

static bool is_cancelled(const struct spool *spool)
{
    return spool->options->cancel != NULL && *spool->options->cancel;
}

/* --- the FIFO --- */

static int give_up(const struct spool *spool, const char *why, struct err *err)
{
    if (is_cancelled(spool))
        return err_set(err, ERR_STOPPED, "stopped while waiting for '%s'", spool->options->fifo);
    return err_set(err, ERR_INPUT, "'%s' %s within %.0f s: is the channel's S3 prefix right?",
                   spool->options->fifo, why, spool->options->wait_s);
}

static bool is_over(const struct spool *spool)
{
    return is_cancelled(spool) || clock_now_s() - spool->begun_s >= spool->options->wait_s;
}

/* Without O_NONBLOCK it would wait for a writer, whatever signals come. */
static int open_fifo(const struct spool *spool, struct err *err)
{
    const char *const path = spool->options->fifo;
    double wait_s = RETRY_MIN_S;
    struct stat stat;

    for (;;) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd >= 0 && fstat(fd, &stat) == 0 && (S_ISFIFO(stat.st_mode) || S_ISREG(stat.st_mode)))
            return fd;
        if (fd >= 0) {
            close(fd);
            return err_set(err, ERR_INPUT, "'%s' is no FIFO", path);
        }
        if (errno != ENOENT)
            return err_set_errno(err, errno == EACCES ? ERR_INPUT : ERR_IO, errno,
                                 "cannot read '%s'", path);
        if (is_over(spool))
            return give_up(spool, "did not appear", err);
        clock_sleep_s(wait_s);
        wait_s = wait_s * 2 < RETRY_MAX_S ? wait_s * 2 : RETRY_MAX_S;
    }
}

/* Until a writer has come and said something, or gone. */
static int await_writer(const struct spool *spool, int fd, struct err *err)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    while (poll(&poll_fd, 1, POLL_MS) <= 0)
        if (is_over(spool))
            return give_up(spool, "brought nothing", err);
    return 0;
}

static int open_stream(struct spool *spool, struct err *err)
{
    const int fd = open_fifo(spool, err);

    if (fd < 0)
        return -1;
    if (await_writer(spool, fd, err) < 0) {
        close(fd);
        return -1;
    }
    data_bytes_open_stream(&spool->bytes, fd, spool->options->fifo, spool->options->cancel);
    return 0;
}

/* --- the disk --- */

static int full(const struct spool *spool, struct err *err)
{
    return err_set(err, ERR_IO,
                   "the disk of '%s' is full after %.1f MB of '%s': give the job a larger volume, "
                   "or name a folder of another disk as CONVOY_SPOOL",
                   spool->options->folder, (double)spool->written / 1e6, spool->options->fifo);
}

static int check_space(struct spool *spool, uint64_t needed, struct err *err)
{
    struct statvfs disk;

    if (spool->written > 0 && spool->written + needed - spool->looked_at < LOOK_BYTES)
        return 0;
    spool->looked_at = spool->written;
    if (statvfs(spool->options->folder, &disk) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot look at the disk of '%s'",
                             spool->options->folder);
    if ((uint64_t)disk.f_bavail * disk.f_frsize < needed + LOOK_BYTES + SPARE_BYTES)
        return full(spool, err);
    return 0;
}

static void show(const struct spool *spool)
{
    const double seconds = clock_now_s() - spool->begun_s;
    char line[256];

    if (log_bar_width() == 0)
        return;
    snprintf(line, sizeof line, "reading %.120s: %zu pictures  %.1f MB  %.1f MB/s",
             spool->options->fifo, spool->writer.samples, (double)spool->written / 1e6,
             seconds > 0 ? (double)spool->written / seconds / 1e6 : 0);
    log_bar(line);
}

/* --- samples --- */

static int put(struct spool *spool, const char *name, int32_t label, const unsigned char *picture,
               uint64_t bytes, struct err *err)
{
    struct data_sample sample = {.label = label, .bytes = (uint32_t)bytes};
    char number[32];

    if (bytes == 0) {
        data_folder_leave(&spool->empty, name, strlen(name));
        return 0;
    }
    snprintf(number, sizeof number, "%012zu.jpg", spool->writer.samples);
    sample.key = name != NULL ? name : number;
    if (check_space(spool, bytes, err) < 0)
        return -1;
    if (data_writer_put(&spool->writer, &sample, picture, err) < 0) {
        struct statvfs disk;

        if (err->code == ERR_IO && statvfs(spool->options->folder, &disk) == 0 &&
            (uint64_t)disk.f_bavail * disk.f_frsize < bytes + LOOK_BYTES)
            return full(spool, err);
        return -1;
    }
    spool->written += bytes;
    show(spool);
    return data_builder_add(&spool->builder, &sample, sample.key, err);
}

static int read_tars(struct spool *spool, struct err *err)
{
    struct data_webdataset set = {.bytes = &spool->bytes, .joined = true};
    int rc;

    while ((rc = data_webdataset_next(&set, &spool->record, err)) == 1)
        if (put(spool, set.name, set.label, spool->record.data, set.picture_bytes, err) < 0)
            return -1;
    return rc;
}

static int put_image(struct spool *spool, const struct buf *record, uint64_t at, struct err *err)
{
    int32_t label = 0;
    size_t picture = 0;
    const char *why =
        data_record_image(record->data, record->bytes, record->bytes, &label, &picture);

    if (why != NULL)
        return data_bytes_refuse(&spool->bytes, at, err, "%s", why);
    return put(spool, NULL, label, record->data + picture, record->bytes - picture, err);
}

/* A record that is a whole file of records. */
static int put_file(struct spool *spool, uint64_t at, struct err *err)
{
    struct data_bytes file;
    uint64_t inner_at = 0;
    int rc;

    data_bytes_open_memory(&file, spool->record.data, spool->record.bytes, spool->options->fifo);
    while ((rc = data_record_next(&file, &inner_at, &spool->inner, err)) == 1)
        if (put_image(spool, &spool->inner, at, err) < 0) {
            rc = -1;
            break;
        }
    data_bytes_close(&file);
    return rc;
}

/* A picture's record is in hand; the label's comes. */
static int put_pair(struct spool *spool, uint64_t *at, struct err *err)
{
    const uint64_t begun = *at;
    int32_t label;
    const int rc = data_record_next(&spool->bytes, at, &spool->inner, err);

    if (rc < 0)
        return -1;
    if (rc == 0)
        return data_bytes_refuse(&spool->bytes, begun, err,
                                 "the stream ends between a picture and its label");
    if (!data_number_read((const char *)spool->inner.data, spool->inner.bytes, &label))
        return data_bytes_refuse(&spool->bytes, begun, err,
                                 "no label follows the picture: pictures alone cannot be learnt "
                                 "from; an augmented manifest needs the attributes image and "
                                 "label, in this order, and labels from 0 to 999999");
    return put(spool, NULL, label, spool->record.data, spool->record.bytes, err);
}

static bool is_picture(const struct buf *record)
{
    return data_jpeg_known(record->data, record->bytes) ||
           data_png_known(record->data, record->bytes);
}

static int read_records(struct spool *spool, struct err *err)
{
    enum { UNKNOWN, IMAGES, FILES, PAIRS } kind = UNKNOWN;
    uint64_t at = 0, begun = 0;
    int rc;

    while ((rc = data_record_next(&spool->bytes, &at, &spool->record, err)) == 1) {
        const struct buf *const record = &spool->record;

        if (kind == UNKNOWN)
            kind = is_picture(record)                                ? PAIRS
                   : data_record_begins(record->data, record->bytes) ? FILES
                                                                     : IMAGES;
        if (kind == PAIRS && !is_picture(record))
            rc = data_bytes_refuse(&spool->bytes, begun, err,
                                   "a record with a picture is due here, and this is none");
        else
            rc = kind == PAIRS   ? put_pair(spool, &at, err)
                 : kind == FILES ? put_file(spool, begun, err)
                                 : put_image(spool, record, begun, err);
        if (rc < 0)
            return -1;
        begun = at;
    }
    return rc;
}

/* --- what it is --- */

static int refuse_kind(const struct spool *spool, const unsigned char *first, size_t bytes,
                       struct err *err)
{
    const char *const path = spool->options->fifo;

    if (bytes == 0)
        return err_set(err, ERR_INPUT, "'%s' is empty: is the channel's S3 prefix right?", path);
    if (data_jpeg_known(first, bytes) || data_png_known(first, bytes))
        return err_set(err, ERR_INPUT,
                       "'%s' brings pictures without labels: give RecordIO, tars (WebDataset, "
                       "convoy pack), or an augmented manifest with the attributes image and "
                       "label, or use File or FastFile mode",
                       path);
    if (bytes >= 2 && first[0] == 0x1f && first[1] == 0x8b)
        return err_set(err, ERR_INPUT,
                       "'%s' brings what is compressed (gzip): set the channel's CompressionType "
                       "to Gzip, or give it as it is",
                       path);
    return err_set(err, ERR_INPUT,
                   "'%s' brings neither tars nor RecordIO: its first bytes are %02x %02x %02x %02x",
                   path, first[0], bytes > 1 ? first[1] : 0, bytes > 2 ? first[2] : 0,
                   bytes > 3 ? first[3] : 0);
}

static bool is_tar(const unsigned char *first, size_t bytes)
{
    return bytes == TAR_BLOCK && memcmp(first + 257, "ustar", 5) == 0;
}

static int read_stream(struct spool *spool, struct err *err)
{
    unsigned char first[TAR_BLOCK];
    const ssize_t bytes = data_bytes_peek(&spool->bytes, first, sizeof first, err);

    if (bytes < 0)
        return -1;
    if (data_record_begins(first, (size_t)bytes))
        return read_records(spool, err);
    if (is_tar(first, (size_t)bytes))
        return read_tars(spool, err);
    return refuse_kind(spool, first, (size_t)bytes, err);
}

/* --- the shards --- */

static bool is_ours(const char *name)
{
    return strcmp(name, SHARD_TOP_NAME) == 0 || strcmp(name, SHARD_PACKING_NAME) == 0 ||
           data_shard_is_name(name, ".tar") || data_shard_is_name(name, ".idx");
}

/* Visit our files' names in a folder. Non-zero ends it, and is returned. */
static int visit_ours(const char *folder,
                      int (*visit)(DIR *, const char *folder, const char *name, struct err *),
                      struct err *err)
{
    const struct dirent *entry;
    DIR *dir = opendir(folder);
    int rc = 0;

    if (dir == NULL)
        return err_set_errno(err, ERR_IO, errno, "cannot read folder '%s'", folder);
    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL)
        if (is_ours(entry->d_name))
            rc = visit(dir, folder, entry->d_name, err);
    if (rc == 0 && errno != 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot read folder '%s'", folder);
    closedir(dir);
    return rc;
}

static int refuse_one(DIR *dir, const char *folder, const char *name, struct err *err)
{
    (void)dir;
    return err_set(err, ERR_INPUT,
                   "'%s' holds '%s', which no Pipe channel brought: name another folder as "
                   "CONVOY_SPOOL",
                   folder, name);
}

static int remove_one(DIR *dir, const char *folder, const char *name, struct err *err)
{
    return unlinkat(dirfd(dir), name, 0) == 0 || errno == ENOENT
               ? 0
               : err_set_errno(err, ERR_IO, errno, "cannot remove '%s/%s'", folder, name);
}

/* The folder becomes ours by its mark, which a folder with shards of others does not get; what an
 * earlier spool left beside the mark goes: its stream is not this one. */
static int take_folder(struct spool *spool, struct err *err)
{
    const char *const folder = spool->options->folder;
    char *const mark = uri_join(folder, MARK_NAME), *const top = uri_join(folder, SHARD_TOP_NAME);
    int rc = data_target_folder(&spool->target, folder, err);

    if (rc == 0 && !file_exists(mark))
        rc = visit_ours(folder, refuse_one, err);
    if (rc == 0) {
        rc = data_lock_take(mark, &spool->mark_fd, err);
        if (rc == 0)
            rc = err_set(err, ERR_INPUT, "another process reads a Pipe channel into '%s'", folder);
        else if (rc > 0)
            rc = 0;
    }
    if (rc == 0) {
        data_target_own(&spool->target, mark);
        unlink(top); /* first: without it nothing there counts */
        rc = visit_ours(folder, remove_one, err);
    }
    free(mark);
    free(top);
    return rc;
}

static int write_top(struct spool *spool, struct err *err)
{
    struct data_index index = {.root = text_copy(spool->options->folder)};
    int rc = -1;

    data_builder_finish(&spool->builder, &index);
    if (index.count == 0) {
        err_set(err, ERR_INPUT, "'%s' brings no pictures", spool->options->fifo);
        goto out;
    }
    data_numbers_name(&index, false);
    if (data_index_complete(&index, false, index.class_names, index.classes, err) < 0 ||
        data_writer_top(&spool->writer, &index, err) < 0)
        goto out;
    data_packing_end(&spool->note, &spool->target);
    log_info("read '%s': %zu pictures of %d classes (%.1f MB) in %.1f s, as shards in '%s'",
             spool->options->fifo, index.count, index.classes, (double)index.bytes / 1e6,
             clock_now_s() - spool->begun_s, spool->options->folder);
    if (spool->empty.count > 0)
        log_warn("%zu pictures of '%s' are empty and are left out; the first is '%s'",
                 spool->empty.count, spool->options->fifo, spool->empty.first);
    rc = 0;
out:
    data_index_release(&index);
    return rc;
}

static int begin(struct spool *spool, struct err *err)
{
    const char *const folder = spool->options->folder;
    static const unsigned char nothing[DIGEST_SHA256_BYTES];
    bool resumes;

    if (take_folder(spool, err) < 0)
        return -1;
    return data_packing_begin(&spool->note, &spool->target, folder, spool->options->fifo, nothing,
                              spool->options->shard_bytes, &resumes, err);
}

int data_spool(const struct data_spool_options *options, struct err *err)
{
    struct spool spool = {.options = options,
                          .bytes.fd = -1,
                          .mark_fd = -1,
                          .begun_s = clock_now_s(),
                          .looked_at = 0};
    struct err local = {0};
    int rc = -1;

    err = err != NULL ? err : &local;
    data_writer_init(&spool.writer, &spool.target, options->folder, options->shard_bytes,
                     options->cancel);
    if (begin(&spool, err) == 0 && open_stream(&spool, err) == 0 && read_stream(&spool, err) == 0 &&
        data_writer_finish(&spool.writer, err) == 0)
        rc = write_top(&spool, err);
    log_bar("");
    release(&spool, rc < 0);
    return rc;
}
