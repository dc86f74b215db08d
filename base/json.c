#include "base/json.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

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

static bool is_between(unsigned char byte, unsigned char low, unsigned char high)
{
    return byte >= low && byte <= high;
}

/* Bytes of the character that the text begins with, as RFC 3629 section 4 lists them; 0: none. */
static size_t character_bytes(const unsigned char *text)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high;
        size_t bytes;
    } rows[] = {
        {0x01, 0x7f, 0, 0xff, 1},    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    size_t row = 0;

    while (row < sizeof rows / sizeof rows[0] &&
           !is_between(text[0], rows[row].first_low, rows[row].first_high))
        row++;
    if (row == sizeof rows / sizeof rows[0] ||
        !is_between(text[1], rows[row].second_low, rows[row].second_high))
        return 0;
    for (size_t i = 2; i < rows[row].bytes; i++)
        if (!is_between(text[i], 0x80, 0xbf))
            return 0;
    return rows[row].bytes;
}

json_t *json_new_text(const char *text)
{
    struct buf mended = {0};
    json_t *result;

    for (const char *at = text; *at != '\0';) {
        const size_t bytes = character_bytes((const unsigned char *)at);

        buf_append(&mended, bytes > 0 ? at : REPLACEMENT, bytes > 0 ? bytes : strlen(REPLACEMENT));
        at += bytes > 0 ? bytes : 1;
    }
    result = json_string(buf_text(&mended));
    buf_release(&mended);
    if (result == NULL)
        abort();
    return result;
}
