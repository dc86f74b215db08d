#include "s3io/upload_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/entropy.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/uri.h"
#include "s3io/address.h"
#include "s3io/sign.h"

#define HEADER           "convoy-upload-1"
#define RECORD_BYTES_MAX ((size_t)64 << 10)

/* The folder of all records; false: there is no home. */
static bool folder_path(char *out, size_t bytes)
{
    const char *const state = getenv("XDG_STATE_HOME"), *const home = getenv("HOME");

    if (state != NULL && state[0] == '/')
        return snprintf(out, bytes, "%s/convoy/uploads", state) < (int)bytes;
    return home != NULL && home[0] == '/' &&
           snprintf(out, bytes, "%s/.local/state/convoy/uploads", home) < (int)bytes;
}

static void host_name(char *out, size_t bytes)
{
    if (gethostname(out, bytes) < 0)
        snprintf(out, bytes, "?");
    out[bytes - 1] = '\0';
}

static void boot_id(char *out, size_t bytes)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (file == NULL || fgets(out, (int)bytes, file) == NULL)
        snprintf(out, bytes, "?");
    out[strcspn(out, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
}

/* --- the source --- */

static void stat_take(struct s3_upload_record *record, const struct stat *info)
{
    record->device = (uint64_t)info->st_dev;
    record->inode = (uint64_t)info->st_ino;
    record->bytes = (uint64_t)info->st_size;
    record->modified_ns =
        (uint64_t)info->st_mtim.tv_sec * 1000000000u + (uint64_t)info->st_mtim.tv_nsec;
}

static bool same_stat(const struct s3_upload_record *a, const struct s3_upload_record *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->modified_ns == b->modified_ns;
}

static bool source_changed(const struct s3_upload_record *record)
{
    struct s3_upload_record now = {0};
    struct stat info;

    if (stat(record->source, &info) < 0)
        return errno == ENOENT;
    stat_take(&now, &info);
    return !same_stat(record, &now);
}

void s3_upload_record_init(struct s3_upload_record *record, const char *endpoint,
                           const char *bucket, const char *key, const char *source, int fd)
{
    uint64_t r[2];
    struct stat info = {0};
    char *real = source == NULL ? NULL : realpath(source, NULL);

    entropy_fill(r, sizeof r);
    *record = (struct s3_upload_record){.endpoint = text_copy(endpoint != NULL ? endpoint : "aws"),
                                        .bucket = text_copy(bucket),
                                        .key = text_copy(key),
                                        .source = real,
                                        .fd = -1};
    snprintf(record->name, sizeof record->name, "%016" PRIx64 "%016" PRIx64, r[0], r[1]);
    if (fstat(fd, &info) == 0)
        stat_take(record, &info);
}

void s3_upload_record_release(struct s3_upload_record *record)
{
    if (record->path != NULL && record->fd >= 0)
        close(record->fd);
    free(record->endpoint);
    free(record->bucket);
    free(record->key);
    free(record->upload_id);
    free(record->kind);
    free(record->source);
    free(record->path);
    *record = (struct s3_upload_record){.fd = -1};
}

/* --- the file --- */

static void put_text(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "%s ", name);
    s3_sign_encode(out, value, true);
    buf_append(out, "\n", 1);
}

static void put_number(struct buf *out, const char *name, uint64_t value)
{
    buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

void s3_upload_record_keep(struct s3_upload_record *record)
{
    char folder[4096], path[4200], host[256], boot[64];
    struct buf text = {0};
    struct err why = {0};
    int fd = -1;

    if (!folder_path(folder, sizeof folder) || file_make_folder(folder, &why) < 0)
        return;
    host_name(host, sizeof host);
    boot_id(boot, sizeof boot);
    put_text(&text, HEADER, host);
    put_text(&text, "boot", boot);
    put_text(&text, "endpoint", record->endpoint);
    put_text(&text, "bucket", record->bucket);
    put_text(&text, "key", record->key);
    put_text(&text, "upload", record->upload_id);
    put_text(&text, "kind", record->kind);
    if (record->source != NULL)
        put_text(&text, "source", record->source);
    put_number(&text, "device", record->device);
    put_number(&text, "inode", record->inode);
    put_number(&text, "bytes", record->bytes);
    put_number(&text, "modified_ns", record->modified_ns);
    put_number(&text, "part_bytes", record->part_bytes);
    put_number(&text, "crc32c", record->crc32c);
    put_number(&text, "crc32c_whole", record->crc32c_whole);
    snprintf(path, sizeof path, "%s/%s", folder, record->name);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        write(fd, text.data, text.bytes) == (ssize_t)text.bytes) {
        record->path = text_copy(path);
        record->fd = fd;
    } else if (fd >= 0) {
        unlink(path);
        close(fd);
    }
    buf_release(&text);
}

void s3_upload_record_drop(struct s3_upload_record *record)
{
    if (record->path != NULL)
        unlink(record->path);
    s3_upload_record_release(record);
}

/* Takes the value. False: it is a number's, and none. */
static bool take_line(struct s3_upload_record *record, const char *name, size_t name_chars,
                      char *value)
{
    const struct {
        const char *name;
        char **text;
        uint64_t *number;
    } fields[] = {{"endpoint", &record->endpoint, NULL},
                  {"bucket", &record->bucket, NULL},
                  {"key", &record->key, NULL},
                  {"upload", &record->upload_id, NULL},
                  {"kind", &record->kind, NULL},
                  {"source", &record->source, NULL},
                  {"device", NULL, &record->device},
                  {"inode", NULL, &record->inode},
                  {"bytes", NULL, &record->bytes},
                  {"modified_ns", NULL, &record->modified_ns},
                  {"part_bytes", NULL, &record->part_bytes}};
    bool whole = true;

    if (name_chars == 6 && strncmp(name, "crc32c", 6) == 0)
        record->crc32c = value[0] == '1';
    if (name_chars == 12 && strncmp(name, "crc32c_whole", 12) == 0)
        record->crc32c_whole = value[0] == '1';
    if (name_chars == 4 && strncmp(name, "boot", 4) == 0) {
        char boot[64];

        boot_id(boot, sizeof boot);
        record->this_boot = strcmp(value, boot) == 0;
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strlen(fields[i].name) != name_chars || strncmp(fields[i].name, name, name_chars) != 0)
            continue;
        if (fields[i].number != NULL) {
            whole = text_number(value, fields[i].number);
        } else {
            free(*fields[i].text);
            *fields[i].text = value;
            return true;
        }
    }
    free(value);
    return whole;
}

/* False: no record of this host, or a damaged one. */
static bool parse(struct s3_upload_record *record, const char *text)
{
    char host[256], *of = NULL;
    bool ours, whole = true;

    host_name(host, sizeof host);
    if (strncmp(text, HEADER " ", strlen(HEADER) + 1) != 0)
        return false;
    for (const char *line = text; *line != '\0';) {
        const size_t chars = strcspn(line, "\n"), name_chars = strcspn(line, " \n");
        const size_t skip = name_chars < chars ? name_chars + 1 : chars;
        char *const value = text_copy_bytes(line + skip, chars - skip);

        whole &= uri_decode(value);
        if (of == NULL)
            of = value;
        else
            whole &= take_line(record, line, name_chars, value);
        line += chars + (line[chars] == '\n');
    }
    ours = whole && of != NULL && strcmp(of, host) == 0;
    free(of);
    return ours && record->endpoint != NULL && record->bucket != NULL && record->key != NULL &&
           record->upload_id != NULL && record->part_bytes > 0;
}

/* Open, lock and read one. False, and nothing is held: its process lives, or it is no record. */
static bool load(struct s3_upload_record *record, const char *folder, const char *name)
{
    struct buf text = {0};
    struct err why = {0};
    char path[4400];
    bool taken;

    *record = (struct s3_upload_record){.fd = -1};
    if (strlen(name) >= sizeof record->name || name[0] == '.')
        return false;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    record->fd = open(path, O_RDWR | O_CLOEXEC);
    if (record->fd < 0)
        return false;
    record->path = text_copy(path);
    snprintf(record->name, sizeof record->name, "%s", name);
    taken = flock(record->fd, LOCK_EX | LOCK_NB) == 0 &&
            file_read(path, RECORD_BYTES_MAX, &text, &why) == 0 && parse(record, buf_text(&text));
    buf_release(&text);
    if (!taken)
        s3_upload_record_release(record);
    return taken;
}

/* Each record that can be locked; `visit` says whether to go on, and takes what it wants. */
static void each(bool (*visit)(void *context, struct s3_upload_record *record), void *context)
{
    char folder[4096];
    struct dirent *entry;
    bool more = true;
    DIR *dir;

    if (!folder_path(folder, sizeof folder) || (dir = opendir(folder)) == NULL)
        return;
    while (more && (entry = readdir(dir)) != NULL) {
        struct s3_upload_record record;

        if (load(&record, folder, entry->d_name)) {
            more = visit(context, &record);
            s3_upload_record_release(&record);
        }
    }
    closedir(dir);
}

struct search {
    struct s3_upload_record *wanted;
    bool found;
};

static bool find_one(void *context, struct s3_upload_record *record)
{
    struct search *const search = context;
    struct s3_upload_record *const wanted = search->wanted;

    if (record->source == NULL || strcmp(record->source, wanted->source) != 0 ||
        strcmp(record->endpoint, wanted->endpoint) != 0 ||
        strcmp(record->bucket, wanted->bucket) != 0 || strcmp(record->key, wanted->key) != 0 ||
        !same_stat(record, wanted))
        return true;
    s3_upload_record_release(wanted);
    *wanted = *record;
    *record = (struct s3_upload_record){.fd = -1};
    search->found = true;
    return false;
}

bool s3_upload_record_find(struct s3_upload_record *record)
{
    struct search search = {.wanted = record};

    if (record->source != NULL)
        each(find_one, &search);
    return search.found;
}

struct sweep {
    const char *endpoint;
    s3_upload_record_abort *abort;
    void *context;
};

static bool sweep_one(void *context, struct s3_upload_record *record)
{
    const struct sweep *const sweep = context;
    struct stat info;
    const double age_s =
        fstat(record->fd, &info) == 0 ? clock_wall_s() - (double)info.st_mtim.tv_sec : 0;
    const bool useless = age_s > S3_UPLOAD_KEEP_S ||
                         (record->this_boot && (record->source == NULL || source_changed(record)));
    enum s3_upload_fate fate;

    if (!useless || strcmp(record->endpoint, sweep->endpoint) != 0)
        return true;
    fate = sweep->abort(sweep->context, record);
    if (fate == S3_UPLOAD_STAYS && age_s > S3_UPLOAD_GIVE_UP_S) {
        log_warn("the parts of an upload to '%s' that was cut off could not be aborted for weeks, "
                 "and it is not tried again: upload id %s",
                 s3_address_name(record->bucket, record->key).text, record->upload_id);
        fate = S3_UPLOAD_GONE;
    }
    if (fate == S3_UPLOAD_GONE)
        s3_upload_record_drop(record);
    return fate != S3_UPLOAD_LATER;
}

void s3_upload_record_sweep(const char *endpoint, s3_upload_record_abort *abort_one, void *context)
{
    struct sweep sweep = {
        .endpoint = endpoint != NULL ? endpoint : "aws", .abort = abort_one, .context = context};

    each(sweep_one, &sweep);
}
