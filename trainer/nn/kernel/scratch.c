#include "trainer/nn/kernel/scratch.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "trainer/nn/kernel/size.h"

#define LINE_FLOATS     16 /* a cache line */
#define HUGE_PAGE_BYTES (2u << 20)

static size_t whole_lines(size_t floats)
{
    return nn_size_round_up(floats, LINE_FLOATS);
}

/* The first to touch a page waits for it, so all threads do. */
static void clear(char *memory, size_t bytes)
{
#pragma omp parallel for schedule(static) if (bytes >= HUGE_PAGE_BYTES)
    for (size_t at = 0; at < bytes; at += HUGE_PAGE_BYTES)
        memset(memory + at, 0, nn_size_least(HUGE_PAGE_BYTES, bytes - at));
}

/* Large storage lies on huge pages: with small ones, kernels that walk through many rows at once
 * wait for the TLB. */
float *nn_floats_new(size_t count, struct err *err)
{
    size_t bytes = whole_lines(count + 1) * sizeof(float), alignment = LINE_FLOATS * sizeof(float);
    float *floats;

    if (bytes >= HUGE_PAGE_BYTES) {
        alignment = HUGE_PAGE_BYTES;
        bytes = nn_size_round_up(bytes, HUGE_PAGE_BYTES);
    }
    floats = aligned_alloc(alignment, bytes);

    if (floats == NULL) {
        err_set(err, ERR_MEMORY, "cannot get %zu MiB of memory", bytes >> 20);
        return NULL;
    }
    if (bytes >= HUGE_PAGE_BYTES)
        madvise(floats, bytes, MADV_HUGEPAGE); /* a wish: without it all works, slower */
    clear((char *)floats, bytes);
    return floats;
}

int nn_scratch_init(struct nn_scratch *scratch, size_t shared_floats, size_t private_floats,
                    struct err *err)
{
    scratch->threads = omp_get_max_threads();
    scratch->shared_floats = shared_floats;
    scratch->private_floats = whole_lines(private_floats);
    scratch->shared = nn_floats_new(shared_floats, err);
    scratch->private = nn_floats_new(scratch->private_floats * (size_t)scratch->threads, err);
    return scratch->shared == NULL || scratch->private == NULL ? -1 : 0;
}

void nn_scratch_release(struct nn_scratch *scratch)
{
    free(scratch->shared);
    free(scratch->private);
    *scratch = (struct nn_scratch){0};
}

float *nn_scratch_mine(const struct nn_scratch *scratch)
{
    const int thread = omp_get_thread_num();

    assert(thread < scratch->threads);
    return scratch->private + (size_t)thread * scratch->private_floats;
}
