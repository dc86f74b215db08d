#include "trainer/hyperparameters.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/log.h"
#include "trainer/nn/model.h"

#define VALUE_BYTES 128 /* of a converted value: a number, a name */

static bool parse_number(const char *text, double *value)
{
    char *end = NULL;

    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value);
}

static bool parse_integer(const char *text, int64_t min, int64_t max, int64_t *value)
{
    double number = 0;

    if (!parse_number(text, &number) || number != floor(number) || number < (double)min ||
        number > (double)max)
        return false;
    *value = (int64_t)number;
    return true;
}

/* --- conversions: a hyperparameter's text to an option's; -1 with the reason behind its name ---
 */

static int to_model(const char *text, char *out, struct err *err)
{
    int64_t layers = 0;

    if (parse_integer(text, 1, 10000, &layers)) {
        snprintf(out, VALUE_BYTES, "resnet%d", (int)layers);
        if (nn_model_default_image_size(out) != 0)
            return 0;
    }
    return err_set(
        err, ERR_USAGE,
        "'%s' is not one of 18, 34, 50, 101, 152, 200, or 20, 32, 44, 56, 110 for pictures "
        "of 32 pixels",
        text);
}

/* "3,224,224", also in brackets. */
static int to_image_size(const char *text, char *out, struct err *err)
{
    double n[3] = {0};
    const char *at = text + strspn(text, "[( ");
    int count = 0;

    while (count < 3) {
        char *end = NULL;

        n[count] = strtod(at, &end);
        if (end == at)
            break;
        at = end + strspn(end, ", ");
        count++;
    }
    if (count != 3 || at[strspn(at, "]) ")] != '\0')
        return err_set(err, ERR_USAGE, "'%s' is not channels, height and width, as in 3,224,224",
                       text);
    if (n[0] != 3 || n[1] != n[2])
        return err_set(err, ERR_USAGE,
                       "'%s': only square pictures of 3 channels can be trained, as in 3,224,224",
                       text);
    snprintf(out, VALUE_BYTES, "%.15g", n[1]);
    return 0;
}

/* Hosts of the job, as the launcher says. */
static int hosts_of_job(void)
{
    const char *const text = getenv("CONVOY_HOSTS");
    int64_t hosts = 0;

    return text != NULL && parse_integer(text, 1, 1000000, &hosts) ? (int)hosts : 1;
}

static int to_global_batch(const char *text, char *out, struct err *err)
{
    int64_t images = 0;

    if (!parse_integer(text, 1, 1000000, &images))
        return err_set(err, ERR_USAGE, "'%s' is not a number of images on each host", text);
    snprintf(out, VALUE_BYTES, "%lld", (long long)(images * hosts_of_job()));
    return 0;
}

static int to_step_schedule(const char *text, char *out, struct err *err)
{
    (void)text;
    (void)err;
    snprintf(out, VALUE_BYTES, "step");
    return 0;
}

static int to_augment(const char *text, char *out, struct err *err)
{
    const bool none = strcasecmp(text, "none") == 0;

    if (!none && strcasecmp(text, "crop") != 0)
        return err_set(err, ERR_USAGE, "'%s' is not there yet: crop or none", text);
    snprintf(out, VALUE_BYTES, none ? "none" : "standard");
    return 0;
}

/* True, 1, "True": the built-in algorithms differ in how they write it. */
static int to_flag(const char *text, bool *on, struct err *err)
{
    double number = 0;

    if (parse_number(text, &number) && (number == 0 || number == 1))
        *on = number == 1;
    else if (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0)
        *on = strcasecmp(text, "true") == 0;
    else
        return err_set(err, ERR_USAGE, "'%s' is neither true nor false, neither 1 nor 0", text);
    return 0;
}

static int to_train_layers(const char *text, char *out, struct err *err)
{
    bool on = false;

    if (to_flag(text, &on, err) < 0)
        return -1;
    snprintf(out, VALUE_BYTES, "%s", on ? "head" : "all");
    return 0;
}

/* auto is theirs too: anew unless the weights come from a training on the same classes. */
static int to_head(const char *text, char *out, struct err *err)
{
    bool on = false;

    if (strcasecmp(text, "auto") == 0) {
        snprintf(out, VALUE_BYTES, "auto");
        return 0;
    }
    if (to_flag(text, &on, NULL) < 0)
        return err_set(err, ERR_USAGE, "'%s' is not one of auto, true, false", text);
    snprintf(out, VALUE_BYTES, "%s", on ? "new" : "keep");
    return 0;
}

static int to_class_weights(const char *text, char *out, struct err *err)
{
    bool on = false;

    if (to_flag(text, &on, err) < 0)
        return -1;
    snprintf(out, VALUE_BYTES, "%s", on ? "balanced" : "none");
    return 0;
}

static bool is_given(const char *name);

/* A job made for the built-in algorithm, which must say how many pictures there are, gets its best
 * model unless it asks for one every so many epochs. */
static int to_keep_model(const char *text, char *out, struct err *err)
{
    (void)text;
    (void)err;
    snprintf(out, VALUE_BYTES, is_given("checkpoint_frequency") ? "last" : "best");
    return 0;
}

/* --- the table --- */

struct rule {
    const char *name;
    const char *option;                                           /* ours that it sets */
    int (*convert)(const char *text, char *out, struct err *err); /* NULL: the text as it is */
    bool per_host;        /* the option's value is ours to compute: a checkpoint's counts more */
    const char *accepted; /* values that say what we do anyway, "a|b"; others are refused */
    const char *instead;  /* what to do then */
    double min, max;      /* a number without effect here; max 0: none of these */
};

static const struct rule rules[] = {
    /* Those that set an option. Of two for the same option the first counts. */
    {.name = "num_layers", .option = "model", .convert = to_model},
    {.name = "image_shape", .option = "image-size", .convert = to_image_size},
    {.name = "mini_batch_size",
     .option = "global-batch",
     .convert = to_global_batch,
     .per_host = true},
    {.name = "batch_size", .option = "global-batch", .convert = to_global_batch, .per_host = true},
    {.name = "learning_rate", .option = "lr"},
    {.name = "lr_scheduler_step", .option = "lr-steps"},
    {.name = "lr_scheduler_step", .option = "lr-schedule", .convert = to_step_schedule},
    {.name = "lr_scheduler_factor", .option = "lr-factor"},
    {.name = "num_epochs", .option = "epochs"},
    {.name = "beta_1", .option = "beta1"},
    {.name = "beta_2", .option = "beta2"},
    {.name = "augmentation_type", .option = "augment", .convert = to_augment},
    {.name = "num_training_samples", .option = "keep-model", .convert = to_keep_model},
    {.name = "train_only_on_top_layer", .option = "train-layers", .convert = to_train_layers},
    {.name = "reinitialize_top_layer", .option = "pretrained-head", .convert = to_head},
    {.name = "use_weighted_loss", .option = "class-weights", .convert = to_class_weights},
    {.name = "output_dir", .option = "report"},
    {.name = "checkpoint_dir", .option = "checkpoint"},
    /* Those that may only say what happens anyway. */
    {.name = "kv_store",
     .accepted = "dist_sync|dist_device_sync",
     .instead = "the hosts always train in step: dist_sync"},
    {.name = "multi_label", .accepted = "0|false", .instead = "a picture has one label here"},
    {.name = "precision_dtype", .accepted = "float32", .instead = "only float32 is there"},
    {.name = "dropout_rate", .accepted = "0", .instead = "these networks have no dropout"},
    {.name = "regularizers_l2", .accepted = "0", .instead = "use weight_decay"},
    /* Numbers of things that are done otherwise, or not at all with the values accepted above. */
    {.name = "checkpoint_frequency", .min = 1, .max = 1e9}, /* each epoch is saved anyway */
    {.name = "top_k", .min = 2, .max = 1e9},
    {.name = "gamma", .min = 0, .max = 1},
};
#define RULE_COUNT (sizeof rules / sizeof rules[0])

/* Read elsewhere in this file, or set by the platform's own tools. */
static const char *const others[] = {"num_classes", "resize", "use_pretrained_model",
                                     "mp_parameters"};

static char *given(const char *name)
{
    return option_hyperparameter(TRAIN_HP_PREFIX, name);
}

static bool is_given(const char *name)
{
    char *const text = given(name);

    free(text);
    return text != NULL;
}

/* The rule whose hyperparameter sets the option of `rule` in its place: an earlier one. */
static const struct rule *winner(const struct rule *rule)
{
    for (const struct rule *r = rules; r < rule; r++)
        if (r->option != NULL && strcmp(r->option, rule->option) == 0 && is_given(r->name))
            return r;
    return rule;
}

static const char *describe(const char *name, char out[160])
{
    option_describe_hyperparameter(TRAIN_HP_PREFIX, name, out, 160);
    return out;
}

/* Equal as words in any case, or as numbers: "0", "0.0", "False". */
static bool is_accepted(const char *accepted, const char *text)
{
    double number = 0, other = 0;

    while (*accepted != '\0') {
        char one[32];
        const size_t bytes = strcspn(accepted, "|");

        snprintf(one, sizeof one, "%.*s", (int)bytes, accepted);
        if (strcasecmp(one, text) == 0 ||
            (parse_number(one, &number) && parse_number(text, &other) && number == other))
            return true;
        accepted += bytes + (accepted[bytes] == '|');
    }
    return false;
}

static int assign(struct option_set *set, const struct rule *rule, const char *text,
                  struct err *err)
{
    char value[VALUE_BYTES] = "", origin[320], name[160];

    if (option_source(set, rule->option) == OPTION_COMMAND_LINE || is_given(rule->option) ||
        winner(rule) != rule)
        return 0;
    describe(rule->name, name);
    if (rule->convert != NULL && rule->convert(text, value, err) < 0)
        return err_wrap(err, "%s", name);
    if (rule->per_host)
        snprintf(origin, sizeof origin, "%s: %.20s on each of %d hosts", name, text,
                 hosts_of_job());
    else
        snprintf(origin, sizeof origin, "%s", name);
    return option_set_assign(set, rule->option, rule->convert != NULL ? value : text,
                             rule->per_host ? OPTION_DEFAULT : OPTION_ENVIRONMENT, origin, err);
}

static int apply(struct option_set *set, const struct rule *rule, const char *text, struct err *err)
{
    char name[160];
    double number = 0;

    if (rule->option != NULL)
        return assign(set, rule, text, err);
    if (rule->accepted != NULL && !is_accepted(rule->accepted, text))
        return err_set(err, ERR_USAGE, "%s: '%s' cannot be: %s", describe(rule->name, name), text,
                       rule->instead);
    if (rule->max > 0 && (!parse_number(text, &number) || number < rule->min || number > rule->max))
        return err_set(err, ERR_USAGE, "%s: '%s' is not a number within %g and %g",
                       describe(rule->name, name), text, rule->min, rule->max);
    return 0;
}

static int read_count(const char *name, int64_t max, int64_t *count, struct err *err)
{
    char *const text = given(name), described[160];
    int rc = 0;

    *count = 0;
    if (text != NULL && !parse_integer(text, 1, max, count))
        rc = err_set(err, ERR_USAGE, "%s: '%s' is not a number from 1 on",
                     describe(name, described), text);
    free(text);
    return rc;
}

/* The channel is what an earlier training left: its head is of the same classes. */
static bool is_channels(const char *pretrained)
{
    const char *const channel = getenv("SM_CHANNEL_MODEL");

    return channel != NULL && strcmp(channel, pretrained) == 0;
}

/* With 1 there must be weights, and where they were made for other pictures the head begins anew.
 */
static int read_use_pretrained(struct option_set *set, struct err *err)
{
    static const char name[] = "use_pretrained_model";
    const char *const pretrained = option_text(set, "pretrained");
    char *const text = given(name), described[160];
    bool on = false;
    int rc = text != NULL ? to_flag(text, &on, err) : 0;

    describe(name, described);
    free(text);
    if (rc < 0)
        return err_wrap(err, "%s", described);
    if (on && pretrained == NULL)
        return err_set(err, ERR_USAGE,
                       "%s: there are no weights to begin with: give them as channel 'model', or "
                       "as hyperparameter pretrained (--pretrained), a file or s3:// address of "
                       "safetensors or .pth",
                       described);
    if (on && !is_channels(pretrained) && !is_given("reinitialize_top_layer") &&
        option_source(set, "pretrained-head") < OPTION_ENVIRONMENT)
        rc = option_set_assign(set, "pretrained-head", "new", OPTION_ENVIRONMENT, described, err);
    return rc;
}

int train_hyperparameters_read(struct option_set *set, struct train_expected *expected,
                               struct err *err)
{
    int64_t classes = 0, samples = 0;

    for (const struct rule *rule = rules; rule < rules + RULE_COUNT; rule++) {
        char *const text = given(rule->name);
        const int rc = text != NULL ? apply(set, rule, text, err) : 0;

        free(text);
        if (rc < 0)
            return -1;
    }
    if (read_use_pretrained(set, err) < 0 ||
        read_count("num_classes", 1 << 24, &classes, err) < 0 ||
        read_count("num_training_samples", (int64_t)1 << 52, &samples, err) < 0)
        return -1;
    *expected = (struct train_expected){.classes = (int)classes, .samples = (uint64_t)samples};
    return 0;
}

int train_hyperparameters_check_resize(int shorter_side, struct err *err)
{
    int64_t side = 0;
    char name[160];

    if (read_count("resize", 1 << 20, &side, err) < 0)
        return -1;
    if (side == 0 || side == shorter_side)
        return 0;
    return err_set(err, ERR_USAGE,
                   "%s is %d, but with this image size the shorter side is scaled to %d before "
                   "cropping: leave it out",
                   describe("resize", name), (int)side, shorter_side);
}

/* '-' and '_' are one character, capitals are small ones; `bytes` bytes of a against all of b. */
static bool same_name(const char *a, size_t bytes, const char *b)
{
    if (strlen(b) != bytes)
        return false;
    for (size_t i = 0; i < bytes; i++)
        if ((a[i] == '-' ? '_' : tolower((unsigned char)a[i])) != b[i])
            return false;
    return true;
}

static bool is_known(const char *name, size_t bytes)
{
    for (size_t i = 0; i < RULE_COUNT; i++)
        if (same_name(name, bytes, rules[i].name))
            return true;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (same_name(name, bytes, others[i]))
            return true;
    return false;
}

const char *train_hyperparameters_unknown(const struct option_set *set, size_t *at)
{
    const char *entry = NULL;

    while ((entry = option_set_stray(set, TRAIN_HP_PREFIX, at)) != NULL) {
        const char *const name = entry + strlen(TRAIN_HP_PREFIX);

        if (!is_known(name, strcspn(name, "=")))
            return entry;
    }
    return NULL;
}

/* Two that say the same thing: the one that does not count. */
static void warn_of_doubles(const struct rule *rule)
{
    char name[160], other[160];

    if (rule->option == NULL || !is_given(rule->name))
        return;
    if (is_given(rule->option))
        log_warn("%s has no effect on --%s: %s counts", describe(rule->name, name), rule->option,
                 describe(rule->option, other));
    else if (winner(rule) != rule)
        log_warn("%s has no effect: %s counts", describe(rule->name, name),
                 describe(winner(rule)->name, other));
}

static void warn_of_checkpoint(const struct option_set *set, const struct rule *rule)
{
    char value[VALUE_BYTES] = "", name[160];
    char *const text = rule->per_host ? given(rule->name) : NULL;

    if (text != NULL && winner(rule) == rule &&
        option_source(set, rule->option) == OPTION_CHECKPOINT &&
        rule->convert(text, value, NULL) == 0 && strcmp(value, option_text(set, rule->option)) != 0)
        log_warn("%s means --%s %s on this number of hosts, but the checkpoint's %s stays",
                 describe(rule->name, name), rule->option, value, option_text(set, rule->option));
    free(text);
}

void train_hyperparameters_warn(const struct option_set *set)
{
    const char *entry = NULL;
    char name[160];

    for (size_t at = 0; (entry = train_hyperparameters_unknown(set, &at)) != NULL;)
        log_warn("%.*s in the environment is no hyperparameter that we know, and is ignored",
                 (int)strcspn(entry, "="), entry);
    for (const struct rule *rule = rules; rule < rules + RULE_COUNT; rule++) {
        warn_of_doubles(rule);
        warn_of_checkpoint(set, rule);
    }
    if (is_given("top_k"))
        log_warn("%s has no effect: metrics.jsonl has the accuracy of the first guess and of the "
                 "first five",
                 describe("top_k", name));
}
