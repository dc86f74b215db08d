#include "s3io/http_easy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "s3io/http.h"

void *s3_http_must(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "out of memory for an HTTP request\n");
        abort();
    }
    return pointer;
}

/* A line break inside a header would be a header of its own. */
bool s3_http_headers_clean(const struct s3_http_call *call)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (strpbrk(call->headers[i].name, "\r\n: ") != NULL ||
            strpbrk(call->headers[i].value, "\r\n") != NULL)
            return false;
    return true;
}

static struct curl_slist *list_add(struct curl_slist *list, const char *line)
{
    return s3_http_must(curl_slist_append(list, line));
}

static bool call_has(const struct s3_http_call *call, const char *name)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (strcasecmp(call->headers[i].name, name) == 0)
            return true;
    return false;
}

struct curl_slist *s3_http_headers(const struct s3_http_call *call)
{
    struct curl_slist *list = NULL;
    struct buf line = {0};

    for (size_t i = 0; i < call->header_count; i++) {
        const struct s3_pair *header = &call->headers[i];

        line.bytes = 0; /* curl's way to send a header without a value is a ';' in the ':'s place */
        if (header->value[0] == '\0')
            buf_printf(&line, "%s;", header->name);
        else
            buf_printf(&line, "%s: %s", header->name, header->value);
        list = list_add(list, buf_text(&line));
    }
    /* What curl would add by itself. */
    if (!call_has(call, "accept"))
        list = list_add(list, "Accept:");
    if (!call_has(call, "content-type"))
        list = list_add(list, "Content-Type:");
    if (!call_has(call, "user-agent"))
        list = list_add(list, "User-Agent: convoy/" CONVOY_VERSION);
    buf_release(&line);
    return list;
}

/* Curl takes https_proxy in both cases but http_proxy in lower case only (in a CGI program the
 * other one is set by the client); we are no CGI program, and other S3 clients take both. */
void s3_http_proxy_set(CURL *easy, const char *url, bool no_proxy)
{
    const char *proxy = no_proxy ? "" : NULL; /* NULL: what the environment says */

    if (!no_proxy && strncmp(url, "http:", 5) == 0 && getenv("http_proxy") == NULL)
        proxy = getenv("HTTP_PROXY");
    S3_HTTP_SET(easy, CURLOPT_PROXY, proxy);
}

void s3_http_method_set(CURL *easy, const struct s3_http_call *call)
{
    const bool head = strcmp(call->method, "HEAD") == 0;
    const bool get = strcmp(call->method, "GET") == 0;
    const bool body =
        call->body != NULL || strcmp(call->method, "PUT") == 0 || strcmp(call->method, "POST") == 0;

    S3_HTTP_SET(easy, CURLOPT_HTTPGET, 1L); /* forgets what the call before was */
    S3_HTTP_SET(easy, CURLOPT_CUSTOMREQUEST, get || head ? NULL : call->method);
    if (head) {
        S3_HTTP_SET(easy, CURLOPT_NOBODY, 1L);
    } else if (body) { /* an empty one too, for its Content-Length: 0 */
        S3_HTTP_SET(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                    (curl_off_t)(call->body == NULL ? 0 : call->body_bytes));
        S3_HTTP_SET(easy, CURLOPT_POSTFIELDS, call->body == NULL ? "" : (const char *)call->body);
    }
}
