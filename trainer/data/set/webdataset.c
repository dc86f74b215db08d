#include "trainer/data/set/webdataset.h"

#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/foreign/recordio.h"
#include "trainer/data/index/numbers.h"

#define CLASS_BYTES_MAX 64 /* of a KEY.cls: digits and a line's end */

enum part { PART_OTHER, PART_PICTURE, PART_CLASS };

/* The place of the first dot of the path's last part; NULL: none, or the name begins with it. */
static const char *first_dot(const char *name)
{
    const char *const slash = strrchr(name, '/'), *const base = slash != NULL ? slash + 1 : name;
    const char *const dot = strchr(base, '.');

    return dot == base ? NULL : dot;
}

static enum part part_of(const char *extension)
{
    if (strcasecmp(extension, ".jpg") == 0 || strcasecmp(extension, ".jpeg") == 0 ||
        strcasecmp(extension, ".png") == 0)
        return PART_PICTURE;
    return strcasecmp(extension, ".cls") == 0 ? PART_CLASS : PART_OTHER;
}

/* Before another key, or the end: the one in hand must have both. */
static int check_whole(const struct data_webdataset *set, struct err *err)
{
    if (!set->begun || (set->has_picture && set->has_class))
        return 0;
    return data_bytes_refuse(set->bytes, set->stem_at, err, "the sample '%.200s' has no %s",
                             set->stem,
                             set->has_picture ? "class (a member of that name with .cls)"
                                              : "picture (.jpg, .jpeg or .png)");
}

static int begin_key(struct data_webdataset *set, const char *stem, size_t bytes, struct err *err)
{
    if (set->begun && strlen(set->stem) == bytes && memcmp(set->stem, stem, bytes) == 0)
        return 0;
    if (check_whole(set, err) < 0)
        return -1;
    memcpy(set->stem, stem, bytes);
    set->stem[bytes] = '\0';
    set->stem_at = set->member.header;
    set->begun = true;
    set->has_picture = set->has_class = false;
    return 0;
}

static int take_picture(struct data_webdataset *set, struct buf *picture, struct err *err)
{
    const struct data_member *member = &set->member;
    const uint64_t most = picture != NULL ? DATA_RECORD_BYTES_MAX : INT32_MAX;

    if (set->has_picture)
        return data_bytes_refuse(set->bytes, member->header, err,
                                 "the sample '%.200s' has two pictures", set->stem);
    if (member->bytes > most)
        return data_bytes_refuse(set->bytes, member->header, err, "a picture of more than %llu MiB",
                                 (unsigned long long)(most >> 20));
    if (picture != NULL) {
        picture->bytes = 0;
        for (uint64_t have = 0; have < member->bytes;) { /* grown as it comes */
            const uint64_t left = member->bytes - have;
            const size_t some = left < DATA_BYTES_WINDOW ? (size_t)left : DATA_BYTES_WINDOW;

            if (buf_reserve(picture, some, err) < 0 ||
                data_bytes_need(set->bytes, member->offset + have, picture->data + picture->bytes,
                                some, err) < 0)
                return -1;
            picture->bytes += some;
            have += some;
        }
    }
    memcpy(set->name, member->name, sizeof set->name);
    set->offset = member->offset;
    set->picture_bytes = member->bytes;
    set->has_picture = true;
    return 0;
}

static int take_class(struct data_webdataset *set, struct err *err)
{
    const struct data_member *member = &set->member;
    char text[CLASS_BYTES_MAX];

    if (set->has_class)
        return data_bytes_refuse(set->bytes, member->header, err,
                                 "the sample '%.200s' has two classes", set->stem);
    if (member->bytes <= sizeof text &&
        data_bytes_need(set->bytes, member->offset, text, (size_t)member->bytes, err) < 0)
        return -1;
    if (member->bytes > sizeof text || !data_number_read(text, (size_t)member->bytes, &set->label))
        return data_bytes_refuse(set->bytes, member->offset, err,
                                 "the class of '%.200s' is no whole number from 0 to 999999",
                                 set->stem);
    set->has_class = true;
    return 0;
}

int data_webdataset_next(struct data_webdataset *set, struct buf *picture, struct err *err)
{
    int rc;

    while ((rc = data_member_next(set->bytes, &set->at, set->joined, &set->member, err)) == 1) {
        const char *const dot = first_dot(set->member.name);
        const enum part part = dot != NULL ? part_of(dot) : PART_OTHER;

        if (part == PART_OTHER)
            continue;
        if (!set->member.file) {
            if (part == PART_PICTURE)
                return data_bytes_refuse(set->bytes, set->member.header, err,
                                         "'%.200s' is a link or no file: pack the tar with the "
                                         "files themselves",
                                         set->member.name);
            continue;
        }
        if (begin_key(set, set->member.name, (size_t)(dot - set->member.name), err) < 0 ||
            (part == PART_PICTURE ? take_picture(set, picture, err) : take_class(set, err)) < 0)
            return -1;
        if (set->has_picture && set->has_class)
            return 1;
    }
    return rc < 0 || check_whole(set, err) < 0 ? -1 : 0;
}
