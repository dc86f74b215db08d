#include "trainer/nn/kernel/share.h"

#include <assert.h>

#include "trainer/nn/kernel/size.h"

static uint64_t run_of(size_t begin, size_t end)
{
    return (uint64_t)end << 32 | begin;
}

static size_t begin_of(uint64_t run)
{
    return run & UINT32_MAX;
}

static size_t end_of(uint64_t run)
{
    return run >> 32;
}

void nn_share_out(struct nn_share *share, size_t turns, size_t threads)
{
    assert(turns <= UINT32_MAX && threads > 0);
    share->runs = nn_size_least(threads, NN_SHARE_RUNS);
    for (size_t i = 0; i < share->runs; i++)
        atomic_init(&share->run[i].left,
                    run_of(turns * i / share->runs, turns * (i + 1) / share->runs));
}

/* The first turn of a run, or the last. */
static bool take(_Atomic uint64_t *left, bool first, size_t *turn)
{
    uint64_t run = atomic_load_explicit(left, memory_order_relaxed), rest;

    do {
        if (begin_of(run) == end_of(run))
            return false;
        *turn = first ? begin_of(run) : end_of(run) - 1;
        rest = run_of(begin_of(run) + first, end_of(run) - !first);
    } while (!atomic_compare_exchange_weak_explicit(left, &run, rest, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static size_t longest(struct nn_share *share)
{
    size_t most = 0, at = 0;

    for (size_t i = 0; i < share->runs; i++) {
        const uint64_t run = atomic_load_explicit(&share->run[i].left, memory_order_relaxed);

        if (end_of(run) - begin_of(run) > most) {
            most = end_of(run) - begin_of(run);
            at = i;
        }
    }
    return most > 0 ? at : share->runs;
}

bool nn_share_next(struct nn_share *share, size_t thread, size_t *turn)
{
    size_t other;

    if (take(&share->run[thread % share->runs].left, true, turn))
        return true;
    while ((other = longest(share)) < share->runs)
        if (take(&share->run[other].left, false, turn))
            return true;
    return false;
}
