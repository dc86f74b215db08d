#include "trainer/tensors.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/nn/model.h"

#define NAME_BYTES_MAX  160
#define MOMENTUM_PREFIX "optimizer.momentum."

static struct safetensors_entry entry_of(const struct nn_tensor *tensor, const char *name,
                                         const float *data)
{
    struct safetensors_entry entry = {
        .name = name, .type = SAFETENSORS_F32, .dims = tensor->dims, .data = data};

    for (int d = 0; d < tensor->dims; d++)
        entry.size[d] = tensor->size[d];
    return entry;
}

/* "layer1.0.bn1.running_mean" also stands for "layer1.0.bn1.num_batches_tracked". */
static bool tracked_name(const struct nn_tensor *tensor, char *name)
{
    static const char suffix[] = "running_mean";
    const size_t bytes = strlen(tensor->name), tail = sizeof suffix - 1;

    if (tensor->kind != NN_TENSOR_RUNNING || bytes < tail ||
        strcmp(tensor->name + bytes - tail, suffix) != 0)
        return false;
    snprintf(name, NAME_BYTES_MAX, "%.*snum_batches_tracked", (int)(bytes - tail), tensor->name);
    return true;
}

static int make_room(struct train_tensors *t, const struct nn_model *model, bool with_momentum,
                     struct err *err)
{
    const size_t tensors = nn_model_tensor_count(model), weights = nn_model_weight_count(model);
    const size_t floats = weights * (with_momentum ? 2 : 1) + nn_model_running_count(model);

    t->entries = calloc(2 * tensors,
                        sizeof t->entries[0]); /* a tensor brings its momentum or its count along */
    t->names = malloc(tensors * NAME_BYTES_MAX);
    t->floats = malloc(floats * sizeof(float));
    if (t->entries == NULL || t->names == NULL || t->floats == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a copy of the network (%zu MB)",
                       floats * sizeof(float) / 1000000);
    return 0;
}

/* Copy one tensor of `vector` behind what stands in floats. */
static float *copy_tensor(const struct nn_tensor *tensor, const float *vector, float *at)
{
    nn_tensor_to_file_order(tensor, vector, at);
    return at + tensor->count;
}

int train_tensors_gather(struct train_tensors *t, struct nn_model *model, const float *momentum,
                         uint64_t steps, struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);
    float *at = NULL;

    memset(t, 0, sizeof *t);
    if (make_room(t, model, momentum != NULL, err) < 0) {
        train_tensors_release(t);
        return -1;
    }
    t->steps = (int64_t)steps;
    at = t->floats;
    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const bool running = tensors[i].kind == NN_TENSOR_RUNNING;
        char *const name = t->names + i * NAME_BYTES_MAX;

        t->entries[t->count++] = entry_of(&tensors[i], tensors[i].name, at);
        at = copy_tensor(&tensors[i], running ? nn_model_running(model) : nn_model_weights(model),
                         at);
        if (tracked_name(&tensors[i], name))
            t->entries[t->count++] = (struct safetensors_entry){
                .name = name, .type = SAFETENSORS_I64, .data = &t->steps};
        if (!running && momentum != NULL) {
            snprintf(name, NAME_BYTES_MAX, MOMENTUM_PREFIX "%s", tensors[i].name);
            t->entries[t->count++] = entry_of(&tensors[i], name, at);
            at = copy_tensor(&tensors[i], momentum, at);
        }
    }
    return 0;
}

void train_tensors_release(struct train_tensors *tensors)
{
    free(tensors->entries);
    free(tensors->floats);
    free(tensors->names);
    memset(tensors, 0, sizeof *tensors);
}

static bool same_shape(const struct safetensors_entry *entry, const struct nn_tensor *tensor)
{
    bool same = entry->type == SAFETENSORS_F32 && entry->dims == tensor->dims;

    for (int d = 0; same && d < tensor->dims; d++)
        same = entry->size[d] == tensor->size[d];
    return same;
}

static int restore_tensor(const struct safetensors *file, const char *path,
                          const struct nn_tensor *tensor, const char *name, float *vector,
                          struct err *err)
{
    const struct safetensors_entry *const entry = safetensors_find(file, name);

    if (entry == NULL)
        return err_set(err, ERR_INPUT, "'%s' has no tensor '%s': it is of another model", path,
                       name);
    if (!same_shape(entry, tensor))
        return err_set(err, ERR_INPUT, "tensor '%s' of '%s' has another shape than this model's",
                       name, path);
    nn_tensor_from_file_order(tensor, entry->data, vector);
    return 0;
}

int train_tensors_restore(const struct safetensors *file, const char *path, struct nn_model *model,
                          float *momentum, struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);

    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const bool running = tensors[i].kind == NN_TENSOR_RUNNING;
        float *const vector = running ? nn_model_running(model) : nn_model_weights(model);
        char name[NAME_BYTES_MAX];

        if (restore_tensor(file, path, &tensors[i], tensors[i].name, vector, err) < 0)
            return -1;
        snprintf(name, sizeof name, MOMENTUM_PREFIX "%s", tensors[i].name);
        if (!running && momentum != NULL &&
            restore_tensor(file, path, &tensors[i], name, momentum, err) < 0)
            return -1;
    }
    return 0;
}
