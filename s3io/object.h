/*
 * s3io/object.h -- objects: read (whole or ranges), write (conditionally too), look at, delete.
 *
 * Source: Amazon S3 API Reference: GetObject, PutObject, HeadObject, DeleteObject. Keys are byte
 * strings of 1 to 1024 bytes, sent as they are: each byte is percent-encoded once, nothing is
 * normalised ("a//b" and "a/../b" are keys).
 *
 * Every function blocks, retries as client.h says, and returns S3_YES, S3_NO, or -1 with err:
 * ERR_INPUT for what a person has to mend (403, no such bucket, wrong region or certificate: the
 * line has bucket, key, request id and the permission that is missing), ERR_NET when the network or
 * the server did not mend in time, ERR_STOPPED when the client's cancel was set. "s3://BUCKET/KEY"
 * is in every line.
 */
#ifndef S3IO_OBJECT_H
#define S3IO_OBJECT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct s3_client;

enum {
    S3_NO = 0, /* no such key; or the condition did not hold */
    S3_YES = 1,
};

#define S3_ETAG_CHARS 128 /* an ETag with its quotes, and the NUL */

struct s3_object {
    uint64_t bytes; /* of the whole object, also where a range of it was asked for */
    char etag[S3_ETAG_CHARS];
    double modified_s; /* Last-Modified, seconds since 1970 */
    double server_s;   /* the response's Date: the server's clock */
    bool has_crc32c;   /* the server said the CRC-32C of the whole object */
    uint32_t crc32c;
};

struct s3_get {
    const char *bucket, *key;
    uint64_t offset; /* first byte wanted */
    uint64_t bytes;  /* how many; all of them must be there (else ERR_INPUT) */
    bool whole;      /* the whole object, whatever its length: offset and bytes are not looked at */
    const char *if_match; /* an ETag the object must still have; NULL: any */
    const volatile sig_atomic_t
        *cancel;                       /* looked at instead of the client's: for who gives up
                                          reading while others of the process go on; may be NULL */
    const volatile sig_atomic_t *stop; /* looked at as well; may be NULL */
    uint64_t object_bytes; /* how long the object is said to be; 0: not known. All of it is asked
                              for without a range, which servers answer sooner (Ceph reads ahead) */
    uint32_t *crc32c; /* where the CRC-32C of the bytes goes, counted while they are in the cache;
                         may be NULL */
};

/** Read into `out` (get->bytes of room; NULL: the bytes are only counted). Not for whole. An object
 * that no longer has the ETag is ERR_INPUT: "was replaced while it was read". A body that ends
 * early is asked for again from the byte reached; all of an object (object_bytes) that came with
 * another CRC-32C than the server said as well, from its start. object may be NULL. S3_NO: no such
 * key (use s3_object_missing where that is an error). */
int s3_object_read(struct s3_client *client, const struct s3_get *get, void *out,
                   struct s3_object *object, struct err *err);

struct buf;
/** Read the whole object behind what is in `out`; larger than bytes_max is ERR_INPUT. */
int s3_object_load(struct s3_client *client, const char *bucket, const char *key, size_t bytes_max,
                   struct buf *out, struct s3_object *object, struct err *err);
/** The same, of get's bucket and key and until its cancel. */
int s3_object_load_until(struct s3_client *client, const struct s3_get *get, size_t bytes_max,
                         struct buf *out, struct s3_object *object, struct err *err);

/** Read a whole object into the file fd (from its offset 0 on, by pwrite; fd is a regular file or
 * memfd), ranges of part_bytes side by side in `threads` requests. progress (may be NULL) is called
 * from one thread at a time with bytes done and bytes in all. */
typedef void s3_progress(void *context, uint64_t done, uint64_t total);
struct s3_transfer {
    int threads;         /* 0: S3_TRANSFER_THREADS */
    uint64_t part_bytes; /* 0: S3_TRANSFER_PART_BYTES; uploads grow it so that at most 10,000 parts
                            are needed */
    s3_progress *progress;
    void *context;
    uint64_t bytes_likely; /* download: as a listing says; 0: not known. One of a single part is
                              then read by one request, without asking for its length first */
    const char *source; /* upload: the path of the file, which the same call may find again later;
                           NULL: it cannot be gone on with */
};
#define S3_TRANSFER_THREADS    8
#define S3_TRANSFER_PART_BYTES ((uint64_t)8 << 20)
int s3_object_download(struct s3_client *client, const char *bucket, const char *key, int fd,
                       const struct s3_transfer *transfer, struct s3_object *object,
                       struct err *err);

/** HEAD. S3_NO: no such key. */
int s3_object_head(struct s3_client *client, const char *bucket, const char *key,
                   struct s3_object *object, struct err *err);

/** The same before all of it is read in ranges: the server is asked for its CRC-32C too, if it has
 * one (of an object that KMS encrypted only who may decrypt it gets an answer then). */
int s3_object_head_crc32c(struct s3_client *client, const char *bucket, const char *key,
                          struct s3_object *object, struct err *err);

/** Whether all bytes that came, with this CRC-32C, are those that the server has: 0, also where it
 * said none; or -1 (ERR_NET). */
int s3_object_compare(const struct s3_object *object, uint32_t crc32c, struct err *err);

struct s3_put {
    const char *bucket, *key;
    const void *data;
    size_t bytes;             /* at most 5 GiB */
    const char *content_type; /* NULL: application/octet-stream */
    bool if_none;             /* only where there is no such key yet (If-None-Match: *) */
    const char *if_match;     /* only over the object with this ETag; NULL: no condition */
};

/** Write one object in one request; it appears whole or not at all. object (may be NULL) gets ETag
 * and the server's clock. S3_NO: the condition did not hold (412, or 409: somebody else was
 * writing). After a try whose answer was lost a conditional write asks for the object's content
 * before it says S3_NO: it may have been ours. */
int s3_object_put(struct s3_client *client, const struct s3_put *put, struct s3_object *object,
                  struct err *err);

/** Write the first `bytes` bytes of the regular file or memfd fd as one object that appears whole
 * or not at all: by s3_object_put below two parts' length, else by multipart upload
 * (CreateMultipartUpload, UploadPart, in transfer->threads requests side by side,
 * CompleteMultipartUpload). put->data is not looked at; its conditions apply to the last request.
 *
 * Each part goes with its CRC-32C where the server understands that (it says so when the upload is
 * created), else with its SHA-256: a byte changed on the way is refused by the server. On failure
 * the upload is aborted, unless it failed for the network (ERR_NET) and transfer->source says what
 * it was: then it stays for S3_UPLOAD_KEEP_S, and the same call goes on with it, in this process or
 * another one on this host. Parts that are there are compared (length and CRC-32C or MD5), and not
 * sent again where they are equal; where they cannot be asked for now, that is the error, and they
 * stay; where nobody may list them, they are aborted with a warning and all is sent. What a process
 * that was killed left behind is aborted at the first write of another one (upload_record.h),
 * unless it can be gone on with. */
int s3_object_upload(struct s3_client *client, const struct s3_put *put, int fd,
                     const struct s3_transfer *transfer, struct s3_object *object, struct err *err);

/** DELETE. S3_YES also where there was none. */
int s3_object_delete(struct s3_client *client, const char *bucket, const char *key,
                     struct err *err);

/** "'s3://BUCKET/KEY': no such key" (ERR_INPUT). Returns -1. */
int s3_object_missing(const char *bucket, const char *key, struct err *err);

#endif
