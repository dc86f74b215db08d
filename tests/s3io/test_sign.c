/*
 * tests/s3io/test_sign.c -- canonical request, string to sign and signature of AWS's own vectors
 * (vectors/README.md says which and which not), and the encoding on its own.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "s3io/credentials.h"
#include "s3io/sign.h"

#define PAIRS_MAX        32
#define AWS_C_AUTH_CASES 32
#define BOTOCORE_CASES   5
#define S3_CASES         5

/* The published example keys of botocore's cases and of the S3 API Reference. */
static const struct s3_keys botocore_keys = {
    .access_key = (char *)"AKIDEXAMPLE",
    .secret_key = (char *)"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};

/* A request as it came out of a file; what the pairs point at is kept in text. */
struct request {
    struct buf text, path;
    struct s3_pair query[PAIRS_MAX], headers[PAIRS_MAX];
    size_t query_count, header_count;
    char sha256[DIGEST_HEX_CHARS];
    char when[S3_SIGN_TIME_CHARS];
    struct s3_sign sign;
};

static void request_release(struct request *request)
{
    buf_release(&request->text);
    buf_release(&request->path);
}

static void read_text(const char *folder, const char *name, struct buf *out)
{
    char path[512];
    struct err err = {0};

    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_read(path, 1 << 20, out, &err) < 0)
        fail_msg("%s", err.msg);
}

static time_t time_of(const char *text, const char *format)
{
    struct tm utc = {0};

    assert_non_null(strptime(text, format, &utc));
    return timegm(&utc);
}

/* Percent-escapes in place: the vectors have them in queries, s3_sign_query wants them decoded. */
static char *decoded(char *text)
{
    char *to = text;
    unsigned byte;

    for (const char *from = text; *from != '\0'; to++) {
        if (*from == '%' && sscanf(from, "%%%2x", &byte) == 1) {
            *to = (char)byte;
            from += 3;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
    return text;
}

static void parse_query(struct request *request, char *text)
{
    char *rest = NULL;

    for (char *pair = strtok_r(text, "&", &rest); pair != NULL; pair = strtok_r(NULL, "&", &rest)) {
        char *equal = strchr(pair, '=');
        const char *value = "";

        assert_true(request->query_count < PAIRS_MAX);
        if (equal != NULL) {
            *equal = '\0';
            value = decoded(equal + 1);
        }
        request->query[request->query_count++] = (struct s3_pair){decoded(pair), value};
    }
}

static void add_header(struct request *request, const char *name, const char *value)
{
    assert_true(request->header_count < PAIRS_MAX);
    request->headers[request->header_count++] = (struct s3_pair){name, value};
}

/* "METHOD TARGET HTTP/1.1", headers (a line that begins with white space goes on with the one
 * before), an empty line, the body. The path stands there as it is meant: it is encoded here, once.
 */
static void parse_request(struct request *request)
{
    char *text = buf_text(&request->text), *body = strstr(text, "\n\n"), *end, *query, *line;
    const char *content = body != NULL ? body + 2 : "";
    unsigned char sha[DIGEST_SHA256_BYTES];

    digest_sha256(content, strlen(content), sha);
    digest_hex(sha, request->sha256);
    if (body != NULL)
        *body = '\0';
    line = strchr(text, '\n');
    *line++ = '\0';
    end = strstr(text, " HTTP/1.1");
    *end = '\0';
    request->sign.method = text;
    text = strchr(text, ' ');
    *text++ = '\0';
    query = strchr(text, '?');
    if (query != NULL) {
        *query = '\0';
        parse_query(request, query + 1);
    }
    s3_sign_encode(&request->path, text, true);
    while (line != NULL && *line != '\0') {
        char *colon = strchr(line, ':');
        char *next = line;

        do
            next = strchr(next + 1, '\n');
        while (next != NULL && (next[1] == ' ' || next[1] == '\t'));
        if (next != NULL)
            *next++ = '\0';
        *colon = '\0';
        add_header(request, line, colon + 1);
        line = next;
    }
}

static void check(const char *name, struct request *request, const struct s3_keys *keys,
                  const char *canonical, const char *string_to_sign, const char *signature)
{
    struct buf got_canonical = {0}, got_string = {0}, got_authorization = {0};
    const char *tail;

    request->sign.headers = request->headers;
    request->sign.header_count = request->header_count;
    request->sign.query = request->query;
    request->sign.query_count = request->query_count;
    if (request->path.bytes > 0)
        request->sign.path = buf_text(&request->path);
    s3_sign_request(&request->sign, keys, &got_canonical, &got_string, &got_authorization);
    if (strcmp(buf_text(&got_canonical), canonical) != 0)
        fail_msg("%s: canonical request\n%s\nin place of\n%s", name, buf_text(&got_canonical),
                 canonical);
    if (strcmp(buf_text(&got_string), string_to_sign) != 0)
        fail_msg("%s: string to sign\n%s\nin place of\n%s", name, buf_text(&got_string),
                 string_to_sign);
    tail = strstr(buf_text(&got_authorization), "Signature=");
    assert_non_null(tail);
    if (strcmp(tail + strlen("Signature="), signature) != 0)
        fail_msg("%s: %s in place of signature %s", name, tail, signature);
    buf_release(&got_canonical);
    buf_release(&got_string);
    buf_release(&got_authorization);
}

static void aws_c_auth_case(const char *folder)
{
    struct request request = {0};
    struct buf context = {0}, canonical = {0}, string = {0}, signature = {0};
    struct err err = {0};
    struct s3_keys keys = {0};
    const char *token = NULL, *when;
    json_t *tree;
    int sign_body = 0, omit = 0;

    read_text(folder, "context.json", &context);
    read_text(folder, "request.txt", &request.text);
    read_text(folder, "header-canonical-request.txt", &canonical);
    read_text(folder, "header-string-to-sign.txt", &string);
    read_text(folder, "header-signature.txt", &signature);
    tree = json_read_text(buf_text(&context), context.bytes, folder, &err);
    assert_non_null(tree);
    assert_int_equal(json_unpack(tree, "{s:{s:s,s:s,s?s},s:s,s:s,s:s,s:b,s?b}", "credentials",
                                 "access_key_id", &keys.access_key, "secret_access_key",
                                 &keys.secret_key, "token", &token, "region", &request.sign.region,
                                 "service", &request.sign.service, "timestamp", &when, "sign_body",
                                 &sign_body, "omit_session_token", &omit),
                     0);
    parse_request(&request);
    request.sign.time = time_of(when, "%Y-%m-%dT%H:%M:%SZ");
    request.sign.payload_sha256 = request.sha256;
    s3_sign_time(request.sign.time, request.when);
    add_header(&request, "X-Amz-Date", request.when);
    if (sign_body)
        add_header(&request, "X-Amz-Content-Sha256", request.sha256);
    if (token != NULL && !omit)
        add_header(&request, "X-Amz-Security-Token", token);
    check(folder, &request, &keys, buf_text(&canonical), buf_text(&string), buf_text(&signature));
    json_decref(tree);
    request_release(&request);
    buf_release(&context);
    buf_release(&canonical);
    buf_release(&string);
    buf_release(&signature);
}

static void botocore_case(const char *folder)
{
    const char *name = strrchr(folder, '/') + 1;
    struct request request = {.sign = {.region = "us-east-1", .service = "service"}};
    struct buf canonical = {0}, string = {0}, authorization = {0}, got = {0};
    char file[128];

    snprintf(file, sizeof file, "%s.req", name);
    read_text(folder, file, &request.text);
    snprintf(file, sizeof file, "%s.creq", name);
    read_text(folder, file, &canonical);
    snprintf(file, sizeof file, "%s.sts", name);
    read_text(folder, file, &string);
    snprintf(file, sizeof file, "%s.authz", name);
    read_text(folder, file, &authorization);
    parse_request(&request);
    request.sign.time = time_of("20150830T123600Z", "%Y%m%dT%H%M%SZ");
    request.sign.payload_sha256 = request.sha256;
    check(folder, &request, &botocore_keys, buf_text(&canonical), buf_text(&string),
          strstr(buf_text(&authorization), "Signature=") + strlen("Signature="));
    s3_sign_request(&request.sign, &botocore_keys, NULL, NULL, &got);
    assert_string_equal(buf_text(&got), buf_text(&authorization)); /* the whole header */
    request_release(&request);
    buf_release(&canonical);
    buf_release(&string);
    buf_release(&authorization);
    buf_release(&got);
}

/* Run a case for each folder below `root`; how many there were. */
static int each_folder(const char *root, void (*run)(const char *folder))
{
    DIR *dir = opendir(root);
    struct dirent *entry;
    int count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char folder[512];

        snprintf(folder, sizeof folder, "%s/%s", root, entry->d_name);
        if (entry->d_name[0] == '.' || !file_is_folder(folder))
            continue;
        run(folder);
        count++;
    }
    closedir(dir);
    return count;
}

static void sign_agrees_with_aws_c_auth(void **state)
{
    const int count = each_folder("vectors/aws-c-auth", aws_c_auth_case);

    (void)state;
    print_message("%d cases of aws-c-auth\n", count);
    assert_int_equal(count, AWS_C_AUTH_CASES);
}

static void sign_agrees_with_botocore(void **state)
{
    const int count = each_folder("vectors/botocore", botocore_case);

    (void)state;
    print_message("%d cases of botocore\n", count);
    assert_int_equal(count, BOTOCORE_CASES);
}

static void s3_example(const json_t *tree, const json_t *example)
{
    struct request request = {.sign = {.region = "us-east-1", .service = "s3"}};
    struct s3_keys keys = {0};
    const char *name, *uri, *canonical, *string, *signature;
    json_t *headers;
    char *query;

    assert_int_equal(json_unpack((json_t *)tree, "{s:{s:s,s:s}}", "credentials", "access_key_id",
                                 &keys.access_key, "secret_access_key", &keys.secret_key),
                     0);
    assert_int_equal(json_unpack((json_t *)example, "{s:s,s:s,s:s,s:o,s:s,s:s,s:s,s:s}", "name",
                                 &name, "method", &request.sign.method, "uri", &uri, "headers",
                                 &headers, "payload_hash", &request.sign.payload_sha256,
                                 "canonical_request", &canonical, "string_to_sign", &string,
                                 "signature", &signature),
                     0);
    buf_printf(&request.text, "%s", uri); /* its path is encoded already */
    query = strchr(buf_text(&request.text), '?');
    if (query != NULL) {
        *query = '\0';
        parse_query(&request, query + 1);
    }
    request.sign.path = buf_text(&request.text);
    for (size_t i = 0; i < json_array_size(headers); i++)
        add_header(&request, json_string_value(json_array_get(json_array_get(headers, i), 0)),
                   json_string_value(json_array_get(json_array_get(headers, i), 1)));
    request.sign.time = time_of("20130524T000000Z", "%Y%m%dT%H%M%SZ");
    check(name, &request, &keys, canonical, string, signature);
    request_release(&request);
}

static void sign_agrees_with_the_s3_reference(void **state)
{
    struct err err = {0};
    json_t *tree = json_read_file("vectors/s3-examples.json", 1 << 20, &err), *examples;
    int count = 0;

    (void)state;
    assert_non_null(tree);
    examples = json_object_get(tree, "requests");
    for (size_t i = 0; i < json_array_size(examples); i++) {
        const json_t *example = json_array_get(examples, i);

        /* Bodies signed chunk by chunk are not ours. */
        if (strcmp(json_string_value(json_object_get(example, "name")), "put-chunked-seed") == 0)
            continue;
        s3_example(tree, example);
        count++;
    }
    json_decref(tree);
    print_message("%d examples of the S3 API Reference\n", count);
    assert_int_equal(count, S3_CASES);
}

static void encode_leaves_only_unreserved_bytes(void **state)
{
    char all[256], expected[3 * 256 + 1];
    struct buf out = {0};
    size_t n = 0;

    (void)state;
    for (int byte = 1; byte < 256; byte++) {
        const int plain = (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
                          (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' ||
                          byte == '_' || byte == '~';

        all[byte - 1] = (char)byte;
        n += (size_t)(plain ? sprintf(expected + n, "%c", byte)
                            : sprintf(expected + n, "%%%02X", byte));
    }
    all[255] = '\0';
    s3_sign_encode(&out, all, false);
    assert_string_equal(buf_text(&out), expected);
    buf_release(&out);
    s3_sign_encode(&out, "/a//b/../%41+\xc3\xa4", true);
    assert_string_equal(buf_text(&out), "/a//b/../%2541%2B%C3%A4");
    buf_release(&out);
}

static void query_is_sorted_as_it_is_sent(void **state)
{
    /* '{' sorts behind letters, its escape before them. */
    static const struct s3_pair query[] = {{"a", "1"}, {"{", "2"}, {"a", ""}, {"A b", "/"}};
    struct buf out = {0};

    (void)state;
    s3_sign_query(&out, query, 4);
    assert_string_equal(buf_text(&out), "%7B=2&A%20b=%2F&a=&a=1");
    buf_release(&out);
    s3_sign_query(&out, NULL, 0);
    assert_string_equal(buf_text(&out), "");
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_agrees_with_aws_c_auth),
        cmocka_unit_test(sign_agrees_with_botocore),
        cmocka_unit_test(sign_agrees_with_the_s3_reference),
        cmocka_unit_test(encode_leaves_only_unreserved_bytes),
        cmocka_unit_test(query_is_sorted_as_it_is_sent),
    };

    return cmocka_run_group_tests_name("sign", tests, NULL, NULL);
}
