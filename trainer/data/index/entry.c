#include "trainer/data/index/entry.h"

#include <dirent.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static bool ends_with(const char *name, const char *extension)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL && dot != name && strcasecmp(dot, extension) == 0;
}

bool data_entry_is_hidden(const char *name)
{
    return name[0] == '.';
}

bool data_entry_is_picture(const char *name)
{
    return ends_with(name, ".jpg") || ends_with(name, ".jpeg") || ends_with(name, ".png");
}

bool data_entry_is_tar(const char *name)
{
    return ends_with(name, ".tar");
}

bool data_entry_is_folder(int folder_fd, const struct dirent *entry)
{
    struct stat stat;

    if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(folder_fd, entry->d_name, &stat, 0) == 0 && S_ISDIR(stat.st_mode);
}
