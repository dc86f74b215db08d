/* tests/fuzz/xml.c -- any bytes as an XML document of S3 or STS: as such, as a page of a listing,
 * as an error, and as the keys of a role. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "fuzz.h"
#include "s3io/client.h"
#include "s3io/config.h"
#include "s3io/credentials.h"
#include "s3io/fault.h"
#include "s3io/http.h"
#include "s3io/keys.h"
#include "s3io/list.h"
#include "s3io/request.h"
#include "s3io/sts.h"
#include "s3io/xml.h"
#include "script.h"

#define PREFIX "train/"
#define ANSWER (FUZZ_INPUT | FUZZ_CODE(ERR_NET)) /* what a server may be at fault for */

static int take_again(void *context, const char *path, const char *text, struct err *err)
{
    (void)err;
    fuzz_must(strcmp(path, "a") == 0 && strcmp(text, context) == 0);
    return 0;
}

/* A text that was read, escaped and read again is the same. */
static int take(void *context, const char *path, const char *text, struct err *err)
{
    struct buf again = {0};
    char *copy = strdup(text);
    int depth = 1;

    (void)context;
    for (const char *c = path; *c != '\0'; c++)
        depth += *c == '/';
    fuzz_must(depth <= S3_XML_DEPTH_MAX);
    buf_printf(&again, "<a>");
    s3_xml_escape(&again, copy);
    buf_printf(&again, "</a>");
    fuzz_must(s3_xml_read(again.data, again.bytes, take_again, copy, err) == 0);
    buf_release(&again);
    free(copy);
    return 0;
}

static void read_document(const uint8_t *data, size_t bytes)
{
    struct err err = {0};

    fuzz_must_say(s3_xml_read(data, bytes, take, NULL, &err), &err, FUZZ_CODE(ERR_NET));
}

static int visit(void *context, const struct s3_listed *listed, struct err *err)
{
    (void)context, (void)err;
    fuzz_must(strncmp(listed->key, PREFIX, strlen(PREFIX)) == 0 && listed->etag != NULL);
    return 0;
}

static void answer_make(struct buf *out, const char *status, const uint8_t *data, size_t bytes)
{
    buf_printf(out, "HTTP/1.1 %s\r\n\r\n", status);
    buf_append(out, data, bytes);
}

/* The same page again and again: it comes to an end all the same. */
static void read_listing(const uint8_t *data, size_t bytes, const char *status)
{
    struct s3_client *const client = script_client("https://s3.test");
    struct buf answers = {0};
    struct err err = {0};

    for (int i = 0; i < 4; i++) {
        answer_make(&answers, status, data, bytes);
        buf_printf(&answers, "\n%%%%\n");
    }
    script_begin(answers.data, answers.bytes);
    fuzz_must_say(s3_list(client, "imgs", PREFIX, false, visit, NULL, &err), &err, ANSWER);
    s3_client_close(client);
    buf_release(&answers);
}

static void read_fault(const uint8_t *data, size_t bytes)
{
    static const int statuses[] = {200, 301, 400, 403, 404, 409, 412, 503};
    const struct s3_fault_place place = {.bucket = "imgs",
                                         .host = "s3.test",
                                         .region = "eu-west-1",
                                         .permission = "s3:GetObject",
                                         .source = "the environment",
                                         .clock_s = 1.8e9};
    struct s3_http_answer answer = {0};
    struct s3_fault fault;

    buf_append(&answer.body, data, bytes);
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        char head[S3_FAULT_HEAD_CHARS];
        struct err err = {0};

        answer.status = statuses[i];
        s3_fault_read(&fault, &answer);
        s3_fault_head(&fault, head);
        fuzz_must(s3_fault_line(&fault, &place, &err) == -1);
        fuzz_must_say(-1, &err, ANSWER);
        fuzz_must(strpbrk(fault.region, " /.\r\n") == NULL);
        fuzz_must(strpbrk(fault.origin, "@ \\\r\n\"<>%?#") == NULL);
    }
    s3_http_answer_release(&answer);
}

static void read_keys(const uint8_t *data, size_t bytes)
{
    struct s3_config config = {.region = (char *)"eu-west-1", .attempts = 1};
    const struct s3_sts sts = {.config = &config, .once = true};
    const struct s3_sts_question question = {.action = "AssumeRoleWithWebIdentity", .who = "it"};
    struct buf answer = {0};
    struct s3_keys keys = {0};
    struct err err = {0};
    int rc;

    answer_make(&answer, "200 OK", data, bytes);
    script_begin(answer.data, answer.bytes);
    rc = s3_sts_fetch(&sts, &question, &keys, &err);
    fuzz_must_say(rc, &err, ANSWER);
    fuzz_must((rc == 0) == (keys.access_key != NULL));
    if (rc == 0)
        fuzz_must(s3_keys_is_clean(keys.access_key) && s3_keys_is_clean(keys.secret_key) &&
                  s3_keys_is_clean(keys.token));
    s3_keys_release(&keys);
    buf_release(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    read_document(data, bytes);
    read_listing(data, bytes, "200 OK");
    read_listing(data, bytes, "400 Bad Request");
    read_fault(data, bytes);
    read_keys(data, bytes);
    return 0;
}
