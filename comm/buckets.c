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

int comm_buckets_count(const struct comm_buckets *buckets)
{
    assert(buckets->most > 0 && buckets->prefix <= buckets->floats);
    return (int)(of_prefix(buckets) + count_of(buckets->floats - buckets->prefix, buckets->most));
}

struct comm_run comm_buckets_run(const struct comm_buckets *buckets, int number)
{
    const bool prefix = comm_buckets_is_prefix(buckets, number);
    const size_t end = prefix ? buckets->prefix : buckets->floats;
    const size_t begin =
        prefix ? (size_t)number * buckets->most
               : buckets->prefix + ((size_t)number - of_prefix(buckets)) * buckets->most;

    return (struct comm_run){begin, end - begin < buckets->most ? end - begin : buckets->most};
}

int comm_buckets_at(const struct comm_buckets *buckets, size_t index)
{
    assert(index < buckets->floats);
    return (int)(index < buckets->prefix
                     ? index / buckets->most
                     : of_prefix(buckets) + (index - buckets->prefix) / buckets->most);
}

bool comm_buckets_is_prefix(const struct comm_buckets *buckets, int number)
{
    return (size_t)number < of_prefix(buckets);
}

size_t comm_buckets_largest(const struct comm_buckets *buckets)
{
    const size_t rest = buckets->floats - buckets->prefix;
    const size_t larger = rest > buckets->prefix ? rest : buckets->prefix;

    return larger < buckets->most ? larger : buckets->most;
}
