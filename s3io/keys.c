#include "s3io/keys.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"

static void wipe(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

void s3_keys_release(struct s3_keys *keys)
{
    if (keys == NULL)
        return;
    wipe(keys->access_key);
    wipe(keys->secret_key);
    wipe(keys->token);
    *keys = (struct s3_keys){0};
}

void s3_keys_copy(struct s3_keys *to, const struct s3_keys *from)
{
    *to = (struct s3_keys){.access_key = text_copy(from->access_key),
                           .secret_key = text_copy(from->secret_key),
                           .token = text_copy(from->token),
                           .expires_s = from->expires_s};
}

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool s3_keys_equal(const struct s3_keys *a, const struct s3_keys *b)
{
    return is_same(a->access_key, b->access_key) && is_same(a->secret_key, b->secret_key) &&
           is_same(a->token, b->token);
}

bool s3_keys_is_clean(const char *text)
{
    const char *c = text;

    while (*c > ' ' && *c < 127)
        c++;
    return *c == '\0' && c > text;
}

/* `count` digits at *at, which moves behind them; -1: there are none. */
static int digits(const char **at, int count)
{
    int value = 0;

    for (int i = 0; i < count; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return -1;
        value = value * 10 + (**at - '0');
    }
    return value;
}

static bool passes(const char **at, const char *marks)
{
    if (**at == '\0' || strchr(marks, **at) == NULL)
        return false;
    (*at)++;
    return true;
}

/* "Z" or "+01:00": what is to be taken off the time before it. */
static bool parse_zone(const char *at, double *ahead_s)
{
    const int sign = *at == '-' ? -1 : 1;
    int hours, minutes;

    *ahead_s = 0;
    if (passes(&at, "Zz"))
        return *at == '\0';
    if (!passes(&at, "+-") || (hours = digits(&at, 2)) < 0 || hours > 23 || !passes(&at, ":") ||
        (minutes = digits(&at, 2)) < 0 || minutes > 59)
        return false;
    *ahead_s = sign * (hours * 3600.0 + minutes * 60.0);
    return *at == '\0';
}

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

int s3_keys_parse_time(const char *text, double *seconds)
{
    const char *at = text;
    int year, month;
    struct tm utc = {0};
    double ahead_s, part_s = 0;

    if ((year = digits(&at, 4)) < 1970 || !passes(&at, "-") || (month = digits(&at, 2)) < 1 ||
        month > 12 || !passes(&at, "-") || (utc.tm_mday = digits(&at, 2)) < 1 ||
        utc.tm_mday > days_in(year, month) || !passes(&at, "Tt ") ||
        (utc.tm_hour = digits(&at, 2)) < 0 || utc.tm_hour > 23 || !passes(&at, ":") ||
        (utc.tm_min = digits(&at, 2)) < 0 || utc.tm_min > 59 || !passes(&at, ":") ||
        (utc.tm_sec = digits(&at, 2)) < 0 || utc.tm_sec > 60)
        return -1;
    if (passes(&at, ".")) {
        double place = 0.1;

        if (!isdigit((unsigned char)*at))
            return -1;
        for (; isdigit((unsigned char)*at); at++, place /= 10)
            part_s += place * (*at - '0');
    }
    if (!parse_zone(at, &ahead_s))
        return -1;
    utc.tm_year = year - 1900;
    utc.tm_mon = month - 1;
    *seconds = (double)timegm(&utc) + part_s - ahead_s;
    return 0;
}

int s3_keys_take(struct s3_keys *keys, const struct s3_keys_text *text, const char *what,
                 struct err *err)
{
    const char *token = text->token != NULL && text->token[0] != '\0' ? text->token : NULL;
    double expires_s = 0;

    if (text->access_key == NULL || text->secret_key == NULL)
        return err_set(err, ERR_INPUT, "%s has no %s", what,
                       text->access_key == NULL ? "AccessKeyId" : "SecretAccessKey");
    if (!s3_keys_is_clean(text->access_key) || !s3_keys_is_clean(text->secret_key) ||
        (token != NULL && !s3_keys_is_clean(token)))
        return err_set(err, ERR_INPUT,
                       "%s has an empty key, or one with white space or control characters", what);
    if (text->expires != NULL && s3_keys_parse_time(text->expires, &expires_s) < 0)
        return err_set(err, ERR_INPUT, "%s has an Expiration that is no time", what);
    *keys = (struct s3_keys){.access_key = text_copy(text->access_key),
                             .secret_key = text_copy(text->secret_key),
                             .token = text_copy(token),
                             .expires_s = expires_s};
    return 0;
}

/* A member that may be missing or null, and else must be a text. */
static int read_text(const json_t *tree, const char *name, const char **text, const char *what,
                     struct err *err)
{
    const json_t *member = json_object_get(tree, name);

    if (member != NULL && !json_is_string(member) && !json_is_null(member))
        return err_set(err, ERR_INPUT, "%s has a member %s that is no text", what, name);
    *text = json_string_value(member);
    return 0;
}

static int take(struct s3_keys *keys, const json_t *tree, const char *token, const char *what,
                struct err *err)
{
    struct s3_keys_text text;

    if (read_text(tree, "AccessKeyId", &text.access_key, what, err) < 0 ||
        read_text(tree, "SecretAccessKey", &text.secret_key, what, err) < 0 ||
        read_text(tree, token, &text.token, what, err) < 0 ||
        read_text(tree, "Expiration", &text.expires, what, err) < 0)
        return -1;
    return s3_keys_take(keys, &text, what, err);
}

/* NULL: err set. The parser's own message would quote the text. */
static json_t *read_object(const char *text, size_t bytes, const char *what, struct err *err)
{
    json_t *tree = json_read_text(text, bytes, what, NULL);

    if (json_is_object(tree))
        return tree;
    json_decref(tree);
    err_set(err, ERR_INPUT, "%s is no JSON object", what);
    return NULL;
}

int s3_keys_parse(struct s3_keys *keys, const char *text, size_t bytes, const char *what,
                  struct err *err)
{
    json_t *tree = read_object(text, bytes, what, err);
    const char *code = json_string_value(json_object_get(tree, "Code"));
    int rc = -1;

    if (tree == NULL)
        return -1;
    if (code != NULL && strcmp(code, "Success") != 0)
        err_set(err, ERR_INPUT, "%s has another Code than Success", what);
    else
        rc = take(keys, tree, "Token", what, err);
    json_decref(tree);
    return rc;
}

int s3_keys_parse_process(struct s3_keys *keys, const char *text, size_t bytes, const char *what,
                          struct err *err)
{
    json_t *tree = read_object(text, bytes, what, err);
    const json_t *version = json_object_get(tree, "Version");
    int rc = -1;

    if (tree == NULL)
        return -1;
    if (!json_is_integer(version) || json_integer_value(version) != 1)
        err_set(err, ERR_INPUT, "%s has %s, where 1 is the only one known", what,
                version == NULL ? "no Version" : "another Version");
    else
        rc = take(keys, tree, "SessionToken", what, err);
    json_decref(tree);
    return rc;
}
