#include "trainer/data/index/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/uri.h"
#include "s3io/client.h"
#include "s3io/list.h"
#include "s3io/object.h"

bool data_place_is_remote(const char *path)
{
    struct uri uri = {0};
    bool remote = false;

    if (uri_parse(&uri, path, NULL) == 0)
        remote = uri.scheme == URI_S3;
    uri_release(&uri);
    return remote;
}

int data_place_object(struct data_place *place, const char *path, struct err *err)
{
    struct uri uri = {0};

    if (uri_parse(&uri, path, err) < 0)
        return -1;
    if (uri.scheme != URI_S3) {
        uri_release(&uri);
        err_set(err, ERR_INTERNAL, "'%s' is in no bucket", path);
        return -1;
    }
    *place = (struct data_place){.bucket = uri.bucket, .key = uri.path};
    return 0;
}

int data_place_folder(struct data_place *place, const char *path, struct err *err)
{
    size_t bytes;
    char *key;

    if (data_place_object(place, path, err) < 0)
        return -1;
    bytes = strlen(place->key);
    while (bytes > 0 && place->key[bytes - 1] == '/') /* as uri_join does, whose keys we read */
        bytes--;
    key = realloc(place->key, bytes + 2);
    if (key == NULL)
        abort();
    memcpy(key + bytes, bytes > 0 ? "/" : "\0", 2);
    place->key = key;
    return 0;
}

void data_place_release(struct data_place *place)
{
    if (place == NULL)
        return;
    free(place->bucket);
    free(place->key);
    *place = (struct data_place){0};
}

/* A listing on its way to the caller's visit. */
struct listing {
    const char *folder;
    size_t prefix_bytes;
    data_place_visit *visit;
    void *context;
    bool any;
    const volatile sig_atomic_t *cancel;
    struct buf name;
};

static int visit_listed(void *context, const struct s3_listed *listed, struct err *err)
{
    struct listing *listing = context;
    struct data_found found = {.bytes = listed->bytes, .etag = listed->etag};
    size_t bytes;

    if (listing->cancel != NULL && __atomic_load_n(listing->cancel, __ATOMIC_RELAXED))
        return err_set(err, ERR_STOPPED, "stopped while listing '%s'", listing->folder);
    listing->any = true;
    bytes = strlen(listed->key) - listing->prefix_bytes;
    if (bytes == 0) /* the folder's own marker */
        return 0;
    listing->name.bytes = 0;
    buf_append(&listing->name, listed->key + listing->prefix_bytes, bytes);
    found.folder = listing->name.data[bytes - 1] == '/';
    listing->name.bytes -= found.folder;
    found.name = buf_text(&listing->name);
    return listing->visit(listing->context, &found, err);
}

int data_place_list(const char *folder, bool deep, data_place_visit *visit, void *context,
                    bool *any, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct s3_client *client = s3_client_shared(err);
    struct data_place place = {0};
    struct listing listing = {
        .folder = folder, .visit = visit, .context = context, .cancel = cancel};
    int rc;

    if (client == NULL || data_place_folder(&place, folder, err) < 0)
        return -1;
    listing.prefix_bytes = strlen(place.key);
    rc = s3_list(client, place.bucket, place.key, !deep, visit_listed, &listing, err);
    if (any != NULL)
        *any = listing.any;
    buf_release(&listing.name);
    data_place_release(&place);
    return rc;
}

static int visit_one(void *context, const struct s3_listed *listed, struct err *err)
{
    (void)listed, (void)err;
    *(bool *)context = true;
    return 1;
}

int data_place_exists(const char *folder, bool *exists, struct err *err)
{
    struct s3_client *client = s3_client_shared(err);
    struct data_place place = {0};
    int rc;

    *exists = false;
    if (client == NULL || data_place_folder(&place, folder, err) < 0)
        return -1;
    rc = s3_list(client, place.bucket, place.key, true, visit_one, exists, err);
    data_place_release(&place);
    return rc < 0 ? -1 : 0;
}

int data_place_load(const char *path, size_t bytes_max, struct buf *out, struct err *err)
{
    return data_place_load_until(path, bytes_max, NULL, out, err);
}

int data_place_load_until(const char *path, size_t bytes_max, const volatile sig_atomic_t *cancel,
                          struct buf *out, struct err *err)
{
    struct s3_client *client;
    struct data_place place = {0};
    int rc;

    if (!data_place_is_remote(path))
        return file_read(path, bytes_max, out, err);
    client = s3_client_shared(err);
    if (client == NULL || data_place_object(&place, path, err) < 0)
        return -1;
    rc = s3_object_load_until(
        client, &(struct s3_get){.bucket = place.bucket, .key = place.key, .cancel = cancel},
        bytes_max, out, NULL, err);
    if (rc == S3_NO)
        rc = s3_object_missing(place.bucket, place.key, err);
    data_place_release(&place);
    return rc < 0 ? -1 : 0;
}
