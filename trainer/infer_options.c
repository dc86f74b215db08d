#include "trainer/infer_options.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/uri.h"
#include "trainer/threads.h"

/* One table: what is predict's alone, what both have, what is eval's alone. Each verb has a run of
 * it. */
#define PREDICT_ALONE 3
#define EVAL_ALONE    8

static const struct option_spec table[] = {
    /* predict */
    {.name = "top-k",
     .kind = OPTION_INTEGER,
     .metavar = "K",
     .min = 1,
     .max = INT32_MAX,
     .shown = "5, or all classes where there are fewer",
     .help = "guesses for each picture, the likeliest first"},
    {.name = "format",
     .kind = OPTION_CHOICE,
     .metavar = "text|csv|jsonl",
     .choices = "text|csv|jsonl",
     .fallback = "text",
     .help = "a line for each picture; CSV with a line for each guess; a JSON object a line"},
    {.name = "output",
     .kind = OPTION_TEXT,
     .metavar = "FILE|s3://...",
     .shown = "stdout",
     .help = "where predictions go: a file that appears when all are there"},
    /* both */
    {.name = "model",
     .kind = OPTION_TEXT,
     .metavar = "DIR|s3://...",
     .env = "SM_CHANNEL_MODEL SM_MODEL_DIR",
     .fallback = "model",
     .help = "what convoy train left: a folder, or a model.tar.gz of it"},
    {.name = "batch",
     .kind = OPTION_INTEGER,
     .metavar = "IMAGES",
     .min = 1,
     .max = 65536,
     .fallback = "32",
     .help = "pictures that go through the network together; no result depends on it"},
    {.name = "threads",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .env = "CONVOY_THREADS",
     .shown = "usable cores",
     .help = "computing threads, of a rank where there are several"},
    {.name = "decode-threads",
     .kind = OPTION_TEXT,
     .metavar = "auto|N",
     .fallback = "auto",
     .help =
         "threads that read and decode pictures; auto: the cores that --threads leaves, at most "
         "as many as\n--threads, and half of --threads where it leaves none"},
    {.name = "prefetch-bytes",
     .kind = OPTION_INTEGER,
     .metavar = "BYTES",
     .min = 1 << 20,
     .max = 1e13,
     .fallback = "134217728",
     .help = "of s3:// pictures: the most memory for those read ahead and not decoded yet"},
    {.name = "fetch-threads",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 256,
     .fallback = "16",
     .help = "of s3:// pictures: requests under way at a time"},
    /* eval */
    {.name = "test",
     .kind = OPTION_TEXT,
     .metavar = "DIR|s3://...",
     .env = "SM_CHANNEL_TEST",
     .help = "labelled pictures: a folder per class, or shards made by convoy pack"},
    {.name = "data",
     .kind = OPTION_TEXT,
     .metavar = "DIR|s3://...",
     .env = "SM_CHANNEL_DATA",
     .help = "the same, or a folder with train and test below it, whose test pictures count"},
    {.name = "report",
     .kind = OPTION_TEXT,
     .metavar = "DIR",
     .env = "SM_OUTPUT_DATA_DIR",
     .shown = "none",
     .help = "where evaluation.json, classes.csv and confusion.csv go"},
    {.name = "partial",
     .kind = OPTION_FLAG,
     .fallback = "false",
     .help = "there need not be pictures of every class of the model"},
    {.name = "bad-images",
     .kind = OPTION_CHOICE,
     .metavar = "skip|stop",
     .choices = "skip|stop",
     .fallback = "skip",
     .help = "pictures that cannot be decoded at all: leave them out, count them and name the "
             "first; or stop"},
    {.name = "cache",
     .kind = OPTION_TEXT,
     .metavar = "DIR",
     .shown = "none",
     .help = "keep s3:// pictures, and what is found in other people's tars, in this folder of the "
             "host's disk,\nas convoy train does: later runs on the same pictures do not read them "
             "from S3 again"},
    {.name = "cache-bytes",
     .kind = OPTION_INTEGER,
     .metavar = "BYTES",
     .min = 1,
     .max = 1e15,
     .shown = "half of what is free there",
     .help = "the most that --cache takes up"},
    {.name = "check-options",
     .kind = OPTION_FLAG,
     .fallback = "false",
     .help = "check the options and end: exit 0 or 2"},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static const struct option_spec *table_of(enum train_infer_verb verb, size_t *count)
{
    *count = TABLE_COUNT - (verb == TRAIN_PREDICT ? EVAL_ALONE : PREDICT_ALONE);
    return verb == TRAIN_PREDICT ? table : table + PREDICT_ALONE;
}

void train_infer_options_release(struct train_infer_options *options)
{
    option_set_release(&options->set);
    free(options->paths);
    memset(options, 0, sizeof *options);
}

void train_infer_options_help(enum train_infer_verb verb, FILE *out)
{
    struct option_set set = {0};
    size_t count;
    const struct option_spec *const specs = table_of(verb, &count);

    option_set_init(&set, specs, count);
    option_set_help(&set, out);
    option_set_release(&set);
}

/* Whether the word is "--NAME" of an option whose value is the next word. */
static bool takes_next(const struct option_set *set, const char *word)
{
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->specs[i].name, *at = word + 2;

        while (*name != '\0' && (*at == *name || (*at == '_' && *name == '-'))) {
            at++;
            name++;
        }
        if (*name == '\0' && *at == '\0')
            return set->specs[i].kind != OPTION_FLAG;
    }
    return false;
}

/* Part the words into options and paths. Behind "--" all are paths. */
static int part(struct train_infer_options *o, enum train_infer_verb verb, int argc,
                char *const *argv, struct err *err)
{
    char **const words = calloc((size_t)argc + 1, sizeof *words);
    const char *odd = NULL; /* no option of ours, and hardly a picture */
    bool paths_only = false;
    int count = 0, rc;

    o->paths = calloc((size_t)argc + 1, sizeof *o->paths);
    if (words == NULL || o->paths == NULL)
        abort();
    for (int i = 0; i < argc; i++) {
        if (!paths_only && strcmp(argv[i], "--") == 0) {
            paths_only = true;
        } else if (!paths_only && argv[i][0] == '-' && argv[i][1] != '-') {
            odd = odd == NULL ? argv[i] : odd;
        } else if (paths_only || argv[i][0] != '-') {
            o->paths[o->path_count++] = strncmp(argv[i], "file://", 7) == 0 ? argv[i] + 7 : argv[i];
        } else {
            words[count++] = argv[i];
            if (takes_next(&o->set, argv[i]) && i + 1 < argc)
                words[count++] = argv[++i];
        }
    }
    rc = option_set_parse(&o->set, count, words, err);
    if (rc == 0 && odd != NULL)
        rc = err_set(err, ERR_USAGE, "unknown option '%s'%s", odd,
                     verb == TRAIN_PREDICT ? " (behind '--' words are pictures)" : "");
    free(words);
    return rc;
}

/* Local paths, and s3://BUCKET[/PREFIX] where there is one. "file://" is taken off. */
static int take_path(struct train_infer_options *o, const char *name, bool s3, const char **path,
                     struct err *err)
{
    const char *const text = option_text(&o->set, name);
    struct uri uri = {0};
    int rc = 0;

    *path = text != NULL && strncmp(text, "file://", 7) == 0 ? text + 7 : text;
    if (text == NULL)
        return 0;
    rc = uri_parse(&uri, text, err);
    if (rc == 0 && uri.scheme == URI_S3 && !s3)
        rc = err_set(err, ERR_USAGE, "'%s': only a local folder will do here", text);
    uri_release(&uri);
    return rc < 0 ? err_wrap(err, "--%s", name) : 0;
}

static int fill_eval(struct train_infer_options *o, struct err *err)
{
    if (o->path_count > 0)
        return err_set(err, ERR_USAGE, "'%s' belongs to no option: --test DIR names pictures",
                       o->paths[0]);
    if (take_path(o, "data", true, &o->data, err) < 0 ||
        take_path(o, "test", true, &o->test, err) < 0 ||
        take_path(o, "report", false, &o->report, err) < 0 ||
        take_path(o, "cache", false, &o->cache, err) < 0)
        return -1;
    if (option_text(&o->set, "cache-bytes") != NULL)
        o->cache_bytes = (uint64_t)option_integer(&o->set, "cache-bytes");
    if (o->cache == NULL && option_text(&o->set, "cache-bytes") != NULL)
        return err_set(err, ERR_USAGE, "--cache-bytes: there is no cache without --cache DIR");
    o->partial = option_flag(&o->set, "partial");
    o->stop_at_bad = strcmp(option_text(&o->set, "bad-images"), "stop") == 0;
    o->check_options = option_flag(&o->set, "check-options");
    if (o->data == NULL && o->test == NULL)
        return err_set(err, ERR_USAGE,
                       "no pictures: give --test DIR or --data DIR (SM_CHANNEL_TEST)");
    if (o->data == NULL || o->test == NULL)
        return 0;
    if (option_source(&o->set, "data") == OPTION_COMMAND_LINE &&
        option_source(&o->set, "test") == OPTION_COMMAND_LINE)
        return err_set(err, ERR_USAGE, "--data and --test both name the pictures: give one");
    if (option_source(&o->set, "data") > option_source(&o->set, "test"))
        o->test = NULL;
    else
        o->data = NULL;
    return 0;
}

static int fill_predict(struct train_infer_options *o, struct err *err)
{
    const char *const format = option_text(&o->set, "format");

    if (take_path(o, "output", true, &o->output, err) < 0)
        return -1;
    o->format = strcmp(format, "csv") == 0     ? REPORT_CSV
                : strcmp(format, "jsonl") == 0 ? REPORT_JSONL
                                               : REPORT_TEXT;
    if (option_text(&o->set, "top-k") != NULL)
        o->top_k = (int)option_integer(&o->set, "top-k");
    if (o->path_count == 0)
        return err_set(err, ERR_USAGE,
                       "no pictures: name files, folders, shards or s3:// behind the options");
    for (size_t i = 0; i < o->path_count; i++) {
        struct uri uri = {0};
        const int rc = uri_parse(&uri, o->paths[i], err);

        uri_release(&uri);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int fill(struct train_infer_options *o, struct err *err)
{
    const struct option_set *const set = &o->set;

    o->batch = (int)option_integer(set, "batch");
    o->threads = option_text(set, "threads") != NULL ? (int)option_integer(set, "threads") : 0;
    o->prefetch_bytes = (uint64_t)option_integer(set, "prefetch-bytes");
    o->fetch_threads = (int)option_integer(set, "fetch-threads");
    if (train_decode_threads_read(option_text(set, "decode-threads"), &o->decode_threads, err) < 0)
        return err_wrap(err, "--decode-threads");
    return take_path(o, "model", true, &o->model, err);
}

int train_infer_options_read(struct train_infer_options *o, enum train_infer_verb verb, int argc,
                             char *const *argv, struct err *err)
{
    size_t count;
    const struct option_spec *const specs = table_of(verb, &count);

    memset(o, 0, sizeof *o);
    option_set_init(&o->set, specs, count);
    if (part(o, verb, argc, argv, err) < 0 || option_set_environment(&o->set, NULL, err) < 0 ||
        fill(o, err) < 0)
        return -1;
    return verb == TRAIN_PREDICT ? fill_predict(o, err) : fill_eval(o, err);
}
