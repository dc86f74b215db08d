/*
 * base/json.h -- reading JSON (by jansson) with limits and with errors that name the file and the
 * key.
 *
 * The tree is jansson's: json_t, json_object_get, json_decref. Duplicate keys are refused, unknown
 * ones are the caller's to ignore.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define JSON_READ_DEPTH_MAX 32

/** Parse one JSON text. `what` names it in errors (a file, "the header of 'x.safetensors'"). A
 * UTF-8 byte-order mark is passed over. Deeper than JSON_READ_DEPTH_MAX or malformed is ERR_INPUT
 * with the line. NULL on failure; else the caller's. */
json_t *json_read_text(const char *text, size_t bytes, const char *what, struct err *err);

/** The same for a file of at most bytes_max. */
json_t *json_read_file(const char *path, size_t bytes_max, struct err *err);

/** A member that must be there and be of the type, and for integers within [min, max]; ERR_INPUT
 * names key and `what`. The string is the tree's. */
int json_read_string(const json_t *object, const char *key, const char **value, const char *what,
                     struct err *err);
int json_read_integer(const json_t *object, const char *key, int64_t min, int64_t max,
                      int64_t *value, const char *what, struct err *err);
/** A member that must be an array; NULL with err set otherwise. The array is the tree's. */
const json_t *json_read_array(const json_t *object, const char *key, const char *what,
                              struct err *err);

/** A text of any bytes, a path as a rule, as a string of JSON: bytes that are not UTF-8 (RFC 3629)
 * become U+FFFD, one for each. The caller's. */
json_t *json_new_text(const char *text);

#endif
