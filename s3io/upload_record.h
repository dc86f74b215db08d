/*
 * s3io/upload_record.h -- multipart uploads of ours, remembered on this host's disk while they are
 * under way, so that one that was cut off can be gone on with, or aborted.
 *
 * S3 does not show whose an upload is that is not complete, so nothing but a record says that it is
 * ours: no other upload is ever touched. A record is a small file in
 * $XDG_STATE_HOME/convoy/uploads (~/.local/state/...), locked while its upload is under way; a lock
 * that is free means that its process is gone. It holds no credentials. Where the folder cannot be
 * written uploads go as well, and are not remembered.
 */
#ifndef S3IO_UPLOAD_RECORD_H
#define S3IO_UPLOAD_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#define S3_UPLOAD_KEEP_S    (24.0 * 3600)      /* that long a next try may come */
#define S3_UPLOAD_GIVE_UP_S (28 * 24 * 3600.0) /* that long one is tried to be aborted */

/* Texts are heap. */
struct s3_upload_record {
    char name[40];  /* the upload's own: in its object's metadata, and the record's file */
    char *endpoint; /* "aws" for AWS's */
    char *bucket, *key, *upload_id;
    char *source; /* what is uploaded, if it can be uploaded again: a path; NULL: it cannot */
    uint64_t device, inode, bytes, modified_ns; /* of the source */
    uint64_t part_bytes;
    char *kind;        /* what the object is created with: content type and encryption */
    bool crc32c;       /* parts have one */
    bool crc32c_whole; /* and the object has */
    bool this_boot;    /* it was begun since this host was started */

    char *path; /* of the record's file; NULL: not on disk */
    int fd;     /* holds the lock; -1 */
};

/** A new one with a name: the texts are copied, upload_id not known yet; source may be NULL, and fd
 * is what its stat is taken from. */
void s3_upload_record_init(struct s3_upload_record *record, const char *endpoint,
                           const char *bucket, const char *key, const char *source, int fd);
/** Leaves the file. Accepts all-zero. */
void s3_upload_record_release(struct s3_upload_record *record);

/** Once upload_id, part_bytes, kind and both crc32c are known: write it and lock it. */
void s3_upload_record_keep(struct s3_upload_record *record);
/** The upload is complete or aborted: remove the file. */
void s3_upload_record_drop(struct s3_upload_record *record);

/** Replace `record` by that of an earlier try of the same upload (the same source, unchanged),
 * which it locks. False: there is none. */
bool s3_upload_record_find(struct s3_upload_record *record);

enum s3_upload_fate {
    S3_UPLOAD_GONE,
    S3_UPLOAD_STAYS, /* who asks may not abort it, for one */
    S3_UPLOAD_LATER, /* nor could any other one be aborted now */
};

/** Call `abort` for each record at the endpoint whose process is gone and which nobody will go on
 * with: without a source, with one that has changed, or older than S3_UPLOAD_KEEP_S. From before
 * the last start, or of another host with our name and home, it has to be as old in any case. What
 * is gone is dropped, and what stays after S3_UPLOAD_GIVE_UP_S too, with a warning. */
typedef enum s3_upload_fate s3_upload_record_abort(void *context,
                                                   const struct s3_upload_record *record);
void s3_upload_record_sweep(const char *endpoint, s3_upload_record_abort *abort_one, void *context);

#endif
