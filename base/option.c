#include "base/option.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

#define BLANKS " \t\r\n"

static void *out_of_memory_aborts(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

void option_set_init(struct option_set *set, const struct option_spec *specs, size_t count)
{
    set->specs = specs;
    set->count = count;
    set->values = out_of_memory_aborts(calloc(count, sizeof set->values[0]));
    for (size_t i = 0; i < count; i++)
        if (specs[i].fallback != NULL) {
            set->values[i].text = out_of_memory_aborts(strdup(specs[i].fallback));
            set->values[i].source = OPTION_DEFAULT;
        }
}

void option_set_release(struct option_set *set)
{
    for (size_t i = 0; i < set->count && set->values != NULL; i++) {
        free(set->values[i].text);
        free(set->values[i].origin);
    }
    free(set->values);
    memset(set, 0, sizeof *set);
}

/* '-' and '_' are one character; `bytes` bytes of a against all of b. */
static bool same_name(const char *a, size_t bytes, const char *b)
{
    if (strlen(b) != bytes)
        return false;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i] && !(strchr("-_", a[i]) != NULL && strchr("-_", b[i]) != NULL))
            return false;
    return true;
}

static size_t find(const struct option_set *set, const char *name, size_t bytes)
{
    size_t i = 0;

    while (i < set->count && !same_name(name, bytes, set->specs[i].name))
        i++;
    return i;
}

static size_t must_find(const struct option_set *set, const char *name)
{
    const size_t i = find(set, name, strlen(name));

    assert(i < set->count);
    return i;
}

/* Levenshtein distance, for "did you mean". Names are short. */
static size_t edit_distance(const char *a, size_t a_bytes, const char *b)
{
    size_t row[64];
    const size_t b_bytes = strlen(b);

    if (b_bytes >= 64)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_bytes; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            const size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;

            best = change < best ? change : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_bytes];
}

static int unknown(const struct option_set *set, const char *name, size_t bytes, struct err *err)
{
    size_t nearest = 0, distance = SIZE_MAX;

    for (size_t i = 0; i < set->count; i++) {
        const size_t d = edit_distance(name, bytes, set->specs[i].name);

        if (d < distance) {
            distance = d;
            nearest = i;
        }
    }
    if (distance <= 3 && distance < bytes)
        return err_set(err, ERR_USAGE, "unknown option '--%.*s': did you mean '--%s'?", (int)bytes,
                       name, set->specs[nearest].name);
    return err_set(err, ERR_USAGE, "unknown option '--%.*s': see --help", (int)bytes, name);
}

static bool parse_number(const char *text, double *value)
{
    char *end = NULL;

    errno = 0;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && !isspace((unsigned char)*text) && isfinite(*value);
}

bool option_parse_flag(const char *text, bool *value)
{
    static const char *const yes[] = {"true", "True", "1"}, *const no[] = {"false", "False", "0"};

    for (int i = 0; i < 3; i++) {
        if (strcmp(text, yes[i]) == 0)
            return *value = true, true;
        if (strcmp(text, no[i]) == 0)
            return *value = false, true;
    }
    return false;
}

static bool is_choice(const char *choices, const char *text)
{
    const size_t bytes = strlen(text);

    for (const char *c = choices; bytes > 0 && c != NULL; c = strchr(c, '|')) {
        c += *c == '|';
        if (strncmp(c, text, bytes) == 0 && (c[bytes] == '|' || c[bytes] == '\0'))
            return true;
    }
    return false;
}

static int check(const struct option_spec *spec, const char *text, const char *origin,
                 struct err *err)
{
    double number = 0;
    bool flag = false;

    switch (spec->kind) {
    case OPTION_TEXT:
        if (*text == '\0')
            return err_set(err, ERR_USAGE, "%s: the value is empty", origin);
        return 0;
    case OPTION_CHOICE:
        if (!is_choice(spec->choices, text))
            return err_set(err, ERR_USAGE, "%s: '%s' is not one of %s", origin, text,
                           spec->choices);
        return 0;
    case OPTION_FLAG:
        if (!option_parse_flag(text, &flag))
            return err_set(err, ERR_USAGE, "%s: '%s' is neither true nor false", origin, text);
        return 0;
    case OPTION_INTEGER:
    case OPTION_NUMBER:
        if (!parse_number(text, &number))
            return err_set(err, ERR_USAGE, "%s: '%s' is not a number", origin, text);
        if (spec->kind == OPTION_INTEGER && number != floor(number))
            return err_set(err, ERR_USAGE, "%s: '%s' is not a whole number", origin, text);
        if (number < spec->min || number > spec->max)
            return err_set(err, ERR_USAGE, "%s: %s is not within %.15g and %.15g", origin, text,
                           spec->min, spec->max);
        return 0;
    }
    return err_set(err, ERR_INTERNAL, "%s: kind %d", origin, (int)spec->kind);
}

static int assign(struct option_set *set, size_t i, const char *text, enum option_source source,
                  const char *origin, struct err *err)
{
    struct option_value *value = &set->values[i];

    if (value->source > source)
        return 0;
    if (check(&set->specs[i], text, origin, err) < 0)
        return -1;
    free(value->text);
    value->text = out_of_memory_aborts(strdup(text));
    value->source = source;
    free(value->origin);
    value->origin = out_of_memory_aborts(strdup(origin));
    return 0;
}

int option_set_assign(struct option_set *set, const char *name, const char *text,
                      enum option_source source, const char *origin, struct err *err)
{
    return assign(set, must_find(set, name), text, source, origin, err);
}

int option_set_parse(struct option_set *set, int argc, char *const *argv, struct err *err)
{
    for (int i = 0; i < argc; i++) {
        const char *name = argv[i] + 2, *equals = NULL, *text = NULL;
        char origin[80];
        size_t bytes = 0, at = 0;

        if (strncmp(argv[i], "--", 2) != 0 || *name == '\0')
            return err_set(err, ERR_USAGE, "'%s' belongs to no option: see --help", argv[i]);
        equals = strchr(name, '=');
        bytes = equals != NULL ? (size_t)(equals - name) : strlen(name);
        at = find(set, name, bytes);
        if (at == set->count)
            return unknown(set, name, bytes, err);
        snprintf(origin, sizeof origin, "--%s", set->specs[at].name);
        if (equals != NULL)
            text = equals + 1;
        else if (set->specs[at].kind == OPTION_FLAG)
            text = "true";
        else if (i + 1 < argc)
            text = argv[++i];
        else
            return err_set(err, ERR_USAGE, "%s needs a value (%s)", origin, set->specs[at].metavar);
        if (assign(set, at, text, OPTION_COMMAND_LINE, origin, err) < 0)
            return -1;
    }
    return 0;
}

char *option_decode(const char *text)
{
    const size_t begin = strspn(text, BLANKS);
    size_t end = strlen(text);
    json_t *inner = NULL;
    char *out = NULL;

    while (end > begin && strchr(BLANKS, text[end - 1]) != NULL)
        end--;
    if (text[begin] == '"')
        inner = json_loadb(text + begin, end - begin, JSON_DECODE_ANY, NULL);
    out = json_is_string(inner) ? strdup(json_string_value(inner))
                                : strndup(text + begin, end - begin);
    json_decref(inner);
    return out_of_memory_aborts(out);
}

/* An empty variable says nothing. */
static char *decode_unless_empty(const char *text)
{
    char *const out = text != NULL ? option_decode(text) : NULL;

    if (out != NULL && out[0] != '\0')
        return out;
    free(out);
    return NULL;
}

/* The value of "PREFIXNAME=value", or NULL if that is another's. */
static const char *value_of(const char *entry, const char *prefix, const char *name)
{
    const size_t prefix_bytes = strlen(prefix), name_bytes = strlen(name);
    const char *const at = entry + prefix_bytes;

    if (strncmp(entry, prefix, prefix_bytes) != 0 || strcspn(at, "=") != name_bytes ||
        at[name_bytes] != '=')
        return NULL;
    for (size_t i = 0; i < name_bytes; i++)
        if (at[i] != toupper((unsigned char)name[i]) &&
            !(strchr("-_", at[i]) != NULL && strchr("-_", name[i]) != NULL))
            return NULL;
    return at + name_bytes + 1;
}

char *option_hyperparameter(const char *hp_prefix, const char *name)
{
    char *text = NULL;

    for (size_t i = 0; environ[i] != NULL && text == NULL; i++)
        text = decode_unless_empty(value_of(environ[i], hp_prefix, name));
    return text;
}

void option_describe_hyperparameter(const char *hp_prefix, const char *name, char *out,
                                    size_t bytes)
{
    char lower[96] = "", upper[96] = "";

    for (size_t i = 0; name[i] != '\0' && i + 1 < sizeof lower; i++) {
        lower[i] = name[i] == '-' ? '_' : name[i];
        upper[i] = (char)toupper((unsigned char)lower[i]);
    }
    snprintf(out, bytes, "hyperparameter %s (%s%s)", lower, hp_prefix, upper);
}

static int assign_from_environment(struct option_set *set, size_t i, const char *hp_prefix,
                                   struct err *err)
{
    const struct option_spec *const spec = &set->specs[i];
    char *text = hp_prefix != NULL ? option_hyperparameter(hp_prefix, spec->name) : NULL;
    char origin[160];
    int rc = 0;

    if (text != NULL)
        option_describe_hyperparameter(hp_prefix, spec->name, origin, sizeof origin);
    for (const char *at = spec->env; at != NULL && text == NULL;) {
        const size_t bytes = strcspn(at, " ");
        char name[128];

        snprintf(name, sizeof name, "%.*s", (int)bytes, at);
        snprintf(origin, sizeof origin, "%s in the environment", name);
        text = decode_unless_empty(getenv(name));
        at = at[bytes] == ' ' ? at + bytes + 1 : NULL;
    }
    if (text != NULL)
        rc = assign(set, i, text, OPTION_ENVIRONMENT, origin, err);
    free(text);
    return rc;
}

int option_set_environment(struct option_set *set, const char *hp_prefix, struct err *err)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->values[i].source <= OPTION_ENVIRONMENT &&
            assign_from_environment(set, i, hp_prefix, err) < 0)
            return -1;
    return 0;
}

const char *option_set_stray(const struct option_set *set, const char *hp_prefix, size_t *at)
{
    static const char *const passed_over[] = {"sagemaker_", "_tuning_objective_metric"};
    const size_t prefix = strlen(hp_prefix);

    while (environ[*at] != NULL) {
        const char *const variable = environ[(*at)++], *const name = variable + prefix;
        const size_t bytes = strncmp(variable, hp_prefix, prefix) == 0 ? strcspn(name, "=") : 0;
        char lower[128];

        if (bytes == 0)
            continue;
        snprintf(lower, sizeof lower, "%.*s", (int)bytes, name);
        for (char *c = lower; *c != '\0'; c++)
            *c = (char)tolower((unsigned char)*c);
        if (strncmp(lower, passed_over[0], strlen(passed_over[0])) != 0 &&
            strcmp(lower, passed_over[1]) != 0 && find(set, lower, strlen(lower)) == set->count)
            return variable;
    }
    return NULL;
}

const char *option_text(const struct option_set *set, const char *name)
{
    return set->values[must_find(set, name)].text;
}

double option_number(const struct option_set *set, const char *name)
{
    const char *text = option_text(set, name);
    double value = 0;

    assert(text != NULL);
    parse_number(text, &value);
    return value;
}

int64_t option_integer(const struct option_set *set, const char *name)
{
    const char *text = option_text(set, name);
    char *end = NULL;
    const long long value = strtoll(text, &end, 10);

    /* "64.0" and "1e3" were accepted as whole numbers; plain digits keep all 64 bits. */
    return *end == '\0' ? (int64_t)value : (int64_t)option_number(set, name);
}

bool option_flag(const struct option_set *set, const char *name)
{
    const char *text = option_text(set, name);
    bool value = false;

    return text != NULL && option_parse_flag(text, &value) && value;
}

enum option_source option_source(const struct option_set *set, const char *name)
{
    return set->values[must_find(set, name)].source;
}

const char *option_origin(const struct option_set *set, size_t i)
{
    static const char *const names[] = {"nowhere", "the default", "the checkpoint",
                                        "the environment", "the command line"};
    const struct option_value *const value = &set->values[i];
    const bool told = value->source == OPTION_ENVIRONMENT || value->source == OPTION_DEFAULT;

    return told && value->origin != NULL ? value->origin : names[value->source];
}

void option_set_help(const struct option_set *set, FILE *out)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option_spec *spec = &set->specs[i];
        const char *fallback = spec->shown != NULL ? spec->shown : spec->fallback,
                   *line = spec->help;
        char left[64];

        snprintf(left, sizeof left, "--%s%s%s", spec->name, spec->metavar != NULL ? " " : "",
                 spec->metavar != NULL ? spec->metavar : "");
        fprintf(out, "  %-28s %s", left,
                strlen(left) > 28 ? "\n                               " : "");
        for (size_t bytes = strcspn(line, "\n"); *line != '\0'; bytes = strcspn(line, "\n")) {
            fprintf(out, "%.*s", (int)bytes, line);
            line += bytes + (line[bytes] == '\n');
            if (*line != '\0')
                fprintf(out, "\n%31s", "");
        }
        if (fallback != NULL && spec->kind != OPTION_FLAG)
            fprintf(out, " [%s]", fallback);
        fprintf(out, "\n");
    }
}
