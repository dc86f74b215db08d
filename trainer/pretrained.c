#include "trainer/pretrained.h"

#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "trainer/nn/model.h"
#include "trainer/tensors.h"
#include "trainer/weights_source.h"

#define HEAD "fc."

static bool is_head(const char *name)
{
    return strncmp(name, HEAD, sizeof HEAD - 1) == 0;
}

/* Whether the file is of this network; *new_head: but for its head. */
static int check(const struct nn_model *model, const struct weights *weights, const char *path,
                 enum train_pretrained_head head, bool *new_head, struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);

    *new_head = head == TRAIN_HEAD_NEW;
    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const char *const name = tensors[i].name;
        char why[TRAIN_TENSORS_WHY_CHARS];

        if (!train_tensors_differ(weights_find(weights, name), &tensors[i], why))
            continue;
        if (!is_head(name))
            return err_set(err, ERR_INPUT, "'%s' is of another network: '%s': %s", path, name, why);
        if (head == TRAIN_HEAD_KEEP)
            return err_set(err, ERR_INPUT, "'%s' has another head, which was to be kept: '%s': %s",
                           path, name, why);
        if (!*new_head)
            log_info("the head begins anew, as '%s' has another: '%s': %s", path, name, why);
        *new_head = true;
    }
    return 0;
}

static int take(struct nn_model *model, const struct weights *weights, const char *path,
                enum train_pretrained_head head, uint64_t seed, struct err *err)
{
    bool new_head = false;

    if (check(model, weights, path, head, &new_head, err) < 0)
        return -1;
    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const struct nn_tensor *const t = &nn_model_tensors(model)[i];

        if (new_head && is_head(t->name))
            nn_model_init_tensor(model, i, seed);
        else
            nn_tensor_from_file_order(t, weights_find(weights, t->name)->data,
                                      t->kind == NN_TENSOR_RUNNING ? nn_model_running(model)
                                                                   : nn_model_weights(model));
    }
    if (head == TRAIN_HEAD_NEW)
        log_info("the head begins anew, as asked for");
    log_info("weights from '%s' (%s)", path, weights->format);
    return 0;
}

int train_pretrained_load(struct nn_model *model, const char *path, enum train_pretrained_head head,
                          uint64_t seed, struct err *err)
{
    struct weights weights = {0};
    struct buf name = {0};
    int rc = -1;

    if (train_weights_open(&weights, path, &name, err) == 0)
        rc = take(model, &weights, buf_text(&name), head, seed, err);
    weights_release(&weights);
    buf_release(&name);
    return rc < 0 ? err_wrap(err, "--pretrained") : 0;
}
