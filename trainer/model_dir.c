#include "trainer/model_dir.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/checkpoint/place.h"
#include "trainer/data/index/index.h"
#include "trainer/data/picture/transform_text.h"
#include "trainer/options.h"
#include "trainer/tensors.h"

/* One small file, appearing whole. */
static int write_text(const struct place *place, const char *name, const char *text,
                      struct err *err)
{
    struct file_new file = {.fd = -1};
    int rc = -1;

    if (place_begin(place, name, &file, err) == 0 &&
        file_new_write(&file, text, strlen(text), err) == 0)
        rc = place_commit(place, name, &file, PLACE_REPLACE, err);
    file_new_release(&file);
    return rc;
}

static int write_json(const struct place *place, const char *name, const json_t *value,
                      struct err *err)
{
    char *const text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    const int rc = text == NULL
                       ? err_set(err, ERR_INTERNAL,
                                 "cannot write '%s/%s' as JSON (a class name that is not UTF-8?)",
                                 place->text, name)
                       : write_text(place, name, text, err);

    free(text);
    return rc;
}

static int write_labels(const struct place *place, const struct data_index *index, struct err *err)
{
    json_t *const names = json_array();
    int rc = 0;

    for (int i = 0; i < index->classes; i++)
        if (json_array_append_new(names, json_string(index->class_names[i])) < 0)
            rc = err_set(err, ERR_INPUT, "the class name '%s' is not UTF-8", index->class_names[i]);
    if (rc == 0)
        rc = write_json(place, "class_labels.json", names, err);
    json_decref(names);
    return rc;
}

static json_t *hyperparameters(const struct train_options *options)
{
    json_t *const object = json_object();

    for (size_t i = 0; i < options->set.count; i++) {
        struct buf text = {0};

        if ((options->set.specs[i].flags & (TRAIN_OPTION_FIXED | TRAIN_OPTION_SCHEDULE)) == 0)
            continue;
        train_options_resolved(options, i, &text);
        json_object_set_new(object, options->set.specs[i].name, json_string(buf_text(&text)));
        buf_release(&text);
    }
    return object;
}

static int write_config(const struct place *place, const struct train_options *options, int classes,
                        struct err *err)
{
    json_t *const config = json_pack("{s:s, s:s, s:i}", "format", "convoy-model-1", "model",
                                     options->model, "classes", classes);
    int rc;

    json_object_set_new(config, "head", json_string(option_text(&options->set, "head")));
    data_transform_to_json(&options->evaluation, config);
    json_object_set_new(config, "hyperparameters", hyperparameters(options));
    rc = write_json(place, "config.json", config, err);

    json_decref(config);
    return rc;
}

static int write_model(const struct place *place, struct train_tensors *tensors, struct err *err)
{
    static const char name[] = "model.safetensors";
    static const struct safetensors_pair metadata[] = {{"format", "pt"}};
    struct file_new file = {.fd = -1};
    int rc = -1;

    if (place_begin(place, name, &file, err) == 0 &&
        safetensors_write(&file, tensors->entries, tensors->count, metadata, 1, err) == 0)
        rc = place_commit(place, name, &file, PLACE_REPLACE, err);
    file_new_release(&file);
    return rc;
}

int train_model_dir_write(const struct train_options *options, struct nn_model *model,
                          const struct data_index *classes, uint64_t steps,
                          char hex[DIGEST_HEX_CHARS], struct err *err)
{
    unsigned char sha[DIGEST_SHA256_BYTES];
    struct train_tensors tensors = {0};
    struct place place = {0};
    int rc = -1;

    if (place_open(&place, options->model_dir, err) < 0 || write_labels(&place, classes, err) < 0 ||
        write_config(&place, options, classes->classes, err) < 0)
        goto out;
    if (train_tensors_gather(&tensors, model, NULL, NULL, steps, err) < 0)
        goto out;
    safetensors_digest(tensors.entries, tensors.count, sha);
    digest_hex(sha, hex);
    rc = write_model(&place, &tensors, err);
out:
    if (rc < 0)
        err_wrap(err, "cannot write the model");
    train_tensors_release(&tensors);
    place_release(&place);
    return rc;
}
