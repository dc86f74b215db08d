#include "trainer/weights_source.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/checkpoint/place.h"
#include "trainer/data/index/place.h"
#include "trainer/host_memory.h"
#include "trainer/weights/choice.h"
#include "trainer/weights/packed.h"

bool train_weights_is_folder(const char *path)
{
    return place_is_s3(path) ? !weights_is_name(path) : file_is_folder(path);
}

int train_weights_room(size_t *bytes, struct err *err)
{
    uint64_t available = 0;

    if (train_host_memory(&available, err) < 0)
        return -1;
    *bytes = available < TRAIN_WEIGHTS_BYTES_MAX ? (size_t)available : TRAIN_WEIGHTS_BYTES_MAX;
    return 0;
}

static void offer(void *context, const char *name)
{
    struct weights_choice *const choice = context;

    if (strchr(name, '/') == NULL)
        weights_choice_offer(choice, name);
}

/* The file of a folder; heap, NULL on failure. What no key of S3 lies below is an object itself, or
 * nothing. */
static char *find_in(const char *folder, struct err *err)
{
    struct weights_choice choice = {0};
    struct place place = {0};
    bool found = false;
    char *path = NULL;

    if (place_open(&place, folder, err) < 0)
        return NULL;
    if (place_is_s3(folder) && data_place_exists(folder, &found, err) < 0)
        goto out;
    if (place_is_s3(folder) && !found)
        path = strdup(folder);
    else if (place_list(&place, "", offer, &choice, err) == 0 &&
             weights_choice_settle(&choice, folder, err) == 0)
        path = place_path(&place, choice.name);
out:
    weights_choice_release(&choice);
    place_release(&place);
    return path;
}

static int open_packed(struct weights *weights, struct buf *bytes, const char *path,
                       struct buf *name, struct err *err)
{
    struct weights_packed packed = {.bytes = bytes->data, .count = bytes->bytes, .path = path};
    struct weights_unpacked file = {0};
    int rc = -1;

    if (train_weights_room(&packed.bytes_max, err) == 0)
        rc = weights_unpack(&packed, &file, err);
    buf_release(bytes);
    if (rc == 0) {
        buf_printf(name, "%s: %s", path, file.name);
        rc =
            weights_open_bytes(weights, file.content.data, file.content.bytes, buf_text(name), err);
    }
    weights_unpacked_release(&file);
    return rc;
}

static int open_file(struct weights *weights, const char *path, struct buf *name, struct err *err)
{
    struct buf bytes = {0};
    int rc = data_place_load(path, TRAIN_WEIGHTS_BYTES_MAX, &bytes, err);

    if (rc == 0 && weights_is_packed(bytes.data, bytes.bytes)) {
        rc = open_packed(weights, &bytes, path, name, err);
    } else if (rc == 0) {
        buf_printf(name, "%s", path);
        rc = weights_open_bytes(weights, bytes.data, bytes.bytes, path, err);
    }
    buf_release(&bytes);
    return rc;
}

int train_weights_open(struct weights *weights, const char *path, struct buf *name, struct err *err)
{
    char *found = NULL;
    int rc = -1;

    *weights = (struct weights){0};
    if (!train_weights_is_folder(path))
        return open_file(weights, path, name, err);
    found = find_in(path, err);
    if (found != NULL)
        rc = open_file(weights, found, name, err);
    free(found);
    return rc;
}
