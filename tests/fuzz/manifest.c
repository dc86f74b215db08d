/* tests/fuzz/manifest.c -- any bytes as a manifest of a bucket's objects: names lie below the root,
 * in order, none is there twice. */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "fuzz.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/place.h"
#include "trainer/data/set/manifest.h"

static void check(const struct data_manifest *manifest)
{
    fuzz_must(data_place_is_remote(manifest->root) && manifest->count > 0);
    for (size_t i = 0; i < manifest->count; i++) {
        const struct data_manifest_entry *const entry = &manifest->entries[i];

        fuzz_must(entry->name[0] != '\0' && entry->number > 0 && !entry->met);
        fuzz_must(i == 0 || strcmp(manifest->entries[i - 1].name, entry->name) < 0);
        fuzz_must(entry->label >= -1 && entry->label <= DATA_LABEL_MAX);
        fuzz_must(data_manifest_has(manifest, entry->name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct data_manifest manifest = {0};
    struct err err = {0};
    int rc;

    log_init("", true);
    fuzz_file(data, bytes);
    rc = data_manifest_open(&manifest, fuzz_file_path(), NULL, &err);
    fuzz_must_say(rc, &err, FUZZ_INPUT);
    if (rc == 0)
        check(&manifest);
    data_manifest_release(&manifest);
    return 0;
}
