#include "trainer/data/set/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/uri.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/index.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The class folders of the root, sorted. */
static int list_classes(struct data_index *index, struct err *err)
{
    const struct dirent *entry;
    size_t capacity = 0;
    DIR *dir = opendir(index->root);

    if (dir == NULL)
        return err_set_errno(err, ERR_IO, errno, "cannot read folder '%s'", index->root);
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (data_entry_is_hidden(entry->d_name) || !data_entry_is_folder(dirfd(dir), entry))
            continue;
        if ((size_t)index->classes == capacity) {
            capacity = capacity * 2 + 16;
            index->class_names =
                reallocarray(index->class_names, capacity, sizeof *index->class_names);
            if (index->class_names == NULL)
                abort();
        }
        index->class_names[index->classes] = strdup(entry->d_name);
        if (index->class_names[index->classes++] == NULL)
            abort();
    }
    if (errno != 0) {
        err_set_errno(err, ERR_IO, errno, "cannot read folder '%s'", index->root);
        closedir(dir);
        return -1;
    }
    closedir(dir);
    qsort(index->class_names, (size_t)index->classes, sizeof *index->class_names, by_name);
    return 0;
}

/* The folder of one class while it is read. */
struct class_folder {
    DIR *dir;
    const char *root, *name;
    int32_t label;
};

void data_folder_leave(struct data_left *left, const char *key, size_t bytes)
{
    char *const name = strndup(key, bytes);

    if (name == NULL)
        abort();
    left->count++;
    if (left->first != NULL && strcmp(left->first, name) <= 0) {
        free(name);
        return;
    }
    free(left->first);
    left->first = name;
}

int data_folder_check_bytes(const char *root, const char *key, uint64_t bytes, struct err *err)
{
    char *path;

    if (bytes <= INT32_MAX)
        return 0;
    path = root[0] == '\0' ? NULL : uri_join(root, key);
    err_set(err, ERR_INPUT, "picture '%s' is larger than 2 GiB", path == NULL ? key : path);
    free(path);
    return -1;
}

int data_folder_check_class(const char *root, const char *class, struct err *err)
{
    char *path;

    if (strcmp(class, "lost+found") == 0)
        return 0;
    path = uri_join(root, class);
    err_set(err, ERR_INPUT,
            "class folder '%s' holds no pictures (.jpg, .jpeg or .png, directly in it)", path);
    free(path);
    return -1;
}

/* Add one file. What is named like a picture and is no file (a folder, a pipe) counts as ignored.
 */
static int add_file(struct data_index *index, struct data_builder *builder,
                    const struct class_folder *class, const char *name, struct err *err)
{
    struct data_sample sample = {.label = class->label};
    char key[2 * (NAME_MAX + 1)];
    struct stat stat;

    snprintf(key, sizeof key, "%s/%s", class->name, name);
    if (data_entry_is_picture(name) && fstatat(dirfd(class->dir), name, &stat, 0) < 0)
        return err_set_errno(err, ERR_INPUT, errno, "cannot read '%s/%s'", class->root, key);
    if (!data_entry_is_picture(name) || !S_ISREG(stat.st_mode)) {
        data_folder_leave(&index->ignored, key, strlen(key));
        return 0;
    }
    if (stat.st_size == 0) {
        data_folder_leave(&index->empty, key, strlen(key));
        return 0;
    }
    if (data_folder_check_bytes(class->root, key, (uint64_t)stat.st_size, err) < 0)
        return -1;
    sample.bytes = (uint32_t)stat.st_size;
    return data_builder_add(builder, &sample, key, err);
}

static int read_entries(struct data_index *index, struct data_builder *builder,
                        const struct class_folder *class, const volatile sig_atomic_t *cancel,
                        struct err *err)
{
    const struct dirent *entry;

    while (errno = 0, (entry = readdir(class->dir)) != NULL) {
        if (cancel != NULL && *cancel)
            return err_set(err, ERR_STOPPED, "stopped while reading folder '%s'", class->root);
        if (data_entry_is_hidden(entry->d_name))
            continue;
        if (add_file(index, builder, class, entry->d_name, err) < 0)
            return -1;
    }
    if (errno != 0)
        return err_set_errno(err, ERR_IO, errno, "cannot read folder '%s/%s'", class->root,
                             class->name);
    return 0;
}

static int read_class(struct data_index *index, struct data_builder *builder, int root_fd,
                      int label, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct class_folder class = {
        .root = index->root, .name = index->class_names[label], .label = label};
    const size_t before = builder->samples.bytes;
    const int fd = openat(root_fd, class.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (fd >= 0)
        class.dir = fdopendir(fd);
    if (class.dir == NULL) {
        err_set_errno(err, ERR_IO, errno, "cannot read folder '%s/%s'", class.root, class.name);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    rc = read_entries(index, builder, &class, cancel, err);
    closedir(class.dir);
    if (rc == 0 && builder->samples.bytes == before)
        rc = data_folder_check_class(class.root, class.name, err);
    return rc;
}

int data_folder_read(struct data_index *index, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_builder builder = {0};
    int root_fd = -1, rc = -1;

    if (list_classes(index, err) < 0)
        goto out;
    root_fd = open(index->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        err_set_errno(err, ERR_IO, errno, "cannot read folder '%s'", index->root);
        goto out;
    }
    for (int label = 0; label < index->classes; label++)
        if (read_class(index, &builder, root_fd, label, cancel, err) < 0)
            goto out;
    data_builder_finish(&builder, index);
    rc = 0;
out:
    if (root_fd >= 0)
        close(root_fd);
    data_builder_release(&builder);
    return rc;
}
