/*
 * s3io/http_easy.h -- a call in curl's terms: headers, method, proxy. For http.c.
 */
#ifndef S3IO_HTTP_EASY_H
#define S3IO_HTTP_EASY_H

#include <assert.h>
#include <curl/curl.h>
#include <stdbool.h>

struct s3_http_call;

/** The pointer; without memory it ends the process. */
void *s3_http_must(void *pointer);

/* Every option here is known to the libcurl that we ask for; a refusal is our mistake. */
#define S3_HTTP_SET(easy, option, value)                                                           \
    do {                                                                                           \
        const CURLcode set_ = curl_easy_setopt(easy, option, value);                               \
        assert(set_ == CURLE_OK);                                                                  \
        (void)set_;                                                                                \
    } while (0)

/** Whether all is one line: a line break inside a header would be a header of its own. */
bool s3_http_headers_clean(const struct s3_http_call *call);
/** The headers, and what keeps curl from adding its own; the caller's to free. */
struct curl_slist *s3_http_headers(const struct s3_http_call *call);

/** Method and body, whatever the handle did before. */
void s3_http_method_set(CURL *easy, const struct s3_http_call *call);
/** Which proxy the environment names for the URL; none with no_proxy. */
void s3_http_proxy_set(CURL *easy, const char *url, bool no_proxy);

#endif
