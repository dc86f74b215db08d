/* tests/fuzz/pipe.c -- any bytes as what a Pipe channel of SageMaker brings. What is taken of it
 * becomes shards that can be read, and what is refused leaves none. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "fuzz.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/pack/spool.h"
#include "trainer/data/set/open.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *folder;
    struct data_spool_options options = {.shard_bytes = 4096, .wait_s = 0.01};
    struct data_index index = {0};
    struct err err = {0};
    char top[600];
    int rc;

    if (folder == NULL) {
        folder = fuzz_folder();
        log_init("", true);
    }
    fuzz_file(data, bytes);
    options.fifo = fuzz_file_path();
    options.folder = folder;
    rc = data_spool(&options, &err);
    fuzz_must_say(rc, &err, FUZZ_INPUT);
    snprintf(top, sizeof top, "%s/" SHARD_TOP_NAME, folder);
    fuzz_must(file_exists(top) == (rc == 0));
    if (rc == 0) {
        fuzz_must(data_index_open_any(&index, folder, NULL, &err) == 0);
        fuzz_must(index.count > 0);
        data_index_release(&index);
    }
    return 0;
}
