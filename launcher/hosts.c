#include "launcher/hosts.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
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

/* By name only: a name that resolves to this host in another way is refused, which costs the user a
 * word. */
static bool is_this_host(const char *name)
{
    static const char *const locals[] = {"localhost", "127.0.0.1", "::1"};
    char own[256] = "";
    const size_t bytes = strcspn(name, ".");

    for (size_t i = 0; i < sizeof locals / sizeof locals[0]; i++)
        if (strcmp(name, locals[i]) == 0)
            return true;
    gethostname(own, sizeof own - 1);
    return strcmp(name, own) == 0 || (strcspn(own, ".") == bytes && strncmp(name, own, bytes) == 0);
}

int launch_hosts_check(const struct launch_words *hosts, const char *source, struct err *err)
{
    struct buf list = {0};

    if (hosts->count == 0 || (hosts->count == 1 && is_this_host(hosts->at[0])))
        return 0;
    for (size_t i = 0; i < hosts->count; i++)
        buf_printf(&list, "%s%s", i == 0 ? "" : ",", hosts->at[i]);
    err_set(err, ERR_USAGE,
            "%s names %s; for now several hosts, or another one, need: mpirun --host %s convoy "
            "train ...",
            source, hosts->count == 1 ? "another host" : "several hosts", buf_text(&list));
    buf_release(&list);
    return -1;
}
