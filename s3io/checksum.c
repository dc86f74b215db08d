#include "s3io/checksum.h"

#include <openssl/evp.h>
#include <string.h>

#include "s3io/http.h"

void s3_checksum_print(uint32_t crc32c, char out[S3_CHECKSUM_CHARS])
{
    const unsigned char bytes[4] = {(unsigned char)(crc32c >> 24), (unsigned char)(crc32c >> 16),
                                    (unsigned char)(crc32c >> 8), (unsigned char)crc32c};

    EVP_EncodeBlock((unsigned char *)out, bytes, sizeof bytes);
}

bool s3_checksum_parse(const char *text, uint32_t *crc32c)
{
    unsigned char bytes[6];

    /* 8 characters for 4 bytes and two of padding: decoded, those are zeros. */
    if (strlen(text) != 8 || strcmp(text + 6, "==") != 0 ||
        EVP_DecodeBlock(bytes, (const unsigned char *)text, 8) != 6)
        return false;
    *crc32c =
        (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    return true;
}

bool s3_checksum_of(const struct s3_http_answer *answer, uint32_t *crc32c)
{
    char type[32] = "", text[64];

    s3_http_header(answer, "x-amz-checksum-type", type, sizeof type);
    return strcasecmp(type, "COMPOSITE") != 0 &&
           s3_http_header(answer, "x-amz-checksum-crc32c", text, sizeof text) &&
           s3_checksum_parse(text, crc32c);
}
