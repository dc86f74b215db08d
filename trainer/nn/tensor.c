/* The parameters of a model: their first values, and their order in files. */
#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "trainer/nn/model.h"

/* Element i of a convolution's tensor in file order (K, C, R, S) has which place in ours (K, R, S,
 * C)? */
static size_t place_here(const struct nn_tensor *tensor, size_t i)
{
    const size_t c_count = tensor->size[1], taps = tensor->size[2] * tensor->size[3];
    const size_t k = i / (c_count * taps), c = i / taps % c_count, tap = i % taps;

    return (k * taps + tap) * c_count + c;
}

void nn_tensor_to_file_order(const struct nn_tensor *tensor, const float *vector, float *file)
{
    const float *here = vector + tensor->offset;

    if (tensor->kind != NN_TENSOR_CONV) {
        memcpy(file, here, tensor->count * sizeof(*file));
        return;
    }
    for (size_t i = 0; i < tensor->count; i++)
        file[i] = here[place_here(tensor, i)];
}

void nn_tensor_from_file_order(const struct nn_tensor *tensor, const float *file, float *vector)
{
    float *here = vector + tensor->offset;

    if (tensor->kind != NN_TENSOR_CONV) {
        memcpy(here, file, tensor->count * sizeof(*file));
        return;
    }
    for (size_t i = 0; i < tensor->count; i++)
        here[place_here(tensor, i)] = file[i];
}

static void init_normal(const struct nn_tensor *tensor, struct philox *philox, float *here)
{
    const double fan_out = (double)(tensor->size[0] * tensor->size[2] * tensor->size[3]);
    const float deviation = (float)sqrt(2 / fan_out);

    for (size_t i = 0; i < tensor->count; i++)
        here[place_here(tensor, i)] = deviation * philox_normal(philox);
}

static void init_uniform(const struct nn_tensor *tensor, struct philox *philox, size_t inputs,
                         float *here)
{
    const float bound = (float)(1 / sqrt((double)inputs));

    for (size_t i = 0; i < tensor->count; i++)
        here[i] = bound * (2 * philox_uniform(philox) - 1);
}

static void fill(const struct nn_tensor *tensor, float value, float *here)
{
    for (size_t i = 0; i < tensor->count; i++)
        here[i] = value;
}

static int ends_with(const char *name, const char *end)
{
    const size_t bytes = strlen(name), end_bytes = strlen(end);

    return bytes >= end_bytes && strcmp(name + bytes - end_bytes, end) == 0;
}

/* Every tensor draws from a stream of its own, named by its number in the state_dict. A bias whose
 * layer has a matrix is the tensor behind it. */
void nn_model_init(struct nn_model *model, uint64_t seed)
{
    const struct nn_tensor *tensors = nn_model_tensors(model);
    const long count = (long)nn_model_tensor_count(model);

#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < count; i++) {
        const struct nn_tensor *tensor = &tensors[i];
        float *vector =
            tensor->kind == NN_TENSOR_RUNNING ? nn_model_running(model) : nn_model_weights(model);
        float *here = vector + tensor->offset;
        struct philox philox;

        philox_init(&philox, seed, (uint64_t)i, 0, PHILOX_INIT);
        if (tensor->kind == NN_TENSOR_CONV)
            init_normal(tensor, &philox, here);
        else if (tensor->kind == NN_TENSOR_LINEAR)
            init_uniform(tensor, &philox, tensor->size[1], here);
        else if (i > 0 && tensors[i - 1].kind == NN_TENSOR_LINEAR)
            init_uniform(tensor, &philox, tensors[i - 1].size[1], here);
        else
            fill(tensor,
                 ends_with(tensor->name, "weight") || ends_with(tensor->name, "running_var") ? 1
                                                                                             : 0,
                 here);
    }
}
