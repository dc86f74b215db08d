#include "s3io/chain.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "s3io/config.h"
#include "s3io/container.h"
#include "s3io/ini.h"
#include "s3io/keys.h"
#include "s3io/metadata.h"
#include "s3io/process.h"
#include "s3io/role.h"
#include "s3io/sts.h"
#include "s3io/web_identity.h"

#define ROLES_ITEM "meta-data/iam/security-credentials/"

/* What one look has found out so far. A place answers 1: keys; 0: it has none, and why is in
 * `looked`; -1: it has some that are wrong, or cannot be asked. */
struct look {
    const struct s3_chain_ask *ask;
    const struct s3_config *config; /* ask's */
    struct s3_ini *files;
    char *region;      /* for STS, where the config has none; NULL: not asked for yet, or unknown */
    struct buf looked; /* "PLACE (why not), PLACE (why not)" */
};

/* What becomes a part of a header. */
static int check_clean(const char *text, const char *where, const char *name, struct err *err)
{
    if (text == NULL || s3_keys_is_clean(text))
        return 0;
    return err_set(err, ERR_INPUT, "%s%s has white space or a control character in it", where,
                   name);
}

static int take_expiration(struct s3_keys *keys, struct err *err)
{
    const char *text = text_variable("AWS_CREDENTIAL_EXPIRATION");

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

/* 1, 0 (not set) or -1. */
static int from_environment(struct s3_keys *keys, struct err *err)
{
    const char *access_key = text_variable("AWS_ACCESS_KEY_ID");
    const char *secret_key = text_variable("AWS_SECRET_ACCESS_KEY");
    const char *token = text_variable("AWS_SESSION_TOKEN");

    if (access_key == NULL && secret_key == NULL)
        return 0;
    if (access_key == NULL || secret_key == NULL)
        return err_set(err, ERR_INPUT, "%s is set and %s is not: keys need both",
                       access_key != NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                       access_key != NULL ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
    if (token == NULL)
        token = text_variable("AWS_SECURITY_TOKEN"); /* its name before 2014 */
    if (check_clean(access_key, "", "AWS_ACCESS_KEY_ID", err) < 0 ||
        check_clean(secret_key, "", "AWS_SECRET_ACCESS_KEY", err) < 0 ||
        check_clean(token, "", "AWS_SESSION_TOKEN", err) < 0 || take_expiration(keys, err) < 0)
        return -1;
    keys->access_key = text_copy(access_key);
    keys->secret_key = text_copy(secret_key);
    keys->token = text_copy(token);
    return 1;
}

static int in_environment(struct look *look, struct s3_keys *keys, struct err *err)
{
    int rc;

    if (look->config->profile_explicit) {
        buf_printf(&look->looked, "AWS_ACCESS_KEY_ID (passed over: a profile was given)");
        return 0;
    }
    rc = from_environment(keys, err);
    if (rc == 0)
        buf_printf(&look->looked, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (not set)");
    return rc;
}

/* Ways to get keys that are not there. To go on to the next place would sign as somebody else. */
static int refuse(const struct look *look, const char *profile, const char *const *names,
                  size_t count, struct err *err)
{
    struct s3_ini_value value;

    for (size_t i = 0; i < count; i++)
        if (s3_ini_find_profile(look->files, profile, names[i], &value))
            return err_set(err, ERR_INPUT,
                           "'%s' line %d: profile '%s' has %s, which is not supported: run 'aws "
                           "configure export-credentials --profile %s --format env' and set the "
                           "variables that it prints",
                           value.path, value.line, profile, names[i], look->config->profile);
    return 0;
}

static void say_no_profile(struct look *look, enum s3_ini_file file, const char *profile)
{
    const char *path = s3_ini_path(look->files, file);
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

static bool has_value(const struct look *look, enum s3_ini_file file, const char *profile,
                      const char *key, struct s3_ini_value *value)
{
    return s3_ini_find(look->files, file, S3_INI_PROFILE, profile, key, value) &&
           value->text[0] != '\0';
}

static int in_file(struct look *look, enum s3_ini_file file, const char *profile,
                   struct s3_keys *keys, struct err *err)
{
    struct s3_ini_value access_key, secret_key, token;
    const bool has_access = has_value(look, file, profile, "aws_access_key_id", &access_key);
    const bool has_secret = has_value(look, file, profile, "aws_secret_access_key", &secret_key);
    struct buf where = {0};
    int rc = 1;

    if (!has_access && !has_secret) {
        say_no_profile(look, file, profile);
        return 0;
    }
    if (!has_access || !has_secret)
        return err_set(err, ERR_INPUT, "'%s' line %d: profile '%s' has %s and no %s",
                       s3_ini_path(look->files, file),
                       has_access ? access_key.line : secret_key.line, profile,
                       has_access ? "aws_access_key_id" : "aws_secret_access_key",
                       has_access ? "aws_secret_access_key" : "aws_access_key_id");
    if (!has_value(look, file, profile, "aws_session_token", &token))
        token.text = NULL;
    buf_printf(&where, "'%s' profile '%s': ", access_key.path, profile);
    if (check_clean(access_key.text, buf_text(&where), "aws_access_key_id", err) < 0 ||
        check_clean(secret_key.text, buf_text(&where), "aws_secret_access_key", err) < 0 ||
        check_clean(token.text, buf_text(&where), "aws_session_token", err) < 0)
        rc = -1;
    else
        *keys = (struct s3_keys){.access_key = text_copy(access_key.text),
                                 .secret_key = text_copy(secret_key.text),
                                 .token = text_copy(token.text)};
    buf_release(&where);
    return rc;
}

static int from_container(const struct look *look, struct s3_keys *keys, struct err *err)
{
    const struct s3_container_pace pace = {S3_CONTAINER_TIMEOUT_S, S3_CONTAINER_PAUSE_S,
                                           look->ask->cancel};

    return s3_container_fetch(&pace, keys, err) == 0 ? 1 : -1;
}

static int at_container(struct look *look, struct s3_keys *keys, struct err *err)
{
    if (!s3_container_is_set()) {
        buf_printf(&look->looked,
                   ", the container endpoint (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI "
                   "not set)");
        return 0;
    }
    return from_container(look, keys, err);
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
    const bool had_metadata = look->ask->before == S3_CHAIN_METADATA;
    struct err why = {0};
    const int rc = ask_metadata(look->ask->metadata, keys, &why);

    if (rc == 1)
        return 1;
    if (rc < 0 &&
        (why.code == ERR_USAGE || why.code == ERR_STOPPED ||
         (why.code == ERR_NET && (had_metadata || s3_metadata_answered(look->ask->metadata))))) {
        if (err != NULL)
            *err = why;
        return -1;
    }
    buf_printf(&look->looked, ", instance metadata (%s)",
               rc == 0 ? "no role is attached to this instance" : why.msg);
    return 0;
}

/* --- a profile's places and roles --- */

/* STS's region is that of S3: where nothing names one, the one that this host is in. */
static struct s3_sts sts_of(struct look *look)
{
    if (look->config->region == NULL && look->config->sts_endpoint == NULL && look->region == NULL)
        look->region = s3_metadata_region(look->ask->metadata);
    return (struct s3_sts){.config = look->config,
                           .region = look->region,
                           .cancel = look->ask->cancel,
                           .once = look->ask->ahead};
}

static int by_web_identity(struct look *look, const char *profile, bool variables,
                           struct s3_keys *keys, struct err *err)
{
    struct s3_web_identity identity;
    struct s3_sts sts;
    const int rc = s3_web_identity_read(&identity, look->files, profile, variables, err);

    if (rc != 1)
        return rc;
    sts = sts_of(look);
    return s3_web_identity_assume(&identity, &sts, keys, err) == 0 ? 1 : -1;
}

static int by_process(struct look *look, const char *profile, struct s3_keys *keys, struct err *err)
{
    struct s3_ini_value command;
    struct s3_process process = {.limit_s = S3_PROCESS_LIMIT_S, .cancel = look->ask->cancel};

    if (!s3_ini_find_profile(look->files, profile, "credential_process", &command))
        return 0;
    process.command = command.whole;
    if (s3_process_fetch(&process, keys, err) == 0)
        return 1;
    return err_wrap(err, "'%s' line %d: credential_process of profile '%s'", command.path,
                    command.line, profile);
}

/* What a profile has but a role with a source; variables: AWS_WEB_IDENTITY_TOKEN_FILE counts. */
static int in_profile(struct look *look, const char *profile, bool variables, struct s3_keys *keys,
                      enum s3_chain_place *place, struct err *err)
{
    static const char *const sso[] = {"sso_account_id", "sso_role_name"};
    static const char *const login[] = {"login_session"};
    int rc;

    *place = S3_CHAIN_WEB_IDENTITY;
    if ((rc = by_web_identity(look, profile, variables, keys, err)) != 0 ||
        (rc = refuse(look, profile, sso, sizeof sso / sizeof *sso, err)) != 0)
        return rc;
    *place = S3_CHAIN_CREDENTIALS_FILE;
    if ((rc = in_file(look, S3_INI_CREDENTIALS, profile, keys, err)) != 0 ||
        (rc = refuse(look, profile, login, sizeof login / sizeof *login, err)) != 0)
        return rc;
    *place = S3_CHAIN_PROCESS;
    if ((rc = by_process(look, profile, keys, err)) != 0)
        return rc;
    *place = S3_CHAIN_CONFIG_FILE;
    return in_file(look, S3_INI_CONFIG, profile, keys, err);
}

/* The profiles on the way to one, it first. */
struct step {
    const char *profile;
    const struct step *before;
};

/* "a -> b -> c" */
static void print_way(struct buf *out, const struct step *step)
{
    if (step->before != NULL)
        print_way(out, step->before);
    buf_printf(out, "%s%s", step->before != NULL ? " -> " : "", step->profile);
}

static bool was_there(const struct step *step, const char *profile)
{
    while (step != NULL && strcmp(step->profile, profile) != 0)
        step = step->before;
    return step != NULL;
}

static bool is_profile(const struct look *look, const char *profile)
{
    return s3_ini_find(look->files, S3_INI_CREDENTIALS, S3_INI_PROFILE, profile, NULL, NULL) ||
           s3_ini_find(look->files, S3_INI_CONFIG, S3_INI_PROFILE, profile, NULL, NULL);
}

static bool has_own_keys(const struct look *look, const char *profile)
{
    struct s3_ini_value value;

    return s3_ini_find_profile(look->files, profile, "aws_access_key_id", &value) ||
           s3_ini_find_profile(look->files, profile, "aws_secret_access_key", &value);
}

/* A profile may name itself as its source: its own keys then ask for its role. Any other way back
 * has no end. */
static int check_source(const struct look *look, const struct s3_role *role,
                        const struct step *here, struct err *err)
{
    const struct s3_ini_value *source = &role->source_profile;
    struct buf way = {0};

    if (!is_profile(look, source->text))
        return err_set(err, ERR_INPUT,
                       "'%s' line %d: profile '%s' has source_profile '%s', and there is no such "
                       "profile",
                       source->path, source->line, role->profile, source->text);
    if (!was_there(here, source->text) ||
        (strcmp(source->text, role->profile) == 0 && has_own_keys(look, role->profile)))
        return 0;
    print_way(&way, &(struct step){source->text, here});
    err_set(err, ERR_INPUT, "'%s' line %d: the source_profile of profile '%s' goes in a circle: %s",
            source->path, source->line, role->profile, buf_text(&way));
    buf_release(&way);
    return -1;
}

static int by_role(struct look *look, const struct step *here, struct s3_keys *keys,
                   struct err *err);

/* Keys of the profile that a role names as its source. */
static int from_profile(struct look *look, const struct s3_role *role, const struct step *here,
                        struct s3_keys *keys, enum s3_chain_place *place, struct err *err)
{
    const char *profile = role->source_profile.text;
    const struct step next = {profile, here};
    int rc = 0;

    if (check_source(look, role, here, err) < 0)
        return -1;
    *place = S3_CHAIN_ROLE;
    if (!has_own_keys(look, profile))
        rc = by_role(look, &next, keys, err);
    if (rc == 0)
        rc = in_profile(look, profile, false, keys, place, err);
    if (rc == 0)
        rc = err_set(err, ERR_INPUT,
                     "'%s' line %d: profile '%s' has source_profile '%s', which has no keys",
                     role->source_profile.path, role->source_profile.line, role->profile, profile);
    return rc;
}

/* Keys of the place that a role names as its source. */
static int from_place(struct look *look, const struct s3_role *role, struct s3_keys *keys,
                      enum s3_chain_place *place, struct err *err)
{
    const struct s3_ini_value *source = &role->credential_source;
    const char *why = "those variables are not set";
    int rc;

    if (strcmp(source->text, "Environment") == 0) {
        *place = S3_CHAIN_ENVIRONMENT;
        rc = from_environment(keys, err);
    } else if (strcmp(source->text, "EcsContainer") == 0) {
        *place = S3_CHAIN_CONTAINER;
        rc = s3_container_is_set() ? from_container(look, keys, err) : 0;
        why = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set";
    } else if (strcmp(source->text, "Ec2InstanceMetadata") == 0) {
        *place = S3_CHAIN_METADATA;
        rc = ask_metadata(look->ask->metadata, keys, err);
        why = "no role is attached to this instance";
    } else {
        return err_set(err, ERR_INPUT,
                       "'%s' line %d: profile '%s' has a credential_source that is none of "
                       "Environment, Ec2InstanceMetadata, EcsContainer",
                       source->path, source->line, role->profile);
    }
    if (rc == 0)
        err_set(err, ERR_INPUT, "%s", why);
    return rc == 1 ? 1
                   : err_wrap(err, "'%s' line %d: credential_source %s of profile '%s'",
                              source->path, source->line, source->text, role->profile);
}

/* 1, 0 (the profile has no role) or -1. */
static int by_role(struct look *look, const struct step *here, struct s3_keys *keys,
                   struct err *err)
{
    static const char *const mfa[] = {"mfa_serial"}; /* nobody can be asked for its code */
    struct s3_role role;
    struct s3_keys source = {0};
    enum s3_chain_place place = S3_CHAIN_NOWHERE;
    char *name = NULL;
    int rc = s3_role_read(&role, look->files, here->profile, err);

    if (rc != 1)
        return rc;
    if (refuse(look, here->profile, mfa, sizeof mfa / sizeof *mfa, err) < 0)
        return -1;
    if (role.source_profile.text != NULL)
        rc = from_profile(look, &role, here, &source, &place, err);
    else
        rc = from_place(look, &role, &source, &place, err);
    if (rc == 1) {
        const struct s3_sts sts = sts_of(look);

        name = s3_chain_name(place, role.source_profile.text);
        rc = s3_role_assume(&role, &sts, &source, name, keys, err) == 0 ? 1 : -1;
        free(name);
    }
    s3_keys_release(&source);
    return rc;
}

/* --- all of them --- */

char *s3_chain_name(enum s3_chain_place place, const char *profile)
{
    static const struct {
        const char *head, *tail; /* tail NULL: without a profile */
    } names[S3_CHAIN_PLACES] = {
        [S3_CHAIN_NOWHERE] = {"nowhere", NULL},
        [S3_CHAIN_ENVIRONMENT] = {"the environment", NULL},
        [S3_CHAIN_ROLE] = {"the role of profile '", "'"},
        [S3_CHAIN_WEB_IDENTITY] = {"the role by web identity", NULL},
        [S3_CHAIN_CREDENTIALS_FILE] = {"profile '", "' in the credentials file"},
        [S3_CHAIN_PROCESS] = {"credential_process of profile '", "'"},
        [S3_CHAIN_CONFIG_FILE] = {"profile '", "' in the config file"},
        [S3_CHAIN_CONTAINER] = {"the container endpoint", NULL},
        [S3_CHAIN_METADATA] = {"instance metadata", NULL},
    };
    struct buf name = {0};
    char *out;

    buf_printf(&name, "%s", names[place].head);
    if (names[place].tail != NULL)
        buf_printf(&name, "%s%s", profile, names[place].tail);
    out = text_copy(buf_text(&name));
    buf_release(&name);
    return out;
}

static int look_everywhere(struct look *look, struct s3_keys *keys, enum s3_chain_place *place,
                           struct err *err)
{
    /* Where these stand alone a token is meant, no keys: but the next places are other people's. */
    static const char *const sso[] = {"sso_session", "sso_start_url"};
    const char *profile = look->config->profile;
    int rc;

    *place = S3_CHAIN_ENVIRONMENT;
    if ((rc = in_environment(look, keys, err)) != 0)
        return rc;
    *place = S3_CHAIN_ROLE;
    if ((rc = by_role(look, &(struct step){profile, NULL}, keys, err)) != 0)
        return rc;
    rc = in_profile(look, profile, !look->config->profile_explicit, keys, place, err);
    if (rc != 0 || (rc = refuse(look, profile, sso, sizeof sso / sizeof *sso, err)) != 0)
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

int s3_chain_fetch(const struct s3_chain_ask *ask, struct s3_keys *keys, enum s3_chain_place *place,
                   struct err *err)
{
    struct look look = {.ask = ask, .config = ask->config};
    struct s3_keys found = {0};
    enum s3_chain_place where = S3_CHAIN_NOWHERE;
    int rc = -1;

    look.files = s3_ini_read(err);
    if (look.files != NULL)
        rc = look_everywhere(&look, &found, &where, err);
    s3_ini_free(look.files);
    free(look.region);
    buf_release(&look.looked);
    if (rc != 1) {
        s3_keys_release(&found);
        return -1;
    }
    *keys = found;
    *place = where;
    return 0;
}
