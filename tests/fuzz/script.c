/* tests/fuzz/script.c -- see script.h. */
#include "script.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "fuzz.h"
#include "s3io/client.h"
#include "s3io/http.h"
#include "s3io/http_answer.h"
#include "s3io/request.h"

#define PIECE_BYTES 11 /* of a body: it comes in many calls */

static struct {
    const uint8_t *at, *end;
    double now_s;
    unsigned char *shadow;
    size_t shadow_bytes;
} script;

double __wrap_clock_now_s(void);
void __wrap_clock_sleep_s(double seconds);
int __wrap_s3_http_send(struct s3_http *http, const struct s3_http_call *call,
                        struct s3_http_answer *answer, struct err *err);

double __wrap_clock_now_s(void)
{
    return script.now_s;
}

/* A wait that makes no headway would never end. */
void __wrap_clock_sleep_s(double seconds)
{
    fuzz_must(seconds >= 0);
    script.now_s += seconds + 1e-6;
}

struct s3_client *script_client(const char *endpoint)
{
    const struct s3_client_options options = {.region = "eu-west-1", .endpoint = endpoint};
    struct s3_client *client;
    struct err err = {0};

    setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
    setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    setenv("AWS_MAX_ATTEMPTS", "4", 1);
    fuzz_must(s3_client_open(&client, &options, &err) == 0);
    return client;
}

void script_begin(const uint8_t *data, size_t bytes)
{
    script.at = data;
    script.end = data + bytes;
    script.now_s = 1;
    script.shadow = NULL;
}

void script_shadow(unsigned char *object, size_t bytes)
{
    script.shadow = object;
    script.shadow_bytes = bytes;
}

/* Up to `end` or the line behind this one. */
static const uint8_t *line_end(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *const feed = memchr(at, '\n', (size_t)(end - at));

    return feed == NULL ? end : feed + 1;
}

static bool line_is(const uint8_t *at, const uint8_t *next, const char *text)
{
    const size_t bytes = strlen(text);

    return (size_t)(next - at) > bytes && memcmp(at, text, bytes) == 0 && at[bytes] == '\n';
}

/* The next answer's text; false: there is none. */
static bool answer_take(const uint8_t **begin, const uint8_t **end)
{
    const uint8_t *at = script.at;

    if (at >= script.end)
        return false;
    *begin = at;
    while (at < script.end) {
        const uint8_t *const next = line_end(at, script.end);

        if (line_is(at, next, "%%")) {
            *end = at;
            script.at = next;
            return true;
        }
        at = next;
    }
    *end = script.at = script.end;
    return true;
}

/* Where the bytes of an answer begin in their object. */
static size_t range_begin(const struct s3_http_answer *answer)
{
    char range[64];

    if (answer->status != 206 || !s3_http_header(answer, "content-range", range, sizeof range) ||
        strncmp(range, "bytes ", 6) != 0)
        return 0;
    return strtoul(range + 6, NULL, 10);
}

static int body_give(const struct s3_http_call *call, struct s3_http_answer *answer,
                     const uint8_t *at, const uint8_t *end)
{
    size_t place = range_begin(answer);

    if (call->sink == NULL || answer->status / 100 != 2) {
        buf_append(&answer->body, at, (size_t)(end - at));
        return 0;
    }
    while (at < end) {
        const size_t left = (size_t)(end - at), some = left < PIECE_BYTES ? left : PIECE_BYTES;

        if (call->sink(call->context, answer, at, some) < 0)
            return -1;
        for (size_t i = 0; script.shadow != NULL && i < some; i++)
            if (place < script.shadow_bytes && i < script.shadow_bytes - place)
                script.shadow[place + i] = at[i];
        at += some;
        place += some;
    }
    return 0;
}

/* What curl is given has to be one line each, and may not lead where nobody wants to go. */
static void call_check(const struct s3_http_call *call)
{
    fuzz_must(strncmp(call->url, "http://", 7) == 0 || strncmp(call->url, "https://", 8) == 0);
    fuzz_must(strpbrk(call->url, "\r\n \"<>\\^`{|}") == NULL);
    for (const char *c = call->url; *c != '\0'; c++)
        fuzz_must(*c > 0x20 && *c < 0x7f);
    for (size_t i = 0; i < call->header_count; i++)
        fuzz_must(strpbrk(call->headers[i].name, "\r\n: ") == NULL &&
                  strpbrk(call->headers[i].value, "\r\n") == NULL);
}

static int fail(struct s3_http_answer *answer, enum s3_http_failure failure, struct err *err)
{
    answer->failure = failure;
    return err_set(err, failure == S3_HTTP_ABORTED ? ERR_STOPPED : ERR_NET, "the script says so");
}

int __wrap_s3_http_send(struct s3_http *http, const struct s3_http_call *call,
                        struct s3_http_answer *answer, struct err *err)
{
    enum s3_http_line line = S3_HTTP_LINE_HEADER;
    const uint8_t *at, *end;
    bool cut = false;

    (void)http;
    call_check(call);
    answer->status = 0;
    answer->headers.bytes = answer->body.bytes = 0;
    answer->hedged = answer->second = false;
    if (!answer_take(&at, &end))
        return fail(answer, S3_HTTP_OTHER, err);
    while (at < end && line != S3_HTTP_LINE_END) {
        const uint8_t *const next = line_end(at, end);

        if (line_is(at, next, "!connect"))
            return fail(answer, S3_HTTP_CONNECT, err);
        if (line_is(at, next, "!stale"))
            return fail(answer, S3_HTTP_STALE, err);
        if (line_is(at, next, "!broken"))
            return fail(answer, S3_HTTP_BROKEN, err);
        if (line_is(at, next, "!cut"))
            cut = true;
        else
            line = s3_http_answer_line(answer, (const char *)at, (size_t)(next - at));
        at = next;
    }
    if (answer->status < 200 || line != S3_HTTP_LINE_END) /* curl's: it is no answer */
        return fail(answer, S3_HTTP_BROKEN, err);
    if (strcmp(call->method, "HEAD") != 0 && body_give(call, answer, at, end) < 0)
        return fail(answer, S3_HTTP_ABORTED, err);
    if (cut)
        return fail(answer, S3_HTTP_BROKEN, err);
    answer->failure = S3_HTTP_ANSWERED;
    return 0;
}
