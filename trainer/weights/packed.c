/* trainer/weights/packed.c -- see packed.h. */
#include "trainer/weights/packed.h"

#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/err.h"

#define GZIP_WINDOW        (15 + 16) /* zlib.h: the largest window, and a gzip around it */
#define UNPACKED_BYTES_MAX ((size_t)4 << 30)
#define STEP_BYTES         ((size_t)1 << 20)

/* --- which file --- */

static bool ends_with(const char *name, const char *end)
{
    const size_t bytes = strlen(name), tail = strlen(end);

    return bytes > tail && strcmp(name + bytes - tail, end) == 0;
}

/* 0: no weights. */
static int rank_of(const char *name)
{
    if (strcmp(name, "model.safetensors") == 0)
        return 5;
    if (strcmp(name, "model.pth") == 0)
        return 4;
    if (ends_with(name, ".safetensors") || ends_with(name, ".pth") || ends_with(name, ".pt"))
        return 3;
    if (strcmp(name, "model.tar.gz") == 0)
        return 2;
    return ends_with(name, ".tar.gz") || ends_with(name, ".tgz");
}

bool weights_is_name(const char *name)
{
    return rank_of(name) > 0;
}

static char *copy_of(const char *name)
{
    char *const copy = strdup(name);

    if (copy == NULL)
        abort();
    return copy;
}

void weights_choice_offer(struct weights_choice *choice, const char *name)
{
    const int rank = name[0] != '.' ? rank_of(name) : 0; /* hidden ones are half-written */

    choice->params |= ends_with(name, ".params");
    if (rank > choice->rank) {
        weights_choice_release(choice);
        choice->name = copy_of(name);
        choice->rank = rank;
    } else if (rank > 0 && rank == choice->rank && choice->other == NULL) {
        choice->other = copy_of(name);
    }
}

int weights_choice_settle(const struct weights_choice *choice, const char *path, struct err *err)
{
    if (choice->name == NULL)
        return err_set(err, ERR_INPUT,
                       "'%s' has no weights in it: model.safetensors, or another .safetensors or "
                       ".pth file%s",
                       path, choice->params ? " (MXNet's .params cannot be read)" : "");
    if (choice->other != NULL)
        return err_set(err, ERR_INPUT, "'%s' has both '%s' and '%s': name the file that is meant",
                       path, choice->name, choice->other);
    return 0;
}

void weights_choice_release(struct weights_choice *choice)
{
    const bool params = choice->params;

    free(choice->name);
    free(choice->other);
    *choice = (struct weights_choice){.params = params};
}

/* --- gzip --- */

bool weights_is_packed(const void *bytes, size_t count)
{
    return count >= 2 && memcmp(bytes, "\x1f\x8b", 2) == 0;
}

/* Give zlib more to read and more room, where it has none. */
static int feed(z_stream *z, const unsigned char *bytes, size_t count, struct buf *tar,
                const char *path, struct err *err)
{
    const size_t left = count - (size_t)(z->next_in - bytes);

    z->avail_in = left < UINT_MAX ? (uInt)left : UINT_MAX;
    if (tar->bytes > UNPACKED_BYTES_MAX)
        return err_set(err, ERR_INPUT, "'%s' has more than %zu bytes unpacked: refused", path,
                       UNPACKED_BYTES_MAX);
    if (buf_reserve(tar, STEP_BYTES, err) < 0)
        return err_wrap(err, "cannot unpack '%s'", path);
    z->next_out = tar->data + tar->bytes;
    z->avail_out = (uInt)STEP_BYTES;
    return 0;
}

/* One gzip behind the other is one file too; what else stands behind it is padding. */
static int inflate_all(z_stream *z, const unsigned char *bytes, size_t count, struct buf *tar,
                       const char *path, struct err *err)
{
    int rc = Z_OK;

    z->next_in = (z_const Bytef *)bytes;
    while (rc != Z_STREAM_END) {
        if (feed(z, bytes, count, tar, path, err) < 0)
            return -1;
        rc = inflate(z, Z_NO_FLUSH);
        tar->bytes += STEP_BYTES - z->avail_out;
        if (rc == Z_BUF_ERROR)
            return err_set(err, ERR_INPUT, "'%s' is cut short", path);
        if (rc != Z_OK && rc != Z_STREAM_END)
            return err_set(err, ERR_INPUT, "'%s' is damaged: %s", path,
                           z->msg != NULL ? z->msg : "no gzip");
        if (rc == Z_STREAM_END &&
            weights_is_packed(z->next_in, count - (size_t)(z->next_in - bytes))) {
            inflateReset(z);
            rc = Z_OK;
        }
    }
    return 0;
}

static int gunzip(const void *bytes, size_t count, struct buf *tar, const char *path,
                  struct err *err)
{
    z_stream z = {0};
    int rc;

    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
        return err_set(err, ERR_MEMORY, "no memory to unpack '%s'", path);
    rc = inflate_all(&z, bytes, count, tar, path, err);
    inflateEnd(&z);
    return rc;
}

/* --- tar --- */

static struct archive *open_tar(const struct buf *tar)
{
    struct archive *const archive = archive_read_new();

    if (archive == NULL)
        abort();
    archive_read_support_format_tar(archive);
    archive_read_support_format_empty(archive);
    archive_read_open_memory(archive, tar->data, tar->bytes); /* its failure is the header's too */
    return archive;
}

/* 1: a member; 0: the end. */
static int next_member(struct archive *archive, struct archive_entry **entry, const char *path,
                       struct err *err)
{
    const int rc = archive_read_next_header(archive, entry);

    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc == ARCHIVE_OK || rc == ARCHIVE_WARN)
        return 1;
    return err_set(err, ERR_INPUT, "'%s' has no tar in its gzip, or a damaged one: %s", path,
                   archive_error_string(archive));
}

/* A file's name in the topmost folder; NULL for all else. */
static const char *top_name(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);

    if (name == NULL || archive_entry_filetype(entry) != AE_IFREG ||
        archive_entry_hardlink(entry) != NULL)
        return NULL;
    if (strncmp(name, "./", 2) == 0)
        name += 2;
    return strchr(name, '/') == NULL ? name : NULL;
}

static int choose(const struct buf *tar, struct weights_choice *choice, const char *path,
                  struct err *err)
{
    struct archive *const archive = open_tar(tar);
    struct archive_entry *entry = NULL;
    int rc = 0;

    while ((rc = next_member(archive, &entry, path, err)) > 0) {
        const char *const name = top_name(entry);

        if (name != NULL)
            weights_choice_offer(choice, name);
    }
    archive_read_free(archive);
    return rc < 0 ? -1 : weights_choice_settle(choice, path, err);
}

/* The whole tar is in memory: no member can be longer. */
static int copy_member(struct archive *archive, struct archive_entry *entry, size_t tar_bytes,
                       const char *path, struct buf *out, struct err *err)
{
    const la_int64_t bytes = archive_entry_size(entry);
    la_ssize_t got = 0;

    if (bytes < 0 || (uint64_t)bytes > tar_bytes)
        return err_set(err, ERR_INPUT, "'%s' is damaged: '%s' is longer than the tar", path,
                       top_name(entry));
    if (buf_reserve(out, (size_t)bytes + 1, err) < 0)
        return err_wrap(err, "cannot unpack '%s'", path);
    got = archive_read_data(archive, out->data + out->bytes, (size_t)bytes);
    if (got != bytes)
        return err_set(err, ERR_INPUT, "'%s' is damaged: its '%s' is cut short", path,
                       top_name(entry));
    out->bytes += (size_t)bytes;
    return 0;
}

static int extract(const struct buf *tar, const char *member, const char *path, struct buf *out,
                   struct err *err)
{
    struct archive *const archive = open_tar(tar);
    struct archive_entry *entry = NULL;
    const char *name = NULL;
    int rc = 0;

    do {
        rc = next_member(archive, &entry, path, err);
        name = rc > 0 ? top_name(entry) : NULL;
    } while (rc > 0 && (name == NULL || strcmp(name, member) != 0));
    if (rc > 0)
        rc = copy_member(archive, entry, tar->bytes, path, out, err);
    else if (rc == 0)
        rc = err_set(err, ERR_INTERNAL, "'%s' has '%s' no more", path, member);
    archive_read_free(archive);
    return rc;
}

int weights_unpack(const void *bytes, size_t count, const char *path, struct buf *out,
                   char **member, struct err *err)
{
    struct weights_choice choice = {0};
    struct buf tar = {0};
    int rc = -1;

    if (gunzip(bytes, count, &tar, path, err) == 0 && choose(&tar, &choice, path, err) == 0 &&
        extract(&tar, choice.name, path, out, err) == 0) {
        *member = copy_of(choice.name);
        rc = 0;
    }
    weights_choice_release(&choice);
    buf_release(&tar);
    return rc;
}
