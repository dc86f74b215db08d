/* tests/s3io/fuzz_ini.c -- fuzz target: any bytes as ~/.aws/config and ~/.aws/credentials, read and
 * asked for what the client asks for; a credential_process that is found is cut into words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "mutate.h"
#include "s3io/config.h"
#include "s3io/ini.h"
#include "s3io/process.h"
#include "s3io/role.h"
#include "s3io/web_identity.h"

/* What must hold, also where assert is off. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

static void ask(const struct s3_ini *files, const char *profile)
{
    struct s3_role role;
    struct s3_web_identity identity;
    struct s3_ini_value value;
    struct err err = {0};

    if (s3_role_read(&role, files, profile, &err) == 1)
        must((role.source_profile.text == NULL) != (role.credential_source.text == NULL));
    s3_web_identity_read(&identity, files, profile, false, &err);
    if (s3_ini_find_profile(files, profile, "credential_process", &value)) {
        char **words = s3_process_words(value.whole, &err);

        must(strlen(value.text) <= strlen(value.whole));
        for (char **word = words; word != NULL && *word != NULL; word++)
            must(strlen(*word) <= strlen(value.whole));
        s3_process_words_free(words);
    }
}

static void read_both(const char *path, const char *other)
{
    struct s3_config config;
    struct s3_ini *files;
    struct err err = {0};

    setenv("AWS_CONFIG_FILE", path, 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", other, 1);
    files = s3_ini_read(&err);
    must((files == NULL) == (err.code != ERR_NONE) && strchr(err.msg, '\n') == NULL);
    if (files != NULL) {
        ask(files, "default");
        ask(files, "p");
    }
    s3_ini_free(files);
    if (s3_config_read(&config, NULL, &err) == 0)
        s3_config_release(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct file_new file = {.fd = -1};
    struct err err = {0};
    char path[64];

    must(file_new_open_memory(&file, "settings", &err) == 0 &&
         file_new_write(&file, data, bytes, &err) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file.fd);
    read_both(path, "/nonexistent");
    read_both("/nonexistent", path);
    file_new_release(&file);
    return 0;
}
