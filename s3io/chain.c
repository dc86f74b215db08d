#include "s3io/chain.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "s3io/config.h"
#include "s3io/container.h"
#include "s3io/ini.h"
#include "s3io/keys.h"
#include "s3io/metadata.h"

#define ROLES_ITEM "meta-data/iam/security-credentials/"

/* What one look has found out so far. A place answers 1: keys; 0: it has none, and why is in
 * `looked`; -1: it has some that are wrong, or cannot be asked. */
struct look {
    const struct s3_config *config;
    struct s3_ini *files;
    struct s3_metadata *metadata;
    bool had_metadata;
    struct buf looked; /* "PLACE (why not), PLACE (why not)" */
};

static char *copy(const char *text)
{
    char *out = text != NULL ? strdup(text) : NULL;

    if (text != NULL && out == NULL)
        abort();
    return out;
}

/* An empty variable is as good as none. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

static int check_clean(const char *text, const char *where, const char *name, struct err *err)
{
    if (text == NULL || s3_keys_is_clean(text))
        return 0;
    return err_set(err, ERR_INPUT, "%s%s has white space or a control character in it", where,
                   name);
}

static int take_expiration(struct s3_keys *keys, struct err *err)
{
    const char *text = variable("AWS_CREDENTIAL_EXPIRATION");

    if (text == NULL)
        return 0;
    if (s3_keys_parse_time(text, &keys->expires_s) < 0)
        return err_set(err, ERR_INPUT,
                       "AWS_CREDENTIAL_EXPIRATION is no time such as 2026-01-31T08:22:00Z");
    if (keys->expires_s <= clock_wall_s())
        return err_set(err, ERR_INPUT,
                       "the keys in the environment expired at %s (AWS_CREDENTIAL_EXPIRATION): set "
                       "new ones",
                       text);
    return 0;
}

static int in_environment(struct look *look, struct s3_keys *keys, struct err *err)
{
    const char *access_key = variable("AWS_ACCESS_KEY_ID");
    const char *secret_key = variable("AWS_SECRET_ACCESS_KEY");
    const char *token = variable("AWS_SESSION_TOKEN");

    if (look->config->profile_explicit) {
        buf_printf(&look->looked, "AWS_ACCESS_KEY_ID (passed over: a profile was given)");
        return 0;
    }
    if (access_key == NULL && secret_key == NULL) {
        buf_printf(&look->looked, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (not set)");
        return 0;
    }
    if (access_key == NULL || secret_key == NULL)
        return err_set(err, ERR_INPUT, "%s is set and %s is not: keys need both",
                       access_key != NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                       access_key != NULL ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
    if (token == NULL)
        token = variable("AWS_SECURITY_TOKEN"); /* its name before 2014 */
    if (check_clean(access_key, "", "AWS_ACCESS_KEY_ID", err) < 0 ||
        check_clean(secret_key, "", "AWS_SECRET_ACCESS_KEY", err) < 0 ||
        check_clean(token, "", "AWS_SESSION_TOKEN", err) < 0 || take_expiration(keys, err) < 0)
        return -1;
    keys->access_key = copy(access_key);
    keys->secret_key = copy(secret_key);
    keys->token = copy(token);
    return 1;
}

static bool in_profile(const struct look *look, enum s3_ini_file file, const char *key,
                       struct s3_ini_value *value)
{
    return s3_ini_find(look->files, file, S3_INI_PROFILE, look->config->profile, key, value) &&
           value->text[0] != '\0';
}

/* Ways to get keys that are not built. To go on to the next place would sign as somebody else. */
static int refuse_unbuilt(const struct look *look, const char *const *names, size_t count,
                          struct err *err)
{
    const char *profile = look->config->profile;
    struct s3_ini_value value;

    for (size_t i = 0; i < count; i++)
        for (int file = 0; file < S3_INI_FILES; file++)
            if (in_profile(look, (enum s3_ini_file)file, names[i], &value))
                return err_set(err, ERR_INPUT,
                               "'%s' line %d: profile '%s' has %s, which is not supported yet: run "
                               "'aws configure export-credentials --profile %s --format env' and "
                               "set the variables that it prints",
                               value.path, value.line, profile, names[i], profile);
    return 0;
}

static int refuse_roles(const struct look *look, struct err *err)
{
    static const char *const names[] = {"role_arn", "web_identity_token_file", "sso_session",
                                        "sso_start_url"};

    if (!look->config->profile_explicit && variable("AWS_WEB_IDENTITY_TOKEN_FILE") != NULL &&
        variable("AWS_ROLE_ARN") != NULL)
        return err_set(err, ERR_INPUT,
                       "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are set, and roles by web "
                       "identity are not supported yet: run 'aws configure export-credentials "
                       "--format env' and set the variables that it prints (on EKS, pod identity "
                       "works)");
    return refuse_unbuilt(look, names, sizeof names / sizeof *names, err);
}

static int refuse_processes(const struct look *look, struct err *err)
{
    static const char *const names[] = {"login_session", "credential_process"};

    return refuse_unbuilt(look, names, sizeof names / sizeof *names, err);
}

static void say_no_profile(struct look *look, enum s3_ini_file file)
{
    const char *path = s3_ini_path(look->files, file), *profile = look->config->profile;
    const char *why = "the profile has no keys";

    if (!s3_ini_exists(look->files, file))
        why = "no such file";
    else if (!s3_ini_find(look->files, file, S3_INI_PROFILE, profile, NULL, NULL))
        why = "no such profile";
    if (path == NULL)
        buf_printf(&look->looked, ", ~/.aws (HOME is not set)");
    else
        buf_printf(&look->looked, ", profile '%s' in '%s' (%s)", profile, path, why);
}

static int in_file(struct look *look, enum s3_ini_file file, struct s3_keys *keys, struct err *err)
{
    struct s3_ini_value access_key, secret_key, token;
    const bool has_access = in_profile(look, file, "aws_access_key_id", &access_key);
    const bool has_secret = in_profile(look, file, "aws_secret_access_key", &secret_key);
    struct buf where = {0};
    int rc = 1;

    if (!has_access && !has_secret) {
        say_no_profile(look, file);
        return 0;
    }
    if (!has_access || !has_secret)
        return err_set(err, ERR_INPUT, "'%s' line %d: profile '%s' has %s and no %s",
                       s3_ini_path(look->files, file),
                       has_access ? access_key.line : secret_key.line, look->config->profile,
                       has_access ? "aws_access_key_id" : "aws_secret_access_key",
                       has_access ? "aws_secret_access_key" : "aws_access_key_id");
    if (!in_profile(look, file, "aws_session_token", &token))
        token.text = NULL;
    buf_printf(&where, "'%s' profile '%s': ", access_key.path, look->config->profile);
    if (check_clean(access_key.text, buf_text(&where), "aws_access_key_id", err) < 0 ||
        check_clean(secret_key.text, buf_text(&where), "aws_secret_access_key", err) < 0 ||
        check_clean(token.text, buf_text(&where), "aws_session_token", err) < 0)
        rc = -1;
    else
        *keys = (struct s3_keys){.access_key = copy(access_key.text),
                                 .secret_key = copy(secret_key.text),
                                 .token = copy(token.text)};
    buf_release(&where);
    return rc;
}

static int at_container(struct look *look, struct s3_keys *keys, struct err *err)
{
    if (!s3_container_is_set()) {
        buf_printf(&look->looked,
                   ", the container endpoint (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI "
                   "not set)");
        return 0;
    }
    return s3_container_fetch(NULL, keys, err) == 0 ? 1 : -1;
}

/* The role's name: the first line of the answer. It becomes a part of the next path. */
static int role_of(struct buf *roles, const char **name, struct err *err)
{
    char *text = buf_text(roles);

    text[strcspn(text, "\r\n")] = '\0';
    if (text[0] == '\0' || strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                        "0123456789_+=,.@-") != strlen(text))
        return err_set(err, ERR_INPUT,
                       "instance metadata answered with a role's name that is none");
    *name = text;
    return 0;
}

/* 1, 0 (no role), or -1. */
static int ask_metadata(struct s3_metadata *metadata, struct s3_keys *keys, struct err *err)
{
    struct buf roles = {0}, item = {0}, answer = {0};
    const char *role = NULL;
    int rc = s3_metadata_get(metadata, ROLES_ITEM, &roles, err);

    if (rc == 1 && role_of(&roles, &role, err) < 0)
        rc = -1;
    if (rc == 1) {
        buf_printf(&item, ROLES_ITEM "%s", role);
        rc = s3_metadata_get(metadata, buf_text(&item), &answer, err);
    }
    if (rc == 1 &&
        s3_keys_parse(keys, buf_text(&answer), answer.bytes, "the instance role's answer", err) < 0)
        rc = -1;
    if (answer.data != NULL)
        explicit_bzero(answer.data, answer.capacity);
    buf_release(&roles);
    buf_release(&item);
    buf_release(&answer);
    return rc;
}

/* The last place: on most hosts that are no EC2 instances nobody answers, and that is no failure.
 */
static int in_metadata(struct look *look, struct s3_keys *keys, struct err *err)
{
    struct err why = {0};
    const int rc = ask_metadata(look->metadata, keys, &why);

    if (rc == 1)
        return 1;
    if (rc < 0 &&
        (why.code == ERR_USAGE ||
         (why.code == ERR_NET && (look->had_metadata || s3_metadata_answered(look->metadata))))) {
        if (err != NULL)
            *err = why;
        return -1;
    }
    buf_printf(&look->looked, ", instance metadata (%s)",
               rc == 0 ? "no role is attached to this instance" : why.msg);
    return 0;
}

static int look_everywhere(struct look *look, struct s3_keys *keys, enum s3_chain_place *place,
                           struct err *err)
{
    int rc;

    *place = S3_CHAIN_ENVIRONMENT;
    if ((rc = in_environment(look, keys, err)) != 0)
        return rc;
    *place = S3_CHAIN_CREDENTIALS_FILE;
    if ((rc = refuse_roles(look, err)) != 0 ||
        (rc = in_file(look, S3_INI_CREDENTIALS, keys, err)) != 0)
        return rc;
    *place = S3_CHAIN_CONFIG_FILE;
    if ((rc = refuse_processes(look, err)) != 0 ||
        (rc = in_file(look, S3_INI_CONFIG, keys, err)) != 0)
        return rc;
    *place = S3_CHAIN_CONTAINER;
    if ((rc = at_container(look, keys, err)) != 0)
        return rc;
    *place = S3_CHAIN_METADATA;
    if ((rc = in_metadata(look, keys, err)) != 0)
        return rc;
    return err_set(err, ERR_INPUT,
                   "no credentials; looked at %s; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                   "or write a profile",
                   buf_text(&look->looked));
}

int s3_chain_fetch(const struct s3_config *config, struct s3_metadata *metadata,
                   enum s3_chain_place before, struct s3_keys *keys, enum s3_chain_place *place,
                   struct err *err)
{
    struct look look = {
        .config = config, .metadata = metadata, .had_metadata = before == S3_CHAIN_METADATA};
    struct s3_keys found = {0};
    enum s3_chain_place where = S3_CHAIN_NOWHERE;
    int rc = -1;

    look.files = s3_ini_read(err);
    if (look.files != NULL)
        rc = look_everywhere(&look, &found, &where, err);
    s3_ini_free(look.files);
    buf_release(&look.looked);
    if (rc != 1) {
        s3_keys_release(&found);
        return -1;
    }
    *keys = found;
    *place = where;
    return 0;
}
