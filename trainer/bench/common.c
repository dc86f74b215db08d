#include "trainer/bench/common.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/philox.h"
#include "trainer/nn/conv/conv.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/nn/resnet.h"

#define FILL_SEED 1

/* Without `convoy`, which says how many in CONVOY_THREADS. */
static int usable_cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static bool wants_help(int argc, char *const *argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int check_environment(struct err *err)
{
    return nn_kernels_check(err) < 0 || nn_conv_check(err) < 0 ? -1 : 0;
}

static int take_model(struct bench_common *c, struct err *err)
{
    const struct nn_resnet *const resnet = nn_resnet_find(option_text(&c->set, "model"));

    c->model = option_text(&c->set, "model");
    if (resnet == NULL)
        return err_set(err, ERR_USAGE, "--model: unknown network '%.100s'; there is %s", c->model,
                       nn_resnet_names());
    c->image_size = option_source(&c->set, "image-size") != OPTION_ABSENT
                        ? (int)option_integer(&c->set, "image-size")
                        : nn_resnet_image_size(resnet);
    if (c->image_size < nn_resnet_image_size_min(resnet))
        return err_set(err, ERR_USAGE, "--image-size %d: %s takes at least %d pixels",
                       c->image_size, c->model, nn_resnet_image_size_min(resnet));
    return 0;
}

static int check_batch(const struct bench_common *c, struct err *err)
{
    const struct nn_model_options options = {.name = c->model,
                                             .classes = nn_model_default_classes(c->model),
                                             .image_size = c->image_size,
                                             .micro_batch_max = c->batch};

    return nn_model_check(&options, err) < 0 ? err_wrap(err, "--batch, --image-size") : 0;
}

static int take(struct bench_common *c, struct err *err)
{
    const struct option_set *const set = &c->set;

    if (take_model(c, err) < 0)
        return -1;
    c->threads = bench_threads(set);
    c->batch = (int)option_integer(set, "batch");
    c->repeats = (int)option_integer(set, "repeats");
    c->json = option_flag(set, "json");
    return check_batch(c, err) < 0 ? -1 : check_environment(err);
}

int bench_options_read(struct option_set *set, const struct option_spec *specs, size_t count,
                       const char *usage, const char *tail, int argc, char *const *argv,
                       struct err *err)
{
    option_set_init(set, specs, count);
    if (wants_help(argc, argv)) {
        printf("%s\noptions [default]:\n", usage);
        option_set_help(set, stdout);
        printf("\n%s", tail);
        return bench_finish(err) < 0 ? -1 : 1;
    }
    if (option_set_parse(set, argc, argv, err) < 0)
        return -1;
    return option_set_environment(set, NULL, err);
}

int bench_threads(const struct option_set *set)
{
    return option_source(set, "threads") != OPTION_ABSENT ? (int)option_integer(set, "threads")
                                                          : usable_cores();
}

int bench_common_read(struct bench_common *common, const struct option_spec *specs, size_t count,
                      const char *usage, const char *tail, int argc, char *const *argv,
                      struct err *err)
{
    int rc;

    *common = (struct bench_common){0};
    rc = bench_options_read(&common->set, specs, count, usage, tail, argc, argv, err);
    if (rc != 0)
        return rc;
    if (take(common, err) < 0)
        return -1;
    nn_threads_init(common->threads);
    return 0;
}

void bench_common_release(struct bench_common *common)
{
    option_set_release(&common->set);
    *common = (struct bench_common){0};
}

void bench_fill(float *x, size_t count, uint64_t stream)
{
    struct philox philox;

    philox_init(&philox, FILL_SEED, stream, 0, PHILOX_SYNTH);
    for (size_t i = 0; i < count; i++)
        x[i] = philox_uniform(&philox) - 0.5f;
}

double bench_peak_rss_mib(void)
{
    FILE *const status = fopen("/proc/self/status", "re");
    unsigned long kib = 0;
    char line[256];

    while (status != NULL && kib == 0 && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmHWM: %lu kB", &kib) != 1)
            kib = 0;
    if (status != NULL)
        fclose(status);
    return (double)kib / 1024;
}

double bench_cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_print_json(json_t *line)
{
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(line);
}

int bench_finish(struct err *err)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return err_set_errno(err, ERR_IO, errno, "cannot write the figures to stdout");
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct bench_spread bench_spread(double *x, size_t count)
{
    qsort(x, count, sizeof x[0], compare);
    return (struct bench_spread){
        .median = (x[(count - 1) / 2] + x[count / 2]) / 2, .min = x[0], .max = x[count - 1]};
}
