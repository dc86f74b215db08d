/* comm/buckets.c -- see buckets.h. */
#include "comm/buckets.h"

#include <assert.h>

static size_t count_of(size_t floats, size_t most)
{
    return (floats + most - 1) / most;
}

static size_t of_prefix(const struct comm_buckets *buckets)
{
    return count_of(buckets->prefix, buckets->most);
}

static size_t of_rest(const struct comm_buckets *buckets)
{
    return buckets->floats - buckets->prefix;
}

/* The floats of the last `number` buckets, were the vector endless towards its beginning. */
static size_t floats_of_last(const struct comm_buckets *buckets, size_t number)
{
    size_t size = buckets->last > 0 ? buckets->last : buckets->most, floats = 0;

    for (; number > 0 && size < buckets->most; number--) {
        floats += size;
        size *= 2;
    }
    return floats + number * buckets->most;
}

/* How many buckets the last `floats` floats are in. */
static size_t count_of_last(const struct comm_buckets *buckets, size_t floats)
{
    size_t size = buckets->last > 0 ? buckets->last : buckets->most, count = 0;

    for (; floats > size && size < buckets->most; count++) {
        floats -= size;
        size *= 2;
    }
    return count + count_of(floats, size < buckets->most ? size : buckets->most);
}

int comm_buckets_count(const struct comm_buckets *buckets)
{
    assert(buckets->most > 0 && buckets->last <= buckets->most);
    assert(buckets->prefix <= buckets->floats);
    return (int)(of_prefix(buckets) + count_of_last(buckets, of_rest(buckets)));
}

static struct comm_run run_of_prefix(const struct comm_buckets *buckets, size_t number)
{
    const size_t begin = number * buckets->most, left = buckets->prefix - begin;

    return (struct comm_run){begin, left < buckets->most ? left : buckets->most};
}

struct comm_run comm_buckets_run(const struct comm_buckets *buckets, int number)
{
    const size_t behind = (size_t)(comm_buckets_count(buckets) - number - 1); /* buckets */
    size_t begin = buckets->prefix, last;

    if (comm_buckets_is_prefix(buckets, number))
        return run_of_prefix(buckets, (size_t)number);
    last = floats_of_last(buckets, behind + 1); /* with this one */
    if (last < of_rest(buckets))
        begin = buckets->floats - last;
    return (struct comm_run){begin, buckets->floats - floats_of_last(buckets, behind) - begin};
}

int comm_buckets_at(const struct comm_buckets *buckets, size_t index)
{
    assert(index < buckets->floats);
    return index < buckets->prefix
               ? (int)(index / buckets->most)
               : comm_buckets_count(buckets) - (int)count_of_last(buckets, buckets->floats - index);
}

bool comm_buckets_is_prefix(const struct comm_buckets *buckets, int number)
{
    return (size_t)number < of_prefix(buckets);
}

size_t comm_buckets_largest(const struct comm_buckets *buckets)
{
    const int count = comm_buckets_count(buckets), first = (int)of_prefix(buckets);
    size_t largest = buckets->prefix < buckets->most ? buckets->prefix : buckets->most;

    for (int number = first; number < count && number < first + 2; number++) {
        const size_t floats = comm_buckets_run(buckets, number).count;

        largest = floats > largest ? floats : largest;
    }
    return largest;
}
