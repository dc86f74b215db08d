/*
 * base/option.h -- options from one table: the parser, the checks, the sources and --help.
 *
 * A program describes its options in an array of struct option_spec. Values come from several
 * places; the first of command line, environment, checkpoint and default that has one wins, and
 * each value remembers where it is from. Names are written with '-'; '_' is taken for the same
 * character.
 */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;

enum option_kind {
    OPTION_TEXT,    /* any text, not empty */
    OPTION_INTEGER, /* within [min, max]; "64.0" is taken for 64, as SageMaker's tuner writes it */
    OPTION_NUMBER,  /* finite, within [min, max] */
    OPTION_CHOICE,  /* one of `choices`, "a|b|c" */
    OPTION_FLAG,    /* --name, or --name true|false|1|0 in the form --name=VALUE */
};

struct option_spec {
    const char *name; /* without "--" */
    enum option_kind kind;
    const char *metavar;  /* what --help shows behind the name; flags: NULL */
    const char *fallback; /* the default's text; NULL: none (the value is absent) */
    const char
        *shown;      /* how --help words the default where the text does not tell; NULL: fallback */
    double min, max; /* OPTION_INTEGER, OPTION_NUMBER */
    const char *choices; /* OPTION_CHOICE */
    const char *env;     /* variables to try, in order, separated by blanks; NULL: none */
    const char *help;    /* one or two short lines with units, "\n" between */
    unsigned flags;      /* the program's own */
};

enum option_source {
    OPTION_ABSENT,
    OPTION_DEFAULT,
    OPTION_CHECKPOINT,
    OPTION_ENVIRONMENT,
    OPTION_COMMAND_LINE
};

struct option_value {
    char *text;
    enum option_source source;
    char *origin; /* what gave it, in words; NULL: the table's default */
};

struct option_set {
    const struct option_spec *specs;
    size_t count;
    struct option_value *values; /* (count) */
};

/** Values are absent, or the defaults. The specs outlive the set. Release accepts all-zero. */
void option_set_init(struct option_set *set, const struct option_spec *specs, size_t count);
void option_set_release(struct option_set *set);

/** Take "--name value", "--name=value" and flags from argv[0 .. argc). A later one replaces an
 * earlier one. ERR_USAGE: an unknown option (naming the nearest known one), a bad value, a word
 * that belongs to no option. */
int option_set_parse(struct option_set *set, int argc, char *const *argv, struct err *err);

/** Take what the environment has: the hyperparameter of the option's name when hp_prefix is not
 * NULL, else the first of the spec's variables that is not empty, decoded alike. Values from the
 * command line stay. ERR_USAGE names the variable. */
int option_set_environment(struct option_set *set, const char *hp_prefix, struct err *err);

/** A hyperparameter from the environment: the variable hp_prefix + name, in capitals, with '_' or
 * '-' wherever name has either ("SM_HP_GLOBAL_BATCH", "SM_HP_GLOBAL-BATCH"), decoded. NULL where it
 * is not there, or empty; else heap, the caller frees. */
char *option_hyperparameter(const char *hp_prefix, const char *name);

/** "hyperparameter global_batch (SM_HP_GLOBAL_BATCH)": how errors and the run's first lines call
 * it.
 */
void option_describe_hyperparameter(const char *hp_prefix, const char *name, char *out,
                                    size_t bytes);

/** The text of a hyperparameter as its sender meant it: blanks around it trimmed; where it is a
 * JSON string, as a tuner writes it, that string's content, once. Heap, the caller frees. */
char *option_decode(const char *text);

/** Variables of the environment that begin with hp_prefix and name no option: the next one as
 * "NAME=VALUE" (the environment's), NULL at the end. *at is 0 to begin. SageMaker's own
 * (SM_HP_SAGEMAKER_..., SM_HP__TUNING_OBJECTIVE_METRIC) are passed over. */
const char *option_set_stray(const struct option_set *set, const char *hp_prefix, size_t *at);

/** Give one option a value from `source`, checked; replaces what came from a weaker source only.
 * origin names it in errors. */
int option_set_assign(struct option_set *set, const char *name, const char *text,
                      enum option_source source, const char *origin, struct err *err);

/** Values; the name must be in the table (asserted). Text is NULL where the value is absent;
 * integer and number need one. */
const char *option_text(const struct option_set *set, const char *name);
int64_t option_integer(const struct option_set *set, const char *name);
double option_number(const struct option_set *set, const char *name);
bool option_flag(const struct option_set *set, const char *name);
enum option_source option_source(const struct option_set *set, const char *name);

/** A flag's text: true, True, 1, false, False or 0. false: another text, *value is as it was. */
bool option_parse_flag(const char *text, bool *value);

/** Where the value of entry i is from: "the command line", "hyperparameter lr (SM_HP_LR)", "the
 * checkpoint", "the default", ... The set's, until the value changes. */
const char *option_origin(const struct option_set *set, size_t i);

/** The table as --help shows it. */
void option_set_help(const struct option_set *set, FILE *out);

#endif
