/*
 * trainer/bench/common.h -- what benchmarks ask for, look at and print alike.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/option.h"

struct err;

/* Options that several have; an array of option_spec begins with them. */
#define BENCH_OPTION_MODEL                                                                         \
    {                                                                                              \
        .name = "model", .kind = OPTION_TEXT, .metavar = "NAME", .fallback = "resnet18",           \
        .help = "the network, as convoy train has it"                                              \
    }
#define BENCH_OPTION_IMAGE_SIZE                                                                    \
    {                                                                                              \
        .name = "image-size", .kind = OPTION_INTEGER, .metavar = "PX", .min = 8, .max = 2048,      \
        .shown = "224; 32 for CIFAR models", .help = "pictures of PX x PX pixels"                  \
    }
#define BENCH_OPTION_THREADS                                                                       \
    {                                                                                              \
        .name = "threads", .kind = OPTION_INTEGER, .metavar = "N", .min = 1, .max = 1024,          \
        .env = "CONVOY_THREADS", .shown = "the cores it may use", .help = "computing threads"      \
    }
#define BENCH_OPTION_JSON                                                                          \
    {                                                                                              \
        .name = "json", .kind = OPTION_FLAG,                                                       \
        .help = "a JSON object per line in place of the table"                                     \
    }

struct bench_common {
    struct option_set set;
    const char *model; /* a known name */
    int image_size;    /* pixels */
    int threads;
    int batch, repeats; /* the options of these names, which every table has */
    bool json;
};

/**
 * Parse argv by the table and take the options that are common; check them, CONVOY_ISA and
 * CONVOY_CONV; set up that many computing threads.
 *
 * usage  printed in front of the table where --help is asked for, tail behind it.
 *
 * 0; 1 where help was asked for and given; -1 with err (ERR_USAGE, ERR_IO). Release in any case.
 */
int bench_common_read(struct bench_common *common, const struct option_spec *specs, size_t count,
                      const char *usage, const char *tail, int argc, char *const *argv,
                      struct err *err);
void bench_common_release(struct bench_common *common);

/** The same without what is about networks: only parse argv and the environment into `set`, and
 * help.
 */
int bench_options_read(struct option_set *set, const struct option_spec *specs, size_t count,
                       const char *usage, const char *tail, int argc, char *const *argv,
                       struct err *err);

/** The option "threads" of a set, or the cores that this process may use. */
int bench_threads(const struct option_set *set);

/** Uniform in [-0.5, 0.5), by Philox: other numbers for another stream. */
void bench_fill(float *x, size_t count, uint64_t stream);

/** The most memory that this program had resident, in MiB. Not getrusage's, which remembers what
 * the process was before exec. */
double bench_peak_rss_mib(void);

/** Processor seconds of all threads of this process. */
double bench_cpu_s(void);

/** Print one line and drop the object. */
void bench_print_json(json_t *line);

/** Flush stdout: ERR_IO where it took not everything. */
int bench_finish(struct err *err);

struct bench_spread {
    double median, min, max;
};

/** Median (of an even count: the mean of the middle two), least and greatest; count > 0. Sorts x.
 */
struct bench_spread bench_spread(double *x, size_t count);

#endif
