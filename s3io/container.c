#include "s3io/container.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/text.h"
#include "s3io/backoff.h"
#include "s3io/http.h"
#include "s3io/keys.h"

#define RELATIVE        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
#define FULL            "AWS_CONTAINER_CREDENTIALS_FULL_URI"
#define TOKEN           "AWS_CONTAINER_AUTHORIZATION_TOKEN"
#define TOKEN_FILE      "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
#define TOKEN_BYTES_MAX ((size_t)64 << 10)

bool s3_container_is_set(void)
{
    return text_variable(RELATIVE) != NULL || text_variable(FULL) != NULL;
}

static bool is_near_4(const char *host)
{
    struct in_addr address;
    in_addr_t number;

    if (inet_pton(AF_INET, host, &address) != 1)
        return false;
    number = ntohl(address.s_addr);
    return number >> 24 == 127 || number == 0xa9feaa02 /* 169.254.170.2 */ ||
           number == 0xa9feaa17 /* 169.254.170.23 */;
}

static bool is_near_6(const char *host)
{
    struct in6_addr address, eks;

    if (inet_pton(AF_INET6, host, &address) != 1 || inet_pton(AF_INET6, "fd00:ec2::23", &eks) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&address) || IN6_ARE_ADDR_EQUAL(&address, &eks);
}

/* Hosts that keys may come from unencrypted. Numbers and "localhost" only: a name could be made to
 * mean any address. */
static bool is_near(const char *host, size_t chars)
{
    char name[64];

    if (chars == 0 || chars >= sizeof name)
        return false;
    memcpy(name, host, chars);
    name[chars] = '\0';
    if (name[0] == '[' && name[chars - 1] == ']') {
        name[chars - 1] = '\0';
        return is_near_6(name + 1);
    }
    return strcasecmp(name, "localhost") == 0 || is_near_4(name);
}

static int check_full(const char *url, struct err *err)
{
    const bool https = strncasecmp(url, "https://", 8) == 0;
    const bool http = strncasecmp(url, "http://", 7) == 0;
    const char *host = url + (https ? 8 : 7), *end, *port;

    if (!(https || http) || !s3_keys_is_clean(url))
        return err_set(err, ERR_INPUT, FULL " is no http:// or https:// URL");
    end = host + strcspn(host, "/?#");
    /* Nothing in the authority that two readers of a URL might read in two ways. */
    if (host == end || strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789.-_:[]") < (size_t)(end - host))
        return err_set(err, ERR_INPUT, FULL " has no plain host name");
    port = host[0] == '[' ? memchr(host, ']', (size_t)(end - host)) : host;
    port = port != NULL ? memchr(port, ':', (size_t)(end - port)) : NULL;
    if (http && !is_near(host, (size_t)((port != NULL ? port : end) - host)))
        return err_set(err, ERR_INPUT,
                       FULL " is http to another host: only https may fetch keys from there "
                            "(http: localhost, 127.0.0.0/8, [::1], 169.254.170.2, 169.254.170.23, "
                            "[fd00:ec2::23])");
    return 0;
}

static int make_url(struct buf *url, struct err *err)
{
    const char *path = text_variable(RELATIVE);

    if (path == NULL) {
        buf_printf(url, "%s", text_variable(FULL));
        return check_full(text_variable(FULL), err);
    }
    if (path[0] != '/' || !s3_keys_is_clean(path))
        return err_set(err, ERR_INPUT, RELATIVE " must be a path that begins with '/'");
    buf_printf(url, "http://169.254.170.2%s", path);
    return 0;
}

/* The token becomes a header's value: a line break in it would be a header of somebody's choice.
 * The file is read at each fetch, since EKS writes a new one now and then. */
static int read_token(struct buf *token, struct err *err)
{
    const char *path = text_variable(TOKEN_FILE), *text = text_variable(TOKEN);
    const char *name = path != NULL ? TOKEN_FILE : TOKEN;

    if (path != NULL) {
        if (file_read(path, TOKEN_BYTES_MAX, token, err) < 0)
            return err_wrap(err, TOKEN_FILE);
        if (token->bytes == 0)
            return err_set(err, ERR_INPUT, TOKEN_FILE ": '%s' is empty", path);
    } else if (text != NULL) {
        buf_printf(token, "%s", text);
    }
    for (size_t i = 0; i < token->bytes; i++) {
        const unsigned char c = token->data[i];

        if (c == '\r' || c == '\n')
            return err_set(err, ERR_INPUT, "%s: the token has a line break, which no header may",
                           name);
        if (c < ' ' || c >= 127)
            return err_set(err, ERR_INPUT, "%s: the token has a byte that is no ASCII text", name);
    }
    return 0;
}

/* One try. 0; -1 with err, where ERR_NET is worth another one. */
static int fetch_once(struct s3_http *http, const char *url, const struct s3_container_pace *pace,
                      struct s3_keys *keys, struct err *err)
{
    const char *name = text_variable(RELATIVE) != NULL ? RELATIVE : FULL;
    struct buf token = {0};
    struct s3_http_answer answer = {0};
    struct s3_http_call call = {.method = "GET",
                                .url = url,
                                .connect_s = pace->timeout_s,
                                .total_s = pace->timeout_s,
                                .cancel = pace->cancel};
    struct s3_pair headers[2] = {{"Accept", "application/json"}};
    int rc = -1;

    if (read_token(&token, err) < 0)
        goto out;
    call.headers = headers;
    call.header_count = 1;
    if (token.bytes > 0)
        headers[call.header_count++] = (struct s3_pair){"Authorization", buf_text(&token)};
    if (s3_http_send(http, &call, &answer, err) < 0) {
        err_wrap(err, "%s", name);
        goto out;
    }
    if (answer.status == 200)
        rc = s3_keys_parse(keys, buf_text(&answer.body), answer.body.bytes,
                           "the container endpoint's answer", err);
    else
        err_set(err, answer.status == 429 || answer.status >= 500 ? ERR_NET : ERR_INPUT,
                "the container endpoint (%s) answered HTTP %d%s", name, answer.status,
                answer.status == 401 || answer.status == 403 ? ": is its token the right one?"
                                                             : "");
out:
    if (token.data != NULL)
        explicit_bzero(token.data, token.capacity);
    if (answer.body.data != NULL)
        explicit_bzero(answer.body.data, answer.body.capacity);
    buf_release(&token);
    s3_http_answer_release(&answer);
    return rc;
}

int s3_container_fetch(const struct s3_container_pace *pace, struct s3_keys *keys, struct err *err)
{
    struct s3_http *http = s3_http_new(&(struct s3_http_options){.no_proxy = true});
    struct buf url = {0};
    struct err why = {0};
    int rc = make_url(&url, &why);

    for (int try = 1; rc == 0; try++) {
        rc = fetch_once(http, buf_text(&url), pace, keys, &why);
        if (rc == 0 || why.code != ERR_NET || try == S3_CONTAINER_TRIES)
            break;
        rc =
            s3_backoff_wait(pace->pause_s, pace->cancel, NULL)
                ? 0
                : err_set(&why, ERR_STOPPED, "stopped while waiting to ask the container endpoint");
    }
    if (rc < 0 && err != NULL)
        *err = why;
    buf_release(&url);
    s3_http_free(http);
    return rc;
}
