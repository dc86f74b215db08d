/* trainer/checkpoint/checkpoint.c -- see checkpoint.h. */
#include "trainer/checkpoint/checkpoint.h"

#include <assert.h>
#include <dirent.h>
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
#include "base/uri.h"

#define DATA_KEY "data_sha256" /* of the data section */
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
        used == 0 || name->generation < 0)
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

/* A folder that is not there has no checkpoints. */
static int list_folder(struct list *list, const char *folder, struct err *err)
{
    DIR *dir = opendir(folder);
    int why = 0;

    if (dir == NULL && errno == ENOENT)
        return 0;
    if (dir == NULL)
        return err_set_errno(err, errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                             "cannot read the folder '%s'", folder);
    for (;;) {
        struct checkpoint_name name;
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            why = errno;
            break;
        }
        if (parse_name(entry->d_name, &name))
            list_add(list, name);
    }
    closedir(dir);
    if (why != 0)
        return err_set_errno(err, ERR_IO, why, "cannot read the folder '%s'", folder);
    if (list->count > 0)
        qsort(list->names, list->count, sizeof *list->names, newest_first);
    return 0;
}

static char *path_in(const char *folder, struct checkpoint_name name)
{
    char text[NAME_CHARS];

    format_name(name, text);
    return uri_join(folder, text);
}

/* What is too old goes; a file that cannot be removed costs room, not the checkpoint that was just
 * saved. */
static void prune(const char *folder, struct checkpoint_name saved, int keep)
{
    struct list list = {0};
    struct err err = {0};

    if (list_folder(&list, folder, &err) < 0)
        log_warn("cannot remove old checkpoints: %s", err.msg);
    for (size_t i = (size_t)keep; i < list.count; i++) {
        char *path = path_in(folder, list.names[i]);

        if (newest_first(&list.names[i], &saved) != 0 && unlink(path) < 0 && errno != ENOENT)
            log_warn("cannot remove the old checkpoint '%s': %s", path, strerror(errno));
        free(path);
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
static int write_file(const char *path, struct safetensors_entry *entries, size_t entry_count,
                      const struct safetensors_pair *metadata, size_t metadata_count,
                      struct err *err)
{
    struct safetensors_pair *pairs = calloc(metadata_count + 2, sizeof *pairs);
    char data_hex[DIGEST_HEX_CHARS], header_hex[DIGEST_HEX_CHARS];
    unsigned char sha[DIGEST_SHA256_BYTES];
    struct file_new file = {.fd = -1};
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
    if (file_new_open(&file, path, err) < 0)
        goto out;
    if (safetensors_write(&file, entries, entry_count, pairs, metadata_count + 2, err) < 0)
        goto out;
    rc = file_new_commit(&file, err);
out:
    file_new_release(&file);
    free(pairs);
    return rc;
}

int checkpoint_save(const char *folder, struct checkpoint_name name,
                    struct safetensors_entry *entries, size_t entry_count,
                    const struct safetensors_pair *metadata, size_t metadata_count, int keep,
                    char **path_out, struct err *err)
{
    char *path;

    assert(keep >= 1 && name.generation >= 0);
    if (file_make_folder(folder, err) < 0)
        return err_wrap(err, "cannot save a checkpoint");
    path = path_in(folder, name);
    if (write_file(path, entries, entry_count, metadata, metadata_count, err) < 0) {
        free(path);
        return err_wrap(err, "cannot save a checkpoint");
    }
    prune(folder, name, keep);
    if (path_out != NULL)
        *path_out = path;
    else
        free(path);
    return 0;
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

int checkpoint_open(const char *path, struct safetensors *file, struct err *err)
{
    if (safetensors_open(file, path, err) < 0)
        return -1;
    if (verify(file, path, err) < 0) {
        safetensors_close(file);
        return -1;
    }
    return 0;
}

int checkpoint_open_latest(const char *folder, struct safetensors *file, char **path,
                           struct err *err)
{
    struct list list = {0};
    int rc = list_folder(&list, folder, err);

    for (size_t i = 0; rc == 0 && i < list.count; i++) {
        char *candidate = path_in(folder, list.names[i]);
        struct err why = {0};

        if (checkpoint_open(candidate, file, &why) == 0) {
            *path = candidate;
            rc = 1;
            break;
        }
        free(candidate);
        if (why.code !=
            ERR_INPUT) { /* it may be whole: starting from an older one would lose work */
            *err = why;
            rc = -1;
            break;
        }
        log_warn("passing over a checkpoint: %s", why.msg);
    }
    free(list.names);
    return rc;
}

int checkpoint_last_generation(const char *folder, int *generation, struct err *err)
{
    struct list list = {0};
    const int rc = list_folder(&list, folder, err);

    if (rc == 0)
        *generation = list.count > 0 ? list.names[0].generation : 0;
    free(list.names);
    return rc;
}

void checkpoint_clean(const char *folder)
{
    static const char ending[] = ".sagemaker-ignore";
    DIR *dir = opendir(folder);
    const struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        const size_t chars = strlen(entry->d_name);

        if (strncmp(entry->d_name, ".step-", 6) != 0 ||
            strstr(entry->d_name, SUFFIX ".tmp-") == NULL || chars < sizeof ending ||
            strcmp(entry->d_name + chars - (sizeof ending - 1), ending) != 0)
            continue;
        if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
            log_warn("cannot remove '%s/%s': %s", folder, entry->d_name, strerror(errno));
    }
    closedir(dir);
}
