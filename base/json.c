#include "base/json.h"

#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

/* Jansson's own limit (2048) is fixed when it is built and deep enough to cost a small stack dear.
 * Brackets inside strings do not count; what is malformed is left for the parser to say. */
static int depth_of(const char *text, size_t bytes, int *line)
{
    int depth = 0, deepest = 0, here = 1;
    int in_string = 0;

    for (size_t i = 0; i < bytes; i++) {
        const char c = text[i];

        here += c == '\n';
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']'))
            depth--;
        if (depth > deepest) {
            deepest = depth;
            *line = here;
        }
        if (deepest > JSON_READ_DEPTH_MAX)
            break;
    }
    return deepest;
}

json_t *json_read_text(const char *text, size_t bytes, const char *what, struct err *err)
{
    json_error_t why;
    json_t *tree;
    int line = 1;

    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    if (depth_of(text, bytes, &line) > JSON_READ_DEPTH_MAX) {
        err_set(err, ERR_INPUT, "%s: line %d: nested deeper than %d levels", what, line,
                JSON_READ_DEPTH_MAX);
        return NULL;
    }
    tree = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (tree == NULL)
        err_set(err, ERR_INPUT, "%s: line %d: not valid JSON: %s", what, why.line, why.text);
    return tree;
}

json_t *json_read_file(const char *path, size_t bytes_max, struct err *err)
{
    struct buf text = {0};
    json_t *tree = NULL;

    if (file_read(path, bytes_max, &text, err) == 0)
        tree = json_read_text(buf_text(&text), text.bytes, path, err);
    buf_release(&text);
    return tree;
}

/* The member, or NULL with err set when it is not there. */
static json_t *member(const json_t *object, const char *key, const char *what, struct err *err)
{
    json_t *value;

    if (!json_is_object(object)) {
        err_set(err, ERR_INPUT, "%s: an object with '%s' was expected", what, key);
        return NULL;
    }
    value = json_object_get(object, key);
    if (value == NULL)
        err_set(err, ERR_INPUT, "%s: '%s' is missing", what, key);
    return value;
}

int json_read_string(const json_t *object, const char *key, const char **value, const char *what,
                     struct err *err)
{
    const json_t *found = member(object, key, what, err);

    if (found == NULL)
        return -1;
    if (!json_is_string(found))
        return err_set(err, ERR_INPUT, "%s: '%s' is not a string", what, key);
    *value = json_string_value(found);
    return 0;
}

int json_read_integer(const json_t *object, const char *key, int64_t min, int64_t max,
                      int64_t *value, const char *what, struct err *err)
{
    const json_t *found = member(object, key, what, err);
    int64_t number;

    if (found == NULL)
        return -1;
    if (!json_is_integer(found))
        return err_set(err, ERR_INPUT, "%s: '%s' is not an integer", what, key);
    number = json_integer_value(found);
    if (number < min || number > max)
        return err_set(err, ERR_INPUT,
                       "%s: '%s' is %" PRId64 ", not between %" PRId64 " and %" PRId64, what, key,
                       number, min, max);
    *value = number;
    return 0;
}

const json_t *json_read_array(const json_t *object, const char *key, const char *what,
                              struct err *err)
{
    const json_t *found = member(object, key, what, err);

    if (found != NULL && !json_is_array(found)) {
        err_set(err, ERR_INPUT, "%s: '%s' is not an array", what, key);
        return NULL;
    }
    return found;
}
