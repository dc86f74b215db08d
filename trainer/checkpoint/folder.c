/* trainer/checkpoint/folder.c -- a place that is a folder: see place.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "trainer/checkpoint/place.h"

static int folder_list(const struct place *place, const char *beginning, place_visit *visit,
                       void *context, struct err *err)
{
    DIR *dir = opendir(place->text);
    int why = 0;

    if (dir == NULL && errno == ENOENT)
        return 0;
    if (dir == NULL)
        return err_set_errno(err, errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                             "cannot read the folder '%s'", place->text);
    for (;;) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            why = errno;
            break;
        }
        if (strncmp(entry->d_name, beginning, strlen(beginning)) == 0)
            visit(context, entry->d_name);
    }
    closedir(dir);
    if (why != 0)
        return err_set_errno(err, ERR_IO, why, "cannot read the folder '%s'", place->text);
    return 0;
}

static int folder_get(const struct place *place, const char *name, int *fd, struct err *err)
{
    char *const path = place_path(place, name);
    /* Without O_NONBLOCK the open of a FIFO would wait for its writer. */
    const int got = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), why = errno;
    int rc = 1;

    if (got >= 0)
        *fd = got;
    else if (why == ENOENT || why == ENOTDIR)
        rc = 0;
    else
        rc = err_set_errno(err, ERR_IO, why, "cannot open '%s'", path);
    free(path);
    return rc;
}

static int folder_begin(const struct place *place, const char *name, struct file_new *file,
                        struct err *err)
{
    char *const path = place_path(place, name);
    const int rc = file_make_folder(place->text, err) < 0 ? -1 : file_new_open(file, path, err);

    free(path);
    return rc;
}

static int folder_commit(const struct place *place, const char *name, struct file_new *file,
                         enum place_mode mode, struct err *err)
{
    (void)place;
    (void)name;
    (void)mode; /* a damaged file of the name, or one of another folder's run, gives way */
    return file_new_commit(file, err);
}

static int folder_remove(const struct place *place, const char *name, struct err *err)
{
    char *const path = place_path(place, name);
    int rc = 0;

    if (unlink(path) < 0 && errno != ENOENT)
        rc = err_set_errno(err, ERR_IO, errno, "cannot remove '%s'", path);
    free(path);
    return rc;
}

static int folder_check_writable(const struct place *place, struct err *err)
{
    return file_check_writable(place->text, err);
}

const struct place_kind place_folder = {.list = folder_list,
                                        .get = folder_get,
                                        .begin = folder_begin,
                                        .commit = folder_commit,
                                        .remove = folder_remove,
                                        .check_writable = folder_check_writable};
