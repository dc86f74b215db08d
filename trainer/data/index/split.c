#include "trainer/data/index/split.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/text.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/names.h"

static void select_parts(const struct data_index *whole, const bool *marks, bool mark,
                         struct data_index *part)
{
    size_t begin = 0;

    if (whole->parts == NULL)
        return;
    part->parts = calloc(whole->part_count, sizeof *part->parts);
    if (part->parts == NULL)
        abort();
    part->part_count = whole->part_count;
    for (size_t p = 0; p < whole->part_count; p++) {
        struct data_index_part *const own = &part->parts[p];

        own->begin = begin;
        for (size_t i = 0; i < whole->parts[p].count; i++)
            own->count += marks[whole->parts[p].begin + i] == mark;
        begin += own->count;
    }
}

/* The samples whose mark is `mark` as an index of their own. */
static int select_marked(const struct data_index *whole, const bool *marks, bool mark,
                         struct data_index *part, struct err *err)
{
    struct data_builder builder = {0};

    for (size_t i = 0; i < whole->count; i++)
        if (marks[i] == mark &&
            data_builder_add(&builder, &whole->samples[i], whole->samples[i].key, err) < 0) {
            data_builder_release(&builder);
            return -1;
        }
    *part = (struct data_index){
        .root = text_copy(whole->root),
        .sharded = whole->sharded,
        .classes = whole->classes,
        .class_names = data_names_copy(whole->class_names, (size_t)whole->classes),
        .files = whole->files,
        .file_names = data_names_copy(whole->file_names, whole->files),
        .file_etags =
            whole->file_etags != NULL ? data_names_copy(whole->file_etags, whole->files) : NULL,
    };
    data_builder_finish(&builder, part);
    select_parts(whole, marks, mark, part);
    data_index_seal(part);
    return 0;
}

/* An index that every host has all of is one part. */
static size_t parts_of(const struct data_index *whole)
{
    return whole->parts != NULL ? whole->part_count : 1;
}

static struct data_index_part part_at(const struct data_index *whole, size_t p)
{
    return whole->parts != NULL ? whole->parts[p] : (struct data_index_part){0, whole->count};
}

/* What dealing remembers of a part. */
struct dealt {
    double behind; /* its share of its samples, of all classes so far, less what was set aside */
    uint64_t rest; /* of the class at hand: what its share has behind the point, in 1 / total */
};

/* Of `total` samples of a class the parts have row[p] each; `quota` are set aside: of each part its
 * share, rounded up for those that are furthest behind. row[p] becomes how many. */
static void deal(uint64_t *row, struct dealt *dealt, size_t parts, uint64_t total, uint64_t quota,
                 double share)
{
    uint64_t left = quota;

    for (size_t p = 0; p < parts; p++) {
        const uint64_t whole = quota * row[p] / total;

        dealt[p].rest = quota * row[p] % total;
        dealt[p].behind += share * (double)row[p] - (double)whole;
        row[p] = whole;
        left -= whole;
    }
    for (; left > 0; left--) { /* of the rests' sum there is a part with a rest for each */
        size_t best = parts;

        for (size_t p = 0; p < parts; p++)
            if (dealt[p].rest > 0 && (best == parts || dealt[p].behind > dealt[best].behind))
                best = p;
        assert(best < parts);
        dealt[best].rest = 0;
        dealt[best].behind -= 1;
        row[best]++;
    }
}

/* Of a class with so many samples on all hosts: the rounded share, and one at least on either side.
 */
static uint64_t quota_of(uint64_t total, double share)
{
    const uint64_t wanted = (uint64_t)llround(share * (double)total);

    return wanted < 1 ? 1 : wanted > total - 1 ? total - 1 : wanted;
}

/* How many of each class are set aside of each part: quotas (classes, parts), zero before. */
static int find_quotas(const struct data_index *whole, double share, uint64_t *quotas,
                       struct err *err)
{
    const size_t parts = parts_of(whole);
    struct dealt *const dealt = calloc(parts, sizeof *dealt);
    int rc = 0;

    if (dealt == NULL)
        abort();
    for (size_t p = 0; p < parts; p++) {
        const struct data_index_part part = part_at(whole, p);

        for (size_t i = part.begin; i < part.begin + part.count; i++)
            quotas[(size_t)whole->samples[i].label * parts + p]++;
    }
    for (size_t c = 0; c < (size_t)whole->classes && rc == 0; c++) {
        uint64_t *const row = quotas + c * parts, total = 0;

        for (size_t p = 0; p < parts; p++)
            total += row[p];
        if (total < 2)
            rc = err_set(err, ERR_INPUT,
                         "class '%s' of '%s' has %llu pictures: to set some aside for validation "
                         "it needs two",
                         whole->class_names[c], whole->root, (unsigned long long)total);
        else
            deal(row, dealt, parts, total, quota_of(total, share), share);
    }
    free(dealt);
    return rc;
}

/* The first samples of each part and class, as many as its quota says. */
static void mark_held(const struct data_index *whole, uint64_t *quotas, bool *held)
{
    const size_t parts = parts_of(whole);

    for (size_t p = 0; p < parts; p++) {
        const struct data_index_part part = part_at(whole, p);

        for (size_t i = part.begin; i < part.begin + part.count; i++) {
            uint64_t *const quota = &quotas[(size_t)whole->samples[i].label * parts + p];

            held[i] = *quota > 0;
            *quota -= held[i];
        }
    }
}

int data_index_split(struct data_index *whole, double share, struct data_index *train,
                     struct data_index *held_out, struct err *err)
{
    uint64_t *quotas = calloc((size_t)whole->classes * parts_of(whole) + 1, sizeof *quotas);
    bool *held = calloc(whole->count + 1, sizeof *held);
    struct data_index first = {0}, second = {0};
    int rc = -1;

    assert(share > 0 && share < 1 && whole->pages == NULL);
    if (quotas == NULL || held == NULL)
        abort();
    if (find_quotas(whole, share, quotas, err) < 0)
        goto out;
    mark_held(whole, quotas, held);
    if (select_marked(whole, held, true, &first, err) < 0 ||
        select_marked(whole, held, false, &second, err) < 0)
        goto out;
    second.ignored = whole->ignored;
    second.empty = whole->empty;
    whole->ignored = whole->empty = (struct data_left){0};
    data_index_release(whole);
    *held_out = first;
    *train = second;
    first = second = (struct data_index){0};
    rc = 0;
out:
    data_index_release(&first);
    data_index_release(&second);
    free(held);
    free(quotas);
    return rc;
}
