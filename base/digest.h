/*
 * base/digest.h -- SHA-256 (FIPS 180-4, by OpenSSL) and CRC-32C (Castagnoli; RFC 3720 appendix
 * B.4).
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SHA256_BYTES 32
#define DIGEST_HEX_CHARS    65 /* with the NUL */

/** SHA-256 over data put in piece by piece. new aborts if OpenSSL has no SHA-256; free accepts
 * NULL. */
struct digest_sha256;
struct digest_sha256 *digest_sha256_new(void);
void digest_sha256_put(struct digest_sha256 *digest, const void *data, size_t bytes);
/** The digest of what was put; the object then can only be freed. */
void digest_sha256_end(struct digest_sha256 *digest, unsigned char out[DIGEST_SHA256_BYTES]);
void digest_sha256_free(struct digest_sha256 *digest);

/** SHA-256 of one run of bytes. */
void digest_sha256(const void *data, size_t bytes, unsigned char out[DIGEST_SHA256_BYTES]);

/** HMAC-SHA256 (RFC 2104) of one run of bytes. */
void digest_hmac_sha256(const void *key, size_t key_bytes, const void *data, size_t bytes,
                        unsigned char out[DIGEST_SHA256_BYTES]);

/** Lower-case hex of a SHA-256. */
void digest_hex(const unsigned char sha[DIGEST_SHA256_BYTES], char out[DIGEST_HEX_CHARS]);

/** A SHA-256 of its hex, as digest_hex writes it; false, and sha is undefined, where it is none. */
bool digest_from_hex(const char *hex, unsigned char sha[DIGEST_SHA256_BYTES]);

/** CRC-32C of `bytes` bytes, continuing from `crc` (0 to begin). Uses the CPU's instruction where
 * there is one. */
uint32_t digest_crc32c(uint32_t crc, const void *data, size_t bytes);

/** The CRC-32C of two runs one behind the other, from theirs (each begun with 0) and the length of
 * the second. Source: zlib's crc32_combine (Adler). */
uint32_t digest_crc32c_join(uint32_t first, uint32_t second, uint64_t second_bytes);

#endif
