/*
 * trainer/checkpoint/place.h -- where files appear whole or not at all: a folder, or the keys below
 * s3://BUCKET/PREFIX (a bucket's root too).
 *
 * In a folder a file is written under a temporary name and renamed (base/file.h). In S3 it is
 * written to memory and then uploaded as one object; nothing temporary is ever there. Names are
 * without '/'. Functions block; those for S3 use the process's client (s3_client_shared) and fail
 * as s3io/object.h says: ERR_INPUT for what a person has to mend, ERR_NET for the rest.
 */
#ifndef CHECKPOINT_PLACE_H
#define CHECKPOINT_PLACE_H

#include <stdbool.h>

struct err;
struct file_new;
struct place_kind;

struct place {
    const struct place_kind *kind;
    char *text;            /* the folder's path, or the address as given */
    char *bucket, *prefix; /* of S3: a key is prefix + name; the prefix is "" or ends in '/' */
};

/** Nothing is looked at yet. ERR_USAGE: a text that is neither a path nor s3://. Release accepts
 * all-zero and NULL. */
int place_open(struct place *place, const char *text, struct err *err);
void place_release(struct place *place);
bool place_is_s3(const char *text);

/** "TEXT/NAME"; heap, the caller frees. */
char *place_path(const struct place *place, const char *name);

/** Call visit for each name in the place that begins with `beginning`, in any order. A folder that
 * is not there has none. ERR_IO, ERR_INPUT, ERR_NET. */
typedef void place_visit(void *context, const char *name);
int place_list(const struct place *place, const char *beginning, place_visit *visit, void *context,
               struct err *err);

/** Open a file to read; in S3 it is fetched into memory, ranges side by side. 1 with *fd (the
 * caller closes it); 0: there is none; -1: it cannot be read now. */
int place_get(const struct place *place, const char *name, int *fd, struct err *err);

/** Write a file: begin, file_new_write, commit; file_new_release in any case. The folder is made if
 * missing. PLACE_NEW: a file that will never change; in S3 nothing is overwritten: an object of
 * the name that has the same content is success (it is ours, whose answer was lost), another one
 * ERR_INPUT. A server that knows no conditional writes is written to without. */
enum place_mode { PLACE_NEW, PLACE_REPLACE };
int place_begin(const struct place *place, const char *name, struct file_new *file,
                struct err *err);
int place_commit(const struct place *place, const char *name, struct file_new *file,
                 enum place_mode mode, struct err *err);

/** Remove a file; one that is not there is fine. */
int place_remove(const struct place *place, const char *name, struct err *err);

/** 0 if files can be made in the place now. In S3 a small object, ".convoy-probe", is written and
 * removed. ERR_IO, ERR_INPUT (the permission that is missing), ERR_NET. */
int place_check_writable(const struct place *place, struct err *err);

/** Whether a failure says that the server knows no conditional writes (501 NotImplemented). */
bool place_is_unconditional(const struct err *err);

/** What differs between folders and S3; folder.c and bucket.c have one each. */
struct place_kind {
    int (*list)(const struct place *place, const char *beginning, place_visit *visit, void *context,
                struct err *err);
    int (*get)(const struct place *place, const char *name, int *fd, struct err *err);
    int (*begin)(const struct place *place, const char *name, struct file_new *file,
                 struct err *err);
    int (*commit)(const struct place *place, const char *name, struct file_new *file,
                  enum place_mode mode, struct err *err);
    int (*remove)(const struct place *place, const char *name, struct err *err);
    int (*check_writable)(const struct place *place, struct err *err);
};
extern const struct place_kind place_folder, place_bucket;

#endif
