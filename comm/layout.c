/* comm/layout.c -- see layout.h. */
#include "comm/layout.h"

#include <assert.h>
#include <stdlib.h>

void comm_layout_init(struct comm_layout *layout, int ranks, const int *host_of)
{
    *layout =
        (struct comm_layout){.ranks = ranks, .hosts = host_of[ranks - 1] + 1, .host_of = host_of};
    layout->first_of = calloc((size_t)layout->hosts + 1, sizeof *layout->first_of);
    if (layout->first_of == NULL)
        abort();
    for (int rank = ranks - 1; rank >= 0; rank--)
        layout->first_of[host_of[rank]] = rank;
    layout->first_of[layout->hosts] = ranks;
}

void comm_layout_release(struct comm_layout *layout)
{
    free(layout->first_of);
    *layout = (struct comm_layout){0};
}

/* Part `number` of `parts` that differ by at most one float; some are empty where there are few. */
static struct comm_run part_of(struct comm_run run, int number, int parts)
{
    const size_t n = (size_t)parts, j = (size_t)number;
    const size_t base = run.count / n, extra = run.count % n; /* the first `extra` get one more */

    return (struct comm_run){run.begin + j * base + (j < extra ? j : extra), base + (j < extra)};
}

static int ranks_on(const struct comm_layout *layout, int host)
{
    return layout->first_of[host + 1] - layout->first_of[host];
}

struct comm_run comm_layout_chunk(const struct comm_layout *layout, struct comm_run bucket,
                                  int owner)
{
    const int host = layout->host_of[owner];

    return part_of(part_of(bucket, host, layout->hosts), owner - layout->first_of[host],
                   ranks_on(layout, host));
}

size_t comm_layout_chunk_max(const struct comm_layout *layout, size_t floats)
{
    const struct comm_run bucket = {0, floats};
    size_t most = 0;

    for (int owner = 0; owner < layout->ranks; owner++) {
        const size_t count = comm_layout_chunk(layout, bucket, owner).count;

        most = count > most ? count : most;
    }
    return most;
}

int comm_layout_handler(const struct comm_layout *layout, int host, int owner)
{
    if (layout->host_of[owner] == host)
        return owner;
    return layout->first_of[host] + owner % ranks_on(layout, host);
}
