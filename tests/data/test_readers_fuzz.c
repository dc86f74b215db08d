/* tests/data/test_readers_fuzz.c -- what the readers of other people's files make of bytes that
 * nobody meant: the same bytes at every run, changed from right ones. Under ASan and UBSan (preset
 * asan) every access is checked too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "stranger.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/foreign/recordio.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/set/list_file.h"
#include "trainer/data/set/webdataset.h"
#include "tree.h"

#define ROUNDS 4000

/* Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003. */
static uint64_t random_state = 88172645463325252u;

static uint32_t below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) % n);
}

/* Up to four changes; the first ones of a format's heads are the likelier. */
static void mangle(struct buf *bytes, bool sums)
{
    for (uint32_t left = 1 + below(4); left > 0 && bytes->bytes > 0; left--) {
        const size_t at = below(2) ? below(bytes->bytes)
                                   : below(bytes->bytes) / 512 * 512 + below(512) % bytes->bytes;
        const size_t place = at < bytes->bytes ? at : bytes->bytes - 1;

        switch (below(4)) {
        case 0:
            bytes->data[place] ^= (unsigned char)(1 << below(8));
            break;
        case 1:
            bytes->data[place] = (unsigned char)below(256);
            break;
        case 2:
            bytes->bytes = place;
            break;
        default:
            memset(bytes->data + place, (int)below(256),
                   bytes->bytes - place < 12 ? bytes->bytes - place : 12);
            break;
        }
        if (sums && below(4) > 0) /* else nothing gets past the sums of headers */
            for (size_t block = 0; block + 512 <= bytes->bytes; block += 512)
                if (memcmp(bytes->data + block + 257, "ustar", 5) == 0)
                    stranger_sum(bytes->data + block);
    }
}

static void check(int rc, const struct err *err)
{
    if (rc < 0 && (err->msg[0] == '\0' || err->code == ERR_INTERNAL))
        fail_msg("a refusal without a reason: '%s'", err->msg);
}

static void recordio_holds(void **state)
{
    struct buf good = {0}, bytes = {0}, picture = {0}, record = {0};
    const float labels[2] = {1, 2};

    (void)state;
    for (int i = 0; i < 6; i++) {
        stranger_picture(&picture, i);
        stranger_image(&good, labels, i == 4 ? 2 : 1, picture.data, picture.bytes);
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct data_bytes memory;
        struct data_record looked;
        struct err err = {0};
        uint64_t next_at = 0, look_at = 0;
        int rc, look_rc;

        bytes.bytes = 0;
        buf_append(&bytes, good.data, good.bytes);
        mangle(&bytes, false);
        data_bytes_open_memory(&memory, bytes.data, bytes.bytes, "x.rec");
        do { /* both ways see the same */
            int32_t label;
            size_t at;

            rc = data_record_next(&memory, &next_at, &record, &err);
            look_rc = data_record_look(&memory, &look_at, &looked, &err);
            check(rc, &err);
            assert_int_equal(rc, look_rc);
            if (rc != 1)
                break;
            assert_int_equal(looked.bytes, record.bytes);
            assert_int_equal(look_at, next_at);
            if (data_record_image(record.data, record.bytes, record.bytes, &label, &at) == NULL)
                assert_true(at < record.bytes && label >= 0);
            record.bytes = 0;
            buf_append(&record, bytes.data + looked.at, looked.raw_bytes);
            assert_int_equal(data_record_join(record.data, record.bytes), looked.bytes);
        } while (true);
        data_bytes_close(&memory);
    }
    buf_release(&good);
    buf_release(&bytes);
    buf_release(&picture);
    buf_release(&record);
}

static void webdataset_holds(void **state)
{
    static const char pax[] = "19 path=long/1.jpg\n13 size=0007\n";
    struct buf good = {0}, bytes = {0}, picture = {0};

    (void)state;
    stranger_member(&good, "pax", pax, sizeof pax - 1);
    good.data[156] = 'x';
    stranger_sum(good.data);
    stranger_member(&good, "1.jpg", "picture", 7);
    stranger_member(&good, "long/1.cls", "1", 1);
    stranger_member(&good, "2.cls", "12\n", 3);
    stranger_member(&good, "2.json", "{}", 2);
    stranger_member(&good, "2.png", "another picture", 15);
    stranger_end(&good);
    for (int round = 0; round < ROUNDS; round++) {
        struct data_bytes memory;
        struct data_webdataset set = {.bytes = &memory, .joined = below(2)};
        struct err err = {0};
        int rc;

        bytes.bytes = 0;
        buf_append(&bytes, good.data, good.bytes);
        if (round > 0)
            mangle(&bytes, true);
        data_bytes_open_memory(&memory, bytes.data, bytes.bytes, "x.tar");
        while ((rc = data_webdataset_next(&set, below(2) ? &picture : NULL, &err)) == 1)
            assert_true(set.offset + set.picture_bytes <= bytes.bytes && set.label >= 0);
        check(rc, &err);
        if (round == 0)
            assert_int_equal(rc, 0);
        data_bytes_close(&memory);
    }
    buf_release(&good);
    buf_release(&bytes);
    buf_release(&picture);
}

static void list_file_holds(void **state)
{
    static const char good[] = "0\t1.000000\tcats/0.jpg\r\n1\t0\tcats/1.jpg\n\n2\t1\tcats/2.jpg";
    struct buf bytes = {0};

    (void)state;
    tree_class("pets", "cats", 3);
    for (int round = 0; round < ROUNDS / 8; round++) {
        struct data_index index = {.root = strdup(tree_path("pets"))};
        struct err err = {0};

        bytes.bytes = 0;
        buf_append(&bytes, good, sizeof good - 1);
        mangle(&bytes, false);
        tree_write("x.lst", bytes.data, bytes.bytes);
        check(data_list_read(&index, tree_path("x.lst"), NULL, &err), &err);
        data_index_release(&index);
    }
    buf_release(&bytes);
}

static void shard_index_holds(void **state)
{
    struct data_shard shard = {.tar_bytes = 10240};
    struct buf good = {0}, bytes = {0};

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        const struct data_shard_record record = {
            .offset = 512 + 2048 * i, .bytes = 7 + i, .label = i};

        data_shard_add(&shard, &record, "cats/x.jpg");
    }
    data_shard_encode(&shard, &good);
    data_shard_release(&shard);
    for (int round = 0; round < ROUNDS; round++) {
        struct data_shard decoded = {0};
        struct err err = {0};
        int rc;

        bytes.bytes = 0;
        buf_append(&bytes, good.data, good.bytes);
        mangle(&bytes, false);
        if (bytes.bytes >= 4 && below(2)) { /* else nothing gets past the CRC */
            const uint32_t crc = digest_crc32c(0, bytes.data, bytes.bytes - 4);

            for (int i = 0; i < 4; i++)
                bytes.data[bytes.bytes - 4 + i] = (unsigned char)(crc >> (8 * i));
        }
        rc = data_shard_decode(&decoded, bytes.data, bytes.bytes, "x.idx", &err);
        check(rc, &err);
        for (size_t i = 0; rc == 0 && i < decoded.count; i++)
            assert_true(strlen(data_shard_key(&decoded, i)) <= SHARD_KEY_BYTES_MAX);
        data_shard_release(&decoded);
    }
    buf_release(&good);
    buf_release(&bytes);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(recordio_holds),
        CASE(webdataset_holds),
        CASE(list_file_holds),
        CASE(shard_index_holds),
    };

    log_init("", true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
