/* tests/data/test_writer.c -- a shard that is not on the disk as it was written is none. */
#include "trainer/data/pack/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/target.h"
#include "tree.h"

#define PICTURE_BYTES ((size_t)300 * 1000) /* more than libarchive holds back */

static void shard_that_reads_back_otherwise_is_an_error(void **state)
{
    static const struct {
        const char *name;
        off_t at; /* in the tar */
    } flips[] = {{"the header of its first picture", 3},
                 {"a picture's first byte", 512},
                 {"in the midst of a picture", 150000}};
    static unsigned char picture[PICTURE_BYTES] = {0xff, 0xd8, 0xff};
    const struct data_sample sample = {.key = "a/0.jpg", .bytes = (uint32_t)PICTURE_BYTES};

    (void)state;
    for (size_t i = 0; i <= sizeof flips / sizeof *flips; i++) {
        const bool flipped = i < sizeof flips / sizeof *flips;
        struct data_target target = {0};
        struct data_writer writer;
        struct err err = {0};
        int rc;

        data_writer_init(&writer, &target, tree_root, (uint64_t)1 << 30, NULL);
        assert_int_equal(data_writer_put(&writer, &sample, picture, &err), 0);
        if (flipped)
            assert_int_equal(pwrite(writer.tar.file.fd, "?", 1, flips[i].at), 1);
        rc = data_writer_finish(&writer, &err);
        if (rc != (flipped ? -1 : 0))
            fail_msg("%s: %d, %s", flipped ? flips[i].name : "none", rc, err.msg);
        if (flipped)
            assert_non_null(strstr(err.msg, "what was written reads back otherwise"));
        assert_int_equal(json_array_size(writer.shards), !flipped);
        data_writer_release(&writer);
        assert_int_equal(file_exists(tree_path("shard-000000.tar")), !flipped);
        assert_int_equal(file_exists(tree_path("shard-000000.idx")), !flipped);
        data_target_release(&target, true);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(shard_that_reads_back_otherwise_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
