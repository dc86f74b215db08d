#include "trainer/export.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/option.h"
#include "trainer/model_dir.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/output.h"
#include "trainer/tensors.h"
#include "trainer/weights/torch.h"
#include "trainer/weights_source.h"

#define TRACKED "num_batches_tracked"

static const struct option_spec table[] = {
    {.name = "model",
     .kind = OPTION_TEXT,
     .metavar = "DIR|FILE|s3://...",
     .help = "what a training left: the folder with model.safetensors and config.json; or a file "
             "of weights,\nor a model.tar.gz"},
    {.name = "format",
     .kind = OPTION_CHOICE,
     .metavar = "pth|safetensors",
     .choices = "pth|safetensors",
     .shown = "as --output ends, else pth",
     .help = "a state_dict for torch.load(weights_only=True), or safetensors"},
    {.name = "output",
     .kind = OPTION_TEXT,
     .metavar = "FILE|s3://...",
     .shown = "model.pth or model.safetensors",
     .help = "the file to write; one that is there is replaced"},
};

void train_export_help(FILE *out)
{
    struct option_set set = {0};

    option_set_init(&set, table, sizeof table / sizeof table[0]);
    option_set_help(&set, out);
    option_set_release(&set);
}

/* --- what is written --- */

struct export
{
    struct train_model_dir dir;    /* where there is a config.json */
    struct weights alone;          /* where there is none */
    const struct weights *weights; /* of the two */
    struct buf source;             /* what they were read from */
    struct safetensors_entry *entries;
    size_t count;
    char network[160]; /* in words; "" where no config.json tells */
};

static int refuse(const struct export *export, const char *name, const char *why, struct err *err)
{
    return err_set(err, ERR_INPUT, "'%s' is not what its config.json says (%s): '%s': %s",
                   buf_text((struct buf *)&export->source), export->network, name, why);
}

/* Behind running_var, as torchvision has it; a name that no running_var has is none of ours. */
static int take_tracked(struct export *export, const struct nn_tensor *variance, struct err *err)
{
    static const char suffix[] = "running_var";
    const size_t bytes = strlen(variance->name), tail = sizeof suffix - 1;
    const struct safetensors_entry *entry = NULL;
    struct buf name = {0};
    int rc = 0;

    if (bytes < tail || strcmp(variance->name + bytes - tail, suffix) != 0)
        return 0;
    buf_append(&name, variance->name, bytes - tail);
    buf_printf(&name, TRACKED);
    entry = weights_find(export->weights, buf_text(&name));
    if (entry == NULL || entry->type != SAFETENSORS_I64 || entry->dims != 0)
        rc = refuse(export, buf_text(&name), "it is not there, or no integer", err);
    else
        export->entries[export->count++] = *entry;
    buf_release(&name);
    return rc;
}

/* Which tensor of the file did not come along? */
static int check_strays(const struct export *export, struct err *err)
{
    for (size_t i = 0; i < export->weights->count; i++) {
        const char *const name = export->weights->tensors[i].name;
        size_t at = 0;

        while (at < export->count && strcmp(export->entries[at].name, name) != 0)
            at++;
        if (at == export->count)
            return refuse(export, name, "that network has none of this name", err);
    }
    return 0;
}

static int take_network(struct export *export, const struct nn_model *model, struct err *err)
{
    const struct nn_tensor *const tensors = nn_model_tensors(model);

    for (size_t i = 0; i < nn_model_tensor_count(model); i++) {
        const struct safetensors_entry *const entry =
            weights_find(export->weights, tensors[i].name);
        char why[TRAIN_TENSORS_WHY_CHARS];

        if (train_tensors_differ(entry, &tensors[i], why))
            return refuse(export, tensors[i].name, why, err);
        export->entries[export->count++] = *entry;
        if (take_tracked(export, &tensors[i], err) < 0)
            return -1;
    }
    return check_strays(export, err);
}

/* Without a word about the network: the tensors as they come. */
static int take_all(struct export *export, struct err *err)
{
    for (size_t i = 0; i < export->weights->count; i++) {
        const struct safetensors_entry *const entry = &export->weights->tensors[i];

        if (strncmp(entry->name, "optimizer.", 10) != 0 && strncmp(entry->name, "best.", 5) != 0)
            export->entries[export->count++] = *entry;
    }
    if (export->count == 0)
        return err_set(err, ERR_INPUT, "'%s' has no weights", buf_text(&export->source));
    if (export->count < export->weights->count)
        log_info("of the checkpoint '%s' come the weights of its last step",
                 buf_text(&export->source));
    return 0;
}

/* A network that fits has no more tensors than the file, or the first that lacks is told. */
static int make_table(struct export *export, struct err *err)
{
    export->entries = calloc(export->weights->count + 1, sizeof export->entries[0]);
    if (export->entries == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a table of %zu tensors",
                       export->weights->count);
    return 0;
}

static int take_dir(struct export *export, struct err *err)
{
    static const struct train_model_use use = {.batch = 1, .threads = 1, .ranks_of_host = 1};
    const struct train_model_dir *const dir = &export->dir;
    struct nn_model *model = NULL;
    int rc = -1;

    export->weights = &dir->weights;
    buf_printf(&export->source, "%s", dir->where);
    snprintf(export->network, sizeof export->network, "%s of %d classes", dir->name, dir->classes);
    nn_threads_init(1);
    model = train_model_dir_network(dir, &use, err);
    if (model != NULL && make_table(export, err) == 0)
        rc = take_network(export, model, err);
    nn_model_free(model);
    return rc;
}

static int take_alone(struct export *export, const char *path, struct err *err)
{
    export->weights = &export->alone;
    if (train_weights_open(&export->alone, path, &export->source, err) < 0 ||
        make_table(export, err) < 0)
        return -1;
    return take_all(export, err);
}

static int collect(struct export *export, const char *path, struct err *err)
{
    struct err none = {0};
    const int found = train_model_dir_find(&export->dir, path, &none);

    if (found < 0)
        return err_set(err, none.code, "%s", none.msg);
    return found > 0 ? take_dir(export, err) : take_alone(export, path, err);
}

/* --- all of it --- */

static int write_to(struct train_output *output, bool torch, const struct export *export,
                    struct err *err)
{
    static const struct safetensors_pair metadata[] = {{"format", "pt"}};
    int rc = train_output_begin(output, err);

    if (rc == 0)
        rc = torch ? weights_torch_write(&output->file, export->entries, export->count, err)
                   : safetensors_write(&output->file, export->entries, export->count, metadata, 1,
                                       err);
    return rc == 0 ? train_output_commit(output, err) : -1;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t bytes = strlen(text), tail = strlen(end);

    return bytes >= tail && strcmp(text + bytes - tail, end) == 0;
}

int train_export(int argc, char *const *argv, struct err *err)
{
    struct export export = {0};
    struct train_output file = {0};
    struct option_set set = {0};
    const char *path, *output, *format;
    bool torch = true;
    int rc = -1;

    option_set_init(&set, table, sizeof table / sizeof table[0]);
    if (option_set_parse(&set, argc, argv, err) < 0)
        goto out;
    path = option_text(&set, "model");
    output = option_text(&set, "output");
    format = option_text(&set, "format");
    torch = format != NULL ? strcmp(format, "pth") == 0
                           : output == NULL || !ends_with(output, ".safetensors");
    if (output == NULL)
        output = torch ? "model.pth" : "model.safetensors";
    if (path != NULL && strncmp(path, "file://", 7) == 0)
        path += 7;
    if (path == NULL) {
        err_set(err, ERR_USAGE, "which model? give --model DIR, FILE or s3://BUCKET/...");
        goto out;
    }
    if (train_output_open(&file, output, err) < 0 || collect(&export, path, err) < 0)
        goto out;
    rc = write_to(&file, torch, &export, err);
    if (rc == 0)
        log_info("'%s': %zu tensors%s%s of '%s'", output, export.count,
                 export.network[0] != '\0' ? ", " : "", export.network, buf_text(&export.source));
out:
    train_output_close(&file);
    free(export.entries);
    train_model_dir_release(&export.dir);
    weights_release(&export.alone);
    buf_release(&export.source);
    option_set_release(&set);
    return rc;
}
