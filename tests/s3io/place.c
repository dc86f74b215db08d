#include "place.h"

#include <ftw.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"

extern char **environ;

static char folder[64];

static void forget_variables(void)
{
    static const char *const others[] = {"S3_ENDPOINT_URL", "CONVOY_SSE", "CONVOY_SSE_KMS_KEY_ID",
                                         "http_proxy",      "HTTP_PROXY", "https_proxy",
                                         "HTTPS_PROXY",     "all_proxy",  "ALL_PROXY",
                                         "no_proxy",        "NO_PROXY",   "XDG_STATE_HOME"};

    for (char **at = environ; *at != NULL;) {
        char name[128];
        const size_t n = strcspn(*at, "=");

        if (strncmp(*at, "AWS_", 4) != 0 || n >= sizeof name) {
            at++;
            continue;
        }
        memcpy(name, *at, n);
        name[n] = '\0';
        unsetenv(name); /* moves the others up */
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        unsetenv(others[i]);
}

void place_open(void)
{
    snprintf(folder, sizeof folder, "/tmp/convoy-place-XXXXXX");
    assert_non_null(mkdtemp(folder));
    forget_variables();
    setenv("HOME", folder, 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

void place_close(void)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *place_path(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

const char *place_write(const char *name, const char *text)
{
    const char *path = place_path(name);
    char parent[512];
    struct err err = {0};
    FILE *file;

    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (file_make_folder(parent, &err) < 0)
        fail_msg("%s", err.msg);
    file = fopen(path, "w"); /* without the syncs of file_replace: some tests write hundreds */
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0 && fclose(file) == 0);
    return path;
}

int place_setup(void **state)
{
    (void)state;
    place_open();
    setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", PLACE_SECRET, 1);
    return 0;
}

int place_teardown(void **state)
{
    (void)state;
    place_close();
    return 0;
}
