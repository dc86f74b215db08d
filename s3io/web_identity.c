#include "s3io/web_identity.h"

#include <ctype.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/text.h"
#include "s3io/ini.h"
#include "s3io/keys.h"
#include "s3io/role.h"
#include "s3io/sts.h"

#define TOKEN_BYTES_MAX ((size_t)64 << 10) /* STS takes 20,000 characters */

static const char *setting(const struct s3_ini *files, const char *profile, bool variables,
                           const char *variable, const char *key)
{
    const char *text = variables ? text_variable(variable) : NULL;
    struct s3_ini_value value;

    if (text != NULL)
        return text;
    s3_ini_find_profile(files, profile, key, &value);
    return value.text;
}

int s3_web_identity_read(struct s3_web_identity *identity, const struct s3_ini *files,
                         const char *profile, bool variables, struct err *err)
{
    const struct s3_web_identity found = {
        .token_file = setting(files, profile, variables, "AWS_WEB_IDENTITY_TOKEN_FILE",
                              "web_identity_token_file"),
        .role_arn = setting(files, profile, variables, "AWS_ROLE_ARN", "role_arn"),
        .session_name =
            setting(files, profile, variables, "AWS_ROLE_SESSION_NAME", "role_session_name"),
    };

    if (found.token_file == NULL)
        return 0;
    if (found.role_arn == NULL)
        return err_set(err, ERR_INPUT,
                       "the web identity token in '%s' has no role: set AWS_ROLE_ARN, or role_arn "
                       "in profile '%s'",
                       found.token_file, profile);
    *identity = found;
    return 1;
}

static int read_token(const char *path, struct buf *token, struct err *err)
{
    if (file_read(path, TOKEN_BYTES_MAX, token, err) < 0) {
        if (err != NULL)
            err->code = ERR_INPUT;
        return err_wrap(err, "cannot read the web identity token");
    }
    while (token->bytes > 0 && isspace(token->data[token->bytes - 1]))
        token->bytes--;
    if (token->bytes == 0)
        return err_set(err, ERR_INPUT, "'%s', the file of the web identity token, is empty", path);
    if (strlen(buf_text(token)) != token->bytes || !s3_keys_is_clean(buf_text(token)))
        return err_set(err, ERR_INPUT, "'%s' holds no web identity token, but other bytes", path);
    return 0;
}

int s3_web_identity_assume(const struct s3_web_identity *identity, const struct s3_sts *sts,
                           struct s3_keys *keys, struct err *err)
{
    char session_name[S3_ROLE_SESSION_CHARS];
    struct s3_sts_question question = {.action = "AssumeRoleWithWebIdentity"};
    struct buf token = {0}, who = {0};
    int rc = read_token(identity->token_file, &token, err);

    s3_role_session_name(session_name);
    buf_printf(&who, "the web identity token in '%s'", identity->token_file);
    question.who = buf_text(&who);
    question.token = buf_text(&token);
    question.fields[question.field_count++] = (struct s3_pair){"RoleArn", identity->role_arn};
    question.fields[question.field_count++] = (struct s3_pair){
        "RoleSessionName", identity->session_name != NULL ? identity->session_name : session_name};
    question.fields[question.field_count++] = (struct s3_pair){"WebIdentityToken", question.token};
    if (rc == 0)
        rc = s3_sts_fetch(sts, &question, keys, err);
    if (rc < 0)
        err_wrap(err, "cannot assume the role '%s' by web identity", identity->role_arn);
    if (token.data != NULL)
        explicit_bzero(token.data, token.capacity);
    buf_release(&token);
    buf_release(&who);
    return rc;
}
