#include "trainer/failure.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/failure.h"
#include "base/log.h"

void train_failure_write(const char *prefix, const char *message)
{
    const char *const path = getenv("CONVOY_FAILURE");
    struct err err = {0};
    char *line = NULL;

    if (path == NULL || path[0] == '\0')
        return;
    if (asprintf(&line, "%s %s", prefix, message) < 0)
        abort();
    if (failure_write(path, line, NULL, &err) < 0)
        log_warn("CONVOY_FAILURE: %s", err.msg);
    free(line);
}
