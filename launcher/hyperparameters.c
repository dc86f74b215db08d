#include "launcher/hyperparameters.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/option.h"
#include "base/uri.h"
#include "launcher/export.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define BLANKS           " \t\r\n"

static bool is_platforms(const char *name)
{
    return strncmp(name, "sagemaker_", 10) == 0 || strcmp(name, "_tuning_objective_metric") == 0;
}

/* A value as text. Files made by hand have numbers, truth values and lists too; null is no value.
 */
static char *value_text(const json_t *value)
{
    char *text = NULL;

    if (json_is_string(value))
        return option_decode(json_string_value(value));
    if (!json_is_null(value))
        text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    return text;
}

/* What a value says: the JSON in its text where there is some ("64", "[10,20]", "\"sgd\""), else
 * itself. */
static json_t *decode_value(json_t *value)
{
    const char *const text = json_string_value(value);
    const char first = text != NULL ? text[strspn(text, BLANKS)] : '\0';
    json_t *inner = NULL;

    if (first == '[' || first == '{')
        inner = json_read_text(text, strlen(text), "", NULL); /* which limits the depth */
    else if (text != NULL)
        inner = json_loads(text, JSON_DECODE_ANY, NULL);
    if (inner != NULL && !json_is_null(inner))
        return inner;
    json_decref(inner);
    return json_incref(value);
}

static void export_one(const char *name, const char *text)
{
    char *const variable = launch_export_name("SM_HP_", name);

    if (name[0] == '\0' || strchr(name, '=') != NULL)
        log_warn("hyperparameter '%.80s' can be no variable of the environment: it is left out",
                 name);
    else
        launch_export(variable, text);
    free(variable);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* ["--batch_size","64",...], by name. */
static void export_arguments(json_t *texts)
{
    const size_t count = json_object_size(texts);
    const char **const names = calloc(count + 1, sizeof *names), *name = NULL;
    json_t *const list = json_array(), *text = NULL;
    size_t at = 0;

    if (names == NULL)
        abort();
    json_object_foreach(texts, name, text) names[at++] = name;
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list,
                              json_sprintf("%s%s", strlen(names[i]) == 1 ? "-" : "--", names[i]));
        json_array_append(list, json_object_get(texts, names[i]));
    }
    launch_export_json("SM_USER_ARGS", list);
    json_decref(list);
    free(names);
}

static void export_all(json_t *tree, json_t *decoded)
{
    json_t *const frameworks = json_object(), *const texts = json_object(), *value = NULL;
    const char *name = NULL;

    json_object_foreach(tree, name, value)
    {
        char *const text = value_text(value);

        if (text != NULL && is_platforms(name)) {
            json_object_set_new(frameworks, name, decode_value(value));
        } else if (text != NULL) {
            json_object_set_new(decoded, name, decode_value(value));
            json_object_set_new(texts, name, json_string(text));
            export_one(name, text);
        }
        free(text);
    }
    launch_export_json("SM_HPS", decoded);
    launch_export_json("SM_FRAMEWORK_PARAMS", frameworks);
    export_arguments(texts);
    json_decref(frameworks);
    json_decref(texts);
}

int launch_hyperparameters_export(const char *base, json_t *decoded, struct err *err)
{
    char *const file = uri_join(base, "input/config/hyperparameters.json");
    json_t *tree = NULL;
    int rc = 0;

    tree = file_exists(file) ? json_read_file(file, CONFIG_BYTES_MAX, err) : json_object();
    if (tree == NULL)
        rc = -1;
    else if (!json_is_object(tree))
        rc = err_set(err, ERR_INPUT, "'%s' is no object of names and values", file);
    else
        export_all(tree, decoded);
    json_decref(tree);
    free(file);
    return rc;
}
