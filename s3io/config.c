#include "s3io/config.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "s3io/client.h"
#include "s3io/ini.h"

#define ATTEMPTS_MAX     1000
#define REGION_CHARS_MAX 63 /* it becomes a label of a host name */

/* A setting and where it stands, for the message if it is wrong. */
struct setting {
    const char *text; /* NULL: nowhere */
    const char *name; /* of the option, variable or key */
    const char *path; /* the file's; NULL: no file */
    int line;
};

/* An empty variable or option is as good as none. */
static bool from_option(struct setting *setting, const char *name, const char *text)
{
    if (text == NULL || text[0] == '\0')
        return false;
    *setting = (struct setting){.text = text, .name = name};
    return true;
}

static bool from_variable(struct setting *setting, const char *name)
{
    return from_option(setting, name, getenv(name));
}

static bool from_section(struct setting *setting, const struct s3_config *config,
                         enum s3_ini_kind kind, const char *section, const char *key)
{
    for (int file = 0; file < S3_INI_FILES; file++) {
        struct s3_ini_value value;

        if (s3_ini_find(config->files, (enum s3_ini_file)file, kind, section, key, &value) &&
            value.text[0] != '\0') {
            *setting = (struct setting){value.text, key, value.path, value.line};
            return true;
        }
    }
    return false;
}

static bool from_profile(struct setting *setting, const struct s3_config *config, const char *key)
{
    return from_section(setting, config, S3_INI_PROFILE, config->profile, key);
}

/* "NAME: why", or "'FILE' line N: NAME: why". */
static int refuse(const struct setting *setting, struct err *err, const char *why)
{
    if (setting->path != NULL)
        return err_set(err, ERR_INPUT, "'%s' line %d: %s %s", setting->path, setting->line,
                       setting->name, why);
    return err_set(err, ERR_USAGE, "%s %s", setting->name, why);
}

static int as_bool(const struct setting *setting, bool *out, struct err *err)
{
    if (strcasecmp(setting->text, "true") == 0)
        *out = true;
    else if (strcasecmp(setting->text, "false") == 0)
        *out = false;
    else
        return refuse(setting, err, "must be true or false");
    return 0;
}

static int read_profile(struct s3_config *config, const struct s3_client_options *options,
                        struct err *err)
{
    struct setting setting = {.text = "default"};
    const bool named = from_option(&setting, "the option for a profile", options->profile) ||
                       from_variable(&setting, "AWS_PROFILE") ||
                       from_variable(&setting, "AWS_DEFAULT_PROFILE");
    const char *paths[S3_INI_FILES];

    config->profile = text_copy(setting.text);
    config->profile_explicit = options->profile != NULL && options->profile[0] != '\0';
    config->files = s3_ini_read(err);
    if (config->files == NULL)
        return -1;
    for (int file = 0; file < S3_INI_FILES; file++) {
        paths[file] = s3_ini_path(config->files, (enum s3_ini_file)file);
        if (!named || s3_ini_find(config->files, (enum s3_ini_file)file, S3_INI_PROFILE,
                                  setting.text, NULL, NULL))
            return 0;
    }
    if (s3_ini_find(config->files, S3_INI_CONFIG, S3_INI_OTHER, setting.text, NULL, NULL))
        return err_set(err, ERR_INPUT,
                       "no profile '%s' (%s): in '%s' its section must be called '[profile %s]'",
                       setting.text, setting.name, paths[S3_INI_CONFIG], setting.text);
    return err_set(err, ERR_INPUT, "no profile '%s' (%s) in '%s' or '%s'", setting.text,
                   setting.name, paths[0] != NULL ? paths[0] : "~/.aws/credentials",
                   paths[1] != NULL ? paths[1] : "~/.aws/config");
}

/* A region becomes part of a host's name and of a header. */
static bool is_region(const char *text)
{
    const size_t n =
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");

    return text[n] == '\0' && n <= REGION_CHARS_MAX && text[0] != '-' && text[n - 1] != '-';
}

static int read_region(struct s3_config *config, const struct s3_client_options *options,
                       struct err *err)
{
    struct setting setting = {0};

    if (!from_option(&setting, "the option for a region", options->region) &&
        !from_variable(&setting, "AWS_REGION") && !from_variable(&setting, "AWS_DEFAULT_REGION") &&
        !from_profile(&setting, config, "region"))
        return 0;
    if (!is_region(setting.text))
        return refuse(&setting, err, "is no region's name ('eu-west-1', for example)");
    config->region = text_copy(setting.text);
    return 0;
}

/* "http[s]://HOST[:PORT][/PATH]". The host is not looked at further: the resolver says what is
 * wrong with it. A name and password before it would end in messages: refused. */
static bool is_endpoint(const char *text)
{
    const char *host, *end, *port;

    if (strncmp(text, "http://", 7) == 0)
        host = text + 7;
    else if (strncmp(text, "https://", 8) == 0)
        host = text + 8;
    else
        return false;
    for (const char *c = host; *c != '\0'; c++)
        if (!isgraph((unsigned char)*c) || strchr("?#@\\\"<>", *c) != NULL)
            return false;
    end = host + strcspn(host, "/");
    port = host[0] == '[' ? memchr(host, ']', (size_t)(end - host)) : host;
    if (port == NULL || end == host)
        return false;
    port = memchr(port, ':', (size_t)(end - port));
    if (port == host)
        return false;
    return port == NULL ||
           (port + 1 < end && strspn(port + 1, "0123456789") >= (size_t)(end - port - 1));
}

static int is_ignored(const struct s3_config *config, bool *ignored, struct err *err)
{
    struct setting setting = {0};

    if (!from_variable(&setting, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") &&
        !from_profile(&setting, config, "ignore_configured_endpoint_urls"))
        return 0;
    return as_bool(&setting, ignored, err);
}

/* How a service's own endpoint is called; `last` is looked at after all others. */
struct service {
    const char *variable, *key, *last;
};
static const struct service s3 = {"AWS_ENDPOINT_URL_S3", "s3.endpoint_url", "S3_ENDPOINT_URL"};
static const struct service sts = {"AWS_ENDPOINT_URL_STS", "sts.endpoint_url", NULL};

/* The profile's own, of its [services] section or of itself. 1: found; 0: not; -1. */
static int find_profile_endpoint(struct setting *setting, const struct s3_config *config,
                                 const struct service *service, struct err *err)
{
    struct setting services = {0};

    if (from_profile(&services, config, "services")) {
        if (!s3_ini_find(config->files, S3_INI_CONFIG, S3_INI_SERVICES, services.text, NULL, NULL))
            return refuse(&services, err, "names a '[services ...]' section that is not there");
        if (from_section(setting, config, S3_INI_SERVICES, services.text, service->key))
            return 1;
    }
    return from_profile(setting, config, "endpoint_url");
}

static int find_endpoint(struct setting *setting, const struct s3_config *config,
                         const struct service *service, struct err *err)
{
    bool ignored = false;
    int found;

    if (is_ignored(config, &ignored, err) < 0)
        return -1;
    if (ignored)
        return 0;
    if (from_variable(setting, service->variable) || from_variable(setting, "AWS_ENDPOINT_URL"))
        return 1;
    found = find_profile_endpoint(setting, config, service, err);
    return found != 0 || service->last == NULL ? found : from_variable(setting, service->last);
}

static int take_endpoint(const struct setting *setting, char **endpoint, struct err *err)
{
    size_t n;

    assert(setting->text != NULL);
    if (!is_endpoint(setting->text))
        return refuse(setting, err,
                      "must be 'http://HOST', 'https://HOST' or one of these with "
                      "':PORT' and '/PATH'");
    *endpoint = text_copy(setting->text);
    n = strlen(*endpoint);
    while ((*endpoint)[n - 1] == '/')
        (*endpoint)[--n] = '\0';
    return 0;
}

static int read_endpoint(struct s3_config *config, const struct s3_client_options *options,
                         struct err *err)
{
    struct setting setting = {0};
    int found = from_option(&setting, "the option for an endpoint", options->endpoint);

    if (found == 0)
        found = find_endpoint(&setting, config, &s3, err);
    return found <= 0 ? found : take_endpoint(&setting, &config->endpoint, err);
}

static int read_sts(struct s3_config *config, struct err *err)
{
    struct setting setting = {0};
    const int found = find_endpoint(&setting, config, &sts, err);

    if (found < 0 || (found > 0 && take_endpoint(&setting, &config->sts_endpoint, err) < 0))
        return -1;
    if (!from_variable(&setting, "AWS_STS_REGIONAL_ENDPOINTS") &&
        !from_profile(&setting, config, "sts_regional_endpoints"))
        return 0;
    config->sts_global = strcasecmp(setting.text, "legacy") == 0;
    if (!config->sts_global && strcasecmp(setting.text, "regional") != 0)
        return refuse(&setting, err, "must be regional or legacy");
    return 0;
}

static int read_addressing(struct s3_config *config, struct err *err)
{
    static const struct {
        const char *name;
        enum s3_addressing style;
    } styles[] = {
        {"auto", S3_ADDRESS_AUTO}, {"path", S3_ADDRESS_PATH}, {"virtual", S3_ADDRESS_VIRTUAL}};
    struct setting setting = {0};

    if (!from_profile(&setting, config, "s3.addressing_style"))
        return 0;
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
        if (strcmp(setting.text, styles[i].name) == 0) {
            config->addressing = styles[i].style;
            return 0;
        }
    return refuse(&setting, err, "must be auto, path or virtual");
}

static int read_attempts(struct s3_config *config, struct err *err)
{
    struct setting setting = {0};
    char *end;
    long number;

    config->attempts = 0;
    if (!from_variable(&setting, "AWS_MAX_ATTEMPTS") &&
        !from_profile(&setting, config, "max_attempts"))
        return 0;
    number = strtol(setting.text, &end, 10);
    if (!isdigit((unsigned char)setting.text[0]) || *end != '\0' || number < 1 ||
        number > ATTEMPTS_MAX)
        return refuse(&setting, err, "must be a number from 1 to 1000");
    config->attempts = (int)number;
    return 0;
}

static int read_sse(struct s3_config *config, const struct s3_client_options *options,
                    struct err *err)
{
    struct setting sse = {0}, key = {0};
    const bool sse_option = from_option(&sse, "the option for encryption", options->sse);
    const bool key_option = from_option(&key, "the option for a KMS key", options->sse_key_id);

    /* An option for one of the two goes before both variables. */
    if (!sse_option && !key_option)
        from_variable(&sse, "CONVOY_SSE");
    if (!key_option && !(sse_option && strcmp(sse.text, "aws:kms") != 0))
        from_variable(&key, "CONVOY_SSE_KMS_KEY_ID");
    if (sse.text != NULL && strcmp(sse.text, "aws:kms") != 0 && strcmp(sse.text, "AES256") != 0)
        return refuse(&sse, err, "must be aws:kms or AES256");
    if (sse.text != NULL && key.text != NULL && strcmp(sse.text, "aws:kms") != 0)
        return refuse(&sse, err, "is AES256, which takes no KMS key: set aws:kms, or no key");
    for (const char *c = key.text; c != NULL && *c != '\0'; c++)
        if (!isgraph((unsigned char)*c))
            return refuse(&key, err, "must be a key's ID, alias or ARN");
    config->sse = text_copy(key.text != NULL ? "aws:kms" : sse.text);
    config->sse_key_id = text_copy(key.text);
    return 0;
}

static int read_flags(struct s3_config *config, struct err *err)
{
    struct setting setting = {0};

    if (from_variable(&setting, "AWS_USE_DUALSTACK_ENDPOINT") ||
        from_profile(&setting, config, "use_dualstack_endpoint")) {
        if (as_bool(&setting, &config->dualstack, err) < 0)
            return -1;
        config->sts_dualstack = config->dualstack;
    } else if (from_profile(&setting, config, "s3.use_dualstack_endpoint") &&
               as_bool(&setting, &config->dualstack, err) < 0) {
        return -1;
    }
    if ((from_variable(&setting, "AWS_USE_FIPS_ENDPOINT") ||
         from_profile(&setting, config, "use_fips_endpoint")) &&
        as_bool(&setting, &config->fips, err) < 0)
        return -1;
    return 0;
}

/* "when_supported", or "when_required": S3 requires none of what we send and read. */
static int read_checksum(const struct s3_config *config, const char *variable, const char *key,
                         bool *wanted, struct err *err)
{
    struct setting setting = {0};

    *wanted = true;
    if (!from_variable(&setting, variable) && !from_profile(&setting, config, key))
        return 0;
    *wanted = strcasecmp(setting.text, "when_supported") == 0;
    if (*wanted || strcasecmp(setting.text, "when_required") == 0)
        return 0;
    return refuse(&setting, err, "must be when_supported or when_required");
}

/* As botocore: what may not stand in a token of the header (RFC 9110, 5.6.2) becomes a '-'. */
static void read_user_agent(struct s3_config *config)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    struct setting setting = {0};
    struct buf text = {0};

    if (!from_variable(&setting, "AWS_SDK_UA_APP_ID") &&
        !from_profile(&setting, config, "sdk_ua_app_id"))
        return;
    buf_printf(&text, "convoy/" CONVOY_VERSION " app/");
    for (const char *c = setting.text; *c != '\0'; c++)
        buf_append(&text, isalnum((unsigned char)*c) || strchr(others, *c) != NULL ? c : "-", 1);
    config->user_agent = text_copy(buf_text(&text));
    buf_release(&text);
}

int s3_config_read(struct s3_config *config, const struct s3_client_options *options,
                   struct err *err)
{
    static const struct s3_client_options none;
    const struct s3_client_options *o = options != NULL ? options : &none;
    struct setting bundle;

    *config = (struct s3_config){0};
    if (read_profile(config, o, err) < 0 || read_region(config, o, err) < 0 ||
        read_endpoint(config, o, err) < 0 || read_sts(config, err) < 0 ||
        read_addressing(config, err) < 0 || read_attempts(config, err) < 0 ||
        read_sse(config, o, err) < 0 || read_flags(config, err) < 0 ||
        read_checksum(config, "AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation",
                      &config->sends_checksums, err) < 0 ||
        read_checksum(config, "AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation",
                      &config->asks_checksums, err) < 0) {
        s3_config_release(config);
        return -1;
    }
    read_user_agent(config);
    if (from_variable(&bundle, "AWS_CA_BUNDLE") || from_profile(&bundle, config, "ca_bundle"))
        config->ca_bundle = text_copy(bundle.text);
    return 0;
}

void s3_config_release(struct s3_config *config)
{
    free(config->profile);
    s3_ini_free(config->files);
    free(config->region);
    free(config->endpoint);
    free(config->sts_endpoint);
    free(config->ca_bundle);
    free(config->sse);
    free(config->sse_key_id);
    free(config->user_agent);
    *config = (struct s3_config){0};
}
