#include "trainer/data/picture/transform_text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"

#define STD_MIN 0.001
#define STD_MAX 10

/* "a,b,c" within [min, max]; behind it stands `end`. NULL: it is not so, else what follows it. */
static const char *read_three(const char *text, char end, double min, double max, float out[3])
{
    for (int c = 0; c < 3; c++) {
        char *after = NULL;
        const double value = strtod(text, &after);

        if (after == text || *after != (c < 2 ? ',' : end) || !(value >= min && value <= max))
            return NULL;
        out[c] = (float)value;
        text = after + 1;
    }
    return text;
}

int data_transform_set_normalize(struct data_transform *transform, const char *text,
                                 struct err *err)
{
    static const float none_mean[3] = {0, 0, 0}, none_std[3] = {1, 1, 1};
    const float *from_mean = none_mean, *from_std = none_std;
    float mean[3], std[3];

    if (strcmp(text, "imagenet") == 0) {
        from_mean = data_imagenet_mean;
        from_std = data_imagenet_std;
    } else if (strcmp(text, "none") != 0) {
        const char *const stds = read_three(text, '/', 0, 1, mean);

        if (stds == NULL || read_three(stds, '\0', STD_MIN, STD_MAX, std) == NULL)
            return err_set(err, ERR_USAGE,
                           "'%s' is not imagenet, none or three means and three standard "
                           "deviations of pictures in [0, 1], like 0.5,0.5,0.5/0.25,0.25,0.25",
                           text);
        from_mean = mean;
        from_std = std;
    }
    memcpy(transform->mean, from_mean, sizeof transform->mean);
    memcpy(transform->std, from_std, sizeof transform->std);
    return 0;
}

bool data_transform_set_eval(struct data_transform *transform, const char *text)
{
    const bool center = strcmp(text, "center") == 0;

    if (!center && strcmp(text, "resize") != 0)
        return false;
    transform->kind = center ? DATA_TRANSFORM_CENTER : DATA_TRANSFORM_RESIZE;
    return true;
}

const char *data_transform_eval_name(enum data_transform_kind kind)
{
    assert(kind == DATA_TRANSFORM_CENTER || kind == DATA_TRANSFORM_RESIZE);
    return kind == DATA_TRANSFORM_CENTER ? "center" : "resize";
}

static json_t *three(const float values[3])
{
    return json_pack("[f,f,f]", (double)values[0], (double)values[1], (double)values[2]);
}

void data_transform_to_json(const struct data_transform *transform, json_t *config)
{
    json_t *const normalize = json_object();

    json_object_set_new(config, "image_size", json_integer(transform->size));
    json_object_set_new(config, "eval_transform",
                        json_string(data_transform_eval_name(transform->kind)));
    json_object_set_new(normalize, "mean", three(transform->mean));
    json_object_set_new(normalize, "std", three(transform->std));
    json_object_set_new(config, "normalize", normalize);
}

static int read_channels(const json_t *normalize, const char *key, double min, double max,
                         float out[3], const char *what, struct err *err)
{
    const json_t *const values = json_read_array(normalize, key, what, err);

    if (values == NULL)
        return -1;
    for (size_t c = 0; c < 3; c++) {
        const json_t *const value = json_array_get(values, c);

        if (json_array_size(values) != 3 || !json_is_number(value) ||
            !(json_number_value(value) >= min && json_number_value(value) <= max))
            return err_set(err, ERR_INPUT,
                           "%s: '%s' of 'normalize' is not three numbers from %g to %g", what, key,
                           min, max);
        out[c] = (float)json_number_value(value);
    }
    return 0;
}

int data_transform_from_json(struct data_transform *transform, const json_t *config,
                             const char *what, struct err *err)
{
    const json_t *const normalize = json_object_get(config, "normalize");
    struct data_transform read = *transform;
    const char *name = NULL;
    int64_t size = 0;

    if (json_read_integer(config, "image_size", DATA_IMAGE_SIZE_MIN, DATA_IMAGE_SIZE_MAX, &size,
                          what, err) < 0)
        return -1;
    if (json_object_get(config, "eval_transform") != NULL) {
        if (json_read_string(config, "eval_transform", &name, what, err) < 0)
            return -1;
        if (!data_transform_set_eval(&read, name))
            return err_set(err, ERR_INPUT,
                           "%s: 'eval_transform' is '%s': only center and resize are known", what,
                           name);
    }
    if (!json_is_object(normalize))
        return err_set(err, ERR_INPUT, "%s: 'normalize' is missing", what);
    if (read_channels(normalize, "mean", 0, 1, read.mean, what, err) < 0 ||
        read_channels(normalize, "std", STD_MIN, STD_MAX, read.std, what, err) < 0)
        return -1;
    read.size = (int)size;
    *transform = read;
    return 0;
}
