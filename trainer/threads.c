#include "trainer/threads.h"

#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "trainer/data/index/numbers.h"

int train_threads(int ranks_of_host)
{
    cpu_set_t set;
    int cores = 1;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = CPU_COUNT(&set);
    return cores / ranks_of_host > 1 ? cores / ranks_of_host : 1;
}

int train_decode_threads_read(const char *text, int *threads, struct err *err)
{
    int32_t number = 0;

    if (strcasecmp(text, "auto") != 0 && (!data_number_read(text, strlen(text), &number) ||
                                          number < 1 || number > TRAIN_DECODE_THREADS_MAX))
        return err_set(err, ERR_USAGE, "'%s' is neither auto nor a whole number from 1 to %d", text,
                       TRAIN_DECODE_THREADS_MAX);
    *threads = number;
    return 0;
}

int train_decode_threads(int asked, int cores, int threads)
{
    const int left = cores - threads;

    if (asked > 0)
        return asked;
    if (left < 1)
        return (threads + 1) / 2;
    return left < threads ? left : threads;
}
