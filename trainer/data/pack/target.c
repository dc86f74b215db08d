#include "trainer/data/pack/target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "s3io/client.h"
#include "trainer/data/index/place.h"

static void add(struct data_target *target, const char *path)
{
    if (target->count == target->capacity) {
        target->capacity = target->capacity * 2 + 16;
        target->paths = reallocarray(target->paths, target->capacity, sizeof *target->paths);
        if (target->paths == NULL)
            abort();
    }
    target->paths[target->count++] = text_copy(path);
}

int data_target_folder(struct data_target *target, const char *path, struct err *err)
{
    if (data_place_is_remote(path) || file_is_folder(path))
        return 0;
    if (file_make_folder(path, err) < 0)
        return -1;
    add(target, path);
    return 0;
}

void data_target_expect(struct data_target *target, const char *path)
{
    if (!data_place_is_remote(path))
        add(target, path);
}

static int upload(struct data_target *target, int fd, const char *path, s3_progress *progress,
                  void *context, struct s3_object *object, struct err *err)
{
    const struct s3_transfer transfer = {.progress = progress, .context = context};
    struct s3_client *client = s3_client_shared(err);
    struct data_place place = {0};
    struct s3_put put = {.content_type = "application/x-tar", .if_none = true};
    struct stat stat;
    int rc;

    if (client == NULL || data_place_object(&place, path, err) < 0)
        return -1;
    put.bucket = place.bucket;
    put.key = place.key;
    if (fstat(fd, &stat) < 0) {
        rc = err_set_errno(err, ERR_IO, errno, "cannot read the draft of '%s'", path);
    } else {
        put.bytes = (size_t)stat.st_size;
        rc = s3_object_upload(client, &put, fd, &transfer, object, err);
        if (rc != S3_NO) /* a failed one may have taken effect */
            add(target, path);
    }
    data_place_release(&place);
    return rc;
}

int data_target_deliver(struct data_target *target, int fd, const char *path, char **etag,
                        s3_progress *progress, void *context, struct err *err)
{
    struct s3_object object = {0};
    int rc;

    *etag = NULL;
    if (!data_place_is_remote(path))
        return S3_YES;
    rc = upload(target, fd, path, progress, context, &object, err);
    if (rc == S3_YES)
        *etag = text_copy(object.etag);
    return rc;
}

int data_target_put(struct data_target *target, const char *path, const void *data, size_t bytes,
                    struct err *err)
{
    struct s3_put put = {.data = data, .bytes = bytes, .if_none = true};
    struct data_place place = {0};
    struct s3_client *client;
    int rc;

    if (!data_place_is_remote(path)) {
        add(target, path);
        return file_replace(path, data, bytes, err);
    }
    client = s3_client_shared(err);
    if (client == NULL || data_place_object(&place, path, err) < 0)
        return -1;
    put.bucket = place.bucket;
    put.key = place.key;
    rc = s3_object_put(client, &put, NULL, err);
    data_place_release(&place);
    if (rc == S3_NO)
        return err_set(err, ERR_INPUT, "'%s' is there already: who else writes below this prefix?",
                       path);
    add(target, path); /* a failed one may have taken effect */
    return rc < 0 ? -1 : 0;
}

/* An ETag without its quotes: AWS takes both for a conditional PUT, Ceph compares only this. */
static void bare_etag(const char *etag, char out[S3_ETAG_CHARS])
{
    const size_t chars = strlen(etag);
    const bool quoted = chars >= 2 && etag[0] == '"' && etag[chars - 1] == '"';

    snprintf(out, S3_ETAG_CHARS, "%.*s", (int)(quoted ? chars - 2 : chars), etag + quoted);
}

int data_target_put_over(const char *path, const void *data, size_t bytes, const char *etag,
                         struct err *err)
{
    struct s3_client *const client = s3_client_shared(err);
    struct data_place place = {0};
    char bare[S3_ETAG_CHARS];
    int rc;

    if (client == NULL || data_place_object(&place, path, err) < 0)
        return -1;
    bare_etag(etag, bare);
    rc = s3_object_put(client,
                       &(struct s3_put){.bucket = place.bucket,
                                        .key = place.key,
                                        .data = data,
                                        .bytes = bytes,
                                        .if_match = bare},
                       NULL, err);
    data_place_release(&place);
    return rc;
}

static void take_back(const struct data_target *target, const char *path)
{
    struct s3_client *client;
    struct data_place place = {0};
    struct err err = {0};

    if (target->lost)
        return;
    if (!data_place_is_remote(path)) {
        remove(path);
        return;
    }
    client = s3_client_shared(&err);
    if (client == NULL || data_place_object(&place, path, &err) < 0 ||
        s3_object_delete(client, place.bucket, place.key, &err) < 0)
        log_warn("what was written as '%s' is still there: %s", path, err.msg);
    data_place_release(&place);
}

void data_target_own(struct data_target *target, const char *path)
{
    add(target, path);
}

void data_target_forget(struct data_target *target, const char *path)
{
    for (size_t i = target->count; i-- > 0;)
        if (strcmp(target->paths[i], path) == 0) {
            free(target->paths[i]);
            memmove(&target->paths[i], &target->paths[i + 1],
                    (--target->count - i) * sizeof *target->paths);
        }
    take_back(target, path);
}

void data_target_release(struct data_target *target, bool undo)
{
    for (size_t i = target->count; i-- > 0;) {
        if (undo)
            take_back(target, target->paths[i]);
        free(target->paths[i]);
    }
    free(target->paths);
    *target = (struct data_target){0};
}
