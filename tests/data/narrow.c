#include "tests/data/narrow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "trainer/data/index/index.h"
#include "trainer/data/index/pages.h"
#include "trainer/data/index/shard.h"

static uint64_t length_of(const char *folder, const char *name)
{
    struct stat stat_of;
    char path[512];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(stat(path, &stat_of), 0);
    return (uint64_t)stat_of.st_size;
}

struct data_pages *narrow_pages(const struct data_index *index, const struct data_index *whole,
                                const char *folder, uint64_t bytes_max)
{
    struct data_shard_top *const shards = calloc(whole->files, sizeof *shards);
    struct data_pages *pages;

    assert_non_null(shards);
    for (uint64_t i = 0; i < whole->count; i++) {
        struct data_shard_top *const shard = &shards[whole->samples[i].file];

        shard->first = shard->count == 0 ? i : shard->first;
        shard->count++;
        shard->bytes += whole->samples[i].bytes;
    }
    for (size_t f = 0; f < whole->files; f++)
        shards[f].tar_bytes = length_of(folder, whole->file_names[f]);
    pages = data_pages_new(index, shards, bytes_max);
    free(shards);
    return pages;
}
