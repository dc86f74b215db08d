#include "trainer/data/pack/packing.h"
#include "trainer/data/index/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/entropy.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/uri.h"
#include "s3io/client.h"
#include "s3io/object.h"
#include "trainer/data/index/drafts.h"
#include "trainer/data/index/place.h"
#include "trainer/data/pack/lock.h"
#include "trainer/data/pack/target.h"

#define FORMAT           "convoy-packing"
#define VERSION          1
#define NOTE_BYTES_MAX   65536
#define REMOTE_READS_MAX 3

/* The client, bucket and key of a note in a bucket; NULL with err. */
static struct s3_client *place_of(const char *path, struct data_place *place, struct err *err)
{
    struct s3_client *const client = s3_client_shared(err);

    return client == NULL || data_place_object(place, path, err) < 0 ? NULL : client;
}

static int is_there(const char *path, bool *there, struct err *err)
{
    struct data_place place = {0};
    struct s3_client *client;
    int rc;

    if (!data_place_is_remote(path)) {
        *there = file_exists(path);
        return 0;
    }
    client = place_of(path, &place, err);
    if (client == NULL)
        return -1;
    rc = s3_object_head(client, place.bucket, place.key, NULL, err);
    *there = rc == S3_YES;
    data_place_release(&place);
    return rc < 0 ? -1 : 0;
}

int data_packing_find(const char *folder, bool *there, struct err *err)
{
    char *path = uri_join(folder, SHARD_PACKING_NAME);
    const int rc = is_there(path, there, err);

    free(path);
    return rc;
}

/* What there is to be written, and to be compared with. */
struct note {
    const char *folder, *source;
    char hex[DIGEST_HEX_CHARS];
    uint64_t shard_bytes;
};

/* Compare the note with what is to be packed. */
static int compare(const json_t *found, const char *path, const struct note *note, struct err *err)
{
    const char *format, *identity, *source;
    int64_t version, bytes;

    if (json_read_string(found, "format", &format, path, err) < 0 ||
        json_read_string(found, "source", &source, path, err) < 0 ||
        json_read_string(found, "identity", &identity, path, err) < 0 ||
        json_read_integer(found, "version", 1, INT64_MAX, &version, path, err) < 0 ||
        json_read_integer(found, "shard_bytes", 1, INT64_MAX, &bytes, path, err) < 0)
        return -1;
    if (strcmp(format, FORMAT) == 0 && version == VERSION && strcmp(identity, note->hex) == 0 &&
        (uint64_t)bytes == note->shard_bytes)
        return 0;
    return err_set(err, ERR_INPUT,
                   "'%s' is half packed from '%s' with --shard-bytes %" PRId64
                   ": from another source, or it has changed since, or other options: give the "
                   "same command again to go on, or remove the folder to begin anew",
                   note->folder, source, bytes);
}

static int read_note(const struct note *note, const struct buf *text, const char *path,
                     struct err *err)
{
    json_t *const found = json_read_text((const char *)text->data, text->bytes, path, err);
    const int rc = found == NULL ? -1 : compare(found, path, note, err);

    json_decref(found);
    return rc;
}

/* No two are alike: what is there tells who wrote it. */
static char *write_text(const struct note *note)
{
    unsigned char nonce[8];
    char host[256] = "", hex[17];
    json_t *json;
    char *text;

    entropy_fill(nonce, sizeof nonce);
    for (size_t i = 0; i < sizeof nonce; i++)
        snprintf(hex + 2 * i, 3, "%02x", nonce[i]);
    gethostname(host, sizeof host - 1);
    json = json_pack("{s:s, s:i, s:o, s:s, s:I, s:o, s:I, s:s}", "format", FORMAT, "version",
                     VERSION, "source", json_new_text(note->source), "identity", note->hex,
                     "shard_bytes", (json_int_t)note->shard_bytes, "host", json_new_text(host),
                     "process", (json_int_t)getpid(), "nonce", hex);
    text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
    if (text == NULL)
        abort();
    json_decref(json);
    return text;
}

/* --- a local folder --- */

static int busy(const char *folder, struct err *err)
{
    return err_set(err, ERR_INPUT,
                   "another process packs into '%s': wait for it, or name another folder", folder);
}

/* The note appears whole, and locked: who finds it finds its lock held. It is the target's only
 * then. packing->fd holds it from here on. */
static int write_local(struct data_packing *packing, struct data_target *target,
                       const struct note *note, struct err *err)
{
    struct file_new file = {.fd = -1};
    char *text = write_text(note);
    int fd = -1, rc = file_new_open(&file, packing->path, err);

    if (rc == 0)
        rc = file_new_write(&file, text, strlen(text), err);
    if (rc == 0 && (fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 0)) < 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot lock '%s'", packing->path);
    if (rc == 0) {
        flock(fd, LOCK_EX | LOCK_NB); /* nobody else has it; where there are no locks, without */
        data_target_own(target, packing->path);
        rc = file_new_commit(&file, err);
    }
    if (fd >= 0) {
        close(packing->fd);
        packing->fd = fd;
    }
    file_new_release(&file);
    free(text);
    return rc;
}

/* The lock of an empty file comes first, then the whole note's in its place, so that there is never
 * a note without a lock or a part of one. */
static int begin_local(struct data_packing *packing, struct data_target *target,
                       const struct note *note, bool *resumes, struct err *err)
{
    struct buf text = {0};
    int rc = data_lock_take(packing->path, &packing->fd, err);

    if (rc == 0)
        rc = busy(note->folder, err);
    else if (rc > 0)
        rc = file_read(packing->path, NOTE_BYTES_MAX, &text, err);
    *resumes = text.bytes > 0;
    if (rc == 0 && *resumes)
        rc = read_note(note, &text, packing->path, err);
    buf_release(&text);
    if (rc < 0 || *resumes)
        return rc;
    return write_local(packing, target, note, err);
}

static int check_local(const struct data_packing *packing, struct err *err)
{
    struct stat there, ours;

    if (stat(packing->path, &there) == 0 && fstat(packing->fd, &ours) == 0 &&
        there.st_ino == ours.st_ino && there.st_dev == ours.st_dev)
        return 0;
    return err_set(err, ERR_INPUT, "'%s' was removed or replaced while its folder was packed into",
                   packing->path);
}

/* --- a bucket --- */

static int taken_over(const char *path, struct err *err)
{
    return err_set(err, ERR_INPUT, "another process took over '%s': this one ends", path);
}

static int begin_remote(struct data_packing *packing, struct data_target *target,
                        const struct note *note, bool *resumes, struct err *err)
{
    struct data_place place = {0};
    struct s3_client *const client = place_of(packing->path, &place, err);
    struct s3_object object = {0};
    struct buf text = {0};
    int rc = -1;

    if (client == NULL)
        return -1;
    rc = s3_object_load(client, place.bucket, place.key, NOTE_BYTES_MAX, &text, &object, err);
    *resumes = rc == S3_YES;
    data_place_release(&place);
    if (rc == S3_YES)
        rc = read_note(note, &text, packing->path, err);
    buf_release(&text);
    if (rc < 0)
        return -1;
    packing->text = write_text(note);
    if (!*resumes)
        return data_target_put(target, packing->path, packing->text, strlen(packing->text), err);
    rc =
        data_target_put_over(packing->path, packing->text, strlen(packing->text), object.etag, err);
    return rc == S3_NO ? taken_over(packing->path, err) : rc < 0 ? -1 : 0;
}

/* Its bytes have no checksum: what differs is read again. */
static int check_remote(const struct data_packing *packing, struct err *err)
{
    struct data_place place = {0};
    struct s3_client *const client = place_of(packing->path, &place, err);
    struct buf text = {0};
    bool equal = false;
    int rc = S3_YES;

    if (client == NULL)
        return -1;
    for (int reads = 0; reads < REMOTE_READS_MAX && rc == S3_YES && !equal; reads++) {
        text.bytes = 0;
        rc = s3_object_load(client, place.bucket, place.key, NOTE_BYTES_MAX, &text, NULL, err);
        equal = rc == S3_YES && strcmp(buf_text(&text), packing->text) == 0;
    }
    buf_release(&text);
    data_place_release(&place);
    return rc < 0 ? -1 : equal ? 0 : taken_over(packing->path, err);
}

static bool is_draft(const char *name)
{
    static const char *const begins[] = {".shard-", ".index.json.", "." SHARD_PACKING_NAME "."};

    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(name, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

int data_packing_begin(struct data_packing *packing, struct data_target *target, const char *folder,
                       const char *source, const unsigned char identity[DIGEST_SHA256_BYTES],
                       uint64_t shard_bytes, bool *resumes, struct err *err)
{
    struct note note = {.folder = folder, .source = source, .shard_bytes = shard_bytes};

    *packing = (struct data_packing){.path = uri_join(folder, SHARD_PACKING_NAME), .fd = -1};
    digest_hex(identity, note.hex);
    if (data_place_is_remote(folder))
        return begin_remote(packing, target, &note, resumes, err);
    if (begin_local(packing, target, &note, resumes, err) < 0)
        return -1;
    data_drafts_remove(folder, is_draft);
    return 0;
}

void data_packing_own(const struct data_packing *packing, struct data_target *target)
{
    data_target_own(target, packing->path);
}

int data_packing_check(const struct data_packing *packing, struct err *err)
{
    return packing->fd >= 0 ? check_local(packing, err) : check_remote(packing, err);
}

void data_packing_end(const struct data_packing *packing, struct data_target *target)
{
    data_target_forget(target, packing->path);
}

void data_packing_release(struct data_packing *packing)
{
    if (packing->path != NULL && packing->fd >= 0)
        close(packing->fd);
    free(packing->path);
    free(packing->text);
    *packing = (struct data_packing){.fd = -1};
}
