#include "s3io/sts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/text.h"
#include "s3io/backoff.h"
#include "s3io/client.h"
#include "s3io/config.h"
#include "s3io/credentials.h"
#include "s3io/fault.h"
#include "s3io/http.h"
#include "s3io/keys.h"
#include "s3io/xml.h"

#define REGION_DEFAULT  "us-east-1"
#define VERSION         "2011-06-15"
#define FORM            "application/x-www-form-urlencoded; charset=utf-8"
#define OWN_FIELDS      2  /* Action, Version */
#define HEADERS_MAX     5  /* content-type, host, date, session token, authorization */
#define TOKEN_CHARS_MIN 16 /* of a token's head, by which it is known in a message */

/* What the tries of one question share. */
struct asking {
    const struct s3_sts *sts;
    const struct s3_sts_question *question;
    struct s3_http *http;
    struct s3_sts_address address;
    struct buf url, body;
    char body_sha256[DIGEST_HEX_CHARS];
    double clock_ahead_s; /* the server's clock before ours */
    bool clock_set;
};

/* --- where it goes --- */

/* The regions that "legacy" sends to the one endpoint that STS began with. */
static bool is_global(const char *region)
{
    static const char *const regions[] = {
        "ap-northeast-1", "ap-south-1",   "ap-southeast-1", "ap-southeast-2",
        "aws-global",     "ca-central-1", "eu-central-1",   "eu-north-1",
        "eu-west-1",      "eu-west-2",    "eu-west-3",      "sa-east-1",
        "us-east-1",      "us-east-2",    "us-west-1",      "us-west-2"};

    for (size_t i = 0; i < sizeof regions / sizeof *regions; i++)
        if (strcmp(region, regions[i]) == 0)
            return true;
    return false;
}

static void aws_origin(struct buf *origin, const struct s3_config *config, const char **region)
{
    const bool china = strncmp(*region, "cn-", 3) == 0, gov = strncmp(*region, "us-gov-", 7) == 0;
    const char *suffix = china ? "amazonaws.com.cn" : "amazonaws.com";

    if (config->sts_global && !config->fips && !config->sts_dualstack && is_global(*region)) {
        *region = REGION_DEFAULT;
        buf_printf(origin, "https://sts.amazonaws.com");
        return;
    }
    if (config->sts_dualstack)
        suffix = china ? "api.amazonwebservices.com.cn" : "api.aws";
    /* In GovCloud the plain name is the FIPS one. */
    buf_printf(origin, "https://sts%s.%s.%s",
               config->fips && (!gov || config->sts_dualstack) ? "-fips" : "", *region, suffix);
}

void s3_sts_address_make(struct s3_sts_address *address, const struct s3_sts *sts)
{
    const struct s3_config *config = sts->config;
    const char *region = config->region != NULL ? config->region : sts->region, *host, *path;

    if (region == NULL)
        region = REGION_DEFAULT;
    address->origin.bytes = address->path.bytes = 0;
    if (config->sts_endpoint != NULL) {
        host = strstr(config->sts_endpoint, "://") + 3;
        path = host + strcspn(host, "/");
        buf_append(&address->origin, config->sts_endpoint, (size_t)(path - config->sts_endpoint));
        buf_printf(&address->path, "%s/", path);
    } else {
        aws_origin(&address->origin, config, &region);
        buf_printf(&address->path, "/");
    }
    address->host = strstr(buf_text(&address->origin), "://") + 3;
    address->region = region;
}

void s3_sts_address_release(struct s3_sts_address *address)
{
    buf_release(&address->origin);
    buf_release(&address->path);
}

/* --- one question --- */

static void make_body(struct asking *asking)
{
    const struct s3_sts_question *question = asking->question;
    struct s3_pair pairs[OWN_FIELDS + S3_STS_FIELDS_MAX] = {{"Action", question->action},
                                                            {"Version", VERSION}};
    unsigned char sha[DIGEST_SHA256_BYTES];

    assert(question->field_count <= S3_STS_FIELDS_MAX);
    memcpy(pairs + OWN_FIELDS, question->fields, question->field_count * sizeof *pairs);
    s3_sign_query(&asking->body, pairs, OWN_FIELDS + question->field_count);
    digest_sha256(asking->body.data, asking->body.bytes, sha);
    digest_hex(sha, asking->body_sha256);
}

/* Append the Authorization header's value for the headers so far. */
static void sign(const struct asking *asking, const struct s3_pair *headers, size_t count,
                 time_t when, struct buf *authorization)
{
    struct s3_sign sign = {.method = "POST",
                           .headers = headers,
                           .header_count = count,
                           .payload_sha256 = asking->body_sha256,
                           .region = asking->address.region,
                           .service = "sts",
                           .time = when};
    struct buf path = {0}, raw = asking->address.path;

    s3_sign_encode(&path, buf_text(&raw), true); /* twice encoded: what is sent is once */
    sign.path = buf_text(&path);
    s3_sign_request(&sign, asking->question->keys, NULL, NULL, authorization);
    buf_release(&path);
}

static int send_once(struct asking *asking, struct s3_http_answer *answer, struct err *err)
{
    const struct s3_keys *keys = asking->question->keys;
    const time_t when = (time_t)(clock_wall_s() + asking->clock_ahead_s);
    struct s3_pair headers[HEADERS_MAX] = {{"content-type", FORM}};
    struct s3_http_call call = {.method = "POST",
                                .url = buf_text(&asking->url),
                                .headers = headers,
                                .header_count = 1,
                                .body = asking->body.data,
                                .body_bytes = asking->body.bytes,
                                .total_s = S3_STS_TRY_S,
                                .cancel = asking->sts->cancel};
    char date[S3_SIGN_TIME_CHARS];
    struct buf authorization = {0};
    int rc;

    if (keys != NULL) {
        s3_sign_time(when, date);
        headers[call.header_count++] = (struct s3_pair){"host", asking->address.host};
        headers[call.header_count++] = (struct s3_pair){"x-amz-date", date};
        if (keys->token != NULL)
            headers[call.header_count++] = (struct s3_pair){"x-amz-security-token", keys->token};
        sign(asking, headers, call.header_count, when, &authorization);
        headers[call.header_count++] = (struct s3_pair){"authorization", buf_text(&authorization)};
    }
    rc = s3_http_send(asking->http, &call, answer, err);
    buf_release(&authorization);
    return rc;
}

/* --- its answer --- */

/* The texts of the <Credentials> in an answer. */
struct reply {
    char *access_key, *secret_key, *token, *expires;
};

static void take_text(char **field, const char *text)
{
    if (*field != NULL)
        explicit_bzero(*field, strlen(*field));
    free(*field);
    *field = text_copy(text);
}

static int take(void *context, const char *path, const char *text, struct err *err)
{
    struct reply *reply = context;
    const char *name = strstr(path, "/Credentials/");

    (void)err;
    name = name != NULL ? name + strlen("/Credentials/") : "";
    if (strcmp(name, "AccessKeyId") == 0)
        take_text(&reply->access_key, text);
    else if (strcmp(name, "SecretAccessKey") == 0)
        take_text(&reply->secret_key, text);
    else if (strcmp(name, "SessionToken") == 0)
        take_text(&reply->token, text);
    else if (strcmp(name, "Expiration") == 0)
        take_text(&reply->expires, text);
    return 0;
}

static void reply_release(struct reply *reply)
{
    char *texts[] = {reply->access_key, reply->secret_key, reply->token, reply->expires};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i] != NULL)
            explicit_bzero(texts[i], strlen(texts[i]));
        free(texts[i]);
    }
}

static int read_keys(const struct asking *asking, const struct s3_http_answer *answer,
                     struct s3_keys *keys, struct err *err)
{
    struct reply reply = {0};
    struct buf what = {0};
    int rc = s3_xml_read(answer->body.data, answer->body.bytes, take, &reply, err);

    buf_printf(&what, "the answer of %s", asking->address.host);
    if (rc < 0)
        err_wrap(err, "%s", asking->address.host);
    else if (reply.token == NULL || reply.expires == NULL)
        rc = err_set(err, ERR_INPUT, "%s has no %s: is it an STS endpoint?", buf_text(&what),
                     reply.token == NULL ? "SessionToken" : "Expiration");
    else
        rc = s3_keys_take(
            keys,
            &(struct s3_keys_text){reply.access_key, reply.secret_key, reply.token, reply.expires},
            buf_text(&what), err);
    reply_release(&reply);
    buf_release(&what);
    return rc;
}

/* Put what it says behind the line, unless that repeats the secret that was sent. */
static void add_message(struct err *err, const struct s3_sts_question *question,
                        const struct s3_fault *fault)
{
    const struct err line = *err;
    char head[TOKEN_CHARS_MIN + 1] = "";

    if (fault->message[0] == '\0')
        return;
    if (question->token != NULL)
        strncpy(head, question->token, TOKEN_CHARS_MIN);
    err_set(err, line.code, "%s; it says: %s", line.msg,
            head[0] != '\0' && strstr(fault->message, head) != NULL
                ? "(a text with the secret in it)"
                : fault->message);
}

/* "Signature expired: 20260101T... is now earlier than ...": STS's word for a clock that is off. */
static bool is_clock(const struct s3_fault *fault)
{
    return strcmp(fault->code, "RequestTimeTooSkewed") == 0 ||
           strstr(fault->message, "Signature expired") != NULL ||
           strstr(fault->message, "Signature not yet current") != NULL;
}

/* What is wrong with those who ask; NULL: it is not they. The two texts are for keys and for a
 * token. */
static const char *advice_of(const struct s3_fault *fault, bool is_signed)
{
    static const struct {
        const char *code, *keys, *token;
    } lines[] = {
        {"AccessDenied", "need sts:AssumeRole, and the role's trust policy must allow it to them",
         "is not among those that the role's trust policy allows sts:AssumeRoleWithWebIdentity"},
        {"InvalidClientTokenId", "have an access key id that nobody knows, or have expired", NULL},
        {"InvalidAccessKeyId", "have an access key id that nobody knows, or have expired", NULL},
        {"SignatureDoesNotMatch", "have a secret access key that is not their access key id's",
         NULL},
        {"ExpiredToken", "have expired: get new ones", "has expired: its writer must renew it"},
        {"ExpiredTokenException", "have expired: get new ones",
         "has expired: its writer must renew it"},
        {"InvalidIdentityToken", NULL,
         "is not accepted: the account needs its issuer as an identity provider"},
    };

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (strcmp(fault->code, lines[i].code) == 0)
            return is_signed ? lines[i].keys : lines[i].token;
    return NULL;
}

static void refusal_line(const struct asking *asking, const struct s3_fault *fault, struct err *err)
{
    const struct s3_sts_question *question = asking->question;
    const bool is_signed = question->keys != NULL;
    const char *host = asking->address.host;
    const char *advice = advice_of(fault, is_signed);
    char head[S3_FAULT_HEAD_CHARS];

    s3_fault_head(fault, head);
    if (is_clock(fault))
        s3_fault_clock_line(fault, head, clock_wall_s(), host, err);
    else if (advice != NULL)
        err_set(err, ERR_INPUT, "%s from %s: %s%s %s", head, host,
                is_signed ? "the credentials from " : "", question->who, advice);
    else if (strcmp(fault->code, "RegionDisabledException") == 0)
        err_set(err, ERR_INPUT,
                "%s from %s: STS is off in this region: switch it on, or set "
                "AWS_STS_REGIONAL_ENDPOINTS=legacy",
                head, host);
    else
        err_set(err, s3_fault_remedy(fault) == S3_REMEDY_WAIT ? ERR_NET : ERR_INPUT, "%s from %s",
                head, host);
    add_message(err, question, fault);
}

/* --- all tries --- */

enum verdict { DONE, AGAIN, AGAIN_AT_ONCE, GIVEN_UP };

static enum verdict judge(struct asking *asking, const struct s3_http_answer *answer,
                          struct s3_keys *keys, double *retry_after_s, struct err *err)
{
    struct s3_fault fault;

    if (answer->status == 200)
        return read_keys(asking, answer, keys, err) == 0 ? DONE
               : err->code == ERR_NET                    ? AGAIN
                                                         : GIVEN_UP;
    s3_fault_read(&fault, answer);
    *retry_after_s = fault.retry_after_s;
    refusal_line(asking, &fault, err);
    if (is_clock(&fault) && !asking->clock_set && fault.server_s > 0) {
        asking->clock_set = true;
        asking->clock_ahead_s = fault.server_s - clock_wall_s();
        return AGAIN_AT_ONCE;
    }
    if (strcmp(fault.code, "IDPCommunicationError") == 0) {
        err->code = ERR_NET;
        return AGAIN;
    }
    return s3_fault_remedy(&fault) == S3_REMEDY_WAIT ? AGAIN : GIVEN_UP;
}

static enum verdict ask_once(struct asking *asking, struct s3_keys *keys, double *retry_after_s,
                             struct err *err)
{
    struct s3_http_answer answer = {0};
    enum verdict verdict;

    *retry_after_s = 0;
    if (send_once(asking, &answer, err) < 0)
        verdict = err->code == ERR_NET ? AGAIN : GIVEN_UP;
    else
        verdict = judge(asking, &answer, keys, retry_after_s, err);
    if (answer.body.data != NULL)
        explicit_bzero(answer.body.data, answer.body.capacity);
    s3_http_answer_release(&answer);
    return verdict;
}

static int ask(struct asking *asking, struct s3_keys *keys, struct err *err)
{
    const int set = asking->sts->config->attempts;
    const int attempts = asking->sts->once ? 1 : set > 0 ? set : S3_ATTEMPTS;
    double retry_after_s = 0;

    for (int tries = 1;; tries++) {
        enum verdict verdict = ask_once(asking, keys, &retry_after_s, err);

        if (verdict == AGAIN_AT_ONCE) /* at most once, by clock_set */
            verdict = ask_once(asking, keys, &retry_after_s, err);
        if (verdict == DONE)
            return 0;
        if (verdict == GIVEN_UP)
            return -1;
        if (tries >= attempts)
            return attempts == 1 ? -1 : err_wrap(err, "gave up after %d tries", tries);
        if (!s3_backoff_wait(
                fmax(s3_backoff_s(tries, S3_BACKOFF_S, S3_BACKOFF_MAX_S), retry_after_s),
                asking->sts->cancel, NULL))
            return err_set(err, ERR_STOPPED, "stopped while waiting to ask STS again");
    }
}

int s3_sts_fetch(const struct s3_sts *sts, const struct s3_sts_question *question,
                 struct s3_keys *keys, struct err *err)
{
    struct asking asking = {.sts = sts, .question = question};
    struct err why = {0};
    int rc;

    asking.http = s3_http_new(&(struct s3_http_options){.ca_bundle = sts->config->ca_bundle});
    s3_sts_address_make(&asking.address, sts);
    buf_printf(&asking.url, "%s%s", buf_text(&asking.address.origin),
               buf_text(&asking.address.path));
    make_body(&asking);
    rc = ask(&asking, keys, &why);
    if (rc < 0 && err != NULL)
        *err = why;
    s3_http_free(asking.http);
    s3_sts_address_release(&asking.address);
    explicit_bzero(asking.body.data, asking.body.capacity);
    buf_release(&asking.body);
    buf_release(&asking.url);
    return rc;
}
