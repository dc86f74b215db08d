/*
 * trainer/data/index/place.h -- where pictures lie: a folder of this host, or one of a bucket.
 *
 * "s3://BUCKET/PREFIX" names the keys that begin with "PREFIX/", whether it is written with the
 * slash or not: the folder "a" holds "a/x.jpg" and not "ab/x.jpg". What is below is named as files
 * are, with a '/' between folders. A key that ends in '/' stands for the folder alone, as the S3
 * console makes one.
 */
#ifndef DATA_INDEX_PLACE_H
#define DATA_INDEX_PLACE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct err;

/** Whether a path lies in a bucket: "s3://...". */
bool data_place_is_remote(const char *path);

struct data_place {
    char *bucket;
    char *key; /* of a folder: "" or ending in '/' */
};
/** The bucket and key of an object, or of a folder. ERR_USAGE: no bucket. Release accepts all-zero.
 */
int data_place_object(struct data_place *place, const char *path, struct err *err);
int data_place_folder(struct data_place *place, const char *path, struct err *err);
void data_place_release(struct data_place *place);

/* What is found in a folder of a bucket. */
struct data_found {
    const char *name; /* below the folder, without a '/' at its end; valid during the call */
    bool folder;
    uint64_t bytes;
    const char *etag;
};
/** As s3_list_visit: non-zero ends the listing, and is returned. */
typedef int data_place_visit(void *context, const struct data_found *found, struct err *err);

/** Visit what lies directly in a folder of a bucket; deep: every object below it, however deep
 * (and, as a folder, every key that ends in '/'). Blocks. 0 also where there is nothing, then
 * *any (may be NULL) is false. -1: ERR_INPUT (no such bucket, not allowed), ERR_NET; ERR_STOPPED
 * when cancel (may be NULL) became non-zero. */
int data_place_list(const char *folder, bool deep, data_place_visit *visit, void *context,
                    bool *any, const volatile sig_atomic_t *cancel, struct err *err);

/** Whether anything lies in a folder of a bucket. */
int data_place_exists(const char *folder, bool *exists, struct err *err);

/** Append a whole file or object to `out`. ERR_INPUT names it: missing, or more than bytes_max. */
int data_place_load(const char *path, size_t bytes_max, struct buf *out, struct err *err);
/** The same, until cancel (may be NULL) becomes non-zero: ERR_STOPPED. */
int data_place_load_until(const char *path, size_t bytes_max, const volatile sig_atomic_t *cancel,
                          struct buf *out, struct err *err);

#endif
