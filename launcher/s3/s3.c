#include "launcher/s3/s3.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "launcher/s3/copy.h"
#include "launcher/s3/list.h"
#include "launcher/s3/stream.h"
#include "launcher/s3/verb.h"
#include "s3io/client.h"

/* An option's flags say which verbs have it. */
enum { LS = 1, CP = 2, CAT = 4, RM = 8, ALL = LS | CP | CAT | RM };

static const struct option_spec table[] = {
    {.name = "recursive",
     .kind = OPTION_FLAG,
     .help =
         "all below a folder, SRC or URI: \"x\" is taken for \"x/\"\n(ls: every key that begins "
         "so, where else folders are shown as one)",
     .flags = LS | CP | RM},
    {.name = "bytes", .kind = OPTION_FLAG, .help = "exact sizes", .flags = LS},
    {.name = "json",
     .kind = OPTION_FLAG,
     .help = "a JSON object per line: {\"key\":,\"bytes\":,\"etag\":,\"modified\":}\n"
             "or {\"prefix\":} for a folder",
     .flags = LS},
    {.name = "sse",
     .kind = OPTION_CHOICE,
     .metavar = "HOW",
     .choices = "aws:kms|AES256",
     .shown = "CONVOY_SSE, the bucket's",
     .help = "encryption of what is written: aws:kms or AES256",
     .flags = CP},
    {.name = "sse-kms-key-id",
     .kind = OPTION_TEXT,
     .metavar = "KEY",
     .shown = "CONVOY_SSE_KMS_KEY_ID",
     .help = "the key in KMS; sets --sse aws:kms",
     .flags = CP},
    {.name = "quiet",
     .kind = OPTION_FLAG,
     .help = "no progress and no closing line",
     .flags = CP | CAT | RM},
    {.name = "profile",
     .kind = OPTION_TEXT,
     .metavar = "NAME",
     .shown = "AWS_PROFILE",
     .help = "a profile of ~/.aws; goes before keys in the environment",
     .flags = ALL},
    {.name = "region",
     .kind = OPTION_TEXT,
     .metavar = "NAME",
     .shown = "AWS_REGION, the profile's",
     .help = "the bucket's region",
     .flags = ALL},
    {.name = "endpoint-url",
     .kind = OPTION_TEXT,
     .metavar = "URL",
     .shown = "AWS_ENDPOINT_URL_S3, AWS's",
     .help = "another server that speaks S3",
     .flags = ALL},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static const struct verb {
    const char *name, *words, *help;
    const char *done; /* for the closing line; NULL: none */
    unsigned flag;
    launch_s3_verb *run;
} verbs[] = {
    {"ls", "s3://BUCKET[/PREFIX]",
     "list the keys that begin with PREFIX: time, size and key, one line each;\n"
     "    a backslash in a key is shown as \\\\, control characters as \\n, \\r, \\t, \\xHH",
     NULL, LS, launch_s3_ls},
    {"cp", "SRC DST",
     "copy a file or folder to S3, from S3, or from S3 to S3; \"-\" is stdin or stdout", "copied",
     CP, launch_s3_cp},
    {"cat", "s3://BUCKET/KEY...", "write objects to stdout", NULL, CAT, launch_s3_cat},
    {"rm", "s3://BUCKET/KEY", "delete an object, or with --recursive all below a folder", "deleted",
     RM, launch_s3_rm},
};
#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

/* --- what the verbs share --- */

/* Source: Amazon S3 User Guide, "General purpose bucket naming rules"; what is left out here, the
 * server refuses. */
static bool is_bucket_name(const char *name)
{
    const size_t bytes = strlen(name);

    for (size_t i = 0; i < bytes; i++)
        if (!(islower((unsigned char)name[i]) || isdigit((unsigned char)name[i]) ||
              (strchr("-.", name[i]) != NULL && i > 0 && i + 1 < bytes)))
            return false;
    return bytes >= 3 && bytes <= 63 && strstr(name, "..") == NULL;
}

int launch_s3_uri_check(const struct uri *uri, const char *text, struct err *err)
{
    if (uri->scheme != URI_S3)
        return err_set(err, ERR_USAGE, "'%s' is not in S3; write s3://BUCKET/KEY", text);
    if (!is_bucket_name(uri->bucket))
        return err_set(err, ERR_USAGE,
                       "'%s' is no bucket's name: 3 to 63 of a-z, 0-9, '-' and '.', with a letter "
                       "or digit at both ends",
                       uri->bucket);
    return 0;
}

int launch_s3_uri_parse(struct uri *uri, const char *text, struct err *err)
{
    if (uri_parse(uri, text, err) < 0)
        return -1;
    return launch_s3_uri_check(uri, text, err);
}

char *launch_s3_folder_prefix(const char *key)
{
    const size_t bytes = strlen(key);
    char *out;

    if (asprintf(&out, "%s%s", key, bytes > 0 && key[bytes - 1] != '/' ? "/" : "") < 0)
        abort();
    return out;
}

int launch_s3_write(int fd, const void *data, size_t bytes, const char *what, struct err *err)
{
    const char *at = data;

    while (bytes > 0) {
        const ssize_t put = write(fd, at, bytes);

        if (put < 0 && errno == EPIPE)
            return err_set(err, ERR_STOPPED, "nobody reads '%s' any more", what);
        if (put < 0 && errno != EINTR)
            return err_set_errno(err, ERR_IO, errno, "cannot write to %s", what);
        if (put > 0) {
            at += put;
            bytes -= (size_t)put;
        }
    }
    return 0;
}

/* --- signals --- */

static volatile sig_atomic_t cancel, interrupted_by;

/* The second one finds the default and ends us at once. */
static void interrupt(int number)
{
    interrupted_by = number;
    __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED); /* other threads look at it */
}

static void watch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    struct sigaction before;

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed connection is an error to be told, not the end */
}

/* End as the signal would have ended us, so that a shell knows; "head" that has read enough is a
 * SIGPIPE. */
static void end_by_signal(int number)
{
    signal(number, SIG_DFL);
    raise(number);
}

/* --- words and help --- */

static void help_verb(const struct verb *verb, FILE *out)
{
    fprintf(out, "convoy s3 %s %s\n    %s\n", verb->name, verb->words, verb->help);
}

/* The options of some verbs as a table of their own. */
static size_t select_options(unsigned flags, struct option_spec *specs)
{
    size_t count = 0;

    for (size_t i = 0; i < TABLE_COUNT; i++)
        if ((table[i].flags & flags) != 0)
            specs[count++] = table[i];
    return count;
}

static int help(const struct verb *verb, struct err *err)
{
    struct option_spec specs[TABLE_COUNT];
    struct option_set set = {0};

    for (size_t i = 0; i < VERB_COUNT; i++)
        if (verb == NULL || verb == &verbs[i])
            help_verb(&verbs[i], stdout);
    option_set_init(&set, specs, select_options(verb == NULL ? ALL : verb->flag, specs));
    printf("\noptions [default]:\n");
    option_set_help(&set, stdout);
    option_set_release(&set);
    printf(
        "\nKeys and settings are looked for where AWS's own tools look: the environment, ~/.aws,\n"
        "the container's endpoint, the instance's metadata.\n"
        "exit status: 0 done; 2 wrong options or input, no such key, no permission; 3 network;\n"
        "1 other failures; an interrupt ends it as that signal does (130)\n");
    return fflush(stdout) == 0 ? 0 : err_set_errno(err, ERR_IO, errno, "cannot write to stdout");
}

static bool takes_value(const struct option_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++) {
        const char *a = name, *b = set->specs[i].name;

        for (; *a != '\0' && (*a == *b || (*a == '_' && *b == '-')); a++)
            b++;
        if (*a == '\0' && *b == '\0')
            return set->specs[i].kind != OPTION_FLAG;
    }
    return false;
}

struct parted {
    struct launch_words options, words;
    bool help;
};

static void part(const struct option_set *set, int argc, char *const *argv, struct parted *parted)
{
    bool no_more = false;

    for (int i = 0; i < argc; i++) {
        const char *const word = argv[i];

        if (no_more || word[0] != '-' || word[1] == '\0') {
            launch_words_push(&parted->words, word);
        } else if (strcmp(word, "--") == 0) {
            no_more = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            parted->help = true;
        } else {
            launch_words_push(&parted->options, word);
            if (takes_value(set, word + 2) && i + 1 < argc)
                launch_words_push(&parted->options, argv[++i]);
        }
    }
}

/* --- the verb --- */

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* Which options a verb has, so that those it has not are absent rather than unknown to us. */
static const char *text_if(const struct option_set *set, const struct verb *verb, const char *name)
{
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (strcmp(table[i].name, name) == 0 && (table[i].flags & verb->flag) == 0)
            return NULL;
    return option_text(set, name);
}

static int run(const struct verb *verb, const struct option_set *set,
               const struct launch_words *words, struct err *err)
{
    const struct s3_client_options options = {
        .profile = text_if(set, verb, "profile"),
        .region = text_if(set, verb, "region"),
        .endpoint = text_if(set, verb, "endpoint-url"),
        .sse = text_if(set, verb, "sse"),
        .sse_key_id = text_if(set, verb, "sse-kms-key-id"),
        .cancel = &cancel,
    };
    const bool quiet = text_if(set, verb, "quiet") != NULL && option_flag(set, "quiet");
    struct launch_s3_meter meter;
    struct launch_s3 s3 = {.options = set, .words = words, .meter = &meter, .cancel = &cancel};
    int rc;

    watch_signals();
    if (s3_client_open(&s3.client, &options, err) < 0)
        return -1;
    launch_s3_meter_init(&meter, verb->done,
                         quiet || (verb->flag == CAT && isatty(STDOUT_FILENO) != 0));
    rc = verb->run(&s3, err);
    launch_s3_meter_end(&meter, rc < 0);
    launch_s3_meter_release(&meter);
    s3_client_close(s3.client);
    if (interrupted_by != 0)
        end_by_signal(interrupted_by);
    else if (rc < 0 && err->code == ERR_STOPPED)
        end_by_signal(SIGPIPE);
    return rc;
}

static int parse_and_run(const struct verb *verb, int argc, char *const *argv, struct err *err)
{
    struct option_spec specs[TABLE_COUNT];
    struct option_set set = {0};
    struct parted parted = {0};
    int rc = -1;

    option_set_init(&set, specs, select_options(verb->flag, specs));
    part(&set, argc, argv, &parted);
    if (parted.help)
        rc = help(verb, err);
    else if (option_set_parse(&set, (int)parted.options.count, parted.options.at, err) == 0)
        rc = run(verb, &set, &parted.words, err);
    launch_words_release(&parted.options);
    launch_words_release(&parted.words);
    option_set_release(&set);
    return rc;
}

int launch_s3_run(int argc, char *const *argv, struct err *err)
{
    const struct verb *verb;

    log_init("s3:", false);
    if (argc < 2)
        return err_set(err, ERR_USAGE, "s3 needs a verb: ls, cp, cat or rm; see convoy s3 --help");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return help(NULL, err);
    verb = find_verb(argv[1]);
    if (verb == NULL)
        return err_set(err, ERR_USAGE, "unknown verb '%s': s3 has ls, cp, cat and rm", argv[1]);
    return parse_and_run(verb, argc - 2, argv + 2, err);
}
