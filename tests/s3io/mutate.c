#include "mutate.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

#define SEEDS_MAX  32
#define BYTES_MAX  ((size_t)64 << 10)
#define CHANGES    6 /* at most, to one seed */
#define RUN_MAX    16
#define GROWTH_MAX (CHANGES * RUN_MAX)

/* Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003. */
static uint64_t random_state = 1;

static size_t below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)((random_state >> 32) % n);
}

static int load(const char *folder, struct buf seeds[SEEDS_MAX])
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[512];
    struct err err = {0};
    int count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL && count < SEEDS_MAX) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (file_read(path, BYTES_MAX, &seeds[count++], &err) < 0)
            fail_msg("%s", err.msg);
    }
    closedir(dir);
    assert_true(count > 0);
    return count;
}

/* One change in place; data has room for RUN_MAX more. Returns the new length. */
static size_t change(uint8_t *data, size_t bytes)
{
    static const char marks[] = "\n\r\t [];#='\"\\{}:,0Z\xff\0";
    const size_t at = below(bytes + 1), left = bytes - at;
    const size_t run = 1 + below(RUN_MAX), cut = run < left ? run : left;

    switch (below(5)) {
    case 0: /* one bit */
        if (left > 0)
            data[at] ^= (uint8_t)(1 << below(8));
        return bytes;
    case 1: /* bytes lost */
        memmove(data + at, data + at + cut, left - cut);
        return bytes - cut;
    case 2: /* bytes twice */
        memmove(data + at + cut, data + at, left);
        return bytes + cut;
    case 3: /* a mark of the format */
        memmove(data + at + 1, data + at, left);
        data[at] = (uint8_t)marks[below(sizeof marks)];
        return bytes + 1;
    default: /* the end is missing */
        return at;
    }
}

void mutate_run(const char *seeds_folder, int rounds)
{
    struct buf seeds[SEEDS_MAX] = {{0}};
    const int count = load(seeds_folder, seeds);
    static uint8_t data[BYTES_MAX + GROWTH_MAX];

    for (int i = 0; i < count; i++)
        LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].bytes);
    for (int round = 0; round < rounds; round++) {
        const struct buf *seed = &seeds[below((size_t)count)];
        const size_t changes = 1 + below(CHANGES);
        size_t bytes = seed->bytes;

        memcpy(data, seed->data, bytes);
        for (size_t i = 0; i < changes; i++)
            bytes = change(data, bytes);
        LLVMFuzzerTestOneInput(data, bytes);
    }
    for (int i = 0; i < count; i++)
        buf_release(&seeds[i]);
}
