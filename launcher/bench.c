#include "launcher/bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "launcher/bench_comm.h"
#include "launcher/bench_s3.h"
#include "launcher/bench_scaling.h"
#include "launcher/child.h"
#include "launcher/job.h"
#include "launcher/local.h"

/* run is NULL where convoy-train measures by itself: one process, no ranks. */
static const struct {
    const char *name, *help;
    int (*run)(int argc, char *const *argv, const char *program, int *status, struct err *err);
} benches[] = {
    {"model", "how many images a second a network trains on here, and its memory", NULL},
    {"layers", "its convolutions one by one, beside the processor's peak", NULL},
    {"input", "how many pictures a second are read, decoded, cropped and normalised here", NULL},
    {"scaling", "how the rate of training grows with hosts or ranks, weak and strong",
     launch_bench_scaling},
    {"comm", "how fast the exchange of gradients is, beside MPI_Allreduce", launch_bench_comm},
    {"s3", "how fast objects are read from S3, and what that costs", launch_bench_s3},
};
#define BENCH_COUNT (sizeof benches / sizeof benches[0])

static int print_help(struct err *err)
{
    printf("convoy bench NAME [options]\n\n");
    for (size_t i = 0; i < BENCH_COUNT; i++)
        printf("  %-12s %s\n", benches[i].name, benches[i].help);
    printf("\nconvoy bench NAME --help    all options, with their defaults\n");
    return fflush(stdout) == 0 ? 0 : err_set_errno(err, ERR_IO, errno, "cannot write to stdout");
}

/* What there is goes into the line. */
static int refuse(const char *name, struct err *err)
{
    struct buf names = {0};

    for (size_t i = 0; i < BENCH_COUNT; i++)
        buf_printf(&names, "%s%s", i == 0 ? "" : ", ", benches[i].name);
    if (name == NULL)
        err_set(err, ERR_USAGE, "convoy bench: no benchmark named; there is %s", buf_text(&names));
    else
        err_set(err, ERR_USAGE, "convoy bench: unknown benchmark '%.100s'; there is %s", name,
                buf_text(&names));
    buf_release(&names);
    return -1;
}

static int run(size_t bench, int argc, char *const *argv, const char *program, int *status,
               struct err *err)
{
    if (benches[bench].run != NULL)
        return benches[bench].run(argc - 2, argv + 2, program, status, err);
    if (launch_job_foreign_rank() >= 0)
        return err_set(err, ERR_USAGE, "convoy bench %s is one process: give it without mpirun",
                       argv[1]);
    launch_local_set_threads(0, 1); /* as many as a rank has that is alone; --threads goes before */
    return launch_child_become(program, argc, argv, err);
}

int launch_bench_main(int argc, char *const *argv, const char *program, int *status,
                      struct err *err)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (name != NULL && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0))
        return print_help(err);
    for (size_t i = 0; name != NULL && i < BENCH_COUNT; i++)
        if (strcmp(name, benches[i].name) == 0)
            return run(i, argc, argv, program, status, err);
    return refuse(name, err);
}
