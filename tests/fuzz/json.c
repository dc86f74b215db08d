/* tests/fuzz/json.c -- any bytes as JSON: what is read and written is read as the same; and as the
 * text of a path, which becomes JSON whatever it is. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "fuzz.h"

static int depth(const json_t *value)
{
    int deepest = 0;
    const char *key;
    json_t *member;
    size_t i;

    json_array_foreach(value, i, member)
    {
        const int below = depth(member);

        deepest = below > deepest ? below : deepest;
    }
    json_object_foreach((json_t *)value, key, member)
    {
        const int below = depth(member);

        deepest = below > deepest ? below : deepest;
    }
    return deepest + (json_is_array(value) || json_is_object(value));
}

static void ask(const json_t *tree)
{
    struct err err = {0};
    const char *text;
    int64_t number;

    if (json_read_string(tree, "a", &text, "it", &err) < 0)
        fuzz_must_say(-1, &err, FUZZ_INPUT);
    if (json_read_integer(tree, "a", -5, 5, &number, "it", &err) == 0)
        fuzz_must(number >= -5 && number <= 5);
    if (json_read_array(tree, "a", "it", &err) == NULL)
        fuzz_must_say(-1, &err, FUZZ_INPUT);
}

static void read_again(const json_t *tree)
{
    char *const text = json_dumps(tree, JSON_COMPACT);
    struct err err = {0};
    json_t *again;

    if (text == NULL || depth(tree) > JSON_READ_DEPTH_MAX)
        abort();
    again = json_read_text(text, strlen(text), "again", &err);
    fuzz_must(again != NULL && json_equal(tree, again));
    json_decref(again);
    free(text);
}

static void check_path(const uint8_t *data, size_t bytes)
{
    struct buf path = {0};
    json_t *const list = json_array();

    buf_append(&path, data, bytes);
    fuzz_must(json_array_append_new(list, json_new_text(buf_text(&path))) == 0);
    read_again(list);
    json_decref(list);
    buf_release(&path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct err err = {0};
    json_t *const tree = json_read_text((const char *)data, bytes, "it", &err);

    fuzz_must_say(tree != NULL ? 0 : -1, &err, FUZZ_INPUT);
    if (tree != NULL) {
        ask(tree);
        read_again(tree);
    }
    json_decref(tree);
    check_path(data, bytes);
    return 0;
}
