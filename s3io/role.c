#include "s3io/role.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "s3io/sts.h"

static int refuse(const struct s3_ini_value *at, const char *profile, struct err *err,
                  const char *why)
{
    return err_set(err, ERR_INPUT, "'%s' line %d: profile '%s' has %s", at->path, at->line, profile,
                   why);
}

static int read_duration(struct s3_role *role, const struct s3_ini *files, struct err *err)
{
    struct s3_ini_value value;
    char *end;
    long number;

    if (!s3_ini_find_profile(files, role->profile, "duration_seconds", &value))
        return 0;
    number = strtol(value.text, &end, 10);
    if (!isdigit((unsigned char)value.text[0]) || *end != '\0' || number < 1 ||
        number > S3_ROLE_DURATION_S_MAX)
        return refuse(&value, role->profile, err,
                      "a duration_seconds that is no number from 1 to 43200 (AWS takes 900 and "
                      "more)");
    role->duration_s = value.text;
    return 0;
}

int s3_role_read(struct s3_role *role, const struct s3_ini *files, const char *profile,
                 struct err *err)
{
    struct s3_ini_value value;
    struct s3_role found = {.profile = profile};

    if (!s3_ini_find_profile(files, profile, "role_arn", &found.arn) ||
        s3_ini_find_profile(files, profile, "web_identity_token_file", &value))
        return 0;
    s3_ini_find_profile(files, profile, "source_profile", &found.source_profile);
    s3_ini_find_profile(files, profile, "credential_source", &found.credential_source);
    if (found.source_profile.text != NULL && found.credential_source.text != NULL)
        return refuse(&found.credential_source, profile, err,
                      "both source_profile and credential_source: remove one");
    if (found.source_profile.text == NULL && found.credential_source.text == NULL)
        return refuse(&found.arn, profile, err,
                      "role_arn, and neither source_profile nor credential_source that say whose "
                      "keys ask for the role");
    if (s3_ini_find_profile(files, profile, "external_id", &value))
        found.external_id = value.text;
    if (s3_ini_find_profile(files, profile, "role_session_name", &value))
        found.session_name = value.text;
    if (read_duration(&found, files, err) < 0)
        return -1;
    *role = found;
    return 1;
}

void s3_role_session_name(char name[S3_ROLE_SESSION_CHARS])
{
    snprintf(name, S3_ROLE_SESSION_CHARS, "convoy-%.0f", clock_wall_s());
}

int s3_role_assume(const struct s3_role *role, const struct s3_sts *sts,
                   const struct s3_keys *source, const char *source_name, struct s3_keys *keys,
                   struct err *err)
{
    char session_name[S3_ROLE_SESSION_CHARS];
    struct s3_sts_question question = {
        .action = "AssumeRole", .keys = source, .who = source_name, .token = role->external_id};

    s3_role_session_name(session_name);
    question.fields[question.field_count++] = (struct s3_pair){"RoleArn", role->arn.text};
    question.fields[question.field_count++] = (struct s3_pair){
        "RoleSessionName", role->session_name != NULL ? role->session_name : session_name};
    if (role->external_id != NULL)
        question.fields[question.field_count++] = (struct s3_pair){"ExternalId", role->external_id};
    if (role->duration_s != NULL)
        question.fields[question.field_count++] =
            (struct s3_pair){"DurationSeconds", role->duration_s};
    if (s3_sts_fetch(sts, &question, keys, err) < 0)
        return err_wrap(err, "cannot assume the role '%s' of profile '%s'", role->arn.text,
                        role->profile);
    return 0;
}
