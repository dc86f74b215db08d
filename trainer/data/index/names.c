#include "trainer/data/index/names.h"

#include <stdlib.h>

#include "base/text.h"

char **data_names_copy(char *const *names, size_t count)
{
    char **const copies = calloc(count + 1, sizeof *copies);

    if (copies == NULL)
        abort();
    for (size_t i = 0; i < count; i++)
        copies[i] = text_copy(names[i]);
    return copies;
}

void data_names_free(char **names, size_t count)
{
    for (size_t i = 0; names != NULL && i < count; i++)
        free(names[i]);
    free(names);
}
