#include "launcher/s3/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "launcher/s3/copy_list.h"
#include "launcher/s3/parallel.h"
#include "launcher/s3/stream.h"
#include "s3io/client.h"
#include "s3io/object.h"

#define SPOOL_READ_BYTES ((size_t)1 << 20)

struct copy {
    const struct launch_s3 *s3;
    const struct launch_s3_end *from, *to;
    struct launch_s3_items items;
    /* Held by an object that goes in parts: one at a time has many requests, while small ones go on
     * beside it. */
    pthread_mutex_t large;
};

/* By a signal, or by a thread whose object failed. */
static bool is_cancelled(const struct copy *copy)
{
    return __atomic_load_n(copy->s3->cancel, __ATOMIC_RELAXED) != 0;
}

/* --- progress --- */

struct progress {
    struct launch_s3_meter *meter;
    bool expected; /* the meter knows of these bytes */
    uint64_t done;
};

static void tell(void *context, uint64_t done, uint64_t total)
{
    struct progress *const progress = context;

    if (!progress->expected)
        launch_s3_meter_expect(progress->meter, 0, total);
    progress->expected = true;
    launch_s3_meter_move(progress->meter, (int64_t)(done - progress->done));
    progress->done = done;
}

/* --- bytes that are kept in a file without a name meanwhile --- */

static int spool_open(struct err *err)
{
    const char *const temp = file_temp_root();
    char *path;
    int fd;

    if (asprintf(&path, "%s/convoy-s3-XXXXXX", temp) < 0)
        abort();
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        err_set_errno(err, ERR_IO, errno, "cannot make a temporary file in '%s' (TMPDIR)", temp);
    else
        unlink(path);
    free(path);
    return fd;
}

/* Read fd to its end. A signal ends the wait for a terminal or pipe. */
static int spool_fill(const struct copy *copy, int spool, int fd, uint64_t *bytes, struct err *err)
{
    char *const data = malloc(SPOOL_READ_BYTES);
    ssize_t got = 1;
    int rc = 0;

    if (data == NULL)
        abort();
    while (rc == 0 && got != 0) {
        got = read(fd, data, SPOOL_READ_BYTES);
        if (is_cancelled(copy))
            rc = err_set(err, ERR_STOPPED, "stopped");
        else if (got > 0)
            rc = launch_s3_write(spool, data, (size_t)got, "a temporary file in TMPDIR", err);
        else if (got < 0 && errno != EINTR)
            rc = err_set_errno(err, ERR_IO, errno, "cannot read '%s'", copy->from->text);
        if (got > 0)
            *bytes += (uint64_t)got;
    }
    free(data);
    return rc;
}

/* --- one object --- */

/* source: the file's path, so that an upload that is cut off can be gone on with; NULL: none. */
static int upload(const struct copy *copy, const char *key, int fd, const char *source,
                  uint64_t bytes, int threads, struct progress *progress, struct err *err)
{
    const struct s3_put put = {.bucket = copy->to->uri.bucket, .key = key, .bytes = bytes};
    const struct s3_transfer transfer = {.threads = threads,
                                         .progress = progress == NULL ? NULL : tell,
                                         .context = progress,
                                         .source = source};
    const int rc = s3_object_upload(copy->s3->client, &put, fd, &transfer, NULL, err);

    if (rc == S3_NO) /* no condition was set */
        return err_set(err, ERR_INTERNAL, "'s3://%s/%s' was not written", put.bucket, key);
    return rc < 0 ? -1 : 0;
}

static int download(const struct copy *copy, const struct launch_s3_item *item, int fd, int threads,
                    struct progress *progress, struct s3_object *object, struct err *err)
{
    const bool known = item->bytes != LAUNCH_S3_BYTES_UNKNOWN;
    const struct s3_transfer transfer = {.threads = threads,
                                         .progress = tell,
                                         .context = progress,
                                         .bytes_likely = known ? item->bytes : 0};
    const int rc = s3_object_download(copy->s3->client, copy->from->uri.bucket, item->from, fd,
                                      &transfer, object, err);

    if (rc == S3_NO)
        return s3_object_missing(copy->from->uri.bucket, item->from, err);
    return rc < 0 ? -1 : 0;
}

/* What is no regular file (a pipe, /dev/stdin) has no length beforehand. */
static int upload_stream(const struct copy *copy, const char *key, int fd, struct err *err)
{
    struct progress progress = {.meter = copy->s3->meter};
    uint64_t bytes = 0;
    const int spool = spool_open(err);
    int rc = -1;

    if (spool >= 0 && spool_fill(copy, spool, fd, &bytes, err) == 0)
        rc = upload(copy, key, spool, NULL, bytes, 0, &progress, err);
    if (spool >= 0)
        close(spool);
    return rc;
}

static int upload_regular(const struct copy *copy, const struct launch_s3_item *item, int fd,
                          uint64_t bytes, int threads, struct progress *progress, struct err *err)
{
    const int rc = upload(copy, item->to, fd, item->from, bytes, threads, progress, err);

    if (rc < 0 && err->code == ERR_IO)
        err_wrap(err, "cannot read '%s'", item->from);
    return rc;
}

static int upload_file(const struct copy *copy, const struct launch_s3_item *item, int threads,
                       struct progress *progress, struct err *err)
{
    const int fd = open(item->from, O_RDONLY | O_CLOEXEC);
    struct stat info;
    int rc;

    if (fd < 0 || fstat(fd, &info) < 0)
        rc = err_set_errno(err, errno == ENOENT || errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                           "cannot read '%s'", item->from);
    else if (S_ISDIR(info.st_mode))
        rc = err_set(err, ERR_USAGE, "'%s' is a folder: give --recursive", item->from);
    else if (S_ISREG(info.st_mode))
        rc = upload_regular(copy, item, fd, (uint64_t)info.st_size, threads, progress, err);
    else
        rc = upload_stream(copy, item->to, fd, err);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int make_folder_of(const char *path, struct err *err)
{
    const char *const slash = strrchr(path, '/');
    char *folder;
    int rc;

    if (slash == NULL || slash == path)
        return 0;
    folder = strndup(path, (size_t)(slash - path));
    if (folder == NULL)
        abort();
    rc = file_make_folder(folder, err);
    free(folder);
    return rc;
}

static int download_file(const struct copy *copy, const struct launch_s3_item *item, int threads,
                         struct progress *progress, struct err *err)
{
    struct file_new file = {.fd = -1};
    int rc = -1;

    if (make_folder_of(item->to, err) < 0 || file_new_open(&file, item->to, err) < 0)
        goto out;
    if (download(copy, item, file.fd, threads, progress, NULL, err) < 0) {
        if (err->code == ERR_IO)
            err_wrap(err, "cannot write '%s'", item->to);
        goto out;
    }
    rc = file_new_commit(&file, err);
out:
    file_new_release(&file);
    return rc;
}

/* From S3 to S3 the bytes come through here: the two may be different accounts or keys of KMS. */
static int relay(const struct copy *copy, const struct launch_s3_item *item, int threads,
                 struct progress *progress, struct err *err)
{
    const int spool = spool_open(err);
    struct s3_object object = {0};
    int rc = -1;

    if (spool < 0)
        return -1;
    if (download(copy, item, spool, threads, progress, &object, err) == 0)
        rc = upload(copy, item->to, spool, NULL, object.bytes, threads, NULL, err);
    else if (err->code == ERR_IO)
        err_wrap(err, "cannot use a temporary file in '%s' (TMPDIR)", file_temp_root());
    close(spool);
    return rc;
}

static int copy_item(struct copy *copy, const struct launch_s3_item *item, int threads,
                     struct err *err)
{
    struct progress progress = {.meter = copy->s3->meter,
                                .expected = item->bytes != LAUNCH_S3_BYTES_UNKNOWN};
    const bool from_s3 = copy->from->uri.scheme == URI_S3;

    if (item->from == NULL)
        return file_make_folder(item->to, err);
    if (!from_s3)
        return upload_file(copy, item, threads, &progress, err);
    if (copy->to->uri.scheme == URI_S3)
        return relay(copy, item, threads, &progress, err);
    return download_file(copy, item, threads, &progress, err);
}

static int copy_one(void *context, size_t index, struct err *err)
{
    struct copy *const copy = context;
    const struct launch_s3_item *const item = &copy->items.at[index];
    const bool is_large = item->bytes >= 2 * S3_TRANSFER_PART_BYTES;
    int rc;

    if (is_large)
        pthread_mutex_lock(&copy->large);
    rc = is_cancelled(copy) ? err_set(err, ERR_STOPPED, "stopped")
                            : copy_item(copy, item, is_large ? S3_TRANSFER_THREADS : 1, err);
    if (is_large)
        pthread_mutex_unlock(&copy->large);
    if (rc == 0)
        launch_s3_meter_object(copy->s3->meter);
    return rc;
}

static int copy_items(struct copy *copy, struct err *err)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < copy->items.count; i++)
        if (copy->items.at[i].bytes != LAUNCH_S3_BYTES_UNKNOWN)
            bytes += copy->items.at[i].bytes;
    launch_s3_meter_expect(copy->s3->meter, copy->items.count, bytes);
    return launch_s3_parallel_run(&(struct launch_parallel){.count = copy->items.count,
                                                            .threads = LAUNCH_S3_OBJECTS_AT_ONCE,
                                                            .work = copy_one,
                                                            .context = copy,
                                                            .cancel = copy->s3->cancel},
                                  err);
}

/* --- the forms of cp --- */

static int copy_recursive(struct copy *copy, struct err *err)
{
    if (copy->from->is_stream || copy->to->is_stream)
        return err_set(err, ERR_USAGE, "--recursive copies folders, and '-' is none");
    if (copy->from->uri.scheme == URI_S3) {
        if (launch_s3_items_add_objects(&copy->items, copy->s3->client, copy->from, copy->to, err) <
            0)
            return -1;
    } else if (launch_s3_items_add_files(&copy->items, copy->from, copy->to, err) < 0) {
        return -1;
    }
    return copy_items(copy, err);
}

static int need_key(const struct launch_s3_end *end, const char *more, struct err *err)
{
    if (!end->is_stream && end->uri.scheme == URI_S3 && end->uri.path[0] == '\0')
        return err_set(err, ERR_USAGE, "'%s' has no key; write s3://BUCKET/KEY%s", end->text, more);
    return 0;
}

/* A target that is there and is no regular file (a pipe, /dev/null) is written to, not replaced. */
static int copy_to_special(const struct copy *copy, struct err *err)
{
    const int fd = open(copy->to->uri.path, O_WRONLY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot write '%s'", copy->to->text);
    rc = launch_s3_stream(copy->s3, copy->from->uri.bucket, copy->from->uri.path, fd,
                          copy->to->text, err);
    if (close(fd) < 0 && rc == 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot write '%s'", copy->to->text);
    return rc;
}

static bool is_special(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

/* A symbolic link as the target stays; what it leads to is replaced. */
static void follow_link(struct launch_s3_item *item)
{
    struct stat info;
    char *real;

    if (lstat(item->to, &info) < 0 || !S_ISLNK(info.st_mode))
        return;
    real = realpath(item->to, NULL);
    if (real == NULL)
        return;
    free(item->to);
    item->to = real;
}

static int copy_single(struct copy *copy, struct err *err)
{
    const struct launch_s3_end *const from = copy->from, *const to = copy->to;

    if (need_key(from, ", or give --recursive", err) < 0)
        return -1;
    if (from->is_stream) {
        if (need_key(to, "", err) < 0)
            return -1;
        launch_s3_meter_expect(copy->s3->meter, 1, 0);
        if (upload_stream(copy, to->uri.path, STDIN_FILENO, err) < 0)
            return -1;
        launch_s3_meter_object(copy->s3->meter);
        return 0;
    }
    if (to->is_stream)
        return launch_s3_stream(copy->s3, from->uri.bucket, from->uri.path, STDOUT_FILENO, "stdout",
                                err);
    if (to->uri.scheme == URI_FILE && is_special(to->uri.path))
        return copy_to_special(copy, err);
    if (launch_s3_items_add_one(&copy->items, from, to, err) < 0)
        return -1;
    if (to->uri.scheme == URI_FILE)
        follow_link(&copy->items.at[0]);
    launch_s3_meter_expect(copy->s3->meter, 1, 0);
    if (copy_item(copy, &copy->items.at[0], 0, err) < 0)
        return -1;
    launch_s3_meter_object(copy->s3->meter);
    return 0;
}

static int read_end(struct launch_s3_end *end, const char *text, struct err *err)
{
    end->text = text;
    end->is_stream = strcmp(text, "-") == 0;
    if (end->is_stream)
        return 0;
    if (uri_parse(&end->uri, text, err) < 0)
        return -1;
    return end->uri.scheme == URI_S3 ? launch_s3_uri_check(&end->uri, text, err) : 0;
}

static bool is_s3(const struct launch_s3_end *end)
{
    return !end->is_stream && end->uri.scheme == URI_S3;
}

/* As with cp, --recursive does no harm to a single file. */
static bool is_file(const struct launch_s3_end *end)
{
    return !end->is_stream && file_exists(end->uri.path) && !file_is_folder(end->uri.path);
}

int launch_s3_cp(const struct launch_s3 *s3, struct err *err)
{
    struct launch_s3_end from = {0}, to = {0};
    struct copy copy = {.s3 = s3, .from = &from, .to = &to};
    int rc = -1;

    if (s3->words->count != 2)
        return err_set(err, ERR_USAGE, "cp needs a source and a target: cp SRC DST");
    pthread_mutex_init(&copy.large, NULL);
    if (read_end(&from, s3->words->at[0], err) < 0 || read_end(&to, s3->words->at[1], err) < 0)
        goto out;
    if (!is_s3(&from) && !is_s3(&to))
        rc = err_set(err, ERR_USAGE,
                     "neither '%s' nor '%s' is in S3: one of them is written s3://BUCKET/KEY",
                     from.text, to.text);
    else if (option_flag(s3->options, "recursive") && (is_s3(&from) || !is_file(&from)))
        rc = copy_recursive(&copy, err);
    else
        rc = copy_single(&copy, err);
out:
    launch_s3_items_release(&copy.items);
    uri_release(&from.uri);
    uri_release(&to.uri);
    pthread_mutex_destroy(&copy.large);
    return rc;
}
