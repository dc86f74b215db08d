#include "trainer/report/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/uri.h"

int report_metrics_open(struct report_metrics *metrics, const char *folder, struct err *err)
{
    char *path = NULL;
    int rc = 0;

    metrics->fd = -1;
    if (file_make_folder(folder, err) < 0)
        return -1;
    path = uri_join(folder, "metrics.jsonl");
    metrics->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (metrics->fd < 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot open '%s'", path);
    free(path);
    return rc;
}

void report_metrics_close(struct report_metrics *metrics)
{
    if (metrics->fd >= 0)
        close(metrics->fd);
    metrics->fd = -1;
}

static int write_line(int fd, json_t *object)
{
    struct buf line = {0};
    char *const text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15));
    int rc = 0;

    if (text == NULL)
        return errno = ENOMEM, -1;
    buf_printf(&line, "%s\n", text);
    if (write(fd, line.data, line.bytes) != (ssize_t)line.bytes)
        rc = -1;
    buf_release(&line);
    free(text);
    return rc;
}

void report_metrics_write(struct report_metrics *metrics, const char *event, json_t *fields)
{
    json_t *object = NULL;

    if (metrics->fd >= 0) {
        object = json_pack("{s:s, s:f}", "event", event, "time", clock_wall_s());
        if (fields != NULL)
            json_object_update(object, fields);
        if (write_line(metrics->fd, object) < 0) {
            log_warn("cannot write metrics.jsonl any more: %s", strerror(errno));
            report_metrics_close(metrics);
        }
    }
    json_decref(object);
    json_decref(fields);
}
