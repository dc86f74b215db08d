#include "trainer/pretrained.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "trainer/data/place.h"
#include "trainer/nn/model.h"
#include "trainer/weights/weights.h"

#define FILE_BYTES_MAX ((size_t)4 << 30)
#define HEAD           "fc."

static bool is_head(const char *name)
{
    return strncmp(name, HEAD, sizeof HEAD - 1) == 0;
}

static void describe(const size_t *size, int dims, char text[80])
{
    size_t at = 0;

    text[0] = '\0';
    for (int d = 0; d < dims && at < 60; d++)
        at += (size_t)snprintf(text + at, 80 - at, "%s%zu", d > 0 ? "x" : "", size[d]);
}

/* NULL where the file's tensor is this one; else why it is not, in `why`. */
static const char *differs(const struct safetensors_entry *entry, const struct nn_tensor *tensor,
                           char why[200])
{
    char theirs[80], ours[80];

    describe(tensor->size, tensor->dims, ours);
    if (entry == NULL) {
        snprintf(why, 200, "it is not there (%s floats)", ours);
        return why;
    }
    if (entry->type == SAFETENSORS_F32 && entry->dims == tensor->dims &&
        memcmp(entry->size, tensor->size, (size_t)tensor->dims * sizeof tensor->size[0]) == 0)
        return NULL;
    describe(entry->size, entry->dims, theirs);
    snprintf(why, 200, "it is %s there and %s here", theirs, ours);
    return why;
}

static int take(struct nn_model *model, const struct weights *weights, const char *path,
                struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);
    bool new_head = false;

    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const struct nn_tensor *const t = &tensors[i];
        char text[200];
        const char *const why = differs(weights_find(weights, t->name), t, text);

        if (why != NULL && !is_head(t->name))
            return err_set(err, ERR_INPUT, "'%s' is of another network: '%s': %s", path, t->name,
                           why);
        if (why != NULL && !new_head)
            log_info("the head begins anew, as '%s' has another: '%s': %s", path, t->name, why);
        new_head |= why != NULL;
    }
    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const struct nn_tensor *const t = &tensors[i];

        if (!new_head || !is_head(t->name))
            nn_tensor_from_file_order(t, weights_find(weights, t->name)->data,
                                      t->kind == NN_TENSOR_RUNNING ? nn_model_running(model)
                                                                   : nn_model_weights(model));
    }
    log_info("weights from '%s' (%s)", path, weights->format);
    return 0;
}

int train_pretrained_load(struct nn_model *model, const char *path, struct err *err)
{
    struct weights weights = {0};
    struct buf bytes = {0};
    int rc = -1;

    if (data_place_load(path, FILE_BYTES_MAX, &bytes, err) == 0 &&
        weights_open_bytes(&weights, bytes.data, bytes.bytes, path, err) == 0) {
        buf_release(&bytes);
        rc = take(model, &weights, path, err);
    }
    weights_release(&weights);
    buf_release(&bytes);
    return rc < 0 ? err_wrap(err, "--pretrained") : 0;
}
