/* tests/data/test_files.c -- given files, folders and shards, and what a stream tells of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "tests/data/pictures.h"
#include "tests/data/tree.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/files.h"
#include "trainer/data/set/open.h"
#include "trainer/data/stream/stream.h"

#define SIZE 8

/* A JPEG whose size tells which it is. */
static void write_jpeg(const char *name, int width)
{
    const struct picture picture = {.width = width, .height = 20, .colours = PICTURE_YCC};
    struct buf jpeg = {0};

    picture_jpeg(&picture, &jpeg);
    tree_write(name, jpeg.data, jpeg.bytes);
    buf_release(&jpeg);
}

static struct data_index opened(const char *const *names, size_t count)
{
    const char *paths[8];
    struct data_index index = {0};
    struct err err = {0};

    for (size_t i = 0; i < count; i++)
        paths[i] = tree_path(names[i]);
    if (data_files_open(&index, paths, count, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    return index;
}

static void assert_keys(const struct data_index *index, const char *const *names, size_t count)
{
    assert_int_equal(index->count, count);
    for (size_t i = 0; i < count; i++) {
        char *const path = data_index_path(index, i);

        assert_string_equal(index->samples[i].key, tree_path(names[i]));
        assert_string_equal(path, index->samples[i].key);
        assert_int_equal(index->samples[i].label, -1);
        free(path);
    }
}

static void assert_refused(const char *const *paths, size_t count, enum err_code code,
                           const char *says)
{
    struct data_index index = {0};
    struct err err = {0};

    assert_int_equal(data_files_open(&index, paths, count, NULL, &err), -1);
    assert_int_equal(err.code, code);
    if (strstr(err.msg, says) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_null(index.root);
    assert_null(index.samples);
}

static void files_keep_the_order_in_which_they_are_given(void **state)
{
    static const char *const names[] = {"z.jpg", "a.jpg", "sub/m", "z.jpg"};
    struct data_index index;

    (void)state;
    write_jpeg("a.jpg", 10);
    write_jpeg("z.jpg", 11);
    write_jpeg("sub/m", 12); /* whatever its name */
    index = opened(names, 4);
    assert_keys(&index, names, 4);
    assert_true(index.bytes > 0);
    data_index_release(&index);
}

static void files_of_a_folder_come_by_their_paths_however_deep(void **state)
{
    static const char *const names[] = {"photos", "last.jpg"};
    static const char *const keys[] = {"photos/B.JPEG",       "photos/a.jpg", "photos/cats/1.jpg",
                                       "photos/cats/x/y.png", "photos/d.jpg", "last.jpg"};
    struct data_index index;

    (void)state;
    for (int i = 0; i < 6; i++)
        write_jpeg(keys[i], 10 + i);
    write_jpeg("photos/.hidden.jpg", 9);
    write_jpeg("photos/.git/a.jpg", 9);
    tree_write("photos/cats/notes.txt", "x", 1);
    tree_write("photos/Thumbs.db", "x", 1);
    index = opened(names, 2);
    assert_keys(&index, keys, 6);
    assert_int_equal(index.ignored.count, 2);
    assert_string_equal(index.ignored.first, tree_path("photos/Thumbs.db"));
    data_index_release(&index);
}

static void files_of_shards_keep_what_they_have(void **state)
{
    char source[512], target[512];
    const struct data_pack_options options = {
        .source = source, .target = target, .shard_bytes = 16384};
    const char *path;
    struct data_index index = {0}, same = {0};
    struct err err = {0};

    (void)state;
    tree_class("pets", "cats", 20);
    tree_class("pets", "dogs", 11);
    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("shards"));
    assert_int_equal(data_pack(&options, NULL), 0);
    path = target;
    if (data_files_open(&index, &path, 1, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(data_index_open(&same, target, NULL, 0, NULL, NULL), 0);
    assert_true(index.sharded);
    assert_int_equal(index.count, 31);
    for (size_t i = 0; i < index.count; i++) {
        assert_string_equal(index.samples[i].key, same.samples[i].key);
        assert_int_equal(index.samples[i].label, same.samples[i].label);
    }
    assert_refused((const char *const[]){target, tree_path("pets")}, 2, ERR_USAGE, "holds shards");
    data_index_release(&index);
    data_index_release(&same);
}

static void files_refuse_what_holds_nothing_and_what_goes_round(void **state)
{
    const char *path;

    (void)state;
    tree_write("none/notes.txt", "x", 1);
    path = tree_path("none");
    assert_refused(&path, 1, ERR_INPUT, "none'");
    write_jpeg("loop/a.jpg", 10);
    assert_int_equal(symlink(".", tree_path("loop/back")), 0);
    path = tree_path("loop");
    assert_refused(&path, 1, ERR_INPUT, "symbolic link");
    assert_refused((const char *const[]){"s3://bucket/a", path}, 2, ERR_USAGE, "S3");
}

/* A link to itself, a name that is too long, a pipe, a file above 2 GiB. */
static void stream_tells_of_each_file_that_cannot_be_read(void **state)
{
    static char name_long[301];
    const char *const names[] = {"self.jpg", name_long, "pipe", "film.mov", "good.jpg"};
    static const char *const why[] = {"symbolic links", "too long", "a pipe", "larger than 2 GiB"};
    struct data_stream_options options = {
        .transform = {.kind = DATA_TRANSFORM_RESIZE, .size = SIZE, .std = {1, 1, 1}},
        .micro_batch = 5,
        .threads = 2,
        .depth = 2,
        .sample_end = 5,
        .leave_unreadable = true,
    };
    struct data_stream *stream;
    struct data_batch batch;
    struct data_index index;
    struct err err = {0};

    (void)state;
    memset(name_long, 'n', sizeof name_long - 1);
    write_jpeg("good.jpg", 30);
    tree_write("film.mov", "x", 1);
    assert_int_equal(truncate(tree_path("film.mov"), (off_t)INT32_MAX + 1), 0);
    assert_int_equal(symlink("self.jpg", tree_path("self.jpg")), 0);
    assert_int_equal(mkfifo(tree_path("pipe"), 0600), 0);
    index = opened(names, 5);
    options.index = &index;
    stream = data_stream_new(&options, &err);
    assert_non_null(stream);
    if (data_stream_next(stream, &batch, NULL, &err) != 1)
        fail_msg("%s", err.msg);
    assert_int_equal(batch.n, 1);
    assert_int_equal(batch.samples[0], 4);
    assert_int_equal(batch.bad_count, 4);
    for (int i = 0; i < 4; i++)
        if (strstr(batch.bad[i].why, why[i]) == NULL)
            fail_msg("'%s' does not say '%s'", batch.bad[i].why, why[i]);
    data_stream_give_back(stream, &batch);
    data_stream_free(stream);
    data_index_release(&index);
}

/* A shard that the disk does not give is not one picture's matter. */
static void stream_ends_where_a_shard_cannot_be_read(void **state)
{
    char source[512], target[512];
    const struct data_pack_options pack = {
        .source = source, .target = target, .shard_bytes = 16384};
    struct data_stream_options options = {
        .transform = {.kind = DATA_TRANSFORM_RESIZE, .size = SIZE, .std = {1, 1, 1}},
        .micro_batch = 5,
        .threads = 2,
        .depth = 2,
        .sample_end = 5,
        .leave_unreadable = true,
    };
    const char *path = target;
    struct data_stream *stream;
    struct data_batch batch;
    struct data_index index = {0};
    struct err err = {0};

    (void)state;
    tree_class("pets", "cats", 20);
    tree_class("pets", "dogs", 11);
    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("shards"));
    assert_int_equal(data_pack(&pack, NULL), 0);
    assert_int_equal(data_files_open(&index, &path, 1, NULL, &err), 0);
    assert_int_equal(unlink(tree_path("shards/shard-000000.tar")), 0);
    assert_int_equal(symlink("shard-000000.tar", tree_path("shards/shard-000000.tar")), 0);
    options.index = &index;
    stream = data_stream_new(&options, &err);
    assert_non_null(stream);
    assert_int_equal(data_stream_next(stream, &batch, NULL, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    data_stream_free(stream);
    data_index_release(&index);
}

/* Links that lead nowhere, and a folder that is not allowed: what is named like a picture, and the
 * folder, has a sample, so that something is said of it. Other links are passed over. */
static void files_of_a_folder_need_not_all_be_readable(void **state)
{
    static const char *const name = "photos";
    static const char *const keys[] = {"photos/a.jpg", "photos/gone.jpg", "photos/private"};
    const uid_t me = geteuid();
    struct data_index index;

    (void)state;
    write_jpeg("photos/a.jpg", 10);
    write_jpeg("photos/private/b.jpg", 10);
    assert_int_equal(symlink("/nowhere/x.jpg", tree_path("photos/gone.jpg")), 0);
    assert_int_equal(symlink("/nowhere/x", tree_path("photos/latest")), 0);
    assert_int_equal(chmod(tree_root, 0755), 0);
    assert_int_equal(chmod(tree_path("photos/private"), 0), 0);
    if (me == 0) /* to whom everything is allowed */
        assert_int_equal(seteuid(65534), 0);
    index = opened(&name, 1);
    assert_int_equal(seteuid(me), 0);
    assert_int_equal(chmod(tree_path("photos/private"), 0700), 0);
    assert_keys(&index, keys, 3);
    assert_int_equal(index.samples[1].bytes, 0);
    assert_int_equal(index.ignored.count, 1);
    assert_string_equal(index.ignored.first, tree_path("photos/latest"));
    data_index_release(&index);
}

/* Batches of 3: of what is given some is missing, some empty, some none, one cut short. */
static void stream_tells_of_each_file_that_is_no_picture(void **state)
{
    static const char *const names[] = {"0.jpg",    "gone.jpg", "2.jpg",  "empty.jpg",
                                        "page.jpg", "5.jpg",    "cut.jpg"};
    static const char *const why[] = {NULL, "No such file", NULL, "empty", "neither a JPEG", NULL,
                                      NULL};
    struct data_stream_options options = {
        .transform = {.kind = DATA_TRANSFORM_RESIZE, .size = SIZE, .std = {1, 1, 1}},
        .micro_batch = 3,
        .threads = 3,
        .depth = 2,
        .leave_unreadable = true,
    };
    struct data_stream_stats stats;
    struct data_stream *stream;
    struct data_batch batch;
    struct data_index index;
    struct err err = {0};
    uint64_t next = 0;
    int rc;

    (void)state;
    write_jpeg("0.jpg", 30);
    write_jpeg("2.jpg", 31);
    write_jpeg("5.jpg", 32);
    write_jpeg("cut.jpg", 400);
    tree_truncate("cut.jpg", 1500);
    tree_write("empty.jpg", "", 0);
    tree_write("page.jpg", "<html>404</html>", 16);
    index = opened(names, 7);
    options.index = &index;
    options.sample_end = 7;
    stream = data_stream_new(&options, &err);
    assert_non_null(stream);
    while ((rc = data_stream_next(stream, &batch, NULL, &err)) == 1) {
        int good = 0, bad = 0;

        for (uint64_t sample = next; sample < 7 && sample < next + 3; sample++)
            if (why[sample] == NULL) {
                assert_int_equal(batch.samples[good], sample);
                assert_int_equal(batch.labels[good++], -1);
            } else {
                assert_int_equal(batch.bad[bad].sample, sample);
                assert_non_null(strstr(batch.bad[bad].why, tree_path(names[sample])));
                assert_non_null(strstr(batch.bad[bad++].why, why[sample]));
            }
        assert_int_equal(batch.n, good);
        assert_int_equal(batch.bad_count, bad);
        next += 3;
        data_stream_give_back(stream, &batch);
    }
    if (rc < 0)
        fail_msg("%s", err.msg);
    data_stream_stats(stream, &stats);
    assert_int_equal(stats.images, 4);
    assert_int_equal(stats.left_out, 3);
    assert_int_equal(stats.truncated, 1);
    assert_non_null(strstr(stats.truncated_first, "cut.jpg"));
    data_stream_free(stream);
    data_index_release(&index);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(files_keep_the_order_in_which_they_are_given),
        CASE(files_of_a_folder_come_by_their_paths_however_deep),
        CASE(files_of_shards_keep_what_they_have),
        CASE(files_refuse_what_holds_nothing_and_what_goes_round),
        CASE(stream_tells_of_each_file_that_is_no_picture),
        CASE(stream_tells_of_each_file_that_cannot_be_read),
        CASE(stream_ends_where_a_shard_cannot_be_read),
        CASE(files_of_a_folder_need_not_all_be_readable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
