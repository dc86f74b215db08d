/* tests/s3io/test_address.c -- host and path of a request: whose host, which style, every byte of a
 * key encoded once. */
#include "s3io/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "s3io/config.h"

#define CUSTOM "http://127.0.0.1:9000"

static void address_is_of_the_style_that_fits(void **state)
{
    static const struct {
        const char *name, *endpoint, *region, *bucket, *key, *redirect;
        enum s3_addressing style;
        bool fips, dualstack;
        const char *origin, *host, *path;
    } cases[] = {
        {.name = "AWS: the bucket in the host",
         .bucket = "imgs",
         .key = "a/b",
         .origin = "https://imgs.s3.eu-west-1.amazonaws.com",
         .host = "imgs.s3.eu-west-1.amazonaws.com",
         .path = "/a/b"},
        {.name = "AWS: the bucket itself",
         .bucket = "imgs",
         .origin = "https://imgs.s3.eu-west-1.amazonaws.com",
         .host = "imgs.s3.eu-west-1.amazonaws.com",
         .path = "/"},
        {.name = "AWS: a dot, which no wildcard certificate covers",
         .bucket = "my.imgs",
         .key = "k",
         .origin = "https://s3.eu-west-1.amazonaws.com",
         .host = "s3.eu-west-1.amazonaws.com",
         .path = "/my.imgs/k"},
        {.name = "AWS: path style where it is asked for",
         .style = S3_ADDRESS_PATH,
         .bucket = "imgs",
         .key = "k",
         .origin = "https://s3.eu-west-1.amazonaws.com",
         .host = "s3.eu-west-1.amazonaws.com",
         .path = "/imgs/k"},
        {.name = "AWS: FIPS and dual stack",
         .fips = true,
         .dualstack = true,
         .bucket = "imgs",
         .key = "k",
         .origin = "https://imgs.s3-fips.dualstack.eu-west-1.amazonaws.com",
         .host = "imgs.s3-fips.dualstack.eu-west-1.amazonaws.com",
         .path = "/k"},
        {.name = "AWS: China's domain",
         .region = "cn-north-1",
         .bucket = "imgs",
         .key = "k",
         .origin = "https://imgs.s3.cn-north-1.amazonaws.com.cn",
         .host = "imgs.s3.cn-north-1.amazonaws.com.cn",
         .path = "/k"},
        {.name = "another endpoint: path style",
         .endpoint = CUSTOM,
         .bucket = "imgs",
         .key = "k",
         .origin = CUSTOM,
         .host = "127.0.0.1:9000",
         .path = "/imgs/k"},
        {.name = "another endpoint: virtual host where it is asked for",
         .endpoint = "http://s3.localhost:9000",
         .style = S3_ADDRESS_VIRTUAL,
         .bucket = "my.imgs", /* without a certificate a dot does no harm */
         .key = "k",
         .origin = "http://my.imgs.s3.localhost:9000",
         .host = "my.imgs.s3.localhost:9000",
         .path = "/k"},
        {.name = "another endpoint: a name that no host can have",
         .endpoint = CUSTOM,
         .style = S3_ADDRESS_VIRTUAL,
         .bucket = "My_imgs",
         .key = "k",
         .origin = CUSTOM,
         .host = "127.0.0.1:9000",
         .path = "/My_imgs/k"},
        {.name = "another endpoint with a path",
         .endpoint = CUSTOM "/s3",
         .bucket = "imgs",
         .key = "k",
         .origin = CUSTOM,
         .host = "127.0.0.1:9000",
         .path = "/s3/imgs/k"},
        {.name = "a redirect to the bucket's host",
         .redirect = "https://imgs.s3.us-west-2.amazonaws.com",
         .bucket = "imgs",
         .key = "k",
         .origin = "https://imgs.s3.us-west-2.amazonaws.com",
         .host = "imgs.s3.us-west-2.amazonaws.com",
         .path = "/k"},
        {.name = "a redirect to a host of all buckets",
         .redirect = "https://s3.us-west-2.amazonaws.com",
         .bucket = "imgs",
         .key = "k",
         .origin = "https://s3.us-west-2.amazonaws.com",
         .host = "s3.us-west-2.amazonaws.com",
         .path = "/imgs/k"},
        {.name = "a key is neither normalised nor encoded twice",
         .endpoint = CUSTOM,
         .bucket = "imgs",
         .key = "/a//../%41+ \xc3\xa4?b#c",
         .origin = CUSTOM,
         .host = "127.0.0.1:9000",
         .path = "/imgs//a//../%2541%2B%20%C3%A4%3Fb%23c"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct s3_config config = {.endpoint = (char *)cases[i].endpoint,
                                         .addressing = cases[i].style,
                                         .fips = cases[i].fips,
                                         .dualstack = cases[i].dualstack};
        struct s3_address address = {0};

        for (int again = 0; again < 2; again++) /* an address may be made anew */
            s3_address_make(&address, &config,
                            cases[i].region != NULL ? cases[i].region : "eu-west-1",
                            cases[i].bucket, cases[i].key, cases[i].redirect);
        if (strcmp(buf_text(&address.origin), cases[i].origin) != 0 ||
            strcmp(buf_text(&address.host), cases[i].host) != 0 ||
            strcmp(buf_text(&address.path), cases[i].path) != 0)
            fail_msg("%s: %s, %s, %s", cases[i].name, buf_text(&address.origin),
                     buf_text(&address.host), buf_text(&address.path));
        s3_address_release(&address);
    }
}

static void address_knows_which_buckets_fit_a_host(void **state)
{
    static const char *const fit[] = {"abc", "a-b", "1a2", "a--b"};
    static const char *const no[] = {"ab",   "Abc",   "a_b", "-abc", "abc-",
                                     "a..b", "a.-.b", "",    "a/b",  "192.168.1.1"};
    char longest[65];

    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[63] = '\0';
    assert_true(s3_address_fits_host(longest, true));
    longest[63] = 'a';
    longest[64] = '\0';
    assert_false(s3_address_fits_host(longest, false));
    for (size_t i = 0; i < sizeof fit / sizeof *fit; i++)
        assert_true(s3_address_fits_host(fit[i], true));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (s3_address_fits_host(no[i], false))
            fail_msg("'%s'", no[i]);
    assert_true(s3_address_fits_host("a.b", false));
    assert_false(s3_address_fits_host("a.b", true));
}

static void name_leaves_out_the_middle_of_a_long_key(void **state)
{
    char key[1025], bucket[64];
    struct s3_address_name name;

    (void)state;
    assert_string_equal(s3_address_name("imgs", "a/b").text, "s3://imgs/a/b");
    memset(bucket, 'b', sizeof bucket);
    bucket[63] = '\0';
    for (size_t i = 0; i < 1024; i += 2)
        memcpy(key + i, "\xc3\xa4", 2);
    key[1024] = '\0';
    key[0] = key[1] = 'k'; /* cut where a character would be torn: at odd places too */
    for (int odd = 0; odd < 2; odd++) {
        const char *gap;

        name = s3_address_name(bucket, key + odd);
        assert_true(strlen(name.text) < 380);
        gap = strstr(name.text, "...");
        assert_non_null(gap);
        assert_int_equal((unsigned char)gap[-1], 0xa4); /* a whole character before */
        assert_int_equal((unsigned char)gap[3], 0xc3);  /* and behind */
    }
}

static void address_is_related_to_its_domain_and_aws(void **state)
{
    static const struct {
        const char *origin, *home;
        bool related;
    } cases[] = {
        {"http://s3.lab:81", "http://s3.lab:80", true},
        {"http://127.0.0.1:81", "http://127.0.0.1:80", true},
        {"http://127.0.0.2", "http://127.0.0.1", false},
        {"http://1127.0.0.1", "http://127.0.0.1", false},
        {"http://[2001:db8::5]:81", "http://[2001:db8::5]:80/path", true},
        {"http://[2001:DB8::5]", "http://[2001:db8::5]", true},
        {"http://[2001:4860::1]", "http://[2001:db8::5]", false},
        {"http://[2001:4860::1]:80", "http://[2001:db8::5]:80", false},
        {"http://[::ffff:9.9.0.1]", "http://[::ffff:127.9.0.1]", false},
        {"http://[2001:db8::5", "http://[2001:db8::5]", false},
        {"https://b.s3.example.org", "https://s3.example.org/path", true},
        {"https://s3-2.example.org", "https://s3.example.org", true},
        {"https://S3-2.EXAMPLE.org", "https://s3.example.org", true},
        {"https://example.org", "https://s3.example.org", false},
        {"https://evil.org", "https://example.org", false},
        {"https://b.example.org", "https://example.org", true},
        {"https://evilexample.org", "https://s3.example.org", false},
        {"https://s3.lab", "https://s4.lab", false},
        {"https://evil.net", "https://s3.eu-west-1.amazonaws.com", false},
        {"https://b.s3.eu-west-2.amazonaws.com", "https://s3.eu-west-1.amazonaws.com", true},
        {"https://b.s3.cn-north-1.amazonaws.com.cn", "https://s3.eu-west-1.amazonaws.com", true},
        {"https://s3.eu-west-1.amazonaws.com.evil.net", "https://s3.eu-west-1.amazonaws.com",
         false},
        {"https://evilamazonaws.com", "https://s3.eu-west-1.amazonaws.com", false},
        {"https://b.s3.eu-west-1.amazonaws.com", NULL, true},
        {"https://evil.net", NULL, false},
        {"https://b.s3.eu-west-1.amazonaws.com", "https://s3.example.org", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (s3_address_related(cases[i].origin, cases[i].home) != cases[i].related)
            fail_msg("case %zu: %s", i, cases[i].origin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address_is_of_the_style_that_fits),
        cmocka_unit_test(address_knows_which_buckets_fit_a_host),
        cmocka_unit_test(name_leaves_out_the_middle_of_a_long_key),
        cmocka_unit_test(address_is_related_to_its_domain_and_aws),
    };

    return cmocka_run_group_tests_name("s3io/address", tests, NULL, NULL);
}
