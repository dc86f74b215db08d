/*
 * s3io/upload_resume.h -- a multipart upload that was cut off or given up: gone on with, or
 * aborted. For upload.c; the sweep for object.c too.
 */
#ifndef S3IO_UPLOAD_RESUME_H
#define S3IO_UPLOAD_RESUME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "s3io/object.h"
#include "s3io/upload_record.h"

struct s3_client;
struct s3_job;

/* A part as it is, or was at an earlier try. */
struct s3_upload_part {
    char etag[S3_ETAG_CHARS]; /* "": not there yet */
    uint32_t crc32c;
    bool listed, listed_crc32c; /* the server said that it has one, and its CRC-32C */
    uint64_t listed_bytes;
};

/* A multipart upload; the job's context. */
struct s3_upload {
    struct s3_job *job;
    const struct s3_put *put;
    struct s3_upload_record record;
    struct buf kind;              /* its object's content type and encryption, as they are sent */
    struct s3_upload_part *parts; /* in order; each is one thread's while the job runs */
};

/** Go on with an upload that an earlier try of the same left behind: its record takes the place of
 * upload's, and its parts are known. S3_NO: there is none that serves (any more; one that can be
 * aborted is). -1: there is one, but what it has cannot be asked for now (ERR_NET, ERR_STOPPED): it
 * stays as it is. */
int s3_upload_resume(struct s3_upload *upload, struct err *err);

/** Parts that nobody asks for again cost money: abort it, and drop its record; where that fails a
 * warning says so. What made the upload fail is the error to report. */
void s3_upload_abort(struct s3_upload *upload);

/** Once for a client, before its first write of any kind: abort what earlier processes left behind
 * (s3_upload_record_sweep). */
void s3_upload_sweep(struct s3_client *client);

#endif
