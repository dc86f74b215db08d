/* trainer/weights/view.c -- see view.h. */
#include "trainer/weights/view.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

uint64_t weights_view_count(const struct weights_view *view)
{
    uint64_t count = 1;
    bool fits = true;

    for (int d = 0; d < view->dims; d++) {
        if (view->size[d] == 0)
            return 0;
        fits = fits && !__builtin_mul_overflow(count, view->size[d], &count);
    }
    return fits ? count : UINT64_MAX;
}

enum safetensors_type weights_view_result(const struct weights_view *view)
{
    switch (view->type) {
    case SAFETENSORS_F64:
    case SAFETENSORS_F32:
    case SAFETENSORS_F16:
    case SAFETENSORS_BF16:
        return SAFETENSORS_F32;
    default:
        return SAFETENSORS_I64;
    }
}

static float from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16: exact, subnormal numbers, infinities and NaNs included. */
static float half_value(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 0x1f,
                   fraction = half & 0x3ff;

    if (exponent == 0x1f)
        return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent != 0)
        return from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
    return sign != 0 ? -ldexpf((float)fraction, -24) : ldexpf((float)fraction, -24);
}

static float float_value(enum safetensors_type type, const unsigned char *at)
{
    uint16_t bits;
    double wide;
    float value;

    switch (type) {
    case SAFETENSORS_F64:
        memcpy(&wide, at, sizeof wide);
        return (float)wide;
    case SAFETENSORS_F16:
        memcpy(&bits, at, sizeof bits);
        return half_value(bits);
    case SAFETENSORS_BF16: /* the upper half of a float32 */
        memcpy(&bits, at, sizeof bits);
        return from_bits((uint32_t)bits << 16);
    default:
        memcpy(&value, at, sizeof value);
        return value;
    }
}

static int64_t integer_value(enum safetensors_type type, const unsigned char *at)
{
    int64_t value;
    int32_t of32;
    int16_t of16;

    switch (type) {
    case SAFETENSORS_I32:
        memcpy(&of32, at, sizeof of32);
        return of32;
    case SAFETENSORS_I16:
        memcpy(&of16, at, sizeof of16);
        return of16;
    case SAFETENSORS_I8:
        return (int8_t)*at;
    case SAFETENSORS_U8:
        return *at;
    case SAFETENSORS_BOOL:
        return *at != 0;
    default:
        memcpy(&value, at, sizeof value);
        return value;
    }
}

/* `count` elements that lie `stride` apart; false: a double that float32 does not hold. */
static bool copy_row(enum safetensors_type type, enum safetensors_type result,
                     const unsigned char *from, size_t stride, size_t count, unsigned char *to)
{
    const size_t step = stride * safetensors_type_bytes(type);

    if (type == result && stride == 1) {
        memcpy(to, from, count * safetensors_type_bytes(type));
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (result == SAFETENSORS_I64) {
            const int64_t value = integer_value(type, from + i * step);

            memcpy(to + i * sizeof value, &value, sizeof value);
            continue;
        }
        const float value = float_value(type, from + i * step);
        double wide = 0;

        if (type == SAFETENSORS_F64 && isinf(value)) {
            memcpy(&wide, from + i * step, sizeof wide);
            if (!isinf(wide))
                return false;
        }
        memcpy(to + i * sizeof value, &value, sizeof value);
    }
    return true;
}

/* Sizes and strides of four dimensions; those that lie as one run are taken together. */
static int flatten(const struct weights_view *view, uint64_t size[SAFETENSORS_DIMS_MAX],
                   uint64_t stride[SAFETENSORS_DIMS_MAX])
{
    int dims = 0;

    for (int d = 0; d < view->dims; d++) {
        if (view->size[d] == 1)
            continue;
        if (dims > 0 && stride[dims - 1] == view->stride[d] * view->size[d]) {
            size[dims - 1] *= view->size[d];
            stride[dims - 1] = view->stride[d];
            continue;
        }
        size[dims] = view->size[d];
        stride[dims++] = view->stride[d];
    }
    for (int d = dims; d < SAFETENSORS_DIMS_MAX; d++) {
        size[d] = 1;
        stride[d] = 1;
    }
    return dims;
}

int weights_view_copy(const struct weights_view *view, void *data, const char *path,
                      struct err *err)
{
    const enum safetensors_type result = weights_view_result(view);
    const size_t bytes = safetensors_type_bytes(view->type);
    uint64_t size[SAFETENSORS_DIMS_MAX], stride[SAFETENSORS_DIMS_MAX];
    unsigned char *to = data;

    if (weights_view_count(view) == 0)
        return 0;
    const int row = flatten(view, size, stride) - 1 < 0 ? 0 : flatten(view, size, stride) - 1;
    const uint64_t row_size = size[row], row_stride = stride[row];

    size[row] = 1;
    for (uint64_t i = 0; i < size[0]; i++)
        for (uint64_t j = 0; j < size[1]; j++)
            for (uint64_t k = 0; k < size[2]; k++) {
                const uint64_t at = i * stride[0] + j * stride[1] + k * stride[2];

                if (!copy_row(view->type, result, view->data + at * bytes, row_stride, row_size,
                              to))
                    return err_set(err, ERR_INPUT,
                                   "'%s': tensor '%.*s' has numbers beyond what float32 holds",
                                   path, (int)view->name_bytes, view->name);
                to += row_size * safetensors_type_bytes(result);
            }
    return 0;
}
