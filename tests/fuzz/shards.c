/* tests/fuzz/shards.c -- any bytes as the index.json of packed shards, which lie beside it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/log.h"
#include "fuzz.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"

/* Six pictures of two classes in three shards; the same bytes at every run. */
static const char *shards_folder(void)
{
    const char *const folder = fuzz_folder(), *const target = fuzz_folder();
    char path[600], picture[] = "\xff\xd8\xff picture 0";
    const struct data_pack_options options = {
        .source = folder, .target = target, .shard_bytes = 4000, .threads = 1};
    struct err err = {0};

    log_init("", true);
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i % 2 ? "cats" : "dogs");
        fuzz_must(i > 1 || mkdir(path, 0700) == 0);
        snprintf(path, sizeof path, "%s/%d.jpg", i % 2 ? "cats" : "dogs", i);
        picture[sizeof picture - 2] = (char)('0' + i);
        fuzz_write(folder, path, picture, sizeof picture - 1);
    }
    fuzz_must(data_pack(&options, &err) == 0);
    return target;
}

static void check(const struct data_index *index)
{
    fuzz_must(index->sharded && index->count > 0 && index->classes > 0);
    for (size_t i = 0; i < index->count; i++) {
        const struct data_sample *const sample = &index->samples[i];

        fuzz_must(sample->label >= 0 && sample->label < index->classes);
        fuzz_must(sample->file < index->files && sample->bytes > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *folder;
    struct data_index index = {0};
    struct err err = {0};
    int rc;

    if (folder == NULL)
        folder = shards_folder();
    fuzz_write(folder, SHARD_TOP_NAME, data, bytes);
    rc = data_index_open(&index, folder, NULL, 0, NULL, &err);
    fuzz_must_say(rc, &err, FUZZ_INPUT);
    if (rc == 0)
        check(&index);
    data_index_release(&index);
    return 0;
}
