/* trainer/weights/safetensors.c -- see safetensors.h. */
#include "trainer/weights/safetensors.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are written as they lie in memory");

#define LENGTH_BYTES     8 /* of the header's length */
#define HEADER_BYTES_MAX 100000000
#define DATA_ALIGN       8
#define METADATA         "__metadata__"

static const struct {
    const char *name;
    size_t bytes;
} types[] = {
    [SAFETENSORS_I64] = {"I64", 8},   [SAFETENSORS_F32] = {"F32", 4},
    [SAFETENSORS_F64] = {"F64", 8},   [SAFETENSORS_F16] = {"F16", 2},
    [SAFETENSORS_BF16] = {"BF16", 2}, [SAFETENSORS_I32] = {"I32", 4},
    [SAFETENSORS_I16] = {"I16", 2},   [SAFETENSORS_I8] = {"I8", 1},
    [SAFETENSORS_U8] = {"U8", 1},     [SAFETENSORS_BOOL] = {"BOOL", 1},
};

size_t safetensors_type_bytes(enum safetensors_type type)
{
    return types[type].bytes;
}

/* false: more than a size_t counts. */
static bool entry_bytes(const struct safetensors_entry *entry, size_t *bytes)
{
    *bytes = types[entry->type].bytes;
    for (int i = 0; i < entry->dims; i++) {
        if (__builtin_mul_overflow(*bytes, entry->size[i], bytes))
            return false;
    }
    return true;
}

static size_t own_bytes(const struct safetensors_entry *entry)
{
    size_t bytes = 0;
    const bool fits = entry_bytes(entry, &bytes);

    assert(fits && entry->dims >= 0 && entry->dims <= SAFETENSORS_DIMS_MAX);
    (void)fits;
    return bytes;
}

static int by_type_and_name(const void *a, const void *b)
{
    const struct safetensors_entry *x = a, *y = b;

    if (x->type != y->type)
        return x->type < y->type ? -1 : 1;
    return strcmp(x->name, y->name); /* compares bytes as unsigned */
}

static void sort_entries(struct safetensors_entry *entries, size_t count)
{
    if (count > 0)
        qsort(entries, count, sizeof *entries, by_type_and_name);
}

void safetensors_digest(struct safetensors_entry *entries, size_t count,
                        unsigned char sha[DIGEST_SHA256_BYTES])
{
    struct digest_sha256 *digest = digest_sha256_new();

    sort_entries(entries, count);
    for (size_t i = 0; i < count; i++)
        digest_sha256_put(digest, entries[i].data, own_bytes(&entries[i]));
    digest_sha256_end(digest, sha);
    digest_sha256_free(digest);
}

/* Writing */

static json_t *describe_entry(const struct safetensors_entry *entry, size_t begin)
{
    const size_t end = begin + own_bytes(entry);
    json_t *shape = json_array();

    for (int i = 0; i < entry->dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)entry->size[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", types[entry->type].name, "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static json_t *describe_metadata(const struct safetensors_pair *metadata, size_t count,
                                 struct err *err)
{
    json_t *object = json_object();

    for (size_t i = 0; i < count; i++) {
        assert(json_object_get(object, metadata[i].key) == NULL);
        if (json_object_set_new(object, metadata[i].key, json_string(metadata[i].value)) < 0) {
            json_decref(object);
            err_set(err, ERR_INTERNAL, "metadata '%s' is not UTF-8", metadata[i].key);
            return NULL;
        }
    }
    return object;
}

/* The header as a tree; jansson keeps the order in which members are put in. */
static json_t *describe(const struct safetensors_entry *entries, size_t count,
                        const struct safetensors_pair *metadata, size_t metadata_count,
                        struct err *err)
{
    json_t *header = json_object();
    size_t begin = 0;

    if (metadata_count > 0) {
        json_t *object = describe_metadata(metadata, metadata_count, err);

        if (object == NULL) {
            json_decref(header);
            return NULL;
        }
        json_object_set_new(header, METADATA, object);
    }
    for (size_t i = 0; i < count; i++) {
        assert(json_object_get(header, entries[i].name) == NULL);
        if (json_object_set_new(header, entries[i].name, describe_entry(&entries[i], begin)) < 0) {
            json_decref(header);
            err_set(err, ERR_INTERNAL, "tensor name '%s' is not UTF-8", entries[i].name);
            return NULL;
        }
        begin += own_bytes(&entries[i]);
    }
    return header;
}

/* Length and text, padded with spaces so that the data begin at a multiple of DATA_ALIGN. */
static void print_header(const json_t *header, struct buf *out)
{
    char *text = json_dumps(header, JSON_COMPACT);

    if (text == NULL)
        abort();
    const size_t bytes = strlen(text), pad = (DATA_ALIGN - bytes % DATA_ALIGN) % DATA_ALIGN;
    const uint64_t length = htole64(bytes + pad);

    buf_append(out, &length, sizeof length);
    buf_append(out, text, bytes);
    buf_append(out, "        ", pad);
    free(text);
}

int safetensors_write(struct file_new *file, struct safetensors_entry *entries, size_t count,
                      const struct safetensors_pair *metadata, size_t metadata_count,
                      struct err *err)
{
    struct buf head = {0};
    json_t *header;
    int rc = -1;

    sort_entries(entries, count);
    header = describe(entries, count, metadata, metadata_count, err);
    if (header == NULL)
        goto out;
    print_header(header, &head);
    if (file_new_write(file, head.data, head.bytes, err) < 0)
        goto out;
    for (size_t i = 0; i < count; i++) {
        if (file_new_write(file, entries[i].data, own_bytes(&entries[i]), err) < 0)
            goto out;
    }
    rc = 0;
out:
    buf_release(&head);
    json_decref(header);
    return rc;
}

/* Reading. All of it is checked before anything of it is used: the file may come from anywhere. */

static int map_file(struct safetensors *file, int fd, const char *path, struct err *err)
{
    struct stat info;
    void *map;

    if (fstat(fd, &info) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", path);
    if (!S_ISREG(info.st_mode))
        return err_set(err, ERR_INPUT, "'%s' is not a file", path);
    if (info.st_size == 0)
        return err_set(err, ERR_INPUT, "'%s' is cut short: 0 bytes", path);
    map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return err_set_errno(err, ERR_IO, errno, "cannot map '%s'", path);
    file->map = map;
    file->map_bytes = (size_t)info.st_size;
    return 0;
}

static int read_header(struct safetensors *file, const void *bytes, size_t count, const char *path,
                       struct err *err)
{
    const char *text = (const char *)bytes + LENGTH_BYTES;
    uint64_t length;

    if (count < LENGTH_BYTES)
        return err_set(err, ERR_INPUT, "'%s' is cut short: %zu bytes", path, count);
    memcpy(&length, bytes, sizeof length);
    length = le64toh(length);
    if (length > HEADER_BYTES_MAX)
        return err_set(err, ERR_INPUT, "'%s' is not a safetensors file: a header of %llu bytes",
                       path, (unsigned long long)length);
    if (length > count - LENGTH_BYTES)
        return err_set(err, ERR_INPUT, "'%s' is cut short: it ends within its header", path);
    if (length == 0 || text[0] != '{')
        return err_set(err, ERR_INPUT, "'%s' is not a safetensors file: its header is not JSON",
                       path);
    file->data = text + length;
    file->data_bytes = count - LENGTH_BYTES - (size_t)length;
    file->header = json_read_text(text, (size_t)length, path, err);
    return file->header == NULL ? -1 : 0;
}

static int read_metadata(struct safetensors *file, json_t *object, const char *path,
                         struct err *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(object))
        return err_set(err, ERR_INPUT, "%s: '" METADATA "' is not an object", path);
    file->metadata = calloc(json_object_size(object) + 1, sizeof *file->metadata);
    if (file->metadata == NULL)
        return err_set(err, ERR_MEMORY, "%s: no memory for its metadata", path);
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return err_set(err, ERR_INPUT, "%s: metadata '%s' is not a string", path, key);
        file->metadata[file->metadata_count++] =
            (struct safetensors_pair){key, json_string_value(value)};
    }
    return 0;
}

static int read_type(const struct safetensors *file, struct safetensors_entry *entry,
                     const json_t *tensor, const char *what, struct err *err)
{
    const char *name = NULL;

    if (json_read_string(tensor, "dtype", &name, what, err) < 0)
        return -1;
    for (size_t type = 0; type < sizeof types / sizeof types[0]; type++) {
        if (strcmp(name, types[type].name) == 0 && (file->foreign || type <= SAFETENSORS_F32)) {
            entry->type = (enum safetensors_type)type;
            return 0;
        }
    }
    return err_set(err, ERR_INPUT, "%s: dtype '%s' is not supported (%s)", what, name,
                   file->foreign ? "floats of 16, 32 and 64 bits, signed integers, U8 and BOOL are"
                                 : "I64 and F32 are");
}

static int read_shape(struct safetensors_entry *entry, const json_t *tensor, const char *what,
                      struct err *err)
{
    const json_t *shape = json_read_array(tensor, "shape", what, err);

    if (shape == NULL)
        return -1;
    if (json_array_size(shape) > SAFETENSORS_DIMS_MAX)
        return err_set(err, ERR_INPUT, "%s: more than %d dimensions", what, SAFETENSORS_DIMS_MAX);
    for (size_t i = 0; i < json_array_size(shape); i++) {
        const json_t *size = json_array_get(shape, i);

        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return err_set(err, ERR_INPUT, "%s: its shape is not a list of sizes", what);
        entry->size[entry->dims++] = (uint64_t)json_integer_value(size);
    }
    return 0;
}

/* Sets data; the offsets must be inside of the data section, aligned, and as far apart as type and
 * shape want. */
static int read_offsets(const struct safetensors *file, struct safetensors_entry *entry,
                        const json_t *tensor, const char *what, struct err *err)
{
    const json_t *offsets = json_read_array(tensor, "data_offsets", what, err);
    size_t bytes = 0;

    if (offsets == NULL)
        return -1;
    const json_t *begin_json = json_array_get(offsets, 0), *end_json = json_array_get(offsets, 1);

    if (json_array_size(offsets) != 2 || !json_is_integer(begin_json) || !json_is_integer(end_json))
        return err_set(err, ERR_INPUT, "%s: data_offsets are not two integers", what);
    const json_int_t begin = json_integer_value(begin_json), end = json_integer_value(end_json);

    if (begin < 0 || end < begin || (uint64_t)end > file->data_bytes)
        return err_set(err, ERR_INPUT,
                       "%s: bytes %lld to %lld are not in the file's %zu bytes of data", what,
                       (long long)begin, (long long)end, file->data_bytes);
    if (!entry_bytes(entry, &bytes) || bytes != (size_t)(end - begin))
        return err_set(err, ERR_INPUT, "%s: %lld bytes do not fit its shape", what,
                       (long long)(end - begin));
    entry->data = (const unsigned char *)file->data + begin;
    if (!file->foreign && (uintptr_t)entry->data % types[entry->type].bytes != 0)
        return err_set(err, ERR_INPUT, "%s: its data are not aligned", what);
    return 0;
}

static int read_entry(const struct safetensors *file, struct safetensors_entry *entry,
                      const char *name, const json_t *tensor, const char *path, struct err *err)
{
    struct buf what = {0};
    int rc = -1;

    buf_printf(&what, "%s: tensor '%s'", path, name);
    *entry = (struct safetensors_entry){.name = name};
    if (read_type(file, entry, tensor, buf_text(&what), err) == 0 &&
        read_shape(entry, tensor, buf_text(&what), err) == 0)
        rc = read_offsets(file, entry, tensor, buf_text(&what), err);
    buf_release(&what);
    return rc;
}

/* Tensors without elements come before what begins at the same place. */
static int by_place(const void *a, const void *b)
{
    const struct safetensors_entry *x = a, *y = b;
    const uintptr_t x_at = (uintptr_t)x->data, y_at = (uintptr_t)y->data;

    if (x_at != y_at)
        return x_at < y_at ? -1 : 1;
    const size_t x_bytes = own_bytes(x), y_bytes = own_bytes(y);

    if (x_bytes != y_bytes)
        return x_bytes < y_bytes ? -1 : 1;
    return by_type_and_name(x, y);
}

static int check_no_holes(const struct safetensors *file, const char *path, struct err *err)
{
    const unsigned char *next = file->data, *end = next + file->data_bytes;

    for (size_t i = 0; i < file->entry_count; i++) {
        if (file->entries[i].data != next)
            return err_set(err, ERR_INPUT, "%s: tensor '%s' %s", path, file->entries[i].name,
                           (const unsigned char *)file->entries[i].data < next
                               ? "overlaps with another"
                               : "comes after a hole in the data");
        next += own_bytes(&file->entries[i]);
    }
    if (next != end)
        return err_set(err, ERR_INPUT, "'%s' has %td bytes behind its last tensor", path,
                       end - next);
    return 0;
}

static int read_entries(struct safetensors *file, const char *path, struct err *err)
{
    json_t *header = file->header, *value;
    const char *key;

    if (!json_is_object(header))
        return err_set(err, ERR_INPUT, "%s: its header is not a JSON object", path);
    file->entries = calloc(json_object_size(header) + 1, sizeof *file->entries);
    if (file->entries == NULL)
        return err_set(err, ERR_MEMORY, "%s: no memory for its table of tensors", path);
    json_object_foreach(header, key, value)
    {
        if (strcmp(key, METADATA) == 0) {
            if (read_metadata(file, value, path, err) < 0)
                return -1;
        } else {
            if (read_entry(file, &file->entries[file->entry_count], key, value, path, err) < 0)
                return -1;
            file->entry_count++;
        }
    }
    qsort(file->entries, file->entry_count, sizeof *file->entries, by_place);
    return check_no_holes(file, path, err);
}

int safetensors_open_fd(struct safetensors *file, int fd, const char *path, struct err *err)
{
    *file = (struct safetensors){0};
    if (map_file(file, fd, path, err) == 0 &&
        read_header(file, file->map, file->map_bytes, path, err) == 0 &&
        read_entries(file, path, err) == 0)
        return 0;
    safetensors_close(file);
    return -1;
}

int safetensors_open_bytes(struct safetensors *file, const void *bytes, size_t count,
                           const char *path, struct err *err)
{
    *file = (struct safetensors){.foreign = true};
    if (read_header(file, bytes, count, path, err) == 0 && read_entries(file, path, err) == 0)
        return 0;
    safetensors_close(file);
    return -1;
}

int safetensors_open(struct safetensors *file, const char *path, struct err *err)
{
    /* Without O_NONBLOCK the open of a FIFO would wait for its writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int rc;

    *file = (struct safetensors){0};
    if (fd < 0)
        return err_set_errno(err, errno == ENOENT || errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                             "cannot open '%s'", path);
    rc = safetensors_open_fd(file, fd, path, err);
    close(fd);
    return rc;
}

void safetensors_close(struct safetensors *file)
{
    json_decref(file->header);
    free(file->entries);
    free(file->metadata);
    if (file->map != NULL)
        munmap(file->map, file->map_bytes);
    *file = (struct safetensors){0};
}

const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->entry_count; i++) {
        if (strcmp(file->entries[i].name, name) == 0)
            return &file->entries[i];
    }
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->metadata_count; i++) {
        if (strcmp(file->metadata[i].key, key) == 0)
            return file->metadata[i].value;
    }
    return NULL;
}
