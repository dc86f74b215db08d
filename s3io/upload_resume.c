#include "s3io/upload_resume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "s3io/address.h"
#include "s3io/checksum.h"
#include "s3io/job.h"
#include "s3io/request.h"
#include "s3io/xml.h"

#define ABORT_ATTEMPTS 3

/* --- an upload that is given up --- */

enum effort {
    ONCE,       /* as far as the client's cancel lets it */
    PERSISTENT, /* for cleaning up after a cancel, too */
};

/* Whether it is gone now, by us or before. */
static bool abort_send(struct s3_client *client, const struct s3_upload_record *record,
                       enum effort effort, struct err *err)
{
    const struct s3_pair query = {"uploadId", record->upload_id};
    const struct s3_request request = {.method = "DELETE",
                                       .bucket = record->bucket,
                                       .key = record->key,
                                       .query = &query,
                                       .query_count = 1,
                                       .permission = "s3:AbortMultipartUpload",
                                       .ignore_cancel = effort == PERSISTENT,
                                       .attempts = effort == PERSISTENT ? ABORT_ATTEMPTS : 1};
    struct s3_tries tries = {0};
    const int status = s3_request_send(client, &request, &tries, err);
    const bool gone = status / 100 == 2 || status == 404 ||
                      (status < 0 && strcmp(tries.fault.code, "NoSuchBucket") == 0);

    if (status > 0 && !gone)
        s3_request_fail(client, &request, &tries, err);
    s3_tries_release(&tries);
    return gone;
}

void s3_upload_abort(struct s3_upload *upload)
{
    struct s3_upload_record *const record = &upload->record;
    struct err err = {0};

    if (abort_send(upload->job->client, record, PERSISTENT, &err))
        s3_upload_record_drop(record);
    else
        log_warn("the parts of an upload to '%s' that failed stay in the bucket (and cost "
                 "money) until it is aborted%s, upload id %s: %s",
                 s3_address_name(record->bucket, record->key).text,
                 record->path != NULL ? " (a next start on this host tries to)" : "",
                 record->upload_id, err.msg);
}

static enum s3_upload_fate sweep_one(void *context, const struct s3_upload_record *record)
{
    struct err err = {0};
    const bool gone = abort_send(context, record, ONCE, &err);

    log_debug("s3: the upload %s to '%s', which nobody goes on with: %s", record->upload_id,
              s3_address_name(record->bucket, record->key).text, gone ? "aborted" : err.msg);
    if (gone)
        return S3_UPLOAD_GONE;
    return err.code == ERR_NET || err.code == ERR_STOPPED ? S3_UPLOAD_LATER : S3_UPLOAD_STAYS;
}

void s3_upload_sweep(struct s3_client *client)
{
    bool swept;

    pthread_mutex_lock(&client->mutex);
    swept = client->swept;
    client->swept = true;
    pthread_mutex_unlock(&client->mutex);
    if (!swept)
        s3_upload_record_sweep(client->config.endpoint, sweep_one, client);
}

/* --- an upload that was cut off --- */

/* What a page of ListParts says of one part, and of the next page. */
struct listing {
    struct s3_upload *upload;
    struct s3_upload_part part;
    uint64_t number; /* of the part that is being read; 0: none yet */
    char marker[16];
    bool more;
};

static void take_part(struct listing *listing)
{
    if (listing->number >= 1 && listing->number <= (uint64_t)listing->upload->job->part_count) {
        listing->part.listed = true;
        listing->upload->parts[listing->number - 1] = listing->part;
    }
    listing->part = (struct s3_upload_part){0};
    listing->number = 0;
}

static int take_listed(void *context, const char *path, const char *text, struct err *err)
{
    struct listing *const listing = context;
    struct s3_upload_part *const part = &listing->part;

    (void)err;
    if (strcmp(path, "ListPartsResult/Part/PartNumber") == 0)
        text_number(text, &listing->number);
    else if (strcmp(path, "ListPartsResult/Part/ETag") == 0)
        snprintf(part->etag, sizeof part->etag, text[0] == '"' ? "%s" : "\"%s\"", text);
    else if (strcmp(path, "ListPartsResult/Part/Size") == 0)
        text_number(text, &part->listed_bytes); /* 0 where it is none: it is sent again */
    else if (strcmp(path, "ListPartsResult/Part/ChecksumCRC32C") == 0)
        part->listed_crc32c = s3_checksum_parse(text, &part->crc32c);
    else if (strcmp(path, "ListPartsResult/Part") == 0)
        take_part(listing);
    else if (strcmp(path, "ListPartsResult/IsTruncated") == 0)
        listing->more = strcmp(text, "true") == 0;
    else if (strcmp(path, "ListPartsResult/NextPartNumberMarker") == 0)
        snprintf(listing->marker, sizeof listing->marker, "%.15s", text);
    return 0;
}

/* One page; where the next one begins has to lie behind this one's beginning. */
static int list_page(struct listing *listing, struct err *err)
{
    const struct s3_upload *const upload = listing->upload;
    const struct s3_pair query[] = {{"uploadId", upload->record.upload_id},
                                    {"part-number-marker", listing->marker}};
    const struct s3_request request = {.method = "GET",
                                       .bucket = upload->put->bucket,
                                       .key = upload->put->key,
                                       .query = query,
                                       .query_count = 2,
                                       .permission = "s3:ListMultipartUploadParts",
                                       .root = "ListPartsResult"};
    struct s3_tries tries = {0};
    const int status = s3_request_send(upload->job->client, &request, &tries, err);
    const struct buf *const body = &tries.answer.body;
    const long begin = strtol(listing->marker, NULL, 10);
    int rc = S3_YES;

    listing->more = false;
    listing->marker[0] = '\0';
    if (status == 404)
        rc = S3_NO;
    else if (status / 100 != 2)
        rc = status > 0 ? s3_request_fail(upload->job->client, &request, &tries, err) : -1;
    else if (s3_xml_read(body->data, body->bytes, take_listed, listing, err) < 0)
        rc = -1;
    else if (listing->more && strtol(listing->marker, NULL, 10) <= begin)
        rc = err_set(err, ERR_INPUT, "the list of its parts goes on, but does not say from where");
    s3_tries_release(&tries);
    return rc;
}

/* S3_YES: the parts that are there are known. S3_NO: there is no such upload any more. */
static int upload_list(struct s3_upload *upload, struct err *err)
{
    struct listing listing = {.upload = upload, .more = true, .marker = "0"};
    int rc = S3_YES;

    while (rc == S3_YES && listing.more)
        rc = list_page(&listing, err);
    if (rc != S3_YES) /* no part of another upload is one of this */
        memset(upload->parts, 0, (size_t)upload->job->part_count * sizeof *upload->parts);
    return rc;
}

/* It does not serve: aborted, and if that fails remembered, for the next sweep. */
static void give_up(struct s3_upload *upload, const struct err *why)
{
    struct s3_upload_record *const record = &upload->record;
    struct err err = {0};

    log_warn("the parts that an earlier upload to '%s' sent are not used: %s",
             s3_address_name(record->bucket, record->key).text, why->msg);
    if (abort_send(upload->job->client, record, ONCE, &err)) {
        s3_upload_record_drop(record);
    } else {
        log_debug("s3: the upload %s is not aborted: %s", record->upload_id, err.msg);
        s3_upload_record_release(record);
    }
}

int s3_upload_resume(struct s3_upload *upload, struct err *err)
{
    struct s3_upload_record *const record = &upload->record;
    struct err why = {0};
    int rc;

    if (!s3_upload_record_find(record))
        return S3_NO;
    if (record->part_bytes != upload->job->part_bytes)
        rc = err_set(&why, ERR_INPUT, "they are of another length");
    else if (record->kind == NULL || strcmp(record->kind, buf_text(&upload->kind)) != 0)
        rc = err_set(&why, ERR_INPUT, "they are for another content type or encryption");
    else
        rc = upload_list(upload, &why);
    if (rc == S3_NO) {
        log_debug("s3: the upload %s is there no more", record->upload_id);
        s3_upload_record_drop(record);
    } else if (rc < 0 && (why.code == ERR_NET || why.code == ERR_STOPPED)) {
        *err = why;
    } else if (rc < 0) {
        give_up(upload, &why);
        rc = S3_NO;
    }
    return rc;
}
