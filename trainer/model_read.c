/* trainer/model_read.c -- model_dir.h's reader. Nothing in the files is believed. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/checkpoint/place.h"
#include "trainer/data/index/place.h"
#include "trainer/data/picture/transform_text.h"
#include "trainer/host_memory.h"
#include "trainer/model_dir.h"
#include "trainer/nn/model.h"
#include "trainer/tensors.h"
#include "trainer/weights_source.h"

#define FORMAT  "convoy-model-1"
#define CONFIG  "config.json"
#define LABELS  "class_labels.json"
#define WEIGHTS "model.safetensors"
#define ARCHIVE "model.tar.gz"

/* A description may ask for more than its file of weights has, in which case the tensor that
 * differs is named; for this much more nothing is built. */
#define SURPLUS_BYTES ((size_t)64 << 20)

/* --- the bytes --- */

void train_model_files_release(struct train_model_files *files)
{
    buf_release(&files->config);
    buf_release(&files->labels);
    buf_release(&files->weights);
}

static bool ends_in(const char *text, const char *end)
{
    const size_t bytes = strlen(text), tail = strlen(end);

    return bytes > tail && strcmp(text + bytes - tail, end) == 0;
}

static int load(const char *where, const char *name, size_t bytes_max, struct buf *out,
                struct err *err)
{
    char *const path = uri_join(where, name);
    const int rc = data_place_load(path, bytes_max, out, err);

    free(path);
    return rc;
}

static int load_tar(const char *path, struct train_model_files *files, struct err *err)
{
    struct buf tar = {0};
    size_t room = 0;
    int rc = -1;

    if (train_weights_room(&room, err) == 0 && data_place_load(path, room, &tar, err) == 0)
        rc = train_model_tar_read(&tar, path, files, err);
    buf_release(&tar);
    return rc;
}

/* 1: the place has a file of this name; 0; -1. */
static int has(const char *where, const char *name, struct err *err)
{
    struct place place = {0};
    int fd = -1, rc = place_open(&place, where, err);

    if (rc == 0)
        rc = place_get(&place, name, &fd, err);
    if (rc > 0)
        close(fd);
    place_release(&place);
    return rc;
}

/* A folder as SageMaker's channel "model" may be. why: what is said where it is not. */
static int load_inner_tar(const char *where, struct train_model_files *files, const char *why,
                          struct err *err)
{
    char *const path = uri_join(where, ARCHIVE);
    struct err missing = {0};
    struct buf tar = {0};
    size_t room = 0;
    int rc = train_weights_room(&room, err);

    if (rc == 0 && data_place_load(path, room, &tar, &missing) == 0)
        rc = train_model_tar_read(&tar, path, files, err);
    else if (rc == 0 && missing.code == ERR_INPUT)
        err_set(err, ERR_INPUT, "'%s' is no model that 'convoy train' left: %s; %s", where, why,
                missing.msg);
    else if (rc == 0)
        rc = err_set(err, missing.code, "%s", missing.msg);
    buf_release(&tar);
    free(path);
    return rc;
}

/* 1: they are all there; 0: not even a config.json, as err tells; -1. Without s3:ListBucket S3 says
 * "not allowed" of an object that is not there. */
static int load_files(const char *where, struct train_model_files *files, struct err *err)
{
    struct err why = {0};
    int there;

    if (ends_in(where, ".tar") || ends_in(where, ".tar.gz") || ends_in(where, ".tgz"))
        return load_tar(where, files, err);
    if (!train_weights_is_folder(where)) {
        err_set(err, ERR_INPUT, "'%s' is no model that 'convoy train' left: no folder and no tar",
                where);
        return 0;
    }
    there = has(where, CONFIG, &why);
    if (there == 0)
        return load_inner_tar(where, files, "it has no " CONFIG, err);
    if (there < 0 && why.code == ERR_INPUT)
        return load_inner_tar(where, files, why.msg, err);
    if (there < 0)
        return err_set(err, why.code, "%s", why.msg);
    if (load(where, CONFIG, TRAIN_MODEL_CONFIG_BYTES_MAX, &files->config, err) < 0 ||
        load(where, LABELS, TRAIN_MODEL_LABELS_BYTES_MAX, &files->labels, err) < 0 ||
        load(where, WEIGHTS, TRAIN_WEIGHTS_BYTES_MAX, &files->weights, err) < 0)
        return -1;
    return 1;
}

/* --- class_labels.json --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_unique(const struct train_model_dir *dir, const char *what, struct err *err)
{
    const size_t n = (size_t)dir->classes;
    const char **const sorted = calloc(n, sizeof *sorted);
    int rc = 0;

    if (sorted == NULL)
        abort();
    memcpy(sorted, dir->class_names, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 1; i < n && rc == 0; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            rc = err_set(err, ERR_INPUT, "%s: the class name '%s' stands there twice", what,
                         sorted[i]);
    free(sorted);
    return rc;
}

static int read_names(struct train_model_dir *dir, const json_t *names, const char *what,
                      struct err *err)
{
    if (!json_is_array(names))
        return err_set(err, ERR_INPUT, "%s is no list of class names", what);
    if (json_array_size(names) != (size_t)dir->classes)
        return err_set(err, ERR_INPUT, "%s has %zu class names, but 'classes' in %s is %d", what,
                       json_array_size(names), CONFIG, dir->classes);
    dir->class_names = calloc((size_t)dir->classes, sizeof *dir->class_names);
    if (dir->class_names == NULL)
        abort();
    for (int i = 0; i < dir->classes; i++) {
        const char *const name = json_string_value(json_array_get(names, (size_t)i));

        if (name == NULL || *name == '\0')
            return err_set(err, ERR_INPUT, "%s: entry %d is no class name", what, i);
        dir->class_names[i] = text_copy(name);
    }
    return check_unique(dir, what, err);
}

static int parse_labels(struct train_model_dir *dir, const char *what, struct err *err)
{
    json_t *const names =
        json_read_text((const char *)dir->labels.data, dir->labels.bytes, what, err);
    const int rc = names == NULL ? -1 : read_names(dir, names, what, err);

    json_decref(names);
    return rc;
}

/* --- config.json --- */

static int read_network(struct train_model_dir *dir, const json_t *config, const char *what,
                        struct err *err)
{
    const char *format = NULL, *name = NULL;
    int64_t classes = 0;

    if (json_read_string(config, "format", &format, what, err) < 0)
        return -1;
    if (strcmp(format, FORMAT) != 0)
        return err_set(err, ERR_INPUT, "%s: 'format' is '%s', and this program reads '%s'", what,
                       format, FORMAT);
    if (json_read_string(config, "model", &name, what, err) < 0 ||
        json_read_integer(config, "classes", 2, INT32_MAX, &classes, what, err) < 0)
        return -1;
    if (nn_model_default_image_size(name) == 0)
        return err_set(err, ERR_INPUT, "%s: 'model' is '%s', which is not one of %s", what, name,
                       nn_model_names());
    dir->name = text_copy(name);
    dir->classes = (int)classes;
    return 0;
}

static int read_head(struct train_model_dir *dir, const json_t *config, const char *what,
                     struct err *err)
{
    const json_t *head = json_object_get(config, "head");

    if (head == NULL)
        head = json_object_get(json_object_get(config, "hyperparameters"), "head");
    if (head == NULL)
        return 0;
    if (!json_is_string(head))
        return err_set(err, ERR_INPUT, "%s: 'head' is no text", what);
    if (nn_tuning_parse_head(&dir->tuning, dir->name, json_string_value(head), err) == 0)
        return 0;
    err->code = ERR_INPUT;
    return err_wrap(err, "%s: 'head'", what);
}

static int read_config(struct train_model_dir *dir, const json_t *config, const char *what,
                       struct err *err)
{
    if (!json_is_object(config))
        return err_set(err, ERR_INPUT, "%s is no JSON object", what);
    if (read_network(dir, config, what, err) < 0 || read_head(dir, config, what, err) < 0)
        return -1;
    dir->evaluation.kind = nn_model_default_image_size(dir->name) == 32 ? DATA_TRANSFORM_RESIZE
                                                                        : DATA_TRANSFORM_CENTER;
    return data_transform_from_json(&dir->evaluation, config, what, err);
}

static int parse_config(struct train_model_dir *dir, const char *what, struct err *err)
{
    json_t *const config =
        json_read_text((const char *)dir->config.data, dir->config.bytes, what, err);
    const int rc = config == NULL ? -1 : read_config(dir, config, what, err);

    json_decref(config);
    return rc;
}

/* "'WHERE/NAME'"; heap. */
static char *quoted(const char *where, const char *name)
{
    char *const path = uri_join(where, name);
    struct buf text = {0};

    buf_printf(&text, "'%s'", path);
    free(path);
    return buf_text(&text);
}

static struct nn_model_options options_of(const struct train_model_dir *dir, int batch)
{
    return (struct nn_model_options){.name = dir->name,
                                     .classes = dir->classes,
                                     .image_size = dir->evaluation.size,
                                     .micro_batch_max = batch,
                                     .tuning = dir->tuning};
}

static int parse(struct train_model_dir *dir, struct err *err)
{
    char *const config = quoted(dir->where, CONFIG), *const labels = quoted(dir->where, LABELS);
    int rc = parse_config(dir, config, err) < 0 || parse_labels(dir, labels, err) < 0 ? -1 : 0;

    if (rc == 0) {
        const struct nn_model_options options = options_of(dir, 1);

        rc = nn_model_check(&options, err);
        if (rc < 0) {
            err->code = ERR_INPUT;
            err_wrap(err, "%s", config);
        }
    }
    free(config);
    free(labels);
    return rc;
}

int train_model_dir_parse(struct train_model_dir *dir, const char *where, const struct buf *config,
                          const struct buf *labels, struct err *err)
{
    *dir = (struct train_model_dir){.where = text_copy(where)};
    buf_append(&dir->config, config->data, config->bytes);
    buf_append(&dir->labels, labels->data, labels->bytes);
    if (parse(dir, err) == 0)
        return 0;
    train_model_dir_release(dir);
    return -1;
}

/* --- the weights --- */

static int check_weights(const struct train_model_dir *dir, const char *path, struct err *err)
{
    const struct nn_model_options options = options_of(dir, 1);
    struct nn_model_memory memory;
    size_t has = 0;

    if (nn_model_memory(&options, &memory, err) < 0)
        return -1;
    for (size_t i = 0; i < dir->weights.count; i++) {
        size_t floats = 1;

        for (int d = 0; d < dir->weights.tensors[i].dims; d++)
            floats *= dir->weights.tensors[i].size[d];
        has += floats * sizeof(float);
    }
    if (memory.weights <= 2 * has + SURPLUS_BYTES)
        return 0;
    return err_set(err, ERR_INPUT,
                   "'%s' has %zu MB of weights, but %s of %d classes, as '%s/%s' describes it, "
                   "needs %zu MB",
                   path, has / 1000000, dir->name, dir->classes, dir->where, CONFIG,
                   memory.weights / 1000000);
}

static int open_weights(struct train_model_dir *dir, const struct buf *bytes, struct err *err)
{
    char *const path = uri_join(dir->where, WEIGHTS);
    int rc = weights_open_bytes(&dir->weights, bytes->data, bytes->bytes, path, err);

    if (rc == 0)
        rc = check_weights(dir, path, err);
    free(path);
    return rc;
}

int train_model_dir_find(struct train_model_dir *dir, const char *where, struct err *err)
{
    struct train_model_files files = {0};
    int rc;

    memset(dir, 0, sizeof *dir);
    rc = load_files(where, &files, err);
    if (rc > 0 && (train_model_dir_parse(dir, where, &files.config, &files.labels, err) < 0 ||
                   open_weights(dir, &files.weights, err) < 0))
        rc = -1;
    train_model_files_release(&files);
    if (rc < 0)
        train_model_dir_release(dir);
    return rc;
}

int train_model_dir_open(struct train_model_dir *dir, const char *where, struct err *err)
{
    return train_model_dir_find(dir, where, err) > 0 ? 0 : -1;
}

void train_model_dir_release(struct train_model_dir *dir)
{
    for (int i = 0; dir->class_names != NULL && i < dir->classes; i++)
        free(dir->class_names[i]);
    free(dir->class_names);
    free(dir->where);
    free(dir->name);
    buf_release(&dir->config);
    buf_release(&dir->labels);
    weights_release(&dir->weights);
    memset(dir, 0, sizeof *dir);
}

/* --- the network --- */

/* Of pictures on their way into the network. */
static uint64_t decoded_bytes(const struct train_model_dir *dir, const struct train_model_use *use)
{
    const uint64_t side = (uint64_t)dir->evaluation.size;

    return (uint64_t)use->batches_ahead * (uint64_t)use->batch * side * side * 3 * sizeof(float);
}

/* Before memory is taken: a host that runs out of it ends some process, and not with a line. */
static int check_memory(const struct train_model_dir *dir, const struct train_model_use *use,
                        struct err *err)
{
    const struct nn_model_options options = options_of(dir, use->batch);
    struct nn_model_memory memory;
    uint64_t available = 0, needed = 0;

    if (nn_model_memory(&options, &memory, err) < 0) /* of one picture it did not fail */
        return err_wrap(err, "--batch");
    if (train_host_memory(&available, err) < 0)
        return -1;
    needed = (uint64_t)use->ranks_of_host *
             (decoded_bytes(dir, use) + memory.weights + memory.values + memory.working +
              (uint64_t)use->threads * memory.working_of_thread);
    if (needed <= available)
        return 0;
    return err_set(err, ERR_USAGE,
                   "%s at %d pixels takes %zu MB for %d pictures at a time and %d ranks of this "
                   "host, and %zu MB are free: a smaller --batch needs less",
                   dir->name, dir->evaluation.size, (size_t)(needed / 1000000), use->batch,
                   use->ranks_of_host, (size_t)(available / 1000000));
}

struct nn_model *train_model_dir_network(const struct train_model_dir *dir,
                                         const struct train_model_use *use, struct err *err)
{
    const struct nn_model_options options = options_of(dir, use->batch);

    return check_memory(dir, use, err) < 0 ? NULL : nn_model_new(&options, err);
}

int train_model_dir_load(struct train_model_dir *dir, struct nn_model *model, struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);
    char why[TRAIN_TENSORS_WHY_CHARS];

    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const struct nn_tensor *const t = &tensors[i];
        const struct safetensors_entry *const entry = weights_find(&dir->weights, t->name);

        if (train_tensors_differ(entry, t, why))
            return err_set(err, ERR_INPUT,
                           "'%s/" WEIGHTS "' is not of the network that its config.json describes "
                           "(%s, %d classes): '%s': %s",
                           dir->where, dir->name, dir->classes, t->name, why);
        nn_tensor_from_file_order(t, entry->data,
                                  t->kind == NN_TENSOR_RUNNING ? nn_model_running(model)
                                                               : nn_model_weights(model));
    }
    weights_release(&dir->weights);
    return 0;
}
