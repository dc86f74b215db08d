#include "s3io/credentials.h"

#include <stdlib.h>
#include <string.h>

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
