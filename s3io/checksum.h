/*
 * s3io/checksum.h -- CRC-32C as S3 writes it: base64 of its four bytes, the highest first.
 *
 * Source: Amazon S3 User Guide, "Checking object integrity". A composite checksum ("...-N", or
 * x-amz-checksum-type COMPOSITE) is one of the parts' checksums and says nothing of the whole.
 */
#ifndef S3IO_CHECKSUM_H
#define S3IO_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

struct s3_http_answer;

#define S3_CHECKSUM_CHARS 9 /* with the NUL */
void s3_checksum_print(uint32_t crc32c, char out[S3_CHECKSUM_CHARS]);
/** False if it is none. */
bool s3_checksum_parse(const char *text, uint32_t *crc32c);

/** The CRC-32C of the whole object, from the answer to GET (whole) or HEAD; false if it has none.
 */
bool s3_checksum_of(const struct s3_http_answer *answer, uint32_t *crc32c);

#endif
