#include "s3io/stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/err.h"
#include "s3io/checksum.h"
#include "s3io/date.h"
#include "s3io/object.h"
#include "s3io/request.h"

#define UNKNOWN S3_STREAM_BYTES_UNKNOWN

struct stream;

/* One answer's way. A range that is slow is asked for twice, and there are two. */
struct side {
    struct stream *stream;
    uint64_t at;    /* bytes of what is wanted that lie before its next one */
    bool checked;   /* this try's headers were */
    struct err why; /* code ERR_NONE, or why we ended a try ourselves */
};

struct stream {
    const struct s3_get *get;
    s3_stream_sink *sink;
    void *context;
    struct s3_tries tries;
    struct s3_object *object;
    uint64_t want;    /* bytes; UNKNOWN until the length of a whole object is known */
    uint64_t reached; /* of them: those that went into the sink, each once, whichever side had it
                         first */
    uint32_t crc32c;  /* of these */
    uint64_t begun;   /* reached, when this try began */
    bool ranged;      /* this try asked for a range */
    bool plain;       /* what is wanted is all of the object, as far as is known */
    struct side sides[2];
    char range[64], if_match[S3_ETAG_CHARS];
};

/* A decimal number that ends where `end` stands; UNKNOWN if it is none. */
static uint64_t number(const char *text, char end, const char **rest)
{
    char *stop;
    unsigned long long n;

    if (*text < '0' || *text > '9')
        return UNKNOWN;
    n = strtoull(text, &stop, 10);
    if (*stop != end)
        return UNKNOWN;
    if (rest != NULL)
        *rest = stop + (end != '\0');
    return n;
}

void s3_stream_object(struct s3_object *object, const struct s3_http_answer *answer)
{
    char value[256];

    *object = (struct s3_object){.bytes = UNKNOWN};
    s3_http_header(answer, "etag", object->etag, sizeof object->etag);
    if (s3_http_header(answer, "content-length", value, sizeof value))
        object->bytes = number(value, '\0', NULL);
    if (s3_http_header(answer, "last-modified", value, sizeof value))
        object->modified_s = s3_date_http(value);
    if (s3_http_header(answer, "date", value, sizeof value))
        object->server_s = s3_date_http(value);
    object->has_crc32c = s3_checksum_of(answer, &object->crc32c);
}

/* "bytes 10-19/1000". False if it is not there or not of this form. */
static bool content_range(const struct s3_http_answer *answer, uint64_t *first, uint64_t *last,
                          uint64_t *total)
{
    const char *rest = NULL;
    char value[128];

    if (!s3_http_header(answer, "content-range", value, sizeof value) ||
        strncmp(value, "bytes ", 6) != 0)
        return false;
    *first = number(value + 6, '-', &rest);
    *last = *first == UNKNOWN ? UNKNOWN : number(rest, '/', &rest);
    *total = *last == UNKNOWN ? UNKNOWN : number(rest, '\0', NULL);
    return *total != UNKNOWN && *first <= *last && *last < *total;
}

static int too_short(const struct stream *stream, uint64_t total, struct err *err)
{
    return err_set(err, ERR_INPUT,
                   "it has %" PRIu64 " bytes, bytes %" PRIu64 " to %" PRIu64 " were asked for",
                   total, stream->get->offset, stream->get->offset + stream->get->bytes - 1);
}

/* The answer to a request for a range: the range that was asked for, or an error. Content-Range
 * means something in a 206 only (RFC 9110, 14.4). */
static int check_range(const struct stream *stream, const struct s3_http_answer *answer,
                       struct s3_object *now, struct err *err)
{
    const uint64_t begin = (stream->get->whole ? 0 : stream->get->offset) + stream->begun;
    const uint64_t end = begin + stream->want - stream->begun;
    uint64_t first, last, total;

    if (answer->status != 206 || !content_range(answer, &first, &last, &total))
        return err_set(err, ERR_INPUT,
                       "bytes %" PRIu64 " to %" PRIu64
                       " were asked for, and the answer (HTTP %d) does not say "
                       "which it has",
                       begin, end - 1, answer->status);
    now->bytes = total;
    if (stream->get->whole && total != stream->want) /* the first answer said how long it was */
        return err_set(err, ERR_INPUT, "it was replaced while it was read");
    if (total < end)
        return too_short(stream, total, err);
    if (first != begin || last != end - 1)
        return err_set(err, ERR_INPUT,
                       "bytes %" PRIu64 " to %" PRIu64 " were asked for, %" PRIu64 " to %" PRIu64
                       " came",
                       begin, end - 1, first, last);
    return 0;
}

static int no_etag(const struct s3_http_answer *answer, struct err *err)
{
    return err_set(err, ERR_NET, "the answer (HTTP %d) has no ETag, as S3's has", answer->status);
}

/* Before a byte of this try counts. */
static int check(struct side *side, const struct s3_http_answer *answer, struct err *err)
{
    struct stream *const stream = side->stream;
    struct s3_object now;

    side->checked = true;
    s3_stream_object(&now, answer);
    if (stream->ranged) {
        if (check_range(stream, answer, &now, err) < 0)
            return -1;
        if (now.etag[0] == '\0') /* of which version is it? */
            return no_etag(answer, err);
    } else {
        if (now.etag[0] == '\0')
            return no_etag(answer, err);
        if (now.bytes == UNKNOWN)
            return err_set(err, ERR_NET, "the answer does not say how long the object is");
        if (stream->plain && now.bytes < stream->want)
            return too_short(stream, now.bytes, err);
        if (stream->plain && now.bytes > stream->want) {
            stream->plain = false; /* then by a range */
            return err_set(err, ERR_NET, "it is longer than it was said to be");
        }
        stream->want = now.bytes;
    }
    if (stream->if_match[0] != '\0' && strcmp(stream->if_match, now.etag) != 0)
        return err_set(err, ERR_INPUT, "it was replaced while it was read");
    if (stream->if_match[0] == '\0')
        snprintf(stream->if_match, sizeof stream->if_match, "%s", now.etag);
    if (stream->begun > 0 && (stream->get->whole || stream->plain)) { /* the first answer said it */
        now.has_crc32c = stream->object->has_crc32c;
        now.crc32c = stream->object->crc32c;
    } else if (stream->ranged) { /* of a range, if anything */
        now.has_crc32c = false;
    }
    *stream->object = now;
    return 0;
}

/* A whole success without a byte: an empty object, and no range of one. */
static int check_empty(struct side *side, const struct s3_http_answer *answer, struct err *err)
{
    if (side->stream->ranged)
        return err_set(err, ERR_NET, "the answer (HTTP %d) is empty", answer->status);
    return check(side, answer, err);
}

static int on_body(void *context, const struct s3_http_answer *answer, const void *data,
                   size_t bytes)
{
    struct side *const side = context;
    struct stream *const stream = side->stream;
    uint64_t seen; /* of these bytes, the first ones: the other side had them sooner */

    if (!side->checked && check(side, answer, &side->why) < 0)
        return -1;
    if (bytes > stream->want - side->at)
        return err_set(&side->why, ERR_NET, "more bytes came than the answer announced");
    seen = stream->reached - side->at;
    side->at += bytes;
    if (seen >= bytes)
        return 0;
    data = (const char *)data + seen;
    bytes -= seen;
    if (stream->get->crc32c != NULL)
        stream->crc32c = digest_crc32c(stream->crc32c, data, bytes);
    if (stream->sink(stream->context, stream->reached, data, bytes, stream->object, &side->why) < 0)
        return -1;
    stream->reached += bytes;
    stream->tries.failing_s = 0; /* it gets on, however this try ends */
    return 0;
}

static void sides_begin(struct stream *stream)
{
    stream->begun = stream->reached;
    for (int i = 0; i < 2; i++)
        stream->sides[i] = (struct side){.stream = stream, .at = stream->begun};
}

/* One try. Its status, 0 to be called again, or -1. */
static int stream_try(struct stream *stream, struct s3_client *client,
                      const struct s3_request *request, struct err *err)
{
    const struct s3_get *get = stream->get;
    struct s3_pair headers[3];
    struct s3_request now = *request;
    struct side *side;
    int status;

    sides_begin(stream);
    stream->ranged = (!get->whole && !stream->plain) || stream->begun > 0;
    now.headers = headers;
    now.bytes = stream->want - stream->begun;
    if (stream->ranged) {
        const uint64_t begin = (get->whole ? 0 : get->offset) + stream->begun;

        snprintf(stream->range, sizeof stream->range, "bytes=%" PRIu64 "-%" PRIu64, begin,
                 begin + now.bytes - 1);
        headers[now.header_count++] = (struct s3_pair){"range", stream->range};
    } else if (client->config.asks_checksums) {
        headers[now.header_count++] = (struct s3_pair){"x-amz-checksum-mode", "ENABLED"};
    }
    if (stream->if_match[0] != '\0')
        headers[now.header_count++] = (struct s3_pair){"if-match", stream->if_match};
    status = s3_request_try(client, &now, &stream->tries, err);
    side = &stream->sides[stream->tries.answer.second ? 1 : 0];
    if (status <= 0 && stream->reached > stream->begun && stream->reached == stream->want)
        return 0; /* all of it is there, and what went wrong behind it does not matter */
    if (status < 0 && side->why.code != ERR_NONE) {
        *err = side->why;
        return err->code == ERR_NET ? s3_request_again(client, &now, &stream->tries, err) : -1;
    }
    if (status / 100 != 2)
        return status;
    /* Whole as far as HTTP goes. */
    if (!side->checked && check_empty(side, &stream->tries.answer, err) < 0)
        return err->code == ERR_NET ? s3_request_again(client, &now, &stream->tries, err) : -1;
    if (stream->reached == stream->want)
        return status;
    err_set(err, ERR_NET, "the body ended after %" PRIu64 " of %" PRIu64 " bytes", stream->reached,
            stream->want);
    return s3_request_again(client, &now, &stream->tries, err);
}

int s3_stream_read(struct s3_client *client, const struct s3_get *get, s3_stream_sink *sink,
                   void *context, struct s3_object *object, struct err *err)
{
    struct stream stream = {.get = get, .sink = sink, .context = context, .object = object};
    const struct s3_request request = {.method = "GET",
                                       .bucket = get->bucket,
                                       .key = get->key,
                                       .sink = on_body,
                                       .context = &stream.sides[0],
                                       .hedge_context = get->whole ? NULL : &stream.sides[1],
                                       .permission = "s3:GetObject",
                                       .cancel = get->cancel,
                                       .stop = get->stop};
    struct err unseen = {0};
    int status, rc = -1;

    err = err == NULL ? &unseen : err;
    stream.want = get->whole ? UNKNOWN : get->bytes;
    stream.plain = !get->whole && get->offset == 0 && get->bytes == get->object_bytes;
    if (get->if_match != NULL)
        snprintf(stream.if_match, sizeof stream.if_match, "%s", get->if_match);
    while ((status = stream_try(&stream, client, &request, err)) == 0 &&
           stream.reached != stream.want)
        ;
    if (status / 100 == 2 || (status == 0 && stream.reached == stream.want))
        rc = S3_YES;
    else if (status == 404)
        rc = S3_NO;
    else if (status == 412)
        err_set(err, ERR_INPUT, "it was replaced while it was read (HTTP 412, it is no longer %s)",
                stream.if_match);
    else if (status == 416 && !get->whole)
        err_set(err, ERR_INPUT, "it ends before bytes %" PRIu64 " to %" PRIu64, get->offset,
                get->offset + get->bytes - 1);
    else if (status > 0)
        s3_request_fail(client, &request, &stream.tries, err);
    if (rc == S3_YES && get->crc32c != NULL)
        *get->crc32c = stream.crc32c;
    s3_tries_release(&stream.tries);
    return rc;
}
