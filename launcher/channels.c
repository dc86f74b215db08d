#include "launcher/channels.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/uri.h"
#include "launcher/export.h"
#include "launcher/words.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define NAME_BYTES_MAX   64
#define CHANNELS_MAX     20 /* the platform's own limit */
#define FOLDERS_OPEN_MAX 16 /* of one look into a channel */

/* [A-Za-z0-9.\-_]{1,64}, and no way out of the folder. */
static bool is_name(const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";
    const size_t bytes = strlen(name);

    return bytes >= 1 && bytes <= NAME_BYTES_MAX && strspn(name, allowed) == bytes &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* What the user set for the channel: NULL where that is nothing, or only what we would set. */
static const char *own_value(const char *name, const char *path)
{
    char *const variable = launch_export_name("SM_CHANNEL_", name);
    const char *const value = getenv(variable);

    free(variable);
    return value == NULL || value[0] == '\0' || strcmp(value, path) == 0 ? NULL : value;
}

/* A text member that may be missing or null; `otherwise` then. */
static int read_text(const json_t *object, const char *key, const char *otherwise,
                     const char **value, const char *what, struct err *err)
{
    const json_t *const found = json_object_get(object, key);

    *value = otherwise;
    if (found == NULL || json_is_null(found))
        return 0;
    return json_read_string(object, key, value, what, err);
}

/* How a channel comes. */
struct kind {
    bool pipe;
    bool apart; /* each host has other objects of it */
};

/* The channel as its configuration has it. */
static int check_mode(const char *file, const char *name, const char *variable,
                      const json_t *channel, struct kind *kind, struct err *err)
{
    const char *mode = NULL, *distribution = NULL;

    *kind = (struct kind){0};
    if (!json_is_object(channel))
        return err_set(err, ERR_INPUT, "'%s': channel '%s' is no object", file, name);
    if (read_text(channel, "TrainingInputMode", "File", &mode, file, err) < 0 ||
        read_text(channel, "S3DistributionType", "FullyReplicated", &distribution, file, err) < 0)
        return err_wrap(err, "channel '%s'", name);
    kind->pipe = strcasecmp(mode, "Pipe") == 0;
    if (!kind->pipe && strcasecmp(mode, "File") != 0 && strcasecmp(mode, "FastFile") != 0)
        return err_set(err, ERR_INPUT,
                       "channel '%s' has TrainingInputMode %s in '%s', which is none: use File, "
                       "FastFile or Pipe, or give the s3:// URI of the data as %s in the job's "
                       "environment",
                       name, mode, file, variable);
    if (kind->pipe && strcasecmp(name, "model") == 0)
        return err_set(err, ERR_INPUT,
                       "channel '%s' has TrainingInputMode %s in '%s', but a stream is read for "
                       "pictures: use File or FastFile for it",
                       name, mode, file);
    kind->apart = strcasecmp(distribution, "ShardedByS3Key") == 0;
    if (kind->apart && strcasecmp(name, "model") == 0)
        return err_set(err, ERR_INPUT,
                       "channel '%s' has S3DistributionType ShardedByS3Key in '%s', but every host "
                       "needs the whole of it: use FullyReplicated",
                       name, file);
    return 0;
}

/* nftw's visitor: any file ends the walk, and so does a folder that this user may not look into. */
enum walked { WALKED_NOTHING, WALKED_FILE, WALKED_LOCKED };

static int look(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)path;
    (void)info;
    (void)place;
    switch (kind) {
    case FTW_F:
    case FTW_SL:
        return WALKED_FILE;
    case FTW_DNR:
    case FTW_NS:
        return WALKED_LOCKED;
    default:
        return WALKED_NOTHING;
    }
}

static int check_folder(const char *name, const char *path, struct err *err)
{
    int walked = 0;

    if (!file_is_folder(path))
        return err_set(err, ERR_INPUT, "channel '%s' has no folder '%s'", name, path);
    walked = nftw(path, look, FOLDERS_OPEN_MAX, FTW_PHYS);
    if (walked < 0)
        return err_set_errno(err, ERR_IO, errno, "channel '%s': cannot list '%s'", name, path);
    if (walked == WALKED_LOCKED)
        return err_set(
            err, ERR_INPUT,
            "channel '%s': user %u may not read a folder in '%s': give it the permission "
            "(chmod -R a+rX), or run as who may",
            name, (unsigned)geteuid(), path);
    if (walked == WALKED_NOTHING)
        return err_set(err, ERR_INPUT,
                       "channel '%s' is empty: there is no file in '%s'; is the S3 prefix of the "
                       "channel right?",
                       name, path);
    return 0;
}

/* Where the channels of a job are and what becomes of them. */
struct channels {
    const char *base, *file;
    json_t *folders;
    struct launch_words *pipes;
    struct buf *host_data; /* names of those of which each host has its own */
};

/* A channel in Pipe mode: the folder that its stream goes to; heap. Where the variable is set it
 * is to the usual path, as the training toolkit does: nothing is there. */
static char *add_pipe(const struct channels *channels, const char *name, const char *path,
                      const char *variable)
{
    const char *const own = getenv("CONVOY_SPOOL");
    char *const otherwise = uri_join(channels->base, "spool");
    char *const folder = uri_join(own != NULL && own[0] != '\0' ? own : otherwise, name);
    char *fifo = NULL;

    if (asprintf(&fifo, "%s_0", path) < 0)
        abort();
    launch_words_push(channels->pipes, fifo);
    launch_words_push(channels->pipes, folder);
    setenv(variable, folder, 1);
    free(fifo);
    free(otherwise);
    return folder;
}

static int add_channel(const struct channels *channels, const char *name, const json_t *channel,
                       struct err *err)
{
    char *const data = uri_join(channels->base, "input/data"), *path = uri_join(data, name),
                *const variable = launch_export_name("SM_CHANNEL_", name);
    const char *const own = own_value(name, path);
    struct kind kind = {0};
    int rc = 0;

    if (own == NULL && channel != NULL)
        rc = check_mode(channels->file, name, variable, channel, &kind, err);
    if (rc == 0 && kind.pipe) {
        char *const folder = add_pipe(channels, name, path, variable);

        free(path);
        path = folder;
    } else if (rc == 0 && own == NULL && !kind.apart) {
        rc = check_folder(name, path, err);
    }
    if (rc == 0 && kind.apart) /* what a host has no part of is no channel that was forgotten */
        buf_printf(channels->host_data, "%s%s", channels->host_data->bytes > 0 ? "," : "", name);
    if (rc == 0) {
        launch_export(variable, path);
        json_object_set_new(channels->folders, name, json_string(own != NULL ? own : path));
    }
    free(variable);
    free(path);
    free(data);
    return rc;
}

/* Those that the platform names. */
static int add_configured(const struct channels *channels, json_t *config, struct err *err)
{
    const char *const file = channels->file;
    const char *name = NULL;
    json_t *channel = NULL;

    if (!json_is_object(config))
        return err_set(err, ERR_INPUT, "'%s' is no object of channels", file);
    if (json_object_size(config) > CHANNELS_MAX)
        return err_set(err, ERR_INPUT, "'%s' has %zu channels, more than %d", file,
                       json_object_size(config), CHANNELS_MAX);
    json_object_foreach(config, name, channel)
    {
        if (!is_name(name))
            return err_set(err, ERR_INPUT, "'%s': '%s' can be no channel's name", file, name);
        if (add_channel(channels, name, channel, err) < 0)
            return -1;
    }
    return 0;
}

/* Folders that it does not name: a tree that was made by hand. */
static int add_found(const struct channels *channels, struct err *err)
{
    char *const data = uri_join(channels->base, "input/data");
    DIR *const dir = opendir(data);
    const struct dirent *entry = NULL;
    int rc = 0;

    while (rc == 0 && dir != NULL && (entry = readdir(dir)) != NULL) {
        char *const path = uri_join(data, entry->d_name);

        if (entry->d_name[0] != '.' && is_name(entry->d_name) && file_is_folder(path) &&
            json_object_get(channels->folders, entry->d_name) == NULL)
            rc = add_channel(channels, entry->d_name, NULL, err);
        free(path);
    }
    if (dir != NULL)
        closedir(dir);
    free(data);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* SM_CHANNELS is a sorted list. */
static void export_names(json_t *folders)
{
    const size_t count = json_object_size(folders);
    const char **const names = calloc(count + 1, sizeof *names), *name = NULL;
    json_t *const list = json_array(), *path = NULL;
    size_t at = 0;

    if (names == NULL)
        abort();
    json_object_foreach(folders, name, path) names[at++] = name;
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(names[i]));
    launch_export_json("SM_CHANNELS", list);
    json_decref(list);
    free(names);
}

int launch_channels_export(const char *base, json_t *folders, struct launch_words *pipes,
                           struct err *err)
{
    char *const file = uri_join(base, "input/config/inputdataconfig.json");
    struct buf host_data = {0};
    const struct channels channels = {
        .base = base, .file = file, .folders = folders, .pipes = pipes, .host_data = &host_data};
    json_t *config = NULL;
    int rc = -1;

    if (file_exists(file))
        config = json_read_file(file, CONFIG_BYTES_MAX, err);
    else
        config = json_object();
    if (config == NULL || add_configured(&channels, config, err) < 0 ||
        add_found(&channels, err) < 0)
        goto out;
    launch_export_json("SM_INPUT_DATA_CONFIG", config);
    export_names(folders);
    if (host_data.bytes > 0)
        launch_export("CONVOY_HOST_DATA", buf_text(&host_data));
    rc = 0;
out:
    buf_release(&host_data);
    json_decref(config);
    free(file);
    return rc;
}
