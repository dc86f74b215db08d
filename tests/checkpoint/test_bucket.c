/* tests/checkpoint/test_bucket.c -- checkpoints below s3://BUCKET/PREFIX: what test_checkpoint.c
 * says of folders holds there too, and what differs. Runs with an S3 server and the bucket test-a.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/uri.h"
#include "s3io/client.h"
#include "s3io/list.h"
#include "s3io/object.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/place.h"

#define BUCKET      "test-a"
#define COUNT       4096
#define COUNT_LARGE (5 << 20) /* more than two parts of an upload */

static struct s3_client *client;
static char prefix[32], place[64]; /* a new one for each case: "case-7", "s3://test-a/case-7" */
static float weights[COUNT_LARGE];

static int begin(void **state)
{
    static int number;

    (void)state;
    snprintf(prefix, sizeof prefix, "case-%d", ++number);
    snprintf(place, sizeof place, "s3://" BUCKET "/%s", prefix);
    return 0;
}

static int save_tensor(const char *where, uint64_t step, int generation, int keep, int count,
                       struct err *err)
{
    const int64_t number = (int64_t)step;
    struct safetensors_entry entries[] = {
        {"weight", SAFETENSORS_F32, 1, {(uint64_t)count}, weights},
        {"number", SAFETENSORS_I64, 0, {0}, &number},
    };
    char text[32];
    const struct safetensors_pair metadata[] = {{"step", text}};

    snprintf(text, sizeof text, "%llu", (unsigned long long)step);
    for (int i = 0; i < count; i++)
        weights[i] = (float)step + (float)i;
    return checkpoint_save(where, (struct checkpoint_name){step, generation}, entries, 2, metadata,
                           1, keep, NULL, err);
}

static int save(uint64_t step, int generation, int keep, struct err *err)
{
    return save_tensor(place, step, generation, keep, COUNT, err);
}

static const char *key_of(const char *name)
{
    static char key[256];

    snprintf(key, sizeof key, "%s/%s", prefix, name);
    return key;
}

static void load(const char *name, struct buf *out)
{
    assert_int_equal(s3_object_load(client, BUCKET, key_of(name), 100 << 20, out, NULL, NULL),
                     S3_YES);
}

static void put(const char *name, const void *data, size_t bytes)
{
    const struct s3_put put = {.bucket = BUCKET, .key = key_of(name), .data = data, .bytes = bytes};

    assert_int_equal(s3_object_put(client, &put, NULL, NULL), S3_YES);
}

static void change_byte(const char *name, size_t from_end)
{
    struct buf object = {0};

    load(name, &object);
    object.data[object.bytes - from_end] ^= 1;
    put(name, object.data, object.bytes);
    buf_release(&object);
}

/* Names below the prefix, in order, each followed by a blank. */
static int add_name(void *context, const struct s3_listed *listed, struct err *err)
{
    (void)err;
    buf_printf(context, "%s ", listed->key + strlen(prefix) + 1);
    return 0;
}

static void expect_names(const char *want)
{
    struct buf names = {0};
    char begins[40];

    snprintf(begins, sizeof begins, "%s/", prefix);
    assert_int_equal(s3_list(client, BUCKET, begins, false, add_name, &names, NULL), 0);
    assert_string_equal(buf_text(&names), want);
    buf_release(&names);
}

static void expect_latest(const char *name, int64_t step)
{
    struct safetensors file;
    struct err err = {0};
    char *path = NULL, *want = uri_join(place, name);
    int64_t number;

    assert_int_equal(checkpoint_open_latest(place, &file, &path, &err), 1);
    assert_string_equal(path, want);
    memcpy(&number, safetensors_find(&file, "number")->data, sizeof number);
    assert_int_equal(number, step);
    free(path);
    free(want);
    safetensors_close(&file);
}

static void expect_none(const char *where)
{
    struct safetensors file;
    struct err err = {0};
    char *path = NULL;

    assert_int_equal(checkpoint_open_latest(where, &file, &path, &err), 0);
    assert_null(path);
}

static void latest_is_none_where_nothing_was_saved(void **state)
{
    int generation = -1;

    (void)state;
    expect_none(place);
    expect_none("s3://test-b");
    assert_int_equal(checkpoint_last_generation(place, &generation, NULL), 0);
    assert_int_equal(generation, 0);
}

static void save_makes_the_bytes_that_a_folder_gets(void **state)
{
    char folder[] = "/tmp/convoy-bucket-XXXXXX", path[128], command[64];
    struct buf file = {0}, object = {0};
    struct err err = {0};

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(save_tensor(folder, 7, 2, 9, COUNT, &err), 0);
    assert_int_equal(save(7, 2, 9, &err), 0);
    snprintf(path, sizeof path, "%s/step-000000000007-g2.safetensors", folder);
    assert_int_equal(file_read(path, 1 << 20, &file, &err), 0);
    load("step-000000000007-g2.safetensors", &object);
    assert_int_equal(file.bytes, object.bytes);
    assert_memory_equal(file.data, object.data, file.bytes);
    buf_release(&file);
    buf_release(&object);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static void save_at_the_root_of_a_bucket(void **state)
{
    static const char *const roots[] = {"s3://test-b", "s3://test-b/"};
    struct safetensors file;
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        char *path = NULL;

        assert_int_equal(save_tensor(roots[i], 5, (int)i + 1, 1, COUNT, &err), 0);
        assert_int_equal(checkpoint_open_latest(roots[1 - i], &file, &path, &err), 1);
        assert_int_equal(atoll(safetensors_metadata(&file, "step")), 5);
        safetensors_close(&file);
        free(path);
    }
}

static void large_objects_come_back_whole(void **state)
{
    static const char name[] = "step-000000000003-g1.safetensors";
    struct err err = {0};

    (void)state;
    assert_int_equal(save_tensor(place, 3, 1, 1, COUNT_LARGE, &err), 0);
    expect_latest(name, 3);
    expect_names("step-000000000003-g1.safetensors "); /* and no upload under another name */
    assert_int_equal(save_tensor(place, 3, 1, 1, COUNT_LARGE, &err), 0);
}

static void latest_goes_by_generation_then_step(void **state)
{
    struct err err = {0};
    int generation = -1;

    (void)state;
    assert_int_equal(save(9, 2, 9, &err), 0);
    assert_int_equal(save(8, 10, 9, &err), 0);
    expect_latest("step-000000000008-g10.safetensors", 8);
    assert_int_equal(save(10, 10, 9, &err), 0);
    expect_latest("step-000000000010-g10.safetensors", 10);
    assert_int_equal(save(2, 11, 9, &err), 0);
    expect_latest("step-000000000002-g11.safetensors", 2);
    change_byte("step-000000000002-g11.safetensors", 5);
    assert_int_equal(checkpoint_last_generation(place, &generation, &err), 0);
    assert_int_equal(generation, 11);
}

static void latest_passes_over_damaged_objects(void **state)
{
    static const char newest[] = "step-000000000003-g1.safetensors";
    struct buf object = {0};
    struct err err = {0};

    (void)state;
    for (uint64_t step = 1; step <= 3; step++)
        assert_int_equal(save(step, 1, 9, &err), 0);
    load(newest, &object);
    expect_latest(newest, 3);

    change_byte(newest, 5); /* in the last tensor */
    expect_latest("step-000000000002-g1.safetensors", 2);
    put(newest, object.data, object.bytes);
    expect_latest(newest, 3);
    change_byte(newest, object.bytes - 60); /* in the header */
    expect_latest("step-000000000002-g1.safetensors", 2);
    put(newest, object.data, object.bytes - 1);
    expect_latest("step-000000000002-g1.safetensors", 2);
    put(newest, "", 0);
    expect_latest("step-000000000002-g1.safetensors", 2);

    change_byte("step-000000000002-g1.safetensors", 5);
    change_byte("step-000000000001-g1.safetensors", 5);
    expect_none(place);
    buf_release(&object);
}

static void latest_ignores_other_names_and_save_leaves_them(void **state)
{
    static const char *const names[] = {"convoy-lease.json", "step-9-g1.safetensors",
                                        "step-000000000009-g1.safetensors~", "model.safetensors",
                                        "step-000000000009-g1.safetensors/deeper"};
    struct buf good = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(save(9, 1, 9, &err), 0);
    load("step-000000000009-g1.safetensors", &good);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        put(names[i], good.data, good.bytes);
    assert_int_equal(
        s3_object_delete(client, BUCKET, key_of("step-000000000009-g1.safetensors"), &err), S3_YES);
    expect_none(place);
    assert_int_equal(save(4, 1, 1, &err), 0);
    expect_latest("step-000000000004-g1.safetensors", 4);
    expect_names("convoy-lease.json model.safetensors step-000000000004-g1.safetensors "
                 "step-000000000009-g1.safetensors/deeper step-000000000009-g1.safetensors~ "
                 "step-9-g1.safetensors ");
    buf_release(&good);
}

static void save_keeps_the_newest_and_what_it_saved(void **state)
{
    struct err err = {0};

    (void)state;
    for (uint64_t step = 1; step <= 5; step++)
        assert_int_equal(save(step, 1, 3, &err), 0);
    expect_names("step-000000000003-g1.safetensors step-000000000004-g1.safetensors "
                 "step-000000000005-g1.safetensors ");
    change_byte("step-000000000004-g1.safetensors", 5);
    change_byte("step-000000000005-g1.safetensors", 5);
    assert_int_equal(save(1, 1, 2, &err), 0); /* older than two that are damaged */
    expect_names("step-000000000001-g1.safetensors step-000000000004-g1.safetensors "
                 "step-000000000005-g1.safetensors ");
    expect_latest("step-000000000001-g1.safetensors", 1);
}

static void save_never_overwrites(void **state)
{
    static const char name[] = "step-000000000006-g1.safetensors";
    struct err err = {0};
    struct buf before = {0}, after = {0};

    (void)state;
    assert_int_equal(save(6, 1, 9, &err), 0);
    load(name, &before);
    assert_int_equal(save(6, 1, 9, &err), 0); /* the same content: its answer may have been lost */
    put(name, "another", 7);
    assert_int_equal(save(6, 1, 9, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, name));
    assert_non_null(strstr(err.msg, "other content"));
    load(name, &after);
    assert_int_equal(after.bytes, 7);
    buf_release(&before);
    buf_release(&after);
}

static void open_takes_one_object(void **state)
{
    struct safetensors file;
    struct err err = {0};
    char *path;

    (void)state;
    assert_int_equal(save(6, 1, 9, &err), 0);
    path = uri_join(place, "step-000000000006-g1.safetensors");
    assert_int_equal(checkpoint_open(path, &file, &err), 0);
    safetensors_close(&file);
    free(path);
    path = uri_join(place, "nosuch.safetensors");
    assert_int_equal(checkpoint_open(path, &file, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, path));
    free(path);
}

static void is_file_goes_by_the_ending_in_s3(void **state)
{
    (void)state;
    assert_true(checkpoint_is_file("s3://b/p/step-000000000006-g1.safetensors"));
    assert_true(checkpoint_is_file("s3://b/x.safetensors"));
    assert_false(checkpoint_is_file("s3://b"));
    assert_false(checkpoint_is_file("s3://b/p/"));
    assert_false(checkpoint_is_file("s3://b/p.safetensors/"));
    assert_false(checkpoint_is_file("/tmp"));
    assert_true(checkpoint_is_file("/nonexistent"));
}

static void bucket_that_is_not_there_is_an_error(void **state)
{
    struct safetensors file;
    struct err err = {0};
    char *path = NULL;
    int generation;

    (void)state;
    assert_int_equal(checkpoint_open_latest("s3://nosuch/p", &file, &path, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "nosuch"));
    assert_int_equal(checkpoint_last_generation("s3://nosuch", &generation, &err), -1);
    assert_int_equal(save_tensor("s3://nosuch/p", 1, 1, 1, COUNT, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
}

/* A server that cannot be reached says nothing of what it holds: it must not look like "none" nor
 * like "damaged". */
static void server_that_is_away_is_an_error(void **state)
{
    int status = -1;

    (void)state;
    fflush(NULL);
    const pid_t child = fork();

    if (child == 0) {
        struct safetensors file;
        struct err err = {0};
        char *path = NULL;

        setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1", 1);
        setenv("AWS_MAX_ATTEMPTS", "2", 1);
        s3_client_shared_close(); /* the parent's connections are not ours */
        const bool good = checkpoint_open_latest(place, &file, &path, &err) == -1 &&
                          err.code == ERR_NET && save(1, 1, 1, &err) == -1 && err.code == ERR_NET;
        s3_client_shared_close();
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void check_writable_leaves_nothing_behind(void **state)
{
    struct place at = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(place_open(&at, place, &err), 0);
    assert_int_equal(place_check_writable(&at, &err), 0);
    expect_names("");
    place_release(&at);
    assert_int_equal(place_open(&at, "s3://nosuch/p", &err), 0);
    assert_int_equal(place_check_writable(&at, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    place_release(&at);
}

#define CASE(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(latest_is_none_where_nothing_was_saved),
        CASE(save_makes_the_bytes_that_a_folder_gets),
        CASE(save_at_the_root_of_a_bucket),
        CASE(large_objects_come_back_whole),
        CASE(latest_goes_by_generation_then_step),
        CASE(latest_passes_over_damaged_objects),
        CASE(latest_ignores_other_names_and_save_leaves_them),
        CASE(save_keeps_the_newest_and_what_it_saved),
        CASE(save_never_overwrites),
        CASE(open_takes_one_object),
        CASE(is_file_goes_by_the_ending_in_s3),
        CASE(bucket_that_is_not_there_is_an_error),
        CASE(server_that_is_away_is_an_error),
        CASE(check_writable_leaves_nothing_behind),
    };
    struct err err = {0};
    int failed;

    client = s3_client_shared(&err);
    if (client == NULL) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    s3_client_shared_close();
    return failed;
}
