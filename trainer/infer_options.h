/*
 * trainer/infer_options.h -- the options of the two verbs that use a trained model: `convoy eval`
 * and `convoy predict`.
 *
 * Values come from the command line, else the environment (SM_CHANNEL_MODEL, SM_CHANNEL_TEST,
 * SM_OUTPUT_DATA_DIR, ...), else the default. Hyperparameters are those of a training and do not
 * count here.
 */
#ifndef TRAIN_INFER_OPTIONS_H
#define TRAIN_INFER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/option.h"
#include "trainer/report/predictions.h"

struct err;

enum train_infer_verb { TRAIN_EVAL, TRAIN_PREDICT };

struct train_infer_options {
    struct option_set set; /* where the texts live */
    const char *model;
    int batch;
    int threads, decode_threads; /* 0: to be chosen */
    uint64_t prefetch_bytes;
    int fetch_threads;

    /* eval */
    const char *data, *test; /* one of them is not NULL */
    const char *report;      /* NULL: none */
    const char *cache;       /* NULL: none */
    uint64_t cache_bytes;    /* 0: not given */
    bool partial, stop_at_bad, check_options;

    /* predict */
    int top_k;          /* 0: not given */
    const char *output; /* NULL: stdout */
    enum report_format format;
    const char **paths; /* (path_count) pictures; the texts are argv's */
    size_t path_count;
};

/** Read command line (after the verb) and environment, check, and fill the fields. Words that begin
 * with '-' are options, but for those behind "--". ERR_USAGE names the option. Release in any case;
 * it accepts all-zero. */
int train_infer_options_read(struct train_infer_options *options, enum train_infer_verb verb,
                             int argc, char *const *argv, struct err *err);
void train_infer_options_release(struct train_infer_options *options);

/** The options as --help shows them. */
void train_infer_options_help(enum train_infer_verb verb, FILE *out);

#endif
