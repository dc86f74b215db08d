#include "launcher/reason.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/uri.h"
#include "launcher/sagemaker.h"

#define VARIABLE       "CONVOY_FAILURE"
#define LINE_BYTES_MAX 8192 /* what failure_write leaves is at most half of it */
#define EXIT_PEER      3
#define EXIT_STOPPED   75

int launch_reason_init(struct launch_reason *reason, const struct launch_sagemaker *sagemaker,
                       struct err *err)
{
    const char *const temp = getenv("TMPDIR");
    char *folder = NULL;

    if (!sagemaker->active)
        return 0;
    folder = uri_join(temp == NULL || temp[0] == '\0' ? "/tmp" : temp, "convoy-reason-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        err_set_errno(err, ERR_IO, errno, "cannot make the folder '%s'", folder);
        free(folder);
        return -1;
    }
    reason->folder = folder;
    reason->file = uri_join(folder, "failure");
    setenv(VARIABLE, reason->file, 1);
    return 0;
}

static void describe(int status, struct buf *text)
{
    if (status == EXIT_STOPPED)
        buf_printf(text, "stopped before there was a model");
    else if (status > 128 && status <= 128 + 64)
        buf_printf(text, "a rank died by signal %d (%s)%s", status - 128, strsignal(status - 128),
                   status - 128 == 9 ? ", as the kernel does when memory runs out" : "");
    else
        buf_printf(text, "the ranks ended with status %d%s; the log of the first host says more",
                   status,
                   status == EXIT_PEER ? ": a rank or host is gone, or the network failed" : "");
}

void launch_reason_tell(const struct launch_reason *reason,
                        const struct launch_sagemaker *sagemaker, int status)
{
    struct buf text = {0};
    char *line = NULL;

    if (status == 0 || reason->file == NULL)
        return;
    if (file_read(reason->file, LINE_BYTES_MAX, &text, NULL) < 0 || text.bytes == 0)
        describe(status, &text);
    line = buf_text(&text);
    line[strcspn(line, "\n")] = '\0';
    launch_sagemaker_fail(sagemaker, line);
    buf_release(&text);
}

void launch_reason_release(struct launch_reason *reason)
{
    if (reason->folder != NULL) {
        unlink(reason->file);
        rmdir(reason->folder);
        unsetenv(VARIABLE);
    }
    free(reason->folder);
    free(reason->file);
    *reason = (struct launch_reason){0};
}

void launch_reason_hand_over(const struct launch_sagemaker *sagemaker)
{
    char *folder = NULL, *file = NULL;
    struct err err = {0};

    if (!sagemaker->active)
        return;
    folder = uri_join(sagemaker->base, "output");
    file = uri_join(folder, "failure");
    if (file_make_folder(folder, &err) < 0)
        log_warn("%s: a failure will stand in the log alone", err.msg);
    setenv(VARIABLE, file, 1);
    free(file);
    free(folder);
}
