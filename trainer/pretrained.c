#include "trainer/pretrained.h"

#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "trainer/data/place.h"
#include "trainer/nn/model.h"
#include "trainer/tensors.h"
#include "trainer/weights/weights.h"

#define FILE_BYTES_MAX ((size_t)4 << 30)
#define HEAD           "fc."

static bool is_head(const char *name)
{
    return strncmp(name, HEAD, sizeof HEAD - 1) == 0;
}

static int take(struct nn_model *model, const struct weights *weights, const char *path,
                struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);
    bool new_head = false;

    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const struct nn_tensor *const t = &tensors[i];
        char why[TRAIN_TENSORS_WHY_CHARS];
        const bool differs = train_tensors_differ(weights_find(weights, t->name), t, why);

        if (differs && !is_head(t->name))
            return err_set(err, ERR_INPUT, "'%s' is of another network: '%s': %s", path, t->name,
                           why);
        if (differs && !new_head)
            log_info("the head begins anew, as '%s' has another: '%s': %s", path, t->name, why);
        new_head |= differs;
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
