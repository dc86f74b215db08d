#include "base/text.h"

#include <errno.h>
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

bool text_number(const char *text, uint64_t *number)
{
    unsigned long long read;
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    read = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *number = read;
    return true;
}
