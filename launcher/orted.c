#include "launcher/orted.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"

char *launch_orted_find(const char *name)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path == NULL ? "/usr/bin:/bin" : path), *rest = copy, *folder,
         *found = NULL;

    if (copy == NULL)
        abort();
    while (found == NULL && (folder = strsep(&rest, ":")) != NULL) {
        if (asprintf(&found, "%s/%s", folder[0] == '\0' ? "." : folder, name) < 0)
            abort();
        if (access(found, X_OK) != 0) {
            free(found);
            found = NULL;
        }
    }
    free(copy);
    return found;
}

static bool is_assignment(const char *word)
{
    const size_t name =
        strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");

    return name > 0 && word[name] == '=';
}

/* The index of the first word that is none of "NAME=VALUE", "export NAME", ";". */
static size_t skip_settings(const struct launch_words *words)
{
    size_t at = 0;

    while (at < words->count) {
        if (is_assignment(words->at[at]) || strcmp(words->at[at], ";") == 0)
            at++;
        else if (strcmp(words->at[at], "export") == 0 && at + 1 < words->count)
            at += 2;
        else
            break;
    }
    return at;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static int push_program(struct launch_words *words, const char *named, struct err *err)
{
    char *found = launch_orted_find("orted");

    if (found == NULL && named[0] == '/' && access(named, X_OK) == 0)
        found = strdup(named);
    if (found == NULL)
        return err_set(err, ERR_IO,
                       "cannot find orted, which starts the ranks: install Open MPI (apt-get "
                       "install openmpi-bin), or put its folder into PATH");
    launch_words_push(words, found);
    free(found);
    return 0;
}

int launch_orted_words(const struct launch_words *came, const char *agent,
                       struct launch_words *words, struct err *err)
{
    struct launch_words split = {0};
    struct buf line = {0};
    size_t at;
    int rc = -1;

    for (size_t i = 0; i < came->count; i++)
        buf_printf(&line, "%s ", came->at[i]);
    if (launch_words_push_line(&split, buf_text(&line), err) < 0) {
        err->code = ERR_INPUT;
        goto out;
    }
    at = skip_settings(&split);
    if (at == split.count || strcmp(base_name(split.at[at]), "orted") != 0) {
        err_set(err, ERR_INPUT, "refused to run '%.100s': a host runs nothing but orted",
                at < split.count ? split.at[at] : "");
        goto out;
    }
    if (push_program(words, split.at[at], err) < 0)
        goto out;
    for (at++; at < split.count; at++) {
        if (strcmp(split.at[at], "--daemonize") == 0)
            continue;
        launch_words_push(words, split.at[at]);
        if (strcmp(split.at[at], "plm_rsh_agent") == 0 && at + 1 < split.count) {
            launch_words_push(words, agent);
            at++;
        }
    }
    rc = 0;
out:
    launch_words_release(&split);
    buf_release(&line);
    return rc;
}
