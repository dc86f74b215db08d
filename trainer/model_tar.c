/* trainer/model_tar.c -- a model as SageMaker keeps it: a tar of the model folder, most often
 * compressed by gzip. */
#include <string.h>

#include "base/err.h"
#include "trainer/model_dir.h"
#include "trainer/weights/packed.h"
#include "trainer/weights_source.h"

struct wanted {
    const char *name;
    size_t bytes_max;
    struct buf *content;
};

/* The file that a path in the tar is, or NULL. */
static const struct wanted *find(const struct wanted *wanted, size_t count, const char *path)
{
    const char *const slash = strrchr(path, '/');

    for (size_t i = 0; i < count; i++)
        if (strcmp(slash != NULL ? slash + 1 : path, wanted[i].name) == 0)
            return &wanted[i];
    return NULL;
}

static int take(struct weights_walk *walk, const struct weights_member *member,
                const struct wanted *file, const char *path, struct err *err)
{
    if (file->content->bytes > 0)
        return err_set(err, ERR_INPUT, "'%s' has more than one %s", path, file->name);
    if (member->bytes > file->bytes_max)
        return err_set(err, ERR_INPUT, "%s in '%s' has %zu MB: more than %zu are refused",
                       file->name, path, member->bytes / 1000000, file->bytes_max / 1000000);
    return weights_walk_take(walk, file->content, err);
}

static int take_all(struct weights_walk *walk, const struct wanted *wanted, size_t count,
                    const char *path, struct err *err)
{
    struct weights_member member;
    int rc;

    while ((rc = weights_walk_next(walk, &member, err)) > 0) {
        const struct wanted *const file = find(wanted, count, member.path);

        if (file != NULL && take(walk, &member, file, path, err) < 0)
            return -1;
    }
    return rc;
}

static int check_all(const struct wanted *wanted, size_t count, const char *path, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        if (wanted[i].content->bytes == 0)
            return err_set(err, ERR_INPUT, "'%s' holds no model that 'convoy train' left: no %s",
                           path, wanted[i].name);
    return 0;
}

int train_model_tar_read(const struct buf *tar, const char *path, struct train_model_files *files,
                         struct err *err)
{
    const struct wanted wanted[] = {
        {"config.json", TRAIN_MODEL_CONFIG_BYTES_MAX, &files->config},
        {"class_labels.json", TRAIN_MODEL_LABELS_BYTES_MAX, &files->labels},
        {"model.safetensors", TRAIN_WEIGHTS_BYTES_MAX, &files->weights},
    };
    const size_t count = sizeof wanted / sizeof wanted[0];
    struct weights_packed packed = {.bytes = tar->data, .count = tar->bytes, .path = path};
    struct weights_walk *walk = NULL;
    int rc;

    if (train_weights_room(&packed.bytes_max, err) < 0)
        return -1;
    walk = weights_walk_open(&packed);
    rc = take_all(walk, wanted, count, path, err);
    weights_walk_close(walk);
    if (rc < 0)
        return -1;
    if (check_all(wanted, count, path, err) == 0)
        return 1;
    return files->config.bytes == 0 ? 0 : -1;
}
