#include "trainer/data/stream/range.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "s3io/client.h"
#include "s3io/object.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"
#include "trainer/data/stream/group.h"

#define READS_MAX 4 /* of a sample whose bytes are not those of its index */

/* A range's sample number i, of those that lie in it. */
static uint32_t place_of(const struct data_group *group, const struct data_plan_range *range,
                         uint32_t i)
{
    return group->plan.by_file[range->first + i];
}

/* A picture that is an object of its own: is it the one that was listed? */
static int check_object(const struct data_range_source *source, const struct data_sample *sample,
                        const struct s3_object *object, struct err *err)
{
    const uint32_t etag = digest_crc32c(0, object->etag, strlen(object->etag));

    if (object->bytes == sample->bytes && (sample->crc32c == 0 || etag == sample->crc32c))
        return 0;
    return err_set(err, ERR_INPUT, "'s3://%s/%s%s' was replaced after its folder was listed",
                   source->root.bucket, source->root.key, sample->key);
}

static int read_bytes(const struct data_range_source *source, const struct data_group *group,
                      const struct data_plan_range *range, void *out, struct err *err)
{
    const struct data_index *index = source->index;
    const struct data_sample *sample = &group->entries[place_of(group, range, 0)];
    struct s3_get get = {.bucket = source->root.bucket,
                         .offset = range->offset,
                         .bytes = range->length,
                         .object_bytes = index->sharded ? 0 : sample->bytes,
                         .cancel = source->cancel};
    struct s3_object object = {0};
    struct buf key = {0};
    int rc;

    buf_printf(&key, "%s%s", source->root.key,
               index->sharded ? index->file_names[range->file] : sample->key);
    get.key = buf_text(&key);
    if (index->sharded && index->file_etags != NULL && index->file_etags[range->file][0] != '\0')
        get.if_match = index->file_etags[range->file];
    rc = s3_object_read(source->client, &get, out, &object, err);
    if (rc == S3_NO)
        rc = s3_object_missing(get.bucket, get.key, err);
    else if (rc == S3_YES && !index->sharded)
        rc = check_object(source, sample, &object, err);
    buf_release(&key);
    return rc < 0 ? -1 : 0;
}

/* Room for every picture of the range. */
static int make_room(struct data_group *group, const struct data_plan_range *range, struct err *err)
{
    for (uint32_t i = 0; i < range->count; i++) {
        const uint32_t place = place_of(group, range, i);
        const uint32_t bytes = group->entries[place].bytes;

        group->data[place] = malloc(bytes);
        if (group->data[place] == NULL)
            return err_set(err, ERR_MEMORY,
                           "no memory for a picture of %" PRIu32
                           " bytes: a smaller --prefetch-bytes needs less",
                           bytes);
    }
    return 0;
}

/* Cut what was read into pictures. */
static void hand_out(struct data_group *group, const struct data_plan_range *range,
                     const unsigned char *bytes)
{
    for (uint32_t i = 0; i < range->count; i++) {
        const uint32_t place = place_of(group, range, i);
        const struct data_sample *sample = &group->entries[place];

        memcpy(group->data[place], bytes + (sample->offset - range->offset), sample->bytes);
    }
}

static void take_back(struct data_group *group, const struct data_plan_range *range)
{
    for (uint32_t i = 0; i < range->count; i++) {
        free(group->data[place_of(group, range, i)]);
        group->data[place_of(group, range, i)] = NULL;
    }
}

static bool crc_matches(const struct data_group *group, uint32_t place)
{
    const struct data_sample *sample = &group->entries[place];

    return sample->crc32c == 0 ||
           digest_crc32c(0, group->data[place], sample->bytes) == sample->crc32c;
}

/* One sample of a range by itself. What stays wrong is the object's fault, not the network's, and
 * is given up: the group then has no picture there. */
static int read_again(const struct data_range_source *source, struct data_group *group,
                      const struct data_plan_range *range, uint32_t i, struct err *err)
{
    const uint32_t place = place_of(group, range, i);
    const struct data_sample *sample = &group->entries[place];
    const struct data_plan_range alone = {.file = range->file,
                                          .offset = sample->offset,
                                          .length = sample->bytes,
                                          .bytes = sample->bytes,
                                          .first = range->first + i,
                                          .count = 1};

    for (int reads = 1; reads < READS_MAX; reads++) {
        if (read_bytes(source, group, &alone, group->data[place], err) < 0)
            return -1;
        if (crc_matches(group, place))
            return 0;
    }
    free(group->data[place]);
    group->data[place] = NULL;
    return 0;
}

/* A shard's index says what each sample's bytes are. */
static int check_samples(const struct data_range_source *source, struct data_group *group,
                         const struct data_plan_range *range, uint32_t *damaged, struct err *err)
{
    for (uint32_t i = 0; i < range->count; i++) {
        if (crc_matches(group, place_of(group, range, i)))
            continue;
        (*damaged)++;
        if (read_again(source, group, range, i, err) < 0)
            return -1;
    }
    return 0;
}

/* A range's pictures as the cache names them. */
struct named {
    uint64_t *samples;
    unsigned char **data;
    uint32_t epoch;
};

static struct named name(const struct data_range_source *source, const struct data_group *group,
                         const struct data_plan_range *range)
{
    const struct named named = {.samples = calloc(range->count, sizeof *named.samples),
                                .data = calloc(range->count, sizeof *named.data),
                                .epoch = source->evaluation ? DATA_CACHE_TOLD : group->epoch};

    if (named.samples == NULL || named.data == NULL)
        abort();
    for (uint32_t i = 0; i < range->count; i++) {
        named.samples[i] = group->samples[place_of(group, range, i)];
        named.data[i] = group->data[place_of(group, range, i)];
    }
    return named;
}

static void forget(struct named *named)
{
    free(named->samples);
    free(named->data);
}

/* There is room for the pictures. The cache is asked for every range: what it lost since the plan
 * was made is read like all else, in one range, and what it got is not. */
static bool ask_cache(const struct data_range_source *source, const struct data_group *group,
                      const struct data_plan_range *range)
{
    struct named named;
    bool got;

    if (source->cache == NULL)
        return false;
    named = name(source, group, range);
    got = data_cache_get(source->cache, named.epoch, named.samples, range->count, named.data);
    forget(&named);
    return got;
}

static void tell_cache(const struct data_range_source *source, const struct data_group *group,
                       const struct data_plan_range *range)
{
    struct named named;

    if (source->cache == NULL)
        return;
    named = name(source, group, range);
    data_cache_put(source->cache, named.epoch, named.samples, range->count, named.data);
    forget(&named);
}

int data_range_read(const struct data_range_source *source, struct data_group *group, size_t number,
                    unsigned char *scratch, uint32_t *damaged, struct err *err)
{
    const struct data_plan_range *range = &group->plan.ranges[number];
    const bool alone = range->count == 1;

    *damaged = 0;
    if (make_room(group, range, err) < 0) {
        take_back(group, range);
        return -1;
    }
    if (ask_cache(source, group, range))
        return 1;
    if (read_bytes(source, group, range, alone ? group->data[place_of(group, range, 0)] : scratch,
                   err) < 0) {
        take_back(group, range);
        return -1;
    }
    if (!alone)
        hand_out(group, range, scratch);
    if (source->index->sharded && check_samples(source, group, range, damaged, err) < 0) {
        take_back(group, range);
        return -1;
    }
    tell_cache(source, group, range);
    return 0;
}
