/* tests/data/test_source.c -- what is packed changes between its listing and its reading: that is
 * an error with its name, and never a shard of something else. */
#include "trainer/data/pack/source.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "store.h"
#include "stranger.h"
#include "tree.h"

#define COUNT 4

static struct store *store;

static struct data_source opened(const char *path)
{
    struct data_source source;
    struct err err = {0};

    if (data_source_open(&source, path, NULL, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    return source;
}

static void assert_read(const struct data_source *source, size_t sample)
{
    struct buf picture = {0};
    struct err err = {0};

    if (data_source_get(source, sample, &picture, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(picture.bytes, source->index.samples[sample].bytes);
    buf_release(&picture);
}

static void assert_refused(const struct data_source *source, size_t sample, const char *says)
{
    struct buf picture = {0};
    struct err err = {0};

    assert_int_equal(data_source_get(source, sample, &picture, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    if (strstr(err.msg, says) == NULL)
        fail_msg("'%s' says nothing of '%s'", err.msg, says);
    buf_release(&picture);
}

static void record_that_changed_since_is_refused(void **state)
{
    struct buf file = {0}, picture = {0};
    struct data_source source;
    int fd;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        const float label = (float)(i % 2);

        stranger_picture(&picture, i);
        stranger_image(&file, &label, 1, picture.data, picture.bytes);
    }
    tree_write("a.rec", file.data, file.bytes);
    source = opened(tree_path("a.rec"));
    fd = open(tree_path("a.rec"), O_RDWR);
    assert_int_equal(pwrite(fd, "\0\0\0\0", 4, (off_t)source.index.samples[1].offset), 4);
    assert_read(&source, 0);
    assert_refused(&source, 1, "is not what it was a moment ago");
    assert_read(&source, 2);
    /* a record, but a shorter one */
    assert_int_equal(
        pwrite(fd, "\x0a\x23\xd7\xce\x04\0\0\0", 8, (off_t)source.index.samples[1].offset), 8);
    assert_refused(&source, 1, "is not what it was a moment ago");
    assert_int_equal(ftruncate(fd, (off_t)source.index.samples[3].offset + 9), 0);
    assert_refused(&source, 3, "a.rec");
    close(fd);
    data_source_close(&source);
    buf_release(&file);
    buf_release(&picture);
}

static void put(int i, const char *text)
{
    char key[32];

    snprintf(key, sizeof key, "pets/%c/%d.jpg", "ab"[i % 2], i);
    store_put(store, key, text, strlen(text));
}

static void object_that_was_replaced_since_is_refused(void **state)
{
    struct data_source source;
    size_t changed = COUNT;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        put(i, "\xff\xd8 one");
    source = opened(store_uri("pets"));
    assert_int_equal(source.index.count, COUNT);
    put(2, "\xff\xd8 two"); /* of the same length */
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(source.index.samples[i].key, "a/2.jpg") == 0)
            changed = i;
        else
            assert_read(&source, i);
    assert_true(changed < COUNT);
    assert_refused(&source, changed, "a/2.jpg' was replaced after its folder was listed");
    store_delete(store, "pets/a/2.jpg");
    assert_refused(&source, changed, "a/2.jpg");
    data_source_close(&source);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(record_that_changed_since_is_refused),
        CASE(object_that_was_replaced_since_is_refused),
    };
    int failed;

    store = store_open();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    store_close(store);
    return failed;
}
