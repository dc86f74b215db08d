/* tests/fuzz/index.c -- any bytes as the index file of a shard. What is taken makes sense, and
 * written again it is the same bytes. */
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "fuzz.h"
#include "trainer/data/index/shard.h"

#define CRC_BYTES 4

static void check(const struct data_shard *shard, const uint8_t *data, size_t bytes)
{
    struct buf again = {0};

    fuzz_must(shard->count > 0);
    for (size_t i = 0; i < shard->count; i++) {
        const struct data_shard_record *record = &shard->records[i];

        fuzz_must(strlen(data_shard_key(shard, i)) <= SHARD_KEY_BYTES_MAX);
        fuzz_must(record->bytes > 0 && record->offset >= TAR_BLOCK &&
                  record->bytes <= shard->tar_bytes - record->offset);
    }
    data_shard_encode(shard, &again);
    fuzz_must_equal(again.data, again.bytes, data, bytes);
    buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct data_shard shard = {0};
    struct err err = {0};
    const int rc = data_shard_decode(&shard, data, bytes, "x.idx", &err);

    fuzz_must_say(rc, &err, FUZZ_INPUT);
    if (rc == 0)
        check(&shard, data, bytes);
    data_shard_release(&shard);
    return 0;
}

/* Of eight changes one is left with its wrong CRC. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t bytes_max, unsigned seed)
{
    bytes = LLVMFuzzerMutate(data, bytes, bytes_max);
    if (seed % 8 != 0 && bytes >= CRC_BYTES) {
        const uint32_t crc = digest_crc32c(0, data, bytes - CRC_BYTES);

        for (int i = 0; i < CRC_BYTES; i++)
            data[bytes - CRC_BYTES + (size_t)i] = (uint8_t)(crc >> (8 * i));
    }
    return bytes;
}
