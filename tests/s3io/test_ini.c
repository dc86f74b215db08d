/* tests/s3io/test_ini.c -- the AWS files: what is read from them, and which line is named when they
 * are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "place.h"
#include "s3io/ini.h"

static int setup(void **state)
{
    (void)state;
    place_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    place_close();
    return 0;
}

static struct s3_ini *read_or_fail(void)
{
    struct err err = {0};
    struct s3_ini *ini = s3_ini_read(&err);

    if (ini == NULL)
        fail_msg("%s", err.msg);
    return ini;
}

static void expect(const struct s3_ini *ini, enum s3_ini_file file, enum s3_ini_kind kind,
                   const char *section, const char *key, const char *text, int line)
{
    struct s3_ini_value value = {0};

    if (!s3_ini_find(ini, file, kind, section, key, &value))
        fail_msg("[%s] has no %s", section, key);
    assert_string_equal(value.text, text);
    assert_int_equal(value.line, line);
}

static const char *refusal(const char *text)
{
    static struct err err;

    err = (struct err){0};
    place_write(".aws/config", text);
    assert_null(s3_ini_read(&err));
    assert_int_equal(err.code, ERR_INPUT);
    return err.msg;
}

static void ini_is_empty_where_there_are_no_files(void **state)
{
    struct s3_ini *ini = read_or_fail();

    (void)state;
    assert_false(s3_ini_exists(ini, S3_INI_CONFIG));
    assert_false(s3_ini_exists(ini, S3_INI_CREDENTIALS));
    assert_string_equal(s3_ini_path(ini, S3_INI_CONFIG), place_path(".aws/config"));
    assert_false(s3_ini_find(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", NULL, NULL));
    s3_ini_free(ini);
    unsetenv("HOME");
    ini = read_or_fail();
    assert_null(s3_ini_path(ini, S3_INI_CONFIG));
    s3_ini_free(ini);
}

static void ini_reads_sections_of_every_kind(void **state)
{
    struct s3_ini *ini;

    (void)state;
    place_write(".aws/config", "# first\n"
                               "; second\n"
                               "[default]\n"
                               "region = eu-west-1\n"
                               "\n"
                               "[profile a b]\r\n"
                               "REGION=us-east-2   # behind a value\r\n"
                               "odd = a#b;c\r\n"
                               "[ profile \"quoted name\" ] ; comment\n"
                               "region = x\n"
                               "[services local]\n"
                               "s3 = \n"
                               "  endpoint_url = http://127.0.0.1:7480\n"
                               "sts =\n"
                               "  endpoint_url = http://127.0.0.1:1\n"
                               "[sso-session s]\n"
                               "sso_region = r\n"
                               "[stray]\n"
                               "[profile a b]\n"
                               "output = json\n"
                               "region = us-west-1\n"
                               "last = 1");
    place_write(".aws/credentials", "\xef\xbb\xbf[default]\n"
                                    "aws_access_key_id = AK\n"
                                    "[a b]\n"
                                    "aws_secret_access_key = x=y/+==\n");
    ini = read_or_fail();
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "region", "eu-west-1", 4);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "a b", "region", "us-west-1", 21); /* the last */
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "a b", "odd", "a#b;c", 8);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "a b", "output", "json", 20);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "a b", "last", "1", 22);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "quoted name", "region", "x", 10);
    expect(ini, S3_INI_CONFIG, S3_INI_SERVICES, "local", "s3.endpoint_url", "http://127.0.0.1:7480",
           13);
    expect(ini, S3_INI_CONFIG, S3_INI_SERVICES, "local", "sts.endpoint_url", "http://127.0.0.1:1",
           15);
    expect(ini, S3_INI_CONFIG, S3_INI_OTHER, "stray", NULL, "", 18);
    expect(ini, S3_INI_CREDENTIALS, S3_INI_PROFILE, "default", "aws_access_key_id", "AK", 2);
    expect(ini, S3_INI_CREDENTIALS, S3_INI_PROFILE, "a b", "aws_secret_access_key", "x=y/+==", 4);
    assert_false(s3_ini_find(ini, S3_INI_CONFIG, S3_INI_PROFILE, "stray", NULL, NULL));
    assert_false(s3_ini_find(ini, S3_INI_CREDENTIALS, S3_INI_PROFILE, "default", "region", NULL));
    s3_ini_free(ini);
}

static void ini_nests_by_depth_as_the_aws_cli_does(void **state)
{
    struct s3_ini *ini;

    (void)state;
    place_write(".aws/config", "[default]\n"
                               "  region = a\n" /* all keys of a section may stand deeper */
                               "  s3 =  # a block\n"
                               "\n"
                               "      addressing_style = path\n"
                               "    # between\n"
                               "\t\t\tmax_concurrent_requests = 4\n" /* a tab is one column */
                               "  output = json\n"
                               "    and more\n"
                               "  ca_bundle = b\n");
    ini = read_or_fail();
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "region", "a", 2);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "s3", "", 3);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "s3.addressing_style", "path", 5);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "s3.max_concurrent_requests", "4", 7);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "output", "json\nand more", 8);
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "ca_bundle", "b", 10);
    s3_ini_free(ini);
}

static void ini_takes_profile_default_before_default(void **state)
{
    struct s3_ini *ini;

    (void)state;
    place_write(".aws/config", "[profile default]\nregion = full\n[default]\nregion = plain\n");
    ini = read_or_fail();
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "region", "full", 2);
    s3_ini_free(ini);
}

static void ini_reads_the_files_that_variables_name(void **state)
{
    struct s3_ini *ini;

    (void)state;
    place_write(".aws/config", "[default]\nregion = home\n");
    setenv("AWS_CONFIG_FILE", place_write("other/c", "[default]\nregion = other\n"), 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "~/k", 1);
    place_write("k", "[default]\nregion = k\n");
    ini = read_or_fail();
    expect(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", "region", "other", 2);
    expect(ini, S3_INI_CREDENTIALS, S3_INI_PROFILE, "default", "region", "k", 2);
    s3_ini_free(ini);
    setenv("AWS_CONFIG_FILE", "/dev/null", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/not/there", 1);
    ini = read_or_fail();
    assert_false(s3_ini_exists(ini, S3_INI_CREDENTIALS));
    assert_false(s3_ini_find(ini, S3_INI_CONFIG, S3_INI_PROFILE, "default", NULL, NULL));
    s3_ini_free(ini);
}

static void ini_names_file_and_line_of_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *where, *why;
    } cases[] = {
        {"region = x\n", "line 1", "before the first '[section]'"},
        {"[default]\nTOPSECRET\n", "line 2", "neither"},
        {"\n\n[default\n", "line 3", "without ']'"},
        {"[]\n", "line 1", "without a name"},
        {"[default] region = x\n", "line 1", "behind the section's ']'"},
        {"[default]\n= TOPSECRET\n", "line 2", "without a key"},
        {"[default]\ns3 =\n  TOPSECRET\n", "line 3", "neither"},
        {"\x80\x81\n", "line 1", "before the first"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *line = refusal(cases[i].text);

        assert_non_null(strstr(line, ".aws/config"));
        assert_non_null(strstr(line, cases[i].where));
        assert_non_null(strstr(line, cases[i].why));
        assert_null(strstr(line, "TOPSECRET"));
    }
}

static void ini_refuses_nul_bytes_and_a_mebibyte(void **state)
{
    static const char nul[] = "[default]\nregion = a\0b\n";
    char *large = malloc(S3_INI_BYTES_MAX + 2);
    struct err err = {0};

    (void)state;
    place_write(".aws/config", "");
    assert_int_equal(file_replace(place_path(".aws/config"), nul, sizeof nul - 1, &err), 0);
    assert_null(s3_ini_read(&err));
    assert_non_null(strstr(err.msg, "line 2: a NUL byte"));

    assert_non_null(large);
    memset(large, '#', S3_INI_BYTES_MAX + 1);
    large[S3_INI_BYTES_MAX + 1] = '\0';
    assert_non_null(strstr(refusal(large), "longer than"));
    large[S3_INI_BYTES_MAX] = '\0';
    place_write(".aws/config", large); /* exactly the limit */
    s3_ini_free(read_or_fail());
    free(large);
}

static void ini_survives_any_cut(void **state)
{
    static const char whole[] =
        "[profile \"x\"]\na = 1 # c\ns3 =\n  b = 2\n  c = 3\n[services y]\n";
    char text[sizeof whole];

    (void)state;
    for (size_t n = 0; n < sizeof whole; n++) {
        struct err err = {0};

        memcpy(text, whole, n);
        text[n] = '\0';
        place_write(".aws/config", text);
        s3_ini_free(s3_ini_read(&err)); /* either way; the sanitizers look on */
    }
}

static void ini_value_is_kept_with_what_looks_like_a_comment(void **state)
{
    struct s3_ini *ini;
    struct s3_ini_value value;

    (void)state;
    place_write(".aws/config", "[profile p]\na =  sh -c 'x # y' ; z \n  more # too\nb = # all\n"
                               "both = config\n[profile q]\nboth =\n");
    place_write(".aws/credentials", "[p]\nboth = credentials\nempty =\n");
    ini = read_or_fail();
    assert_true(s3_ini_find_profile(ini, "p", "a", &value));
    assert_string_equal(value.text, "sh -c 'x\nmore");
    assert_string_equal(value.whole, "sh -c 'x # y' ; z\nmore # too");
    assert_int_equal(value.line, 2);
    assert_true(s3_ini_find_profile(ini, "p", "both", &value));
    assert_string_equal(value.text, "credentials");
    assert_false(s3_ini_find_profile(ini, "p", "b", &value));
    assert_null(value.text);
    assert_false(s3_ini_find_profile(ini, "p", "empty", &value));
    assert_false(s3_ini_find_profile(ini, "q", "both", &value));
    s3_ini_free(ini);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ini_is_empty_where_there_are_no_files, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_reads_sections_of_every_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_nests_by_depth_as_the_aws_cli_does, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_takes_profile_default_before_default, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_reads_the_files_that_variables_name, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_names_file_and_line_of_what_is_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_refuses_nul_bytes_and_a_mebibyte, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_survives_any_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(ini_value_is_kept_with_what_looks_like_a_comment, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("ini", tests, NULL, NULL);
}
