/* tests/fuzz/lst.c -- any bytes as a list of pictures (.lst) over a folder with three of them. No
 * path leads out of the folder, none is there twice. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/log.h"
#include "fuzz.h"
#include "trainer/data/index/index.h"
#include "trainer/data/set/list_file.h"

static const char *pictures_folder(void)
{
    static char folder[600];
    const char *const outside = fuzz_folder();
    char path[700];

    snprintf(folder, sizeof folder, "%s/pictures", outside);
    fuzz_must(mkdir(folder, 0700) == 0);
    fuzz_write(outside, "x.jpg", "not of them", 11);
    snprintf(path, sizeof path, "%s/cats", folder);
    fuzz_must(mkdir(path, 0700) == 0);
    fuzz_write(folder, "0.jpg", "a picture", 9);
    fuzz_write(folder, "cats/1.jpg", "another", 7);
    fuzz_write(folder, "cats/2.png", "a third", 7);
    fuzz_write(folder, "empty.jpg", "", 0);
    log_init("", true);
    return folder;
}

static void check(const struct data_index *index)
{
    fuzz_must(index->count > 0);
    for (size_t i = 0; i < index->count; i++) {
        const struct data_sample *const sample = &index->samples[i];

        fuzz_must(sample->label >= 0 && sample->bytes > 0 && sample->key[0] != '/');
        fuzz_must(strstr(sample->key, "..") == NULL);
        for (size_t j = 0; j < i; j++)
            fuzz_must(strcmp(index->samples[j].key, sample->key) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *folder;
    struct data_index index = {0};
    struct err err = {0};
    int rc;

    if (folder == NULL)
        folder = pictures_folder();
    fuzz_file(data, bytes);
    index.root = strdup(folder);
    rc = data_list_read(&index, fuzz_file_path(), NULL, &err);
    fuzz_must_say(rc, &err, FUZZ_INPUT);
    if (rc == 0)
        check(&index);
    data_index_release(&index);
    return 0;
}
