#include "launcher/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

void launch_export(const char *name, const char *value)
{
    const char *const there = getenv(name);

    if (value == NULL || (there != NULL && there[0] != '\0'))
        return;
    if (strlen(name) + strlen(value) > LAUNCH_EXPORT_BYTES_MAX)
        log_warn("%.80s is longer than a variable of the environment can be: it is left out", name);
    else if (setenv(name, value, 1) < 0)
        log_warn("'%.80s' can be no variable of the environment: it is left out", name);
}

void launch_export_json(const char *name, const json_t *value)
{
    char *const text =
        json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);

    launch_export(name, text);
    free(text);
}

char *launch_export_name(const char *prefix, const char *name)
{
    char *out = NULL;

    if (asprintf(&out, "%s%s", prefix, name) < 0)
        abort();
    for (char *c = out + strlen(prefix); *c != '\0'; c++)
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    return out;
}
