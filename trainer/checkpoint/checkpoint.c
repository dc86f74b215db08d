/* trainer/checkpoint/checkpoint.c -- see checkpoint.h. */
#include "trainer/checkpoint/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/trace.h"
#include "trainer/checkpoint/place.h"

#define REMOTE_READS_MAX 4
#define DATA_KEY         "data_sha256" /* of the data section */
#define HEADER_KEY                                                                                 \
    "header_sha256" /* of metadata and table, so that a changed step or name shows too */
#define NAME_CHARS 64
#define SUFFIX     ".safetensors"

static void format_name(struct checkpoint_name name, char out[NAME_CHARS])
{
    snprintf(out, NAME_CHARS, "step-%012" PRIu64 "-g%d" SUFFIX, name.step, name.generation);
}

/* Only names that format_name makes. */
static bool parse_name(const char *text, struct checkpoint_name *name)
{
    char again[NAME_CHARS];
    int used = 0;

    if (strlen(text) >= sizeof again ||
        sscanf(text, "step-%" SCNu64 "-g%d" SUFFIX "%n", &name->step, &name->generation, &used) !=
            2 ||
        used == 0 || name->generation < 0 || name->generation > CHECKPOINT_GENERATION_MAX)
        return false;
    format_name(*name, again);
    return strcmp(text, again) == 0;
}

struct list {
    struct checkpoint_name *names; /* newest first */
    size_t count, capacity;
};

static int newest_first(const void *a, const void *b)
{
    const struct checkpoint_name *x = a, *y = b;

    if (x->generation != y->generation)
        return x->generation > y->generation ? -1 : 1;
    return x->step > y->step ? -1 : x->step < y->step;
}

static void list_add(struct list *list, struct checkpoint_name name)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        list->names = realloc(list->names, list->capacity * sizeof *list->names);
        if (list->names == NULL)
            abort();
    }
    list->names[list->count++] = name;
}

static void add_name(void *context, const char *text)
{
    struct checkpoint_name name;

    if (parse_name(text, &name))
        list_add(context, name);
}

/* The place's checkpoints, newest first. */
static int list_place(struct list *list, const struct place *place, struct err *err)
{
    if (place_list(place, "step-", add_name, list, err) < 0)
        return -1;
    if (list->count > 0)
        qsort(list->names, list->count, sizeof *list->names, newest_first);
    return 0;
}

/* What is too old goes; a file that cannot be removed costs room, not the checkpoint that was just
 * saved. */
static void prune(const struct place *place, struct checkpoint_name saved, int keep)
{
    struct list list = {0};
    struct err err = {0};

    if (list_place(&list, place, &err) < 0)
        log_warn("cannot remove old checkpoints: %s", err.msg);
    for (size_t i = (size_t)keep; i < list.count; i++) {
        char text[NAME_CHARS];

        format_name(list.names[i], text);
        if (newest_first(&list.names[i], &saved) != 0 && place_remove(place, text, &err) < 0)
            log_warn("cannot remove an old checkpoint: %s", err.msg);
    }
    free(list.names);
}

/* Everything in the header that means something, but for the two digests. Strings go in with their
 * NUL, so that what belongs to which is clear. */
static void digest_header(const struct safetensors_entry *entries, size_t entry_count,
                          const struct safetensors_pair *metadata, size_t metadata_count,
                          char hex[DIGEST_HEX_CHARS])
{
    struct digest_sha256 *digest = digest_sha256_new();
    unsigned char sha[DIGEST_SHA256_BYTES];

    for (size_t i = 0; i < metadata_count; i++) {
        if (strcmp(metadata[i].key, DATA_KEY) == 0 || strcmp(metadata[i].key, HEADER_KEY) == 0)
            continue;
        digest_sha256_put(digest, metadata[i].key, strlen(metadata[i].key) + 1);
        digest_sha256_put(digest, metadata[i].value, strlen(metadata[i].value) + 1);
    }
    for (size_t i = 0; i < entry_count; i++) {
        const uint64_t shape[] = {entries[i].type, (uint64_t)entries[i].dims};

        digest_sha256_put(digest, entries[i].name, strlen(entries[i].name) + 1);
        digest_sha256_put(digest, shape, sizeof shape);
        digest_sha256_put(digest, entries[i].size,
                          (size_t)entries[i].dims * sizeof entries[i].size[0]);
    }
    digest_sha256_end(digest, sha);
    digest_sha256_free(digest);
    digest_hex(sha, hex);
}

/* The file itself, digests first so that they can be read without knowing the rest. */
static int write_file(const struct place *place, const char *name,
                      struct safetensors_entry *entries, size_t entry_count,
                      const struct safetensors_pair *metadata, size_t metadata_count,
                      struct err *err)
{
    struct safetensors_pair *pairs = calloc(metadata_count + 2, sizeof *pairs);
    char data_hex[DIGEST_HEX_CHARS], header_hex[DIGEST_HEX_CHARS];
    unsigned char sha[DIGEST_SHA256_BYTES];
    struct file_new file = {.fd = -1};
    double begun = trace_begin();
    int rc = -1;

    if (pairs == NULL)
        abort();
    safetensors_digest(entries, entry_count, sha); /* sorts */
    digest_hex(sha, data_hex);
    digest_header(entries, entry_count, metadata, metadata_count, header_hex);
    pairs[0] = (struct safetensors_pair){DATA_KEY, data_hex};
    pairs[1] = (struct safetensors_pair){HEADER_KEY, header_hex};
    for (size_t i = 0; i < metadata_count; i++) {
        assert(strcmp(metadata[i].key, DATA_KEY) != 0 && strcmp(metadata[i].key, HEADER_KEY) != 0);
        pairs[i + 2] = metadata[i];
    }
    trace_end("checkpoint", "digest", begun);
    begun = trace_begin();
    if (place_begin(place, name, &file, err) < 0)
        goto out;
    if (safetensors_write(&file, entries, entry_count, pairs, metadata_count + 2, err) < 0)
        goto out;
    trace_end("checkpoint", "write", begun);
    begun = trace_begin();
    rc = place_commit(place, name, &file, PLACE_NEW, err);
    trace_end("checkpoint", "commit", begun);
out:
    file_new_release(&file);
    free(pairs);
    return rc;
}

int checkpoint_save(const char *where, struct checkpoint_name name,
                    struct safetensors_entry *entries, size_t entry_count,
                    const struct safetensors_pair *metadata, size_t metadata_count, int keep,
                    char **path_out, struct err *err)
{
    struct place place = {0};
    char text[NAME_CHARS];
    double begun;
    int rc = -1;

    assert(keep >= 1 && name.generation >= 0);
    format_name(name, text);
    if (place_open(&place, where, err) == 0)
        rc = write_file(&place, text, entries, entry_count, metadata, metadata_count, err);
    if (rc < 0) {
        err_wrap(err, "cannot save a checkpoint");
    } else {
        begun = trace_begin();
        prune(&place, name, keep);
        trace_end("checkpoint", "remove old", begun);
        if (path_out != NULL)
            *path_out = place_path(&place, text);
    }
    place_release(&place);
    return rc;
}

static int verify(const struct safetensors *file, const char *path, struct err *err)
{
    const char *want = safetensors_metadata(file, DATA_KEY);
    const char *want_header = safetensors_metadata(file, HEADER_KEY);
    unsigned char sha[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS];

    if (want == NULL || want_header == NULL)
        return err_set(err, ERR_INPUT, "'%s' is not a checkpoint: it has no %s", path,
                       want == NULL ? DATA_KEY : HEADER_KEY);
    digest_sha256(file->data, file->data_bytes, sha);
    digest_hex(sha, hex);
    if (strcmp(hex, want) != 0)
        return err_set(err, ERR_INPUT, "'%s' is damaged: its data have SHA-256 %s, not %s", path,
                       hex, want);
    digest_header(file->entries, file->entry_count, file->metadata, file->metadata_count, hex);
    if (strcmp(hex, want_header) != 0)
        return err_set(err, ERR_INPUT, "'%s' is damaged: its header has SHA-256 %s, not %s", path,
                       hex, want_header);
    return 0;
}

/* fd is closed in any case. */
static int open_fd(struct safetensors *file, int fd, const char *path, struct err *err)
{
    int rc = safetensors_open_fd(file, fd, path, err);

    close(fd);
    if (rc == 0 && verify(file, path, err) < 0) {
        safetensors_close(file);
        rc = -1;
    }
    return rc;
}

/* 1: open; 0: there is none, or it is damaged: err says so; -1: it cannot be read now. What comes
 * from S3 may have been changed on its way: before it is called damaged, it is fetched again. */
static int open_named(const struct place *place, const char *name, const char *path,
                      struct safetensors *file, struct err *err)
{
    const int reads_max = place->kind == &place_bucket ? REMOTE_READS_MAX : 1;
    struct err why = {0};

    for (int reads = 1; reads <= reads_max; reads++) {
        int fd = -1;
        const int rc = place_get(place, name, &fd, err);

        if (rc < 0)
            return -1;
        if (rc == 0) {
            err_set(err, ERR_INPUT, "there is no '%s'", path);
            return 0;
        }
        if (open_fd(file, fd, path, &why) == 0)
            return 1;
        if (why.code != ERR_INPUT)
            break;
        if (reads < reads_max)
            log_info("reading it once more: %s", why.msg);
    }
    err_set(err, why.code, "%s", why.msg);
    return why.code == ERR_INPUT ? 0 : -1;
}

/* "FOLDER/NAME" cut in two; heap. */
static char *split_path(const char *path, const char **name)
{
    const char *const slash = strrchr(path, '/');
    char *const folder = slash == NULL   ? strdup(".")
                         : slash == path ? strdup("/")
                                         : strndup(path, (size_t)(slash - path));

    if (folder == NULL)
        abort();
    *name = slash == NULL ? path : slash + 1;
    return folder;
}

int checkpoint_open(const char *path, struct safetensors *file, struct err *err)
{
    const char *name;
    char *const folder = split_path(path, &name);
    struct place place = {0};
    const int rc =
        place_open(&place, folder, err) < 0 ? -1 : open_named(&place, name, path, file, err);

    place_release(&place);
    free(folder);
    return rc == 1 ? 0 : -1;
}

bool checkpoint_is_file(const char *text)
{
    const size_t chars = strlen(text), ending = sizeof SUFFIX - 1;

    if (!place_is_s3(text))
        return !file_is_folder(text);
    return chars > ending && strcmp(text + chars - ending, SUFFIX) == 0;
}

/* 1: open; 0: passed over, with a warning; -1: it may be whole, and starting from an older one
 * would lose work. */
static int open_listed(const struct place *place, struct checkpoint_name name,
                       struct safetensors *file, char **path, struct err *err)
{
    char text[NAME_CHARS], *candidate;
    struct err why = {0};
    int rc;

    format_name(name, text);
    candidate = place_path(place, text);
    rc = open_named(place, text, candidate, file, &why);
    if (rc == 1)
        *path = candidate;
    else
        free(candidate);
    if (rc < 0)
        *err = why;
    if (rc != 0)
        return rc;
    log_warn("passing over a checkpoint: %s", why.msg);
    return 0;
}

int checkpoint_open_latest(const char *where, struct safetensors *file, char **path,
                           struct err *err)
{
    struct place place = {0};
    struct list list = {0};
    int rc = place_open(&place, where, err) < 0 ? -1 : list_place(&list, &place, err);

    for (size_t i = 0; rc == 0 && i < list.count; i++)
        rc = open_listed(&place, list.names[i], file, path, err);
    free(list.names);
    place_release(&place);
    return rc;
}

int checkpoint_last_generation(const char *where, int *generation, struct err *err)
{
    struct place place = {0};
    struct list list = {0};
    const int rc = place_open(&place, where, err) < 0 ? -1 : list_place(&list, &place, err);

    if (rc == 0)
        *generation = list.count > 0 ? list.names[0].generation : 0;
    free(list.names);
    place_release(&place);
    return rc;
}

static void remove_temporary(void *context, const char *name)
{
    static const char ending[] = ".sagemaker-ignore";
    const size_t chars = strlen(name);
    struct err err = {0};

    if (strstr(name, SUFFIX ".tmp-") == NULL || chars < sizeof ending ||
        strcmp(name + chars - (sizeof ending - 1), ending) != 0)
        return;
    if (place_remove(context, name, &err) < 0)
        log_warn("%s", err.msg);
}

void checkpoint_clean(const char *folder)
{
    struct place place = {0};

    if (place_is_s3(folder) || place_open(&place, folder, NULL) < 0)
        return;
    (void)place_list(&place, ".step-", remove_temporary, &place, NULL);
    place_release(&place);
}
