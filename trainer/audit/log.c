#include "trainer/audit/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

#define LOCK_WAIT_S 20 /* ranks of a launch that was killed may take some seconds to end */

char *audit_log_path(const char *path, uint32_t rank)
{
    char *name = NULL;

    if ((rank == 0 ? asprintf(&name, "%s", path)
                   : asprintf(&name, "%s.rank-%" PRIu32, path, rank)) < 0)
        abort();
    return name;
}

static int make_folder_of(const char *path, struct err *err)
{
    const char *const slash = strrchr(path, '/');
    char *folder;
    int rc;

    if (slash == NULL || slash == path)
        return 0;
    if ((folder = strndup(path, (size_t)(slash - path))) == NULL)
        abort();
    rc = file_make_folder(folder, err);
    free(folder);
    return rc;
}

/* File systems without locks go without. */
static int lock(const struct audit_log *log, struct err *err)
{
    const double until = clock_now_s() + LOCK_WAIT_S;

    while (flock(log->fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return 0;
        if (clock_now_s() > until)
            return err_set(err, ERR_USAGE, "'%s' is being written by another run", log->path);
        clock_sleep_s(0.05);
    }
    return 0;
}

/* What another launch left: is it this run's, and how much of it is whole? */
static int look_through(const struct audit_log *log, const unsigned char *data, size_t bytes,
                        const struct audit_begin *begin, size_t *whole, struct err *err)
{
    enum audit_read read = AUDIT_READ_END;
    struct audit_frame frame;
    size_t at = 0;

    while ((read = audit_read(data, bytes, &at, &frame)) == AUDIT_READ_FRAME) {
        if (frame.kind == AUDIT_BEGIN && !audit_begin_same_run(&frame.begin, begin))
            return err_set(
                err, ERR_USAGE,
                "'%s' is of another run: its pictures, seed, batches or the hosts they lie on "
                "are others; name another file",
                log->path);
        if (frame.kind == AUDIT_END && frame.end.how == AUDIT_FINISHED && begin->resumed_step == 0)
            return err_set(err, ERR_USAGE,
                           "'%s' is of a run that has finished, and this one begins anew: name "
                           "another file",
                           log->path);
    }
    if (read == AUDIT_READ_DAMAGED)
        return err_set(err, ERR_USAGE,
                       "'%s' is no audit, or is damaged at byte %zu: name another file", log->path,
                       at);
    *whole = at;
    return 0;
}

/* Cut a torn end off. */
static int mend(const struct audit_log *log, const struct audit_begin *begin, size_t *whole,
                struct err *err)
{
    struct stat stat;
    void *data;
    int rc;

    *whole = 0;
    if (fstat(log->fd, &stat) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", log->path);
    if (!S_ISREG(stat.st_mode))
        return err_set(err, ERR_USAGE, "'%s' is no file", log->path);
    if (stat.st_size == 0)
        return 0;
    data = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, log->fd, 0);
    if (data == MAP_FAILED)
        return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", log->path);
    rc = look_through(log, data, (size_t)stat.st_size, begin, whole, err);
    munmap(data, (size_t)stat.st_size);
    if (rc < 0)
        return -1;
    if (*whole < (size_t)stat.st_size) {
        log_info("'%s': the last %zu bytes are not a whole record, and go", log->path,
                 (size_t)stat.st_size - *whole);
        if (ftruncate(log->fd, (off_t)*whole) < 0)
            return err_set_errno(err, ERR_IO, errno, "cannot cut '%s'", log->path);
    }
    return 0;
}

static int write_all(const struct audit_log *log, struct err *err)
{
    size_t done = 0;

    while (done < log->frame.bytes) {
        const ssize_t wrote = write(log->fd, log->frame.data + done, log->frame.bytes - done);

        if (wrote < 0 && errno != EINTR)
            return err_set_errno(err, ERR_IO, errno,
                                 "cannot write the audit '%s': without a step's record it would "
                                 "prove nothing",
                                 log->path);
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return 0;
}

int audit_log_write(struct audit_log *log, struct err *err)
{
    audit_frame_append(&log->frame, &log->body);
    if (write_all(log, err) < 0)
        return -1;
    log->body.bytes = log->frame.bytes = 0;
    return 0;
}

int audit_log_open(struct audit_log *log, const char *path, const struct audit_begin *begin,
                   struct err *err)
{
    size_t whole;

    *log = (struct audit_log){.path = audit_log_path(path, begin->rank),
                              .fd = -1,
                              .width = audit_width(begin->order.samples)};
    if (make_folder_of(log->path, err) < 0)
        return -1;
    log->fd = open(log->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (log->fd < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot open '%s'", log->path);
    if (lock(log, err) < 0 || mend(log, begin, &whole, err) < 0)
        return -1;
    if (whole == 0)
        buf_append(&log->frame, AUDIT_MAGIC, AUDIT_MAGIC_BYTES);
    audit_begin_encode(&log->body, begin);
    return audit_log_write(log, err);
}

void audit_log_release(struct audit_log *log)
{
    if (log->fd >= 0)
        close(log->fd);
    free(log->path);
    buf_release(&log->body);
    buf_release(&log->frame);
    *log = (struct audit_log){.fd = -1};
}

void audit_log_step(struct audit_log *log, uint32_t epoch, uint64_t epoch_step, uint64_t step)
{
    log->body.bytes = 0;
    audit_step_encode(&log->body, epoch, epoch_step, step);
}

void audit_log_lane(struct audit_log *log, uint32_t lane, const uint64_t *samples, uint32_t trained,
                    const uint64_t *bad, uint32_t left_out)
{
    audit_step_add(&log->body, log->width, lane, samples, trained, bad, left_out);
}

int audit_log_end(struct audit_log *log, const struct audit_end *end, struct err *err)
{
    log->body.bytes = 0;
    audit_end_encode(&log->body, end);
    if (audit_log_write(log, err) < 0)
        return -1;
    if (fsync(log->fd) < 0 && errno != EINVAL)
        return err_set_errno(err, ERR_IO, errno, "cannot write the audit '%s'", log->path);
    return 0;
}
