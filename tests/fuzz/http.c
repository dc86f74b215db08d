/* tests/fuzz/http.c -- any answers (script.h) to each kind of request: what a client takes for the
 * bytes of a range are those that came for it, whatever was cut, repeated, redirected or refused on
 * the way. The first byte of an input says which request it is. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "fuzz.h"
#include "s3io/checksum.h"
#include "s3io/client.h"
#include "s3io/date.h"
#include "s3io/fault.h"
#include "s3io/http.h"
#include "s3io/http_answer.h"
#include "s3io/object.h"
#include "script.h"

#define BUCKET      "imgs"
#define KEY         "train/0.tar"
#define RANGE_BEGIN 10
#define RANGE_BYTES 40
#define LOAD_MAX    4096

static void check_object(const struct s3_object *object)
{
    fuzz_must(memchr(object->etag, '\0', sizeof object->etag) != NULL);
    fuzz_must(strpbrk(object->etag, "\r\n") == NULL);
    fuzz_must(object->modified_s < 1e12 && object->server_s < 1e12);
}

static int get_range(struct s3_client *client, uint64_t offset, uint64_t object_bytes,
                     struct err *err)
{
    unsigned char out[RANGE_BYTES] = {0}, shadow[RANGE_BEGIN + RANGE_BYTES] = {0};
    struct s3_object object;
    uint32_t crc32c;
    const struct s3_get get = {.bucket = BUCKET,
                               .key = KEY,
                               .offset = offset,
                               .bytes = RANGE_BYTES,
                               .object_bytes = object_bytes,
                               .crc32c = &crc32c};
    int rc;

    script_shadow(shadow, sizeof shadow);
    rc = s3_object_read(client, &get, out, &object, err);
    if (rc == S3_YES) {
        check_object(&object);
        fuzz_must(object.bytes >= offset + RANGE_BYTES);
        fuzz_must(memcmp(out, shadow + offset, RANGE_BYTES) == 0);
        fuzz_must(crc32c == digest_crc32c(0, out, RANGE_BYTES));
    }
    return rc;
}

static int get_whole(struct s3_client *client, struct err *err)
{
    unsigned char shadow[LOAD_MAX] = {0};
    struct s3_object object;
    struct buf out = {0};
    int rc;

    script_shadow(shadow, sizeof shadow);
    rc = s3_object_load(client, BUCKET, KEY, LOAD_MAX, &out, &object, err);
    fuzz_must(out.bytes <= LOAD_MAX);
    if (rc == S3_YES) {
        check_object(&object);
        fuzz_must_equal(out.data, out.bytes, shadow, object.bytes);
    }
    buf_release(&out);
    return rc;
}

static int head(struct s3_client *client, struct err *err)
{
    struct s3_object object;
    const int rc = s3_object_head(client, BUCKET, KEY, &object, err);

    if (rc == S3_YES)
        check_object(&object);
    return rc;
}

static int put(struct s3_client *client, bool if_none, struct err *err)
{
    const struct s3_put put = {
        .bucket = BUCKET, .key = KEY, .data = "content", .bytes = 7, .if_none = if_none};
    struct s3_object object;
    const int rc = s3_object_put(client, &put, &object, err);

    if (rc == S3_YES)
        check_object(&object);
    return rc;
}

/* The readers of single headers, each on all of the input as its value. */
static void read_values(const uint8_t *data, size_t bytes)
{
    struct s3_http_answer answer = {.status = 200};
    struct buf line = {0};
    char value[64], printed[S3_DATE_CHARS], base64[S3_CHECKSUM_CHARS];
    struct s3_fault fault;
    uint32_t crc32c;
    double seconds;

    buf_append(&line, data, bytes);
    seconds = s3_date_http(buf_text(&line));
    fuzz_must(seconds > -1e11 && seconds < 1e12);
    s3_date_print(seconds, printed);
    seconds = s3_date_iso(buf_text(&line));
    fuzz_must(seconds >= 0 && seconds < 1e12);
    if (s3_checksum_parse(buf_text(&line), &crc32c)) {
        s3_checksum_print(crc32c, base64);
        fuzz_must(strlen(base64) == S3_CHECKSUM_CHARS - 1);
    }
    s3_http_answer_line(&answer, buf_text(&line), bytes);
    s3_http_header(&answer, "retry-after", value, sizeof value);
    s3_fault_read(&fault, &answer);
    fuzz_must(fault.retry_after_s >= 0 && fault.retry_after_s <= 60);
    s3_http_answer_release(&answer);
    buf_release(&line);
}

static int ask(struct s3_client *client, uint8_t kind, struct err *err)
{
    switch (kind % 8) {
    case 0:
        return get_range(client, RANGE_BEGIN, 0, err);
    case 1:
        return get_range(client, 0, RANGE_BYTES, err);
    case 2:
        return get_whole(client, err);
    case 3:
        return head(client, err);
    case 4:
        return put(client, false, err);
    case 5:
        return put(client, true, err);
    default:
        return s3_object_delete(client, BUCKET, KEY, err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct s3_client *client;
    struct err err = {0};
    int rc;

    if (bytes == 0)
        return 0;
    client = script_client((data[0] & 8) != 0 ? NULL : "https://s3.test");
    script_begin(data + 1, bytes - 1);
    rc = ask(client, data[0], &err);
    fuzz_must(rc == S3_YES || rc == S3_NO || rc == -1);
    if (rc < 0) /* a try that failed stays in err, where a later one went well */
        fuzz_must_say(rc, &err, FUZZ_INPUT | FUZZ_CODE(ERR_NET));
    s3_client_close(client);
    read_values(data + 1, bytes - 1);
    return 0;
}
