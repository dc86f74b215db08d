/*
 * base/file.h -- whole local files, and files that appear whole or not at all.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct err;

/** Append a file's content to `out`. More than bytes_max is ERR_INPUT; a missing file too (naming
 * it); else ERR_IO. */
int file_read(const char *path, size_t bytes_max, struct buf *out, struct err *err);

/** Make the folder and those above it that are missing. ERR_IO names the one that could not be
 * made. */
int file_make_folder(const char *path, struct err *err);

/** 0 if a file could be made in the folder (made if missing) now; else ERR_IO with why. Leaves
 * nothing behind. */
int file_check_writable(const char *folder, struct err *err);

bool file_is_folder(const char *path);
bool file_exists(const char *path);

/*
 * A file under a temporary name that commit makes appear: write, fsync, rename, fsync of the
 * folder. Until then nobody sees it under its name; release without commit removes it. While it is
 * written it is called ".NAME.tmp-PID.sagemaker-ignore" (a long NAME is cut), which SageMaker's
 * checkpoint upload passes over.
 */
struct file_new {
    int fd; /* write here; -1 when not open */
    char *path, *temp;
};
int file_new_open(struct file_new *file, const char *path, struct err *err);
/** Write all of it (short writes and EINTR handled). */
int file_new_write(struct file_new *file, const void *data, size_t bytes, struct err *err);
int file_new_commit(struct file_new *file, struct err *err);
/** The same for a file without a folder, in memory (memfd): what is written can be read from its
 * fd, `path` only names it in errors, and it cannot be committed. Gone after release. */
int file_new_open_memory(struct file_new *file, const char *path, struct err *err);
/** The same on the disk of `path`, whose folder must be there: nobody ever sees it, and no kill
 * leaves it. (Where the file system has no O_TMPFILE, as NFS, it has a name for a moment.) */
int file_new_open_nameless(struct file_new *file, const char *path, struct err *err);
void file_new_release(struct file_new *file);

/** open, write, commit in one. */
int file_replace(const char *path, const void *data, size_t bytes, struct err *err);

/** Where temporary files go: TMPDIR, else "/tmp". Belongs to the environment. */
const char *file_temp_root(void);

#endif
