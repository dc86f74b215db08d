/*
 * trainer/data/cache/survey.h -- counting the files of a cache anew, and making its tables as the
 * files are: where nobody used the folder, or who did died in the middle of a change.
 *
 * All of it with the store's lock; store.h says what counts.
 */
#ifndef DATA_CACHE_SURVEY_H
#define DATA_CACHE_SURVEY_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct data_cache_survey {
    int folder;      /* DIR/pictures, the caller's */
    uint64_t block;  /* of the file system */
    uint64_t *beats; /* goes on with each file: those who wait for the lock see it */
    const volatile sig_atomic_t *cancel; /* may be NULL; ends it */
    double until_s;                      /* (base/clock.h) ends it too; 0: nothing does */
    bool broken_off;                     /* before all was counted */
};

/** What a file of so many bytes counts for. */
uint64_t data_cache_survey_file(const struct data_cache_survey *survey, uint64_t bytes);
/** The files of DIR/index, which others put there. */
uint64_t data_cache_survey_beside(struct data_cache_survey *survey);
/** The files of a dataset's folder, whoever made them; states (chunks; NULL: unknown) become what
 * is there, if all was counted. */
uint64_t data_cache_survey_chunks(struct data_cache_survey *survey, int folder, uint32_t *states,
                                  uint64_t chunks);
/** Those of all datasets, with the folders themselves. */
uint64_t data_cache_survey_datasets(struct data_cache_survey *survey);

#endif
