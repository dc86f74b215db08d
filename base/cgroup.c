#include "base/cgroup.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"

#define LIST_BYTES_MAX 65536

struct walk {
    void (*visit)(void *context, const char *folder, bool version_2);
    void *context;
};

/* From mount/group up to mount itself. */
static void walk_up(const struct walk *walk, const char *mount, const char *group, bool version_2)
{
    const size_t root = strlen(mount);
    char *folder;

    if (asprintf(&folder, "%s%s", mount, group) < 0)
        abort();
    for (size_t end = strlen(folder); end >= root; end--) {
        if (end > root && folder[end] != '\0' && folder[end] != '/')
            continue;
        folder[end] = '\0';
        if (end == root || folder[end - 1] != '/') /* "/" is the root's own path */
            walk->visit(walk->context, folder, version_2);
    }
    free(folder);
}

/* Is it among "cpu,cpuacct"? */
static bool is_named(const char *names, size_t length, const char *controller)
{
    char list[256], word[64];

    snprintf(list, sizeof list, ",%.*s,", (int)length, names);
    snprintf(word, sizeof word, ",%s,", controller);
    return strstr(list, word) != NULL;
}

void cgroup_visit(const char *list, const char *mount, const char *controller,
                  void (*visit)(void *context, const char *folder, bool version_2), void *context)
{
    const struct walk walk = {visit, context};
    struct buf text = {0};
    char *rest, *line, *own;

    if (asprintf(&own, "%s/%s", mount, controller) < 0)
        abort();
    if (file_read(list, LIST_BYTES_MAX, &text, NULL) < 0)
        text.bytes = 0;
    rest = buf_text(&text);
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *const names = strchr(line, ':');
        char *const path = names == NULL ? NULL : strchr(names + 1, ':');

        if (path == NULL)
            continue;
        if (path == names + 1)
            walk_up(&walk, mount, path + 1, true);
        else if (is_named(names + 1, (size_t)(path - names - 1), controller))
            walk_up(&walk, own, path + 1, false);
    }
    buf_release(&text);
    free(own);
}
