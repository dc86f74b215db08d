/* trainer/weights/packed.c -- see packed.h. */
#include "trainer/weights/packed.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/err.h"
#include "trainer/weights/choice.h"

#define GZIP_WINDOW (15 + 16) /* zlib.h: the largest window, and a gzip around it */
#define STEP_BYTES  ((size_t)1 << 20)

/* The bytes of the tar, step by step. */
struct source {
    const struct weights_packed *packed;
    z_stream z;
    bool gzip, ended;    /* ended: nothing comes any more */
    uint64_t unpacked;   /* bytes so far */
    unsigned char *step; /* (STEP_BYTES) of a gzip */
    struct err err;      /* what is wrong with the gzip, where something is */
};

struct weights_walk {
    struct source source;
    struct archive *archive;
    struct archive_entry *entry;
    int entries;
};

/* --- gzip --- */

bool weights_is_packed(const void *bytes, size_t count)
{
    return count >= 2 && memcmp(bytes, "\x1f\x8b", 2) == 0;
}

static size_t left_of(const struct source *s)
{
    return s->packed->count - (size_t)(s->z.next_in - (const unsigned char *)s->packed->bytes);
}

/* One gzip behind the other is one file too; what else stands behind it is padding. */
static void end_gzip(struct source *s)
{
    if (weights_is_packed(s->z.next_in, left_of(s)))
        inflateReset(&s->z);
    else
        s->ended = true;
}

static int inflate_more(struct source *s)
{
    const size_t left = left_of(s);
    int rc;

    s->z.avail_in = left < UINT_MAX ? (uInt)left : UINT_MAX;
    rc = inflate(&s->z, Z_NO_FLUSH);
    if (rc == Z_BUF_ERROR)
        return err_set(&s->err, ERR_INPUT, "'%s' is cut short", s->packed->path);
    if (rc == Z_STREAM_END)
        end_gzip(s);
    else if (rc != Z_OK)
        return err_set(&s->err, ERR_INPUT, "'%s' is damaged: %s", s->packed->path,
                       s->z.msg != NULL ? s->z.msg : "no gzip");
    return 0;
}

/* Fill the step; *bytes is 0 at the end. */
static int unpack_step(struct source *s, size_t *bytes)
{
    s->z.next_out = s->step;
    s->z.avail_out = (uInt)STEP_BYTES;
    while (!s->ended && s->z.avail_out > 0)
        if (inflate_more(s) < 0)
            return -1;
    *bytes = STEP_BYTES - s->z.avail_out;
    s->unpacked += *bytes;
    if (s->unpacked > WEIGHTS_UNPACKED_BYTES_MAX)
        return err_set(&s->err, ERR_INPUT, "'%s' holds far more than a model", s->packed->path);
    return 0;
}

/* libarchive asks for more. */
static la_ssize_t read_step(struct archive *archive, void *context, const void **bytes)
{
    struct source *const s = context;
    size_t count = 0;

    if (!s->gzip) {
        *bytes = s->packed->bytes;
        count = s->ended ? 0 : s->packed->count;
        s->ended = true;
        return (la_ssize_t)count;
    }
    *bytes = s->step;
    if (unpack_step(s, &count) == 0)
        return (la_ssize_t)count;
    archive_set_error(archive, EIO, "%s", s->err.msg);
    return ARCHIVE_FATAL;
}

static void open_source(struct source *s, const struct weights_packed *packed)
{
    s->packed = packed;
    s->gzip = weights_is_packed(packed->bytes, packed->count);
    if (!s->gzip)
        return;
    s->step = malloc(STEP_BYTES);
    if (s->step == NULL || inflateInit2(&s->z, GZIP_WINDOW) != Z_OK)
        abort();
    s->z.next_in = (z_const Bytef *)packed->bytes;
}

/* libarchive ends where the tar does: the gzip's sum stands behind that. */
static int drain(struct source *s)
{
    size_t bytes = 0;

    while (s->gzip && !s->ended)
        if (unpack_step(s, &bytes) < 0)
            return -1;
    return 0;
}

/* --- tar --- */

struct weights_walk *weights_walk_open(const struct weights_packed *packed)
{
    struct weights_walk *const walk = calloc(1, sizeof *walk);

    if (walk == NULL || (walk->archive = archive_read_new()) == NULL)
        abort();
    open_source(&walk->source, packed);
    archive_read_support_format_tar(walk->archive);
    archive_read_support_format_empty(walk->archive);
    archive_read_open(walk->archive, &walk->source, NULL, read_step,
                      NULL); /* its failure is the first header's too */
    return walk;
}

void weights_walk_close(struct weights_walk *walk)
{
    if (walk == NULL)
        return;
    archive_read_free(walk->archive);
    if (walk->source.gzip)
        inflateEnd(&walk->source.z);
    free(walk->source.step);
    free(walk);
}

/* What the gzip says of itself comes before what the tar in it looks like. */
static int damaged(struct weights_walk *walk, struct err *err)
{
    const struct source *const s = &walk->source;
    const char *const why = archive_error_string(walk->archive);

    if (s->err.code != ERR_NONE)
        return err_set(err, s->err.code, "%s", s->err.msg);
    return err_set(err, ERR_INPUT, "'%s' is no tar, or a damaged one: %s", s->packed->path,
                   why != NULL ? why : "unknown reason");
}

/* Files, and nothing that stands for one. */
static bool is_file(struct archive_entry *entry)
{
    return archive_entry_pathname(entry) != NULL && archive_entry_filetype(entry) == AE_IFREG &&
           archive_entry_hardlink(entry) == NULL;
}

/* A header can say anything. */
static bool is_too_much(const struct weights_walk *walk)
{
    const la_int64_t bytes = archive_entry_size(walk->entry);

    return walk->entries > WEIGHTS_PACKED_FILES_MAX || bytes < 0 ||
           (uint64_t)bytes > WEIGHTS_UNPACKED_BYTES_MAX;
}

int weights_walk_next(struct weights_walk *walk, struct weights_member *member, struct err *err)
{
    do {
        const int rc = archive_read_next_header(walk->archive, &walk->entry);

        if (rc == ARCHIVE_EOF && drain(&walk->source) == 0)
            return 0;
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
            return damaged(walk, err);
        walk->entries++;
        if (is_too_much(walk))
            return err_set(err, ERR_INPUT, "'%s' holds far more than a model",
                           walk->source.packed->path);
    } while (!is_file(walk->entry));
    member->path = archive_entry_pathname(walk->entry);
    if (strncmp(member->path, "./", 2) == 0)
        member->path += 2;
    member->bytes = (size_t)archive_entry_size(walk->entry);
    return 1;
}

int weights_walk_take(struct weights_walk *walk, struct buf *out, struct err *err)
{
    const struct weights_packed *const packed = walk->source.packed;
    const char *const name = archive_entry_pathname(walk->entry);
    const size_t bytes = (size_t)archive_entry_size(walk->entry);
    la_ssize_t got;

    if (bytes > packed->bytes_max)
        return err_set(err, ERR_INPUT, "'%s' in '%s' has %zu MB, and %zu MB are the most here",
                       name, packed->path, bytes / 1000000, packed->bytes_max / 1000000);
    if (!walk->source.gzip && bytes > packed->count)
        return err_set(err, ERR_INPUT, "'%s' is damaged: '%s' is longer than the tar", packed->path,
                       name);
    if (buf_reserve(out, bytes + 1, err) < 0)
        return err_wrap(err, "cannot unpack '%s'", packed->path);
    got = archive_read_data(walk->archive, out->data + out->bytes, bytes);
    if (got < 0)
        return damaged(walk, err);
    if ((size_t)got != bytes)
        return err_set(err, ERR_INPUT, "'%s' is damaged: its '%s' is cut short", packed->path,
                       name);
    out->bytes += bytes;
    return 0;
}

/* --- weights --- */

/* The best so far is taken as it comes, since a tar is walked through once. */
static int take_best(struct weights_walk *walk, struct weights_choice *choice, struct buf *out,
                     struct err *err)
{
    struct weights_member member;
    int rc;

    while ((rc = weights_walk_next(walk, &member, err)) > 0) {
        if (strchr(member.path, '/') != NULL || !weights_choice_offer(choice, member.path))
            continue;
        out->bytes = 0;
        if (weights_walk_take(walk, out, err) < 0)
            return -1;
    }
    return rc;
}

int weights_unpack(const struct weights_packed *packed, struct weights_unpacked *out,
                   struct err *err)
{
    struct weights_walk *const walk = weights_walk_open(packed);
    struct weights_choice choice = {0};
    int rc = take_best(walk, &choice, &out->content, err);

    if (rc == 0)
        rc = weights_choice_settle(&choice, packed->path, err);
    if (rc == 0 && (out->name = strdup(choice.name)) == NULL)
        abort();
    weights_choice_release(&choice);
    weights_walk_close(walk);
    return rc;
}

void weights_unpacked_release(struct weights_unpacked *unpacked)
{
    buf_release(&unpacked->content);
    free(unpacked->name);
    *unpacked = (struct weights_unpacked){0};
}
