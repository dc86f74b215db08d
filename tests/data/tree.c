#include "tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <ftw.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/data/set/open.h"

char tree_root[64];
static size_t visited;

int tree_make(void **state)
{
    (void)state;
    strcpy(tree_root, "/tmp/convoy-data-XXXXXX");
    return mkdtemp(tree_root) == NULL ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

int tree_remove(void **state)
{
    (void)state;
    return nftw(tree_root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *tree_path(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", tree_root, name);
    return path;
}

void tree_write(const char *name, const void *data, size_t bytes)
{
    char path[512];
    char *slash;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", tree_root, name);
    slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(file_make_folder(path, NULL), 0);
    *slash = '/';
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

void tree_picture(const char *name, size_t padding)
{
    const size_t length = strlen(name);
    const char *magic = length > 4 && strcmp(name + length - 4, ".png") == 0 ? "\x89PNG\r\n\x1a\n"
                                                                             : "\xff\xd8\xff\xe0";
    struct buf picture = {0};

    buf_printf(&picture, "%s%s", magic, name);
    for (size_t i = 0; i < padding; i++)
        buf_append(&picture, "x", 1);
    tree_write(name, picture.data, picture.bytes);
    buf_release(&picture);
}

void tree_class(const char *folder, const char *class, int count)
{
    char name[256];

    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/%s/%d.jpg", folder, class, i);
        tree_picture(name, (size_t)(i * 37 % 1500));
    }
}

void tree_truncate(const char *name, long bytes)
{
    assert_int_equal(truncate(tree_path(name), bytes), 0);
}

static int count_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)path, (void)stat, (void)type;
    visited += ftw->level > 0;
    return 0;
}

struct data_index tree_index(const char *name)
{
    struct data_index index = {0};
    struct err err = {0};

    if (data_index_open(&index, tree_path(name), NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    return index;
}

size_t tree_count(const char *name)
{
    visited = 0;
    return nftw(tree_path(name), count_one, 16, FTW_PHYS) == 0 ? visited : 0;
}
