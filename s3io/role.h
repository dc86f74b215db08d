/*
 * s3io/role.h -- a profile's role, and its keys by STS's AssumeRole.
 *
 * A profile with role_arn (and no web_identity_token_file, which makes it web_identity.h's) takes
 * the keys to ask with from source_profile or credential_source: chain.c does. Source: AWS SDKs and
 * Tools Reference Guide, "Assume role credential provider"; rules of botocore's AssumeRoleProvider.
 */
#ifndef S3IO_ROLE_H
#define S3IO_ROLE_H

#include "s3io/ini.h"

struct err;
struct s3_keys;
struct s3_sts;

/* The texts are the ini's. */
struct s3_role {
    const char *profile;
    struct s3_ini_value arn;
    struct s3_ini_value source_profile, credential_source; /* text of one is NULL */
    const char *external_id, *session_name;                /* NULL: none */
    const char *duration_s;                                /* NULL: STS's own, an hour */
};

#define S3_ROLE_DURATION_S_MAX 43200

/** 1: the profile has a role; 0: it has none; -1 with err (ERR_INPUT, file and line): settings that
 * are wrong. mfa_serial is not looked at. */
int s3_role_read(struct s3_role *role, const struct s3_ini *files, const char *profile,
                 struct err *err);

/** Ask STS with the keys `source`; source_name says where they are from. As s3_sts_fetch. */
int s3_role_assume(const struct s3_role *role, const struct s3_sts *sts,
                   const struct s3_keys *source, const char *source_name, struct s3_keys *keys,
                   struct err *err);

/** What a session is called where no role_session_name is given: "convoy-1795340000". */
#define S3_ROLE_SESSION_CHARS 32
void s3_role_session_name(char name[S3_ROLE_SESSION_CHARS]);

#endif
