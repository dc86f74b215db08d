#include "trainer/audit/lineage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void audit_lineage_release(struct audit_lineage *lineage)
{
    for (size_t i = 0; i < lineage->count; i++)
        free(lineage->launches[i].parts);
    free(lineage->launches);
    free(lineage->chain);
    *lineage = (struct audit_lineage){0};
}

void audit_lineage_id(const unsigned char launch[AUDIT_LAUNCH_BYTES], char id[AUDIT_ID_CHARS])
{
    for (int i = 0; i < (AUDIT_ID_CHARS - 1) / 2; i++)
        snprintf(id + 2 * i, 3, "%02x", launch[i]);
}

static bool same_id(const unsigned char *a, const unsigned char *b)
{
    return memcmp(a, b, AUDIT_LAUNCH_BYTES) == 0;
}

/* --- reading --- */

static int check_begin(const struct audit_lineage *lineage, const struct audit_launch *launch,
                       const struct audit_begin *begin, const char *name, struct err *err)
{
    if (!audit_begin_same_run(&launch->begin, begin))
        return err_set(err, ERR_INPUT,
                       "'%s' is of another run than '%s': its pictures, seed, batches or the hosts "
                       "they lie on are others",
                       name, lineage->name);
    if (!same_id(launch->begin.launch, begin->launch))
        return 0;
    if (launch->begin.ranks != begin->ranks || launch->begin.generation != begin->generation ||
        launch->begin.resumed_step != begin->resumed_step ||
        !same_id(launch->begin.parent, begin->parent))
        return err_set(err, ERR_INPUT, "'%s' tells of a launch that other ranks tell otherwise of",
                       name);
    return 0;
}

/* The launch that a begin is of, new if it is the first of its ranks. */
static struct audit_launch *launch_of(struct audit_lineage *lineage,
                                      const struct audit_begin *begin, const char *name,
                                      struct err *err)
{
    struct audit_launch *launch = NULL;

    for (size_t i = 0; i < lineage->count; i++) {
        if (check_begin(lineage, &lineage->launches[i], begin, name, err) < 0)
            return NULL;
        if (same_id(lineage->launches[i].begin.launch, begin->launch))
            launch = &lineage->launches[i];
    }
    if (launch != NULL)
        return launch;
    lineage->launches =
        reallocarray(lineage->launches, lineage->count + 1, sizeof *lineage->launches);
    if (lineage->launches == NULL)
        abort();
    launch = &lineage->launches[lineage->count++];
    *launch = (struct audit_launch){.begin = *begin};
    if (lineage->name == NULL)
        lineage->name = name;
    return launch;
}

/* Room for a rank's part, among those of lower and higher ranks; NULL: it is there already. */
static struct audit_part *insert_part(struct audit_launch *launch, uint32_t rank)
{
    uint32_t at = launch->part_count;

    while (at > 0 && launch->parts[at - 1].rank >= rank)
        at--;
    if (at < launch->part_count && launch->parts[at].rank == rank)
        return NULL;
    launch->parts =
        reallocarray(launch->parts, launch->part_count + (size_t)1, sizeof *launch->parts);
    if (launch->parts == NULL)
        abort();
    memmove(launch->parts + at + 1, launch->parts + at,
            (launch->part_count - at) * sizeof *launch->parts);
    launch->part_count++;
    launch->parts[at] = (struct audit_part){.rank = rank};
    return &launch->parts[at];
}

static const char *name_of_part(const struct audit_launch *launch, uint32_t rank)
{
    uint32_t at = 0;

    while (launch->parts[at].rank != rank)
        at++;
    return launch->parts[at].name;
}

static int add_begin(struct audit_lineage *lineage, const struct audit_begin *begin,
                     const char *name, struct audit_launch **launch, struct audit_part **part,
                     struct err *err)
{
    char id[AUDIT_ID_CHARS];

    *launch = launch_of(lineage, begin, name, err);
    if (*launch == NULL)
        return -1;
    *part = insert_part(*launch, begin->rank);
    if (*part != NULL)
        return 0;
    audit_lineage_id(begin->launch, id);
    return err_set(err, ERR_INPUT,
                   "'%s' and '%s' both tell of rank %" PRIu32 " of launch %s: a copy, or a record "
                   "written twice",
                   name_of_part(*launch, begin->rank), name, begin->rank, id);
}

int audit_lineage_add(struct audit_lineage *lineage, const char *name, const void *data,
                      size_t bytes, struct err *err)
{
    struct audit_launch *launch = NULL;
    struct audit_part *part = NULL;
    struct audit_frame frame;
    enum audit_read read;
    size_t at = 0;

    while ((read = audit_read(data, bytes, &at, &frame)) == AUDIT_READ_FRAME) {
        if (frame.kind == AUDIT_BEGIN) {
            if (add_begin(lineage, &frame.begin, name, &launch, &part, err) < 0)
                return -1;
            *part = (struct audit_part){
                .rank = frame.begin.rank, .name = name, .data = data, .at = at, .end = at};
            continue;
        }
        if (part == NULL || part->how.how != 0)
            return err_set(err, ERR_INPUT, "'%s': a record before byte %zu is of no launch", name,
                           at);
        part->end = at;
        if (frame.kind == AUDIT_END) {
            part->how = frame.end;
            continue;
        }
        part->last_step = frame.step.step;
        if (frame.step.step > launch->last_step)
            launch->last_step = frame.step.step;
    }
    if (read == AUDIT_READ_DAMAGED)
        return err_set(err, ERR_INPUT, "'%s' is damaged at byte %zu, or no audit", name, at);
    lineage->torn += read == AUDIT_READ_TORN;
    return 0;
}

/* --- the tree --- */

static void find_parents(struct audit_lineage *lineage)
{
    static const unsigned char none[AUDIT_LAUNCH_BYTES];

    for (size_t i = 0; i < lineage->count; i++)
        lineage->launches[i].has_children = false;
    for (size_t i = 0; i < lineage->count; i++) {
        struct audit_launch *const launch = &lineage->launches[i];

        launch->parent = -1;
        for (size_t j = 0; j < lineage->count; j++)
            if (j != i && !same_id(launch->begin.parent, none) &&
                same_id(launch->begin.parent, lineage->launches[j].begin.launch)) {
                launch->parent = (long)j;
                lineage->launches[j].has_children = true;
            }
    }
}

static size_t root_of(const struct audit_lineage *lineage, size_t launch)
{
    for (size_t i = 0; i < lineage->count && lineage->launches[launch].parent >= 0; i++)
        launch = (size_t)lineage->launches[launch].parent;
    return launch;
}

/* Generations count within a run. One that began anew counts from 1 again, and a launch that died
 * before it saved anything left its number to the next one: there the clock decides. */
static bool is_later(const struct audit_lineage *lineage, size_t launch, size_t than)
{
    const struct audit_begin *const a = &lineage->launches[launch].begin;
    const struct audit_begin *const b = &lineage->launches[than].begin;

    if (root_of(lineage, launch) == root_of(lineage, than) && a->generation != b->generation)
        return a->generation > b->generation;
    return a->started_us > b->started_us;
}

size_t audit_lineage_find(const struct audit_lineage *lineage, const char *id, size_t *found)
{
    size_t count = 0;

    for (size_t i = 0; i < lineage->count; i++) {
        char hex[2 * AUDIT_LAUNCH_BYTES + 1];

        for (int b = 0; b < AUDIT_LAUNCH_BYTES; b++)
            snprintf(hex + 2 * b, 3, "%02x", lineage->launches[i].begin.launch[b]);
        if (strncmp(hex, id, strlen(id)) != 0)
            continue;
        *found = i;
        count++;
    }
    return count;
}

static long find_last(const struct audit_lineage *lineage)
{
    long last = -1;

    for (size_t i = 0; i < lineage->count; i++)
        if (!lineage->launches[i].has_children && (last < 0 || is_later(lineage, i, (size_t)last)))
            last = (long)i;
    return last;
}

static bool has_finished(const struct audit_launch *launch)
{
    for (uint32_t i = 0; i < launch->part_count; i++)
        if (launch->parts[i].how.how == AUDIT_FINISHED)
            return true;
    return false;
}

static bool in_chain(const struct audit_lineage *lineage, size_t launch)
{
    for (size_t i = 0; i < lineage->chain_count; i++)
        if (lineage->chain[i] == launch)
            return true;
    return false;
}

/* A launch beside the lineage whose work went on: a second run came of this one. */
static int check_forks(const struct audit_lineage *lineage, struct err *err)
{
    const struct audit_launch *const last =
        &lineage->launches[lineage->chain[lineage->chain_count - 1]];

    for (size_t i = 0; i < lineage->count; i++) {
        const struct audit_launch *const other = &lineage->launches[i];
        char mine[AUDIT_ID_CHARS], theirs[AUDIT_ID_CHARS];

        if (in_chain(lineage, i) || (!other->has_children && !has_finished(other)))
            continue;
        audit_lineage_id(last->begin.launch, mine);
        audit_lineage_id(other->begin.launch, theirs);
        return err_set(err, ERR_INPUT,
                       "the run forked: launch %s (generation %" PRIu32 ", from step %" PRIu64
                       ") %s, and is not what launch %s (generation %" PRIu32
                       ") came from: name the end to judge with --last ID",
                       theirs, other->begin.generation, other->begin.resumed_step,
                       has_finished(other) ? "finished" : "went on", mine, last->begin.generation);
    }
    return 0;
}

/* The last step of a launch that nobody resumed: done when every rank has recorded it. A rank that
 * lags by more lost records, and a rank without a file tells nothing: then what others tell. */
static uint64_t steps_done(const struct audit_launch *launch)
{
    uint64_t done = UINT64_MAX, end = UINT64_MAX;

    for (uint32_t i = 0; i < launch->part_count; i++) {
        const struct audit_part *const part = &launch->parts[i];
        const uint64_t last = part->last_step > 0 ? part->last_step : launch->begin.resumed_step;

        if (last + 1 >= launch->last_step && last < done)
            done = last;
        if (part->how.how != 0 && part->how.step < end)
            end = part->how.step;
    }
    if (done == UINT64_MAX)
        done = launch->last_step;
    if (end != UINT64_MAX) /* it says more: a step may have been given up after its record */
        done = end;
    return done > launch->begin.resumed_step ? done : launch->begin.resumed_step;
}

int audit_lineage_trace(struct audit_lineage *lineage, size_t end, uint64_t step, struct err *err)
{
    uint64_t to = step;
    long at;

    if (lineage->count == 0)
        return err_set(err, ERR_INPUT, "there is no launch in these files");
    find_parents(lineage);
    at = end == AUDIT_LAST ? find_last(lineage) : (long)end;
    free(lineage->chain);
    lineage->chain = calloc(lineage->count, sizeof *lineage->chain);
    if (lineage->chain == NULL)
        abort();
    lineage->chain_count = 0;
    for (; at >= 0; at = lineage->launches[at].parent) {
        if (lineage->chain_count == lineage->count)
            break;
        lineage->chain[lineage->chain_count++] = (size_t)at;
    }
    if (at >= 0 || lineage->chain_count == 0)
        return err_set(err, ERR_INPUT, "the launches in these files are each other's parents");
    for (size_t i = 0, j = lineage->chain_count - 1; i < j; i++, j--) {
        const size_t swap = lineage->chain[i];

        lineage->chain[i] = lineage->chain[j];
        lineage->chain[j] = swap;
    }
    if (step == 0)
        to = steps_done(&lineage->launches[lineage->chain[lineage->chain_count - 1]]);
    for (size_t i = lineage->chain_count; i-- > 0;) {
        struct audit_launch *const launch = &lineage->launches[lineage->chain[i]];

        launch->from_step = launch->begin.resumed_step;
        launch->to_step = to;
        to = launch->from_step;
    }
    return end == AUDIT_LAST ? check_forks(lineage, err) : 0;
}
