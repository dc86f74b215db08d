#include "trainer/dataset.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "trainer/data/index/place.h"
#include "trainer/data/index/split.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/root.h"
#include "trainer/data/set/webdataset.h"
#include "trainer/options.h"
#include "trainer/stop.h"

/* Where the splits lie; heap or NULL. */
struct places {
    char *train, *val, *test;
};

/* What is below the folder that holds the training pictures, where the options do not say
 * otherwise. */
static int look_below(struct places *places, const char *root, struct err *err)
{
    enum data_root_kind kind = DATA_ROOT_EMPTY;

    if (data_root_look(root, &kind, &train_stop_asked, err) < 0)
        return -1;
    if (kind != DATA_ROOT_SPLITS) {
        places->train = text_copy(root);
        return 0;
    }
    if (data_root_find(root, DATA_SPLIT_TRAIN, &places->train, err) < 0)
        return -1;
    if (places->val == NULL && data_root_find(root, DATA_SPLIT_VALIDATION, &places->val, err) < 0)
        return -1;
    return places->test == NULL ? data_root_find(root, DATA_SPLIT_TEST, &places->test, err) : 0;
}

static int find_places(struct places *places, const struct train_options *o, struct err *err)
{
    places->val = text_copy(o->val);
    places->test = text_copy(o->test);
    if (look_below(places, o->train != NULL ? o->train : o->data, err) < 0)
        return -1;
    /* --train names the pictures, --data may still hold the other splits. */
    if (o->train != NULL && o->data != NULL) {
        if (places->val == NULL &&
            data_root_find(o->data, DATA_SPLIT_VALIDATION, &places->val, err) < 0)
            return -1;
        if (places->test == NULL &&
            data_root_find(o->data, DATA_SPLIT_TEST, &places->test, err) < 0)
            return -1;
    }
    return 0;
}

/* Pictures of shards whose index is read whole at the start: 80 bytes each. In S3 a request for
 * each shard is what takes time (tests/bench/position); --cache takes that time, up to where memory
 * would be the limit (1.3 GB). */
#define WHOLE_MAX        ((uint64_t)1 << 22)
#define WHOLE_MAX_REMOTE ((uint64_t)1 << 20)
#define WHOLE_MAX_CACHED ((uint64_t)1 << 24)

/* Some things can only be had by looking at every label, or keep something of each picture. */
static int find_whole_max(const struct train_options *o, const char *root, uint64_t *most,
                          struct err *err)
{
    const char *const wanted = text_variable("CONVOY_INDEX_WHOLE_MAX");
    const bool features = o->tuning.frozen > 0 && o->feature_cache_bytes > 0;

    *most = !data_place_is_remote(root) ? WHOLE_MAX
            : o->cache != NULL          ? WHOLE_MAX_CACHED
                                        : WHOLE_MAX_REMOTE;
    if (wanted != NULL && !text_number(wanted, most))
        return err_set(err, ERR_USAGE,
                       "CONVOY_INDEX_WHOLE_MAX is '%.80s': give a number of pictures, or unset it",
                       wanted);
    if (o->val_split > 0 || features || strcmp(option_text(&o->set, "class-weights"), "none") != 0)
        *most = UINT64_MAX;
    return 0;
}

/* train: whose classes it is bound to; NULL for the training pictures themselves. */
static int open_one(struct data_index *index, const char *root, const struct train_options *o,
                    const struct data_index *train, struct err *err)
{
    uint64_t most = 0;

    if (find_whole_max(o, root, &most, err) < 0)
        return -1;
    return data_index_open_paged(index, root, most, train != NULL ? train->class_names : NULL,
                                 train != NULL ? train->classes : 0, &train_stop_asked, err);
}

/* class_labels.json is UTF-8: better said now than after hours of training. */
static int check_names(const struct data_index *index, struct err *err)
{
    for (int i = 0; i < index->classes; i++) {
        json_t *const name = json_string(index->class_names[i]);

        json_decref(name);
        if (name == NULL)
            return err_set(err, ERR_INPUT, "the class name '%s' in '%s' is not UTF-8",
                           index->class_names[i], index->root);
    }
    return 0;
}

/* What a job's hyperparameters say of its pictures. */
static int check_expected(const struct data_index *index, const struct train_expected *expected,
                          struct err *err)
{
    if (expected->classes != 0 && expected->classes != index->classes)
        return err_set(err, ERR_INPUT,
                       "hyperparameter num_classes is %d, but the training pictures in '%s' are of "
                       "%d classes: leave it out, or is a folder missing or too many?",
                       expected->classes, index->root, index->classes);
    if (expected->samples != 0 && expected->samples != index->count)
        log_warn("hyperparameter num_training_samples is %llu, but there are %zu training pictures "
                 "in '%s', which count",
                 (unsigned long long)expected->samples, index->count, index->root);
    return 0;
}

int train_dataset_split(struct train_dataset *d, double share, struct err *err)
{
    struct data_index whole = d->train;

    memset(&d->train, 0, sizeof d->train);
    if (data_index_split(&whole, share, &d->train, &d->val, err) < 0) {
        data_index_release(&whole);
        return err_wrap(err, "--val-split");
    }
    d->has_val = true;
    return 0;
}

static int open_held_out(struct train_dataset *d, const struct places *places,
                         const struct train_options *o, struct err *err)
{
    const double val_split = o->val_split;
    const char *val = places->val;

    if (val_split > 0 && val != NULL)
        return err_set(err, ERR_USAGE,
                       "--val-split is given, but there are validation pictures in '%s'", val);
    if (val_split > 0)
        return train_dataset_split(d, val_split, err);
    if (val == NULL && places->test != NULL) {
        log_info("no validation pictures: the test pictures in '%s' serve as such after each epoch",
                 places->test);
        val = places->test;
    }
    if (val == NULL)
        log_warn("no validation pictures: nothing is scored; give --val DIR or --val-split 0.1");
    else if (open_one(&d->val, val, o, &d->train, err) < 0)
        return -1;
    d->has_val = val != NULL;
    return 0;
}

/* Of several hosts' own pictures the first is not known here. */
static void warn_of(const struct data_left *left, const char *root, const char *what,
                    const char *why)
{
    if (left->first != NULL)
        log_warn("%zu %s below '%s' %s and are left out; the first is '%s'", left->count, what,
                 root, why, left->first);
    else
        log_warn("%zu %s below '%s' %s and are left out", left->count, what, root, why);
}

int train_dataset_tell(const struct data_index *index, bool stop_at_bad, struct err *err)
{
    const struct data_left *const ignored = &index->ignored, *const empty = &index->empty;

    if (ignored->count > 0)
        warn_of(ignored, index->root, "files", "are no pictures by their name");
    if (empty->count > 0 && stop_at_bad)
        return err_set(err, ERR_INPUT,
                       "picture '%s/%s' is empty: it has 0 bytes (--bad-images "
                       "stop)",
                       index->root, empty->first != NULL ? empty->first : "...");
    if (empty->count > 0)
        warn_of(empty, index->root, "pictures", "are empty");
    return 0;
}

int train_dataset_check(const struct data_index *train, const struct train_options *o,
                        struct err *err)
{
    return check_names(train, err) < 0 || check_expected(train, &o->expected, err) < 0 ? -1 : 0;
}

static int tell(const char *what, const struct data_index *index, bool stop_at_bad, struct err *err)
{
    log_info("%s: %zu pictures of %d classes in '%s' (%.1f MB%s)", what, index->count,
             index->classes, index->root, (double)index->bytes / 1e6,
             index->pages != NULL ? ", shards, whose indexes are read as they are wanted"
             : index->sharded     ? ", shards"
                                  : "");
    return train_dataset_tell(index, stop_at_bad, err);
}

int train_dataset_open(struct train_dataset *d, const struct train_options *o, struct err *err)
{
    struct places places = {0};
    int rc = -1;

    memset(d, 0, sizeof *d);
    data_webdataset_keep(o->cache);
    if (find_places(&places, o, err) < 0)
        goto out;
    if (open_one(&d->train, places.train, o, NULL, err) < 0)
        goto out;
    if (tell("training", &d->train, o->stop_at_bad, err) < 0)
        goto out;
    if (train_dataset_check(&d->train, o, err) < 0)
        goto out;
    if (open_held_out(d, &places, o, err) < 0)
        goto out;
    if (d->has_val && tell("validation", &d->val, o->stop_at_bad, err) < 0)
        goto out;
    if (places.test != NULL && open_one(&d->test, places.test, o, &d->train, err) < 0)
        goto out;
    d->has_test = places.test != NULL;
    if (d->has_test && tell("test", &d->test, o->stop_at_bad, err) < 0)
        goto out;
    rc = 0;
out:
    free(places.train);
    free(places.val);
    free(places.test);
    if (rc < 0)
        train_dataset_release(d);
    return rc;
}

void train_dataset_release(struct train_dataset *d)
{
    data_index_release(&d->train);
    data_index_release(&d->val);
    data_index_release(&d->test);
    memset(d, 0, sizeof *d);
}

/* Each index travels as its length and its bytes; no index is a length of 0. */
static void encode_index(const struct data_index *index, bool there, struct buf *out)
{
    struct buf bytes = {0};
    uint64_t length = 0;

    if (there)
        data_index_encode(index, &bytes);
    length = bytes.bytes;
    buf_append(out, &length, sizeof length);
    buf_append(out, bytes.data, bytes.bytes);
    buf_release(&bytes);
}

void train_dataset_encode(const struct train_dataset *d, struct buf *out)
{
    encode_index(&d->train, true, out);
    encode_index(&d->val, d->has_val, out);
    encode_index(&d->test, d->has_test, out);
}

static int decode_index(struct data_index *index, bool *there, const unsigned char **at,
                        const unsigned char *end, struct err *err)
{
    uint64_t length = 0;

    if ((size_t)(end - *at) < sizeof length)
        return err_set(err, ERR_INTERNAL, "the index that rank 0 sent is cut short");
    memcpy(&length, *at, sizeof length);
    *at += sizeof length;
    *there = length > 0;
    if (length > (uint64_t)(end - *at) ||
        (*there && data_index_decode(index, *at, length, err) < 0))
        return err_set(err, ERR_INTERNAL, "the index that rank 0 sent is cut short");
    *at += length;
    return 0;
}

int train_dataset_decode(struct train_dataset *d, const void *data, size_t bytes, struct err *err)
{
    const unsigned char *at = data, *const end = at + bytes;
    bool has_train = false;

    memset(d, 0, sizeof *d);
    if (decode_index(&d->train, &has_train, &at, end, err) < 0 ||
        decode_index(&d->val, &d->has_val, &at, end, err) < 0)
        return -1;
    return decode_index(&d->test, &d->has_test, &at, end, err);
}
