#include "s3io/ini.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/text.h"

/* One key of a section; key NULL stands for the section itself. */
struct entry {
    enum s3_ini_file file;
    enum s3_ini_kind kind;
    char *section, *key, *value;
    char *whole; /* the value without its comment cut off */
    int line;
    bool yields; /* of the config file's "[default]", which "[profile default]" goes before */
};

struct s3_ini {
    char *paths[S3_INI_FILES];
    bool exists[S3_INI_FILES];
    struct entry *entries;
    size_t count, capacity;
};

/* Where the reader of a file is. */
struct parser {
    struct s3_ini *ini;
    enum s3_ini_file file;
    enum s3_ini_kind kind;
    char *section; /* NULL before the first one */
    bool yields;
    bool has_parent; /* a key stands above: deeper lines belong to it */
    size_t parent;   /* that key's entry */
    size_t indent;   /* how deep it stands */
    int line;
};

static void wipe(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

static char *trim(char *text)
{
    size_t n;

    while (isspace((unsigned char)*text))
        text++;
    n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    text[n] = '\0';
    return text;
}

/* Without the comment that begins after white space; a copy. */
static char *without_comment(const char *text)
{
    char *all = text_copy(text), *out;

    for (char *at = all; *at != '\0'; at++)
        if (isspace((unsigned char)at[0]) && (at[1] == '#' || at[1] == ';')) {
            explicit_bzero(at, strlen(at));
            break;
        }
    out = text_copy(trim(all));
    wipe(all);
    return out;
}

static int bad_line(const struct parser *p, struct err *err, const char *why)
{
    return err_set(err, ERR_INPUT, "'%s' line %d: %s", p->ini->paths[p->file], p->line, why);
}

/* value: all that is behind the '='. */
static void add(struct parser *p, const char *key, char *value)
{
    struct s3_ini *ini = p->ini;

    if (ini->count == ini->capacity) {
        ini->capacity = ini->capacity > 0 ? 2 * ini->capacity : 16;
        ini->entries = realloc(ini->entries, ini->capacity * sizeof *ini->entries);
        if (ini->entries == NULL)
            abort();
    }
    ini->entries[ini->count++] = (struct entry){.file = p->file,
                                                .kind = p->kind,
                                                .section = text_copy(p->section),
                                                .key = key != NULL ? text_copy(key) : NULL,
                                                .value = without_comment(value),
                                                .whole = text_copy(trim(value)),
                                                .line = p->line,
                                                .yields = p->yields};
}

/* What follows a word and white space, without quotes around it; NULL: another word. */
static char *behind(char *name, const char *word)
{
    const size_t n = strlen(word);
    size_t end;

    if (strncmp(name, word, n) != 0 || !isspace((unsigned char)name[n]))
        return NULL;
    name = trim(name + n);
    end = strlen(name);
    if (end >= 2 && (name[0] == '"' || name[0] == '\'') && name[end - 1] == name[0]) {
        name[end - 1] = '\0';
        name++;
    }
    return name;
}

static int parse_section(struct parser *p, char *text, struct err *err)
{
    char *end = strchr(text, ']'), *rest, *name, *behind_word;

    if (end == NULL)
        return bad_line(p, err, "a section without ']'");
    *end = '\0';
    rest = trim(end + 1);
    if (rest[0] != '\0' && rest[0] != '#' && rest[0] != ';')
        return bad_line(p, err, "text behind the section's ']'");
    name = trim(text + 1);
    if (name[0] == '\0')
        return bad_line(p, err, "a section without a name");
    p->kind = S3_INI_OTHER;
    p->yields = false;
    if (p->file == S3_INI_CREDENTIALS) {
        p->kind = S3_INI_PROFILE;
    } else if (strcmp(name, "default") == 0) {
        p->kind = S3_INI_PROFILE;
        p->yields = true;
    } else if ((behind_word = behind(name, "profile")) != NULL) {
        p->kind = S3_INI_PROFILE;
        name = behind_word;
    } else if ((behind_word = behind(name, "services")) != NULL) {
        p->kind = S3_INI_SERVICES;
        name = behind_word;
    }
    free(p->section);
    p->section = text_copy(name);
    p->has_parent = false;
    add(p, NULL, end); /* where the name's ']' was: "" */
    return 0;
}

/* "key = value", cut in place; the key comes in lower case, the value as it stands. */
static int split(struct parser *p, char *text, char **key, char **value, struct err *err)
{
    char *equal = strchr(text, '=');

    if (equal == NULL)
        return bad_line(p, err, "neither '[section]', 'key = value' nor a comment");
    *equal = '\0';
    *key = trim(text);
    *value = equal + 1;
    if ((*key)[0] == '\0')
        return bad_line(p, err, "a value without a key");
    for (char *c = *key; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return 0;
}

static int parse_key(struct parser *p, char *text, struct err *err)
{
    char *key, *value;

    if (p->section == NULL)
        return bad_line(p, err, "a key before the first '[section]'");
    if (split(p, text, &key, &value, err) < 0)
        return -1;
    p->has_parent = true;
    p->parent = p->ini->count;
    add(p, key, value);
    return 0;
}

/* "above\nbelow", in the place of `above`. */
static char *join_lines(char *above, const char *below)
{
    struct buf both = {0};
    char *out;

    buf_printf(&both, "%s\n%s", above, below);
    out = text_copy(buf_text(&both));
    wipe(above);
    explicit_bzero(both.data, both.bytes);
    buf_release(&both);
    return out;
}

/* A line that belongs to the key above. */
static int parse_deeper(struct parser *p, char *text, struct err *err)
{
    struct entry *parent = &p->ini->entries[p->parent];
    struct buf name = {0};
    char *key, *value;

    if (parent->value[0] == '\0') {
        if (split(p, text, &key, &value, err) < 0)
            return -1;
        buf_printf(&name, "%s.%s", parent->key, key);
        add(p, buf_text(&name), value);
        buf_release(&name);
    } else {
        char *cut = without_comment(text);

        parent->value = join_lines(parent->value, cut);
        parent->whole = join_lines(parent->whole, text);
        wipe(cut);
    }
    return 0;
}

static int parse_line(struct parser *p, char *line, struct err *err)
{
    char *text = trim(line);
    const size_t indent = (size_t)(text - line);

    if (text[0] == '\0' || text[0] == '#' || text[0] == ';')
        return 0;
    if (p->has_parent && indent > p->indent)
        return parse_deeper(p, text, err);
    p->indent = indent;
    return text[0] == '[' ? parse_section(p, text, err) : parse_key(p, text, err);
}

static int parse(struct s3_ini *ini, enum s3_ini_file file, char *text, size_t bytes,
                 struct err *err)
{
    struct parser p = {.ini = ini, .file = file};
    char *const end = text + bytes;
    int rc = 0;

    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3; /* a byte-order mark */
    while (rc == 0 && text < end) {
        char *feed = memchr(text, '\n', (size_t)(end - text));

        if (feed == NULL)
            feed = end; /* buf_text's NUL */
        *feed = '\0';
        p.line++;
        if (strlen(text) != (size_t)(feed - text))
            rc = bad_line(&p, err, "a NUL byte");
        else
            rc = parse_line(&p, text, err);
        text = feed + 1;
    }
    free(p.section);
    return rc;
}

static int read_file(struct s3_ini *ini, enum s3_ini_file file, struct err *err)
{
    struct buf text = {0};
    int rc = -1;

    ini->exists[file] = ini->paths[file] != NULL && file_exists(ini->paths[file]) &&
                        !file_is_folder(ini->paths[file]);
    if (!ini->exists[file])
        return 0;
    if (file_read(ini->paths[file], S3_INI_BYTES_MAX, &text, err) == 0)
        rc = parse(ini, file, buf_text(&text), text.bytes, err);
    if (text.data != NULL)
        explicit_bzero(text.data, text.capacity);
    buf_release(&text);
    return rc;
}

static const char *home(void)
{
    const char *folder = getenv("HOME");

    return folder != NULL && folder[0] != '\0' ? folder : NULL;
}

/* The file that the variable names, else `name` in the home folder; NULL without one. */
static char *path_of(const char *variable, const char *name)
{
    const char *given = getenv(variable);
    struct buf path = {0};
    char *out = NULL;

    if (given != NULL && given[0] != '\0' && strncmp(given, "~/", 2) != 0)
        return text_copy(given);
    if (home() != NULL) {
        buf_printf(&path, "%s/%s", home(), given != NULL && given[0] != '\0' ? given + 2 : name);
        out = text_copy(buf_text(&path));
    }
    buf_release(&path);
    return out;
}

struct s3_ini *s3_ini_read(struct err *err)
{
    struct s3_ini *ini = calloc(1, sizeof *ini);

    if (ini == NULL)
        abort();
    ini->paths[S3_INI_CREDENTIALS] = path_of("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    ini->paths[S3_INI_CONFIG] = path_of("AWS_CONFIG_FILE", ".aws/config");
    if (read_file(ini, S3_INI_CREDENTIALS, err) < 0 || read_file(ini, S3_INI_CONFIG, err) < 0) {
        s3_ini_free(ini);
        return NULL;
    }
    return ini;
}

void s3_ini_free(struct s3_ini *ini)
{
    if (ini == NULL)
        return;
    for (size_t i = 0; i < ini->count; i++) {
        free(ini->entries[i].section);
        free(ini->entries[i].key);
        wipe(ini->entries[i].value);
        wipe(ini->entries[i].whole);
    }
    for (int file = 0; file < S3_INI_FILES; file++)
        free(ini->paths[file]);
    free(ini->entries);
    free(ini);
}

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool s3_ini_find(const struct s3_ini *ini, enum s3_ini_file file, enum s3_ini_kind kind,
                 const char *section, const char *key, struct s3_ini_value *value)
{
    const struct entry *best = NULL;

    for (size_t i = 0; i < ini->count; i++) {
        const struct entry *entry = &ini->entries[i];

        if (entry->file == file && entry->kind == kind && is_same(entry->section, section) &&
            is_same(entry->key, key) && (best == NULL || best->yields || !entry->yields))
            best = entry;
    }
    if (best != NULL && value != NULL)
        *value = (struct s3_ini_value){best->value, best->whole, ini->paths[file], best->line};
    return best != NULL;
}

bool s3_ini_find_profile(const struct s3_ini *ini, const char *profile, const char *key,
                         struct s3_ini_value *value)
{
    for (int file = 0; file < S3_INI_FILES; file++)
        if (s3_ini_find(ini, (enum s3_ini_file)file, S3_INI_PROFILE, profile, key, value) &&
            value->text[0] != '\0')
            return true;
    *value = (struct s3_ini_value){0};
    return false;
}

const char *s3_ini_path(const struct s3_ini *ini, enum s3_ini_file file)
{
    return ini->paths[file];
}

bool s3_ini_exists(const struct s3_ini *ini, enum s3_ini_file file)
{
    return ini->exists[file];
}
