#include "base/text.h"

#include <stdlib.h>
#include <string.h>

char *text_copy(const char *text)
{
    return text == NULL ? NULL : text_copy_bytes(text, strlen(text));
}

char *text_copy_bytes(const char *text, size_t bytes)
{
    char *const copy = strndup(text, bytes);

    if (copy == NULL)
        abort();
    return copy;
}

const char *text_variable(const char *name)
{
    const char *const value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}
