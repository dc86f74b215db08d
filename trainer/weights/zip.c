/* trainer/weights/zip.c -- see zip.h. */
#include "trainer/weights/zip.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"

/* Weights hardly shrink when they are deflated; 16 leaves room for tensors of zeros. */
#define INFLATION_MAX 16
#define INFLATION_MIN ((size_t)1 << 20) /* for the files of a few hundred bytes */

struct reading {
    struct archive *archive;
    const unsigned char *bytes;
    size_t count, room; /* of `bytes`; of zip->entries */
    size_t total;       /* bytes of all entries */
    char *folder;       /* with its '/' */
    const char *path;
};

static const char *reason(const struct reading *reading)
{
    const char *why = archive_error_string(reading->archive);

    return why != NULL ? why : "unknown reason";
}

static bool component_is_plain(const char *name, size_t bytes)
{
    return bytes > 0 && !(bytes == 1 && name[0] == '.') &&
           !(bytes == 2 && name[0] == '.' && name[1] == '.') && memchr(name, '\\', bytes) == NULL;
}

/* Relative, of plain components, at least a folder and a file. */
static bool name_is_plain(const char *name)
{
    size_t components = 0;

    for (;; name++) {
        const size_t bytes = strcspn(name, "/");

        if (!component_is_plain(name, bytes))
            return false;
        components++;
        name += bytes;
        if (*name == '\0')
            return components > 1;
    }
}

static int check_name(struct reading *reading, const char *name, struct err *err)
{
    if (!name_is_plain(name))
        return err_set(err, ERR_INPUT, "'%s' has an entry '%s', not a file in its one folder",
                       reading->path, name);
    if (reading->folder == NULL) {
        reading->folder = strndup(name, strcspn(name, "/") + 1);
        if (reading->folder == NULL)
            abort();
    }
    if (strncmp(name, reading->folder, strlen(reading->folder)) != 0)
        return err_set(err, ERR_INPUT, "'%s' has an entry '%s' outside of its folder '%s'",
                       reading->path, name, reading->folder);
    return 0;
}

/* What an entry is, before a byte of it is read. */
static int check_entry(struct reading *reading, struct archive_entry *entry, const char *name,
                       struct err *err)
{
    const char *format = archive_format_name(reading->archive);
    const la_int64_t size = archive_entry_size(entry);

    if (archive_entry_is_encrypted(entry))
        return err_set(err, ERR_INPUT, "'%s': entry '%s' is encrypted", reading->path, name);
    if (format == NULL ||
        (strstr(format, "(uncompressed)") == NULL && strstr(format, "(deflation)") == NULL))
        return err_set(err, ERR_INPUT, "'%s': entry '%s' is compressed in a way that is not read",
                       reading->path, name);
    if (archive_entry_filetype(entry) != AE_IFREG || !archive_entry_size_is_set(entry) || size < 0)
        return err_set(err, ERR_INPUT, "'%s': entry '%s' is not a file", reading->path, name);
    if ((uint64_t)size > INFLATION_MIN + INFLATION_MAX * reading->count - reading->total)
        return err_set(err, ERR_INPUT,
                       "'%s': its entries have more than %d times the bytes of the file: refused",
                       reading->path, INFLATION_MAX);
    reading->total += (size_t)size;
    return check_name(reading, name, err);
}

static bool inside(const struct reading *reading, const void *data, size_t bytes)
{
    const uintptr_t begin = (uintptr_t)reading->bytes, at = (uintptr_t)data;

    return at >= begin && at - begin <= reading->count &&
           bytes <= reading->count - (size_t)(at - begin);
}

/* A stored entry comes as one block that lies in the archive; others are put together. */
static int keep_block(const struct reading *reading, struct weights_zip_entry *entry,
                      const void *block, size_t bytes, size_t at, struct err *err)
{
    if (bytes == entry->bytes && inside(reading, block, bytes)) {
        entry->data = block;
        return 0;
    }
    if (entry->copy == NULL) {
        entry->copy = malloc(entry->bytes);
        if (entry->copy == NULL)
            return err_set(err, ERR_MEMORY, "'%s': no memory for the %zu bytes of '%s'",
                           reading->path, entry->bytes, entry->name);
        entry->data = entry->copy;
    }
    memcpy((unsigned char *)entry->copy + at, block, bytes);
    return 0;
}

static int read_data(const struct reading *reading, struct weights_zip_entry *entry,
                     struct err *err)
{
    size_t got = 0, bytes;
    const void *block;
    la_int64_t at;
    int rc;

    while ((rc = archive_read_data_block(reading->archive, &block, &bytes, &at)) == ARCHIVE_OK) {
        if (bytes == 0)
            continue;
        if ((uint64_t)at != got || bytes > entry->bytes - got)
            return err_set(err, ERR_INPUT, "'%s': entry '%s' is longer than it says", reading->path,
                           entry->name);
        if (keep_block(reading, entry, block, bytes, got, err) < 0)
            return -1;
        got += bytes;
    }
    if (rc != ARCHIVE_EOF)
        return err_set(err, ERR_INPUT, "'%s': entry '%s' is damaged: %s", reading->path,
                       entry->name, reason(reading));
    if (got != entry->bytes)
        return err_set(err, ERR_INPUT, "'%s': entry '%s' is cut short", reading->path, entry->name);
    return 0;
}

static struct weights_zip_entry *new_entry(struct weights_zip *zip, struct reading *reading,
                                           const char *name, size_t bytes)
{
    struct weights_zip_entry *entry;

    if (zip->count == reading->room) {
        reading->room = reading->room * 2 + 64;
        zip->entries = realloc(zip->entries, reading->room * sizeof *zip->entries);
        if (zip->entries == NULL)
            abort();
    }
    entry = &zip->entries[zip->count++];
    *entry = (struct weights_zip_entry){.name = strdup(name), .bytes = bytes};
    if (entry->name == NULL)
        abort();
    return entry;
}

static int read_entry(struct weights_zip *zip, struct reading *reading, struct archive_entry *entry,
                      struct err *err)
{
    const char *name = archive_entry_pathname(entry);

    if (name == NULL)
        return err_set(err, ERR_INPUT, "'%s' has an entry whose name is not UTF-8", reading->path);
    if (archive_entry_filetype(entry) == AE_IFDIR)
        return 0;
    if (check_entry(reading, entry, name, err) < 0)
        return -1;
    return read_data(
        reading,
        new_entry(zip, reading, name + strlen(reading->folder), (size_t)archive_entry_size(entry)),
        err);
}

static int read_entries(struct weights_zip *zip, struct reading *reading, struct err *err)
{
    struct archive_entry *entry;
    int rc;

    while ((rc = archive_read_next_header(reading->archive, &entry)) == ARCHIVE_OK) {
        if (read_entry(zip, reading, entry, err) < 0)
            return -1;
    }
    if (rc != ARCHIVE_EOF)
        return err_set(err, ERR_INPUT, "'%s' is a damaged zip: %s", reading->path, reason(reading));
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct weights_zip_entry *x = a, *y = b;

    return (x->data > y->data) - (x->data < y->data);
}

static int by_name(const void *a, const void *b)
{
    const struct weights_zip_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* Entries that share bytes make much out of little (Fifield, "A better zip bomb", WOOT 2019), and
 * let two readers see two files. Leaves the entries sorted by name. */
static int check_all(struct weights_zip *zip, const struct reading *reading, struct err *err)
{
    struct weights_zip_entry *const entries = zip->entries;

    if (zip->count == 0)
        return err_set(err, ERR_INPUT, "'%s' is an empty zip", reading->path);
    qsort(entries, zip->count, sizeof *entries, by_place);
    for (size_t i = 1; i < zip->count; i++) {
        if (entries[i - 1].bytes > 0 && entries[i].bytes > 0 &&
            (uintptr_t)entries[i].data - (uintptr_t)entries[i - 1].data < entries[i - 1].bytes)
            return err_set(err, ERR_INPUT, "'%s': entries '%s' and '%s' overlap", reading->path,
                           entries[i - 1].name, entries[i].name);
    }
    qsort(entries, zip->count, sizeof *entries, by_name);
    for (size_t i = 1; i < zip->count; i++) {
        if (strcmp(entries[i - 1].name, entries[i].name) == 0)
            return err_set(err, ERR_INPUT, "'%s' has two entries '%s'", reading->path,
                           entries[i].name);
    }
    return 0;
}

/* libarchive turns names into the thread's character set, and the C locale has none for a file
 * that was called 'größe.pth' when it was saved. */
static locale_t enter_utf8(locale_t *before)
{
    const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

    *before = utf8 != (locale_t)0 ? uselocale(utf8) : (locale_t)0;
    return utf8;
}

static void leave_utf8(locale_t utf8, locale_t before)
{
    if (utf8 == (locale_t)0)
        return;
    uselocale(before);
    freelocale(utf8);
}

static int read_archive(struct weights_zip *zip, struct reading *reading, struct err *err)
{
    locale_t before;
    const locale_t utf8 = enter_utf8(&before);
    int rc = -1;

    if (archive_read_support_format_zip_seekable(reading->archive) != ARCHIVE_OK ||
        archive_read_open_memory(reading->archive, reading->bytes, reading->count) != ARCHIVE_OK)
        err_set(err, ERR_INPUT, "'%s' is a damaged zip: %s", reading->path, reason(reading));
    else
        rc = read_entries(zip, reading, err);
    leave_utf8(utf8, before);
    return rc;
}

int weights_zip_open(struct weights_zip *zip, const void *bytes, size_t count, const char *path,
                     struct err *err)
{
    struct reading reading = {
        .archive = archive_read_new(), .bytes = bytes, .count = count, .path = path};
    int rc = -1;

    *zip = (struct weights_zip){0};
    if (reading.archive == NULL)
        abort();
    if (read_archive(zip, &reading, err) == 0)
        rc = check_all(zip, &reading, err);
    archive_read_free(reading.archive);
    free(reading.folder);
    if (rc < 0)
        weights_zip_close(zip);
    return rc;
}

void weights_zip_close(struct weights_zip *zip)
{
    for (size_t i = 0; i < zip->count; i++) {
        free(zip->entries[i].name);
        free(zip->entries[i].copy);
    }
    free(zip->entries);
    *zip = (struct weights_zip){0};
}

const struct weights_zip_entry *weights_zip_find(const struct weights_zip *zip, const char *name)
{
    struct weights_zip_entry key = {.name = (char *)(uintptr_t)name};

    return zip->count == 0
               ? NULL
               : bsearch(&key, zip->entries, zip->count, sizeof zip->entries[0], by_name);
}
