#include "launcher/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "launcher/network.h"
#include "launcher/sagemaker.h"
#include "launcher/words.h"

#define HOSTFILE_BYTES_MAX ((size_t)1 << 20)

/* Twice the same name is one host. */
static void push_once(struct launch_words *hosts, const char *name)
{
    for (size_t i = 0; i < hosts->count; i++)
        if (strcmp(hosts->at[i], name) == 0)
            return;
    launch_words_push(hosts, name);
}

int launch_hosts_from_list(struct launch_words *hosts, const char *list, struct err *err)
{
    char *copy = strdup(list), *rest = copy, *name;
    int rc = 0;

    if (copy == NULL)
        abort();
    while (rc == 0 && (name = strsep(&rest, ",")) != NULL) {
        name += strspn(name, " ");
        name[strcspn(name, " ")] = '\0';
        if (name[0] == '\0')
            rc = err_set(err, ERR_USAGE, "'%s' has an empty host name", list);
        else
            push_once(hosts, name);
    }
    free(copy);
    return rc;
}

int launch_hosts_from_file(struct launch_words *hosts, const char *path, struct err *err)
{
    struct buf text = {0};
    char *rest, *line;
    int rc = -1;

    if (file_read(path, HOSTFILE_BYTES_MAX, &text, err) < 0)
        goto out;
    rest = buf_text(&text);
    while ((line = strsep(&rest, "\n")) != NULL) {
        line[strcspn(line, "#")] = '\0';
        line += strspn(line, " \t\r");
        line[strcspn(line, " \t\r")] = '\0';
        if (line[0] != '\0')
            push_once(hosts, line);
    }
    rc = hosts->count > 0 ? 0 : err_set(err, ERR_USAGE, "'%s' names no host", path);
out:
    buf_release(&text);
    return rc;
}

int launch_hosts_from_json(struct launch_words *hosts, const char *json, struct err *err)
{
    json_t *tree = json_read_text(json, strlen(json), "SM_HOSTS", err);
    const json_t *entry;
    size_t i;
    int rc = 0;

    if (tree == NULL)
        return -1;
    if (!json_is_array(tree) || json_array_size(tree) == 0)
        rc = err_set(err, ERR_USAGE, "SM_HOSTS is not a list of host names: %s", json);
    json_array_foreach(tree, i, entry)
    {
        if (json_is_string(entry))
            push_once(hosts, json_string_value(entry));
        else
            rc = err_set(err, ERR_USAGE, "SM_HOSTS is not a list of host names: %s", json);
    }
    json_decref(tree);
    return rc;
}

/* By name, or by an address that a network card of ours has; names are not looked up, since name
 * servers may be slow. A host that we do not know again is reached over ssh, which works too. */
static bool is_this_host(const char *name)
{
    char own[256] = "";
    const size_t bytes = strcspn(name, ".");

    if (strcmp(name, "localhost") == 0 || launch_network_is_own(name))
        return true;
    gethostname(own, sizeof own - 1);
    return strcmp(name, own) == 0 || (strcspn(own, ".") == bytes && strncmp(name, own, bytes) == 0);
}

/* A name goes to ssh and mpirun as a word of theirs. */
static int check_name(const char *name, const char *source, struct err *err)
{
    const size_t good = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789._-");

    if (name[good] == ':')
        return err_set(err, ERR_USAGE, "%s: '%s': the number of ranks comes from --ranks-per-host",
                       source, name);
    if (name[good] == '@')
        return err_set(
            err, ERR_USAGE,
            "%s: '%s': give the host's name alone; the user's belongs into ~/.ssh/config", source,
            name);
    if (name[good] != '\0' || name[0] == '-' || name[0] == '\0')
        return err_set(err, ERR_USAGE, "%s: '%s' is not a host's name", source, name);
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A list for hosts that each run us: all must number them alike. */
static int find_sorted(struct launch_hosts *hosts, const char *current, const char *source,
                       struct err *err)
{
    hosts->kind = LAUNCH_HOSTS_EACH;
    qsort(hosts->names.at, hosts->names.count, sizeof hosts->names.at[0], by_text);
    hosts->own = -1;
    for (size_t i = 0; i < hosts->names.count; i++)
        if (strcmp(hosts->names.at[i], current) == 0)
            hosts->own = (int)i;
    return hosts->own >= 0
               ? 0
               : err_set(err, ERR_INPUT, "%s does not name this host, '%s'", source, current);
}

static int find_in_environment(struct launch_hosts *hosts, struct err *err)
{
    const char *list = getenv("SM_HOSTS"), *current = getenv("SM_CURRENT_HOST");

    if (list == NULL || list[0] == '\0')
        return 0;
    if (launch_hosts_from_json(&hosts->names, list, err) < 0)
        return -1;
    if (hosts->names.count == 1) /* the platform knows best what it calls this host */
        return 0;
    if (current == NULL || current[0] == '\0')
        return err_set(err, ERR_USAGE,
                       "SM_HOSTS names several hosts, but neither SM_CURRENT_HOST nor "
                       "resourceconfig.json says which of them this is");
    return find_sorted(hosts, current, "SM_HOSTS", err);
}

static int find_in_options(struct launch_hosts *hosts, const struct launch_hosts_options *options,
                           struct err *err)
{
    const char *source = options->list != NULL ? "--hosts" : "--hostfile";
    const int rc = options->list != NULL
                       ? launch_hosts_from_list(&hosts->names, options->list, err)
                       : launch_hosts_from_file(&hosts->names, options->file, err);

    if (rc < 0)
        return err_wrap(err, "%s", source);
    hosts->kind = LAUNCH_HOSTS_SSH;
    hosts->own = -1;
    for (size_t i = 0; i < hosts->names.count; i++) {
        if (check_name(hosts->names.at[i], source, err) < 0)
            return -1;
        if (!is_this_host(hosts->names.at[i]))
            continue;
        if (hosts->own >= 0)
            return err_set(err, ERR_USAGE, "%s: '%s' and '%s' are both this host", source,
                           hosts->names.at[hosts->own], hosts->names.at[i]);
        hosts->own = (int)i;
    }
    return 0;
}

int launch_hosts_find(struct launch_hosts *hosts, const struct launch_hosts_options *options,
                      struct err *err)
{
    const struct launch_sagemaker *sagemaker = options->sagemaker;
    int rc = 0;

    *hosts = (struct launch_hosts){.kind = LAUNCH_HOSTS_ONE};
    if (options->list != NULL || options->file != NULL) {
        rc = find_in_options(hosts, options, err);
    } else if (sagemaker != NULL && sagemaker->current != NULL) {
        launch_words_push_all(&hosts->names, &sagemaker->hosts);
        rc = find_sorted(hosts, sagemaker->current, "resourceconfig.json", err);
    } else {
        rc = find_in_environment(hosts, err);
    }
    for (size_t i = 0; rc == 0 && i < hosts->names.count; i++)
        rc = check_name(hosts->names.at[i], "SM_HOSTS", err);
    if (rc == 0 && hosts->names.count == 0)
        launch_words_push(&hosts->names, "localhost");
    if (rc == 0 && hosts->names.count == 1 && hosts->own == 0)
        hosts->kind = LAUNCH_HOSTS_ONE;
    return rc;
}

bool launch_hosts_several(const struct launch_hosts *hosts)
{
    return hosts->kind != LAUNCH_HOSTS_ONE;
}

void launch_hosts_release(struct launch_hosts *hosts)
{
    launch_words_release(&hosts->names);
    *hosts = (struct launch_hosts){0};
}
