/* tests/fuzz/sagemaker.c -- any bytes as one of the files that SageMaker describes a job by; the
 * first byte says which. What follows from it are variables with names and values that they can
 * have. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "fuzz.h"
#include "launcher/export.h"
#include "launcher/sagemaker.h"

#define VARIABLES_MAX 512

static const struct {
    const char *name, *text; /* as it is where another one is looked at */
} files[] = {
    {"input/config/resourceconfig.json",
     "{\"current_host\":\"algo-1\",\"hosts\":[\"algo-2\",\"algo-1\"],"
     "\"network_interface_name\":\"eth0\"}"},
    {"input/config/inputdataconfig.json",
     "{\"training\":{\"TrainingInputMode\":\"File\",\"S3DistributionType\":\"FullyReplicated\","
     "\"RecordWrapperType\":\"None\"}}"},
    {"input/config/hyperparameters.json", "{\"epochs\":\"2\"}"},
    {"input/config/checkpointconfig.json", "{\"LocalPath\":\"/opt/ml/checkpoints\"}"},
};

#define FILES (sizeof files / sizeof files[0])

/* The environment of a run: in place of the process's own, which would keep every value for ever
 * (ld's --wrap). */
static struct {
    char *name, *value;
} variables[VARIABLES_MAX];
static size_t variable_count;

int __wrap_setenv(const char *name, const char *value, int overwrite);
char *__wrap_getenv(const char *name);
char *__real_getenv(const char *name);

/* Where who runs the target has folders removed is no variable of the job's. */
char *__wrap_getenv(const char *name)
{
    if (strcmp(name, "TMPDIR") == 0)
        return __real_getenv(name);
    for (size_t i = 0; i < variable_count; i++)
        if (strcmp(variables[i].name, name) == 0)
            return variables[i].value;
    return NULL;
}

int __wrap_setenv(const char *name, const char *value, int overwrite)
{
    size_t i = 0;

    if (name[0] == '\0' || strchr(name, '=') != NULL) /* as POSIX has it */
        return -1;
    fuzz_must(strlen(name) + strlen(value) <= LAUNCH_EXPORT_BYTES_MAX);
    while (i < variable_count && strcmp(variables[i].name, name) != 0)
        i++;
    if (i < variable_count && !overwrite)
        return 0;
    if (i == VARIABLES_MAX)
        return 0;
    if (i == variable_count)
        variables[variable_count++].name = strdup(name);
    else
        free(variables[i].value);
    variables[i].value = strdup(value);
    return 0;
}

static void variables_clear(void)
{
    while (variable_count > 0) {
        variable_count--;
        free(variables[variable_count].name);
        free(variables[variable_count].value);
    }
}

static const char *tree_make(void)
{
    const char *const base = fuzz_folder(), *const root = __real_getenv("TMPDIR");
    char path[600];
    struct err err = {0};

    log_init("", true);
    fuzz_must(root == NULL || strncmp(base, root, strlen(root)) == 0);
    snprintf(path, sizeof path, "%s/input/config", base);
    fuzz_must(file_make_folder(path, &err) == 0);
    snprintf(path, sizeof path, "%s/input/data/training", base);
    fuzz_must(file_make_folder(path, &err) == 0);
    return base;
}

static void check(const struct launch_sagemaker *sagemaker)
{
    const struct launch_words *const hosts = &sagemaker->hosts;
    bool own = false;

    if (sagemaker->current == NULL)
        abort();
    fuzz_must(sagemaker->active && hosts->count > 0);
    for (size_t i = 0; i < hosts->count; i++) {
        own |= strcmp(hosts->at[i], sagemaker->current) == 0;
        fuzz_must(i == 0 || strcmp(hosts->at[i - 1], hosts->at[i]) < 0);
        fuzz_must(hosts->at[i][0] != '-' && strpbrk(hosts->at[i], ", \t\n:") == NULL);
    }
    fuzz_must(own && sagemaker->pipes.count % 2 == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *base;
    struct launch_sagemaker sagemaker = {0};
    struct err err = {0};
    int rc;

    if (bytes == 0)
        return 0;
    if (base == NULL)
        base = tree_make();
    for (size_t i = 0; i < FILES; i++)
        if (i == data[0] % FILES)
            fuzz_write(base, files[i].name, data + 1, bytes - 1);
        else
            fuzz_write(base, files[i].name, files[i].text, strlen(files[i].text));
    __wrap_setenv("SAGEMAKER_BASE_DIR", base, 1);
    rc = launch_sagemaker_read(&sagemaker, &err);
    fuzz_must_say(rc, &err, FUZZ_INPUT | FUZZ_CODE(ERR_USAGE)); /* a host's name */
    if (rc == 0)
        check(&sagemaker);
    launch_sagemaker_release(&sagemaker);
    variables_clear();
    return 0;
}
