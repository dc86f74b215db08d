#include "trainer/data/packing.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/uri.h"
#include "s3io/client.h"
#include "s3io/object.h"
#include "trainer/data/place.h"
#include "trainer/data/target.h"

#define FORMAT         "convoy-packing"
#define VERSION        1
#define NOTE_BYTES_MAX 65536

static int is_there(const char *path, bool *there, struct err *err)
{
    struct s3_client *client;
    struct data_place place = {0};
    int rc;

    if (!data_place_is_remote(path)) {
        *there = file_exists(path);
        return 0;
    }
    client = s3_client_shared(err);
    if (client == NULL || data_place_object(&place, path, err) < 0)
        return -1;
    rc = s3_object_head(client, place.bucket, place.key, NULL, err);
    *there = rc == S3_YES;
    data_place_release(&place);
    return rc < 0 ? -1 : 0;
}

int data_packing_find(const char *folder, bool *there, struct err *err)
{
    char *path = uri_join(folder, DATA_PACKING_NAME);
    const int rc = is_there(path, there, err);

    free(path);
    return rc;
}

/* Compare the note with what is to be packed. */
static int compare(const json_t *note, const char *path, const char *folder, const char *hex,
                   uint64_t shard_bytes, struct err *err)
{
    const char *format, *identity, *source;
    int64_t version, bytes;

    if (json_read_string(note, "format", &format, path, err) < 0 ||
        json_read_string(note, "source", &source, path, err) < 0 ||
        json_read_string(note, "identity", &identity, path, err) < 0 ||
        json_read_integer(note, "version", 1, INT64_MAX, &version, path, err) < 0 ||
        json_read_integer(note, "shard_bytes", 1, INT64_MAX, &bytes, path, err) < 0)
        return -1;
    if (strcmp(format, FORMAT) == 0 && version == VERSION && strcmp(identity, hex) == 0 &&
        (uint64_t)bytes == shard_bytes)
        return 0;
    return err_set(err, ERR_INPUT,
                   "'%s' is half packed from '%s' with --shard-bytes %" PRId64
                   ": from another source, or it has changed since, or other options: give the "
                   "same command again to go on, or remove the folder to begin anew",
                   folder, source, bytes);
}

static int read_note(const char *path, const char *folder, const char *hex, uint64_t shard_bytes,
                     struct err *err)
{
    struct buf text = {0};
    json_t *note = NULL;
    int rc = data_place_load(path, NOTE_BYTES_MAX, &text, err);

    if (rc == 0) {
        note = json_read_text(buf_text(&text), text.bytes, path, err);
        rc = note == NULL ? -1 : compare(note, path, folder, hex, shard_bytes, err);
    }
    json_decref(note);
    buf_release(&text);
    return rc;
}

static int write_note(struct data_target *target, const char *path, const char *source,
                      const char *hex, uint64_t shard_bytes, struct err *err)
{
    json_t *note =
        json_pack("{s:s, s:i, s:o, s:s, s:I}", "format", FORMAT, "version", VERSION, "source",
                  json_new_text(source), "identity", hex, "shard_bytes", (json_int_t)shard_bytes);
    char *text = note != NULL ? json_dumps(note, JSON_INDENT(1)) : NULL;
    int rc;

    if (text == NULL)
        abort();
    rc = data_target_put(target, path, text, strlen(text), err);
    free(text);
    json_decref(note);
    return rc;
}

/* Drafts of files (base/file.h) whose process is no more: ".NAME.tmp-PID.sagemaker-ignore". */
static void remove_drafts(const char *folder)
{
    const struct dirent *entry;
    DIR *dir = opendir(folder);

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        const char *const at = strstr(entry->d_name, ".tmp-");
        const long pid = at != NULL ? strtol(at + 5, NULL, 10) : 0;

        if (pid > 0 &&
            (strncmp(entry->d_name, ".shard-", 7) == 0 ||
             strncmp(entry->d_name, ".index.json.", 12) == 0 ||
             strncmp(entry->d_name, "." DATA_PACKING_NAME ".", sizeof DATA_PACKING_NAME + 1) ==
                 0) &&
            kill((pid_t)pid, 0) < 0 && errno == ESRCH)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
}

int data_packing_begin(struct data_target *target, const char *folder, const char *source,
                       const unsigned char identity[DIGEST_SHA256_BYTES], uint64_t shard_bytes,
                       bool *resumes, struct err *err)
{
    char *path = uri_join(folder, DATA_PACKING_NAME), hex[DIGEST_HEX_CHARS];
    int rc = is_there(path, resumes, err);

    digest_hex(identity, hex);
    if (rc == 0 && *resumes)
        rc = read_note(path, folder, hex, shard_bytes, err);
    else if (rc == 0)
        rc = write_note(target, path, source, hex, shard_bytes, err);
    if (rc == 0 && !data_place_is_remote(folder))
        remove_drafts(folder);
    free(path);
    return rc;
}

void data_packing_own(struct data_target *target, const char *folder)
{
    char *path = uri_join(folder, DATA_PACKING_NAME);

    data_target_own(target, path);
    free(path);
}

void data_packing_end(struct data_target *target, const char *folder)
{
    char *path = uri_join(folder, DATA_PACKING_NAME);

    data_target_forget(target, path);
    free(path);
}
