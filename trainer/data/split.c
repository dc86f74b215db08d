#include "trainer/data/split.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/text.h"
#include "trainer/data/builder.h"
#include "trainer/data/index.h"
#include "trainer/data/names.h"

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

/* How many of each class are set aside: the rounded share, and one at least on either side. */
static int split_quotas(const struct data_index *whole, double share, uint64_t *quotas,
                        struct err *err)
{
    for (size_t i = 0; i < whole->count; i++)
        quotas[whole->samples[i].label]++;
    for (int c = 0; c < whole->classes; c++) {
        const uint64_t count = quotas[c], wanted = (uint64_t)llround(share * (double)count);

        if (count < 2)
            return err_set(err, ERR_INPUT,
                           "class '%s' of '%s' has %llu pictures: to set some aside for validation "
                           "it needs two",
                           whole->class_names[c], whole->root, (unsigned long long)count);
        quotas[c] = wanted < 1 ? 1 : wanted > count - 1 ? count - 1 : wanted;
    }
    return 0;
}

int data_index_split(struct data_index *whole, double share, struct data_index *train,
                     struct data_index *held_out, struct err *err)
{
    uint64_t *quotas = calloc((size_t)whole->classes + 1, sizeof *quotas);
    bool *held = calloc(whole->count + 1, sizeof *held);
    struct data_index first = {0}, second = {0};
    int rc = -1;

    assert(share > 0 && share < 1 && whole->pages == NULL);
    if (quotas == NULL || held == NULL)
        abort();
    if (split_quotas(whole, share, quotas, err) < 0)
        goto out;
    for (size_t i = 0; i < whole->count; i++)
        if (quotas[whole->samples[i].label] > 0) {
            quotas[whole->samples[i].label]--;
            held[i] = true;
        }
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
