#include "trainer/data/pack/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

/* Whoever held it may have removed or replaced the file since we opened it. */
static bool is_still(const char *path, int fd)
{
    struct stat there, ours;

    return stat(path, &there) == 0 && fstat(fd, &ours) == 0 && there.st_ino == ours.st_ino &&
           there.st_dev == ours.st_dev;
}

int data_lock_take(const char *path, int *fd, struct err *err)
{
    for (;;) {
        const int opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        int rc;

        if (opened < 0)
            return err_set_errno(err, ERR_IO, errno, "cannot open '%s'", path);
        do
            rc = flock(opened, LOCK_EX | LOCK_NB);
        while (rc < 0 && errno == EINTR);
        if (rc < 0 && errno == EWOULDBLOCK) {
            close(opened);
            return 0;
        }
        if (is_still(path, opened)) {
            *fd = opened;
            return 1;
        }
        close(opened);
    }
}
