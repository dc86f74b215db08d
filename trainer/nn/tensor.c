/* The parameters of a model: their first values, and their order in files. */
#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "trainer/nn/model.h"

/* `count` matrices of (rows, columns), transposed. */
static void transpose(const float *in, size_t count, size_t rows, size_t columns, float *out)
{
    const size_t floats = rows * columns;

    if (rows == 1 || columns == 1) {
        memcpy(out, in, count * floats * sizeof(*out));
        return;
    }
    for (size_t i = 0; i < count; i++, in += floats, out += floats)
        for (size_t row = 0; row < rows; row++)
            for (size_t column = 0; column < columns; column++)
                out[column * rows + row] = in[row * columns + column];
}

/* A convolution's filters are (K, C, R, S) in a file and (K, R, S, C) here. */
void nn_tensor_to_file_order(const struct nn_tensor *tensor, const float *vector, float *file)
{
    const float *here = vector + tensor->offset;

    if (tensor->kind == NN_TENSOR_CONV)
        transpose(here, tensor->size[0], tensor->size[2] * tensor->size[3], tensor->size[1], file);
    else
        memcpy(file, here, tensor->count * sizeof(*file));
}

void nn_tensor_from_file_order(const struct nn_tensor *tensor, const float *file, float *vector)
{
    float *here = vector + tensor->offset;

    if (tensor->kind == NN_TENSOR_CONV)
        transpose(file, tensor->size[0], tensor->size[1], tensor->size[2] * tensor->size[3], here);
    else
        memcpy(here, file, tensor->count * sizeof(*file));
}

/* Drawn in the order of files. */
static void init_normal(const struct nn_tensor *tensor, struct philox *philox, float *here)
{
    const size_t channels = tensor->size[1], taps = tensor->size[2] * tensor->size[3];
    const float deviation = (float)sqrt(2 / (double)(tensor->size[0] * taps));

    for (size_t k = 0; k < tensor->size[0]; k++, here += taps * channels)
        for (size_t c = 0; c < channels; c++)
            for (size_t tap = 0; tap < taps; tap++)
                here[tap * channels + c] = deviation * philox_normal(philox);
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

/* The bias of a layer with a matrix is the tensor behind it. */
void nn_model_init_tensor(struct nn_model *model, size_t number, uint64_t seed)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model), *tensor = &tensors[number];
    float *vector =
        tensor->kind == NN_TENSOR_RUNNING ? nn_model_running(model) : nn_model_weights(model);
    float *here = vector + tensor->offset;
    struct philox philox;

    philox_init(&philox, seed, (uint64_t)number, 0, PHILOX_INIT);
    if (tensor->kind == NN_TENSOR_CONV)
        init_normal(tensor, &philox, here);
    else if (tensor->kind == NN_TENSOR_LINEAR)
        init_uniform(tensor, &philox, tensor->size[1], here);
    else if (number > 0 && tensors[number - 1].kind == NN_TENSOR_LINEAR)
        init_uniform(tensor, &philox, tensors[number - 1].size[1], here);
    else
        fill(tensor,
             ends_with(tensor->name, "weight") || ends_with(tensor->name, "running_var") ? 1 : 0,
             here);
}

void nn_model_init(struct nn_model *model, uint64_t seed)
{
    const long count = (long)nn_model_tensor_count(model);

#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < count; i++)
        nn_model_init_tensor(model, (size_t)i, seed);
}
