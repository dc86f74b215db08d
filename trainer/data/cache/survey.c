#include "trainer/data/cache/survey.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/stat.h>

#include "base/clock.h"
#include "trainer/data/cache/folder.h"
#include "trainer/data/cache/table.h"

uint64_t data_cache_survey_file(const struct data_cache_survey *survey, uint64_t bytes)
{
    return (bytes + survey->block - 1) / survey->block * survey->block + survey->block;
}

/* Before each file. A cold disk takes minutes for a large cache; false: not to go on. */
static bool beat(struct data_cache_survey *survey)
{
    __atomic_fetch_add(survey->beats, 1, __ATOMIC_RELAXED);
    survey->broken_off |= (survey->cancel != NULL && *survey->cancel != 0) ||
                          (survey->until_s > 0 && clock_now_s() > survey->until_s);
    return !survey->broken_off;
}

uint64_t data_cache_survey_beside(struct data_cache_survey *survey)
{
    const int folder = openat(survey->folder, "../index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct data_cache_names names = {0};
    struct stat stat;
    uint64_t bytes = 0;

    if (folder < 0)
        return 0;
    for (data_cache_names_open(&names, folder); beat(survey) && data_cache_names_next(&names);)
        if (fstatat(folder, names.name, &stat, AT_SYMLINK_NOFOLLOW) == 0)
            bytes += data_cache_survey_file(survey, (uint64_t)stat.st_size);
    data_cache_names_close(&names);
    close(folder);
    return bytes;
}

uint64_t data_cache_survey_chunks(struct data_cache_survey *survey, int folder, uint32_t *states,
                                  uint64_t chunks)
{
    unsigned char *const there = states != NULL ? calloc(chunks + 1, 1) : NULL;
    struct data_cache_names names = {0};
    struct stat stat;
    uint64_t bytes = 0, number, size;

    if (states != NULL && there == NULL)
        abort();
    for (data_cache_names_open(&names, folder); beat(survey) && data_cache_names_next(&names);) {
        if (data_cache_is_chunk(folder, names.name, &number, &size)) {
            if (states != NULL && number < chunks)
                there[number] = 1;
        } else if (fstatat(folder, names.name, &stat, AT_SYMLINK_NOFOLLOW) == 0) {
            size = (uint64_t)stat.st_size; /* the table; what is damaged, or not ours */
        } else {
            continue;
        }
        bytes += data_cache_survey_file(survey, size);
    }
    data_cache_names_close(&names);
    for (uint64_t i = 0; states != NULL && !survey->broken_off && i < chunks; i++)
        if (!there[i] || states[i] == 0)
            states[i] = there[i] ? DATA_CACHE_STATE_FOUND : 0;
    free(there);
    return bytes;
}

static uint64_t survey_dataset(struct data_cache_survey *survey, const char *name)
{
    struct data_cache_table table = {.folder = -1, .fd = -1};
    uint64_t bytes;

    if (!data_cache_key_read(name, table.key))
        return 0;
    table.folder = openat(survey->folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (table.folder < 0)
        return 0;
    (void)data_cache_table_map(&table); /* without one it has no states */
    bytes = data_cache_survey_chunks(survey, table.folder, table.states, table.chunks);
    data_cache_table_close(&table);
    return bytes + 2 * survey->block;
}

uint64_t data_cache_survey_datasets(struct data_cache_survey *survey)
{
    struct data_cache_names names = {0};
    uint64_t bytes = 0;

    for (data_cache_names_open(&names, survey->folder);
         beat(survey) && data_cache_names_next(&names);)
        bytes += survey_dataset(survey, names.name);
    data_cache_names_close(&names);
    return bytes;
}
