#include "trainer/channels.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"

#define PREFIX "SM_CHANNEL_"

/* The next channel of the environment that is not empty: "NAME=VALUE"; NULL at the end. */
static const char *next_channel(size_t *at)
{
    const char *entry = NULL;

    while ((entry = environ[*at]) != NULL) {
        const char *const name = entry + strlen(PREFIX);

        ++*at;
        if (strncmp(entry, PREFIX, strlen(PREFIX)) == 0 && strcspn(name, "=") > 0 &&
            name[strcspn(name, "=")] == '=' && name[strcspn(name, "=") + 1] != '\0')
            return name;
    }
    return NULL;
}

static bool may_train(const char *name)
{
    static const char *const others[] = {"VALIDATION", "VALID", "VAL",       "TEST",
                                         "MODEL",      "CODE",  "SM_DRIVERS"};
    const size_t bytes = strcspn(name, "=");

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strlen(others[i]) == bytes && strncmp(others[i], name, bytes) == 0)
            return false;
    return true;
}

int train_channels_assign(struct option_set *set, struct err *err)
{
    const char *name = NULL, *only = NULL;
    char origin[160];
    size_t count = 0;

    if (option_text(set, "data") != NULL || option_text(set, "train") != NULL)
        return 0;
    for (size_t at = 0; (name = next_channel(&at)) != NULL;)
        if (may_train(name)) {
            only = name;
            count++;
        }
    if (only == NULL || count != 1)
        return 0;
    snprintf(origin, sizeof origin, "%s%.*s in the environment, the only channel", PREFIX,
             (int)strcspn(only, "="), only);
    return option_set_assign(set, "train", only + strcspn(only, "=") + 1, OPTION_ENVIRONMENT,
                             origin, err);
}

const char *train_channels_value(const char *name, size_t bytes)
{
    const char *entry = NULL;

    for (size_t at = 0; (entry = next_channel(&at)) != NULL;)
        if (strcspn(entry, "=") == bytes && strncasecmp(entry, name, bytes) == 0)
            return entry + bytes + 1;
    return NULL;
}

void train_channels_names(struct buf *out)
{
    const char *name = NULL;
    size_t count = 0;

    for (size_t at = 0; (name = next_channel(&at)) != NULL; count++) {
        buf_printf(out, "%s", count == 0 ? "" : ", ");
        for (size_t i = 0; name[i] != '='; i++)
            buf_printf(out, "%c", tolower((unsigned char)name[i]));
    }
}
