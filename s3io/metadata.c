#include "s3io/metadata.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "s3io/backoff.h"
#include "s3io/http.h"
#include "s3io/keys.h"

#define TOKEN_TTL_S   21600.0 /* the longest there is */
#define TOKEN_AHEAD_S 60.0    /* fetched again so long before it ends */
#define BUSY_TRIES    4       /* in all, of answers that say "later" */
#define BUSY_PAUSE    0.25    /* before the second, in time limits of a try; doubles */
#define TIMEOUT_MAX_S 60.0
#define TRIES_MAX     20

struct s3_metadata {
    struct err setup; /* a variable with a wrong value: what every call answers then */
    bool disabled, v1_disabled;
    char *base;
    double timeout_s;
    int tries;
    const volatile sig_atomic_t *cancel; /* may be NULL */
    struct s3_http *http;
    char *token; /* NULL: none yet */
    double token_until_s;
    bool v1;         /* the service has no tokens: go without */
    bool token_lost; /* it was asked for one, and no answer came */
    bool answered;
};

static void read_flag(struct s3_metadata *m, const char *name, bool *flag)
{
    const char *value = text_variable(name);

    if (value != NULL && strcasecmp(value, "true") != 0 && strcasecmp(value, "false") != 0)
        err_set(&m->setup, ERR_USAGE, "%s must be true or false", name);
    *flag = value != NULL && strcasecmp(value, "true") == 0;
}

static double read_number(struct s3_metadata *m, const char *name, double max)
{
    const char *value = text_variable(name);
    char *end;
    double number;

    if (value == NULL)
        return 1;
    number = strtod(value, &end);
    if (*end != '\0' || !(number > 0 && number <= max)) {
        err_set(&m->setup, ERR_USAGE, "%s must be a number above 0, at most %g", name, max);
        return 1;
    }
    return number;
}

static char *read_base(struct s3_metadata *m)
{
    const char *given = text_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *mode = text_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    const bool six = mode != NULL && strcasecmp(mode, "IPv6") == 0;
    char *base;
    size_t n;

    if (mode != NULL && !six && strcasecmp(mode, "IPv4") != 0)
        err_set(&m->setup, ERR_USAGE,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE must be IPv4 or IPv6");
    if (given != NULL &&
        ((strncasecmp(given, "http://", 7) != 0 && strncasecmp(given, "https://", 8) != 0) ||
         !s3_keys_is_clean(given) || strpbrk(given, "?#@\\") != NULL))
        err_set(&m->setup, ERR_USAGE,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT must be 'http://HOST[:PORT]'");
    base = text_copy(given != NULL ? given
                     : six         ? "http://[fd00:ec2::254]"
                                   : "http://169.254.169.254");
    for (n = strlen(base); n > 0 && base[n - 1] == '/'; n--)
        base[n - 1] = '\0';
    return base;
}

struct s3_metadata *s3_metadata_new(const volatile sig_atomic_t *cancel)
{
    struct s3_metadata *m = calloc(1, sizeof *m);

    if (m == NULL)
        abort();
    m->cancel = cancel;
    read_flag(m, "AWS_EC2_METADATA_DISABLED", &m->disabled);
    read_flag(m, "AWS_EC2_METADATA_V1_DISABLED", &m->v1_disabled);
    m->timeout_s = read_number(m, "AWS_METADATA_SERVICE_TIMEOUT", TIMEOUT_MAX_S);
    m->tries = (int)read_number(m, "AWS_METADATA_SERVICE_NUM_ATTEMPTS", TRIES_MAX);
    m->base = read_base(m);
    m->http = s3_http_new(&(struct s3_http_options){.no_proxy = true});
    return m;
}

static void forget_token(struct s3_metadata *m)
{
    if (m->token != NULL)
        explicit_bzero(m->token, strlen(m->token));
    free(m->token);
    m->token = NULL;
}

void s3_metadata_free(struct s3_metadata *metadata)
{
    if (metadata == NULL)
        return;
    forget_token(metadata);
    s3_http_free(metadata->http);
    free(metadata->base);
    free(metadata);
}

bool s3_metadata_answered(const struct s3_metadata *metadata)
{
    return metadata->answered;
}

/* Ask, again where nothing came (as often as set) or the service said "later" (a few times: all
 * processes of a host share its limit). 0: an answer; -1: ERR_NET, or ERR_STOPPED. */
static int ask(struct s3_metadata *m, const char *method, const char *item,
               const struct s3_pair *header, struct s3_http_answer *answer, struct err *err)
{
    struct buf url = {0};
    struct s3_http_call call = {.method = method,
                                .headers = header,
                                .header_count = header != NULL,
                                .connect_s = m->timeout_s,
                                .total_s = m->timeout_s,
                                .cancel = m->cancel};
    double pause_s = BUSY_PAUSE * m->timeout_s;
    int rc, lost = 0;

    buf_printf(&url, "%s/latest/%s", m->base, item);
    call.url = buf_text(&url);
    for (int busy = 0;;) {
        s3_http_answer_release(answer);
        rc = s3_http_send(m->http, &call, answer, err);
        if (rc < 0 && (answer->failure == S3_HTTP_ABORTED ||
                       (answer->failure != S3_HTTP_STALE && ++lost >= m->tries)))
            break;
        if (rc < 0)
            continue;
        m->answered = true;
        if (answer->status != 429 && answer->status < 500)
            break;
        if (++busy == BUSY_TRIES) {
            rc = err_set(err, ERR_NET, "instance metadata answered HTTP %d, %d times in a row",
                         answer->status, busy);
            break;
        }
        if (!s3_backoff_wait(pause_s, m->cancel, NULL)) {
            rc = err_set(err, ERR_STOPPED, "stopped while waiting to ask instance metadata");
            break;
        }
        pause_s *= 2;
    }
    buf_release(&url);
    return rc;
}

static int take_token(struct s3_metadata *m, struct s3_http_answer *answer, struct err *err)
{
    char text[32];
    double ttl_s = TOKEN_TTL_S;

    if (!s3_keys_is_clean(buf_text(&answer->body)))
        return err_set(err, ERR_INPUT,
                       "instance metadata answered with a session token that is "
                       "none");
    if (s3_http_header(answer, "x-aws-ec2-metadata-token-ttl-seconds", text, sizeof text) &&
        strtod(text, NULL) > 0)
        ttl_s = strtod(text, NULL);
    forget_token(m);
    m->token = text_copy(buf_text(&answer->body));
    m->token_until_s = clock_now_s() + ttl_s - TOKEN_AHEAD_S;
    return 0;
}

/* Have a token, or know that it has to go without. Without an answer to its PUT the service may
 * still take requests without a token (version 1), so long as this is allowed. */
static int ensure_token(struct s3_metadata *m, struct err *err)
{
    static const struct s3_pair ttl = {"X-aws-ec2-metadata-token-ttl-seconds", "21600"};
    struct s3_http_answer answer = {0};
    int rc;

    if (m->v1 || (m->token != NULL && clock_now_s() < m->token_until_s))
        return 0;
    forget_token(m);
    m->token_lost = false;
    rc = ask(m, "PUT", "api/token", &ttl, &answer, err);
    if (rc < 0 && answer.failure == S3_HTTP_BROKEN) {
        m->token_lost = true;
        rc = m->v1_disabled ? err_wrap(err, "no session token of instance metadata arrived (in a "
                                            "container: raise the instance's "
                                            "--http-put-response-hop-limit to 2, or use the "
                                            "host's network)")
                            : 0;
    } else if (rc == 0 && answer.status == 200) {
        rc = take_token(m, &answer, err);
    } else if (rc == 0) {
        m->v1 = (answer.status == 403 || answer.status == 404 || answer.status == 405) &&
                !m->v1_disabled;
        if (!m->v1)
            rc = err_set(err, ERR_INPUT,
                         "instance metadata answered HTTP %d to the request for a session token",
                         answer.status);
    }
    if (answer.body.data != NULL)
        explicit_bzero(answer.body.data, answer.body.capacity);
    s3_http_answer_release(&answer);
    return rc;
}

/* 1, 0 or -1 as s3_metadata_get; 2: the token was refused. */
static int get_once(struct s3_metadata *m, const char *item, struct buf *out, struct err *err)
{
    const struct s3_pair header = {"X-aws-ec2-metadata-token", m->token};
    struct s3_http_answer answer = {0};
    int rc = ask(m, "GET", item, m->token != NULL ? &header : NULL, &answer, err);

    if (rc == 0 && answer.status == 200) {
        buf_append(out, answer.body.data, answer.body.bytes);
        rc = 1;
    } else if (rc == 0 && answer.status == 401) {
        rc = 2;
    } else if (rc == 0 && answer.status != 404) {
        rc = err_set(err, ERR_INPUT, "instance metadata answered HTTP %d for '%s'%s", answer.status,
                     item, answer.status == 403 ? ": is it turned off for this instance?" : "");
    }
    if (answer.body.data != NULL) /* may be keys */
        explicit_bzero(answer.body.data, answer.body.capacity);
    s3_http_answer_release(&answer);
    return rc;
}

int s3_metadata_get(struct s3_metadata *metadata, const char *item, struct buf *out,
                    struct err *err)
{
    struct s3_metadata *m = metadata;

    if (m->setup.code != ERR_NONE) {
        if (err != NULL)
            *err = m->setup;
        return -1;
    }
    if (m->disabled)
        return err_set(err, ERR_INPUT,
                       "instance metadata is turned off by AWS_EC2_METADATA_DISABLED");
    for (int round = 0; round < 2; round++) {
        int rc;

        if (ensure_token(m, err) < 0)
            return -1;
        rc = get_once(m, item, out, err);
        if (rc != 2)
            return rc;
        forget_token(m);
        m->v1 = false;
    }
    if (m->token_lost)
        return err_set(err, ERR_INPUT,
                       "instance metadata wants a session token, and none arrived: in a container, "
                       "raise the instance's --http-put-response-hop-limit to 2, or use the host's "
                       "network");
    return err_set(err, ERR_INPUT, "instance metadata refused a new session token");
}

char *s3_metadata_region(struct s3_metadata *metadata)
{
    struct buf text = {0};
    char *region = NULL;

    if (s3_metadata_get(metadata, "meta-data/placement/region", &text, NULL) == 1 &&
        text.bytes > 0 &&
        strspn(buf_text(&text), "abcdefghijklmnopqrstuvwxyz0123456789-") == text.bytes)
        region = text_copy(buf_text(&text));
    buf_release(&text);
    return region;
}
