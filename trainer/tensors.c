#include "trainer/tensors.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/best.h"
#include "trainer/nn/model.h"
#include "trainer/optim/optimizer.h"

#define NAME_BYTES_MAX  160
/* That are not the model's own: of the optimizer's state, or of the count; of the best. */
#define NAMES_OF_TENSOR (OPTIM_VECTORS_MAX + 1)

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

/* Frozen weights, at the vector's end, have no state. */
static bool has_state(const struct optim_state *state, const struct nn_tensor *tensor)
{
    return state != NULL && tensor->kind != NN_TENSOR_RUNNING && tensor->offset < state->count;
}

static void state_name(const struct optim_state *state, int i, const struct nn_tensor *tensor,
                       char *name)
{
    snprintf(name, NAME_BYTES_MAX, "optimizer.%s.%s", optim_vector_name(state->kind, i),
             tensor->name);
}

/* Frozen weights are always the best. */
static bool has_best(const struct train_best *best, const struct nn_tensor *tensor)
{
    return best != NULL && best->there &&
           (tensor->kind == NN_TENSOR_RUNNING || tensor->offset < best->trained);
}

static void best_name(const struct nn_tensor *tensor, char *name)
{
    snprintf(name, NAME_BYTES_MAX, "best.%s", tensor->name);
}

static float *best_vector(const struct train_best *best, const struct nn_tensor *tensor)
{
    return tensor->kind == NN_TENSOR_RUNNING ? best->running : best->weights;
}

static int make_room(struct train_tensors *t, const struct nn_model *model,
                     const struct optim_state *state, const struct train_best *best,
                     struct err *err)
{
    const size_t tensors = nn_model_tensor_count(model);
    const size_t floats = nn_model_weight_count(model) + nn_model_running_count(model) +
                          (state != NULL ? (size_t)state->vectors * state->count : 0) +
                          (best != NULL && best->there ? best->trained + best->running_count : 0);

    t->entries = calloc((1 + NAMES_OF_TENSOR) * tensors, sizeof t->entries[0]);
    t->names = malloc(NAMES_OF_TENSOR * tensors * NAME_BYTES_MAX);
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

/* The optimizer's vectors of one tensor; returns the place behind what was copied. */
static float *gather_state(struct train_tensors *t, const struct optim_state *state,
                           const struct nn_tensor *tensor, char *names, float *at)
{
    for (int i = 0; i < state->vectors; i++) {
        char *const name = names + i * NAME_BYTES_MAX;

        state_name(state, i, tensor, name);
        t->entries[t->count++] = entry_of(tensor, name, at);
        at = copy_tensor(tensor, state->vector[i], at);
    }
    return at;
}

int train_tensors_gather(struct train_tensors *t, struct nn_model *model,
                         const struct optim_state *state, const struct train_best *best,
                         uint64_t steps, struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);
    float *at = NULL;

    memset(t, 0, sizeof *t);
    if (make_room(t, model, state, best, err) < 0) {
        train_tensors_release(t);
        return -1;
    }
    t->steps = (int64_t)steps;
    at = t->floats;
    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const bool running = tensors[i].kind == NN_TENSOR_RUNNING;
        char *const names = t->names + i * NAMES_OF_TENSOR * NAME_BYTES_MAX;

        t->entries[t->count++] = entry_of(&tensors[i], tensors[i].name, at);
        at = copy_tensor(&tensors[i], running ? nn_model_running(model) : nn_model_weights(model),
                         at);
        if (tracked_name(&tensors[i], names))
            t->entries[t->count++] = (struct safetensors_entry){
                .name = names, .type = SAFETENSORS_I64, .data = &t->steps};
        if (has_state(state, &tensors[i]))
            at = gather_state(t, state, &tensors[i], names, at);
        if (has_best(best, &tensors[i])) {
            char *const name = names + OPTIM_VECTORS_MAX * NAME_BYTES_MAX;

            best_name(&tensors[i], name);
            t->entries[t->count++] = entry_of(&tensors[i], name, at);
            at = copy_tensor(&tensors[i], best_vector(best, &tensors[i]), at);
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

/* "64x3x7x7" */
static void describe(const struct safetensors_entry *entry, char text[80])
{
    size_t at = 0;

    text[0] = '\0';
    for (int d = 0; d < entry->dims && at < 60; d++)
        at += (size_t)snprintf(text + at, 80 - at, "%s%llu", d > 0 ? "x" : "",
                               (unsigned long long)entry->size[d]);
}

bool train_tensors_differ(const struct safetensors_entry *entry, const struct nn_tensor *tensor,
                          char why[TRAIN_TENSORS_WHY_CHARS])
{
    const struct safetensors_entry wanted = entry_of(tensor, tensor->name, NULL);
    char theirs[80], ours[80];

    describe(&wanted, ours);
    if (entry == NULL) {
        snprintf(why, TRAIN_TENSORS_WHY_CHARS, "it is not there (%s floats)", ours);
        return true;
    }
    if (same_shape(entry, tensor))
        return false;
    describe(entry, theirs);
    snprintf(why, TRAIN_TENSORS_WHY_CHARS, "it is %s there and %s here", theirs, ours);
    return true;
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

static int restore_state(const struct safetensors *file, const char *path,
                         const struct nn_tensor *tensor, struct optim_state *state, struct err *err)
{
    for (int i = 0; i < state->vectors; i++) {
        char name[NAME_BYTES_MAX];

        state_name(state, i, tensor, name);
        if (restore_tensor(file, path, tensor, name, state->vector[i], err) < 0)
            return -1;
    }
    return 0;
}

static int restore_best(const struct safetensors *file, const char *path,
                        const struct nn_tensor *tensor, struct train_best *best, struct err *err)
{
    char name[NAME_BYTES_MAX];

    best_name(tensor, name);
    return restore_tensor(file, path, tensor, name, best_vector(best, tensor), err);
}

int train_tensors_restore(const struct safetensors *file, const char *path, struct nn_model *model,
                          struct optim_state *state, struct train_best *best, struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);

    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const bool running = tensors[i].kind == NN_TENSOR_RUNNING;
        float *const vector = running ? nn_model_running(model) : nn_model_weights(model);

        if (restore_tensor(file, path, &tensors[i], tensors[i].name, vector, err) < 0)
            return -1;
        if (has_state(state, &tensors[i]) && restore_state(file, path, &tensors[i], state, err) < 0)
            return -1;
        if (has_best(best, &tensors[i]) && restore_best(file, path, &tensors[i], best, err) < 0)
            return -1;
    }
    return 0;
}
