/*
 * s3io/ini.h -- ~/.aws/config and ~/.aws/credentials, as AWS's tools read them.
 *
 * A line is "[section]", "key = value", or a comment that begins with '#' or ';' (also behind a
 * value, after white space). A line that is indented deeper than the key above it belongs to that
 * key: where the key has no value it is "name = value" of a nested block and becomes "key.name",
 * else the text goes on behind a line feed. Keys are taken in lower case. Sections of one name are
 * one; of a key that stands there twice the last counts. In the config file a profile is "[profile
 * NAME]" (for "default" also "[default]", which yields to the former), in the credentials file
 * "[NAME]". Values may be secrets: no message shows one.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files"; the rule of
 * indentation is Python's configparser, which the AWS CLI uses.
 */
#ifndef S3IO_INI_H
#define S3IO_INI_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct s3_ini;

#define S3_INI_BYTES_MAX ((size_t)1 << 20) /* of each file */

enum s3_ini_file { S3_INI_CREDENTIALS, S3_INI_CONFIG };
#define S3_INI_FILES 2

enum s3_ini_kind {
    S3_INI_PROFILE,
    S3_INI_SERVICES, /* "[services NAME]" of the config file */
    S3_INI_OTHER,    /* any other, under its whole name: not read, only known to be there */
};

struct s3_ini_value {
    const char *text;  /* "" for a key with a nested block */
    const char *whole; /* with what looks like a comment behind it: a command line may hold " #" */
    const char *path;  /* the file's */
    int line;
};

/** Read both files: those that AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE name ("~/" is the
 * home folder), else credentials and config in ~/.aws. A file that is not there is an empty one.
 * NULL with err: ERR_INPUT names file and line, or says that the file is longer than
 * S3_INI_BYTES_MAX; ERR_IO: it is there and cannot be read. */
struct s3_ini *s3_ini_read(struct err *err);
/** Accepts NULL. Values are wiped. */
void s3_ini_free(struct s3_ini *ini);

/** True where the section has the key; value (may be NULL) is the ini's. key NULL: whether there is
 * such a section. */
bool s3_ini_find(const struct s3_ini *ini, enum s3_ini_file file, enum s3_ini_kind kind,
                 const char *section, const char *key, struct s3_ini_value *value);

/** A key of a profile that has a value, the credentials file's before the config file's.
 * value->text is NULL where false. */
bool s3_ini_find_profile(const struct s3_ini *ini, const char *profile, const char *key,
                         struct s3_ini_value *value);

/** The file's path (NULL: no home folder to look in), and whether it was there. */
const char *s3_ini_path(const struct s3_ini *ini, enum s3_ini_file file);
bool s3_ini_exists(const struct s3_ini *ini, enum s3_ini_file file);

#endif
