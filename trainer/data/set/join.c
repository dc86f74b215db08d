#include "trainer/data/set/join.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/text.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/names.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/place.h"
#include "trainer/data/set/manifest.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/root.h"

/* --- this host's --- */

/* Only a folder that is not there means that this host has nothing: one that cannot be reached (a
 * dead mount: ENOTCONN, EIO, ESTALE) has what nobody sees. */
static int is_there(const char *root, bool *there, struct err *err)
{
    struct stat info;

    *there = true;
    if (stat(root, &info) == 0)
        return S_ISDIR(info.st_mode) ? 0 : err_set(err, ERR_INPUT, "'%s' is no folder", root);
    *there = false;
    return errno == ENOENT ? 0
                           : err_set_errno(err, errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                                           "cannot read folder '%s'", root);
}

int data_join_open(struct data_index *part, const char *root, const volatile sig_atomic_t *cancel,
                   struct err *err)
{
    enum data_root_kind kind = DATA_ROOT_EMPTY;
    bool there;

    if (data_manifest_is(root))
        return err_set(err, ERR_USAGE,
                       "--host-data: '%s' is a manifest, and every host would read all of it: "
                       "SageMaker deals out what it names, and its channel is a folder",
                       root);
    if (data_place_is_remote(root))
        return err_set(
            err, ERR_USAGE,
            "--host-data: '%s' lies in S3, and every host would read all of it: leave it "
            "out, and each picture is read by one rank",
            root);
    if (is_there(root, &there, err) < 0 || (there && data_root_look(root, &kind, cancel, err) < 0))
        return -1;
    if (kind != DATA_ROOT_EMPTY)
        return data_index_open_any(part, root, cancel, err);
    *part = (struct data_index){.root = text_copy(root)};
    return 0;
}

/* --- all hosts' --- */

struct names {
    char **at;
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, each once; the texts are the parts'. */
static struct names all_classes(const struct data_index *parts, size_t count)
{
    struct names names = {0};
    size_t most = 0, kept = 0;

    for (size_t p = 0; p < count; p++)
        most += (size_t)parts[p].classes;
    names.at = calloc(most + 1, sizeof *names.at);
    if (names.at == NULL)
        abort();
    for (size_t p = 0; p < count; p++)
        for (int c = 0; c < parts[p].classes; c++)
            names.at[names.count++] = parts[p].class_names[c];
    qsort(names.at, names.count, sizeof *names.at, by_name);
    for (size_t i = 0; i < names.count; i++)
        if (kept == 0 || strcmp(names.at[kept - 1], names.at[i]) != 0)
            names.at[kept++] = names.at[i];
    names.count = kept;
    return names;
}

/* Other people's tars have numbers for classes, and each host as many digits as its own need: how
 * many classes all of them have; 0 where the names are names. */
static int all_numbers(const struct data_index *parts, size_t count)
{
    int most = 0;

    for (size_t p = 0; p < count; p++) {
        if (!data_numbers_are(parts[p].class_names, parts[p].classes))
            return 0;
        most = parts[p].classes > most ? parts[p].classes : most;
    }
    return most;
}

static const char *first_word(const struct data_index *part)
{
    for (int c = 0; c < part->classes; c++)
        if (part->class_names[c][strspn(part->class_names[c], "0123456789")] != '\0')
            return part->class_names[c];
    return NULL;
}

/* Shards whose classes are the numbers from 0 on, and others whose classes are words, are not of
 * one data set. */
static int check_words(const struct data_index *parts, const char *const *hosts, size_t count,
                       struct err *err)
{
    size_t numbers = count, words = count;

    for (size_t p = 0; p < count; p++) {
        if (parts[p].count > 0 && data_numbers_are(parts[p].class_names, parts[p].classes))
            numbers = p;
        else if (parts[p].count > 0 && first_word(&parts[p]) != NULL)
            words = p;
    }
    if (numbers == count || words == count)
        return 0;
    return err_set(err, ERR_INPUT,
                   "the classes of '%s' are numbers on host '%s' and have names, such as '%s', on "
                   "host '%s'",
                   parts[numbers].root, hosts[numbers], first_word(&parts[words]), hosts[words]);
}

/* The joined index's label of each of a part's classes. */
static int find_labels(const struct data_index *joined, const struct data_index *part,
                       const char *host, int32_t *labels, struct err *err)
{
    for (int c = 0; c < part->classes; c++) {
        char *const *const found =
            bsearch(&part->class_names[c], joined->class_names, (size_t)joined->classes,
                    sizeof *joined->class_names, by_name);

        labels[c] = found != NULL ? (int32_t)(found - joined->class_names)
                                  : data_numbers_find(joined->class_names, joined->classes,
                                                      part->class_names[c]);
        if (labels[c] < 0)
            return err_set(err, ERR_INPUT,
                           "class '%s' of '%s' on host '%s' is not among the %d classes of the "
                           "training data",
                           part->class_names[c], part->root, host, joined->classes);
    }
    return 0;
}

static int add_samples(struct data_builder *builder, const struct data_index *part,
                       const int32_t *labels, size_t files, struct err *err)
{
    for (size_t i = 0; i < part->count; i++) {
        struct data_sample sample = part->samples[i];

        sample.label = labels[sample.label];
        sample.file += (uint32_t)files;
        if (data_builder_add(builder, &sample, sample.key, err) < 0)
            return -1;
    }
    return 0;
}

/* Of a host's folder: only files in S3 have ETags. */
static void add_files(struct data_index *joined, const struct data_index *part)
{
    assert(part->file_etags == NULL);
    joined->file_names = reallocarray(joined->file_names, joined->files + part->files + 1,
                                      sizeof *joined->file_names);
    if (joined->file_names == NULL)
        abort();
    for (size_t i = 0; i < part->files; i++)
        joined->file_names[joined->files++] = text_copy(part->file_names[i]);
}

static int join_samples(struct data_index *joined, const struct data_index *parts,
                        const char *const *hosts, size_t count, struct err *err)
{
    struct data_builder builder = {0};
    size_t samples = 0;
    int rc = 0;

    for (size_t p = 0; p < count && rc == 0; p++) {
        int32_t *const labels = calloc((size_t)parts[p].classes + 1, sizeof *labels);

        if (labels == NULL)
            abort();
        joined->parts[p] = (struct data_index_part){samples, parts[p].count};
        samples += parts[p].count;
        joined->ignored.count += parts[p].ignored.count;
        joined->empty.count += parts[p].empty.count;
        rc = find_labels(joined, &parts[p], hosts[p], labels, err);
        if (rc == 0)
            rc = add_samples(&builder, &parts[p], labels, joined->files, err);
        add_files(joined, &parts[p]);
        free(labels);
    }
    if (rc < 0)
        data_builder_release(&builder);
    else
        data_builder_finish(&builder, joined);
    return rc;
}

static int by_number(uint64_t x, uint64_t y)
{
    return (x > y) - (x < y);
}

/* Two with one key are one picture where their lengths agree, and the CRCs that shards have of it:
 * the keys of a Pipe channel count from 0 on each host. */
static int by_identity(const struct data_sample *x, const struct data_sample *y)
{
    const int order = strcmp(x->key, y->key);

    if (order != 0)
        return order;
    return x->bytes != y->bytes ? by_number(x->bytes, y->bytes) : by_number(x->crc32c, y->crc32c);
}

/* Equal ones as they stand in the index: host after host. */
static int by_identity_and_place(const void *a, const void *b)
{
    const struct data_sample *const *const x = a, *const *const y = b;
    const int order = by_identity(*x, *y);

    return order != 0 ? order : (*x > *y) - (*x < *y);
}

static size_t part_of(const struct data_index *joined, const struct data_sample *sample)
{
    const size_t at = (size_t)(sample - joined->samples);
    size_t p = 0;

    while (at - joined->parts[p].begin >= joined->parts[p].count)
        p++;
    return p;
}

static int check_once(const struct data_index *joined, const char *const *hosts, struct err *err)
{
    const struct data_sample **const sorted = calloc(joined->count + 1, sizeof *sorted);
    int rc = 0;

    if (sorted == NULL)
        return err_set(err, ERR_MEMORY, "no memory to compare %zu pictures", joined->count);
    for (size_t i = 0; i < joined->count; i++)
        sorted[i] = &joined->samples[i];
    qsort(sorted, joined->count, sizeof *sorted, by_identity_and_place);
    for (size_t i = 1; i < joined->count && rc == 0; i++) {
        size_t first, second;

        if (by_identity(sorted[i - 1], sorted[i]) != 0)
            continue;
        first = part_of(joined, sorted[i - 1]);
        second = part_of(joined, sorted[i]);
        if (first != second)
            rc = err_set(err, ERR_INPUT,
                         "hosts '%s' and '%s' both have '%s' in '%s': is each host's share its "
                         "own, as ShardedByS3Key gives it?",
                         hosts[first], hosts[second], sorted[i]->key, joined->root);
    }
    free(sorted);
    return rc;
}

static int check_kinds(const struct data_index *parts, const char *const *hosts, size_t count,
                       struct err *err)
{
    const struct data_index *first = NULL;

    for (size_t p = 0; p < count; p++) {
        if (parts[p].count == 0)
            continue;
        if (first != NULL && parts[p].sharded != first->sharded)
            return err_set(err, ERR_INPUT,
                           "'%s' holds shards on host '%s' and a folder per class on host '%s'",
                           parts[p].root, hosts[parts[p].sharded ? p : (size_t)(first - parts)],
                           hosts[parts[p].sharded ? (size_t)(first - parts) : p]);
        if (first == NULL)
            first = &parts[p];
    }
    return first != NULL
               ? first->sharded
               : err_set(err, ERR_INPUT, "there is no picture in '%s' on any of the %zu hosts",
                         parts[0].root, count);
}

static int take_classes(struct data_index *joined, const struct data_index *parts, size_t count,
                        char *const *class_names, int classes, struct err *err)
{
    struct names names = {0};
    const int numbers = class_names == NULL && joined->sharded ? all_numbers(parts, count) : 0;

    if (class_names == NULL)
        names = all_classes(parts, count);
    joined->classes = class_names != NULL ? classes : numbers > 0 ? numbers : (int)names.count;
    joined->class_names = numbers > 0
                              ? data_numbers_names(numbers)
                              : data_names_copy(class_names != NULL ? class_names : names.at,
                                                (size_t)joined->classes);
    free(names.at);
    if (joined->classes < 2)
        return err_set(err, ERR_INPUT,
                       "'%s' has one class only ('%s') on all %zu hosts: training needs at least "
                       "two classes",
                       joined->root, joined->class_names[0], count);
    return 0;
}

int data_join(struct data_index *joined, const char *root, const struct data_index *parts,
              const char *const *hosts, size_t count, char *const *class_names, int classes,
              struct err *err)
{
    struct data_index index = {.part_count = count};
    const int sharded = check_kinds(parts, hosts, count, err);

    if (sharded < 0)
        return -1;
    index.root = text_copy(root);
    index.sharded = sharded != 0;
    index.parts = calloc(count, sizeof *index.parts);
    if (index.parts == NULL)
        abort();
    if ((index.sharded && class_names == NULL && check_words(parts, hosts, count, err) < 0) ||
        take_classes(&index, parts, count, class_names, classes, err) < 0 ||
        join_samples(&index, parts, hosts, count, err) < 0 || check_once(&index, hosts, err) < 0) {
        data_index_release(&index);
        return -1;
    }
    data_index_seal(&index);
    *joined = index;
    return 0;
}
