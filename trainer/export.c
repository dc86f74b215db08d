#include "trainer/export.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/option.h"
#include "base/uri.h"
#include "trainer/checkpoint/place.h"
#include "trainer/data/place.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/tensors.h"
#include "trainer/weights/torch.h"
#include "trainer/weights_source.h"

#define CONFIG           "config.json"
#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define CLASSES_MAX      (1 << 24)
#define TRACKED          "num_batches_tracked"

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
    struct weights weights;
    struct buf source; /* what they were read from */
    struct safetensors_entry *entries;
    size_t count;
    char network[160]; /* in words; "" where no config.json tells */
};

/* The model folder's config.json; *config is NULL where there is none. */
static int load_config(const char *folder, json_t **config, struct err *err)
{
    char *const path = uri_join(folder, CONFIG);
    struct place place = {0};
    struct buf text = {0};
    int fd = -1, rc = place_open(&place, folder, err);

    *config = NULL;
    if (rc == 0)
        rc = place_get(&place, CONFIG, &fd, err);
    if (rc > 0) {
        close(fd);
        rc = data_place_load(path, CONFIG_BYTES_MAX, &text, err);
        if (rc == 0)
            *config = json_read_text((const char *)text.data, text.bytes, path, err);
        rc = *config != NULL ? 0 : -1;
    }
    buf_release(&text);
    place_release(&place);
    free(path);
    return rc;
}

/* The network that config.json tells, for its tensors' names and shapes. */
static struct nn_model *build(const json_t *config, const char *what, struct export *export,
                              struct err *err)
{
    const json_t *const parameters = json_object_get(config, "hyperparameters");
    struct nn_model_options options = {.micro_batch_max = 1};
    const char *head = "linear";
    int64_t classes = 0;

    if (json_read_string(config, "model", &options.name, what, err) < 0 ||
        json_read_integer(config, "classes", 2, CLASSES_MAX, &classes, what, err) < 0)
        return NULL;
    options.classes = (int)classes;
    options.image_size = nn_model_default_image_size(options.name);
    if (options.image_size == 0) {
        err_set(err, ERR_INPUT, "'%s': the model '%s' is not one of %s", what, options.name,
                nn_model_names());
        return NULL;
    }
    if (json_object_get(parameters, "head") != NULL &&
        (json_read_string(parameters, "head", &head, what, err) < 0 ||
         nn_tuning_parse_head(&options.tuning, options.name, head, err) < 0)) {
        err_wrap(err, "'%s': head", what);
        return NULL;
    }
    snprintf(export->network, sizeof export->network, "%s of %d classes, head %s", options.name,
             options.classes, head);
    nn_threads_init(1);
    return nn_model_new(&options, err);
}

static int refuse(const struct export *export, const char *name, const char *why, struct err *err)
{
    return err_set(err, ERR_INPUT, "'%s' is not what its " CONFIG " says (%s): '%s': %s",
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
    entry = weights_find(&export->weights, buf_text(&name));
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
    for (size_t i = 0; i < export->weights.count; i++) {
        const char *const name = export->weights.tensors[i].name;
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
            weights_find(&export->weights, tensors[i].name);
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
    for (size_t i = 0; i < export->weights.count; i++) {
        const struct safetensors_entry *const entry = &export->weights.tensors[i];

        if (strncmp(entry->name, "optimizer.", 10) != 0 && strncmp(entry->name, "best.", 5) != 0)
            export->entries[export->count++] = *entry;
    }
    if (export->count == 0)
        return err_set(err, ERR_INPUT, "'%s' has no weights", buf_text(&export->source));
    if (export->count < export->weights.count)
        log_info("of the checkpoint '%s' come the weights of its last step",
                 buf_text(&export->source));
    return 0;
}

static int take(struct export *export, const json_t *config, const char *folder, struct err *err)
{
    char *const what = uri_join(folder, CONFIG);
    struct nn_model *model = NULL;
    int rc = -1;

    /* A network that fits has no more tensors than the file, or the first that lacks is told. */
    export->entries = calloc(export->weights.count + 1, sizeof export->entries[0]);
    if (export->entries == NULL)
        err_set(err, ERR_MEMORY, "no memory for a table of %zu tensors", export->weights.count);
    else if (config == NULL)
        rc = take_all(export, err);
    else if ((model = build(config, what, export, err)) != NULL)
        rc = take_network(export, model, err);
    nn_model_free(model);
    free(what);
    return rc;
}

static int collect(struct export *export, const char *path, struct err *err)
{
    json_t *config = NULL;
    int rc = -1;

    if (train_weights_is_folder(path) && load_config(path, &config, err) < 0)
        return -1;
    if (train_weights_open(&export->weights, path, &export->source, err) == 0)
        rc = take(export, config, path, err);
    json_decref(config);
    return rc;
}

/* --- writing --- */

static bool ends_with(const char *text, const char *end)
{
    const size_t bytes = strlen(text), tail = strlen(end);

    return bytes >= tail && strcmp(text + bytes - tail, end) == 0;
}

/* Where the file's own name begins; NULL: it has none. */
static const char *own_name(const char *output, struct err *err)
{
    const char *const slash = strrchr(output, '/'), *const name =
                                                        slash != NULL ? slash + 1 : output;
    struct uri uri = {0};
    bool good = false;

    if (uri_parse(&uri, output, err) < 0) {
        err_wrap(err, "--output");
        return NULL;
    }
    good = name[0] != '\0' && uri.path[0] != '\0' &&
           (uri.scheme == URI_S3 || !file_is_folder(uri.path));
    uri_release(&uri);
    if (!good)
        err_set(err, ERR_USAGE, "--output: '%s' is a folder: name a file in it", output);
    return good ? name : NULL;
}

static int write_to(const struct place *place, const char *name, bool torch,
                    const struct export *export, struct err *err)
{
    static const struct safetensors_pair metadata[] = {{"format", "pt"}};
    struct file_new file = {.fd = -1};
    int rc = place_begin(place, name, &file, err);

    if (rc == 0)
        rc = torch ? weights_torch_write(&file, export->entries, export->count, err)
                   : safetensors_write(&file, export->entries, export->count, metadata, 1, err);
    if (rc == 0)
        rc = place_commit(place, name, &file, PLACE_REPLACE, err);
    file_new_release(&file);
    return rc;
}

static int write_file(const char *output, bool torch, const struct export *export, struct err *err)
{
    const char *const name = own_name(output, err);
    struct place place = {0};
    char *folder = NULL;
    int rc = -1;

    if (name == NULL)
        return -1;
    folder = name > output ? strndup(output, (size_t)(name - output)) : strdup(".");
    if (folder == NULL)
        abort();
    if (place_open(&place, folder, err) == 0)
        rc = write_to(&place, name, torch, export, err);
    place_release(&place);
    free(folder);
    return rc;
}

int train_export(int argc, char *const *argv, struct err *err)
{
    struct export export = {0};
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
    if (own_name(output, err) == NULL || collect(&export, path, err) < 0)
        goto out;
    rc = write_file(output, torch, &export, err);
    if (rc == 0)
        log_info("'%s': %zu tensors%s%s of '%s'", output, export.count,
                 export.network[0] != '\0' ? ", " : "", export.network, buf_text(&export.source));
out:
    free(export.entries);
    weights_release(&export.weights);
    buf_release(&export.source);
    option_set_release(&set);
    return rc;
}
