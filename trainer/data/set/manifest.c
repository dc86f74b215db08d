#include "trainer/data/set/manifest.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/shard.h"

/* A key of 100 bytes for each of 2.5 million pictures. The tree that it is parsed to takes three
 * times that. */
#define MANIFEST_BYTES_MAX ((size_t)256 << 20)

static bool ends_in(const char *path, const char *ending)
{
    const size_t bytes = strlen(path), end = strlen(ending);

    return bytes > end && strcasecmp(path + bytes - end, ending) == 0;
}

bool data_manifest_is(const char *path)
{
    return (ends_in(path, ".manifest") || ends_in(path, ".json") || ends_in(path, ".jsonl")) &&
           (data_place_is_remote(path) || !file_is_folder(path));
}

void data_manifest_release(struct data_manifest *manifest)
{
    for (size_t i = 0; i < manifest->count; i++)
        free(manifest->entries[i].name);
    free(manifest->entries);
    free(manifest->path);
    free(manifest->root);
    *manifest = (struct data_manifest){0};
}

/* Read so far; names are whole keys until the root is known. */
struct reading {
    struct data_manifest *manifest;
    char *bucket;
    size_t capacity;
    char *attribute; /* of an augmented one: what the label is called */
};

static int refuse(const struct reading *reading, size_t number, const char *name, const char *why,
                  struct err *err)
{
    const struct data_manifest *const m = reading->manifest;

    return err_set(err, ERR_INPUT, "'%s' %s %zu%s%.200s%s: %s", m->path,
                   m->labelled ? "line" : "entry", number, name != NULL ? ", '" : "",
                   name != NULL ? name : "", name != NULL ? "'" : "", why);
}

/* Takes key over. */
static int add(struct reading *reading, char *key, size_t number, int32_t label, struct err *err)
{
    struct data_manifest *const m = reading->manifest;

    if (m->count == reading->capacity) {
        reading->capacity = reading->capacity * 2 + 64;
        m->entries = reallocarray(m->entries, reading->capacity, sizeof *m->entries);
        if (m->entries == NULL)
            abort();
    }
    m->entries[m->count++] =
        (struct data_manifest_entry){.name = key, .number = number, .label = label};
    if (key[0] == '\0' || key[strlen(key) - 1] == '/')
        return refuse(reading, number, key, "a folder, or nothing: an object is due here", err);
    if (key[0] == '/' || strstr(key, "//") != NULL)
        return refuse(reading, number, key, "a folder in it has no name ('//')", err);
    if (strlen(key) > SHARD_KEY_BYTES_MAX)
        return refuse(reading, number, NULL, "a key of more than 1024 bytes", err);
    return 0;
}

/* --- ManifestFile --- */

static int read_prefix(struct reading *reading, const json_t *first, struct data_place *place,
                       struct err *err)
{
    const char *const prefix = json_string_value(json_object_get(first, "prefix"));

    if (prefix == NULL)
        return refuse(reading, 1, NULL,
                      "{\"prefix\": \"s3://BUCKET/...\"} is due here, and the keys behind it", err);
    if (!data_place_is_remote(prefix) || data_place_object(place, prefix, NULL) < 0)
        return refuse(reading, 1, prefix, "no s3://BUCKET/... as a prefix has to be", err);
    return 0;
}

static int read_array(struct reading *reading, const json_t *array, struct err *err)
{
    struct data_place place = {0};
    int rc = read_prefix(reading, json_array_get(array, 0), &place, err);

    for (size_t i = 1; i < json_array_size(array) && rc == 0; i++) {
        const char *const text = json_string_value(json_array_get(array, i));
        char *key = NULL;

        if (text == NULL) {
            rc = refuse(reading, i + 1, NULL, "no text, as each behind the prefix has to be", err);
            break;
        }
        if (asprintf(&key, "%s%s", place.key, text) < 0)
            abort();
        rc = add(reading, key, i + 1, -1, err);
    }
    reading->bucket = place.bucket;
    free(place.key);
    return rc;
}

static int read_plain(struct reading *reading, struct buf *text, struct err *err)
{
    struct buf what = {0};
    json_t *array;
    int rc = -1;

    buf_printf(&what, "'%s'", reading->manifest->path);
    array = json_read_text(buf_text(text), text->bytes, buf_text(&what), err);
    if (array != NULL)
        rc = read_array(reading, array, err);
    json_decref(array);
    buf_release(&what);
    return rc;
}

/* --- AugmentedManifestFile --- */

/* The one attribute that may be the label; NULL with err set. */
static const char *find_attribute(const struct reading *reading, json_t *line, size_t number,
                                  struct err *err)
{
    const char *name, *found = NULL;
    json_t *value;

    json_object_foreach(line, name, value)
    {
        if (strcmp(name, "source-ref") == 0 || ends_in(name, "-metadata"))
            continue;
        if (found != NULL) {
            refuse(reading, number, name, "besides another attribute: which one is the label?",
                   err);
            return NULL;
        }
        found = name;
    }
    if (found == NULL)
        refuse(reading, number, NULL, "no label beside \"source-ref\"", err);
    return found;
}

static int read_label(struct reading *reading, json_t *line, size_t number, int32_t *label,
                      struct err *err)
{
    const json_t *value;
    const char *text;

    if (reading->attribute == NULL) {
        const char *const found = find_attribute(reading, line, number, err);

        if (found == NULL)
            return -1;
        reading->attribute = text_copy(found);
    }
    value = json_object_get(line, reading->attribute);
    text = json_string_value(value);
    if (json_is_integer(value) && json_integer_value(value) >= 0 &&
        json_integer_value(value) <= DATA_LABEL_MAX)
        *label = (int32_t)json_integer_value(value);
    else if (text == NULL || !data_number_read(text, strlen(text), label))
        return refuse(reading, number, reading->attribute,
                      "no label, a whole number from 0 to 999999, under this name", err);
    return 0;
}

static int read_object(struct reading *reading, json_t *line, size_t number, struct err *err)
{
    const char *const source = json_string_value(json_object_get(line, "source-ref"));
    struct data_place place = {0};
    int32_t label = -1;
    int rc;

    if (source == NULL || !data_place_is_remote(source) ||
        data_place_object(&place, source, NULL) < 0)
        return refuse(reading, number, NULL, "no \"source-ref\": \"s3://BUCKET/KEY\"", err);
    if (reading->bucket == NULL) {
        reading->bucket = place.bucket;
        place.bucket = NULL;
    }
    if (place.bucket != NULL && strcmp(place.bucket, reading->bucket) != 0)
        rc = refuse(reading, number, source, "in another bucket than the first", err);
    else
        rc = read_label(reading, line, number, &label, err);
    if (rc == 0)
        rc = add(reading, place.key, number, label, err);
    else
        free(place.key);
    free(place.bucket);
    return rc;
}

static int read_lines(struct reading *reading, struct buf *text, struct err *err)
{
    const char *at = buf_text(text), *const end = at + text->bytes;
    int rc = 0;

    for (size_t number = 1; at < end && rc == 0; number++) {
        const char *const stop = memchr(at, '\n', (size_t)(end - at));
        const size_t bytes = (size_t)((stop != NULL ? stop : end) - at);
        struct buf what = {0};
        json_t *line = NULL;

        buf_printf(&what, "'%s' line %zu", reading->manifest->path, number);
        if (bytes > strspn(at, " \t\r")) {
            line = json_read_text(at, bytes, buf_text(&what), err);
            rc = line == NULL ? -1 : read_object(reading, line, number, err);
        }
        json_decref(line);
        buf_release(&what);
        at += bytes + 1;
    }
    return rc;
}

/* --- what it names --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct data_manifest_entry *)a)->name,
                  ((const struct data_manifest_entry *)b)->name);
}

static int check_twice(const struct reading *reading, struct err *err)
{
    const struct data_manifest *const m = reading->manifest;

    for (size_t i = 1; i < m->count; i++) {
        const size_t a = m->entries[i - 1].number, b = m->entries[i].number;

        if (strcmp(m->entries[i - 1].name, m->entries[i].name) == 0)
            return err_set(err, ERR_INPUT, "'%s' has 's3://%s/%.200s' twice: %s %zu and %zu",
                           m->path, reading->bucket, m->entries[i].name,
                           m->labelled ? "lines" : "entries", a < b ? a : b, a < b ? b : a);
    }
    return 0;
}

static size_t slashes(const char *name)
{
    size_t count = 0;

    for (; *name != '\0'; name++)
        count += *name == '/';
    return count;
}

/* How many bytes of all keys are the folder that they share; of pictures it is above their class
 * folders. Sorted, so that the first and the last tell. */
static size_t shared_folder(const struct data_manifest *m)
{
    const char *const first = m->entries[0].name, *const last = m->entries[m->count - 1].name;
    const bool classes = m->kind == DATA_ROOT_CLASSES && !m->labelled;
    size_t shared = 0, bytes = 0;

    while (first[shared] != '\0' && first[shared] == last[shared])
        shared++;
    for (size_t i = 0; i < shared; i++)
        bytes = first[i] == '/' ? i + 1 : bytes;
    for (size_t i = 0; classes && i < m->count; i++)
        while (bytes > 0 && data_entry_is_picture(m->entries[i].name) &&
               slashes(m->entries[i].name + bytes) == 0)
            for (bytes--; bytes > 0 && first[bytes - 1] != '/';)
                bytes--;
    return bytes;
}

static int find_root(const struct reading *reading, struct err *err)
{
    struct data_manifest *const m = reading->manifest;
    const size_t bytes = shared_folder(m);

    if (asprintf(&m->root, "s3://%s/%.*s", reading->bucket, (int)(bytes > 0 ? bytes - 1 : 0),
                 m->entries[0].name) < 0)
        abort();
    for (size_t i = 0; i < m->count; i++) {
        struct data_manifest_entry *const entry = &m->entries[i];

        memmove(entry->name, entry->name + bytes, strlen(entry->name + bytes) + 1);
        if (m->kind != DATA_ROOT_CLASSES || m->labelled || !data_entry_is_picture(entry->name) ||
            slashes(entry->name) == 1)
            continue;
        refuse(reading, entry->number, entry->name,
               slashes(entry->name) == 0 ? "a picture in no class folder"
                                         : "a picture not directly in its class folder",
               err);
        return err_wrap(err, "classes are folders of '%s'", m->root);
    }
    return 0;
}

static int find_kind(const struct reading *reading, struct err *err)
{
    struct data_manifest *const m = reading->manifest;
    size_t pictures = 0, tars = 0;
    bool index = false;

    for (size_t i = 0; i < m->count; i++) {
        const char *const slash = strrchr(m->entries[i].name, '/');
        const char *const name = slash != NULL ? slash + 1 : m->entries[i].name;

        pictures += data_entry_is_picture(name);
        tars += data_entry_is_tar(name);
        index = index || strcmp(name, SHARD_TOP_NAME) == 0;
    }
    if (!m->labelled && pictures > 0 && tars > 0)
        return err_set(err, ERR_INPUT,
                       "'%s' names %zu pictures and %zu tars: a manifest of either is needed",
                       m->path, pictures, tars);
    if (!m->labelled && pictures + tars == 0)
        return err_set(err, ERR_INPUT, "'%s' names no pictures (.jpg, .jpeg or .png) and no tars",
                       m->path);
    m->kind = tars == 0 || m->labelled ? DATA_ROOT_CLASSES
              : index                  ? DATA_ROOT_SHARDS
                                       : DATA_ROOT_TARS;
    return 0;
}

/* --- all of it --- */

static int read_text(struct reading *reading, struct buf *text, struct err *err)
{
    struct data_manifest *const m = reading->manifest;
    const char *at = buf_text(text);

    if (strncmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    while (isspace((unsigned char)*at))
        at++;
    m->labelled = *at == '{';
    if (*at != '[' && *at != '{')
        return err_set(err, ERR_INPUT,
                       "'%s' is no manifest: neither a JSON array nor a JSON object a line",
                       m->path);
    if ((m->labelled ? read_lines(reading, text, err) : read_plain(reading, text, err)) < 0)
        return -1;
    if (m->count == 0)
        return err_set(err, ERR_INPUT, "'%s' names nothing", m->path);
    qsort(m->entries, m->count, sizeof *m->entries, by_name);
    if (check_twice(reading, err) < 0 || find_kind(reading, err) < 0)
        return -1;
    return find_root(reading, err);
}

int data_manifest_open(struct data_manifest *manifest, const char *path,
                       const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_manifest opened = {.path = text_copy(path)};
    struct reading reading = {.manifest = &opened};
    struct buf text = {0};
    int rc = -1;

    if (data_place_load_until(path, MANIFEST_BYTES_MAX, cancel, &text, err) == 0)
        rc = read_text(&reading, &text, err);
    buf_release(&text);
    free(reading.bucket);
    free(reading.attribute);
    if (rc < 0)
        data_manifest_release(&opened);
    else
        *manifest = opened;
    return rc;
}
