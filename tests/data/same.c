#include "same.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"
#include "trainer/data/stream/read.h"
#include "tree.h"

void same_pack(const char *source, const char *target, int threads)
{
    char source_path[512], target_path[512], root[512];
    const struct data_pack_options options = {.source = source_path,
                                              .root = root,
                                              .target = target_path,
                                              .shard_bytes = SAME_SHARD_BYTES,
                                              .threads = threads};
    struct err err = {0};

    strcpy(source_path, tree_path(source));
    strcpy(target_path, tree_path(target));
    strcpy(root, tree_path("pets"));
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
}

void same_open(struct data_index *index, const char *name)
{
    struct err err = {0};

    if (data_index_open(index, tree_path(name), NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

void same_folders(const char *one, const char *other)
{
    const struct dirent *entry;
    DIR *dir = opendir(tree_path(one));

    assert_non_null(dir);
    assert_int_equal(tree_count(one), tree_count(other));
    while ((entry = readdir(dir)) != NULL) {
        struct buf a = {0}, b = {0};
        char name[512];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", one, entry->d_name);
        assert_int_equal(file_read(tree_path(name), 1 << 28, &a, NULL), 0);
        snprintf(name, sizeof name, "%s/%s", other, entry->d_name);
        assert_int_equal(file_read(tree_path(name), 1 << 28, &b, NULL), 0);
        if (a.bytes != b.bytes || memcmp(a.data, b.data, a.bytes) != 0)
            fail_msg("'%s' differs between '%s' and '%s'", entry->d_name, one, other);
        buf_release(&a);
        buf_release(&b);
    }
    closedir(dir);
}

void same_read(const struct data_index *index, size_t sample, struct buf *out)
{
    struct data_reader *reader = data_reader_new(index, NULL);
    struct err err = {0};

    if (data_reader_get(reader, sample, out, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    data_reader_free(reader);
}
