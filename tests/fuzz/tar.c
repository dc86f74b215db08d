/* tests/fuzz/tar.c -- any bytes as somebody's tar: its members, and the labelled pictures among
 * them. Read from memory and as a stream the same comes out. */
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "fuzz.h"
#include "tests/data/stranger.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/foreign/member.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/set/webdataset.h"

#define BLOCK    512
#define MAGIC_AT 257

static void walk_members(const uint8_t *data, size_t bytes, bool joined)
{
    struct data_bytes memory;
    struct data_member member;
    struct err err = {0};
    uint64_t at = 0, before = 0;
    int rc;

    data_bytes_open_memory(&memory, data, bytes, "x.tar");
    for (; (rc = data_member_next(&memory, &at, joined, &member, &err)) == 1; before = at) {
        fuzz_must(member.header >= before && member.offset == member.header + BLOCK);
        fuzz_must(member.offset <= bytes && member.bytes <= bytes - member.offset);
        fuzz_must(at >= member.offset + member.bytes && at % BLOCK == 0);
        fuzz_must(memchr(member.name, '\0', sizeof member.name) != NULL);
    }
    fuzz_must_say(rc, &err, FUZZ_INPUT);
    data_bytes_close(&memory);
}

/* All samples as one text; returns what ended them. */
static int walk_samples(struct data_bytes *bytes, bool joined, struct buf *out)
{
    struct data_webdataset set = {.bytes = bytes, .joined = joined};
    struct buf picture = {0};
    struct err err = {0};
    int rc;

    while ((rc = data_webdataset_next(&set, &picture, &err)) == 1) {
        fuzz_must(set.label >= 0 && set.label <= DATA_LABEL_MAX && set.name[0] != '\0');
        fuzz_must(picture.bytes == set.picture_bytes);
        buf_printf(out, "%s %d %llu %zu ", set.name, (int)set.label, (unsigned long long)set.offset,
                   picture.bytes);
        buf_append(out, picture.data, picture.bytes);
    }
    fuzz_must_say(rc, &err, FUZZ_INPUT);
    buf_release(&picture);
    return rc;
}

static void compare_ways(const uint8_t *data, size_t bytes, bool joined)
{
    struct data_bytes memory, stream;
    struct buf from_memory = {0}, from_stream = {0};
    int memory_rc, stream_rc;

    data_bytes_open_memory(&memory, data, bytes, "x.tar");
    memory_rc = walk_samples(&memory, joined, &from_memory);
    data_bytes_close(&memory);
    data_bytes_open_stream(&stream, fuzz_file(data, bytes), "x.tar", NULL);
    stream_rc = walk_samples(&stream, joined, &from_stream);
    data_bytes_close(&stream);
    fuzz_must(memory_rc == stream_rc);
    fuzz_must_equal(from_memory.data, from_memory.bytes, from_stream.data, from_stream.bytes);
    buf_release(&from_memory);
    buf_release(&from_stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    for (int joined = 0; joined <= 1; joined++) {
        walk_members(data, bytes, joined);
        compare_ways(data, bytes, joined);
    }
    return 0;
}

/* Of eight changes one is left with its wrong sums. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t bytes_max, unsigned seed)
{
    bytes = LLVMFuzzerMutate(data, bytes, bytes_max);
    for (size_t block = 0; seed % 8 != 0 && block + BLOCK <= bytes; block += BLOCK)
        if (memcmp(data + block + MAGIC_AT, "ustar", 5) == 0)
            stranger_sum(data + block);
    return bytes;
}
