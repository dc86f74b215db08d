#include "trainer/nn/kernel/kernels.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/nn/kernel/kernels_table.h"

static bool always(void)
{
    return true;
}

/* The best first. */
static const struct {
    const struct nn_kernels *kernels;
    bool (*runs_here)(void);
} sets[] = {
#if defined(__x86_64__)
    {&nn_kernels_avx512, nn_kernels_avx512_run_here},
    {&nn_kernels_avx2, nn_kernels_avx2_run_here},
#endif
    {&nn_kernels_generic, always},
};
#define SETS (sizeof(sets) / sizeof(*sets))

static const struct nn_kernels *chosen;

/* The best set that this CPU runs, or the one of that name (NULL: any). NULL if there is none. */
static const struct nn_kernels *best(const char *name)
{
    for (size_t i = 0; i < SETS; i++)
        if ((name == NULL || strcmp(name, sets[i].kernels->name) == 0) && sets[i].runs_here())
            return sets[i].kernels;
    return NULL;
}

static const char *forced(void)
{
    const char *name = getenv("CONVOY_ISA");

    return name != NULL && *name != '\0' ? name : NULL;
}

static void choose(void)
{
    chosen = best(forced());
    if (chosen == NULL)
        chosen = &nn_kernels_generic;
}

const struct nn_kernels *nn_kernels_find(const char *name)
{
    return best(name);
}

const struct nn_kernels *nn_kernels(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, choose);
    return chosen;
}

int nn_kernels_level(void)
{
    const struct nn_kernels *const kernels = nn_kernels();
    size_t i = 0;

    while (sets[i].kernels != kernels)
        i++;
    return (int)(SETS - 1 - i);
}

void nn_kernels_lower(int level)
{
    assert(level >= 0 && level <= nn_kernels_level());
    chosen = sets[SETS - 1 - (size_t)level].kernels;
}

int nn_kernels_check(struct err *err)
{
    const char *name = forced();

    if (name == NULL || best(name) != NULL)
        return 0;
    for (size_t i = 0; i < SETS; i++)
        if (strcmp(name, sets[i].kernels->name) == 0)
            return err_set(err, ERR_USAGE, "CONVOY_ISA is '%s': this CPU does not have it", name);
    return err_set(err, ERR_USAGE,
                   "CONVOY_ISA is '%s': one of generic, avx2, avx512, or unset for the best here",
                   name);
}
