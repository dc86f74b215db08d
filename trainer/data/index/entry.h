/*
 * trainer/data/index/entry.h -- what a name in a folder stands for.
 */
#ifndef DATA_INDEX_ENTRY_H
#define DATA_INDEX_ENTRY_H

#include <stdbool.h>

struct dirent;

/** Names that begin with a dot, "." and ".." among them: passed over everywhere. */
bool data_entry_is_hidden(const char *name);

/** .jpg, .jpeg or .png, in any case. */
bool data_entry_is_picture(const char *name);

/** .tar, in any case. */
bool data_entry_is_tar(const char *name);

/** A folder, or a symbolic link to one. Asks the file system only where the entry itself does not
 * tell. */
bool data_entry_is_folder(int folder_fd, const struct dirent *entry);

#endif
