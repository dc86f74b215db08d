#include "base/digest.h"

#include <assert.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

struct digest_sha256 {
    EVP_MD_CTX *context;
};

/* OpenSSL's calls fail only without memory or without the algorithm: neither leaves anything to go
 * on with. */
static void must(int ok)
{
    if (ok != 1) {
        fprintf(stderr, "OpenSSL cannot compute SHA-256\n");
        abort();
    }
}

struct digest_sha256 *digest_sha256_new(void)
{
    struct digest_sha256 *digest = calloc(1, sizeof *digest);

    must(digest != NULL);
    digest->context = EVP_MD_CTX_new();
    must(digest->context != NULL);
    must(EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL));
    return digest;
}

void digest_sha256_put(struct digest_sha256 *digest, const void *data, size_t bytes)
{
    assert(bytes == 0 || data != NULL);
    must(EVP_DigestUpdate(digest->context, data, bytes));
}

void digest_sha256_end(struct digest_sha256 *digest, unsigned char out[DIGEST_SHA256_BYTES])
{
    must(EVP_DigestFinal_ex(digest->context, out, NULL));
}

void digest_sha256_free(struct digest_sha256 *digest)
{
    if (digest == NULL)
        return;
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

void digest_sha256(const void *data, size_t bytes, unsigned char out[DIGEST_SHA256_BYTES])
{
    must(EVP_Digest(data, bytes, out, NULL, EVP_sha256(), NULL));
}

void digest_hmac_sha256(const void *key, size_t key_bytes, const void *data, size_t bytes,
                        unsigned char out[DIGEST_SHA256_BYTES])
{
    assert(key_bytes <= INT_MAX);
    must(HMAC(EVP_sha256(), key, (int)key_bytes, data, bytes, out, NULL) != NULL);
}

static const char digits[] = "0123456789abcdef";

void digest_hex(const unsigned char sha[DIGEST_SHA256_BYTES], char out[DIGEST_HEX_CHARS])
{
    for (int i = 0; i < DIGEST_SHA256_BYTES; i++) {
        out[2 * i] = digits[sha[i] >> 4];
        out[2 * i + 1] = digits[sha[i] & 15];
    }
    out[2 * DIGEST_SHA256_BYTES] = '\0';
}

bool digest_from_hex(const char *hex, unsigned char sha[DIGEST_SHA256_BYTES])
{
    if (strlen(hex) != DIGEST_HEX_CHARS - 1 || strspn(hex, digits) != DIGEST_HEX_CHARS - 1)
        return false;
    for (int i = 0; i < DIGEST_SHA256_BYTES; i++)
        sha[i] = (unsigned char)((strchr(digits, hex[2 * i]) - digits) << 4 |
                                 (strchr(digits, hex[2 * i + 1]) - digits));
    return true;
}

uint32_t digest_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    assert(bytes == 0 || data != NULL);
    if (crc32c_fold_has())
        return crc32c_fold(crc, data, bytes);
    return crc32c_cpu_has() ? crc32c_cpu(crc, data, bytes) : crc32c_table(crc, data, bytes);
}

uint32_t digest_crc32c_join(uint32_t first, uint32_t second, uint64_t second_bytes)
{
    return crc32c_join(first, second, second_bytes);
}
