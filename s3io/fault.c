#include "s3io/fault.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "s3io/date.h"
#include "s3io/http.h"
#include "s3io/xml.h"

static int take(void *context, const char *path, const char *text, struct err *err)
{
    static const char wrap[] = "ErrorResponse/"; /* STS has its document in another one */
    struct s3_fault *fault = context;

    (void)err;
    if (strncmp(path, wrap, strlen(wrap)) == 0)
        path += strlen(wrap);
    if (strcmp(path, "Error") == 0)
        fault->document = true;
    else if (strcmp(path, "Error/Code") == 0)
        snprintf(fault->code, sizeof fault->code, "%s", text);
    else if (strcmp(path, "Error/Message") == 0)
        snprintf(fault->message, sizeof fault->message, "%s", text);
    else if ((strcmp(path, "Error/RequestId") == 0 || strcmp(path, "RequestId") == 0) &&
             fault->request_id[0] == '\0')
        snprintf(fault->request_id, sizeof fault->request_id, "%s", text);
    else if (strcmp(path, "Error/Region") == 0 && fault->region[0] == '\0')
        snprintf(fault->region, sizeof fault->region, "%s", text);
    else if (strcmp(path, "Error/Endpoint") == 0 && fault->origin[0] == '\0')
        snprintf(fault->origin, sizeof fault->origin, "https://%.*s", (int)strcspn(text, "/"),
                 text);
    return 0;
}

/* A region becomes part of a host's name and of what is signed: nothing but its letters. */
static void region_check(char *region)
{
    if (region[strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")] !=
        '\0')
        region[0] = '\0';
}

/* An origin is where the next request goes: a scheme, a host's name or address, a port. */
static void origin_check(char *origin)
{
    const char *host = strstr(origin, "://");

    if (host == NULL || host[3] == '\0' || host[3] == ':' ||
        host[3 + strspn(host + 3, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._:[]")] != '\0')
        origin[0] = '\0';
}

static void location_take(struct s3_fault *fault, const char *location)
{
    const char *host = strstr(location, "://");

    if (host == NULL ||
        (strncmp(location, "http://", 7) != 0 && strncmp(location, "https://", 8) != 0))
        return;
    host += 3;
    snprintf(fault->origin, sizeof fault->origin, "%.*s",
             (int)(host - location + (ptrdiff_t)strcspn(host, "/?#")), location);
}

void s3_fault_read(struct s3_fault *fault, const struct s3_http_answer *answer)
{
    char value[1024];
    struct err ignored;

    *fault = (struct s3_fault){.status = answer->status};
    s3_http_header(answer, "x-amz-request-id", fault->request_id, sizeof fault->request_id);
    s3_http_header(answer, "x-amz-bucket-region", fault->region, sizeof fault->region);
    if (s3_http_header(answer, "date", value, sizeof value))
        fault->server_s = s3_date_http(value);
    if (s3_http_header(answer, "location", value, sizeof value))
        location_take(fault, value);
    if (s3_http_header(answer, "retry-after", value, sizeof value))
        fault->retry_after_s = fmax(0, fmin(strtod(value, NULL), S3_FAULT_WAIT_S_MAX));
    /* What was read before the document turned out to be damaged is still worth something. */
    s3_xml_read(answer->body.data, answer->body.bytes, take, fault, &ignored);
    region_check(fault->region);
    origin_check(fault->origin);
}

static bool among(const char *text, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

/* Codes of the SDKs' standard retry mode and those that say that the body was damaged on the way;
 * they come with 400, 403 or 503, and in a document with status 200. */
static const char *const wait_codes[] = {"SlowDown",
                                         "SlowDownRead",
                                         "SlowDownWrite",
                                         "InternalError",
                                         "ServiceUnavailable",
                                         "Busy",
                                         "RequestTimeout",
                                         "RequestTimeoutException",
                                         "PriorRequestNotComplete",
                                         "Throttling",
                                         "ThrottlingException",
                                         "ThrottledException",
                                         "RequestThrottled",
                                         "RequestThrottledException",
                                         "TooManyRequestsException",
                                         "TransactionInProgressException",
                                         "BandwidthLimitExceeded",
                                         "LimitExceededException",
                                         "RequestLimitExceeded",
                                         "ProvisionedThroughputExceededException",
                                         "EC2ThrottledException",
                                         "BadDigest",
                                         "XAmzContentSHA256Mismatch",
                                         "XAmzContentChecksumMismatch",
                                         "IncompleteBody",
                                         "OperationAborted",
                                         "ConcurrentModification",
                                         NULL};
static const char *const key_codes[] = {"ExpiredToken",
                                        "ExpiredTokenException",
                                        "RequestExpired",
                                        "TokenRefreshRequired",
                                        "InvalidToken",
                                        "InvalidAccessKeyId",
                                        NULL};

enum s3_remedy s3_fault_remedy(const struct s3_fault *fault)
{
    const int status = fault->status;

    if (among(fault->code, wait_codes))
        return S3_REMEDY_WAIT;
    if (among(fault->code, key_codes))
        return S3_REMEDY_KEYS;
    if (strcmp(fault->code, "RequestTimeTooSkewed") == 0)
        return S3_REMEDY_CLOCK;
    if (strcmp(fault->code, "NoSuchKey") == 0 || strcmp(fault->code, "NoSuchUpload") == 0)
        return S3_REMEDY_CALLER;
    switch (status) {
    case 301:
    case 302:
    case 307:
    case 308:
        return S3_REMEDY_ELSEWHERE;
    case 400: /* AuthorizationHeaderMalformed, and what others call it */
        return fault->region[0] != '\0' ? S3_REMEDY_ELSEWHERE : S3_REMEDY_NONE;
    case 408:
    case 429:
        return S3_REMEDY_WAIT;
    case 409:
    case 412:
    case 416:
        return S3_REMEDY_CALLER;
    case 501:
    case 505:
        return S3_REMEDY_NONE;
    default:
        return status >= 500 ? S3_REMEDY_WAIT : S3_REMEDY_NONE;
    }
}

void s3_fault_head(const struct s3_fault *fault, char head[S3_FAULT_HEAD_CHARS])
{
    snprintf(head, S3_FAULT_HEAD_CHARS, "HTTP %d%s%s%s%s%s", fault->status,
             fault->code[0] != '\0' ? " " : "", fault->code,
             fault->request_id[0] != '\0' ? " (request " : "", fault->request_id,
             fault->request_id[0] != '\0' ? ")" : "");
}

static int elsewhere_line(const struct s3_fault *fault, const struct s3_fault_place *place,
                          const char *head, struct err *err)
{
    if (fault->region[0] != '\0' && strcmp(fault->region, place->region) != 0)
        return err_set(
            err, ERR_INPUT,
            "%s: the bucket '%s' is in region '%s', asked for in '%s': set AWS_REGION=%s", head,
            place->bucket, fault->region, place->region, fault->region);
    if (fault->origin[0] != '\0')
        return err_set(err, ERR_INPUT,
                       "%s: %s (region '%s') says that the bucket '%s' is at %s: set "
                       "AWS_ENDPOINT_URL_S3 or AWS_REGION",
                       head, place->host, place->region, place->bucket, fault->origin);
    return err_set(err, ERR_INPUT,
                   "%s: the bucket '%s' is not at %s (region '%s'), which does not say where: set "
                   "AWS_REGION",
                   head, place->bucket, place->host, place->region);
}

int s3_fault_clock_line(const struct s3_fault *fault, const char *head, double clock_s,
                        const char *host, struct err *err)
{
    char ours[S3_DATE_CHARS], theirs[S3_DATE_CHARS];

    s3_date_print(clock_s, ours);
    s3_date_print(fault->server_s, theirs);
    return err_set(err, ERR_INPUT,
                   "%s: this host's clock says %s, that of %s says %s: set this host's clock", head,
                   ours, host, fault->server_s > 0 ? theirs : "another time");
}

#define ACTION_CHARS 64

/* The action that AWS's own text names, which for an encrypted object may be one of KMS: "User: ...
 * is not authorized to perform: kms:Decrypt on resource: ...". */
static bool action_take(const char *message, char action[ACTION_CHARS])
{
    static const char before[] = "not authorized to perform: ";
    const char *at = strstr(message, before);

    return at != NULL && sscanf(at + strlen(before), "%63[A-Za-z0-9:]", action) == 1;
}

static int forbidden_line(const struct s3_fault *fault, const struct s3_fault_place *place,
                          const char *head, struct err *err)
{
    char named[ACTION_CHARS];
    const char *action = action_take(fault->message, named) ? named : place->permission;
    const bool reads = action != NULL && strcmp(action, "s3:GetObject") == 0;
    const bool kms = action != NULL && strncmp(action, "kms:", 4) == 0;

    return err_set(err, ERR_INPUT, "%s: the credentials from %s need %s on %sbucket '%s'%s%s%s",
                   head, place->source, action != NULL ? action : "access",
                   kms ? "the KMS key of " : "", place->bucket,
                   reads ? " (without s3:ListBucket a missing key looks the same)" : "",
                   fault->message[0] != '\0' ? "; it says: " : "", fault->message);
}

int s3_fault_line(const struct s3_fault *fault, const struct s3_fault_place *place, struct err *err)
{
    const enum s3_remedy remedy = s3_fault_remedy(fault);
    char head[S3_FAULT_HEAD_CHARS];

    s3_fault_head(fault, head);
    if (strcmp(fault->code, "InvalidAccessKeyId") == 0)
        return err_set(
            err, ERR_INPUT,
            "%s: %s does not know the access key id from %s; one with a session token may "
            "have expired",
            head, place->host, place->source);
    if (strcmp(fault->code, "SignatureDoesNotMatch") == 0)
        return err_set(
            err, ERR_INPUT,
            "%s: the secret access key from %s is not the one of its access key id: correct it",
            head, place->source);
    if (remedy == S3_REMEDY_KEYS)
        return err_set(
            err, ERR_INPUT,
            "%s: the temporary credentials from %s have expired or are damaged: get new ones", head,
            place->source);
    if (remedy == S3_REMEDY_CLOCK)
        return s3_fault_clock_line(fault, head, place->clock_s, place->host, err);
    if (remedy == S3_REMEDY_ELSEWHERE)
        return elsewhere_line(fault, place, head, err);
    if (strcmp(fault->code, "NoSuchBucket") == 0)
        return err_set(err, ERR_INPUT, "%s: there is no bucket '%s' at %s", head, place->bucket,
                       place->host);
    if (fault->status == 403)
        return forbidden_line(fault, place, head, err);
    if (fault->status == 404 && !fault->document)
        return err_set(err, ERR_INPUT, "%s: %s does not answer as S3 does: is it an S3 endpoint?",
                       head, place->host);
    return err_set(err, remedy == S3_REMEDY_WAIT ? ERR_NET : ERR_INPUT, "%s from %s%s%s", head,
                   place->host, fault->message[0] != '\0' ? ": " : "", fault->message);
}
