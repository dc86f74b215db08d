#include "s3io/keys.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/json.h"

static char *copy(const char *text)
{
    char *out = text != NULL ? strdup(text) : NULL;

    if (text != NULL && out == NULL)
        abort();
    return out;
}

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
    *to = (struct s3_keys){.access_key = copy(from->access_key),
                           .secret_key = copy(from->secret_key),
                           .token = copy(from->token),
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

static int take(struct s3_keys *keys, const json_t *tree, const char *what, struct err *err)
{
    const char *code = json_string_value(json_object_get(tree, "Code"));
    const char *access_key = json_string_value(json_object_get(tree, "AccessKeyId"));
    const char *secret_key = json_string_value(json_object_get(tree, "SecretAccessKey"));
    const char *token = json_string_value(json_object_get(tree, "Token"));
    const char *expires = json_string_value(json_object_get(tree, "Expiration"));
    double expires_s = 0;

    if (code != NULL && strcmp(code, "Success") != 0)
        return err_set(err, ERR_INPUT, "%s has another Code than Success", what);
    if (access_key == NULL || secret_key == NULL)
        return err_set(err, ERR_INPUT, "%s has no %s", what,
                       access_key == NULL ? "AccessKeyId" : "SecretAccessKey");
    if (!s3_keys_is_clean(access_key) || !s3_keys_is_clean(secret_key) ||
        (token != NULL && token[0] != '\0' && !s3_keys_is_clean(token)))
        return err_set(err, ERR_INPUT,
                       "%s has an empty key, or one with white space or control characters", what);
    if (expires != NULL && s3_keys_parse_time(expires, &expires_s) < 0)
        return err_set(err, ERR_INPUT, "%s has an Expiration that is no time", what);
    *keys = (struct s3_keys){.access_key = copy(access_key),
                             .secret_key = copy(secret_key),
                             .token = token != NULL && token[0] != '\0' ? copy(token) : NULL,
                             .expires_s = expires_s};
    return 0;
}

int s3_keys_parse(struct s3_keys *keys, const char *text, size_t bytes, const char *what,
                  struct err *err)
{
    json_t *tree = json_read_text(text, bytes, what, NULL); /* its message would quote the answer */
    int rc;

    if (json_is_object(tree))
        rc = take(keys, tree, what, err);
    else
        rc = err_set(err, ERR_INPUT, "%s is no JSON object", what);
    json_decref(tree);
    return rc;
}
