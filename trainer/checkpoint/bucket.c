/* trainer/checkpoint/bucket.c -- a place that is an s3:// prefix: see place.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/trace.h"
#include "s3io/client.h"
#include "s3io/list.h"
#include "s3io/object.h"
#include "trainer/checkpoint/place.h"

#define PROBE_NAME ".convoy-probe"

static char *key_of(const struct place *place, const char *name)
{
    char *key;

    if (asprintf(&key, "%s%s", place->prefix, name) < 0)
        abort();
    return key;
}

struct listing {
    size_t prefix_bytes;
    place_visit *visit;
    void *context;
};

static int visit_listed(void *context, const struct s3_listed *listed, struct err *err)
{
    const struct listing *const l = context;

    (void)err;
    if (!listed->is_prefix)
        l->visit(l->context, listed->key + l->prefix_bytes);
    return 0;
}

static int bucket_list(const struct place *place, const char *beginning, place_visit *visit,
                       void *context, struct err *err)
{
    struct listing listing = {strlen(place->prefix), visit, context};
    struct s3_client *const client = s3_client_shared(err);
    char *const prefix = key_of(place, beginning);
    const int rc = client == NULL
                       ? -1
                       : s3_list(client, place->bucket, prefix, true, visit_listed, &listing, err);

    free(prefix);
    return rc;
}

/* Fetch an object into memory; as place_get. */
static int fetch(struct s3_client *client, const struct place *place, const char *key, int *fd,
                 struct err *err)
{
    const struct s3_transfer transfer = {0};
    const int memory = memfd_create("convoy", MFD_CLOEXEC);
    int rc;

    if (memory < 0)
        return err_set_errno(err, ERR_MEMORY, errno, "no memory for 's3://%s/%s'", place->bucket,
                             key);
    rc = s3_object_download(client, place->bucket, key, memory, &transfer, NULL, err);
    if (rc == S3_YES)
        *fd = memory;
    else
        close(memory);
    return rc;
}

static int bucket_get(const struct place *place, const char *name, int *fd, struct err *err)
{
    struct s3_client *const client = s3_client_shared(err);
    char *const key = key_of(place, name);
    const int rc = client == NULL ? -1 : fetch(client, place, key, fd, err);

    free(key);
    return rc;
}

static int bucket_begin(const struct place *place, const char *name, struct file_new *file,
                        struct err *err)
{
    char *const path = place_path(place, name);
    const int rc = file_new_open_memory(file, path, err);

    free(path);
    return rc;
}

static int file_bytes(int fd, const char *what, size_t *bytes, struct err *err)
{
    struct stat info;

    if (fstat(fd, &info) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", what);
    *bytes = (size_t)info.st_size;
    return 0;
}

/* Whether two files have the same content; -1 with err. */
static int same_content(int a, int b, const char *what, struct err *err)
{
    size_t a_bytes = 0, b_bytes = 0;
    void *a_map = MAP_FAILED, *b_map = MAP_FAILED;
    int rc = -1;

    if (file_bytes(a, what, &a_bytes, err) < 0 || file_bytes(b, what, &b_bytes, err) < 0)
        return -1;
    if (a_bytes != b_bytes)
        return 0;
    a_map = mmap(NULL, a_bytes, PROT_READ, MAP_PRIVATE, a, 0);
    b_map = mmap(NULL, b_bytes, PROT_READ, MAP_PRIVATE, b, 0);
    if (a_map == MAP_FAILED || b_map == MAP_FAILED)
        err_set_errno(err, ERR_MEMORY, errno, "cannot map '%s'", what);
    else
        rc = memcmp(a_map, b_map, a_bytes) == 0;
    if (a_map != MAP_FAILED)
        munmap(a_map, a_bytes);
    if (b_map != MAP_FAILED)
        munmap(b_map, b_bytes);
    return rc;
}

/* The name is taken: fine where it is by what we wanted to put there. */
static int check_is_ours(struct s3_client *client, const struct place *place, const char *key,
                         const struct file_new *file, struct err *err)
{
    int fd = -1, same = -1;
    const int got = fetch(client, place, key, &fd, err);

    if (got < 0)
        return -1;
    if (got == S3_NO)
        return err_set(err, ERR_NET, "'s3://%s/%s' was there and is gone", place->bucket, key);
    same = same_content(fd, file->fd, file->path, err);
    close(fd);
    if (same == 0)
        return err_set(err, ERR_INPUT,
                       "'s3://%s/%s' is there already with other content, and is not overwritten",
                       place->bucket, key);
    return same < 0 ? -1 : 0;
}

bool place_is_unconditional(const struct err *err)
{
    return err->code == ERR_INPUT && strstr(err->msg, "HTTP 501") != NULL;
}

static int upload(struct s3_client *client, const struct place *place, const char *key,
                  const struct file_new *file, enum place_mode mode, struct err *err)
{
    const struct s3_transfer transfer = {0};
    struct s3_put put = {.bucket = place->bucket, .key = key, .if_none = mode == PLACE_NEW};
    const double begun = trace_begin();
    int rc;

    if (file_bytes(file->fd, file->path, &put.bytes, err) < 0)
        return -1;
    rc = s3_object_upload(client, &put, file->fd, &transfer, NULL, err);
    if (rc < 0 && put.if_none && place_is_unconditional(err)) {
        put.if_none = false;
        rc = s3_object_upload(client, &put, file->fd, &transfer, NULL, err);
    }
    trace_put(&(struct trace_span){.category = "checkpoint",
                                   .name = "upload",
                                   .begun_s = begun,
                                   .argument = "bytes",
                                   .value = (int64_t)put.bytes});
    if (rc == S3_NO)
        return check_is_ours(client, place, key, file, err);
    return rc < 0 ? -1 : 0;
}

static int bucket_commit(const struct place *place, const char *name, struct file_new *file,
                         enum place_mode mode, struct err *err)
{
    struct s3_client *const client = s3_client_shared(err);
    char *const key = key_of(place, name);
    const int rc = client == NULL ? -1 : upload(client, place, key, file, mode, err);

    free(key);
    return rc;
}

static int bucket_remove(const struct place *place, const char *name, struct err *err)
{
    struct s3_client *const client = s3_client_shared(err);
    char *const key = key_of(place, name);
    const int rc = client == NULL ? -1 : s3_object_delete(client, place->bucket, key, err);

    free(key);
    return rc < 0 ? -1 : 0;
}

/* Who may put but not delete can write a model all the same; one small object stays. */
static int bucket_check_writable(const struct place *place, struct err *err)
{
    struct s3_client *const client = s3_client_shared(err);
    struct err why = {0};
    char *const key = key_of(place, PROBE_NAME);
    const struct s3_put put = {.bucket = place->bucket, .key = key, .data = "", .bytes = 0};
    int rc = -1;

    if (client != NULL && s3_object_put(client, &put, NULL, err) >= 0) {
        rc = 0;
        if (s3_object_delete(client, place->bucket, key, &why) < 0)
            log_warn("cannot remove what was written to see whether it can be: %s", why.msg);
    }
    free(key);
    return rc;
}

const struct place_kind place_bucket = {.list = bucket_list,
                                        .get = bucket_get,
                                        .begin = bucket_begin,
                                        .commit = bucket_commit,
                                        .remove = bucket_remove,
                                        .check_writable = bucket_check_writable};
