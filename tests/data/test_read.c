/* tests/data/test_read.c -- samples by several threads at once: a file that takes long to open is
 * waited for by who wants it alone. */
#include "trainer/data/stream/read.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "tests/data/tree.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"

#define PATIENCE_S 10

/* ---- open(), as the linker gives it to everybody here: it waits at the gate ---- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static const char *gate; /* files with this in their path do not open; NULL: there is none */
static int at_gate, opens;

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    if ((flags & O_CREAT) != 0) {
        va_list rest;

        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    pthread_mutex_lock(&mutex);
    opens += strstr(path, ".tar") != NULL;
    while (gate != NULL && strstr(path, gate) != NULL) {
        at_gate++;
        pthread_cond_broadcast(&moved);
        pthread_cond_wait(&moved, &mutex);
        at_gate--;
    }
    pthread_mutex_unlock(&mutex);
    return __real_open(path, flags, mode);
}

static void set_gate(const char *part)
{
    pthread_mutex_lock(&mutex);
    gate = part;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&mutex);
}

static struct timespec in_a_while(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    return until;
}

/* Whether so many threads came to the gate. */
static bool wait_at_gate(int count)
{
    const struct timespec until = in_a_while();
    bool there;

    pthread_mutex_lock(&mutex);
    while (at_gate < count && pthread_cond_timedwait(&moved, &mutex, &until) == 0)
        ;
    there = at_gate >= count;
    pthread_mutex_unlock(&mutex);
    return there;
}

/* ---- a thread that reads a sample ---- */

struct hand {
    struct data_reader *reader;
    uint64_t sample;
    pthread_t thread;
    struct buf bytes;
    int32_t label;
    struct err err;
    int rc;
};

static void *read_one(void *argument)
{
    struct hand *const hand = argument;

    hand->rc = data_reader_get(hand->reader, hand->sample, &hand->bytes, &hand->label, &hand->err);
    return NULL;
}

static void begin(struct hand *hand, struct data_reader *reader, uint64_t sample)
{
    *hand = (struct hand){.reader = reader, .sample = sample, .label = -1};
    assert_int_equal(pthread_create(&hand->thread, NULL, read_one, hand), 0);
}

/* Whether it has its sample by now. */
static bool is_through(struct hand *hand)
{
    const struct timespec until = in_a_while();

    return pthread_timedjoin_np(hand->thread, NULL, &until) == 0;
}

static void expect_sample(struct hand *hand, const struct data_index *index)
{
    const struct data_sample *const sample = &index->samples[hand->sample];

    if (hand->rc < 0)
        fail_msg("%s", hand->err.msg);
    assert_int_equal(hand->label, sample->label);
    assert_int_equal(hand->bytes.bytes, sample->bytes);
    assert_int_equal(digest_crc32c(0, hand->bytes.data, hand->bytes.bytes), sample->crc32c);
    buf_release(&hand->bytes);
}

/* ---- cases ---- */

static struct data_index shards;
static uint64_t second; /* the first sample of the second shard */

static int set_up(void **state)
{
    char source[512], target[512];
    const struct data_pack_options options = {
        .source = source, .target = target, .shard_bytes = 6000};
    struct err err = {0};

    if (tree_make(state) < 0)
        return -1;
    tree_class("pets", "cats", 20);
    tree_class("pets", "dogs", 10);
    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("shards"));
    if (data_pack(&options, &err) < 0 || data_index_open(&shards, target, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    for (second = 0; shards.samples[second].file == 0;)
        second++;
    return 0;
}

static int tear_down(void **state)
{
    set_gate(NULL);
    data_index_release(&shards);
    return tree_remove(state);
}

static void shard_that_is_slow_to_open_is_not_waited_for_by_readers_of_others(void **state)
{
    struct data_reader *const reader = data_reader_new(&shards, NULL);
    struct hand slow, quick;
    bool through;

    (void)state;
    set_gate("shard-000000.tar");
    begin(&slow, reader, 0);
    assert_true(wait_at_gate(1));
    begin(&quick, reader, second);
    through = is_through(&quick);
    set_gate(NULL);
    if (!through)
        pthread_join(quick.thread, NULL);
    pthread_join(slow.thread, NULL);
    assert_true(through);
    expect_sample(&slow, &shards);
    expect_sample(&quick, &shards);
    data_reader_free(reader);
}

static size_t open_files(void)
{
    DIR *const dir = opendir("/proc/self/fd");
    size_t count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void shard_that_threads_open_at_once_stays_open_once(void **state)
{
    struct data_reader *const reader = data_reader_new(&shards, NULL);
    const size_t before = open_files();
    struct hand hands[3];
    bool together;

    (void)state;
    set_gate("shard-000000.tar");
    for (int i = 0; i < 3; i++)
        begin(&hands[i], reader, (uint64_t)i % second);
    together = wait_at_gate(3);
    set_gate(NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(hands[i].thread, NULL);
    assert_true(together);
    for (int i = 0; i < 3; i++)
        expect_sample(&hands[i], &shards);
    assert_int_equal(open_files(), before + 1);
    opens = 0;
    begin(&hands[0], reader, 0);
    pthread_join(hands[0].thread, NULL);
    expect_sample(&hands[0], &shards);
    assert_int_equal(opens, 0);
    data_reader_free(reader);
    assert_int_equal(open_files(), before);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(shard_that_is_slow_to_open_is_not_waited_for_by_readers_of_others),
        CASE(shard_that_threads_open_at_once_stays_open_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
