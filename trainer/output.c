#include "trainer/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/uri.h"

/* A name that a new file can have. */
static bool is_file_name(const struct uri *uri)
{
    const char *const slash = strrchr(uri->path, '/');
    struct stat stat_of;

    if (uri->path[0] == '\0' || (slash != NULL && slash[1] == '\0'))
        return false;
    return uri->scheme == URI_S3 || stat(uri->path, &stat_of) < 0 || S_ISREG(stat_of.st_mode);
}

static int check_name(const char *path, struct err *err)
{
    struct uri uri = {0};
    bool good = false;

    if (uri_parse(&uri, path, err) < 0)
        return -1;
    good = is_file_name(&uri);
    uri_release(&uri);
    return good ? 0 : err_set(err, ERR_USAGE, "'%s' is no name of a file: name a file in it", path);
}

int train_output_open(struct train_output *output, const char *path, struct err *err)
{
    const char *const slash = path != NULL ? strrchr(path, '/') : NULL;
    char *folder = NULL;
    int rc;

    *output = (struct train_output){.file.fd = -1};
    if (path == NULL)
        return 0;
    if (check_name(path, err) < 0)
        return err_wrap(err, "--output");
    folder = slash == NULL   ? strdup(".")
             : slash == path ? strdup("/")
                             : strndup(path, (size_t)(slash - path));
    output->name = strdup(slash != NULL ? slash + 1 : path);
    if (folder == NULL || output->name == NULL)
        abort();
    rc = place_open(&output->place, folder, err);
    free(folder);
    return rc < 0 ? err_wrap(err, "--output") : 0;
}

int train_output_begin(struct train_output *output, struct err *err)
{
    if (output->name == NULL ||
        (place_check_writable(&output->place, err) == 0 &&
         place_begin(&output->place, output->name, &output->file, err) == 0))
        return 0;
    if (err->code == ERR_IO)
        err->code = ERR_USAGE;
    return err_wrap(err, "--output");
}

int train_output_write(struct train_output *output, struct buf *bytes, struct err *err)
{
    int rc = 0;

    if (output->name != NULL)
        rc = file_new_write(&output->file, bytes->data, bytes->bytes, err);
    else if (fwrite(bytes->data, 1, bytes->bytes, stdout) != bytes->bytes || fflush(stdout) != 0)
        rc = err_set(err, ERR_IO, "cannot write the results to stdout: is its disk full?");
    bytes->bytes = 0;
    return rc;
}

int train_output_commit(struct train_output *output, struct err *err)
{
    if (output->name == NULL)
        return 0;
    return place_commit(&output->place, output->name, &output->file, PLACE_REPLACE, err) < 0
               ? err_wrap(err, "--output")
               : 0;
}

void train_output_close(struct train_output *output)
{
    if (output->name != NULL)
        file_new_release(&output->file);
    free(output->name);
    place_release(&output->place);
}
