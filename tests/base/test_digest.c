/* tests/base/test_digest.c -- published vectors, and both ways of counting a CRC against each
 * other. */
#include "base/digest.h"
#include "base/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"

/* NIST's examples for FIPS 180-4. */
static const struct {
    const char *text, *hex;
} sha_cases[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void digest_sha256_gives_the_vectors_of_fips_180(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sha_cases / sizeof sha_cases[0]; i++) {
        unsigned char sha[DIGEST_SHA256_BYTES];
        char hex[DIGEST_HEX_CHARS];

        digest_sha256(sha_cases[i].text, strlen(sha_cases[i].text), sha);
        digest_hex(sha, hex);
        assert_string_equal(hex, sha_cases[i].hex);
    }
}

static void digest_sha256_is_the_same_when_put_in_pieces(void **state)
{
    struct digest_sha256 *digest = digest_sha256_new();
    unsigned char chunk[1000], sha[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS];

    (void)state;
    memset(chunk, 'a', sizeof chunk);
    for (int i = 0; i < 1000; i++) { /* FIPS 180's million times 'a', cut unevenly */
        digest_sha256_put(digest, chunk, (size_t)i);
        digest_sha256_put(digest, chunk, 0);
        digest_sha256_put(digest, chunk, sizeof chunk - (size_t)i);
    }
    digest_sha256_end(digest, sha);
    digest_sha256_free(digest);
    digest_sha256_free(NULL);
    digest_hex(sha, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void digest_crc32c_gives_the_vectors_of_rfc_3720(void **state)
{
    unsigned char bytes[32];

    (void)state;
    assert_int_equal(digest_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(digest_crc32c(0, NULL, 0), 0);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(digest_crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(digest_crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(digest_crc32c(0, bytes, sizeof bytes), 0x46dd794e);
}

/* One bit at a time, straight from the definition. */
static uint32_t crc32c_naive(uint32_t crc, const unsigned char *data, size_t bytes)
{
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void digest_crc32c_is_the_same_by_table_by_cpu_and_cut_anywhere(void **state)
{
    unsigned char bytes[100];

    (void)state;
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 11);
    for (size_t begin = 0; begin < 9; begin++)
        for (size_t end = begin; end <= sizeof bytes; end++) {
            const size_t n = end - begin, cut = n / 3;
            const uint32_t want = crc32c_naive(0, bytes + begin, n);

            assert_int_equal(crc32c_table(0, bytes + begin, n), want);
            if (crc32c_cpu_has())
                assert_int_equal(crc32c_cpu(0, bytes + begin, n), want);
            assert_int_equal(
                digest_crc32c(digest_crc32c(0, bytes + begin, cut), bytes + begin + cut, n - cut),
                want);
        }
}

/* Of any length and place, behind any bytes, in the CPU's ways of long data. */
static void crc32c_of_long_data_is_the_same_in_every_way(void **state)
{
    const size_t room = 70000;
    unsigned char *const bytes = malloc(room);
    struct philox random;

    (void)state;
    assert_non_null(bytes);
    philox_init(&random, 5, 0, 0, 0);
    for (size_t i = 0; i < room; i++)
        bytes[i] = (unsigned char)philox_below(&random, 256);
    for (int i = 0; i < 3000; i++) {
        const size_t begin = philox_below(&random, 300);
        const size_t n = philox_below(&random, i % 2 == 0 ? 3000 : (uint32_t)(room - begin));
        const uint32_t before = philox_below(&random, UINT32_MAX);
        const uint32_t want = crc32c_table(before, bytes + begin, n);

        if (crc32c_cpu_has())
            assert_int_equal(crc32c_cpu(before, bytes + begin, n), want);
        if (crc32c_fold_has())
            assert_int_equal(crc32c_fold(before, bytes + begin, n), want);
    }
    free(bytes);
}

/* RFC 4231, test cases 2 and 6: a short key, and one longer than SHA-256's block. */
static void digest_hmac_sha256_gives_the_vectors_of_rfc_4231(void **state)
{
    static const char text[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    unsigned char long_key[131], mac[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS];

    (void)state;
    digest_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
    digest_hex(mac, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(long_key, 0xaa, sizeof long_key);
    digest_hmac_sha256(long_key, sizeof long_key, text, sizeof text - 1, mac);
    digest_hex(mac, hex);
    assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void digest_crc32c_of_long_runs_is_the_tables_and_joins_from_parts(void **state)
{
    enum { BYTES = 100003 };
    static const size_t cuts[] = {0, 1, 12288, 50000, 99999, BYTES};
    unsigned char *const bytes = malloc(BYTES);
    uint32_t want;

    (void)state;
    assert_non_null(bytes);
    for (uint32_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 24);
    want = crc32c_table(0, bytes, BYTES);
    assert_int_equal(digest_crc32c(0, bytes, BYTES), want);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        const size_t cut = cuts[i];
        const uint32_t first = digest_crc32c(0, bytes, cut);
        const uint32_t second = digest_crc32c(0, bytes + cut, BYTES - cut);

        assert_int_equal(digest_crc32c(first, bytes + cut, BYTES - cut), want);
        assert_int_equal(digest_crc32c_join(first, second, BYTES - cut), want);
    }
    free(bytes);
}

static void digest_from_hex_takes_what_digest_hex_writes_and_no_more(void **state)
{
    static const char *const wrong[] = {"-1", " 1", "+f", "0x", "g0", "AB", "1\0"};
    unsigned char sha[DIGEST_SHA256_BYTES], back[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS + 1];

    (void)state;
    for (int i = 0; i < DIGEST_SHA256_BYTES; i++)
        sha[i] = (unsigned char)(i * 73 + 5);
    digest_hex(sha, hex);
    assert_true(digest_from_hex(hex, back));
    assert_memory_equal(back, sha, sizeof sha);
    strcat(hex, "0");
    assert_false(digest_from_hex(hex, back));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        for (size_t at = 0; at < 64; at += 2) {
            digest_hex(sha, hex);
            memcpy(hex + at, wrong[i], 2);
            assert_false(digest_from_hex(hex, back));
        }
    assert_false(digest_from_hex("", back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digest_sha256_gives_the_vectors_of_fips_180),
        cmocka_unit_test(digest_sha256_is_the_same_when_put_in_pieces),
        cmocka_unit_test(digest_from_hex_takes_what_digest_hex_writes_and_no_more),
        cmocka_unit_test(digest_hmac_sha256_gives_the_vectors_of_rfc_4231),
        cmocka_unit_test(digest_crc32c_gives_the_vectors_of_rfc_3720),
        cmocka_unit_test(digest_crc32c_is_the_same_by_table_by_cpu_and_cut_anywhere),
        cmocka_unit_test(crc32c_of_long_data_is_the_same_in_every_way),
        cmocka_unit_test(digest_crc32c_of_long_runs_is_the_tables_and_joins_from_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
