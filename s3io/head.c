#include "s3io/head.h"

#include "base/err.h"
#include "s3io/address.h"
#include "s3io/object.h"
#include "s3io/request.h"
#include "s3io/stream.h"

static int take(const struct s3_head *head, const struct s3_http_answer *answer,
                struct s3_object *object, struct err *err)
{
    s3_stream_object(object, answer);
    if (object->bytes == S3_STREAM_BYTES_UNKNOWN)
        return err_set(err, ERR_INPUT, "the answer to HEAD does not say how long the object is");
    if (head->header != NULL &&
        !s3_http_header(answer, head->header, head->value, head->value_bytes))
        head->value[0] = '\0';
    return S3_YES;
}

int s3_head(struct s3_client *client, const struct s3_head *head, struct s3_object *object,
            struct err *err)
{
    const struct s3_pair header = {"x-amz-checksum-mode", "ENABLED"};
    const struct s3_request request = {.method = "HEAD",
                                       .bucket = head->bucket,
                                       .key = head->key,
                                       .headers = &header,
                                       .header_count = head->checksum ? 1 : 0,
                                       .permission = "s3:GetObject",
                                       .etag = true,
                                       .ignore_cancel = head->once,
                                       .attempts = head->once ? 1 : 0};
    struct s3_tries tries = {0};
    const int status = s3_request_send(client, &request, &tries, err);
    int rc = -1;

    if (status / 100 == 2)
        rc = take(head, &tries.answer, object, err);
    else if (status == 404)
        rc = S3_NO;
    else if (status > 0)
        s3_request_fail(client, &request, &tries, err);
    if (rc < 0)
        err_wrap(err, "cannot look at '%s'", s3_address_name(head->bucket, head->key).text);
    s3_tries_release(&tries);
    return rc;
}
