/* tests/data/test_spool.c -- Pipe channels: what a FIFO brings becomes the shards that the same
 * data in files is packed into; and nothing else does. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "same.h"
#include "stranger.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/pack/lock.h"
#include "trainer/data/pack/spool.h"
#include "trainer/data/set/open.h"
#include "tree.h"

#define PICTURES 60
#define PLENTY   ((fsblkcnt_t)1 << 30)

/* What any disk has left, in blocks of 4 KiB; blocks_later (not 0): from the second look on. */
static fsblkcnt_t free_blocks = PLENTY, blocks_later;

/* In place of the C library's. */
int statvfs(const char *restrict path, struct statvfs *restrict disk)
{
    (void)path;
    *disk = (struct statvfs){.f_frsize = 4096, .f_bavail = free_blocks};
    free_blocks = blocks_later != 0 ? blocks_later : free_blocks;
    return 0;
}

static int label_of(int i)
{
    return i * 7 % 12;
}

/* --- streams --- */

static void make_recordio(struct buf *out)
{
    struct buf picture = {0};

    for (int i = 0; i < PICTURES; i++) {
        const float label = (float)label_of(i);

        stranger_picture(&picture, i);
        stranger_image(out, &label, 1, picture.data, picture.bytes);
    }
    buf_release(&picture);
}

static void make_pairs(struct buf *out)
{
    struct buf picture = {0};
    char label[16];

    for (int i = 0; i < PICTURES; i++) {
        stranger_picture(&picture, i);
        stranger_record(out, picture.data, picture.bytes);
        snprintf(label, sizeof label, "%d", label_of(i));
        stranger_record(out, label, strlen(label));
    }
    buf_release(&picture);
}

/* Two files of image records, each a record of the wrapper's. */
static void make_wrapped(struct buf *out)
{
    struct buf picture = {0}, file = {0};

    for (int i = 0; i < PICTURES; i++) {
        const float label = (float)label_of(i);

        stranger_picture(&picture, i);
        stranger_image(&file, &label, 1, picture.data, picture.bytes);
        if (i != 20 && i != PICTURES - 1)
            continue;
        stranger_record(out, file.data, file.bytes);
        file.bytes = 0;
    }
    buf_release(&picture);
    buf_release(&file);
}

static void make_tar(struct buf *out)
{
    struct buf picture = {0};
    char name[64], label[16];

    for (int i = 0; i < PICTURES; i++) {
        snprintf(label, sizeof label, "%d", label_of(i));
        snprintf(name, sizeof name, "%04d.cls", i);
        stranger_member(out, name, label, strlen(label));
        stranger_picture(&picture, i);
        snprintf(name, sizeof name, "%04d.jpg", i);
        stranger_member(out, name, picture.data, picture.bytes);
        if (i == 20)
            stranger_end(out); /* and the next tar behind it */
    }
    stranger_end(out);
    buf_release(&picture);
}

/* --- who writes into the FIFO --- */

struct writer {
    pthread_t thread;
    const struct buf *stream;
    size_t bytes, piece; /* how much of it; at once: 0: all */
    int late_ms;         /* the FIFO is made so late */
    char fifo[512];
};

static void *write_stream(void *context)
{
    struct writer *writer = context;
    size_t at = 0;
    int fd;

    if (writer->late_ms > 0) {
        usleep((useconds_t)writer->late_ms * 1000);
        if (mkfifo(writer->fifo, 0600) < 0)
            return "mkfifo";
    }
    fd = open(writer->fifo, O_WRONLY);
    while (at < writer->bytes) {
        const size_t left = writer->bytes - at;
        const ssize_t got = write(fd, writer->stream->data + at,
                                  writer->piece > 0 && writer->piece < left ? writer->piece : left);

        if (got < 0)
            break;
        at += (size_t)got;
        if (writer->piece > 0)
            usleep(200);
    }
    close(fd);
    return NULL;
}

static void start_writer(struct writer *writer, const struct buf *stream)
{
    strcpy(writer->fifo, tree_path("train_0"));
    writer->stream = stream;
    if (writer->bytes == 0)
        writer->bytes = stream->bytes;
    if (writer->late_ms == 0)
        assert_int_equal(mkfifo(writer->fifo, 0600), 0);
    assert_int_equal(pthread_create(&writer->thread, NULL, write_stream, writer), 0);
}

static void end_writer(struct writer *writer)
{
    pthread_join(writer->thread, NULL);
    unlink(writer->fifo);
}

static int spool_with(double wait_s, const volatile sig_atomic_t *cancel, struct err *err)
{
    char fifo[512], folder[512];
    const struct data_spool_options options = {.fifo = fifo,
                                               .folder = folder,
                                               .shard_bytes = SAME_SHARD_BYTES,
                                               .wait_s = wait_s,
                                               .cancel = cancel};

    strcpy(fifo, tree_path("train_0"));
    strcpy(folder, tree_path("spool/train"));
    return data_spool(&options, err);
}

/* Send it and read it: it must be taken. */
static void spool(struct writer *writer, const struct buf *stream)
{
    struct err err = {0};
    int rc;

    start_writer(writer, stream);
    rc = spool_with(60, NULL, &err);
    end_writer(writer);
    if (rc < 0)
        fail_msg("%s", err.msg);
}

/* The same, and it must be refused, and leave nothing. */
static void spool_fails(const struct buf *stream, size_t bytes, const char *says)
{
    struct writer writer = {.bytes = bytes};
    struct err err = {0};
    int rc;

    start_writer(&writer, stream);
    rc = spool_with(60, NULL, &err);
    end_writer(&writer);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_INPUT);
    if (strstr(err.msg, says) == NULL || strstr(err.msg, "train_0'") == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_false(file_exists(tree_path("spool/train")));
}

static void assert_pictures(const char *folder)
{
    struct data_index index;
    struct buf want = {0}, have = {0};

    same_open(&index, folder);
    assert_int_equal(index.count, PICTURES);
    assert_int_equal(index.classes, 12);
    assert_true(index.files >= 3);
    for (int i = 0; i < PICTURES; i++) {
        stranger_picture(&want, i);
        same_read(&index, (size_t)i, &have);
        assert_int_equal(index.samples[i].label, label_of(i));
        assert_int_equal(have.bytes, want.bytes);
        assert_memory_equal(have.data, want.data, want.bytes);
    }
    data_index_release(&index);
    buf_release(&want);
    buf_release(&have);
}

/* --- cases --- */

static void recordio_becomes_the_shards_that_pack_makes_of_the_file(void **state)
{
    struct writer writer = {0};
    struct buf stream = {0};

    (void)state;
    make_recordio(&stream);
    tree_write("train.rec", stream.data, stream.bytes);
    same_pack("train.rec", "want", 0);
    spool(&writer, &stream);
    assert_int_equal(unlink(tree_path("spool/train/.convoy-spool")), 0);
    same_folders("want", "spool/train");
    assert_pictures("spool/train");
    buf_release(&stream);
}

static void every_kind_of_stream_brings_the_same_pictures(void **state)
{
    void (*const kinds[])(struct buf *) = {make_pairs, make_wrapped, make_tar};

    (void)state;
    for (size_t i = 0; i < 3; i++) { /* each time into the folder of the one before */
        struct writer writer = {0};
        struct buf stream = {0};

        kinds[i](&stream);
        spool(&writer, &stream);
        assert_pictures("spool/train");
        buf_release(&stream);
    }
}

static void our_own_shards_through_a_pipe_are_the_same_samples(void **state)
{
    struct data_index files, piped;
    struct writer writer = {0};
    struct buf stream = {0}, a = {0}, b = {0};

    (void)state;
    tree_class("pets", "cats", 30);
    tree_class("pets", "dogs", 20);
    same_pack("pets", "shards", 0);
    same_open(&files, "shards");
    for (size_t f = 0; f < files.files; f++) { /* as S3 lists them: the tars alone */
        char name[64];

        snprintf(name, sizeof name, "shards/%s", files.file_names[f]);
        assert_int_equal(file_read(tree_path(name), 1 << 20, &stream, NULL), 0);
    }
    spool(&writer, &stream);
    same_open(&piped, "spool/train");
    assert_int_equal(piped.count, files.count);
    assert_int_equal(data_index_chunk_samples(&piped), data_index_chunk_samples(&files));
    for (size_t i = 0; i < files.count; i++) {
        assert_int_equal(piped.samples[i].label, files.samples[i].label);
        same_read(&files, i, &a);
        same_read(&piped, i, &b);
        assert_int_equal(a.bytes, b.bytes);
        assert_memory_equal(a.data, b.data, a.bytes);
    }
    data_index_release(&files);
    data_index_release(&piped);
    buf_release(&stream);
    buf_release(&a);
    buf_release(&b);
}

static void fifo_may_come_late_and_its_writer_may_be_slow(void **state)
{
    struct writer writer = {.late_ms = 150, .piece = 777};
    struct buf stream = {0};

    (void)state;
    make_recordio(&stream);
    spool(&writer, &stream);
    assert_pictures("spool/train");
    buf_release(&stream);
}

static void writer_that_vanishes_is_noticed_within_a_sample(void **state)
{
    struct buf records = {0}, pairs = {0}, tar = {0};

    (void)state;
    make_recordio(&records);
    make_pairs(&pairs);
    make_tar(&tar);
    spool_fails(&records, records.bytes - 1, "ends");
    spool_fails(&records, records.bytes / 2, "ends");
    spool_fails(&pairs, pairs.bytes - 12, "between a picture and its label");
    spool_fails(&tar, tar.bytes - 1024, "cut off");
    spool_fails(&tar, tar.bytes - 1024 - 512, "ends here");
    spool_fails(&tar, tar.bytes / 2 + 100, "here");
    buf_release(&records);
    buf_release(&pairs);
    buf_release(&tar);
}

static void streams_of_no_kind_are_refused(void **state)
{
    struct buf stream = {0}, several = {0};
    const float labels[2] = {1, 2};

    (void)state;
    buf_append(&stream, "\xff\xd8\xff\xe0 a picture and another", 27);
    spool_fails(&stream, 0, "without labels");
    spool_fails(&stream, 1, "neither tars nor RecordIO");
    stream.bytes = 0;
    buf_append(&stream, "\x1f\x8b\x08", 3);
    spool_fails(&stream, 0, "gzip");
    stream.bytes = 0;
    stranger_record(&stream, "\xff\xd8\xff\xe0one", 7); /* a wrapper around pictures alone */
    stranger_record(&stream, "\xff\xd8\xff\xe0two", 7);
    spool_fails(&stream, 0, "no label follows");
    stranger_image(&several, labels, 2, "\xff\xd8\xff\xe0", 4);
    spool_fails(&several, 0, "several labels");
    buf_release(&stream);
    buf_release(&several);
}

static void empty_stream_is_refused(void **state)
{
    struct err err = {0};
    char path[512];
    int fd;

    (void)state;
    strcpy(path, tree_path("train_0"));
    tree_write("train_0", "", 0);
    assert_int_equal(spool_with(5, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "is empty"));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* a FIFO whose writer never says a word */
    fd = open(path, O_RDWR);
    assert_int_equal(spool_with(0.3, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "brought nothing within"));
    close(fd);
}

/* Refused with this, and nothing there counts as shards; room again, and they are read. */
static void full_disk_is(const struct buf *stream, const char *says)
{
    struct writer writer = {.bytes = stream->bytes};
    struct err err = {0};
    int rc;

    start_writer(&writer, stream);
    rc = spool_with(60, NULL, &err);
    end_writer(&writer);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_IO);
    if (strstr(err.msg, says) == NULL || strchr(err.msg, '\n') != NULL)
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_false(file_exists(tree_path("spool/train/" SHARD_TOP_NAME)));
}

/* What the disk says it has left is looked at before the first picture. Where it has less than it
 * said, writing fails: with a limit on the length of files here. */
static void full_disk_is_said_and_leaves_nothing_that_counts(void **state)
{
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY}, short_files = {9000, RLIM_INFINITY};
    struct buf tar = {0};

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    make_tar(&tar);
    free_blocks = 1000;
    full_disk_is(&tar, "is full after 0.0 MB");
    free_blocks = PLENTY;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &short_files), 0);
    full_disk_is(&tar, strerror(EFBIG));
    blocks_later = 10;
    full_disk_is(&tar, "give the job a larger volume");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    free_blocks = PLENTY;
    blocks_later = 0;
    spool(&(struct writer){.bytes = tar.bytes}, &tar);
    assert_pictures("spool/train");
    buf_release(&tar);
}

static void fifo_that_never_comes_ends_the_wait(void **state)
{
    const double begun_s = clock_now_s();
    struct err err = {0};

    (void)state;
    assert_int_equal(spool_with(0.3, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "did not appear within"));
    assert_true(clock_now_s() - begun_s < 5);
}

static volatile sig_atomic_t cancel;

static void *cancel_later(void *unused)
{
    (void)unused;
    usleep(200000);
    cancel = 1;
    return NULL;
}

static void stop_ends_every_wait(void **state)
{
    char path[512];
    struct buf stream = {0};
    struct err err = {0};

    (void)state;
    make_recordio(&stream);
    strcpy(path, tree_path("train_0"));
    for (int state_of_fifo = 0; state_of_fifo < 3; state_of_fifo++) {
        const double begun_s = clock_now_s();
        pthread_t thread;
        int fd = -1;

        if (state_of_fifo == 1) /* not there; without a writer; with one that stops in the middle */
            assert_int_equal(mkfifo(path, 0600), 0);
        if (state_of_fifo == 2) {
            fd = open(path, O_RDWR);
            assert_int_equal(write(fd, stream.data, 1000), 1000);
        }
        cancel = 0;
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, NULL), 0);
        assert_int_equal(spool_with(600, &cancel, &err), -1);
        assert_int_equal(err.code, ERR_STOPPED);
        pthread_join(thread, NULL);
        assert_true(clock_now_s() - begun_s < 10);
        assert_false(file_exists(tree_path("spool/train")));
        if (fd >= 0)
            close(fd);
    }
    buf_release(&stream);
}

static void kill_while_reading_leaves_nothing_that_passes_for_whole(void **state)
{
    struct writer writer = {.piece = 2000}, again = {0};
    struct data_index index;
    struct buf stream = {0};
    struct err err = {0};
    char path[512];
    pid_t child;
    int status;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    make_recordio(&stream);
    start_writer(&writer, &stream);
    child = fork();
    if (child == 0)
        _exit(spool_with(60, NULL, NULL) < 0);
    strcpy(path, tree_path("spool/train/shard-000001.tar"));
    for (int i = 0; i < 100000 && !file_exists(path); i++)
        usleep(100);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    end_writer(&writer);
    assert_true(file_exists(path));
    assert_int_equal(data_index_open(&index, tree_path("spool/train"), NULL, 0, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "half packed"));
    spool(&again, &stream);
    assert_pictures("spool/train");
    buf_release(&stream);
}

static void shards_that_no_spool_wrote_are_left_alone(void **state)
{
    struct buf stream = {0};
    struct err err = {0};

    (void)state;
    make_recordio(&stream);
    tree_write("train.rec", stream.data, stream.bytes);
    tree_write("train_0", stream.data, stream.bytes);
    same_pack("train.rec", "want", 0);
    same_pack("train.rec", "spool/train", 0);
    assert_int_equal(spool_with(5, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "CONVOY_SPOOL"));
    same_folders("want", "spool/train");
    buf_release(&stream);
}

static void folder_that_another_reads_into_is_left_alone(void **state)
{
    struct buf stream = {0};
    struct err err = {0};
    int fd;

    (void)state;
    make_recordio(&stream);
    tree_write("train_0", stream.data, stream.bytes);
    assert_int_equal(spool_with(5, NULL, &err), 0);
    assert_int_equal(data_lock_take(tree_path("spool/train/.convoy-spool"), &fd, &err), 1);
    assert_int_equal(spool_with(5, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "another process reads a Pipe channel into"));
    assert_pictures("spool/train");
    close(fd);
    assert_int_equal(spool_with(5, NULL, &err), 0);
    buf_release(&stream);
}

static void what_is_no_fifo_is_refused(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(mkdir(tree_path("train_0"), 0777), 0);
    assert_int_equal(spool_with(5, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "train_0' is no FIFO"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(recordio_becomes_the_shards_that_pack_makes_of_the_file),
        CASE(every_kind_of_stream_brings_the_same_pictures),
        CASE(our_own_shards_through_a_pipe_are_the_same_samples),
        CASE(fifo_may_come_late_and_its_writer_may_be_slow),
        CASE(writer_that_vanishes_is_noticed_within_a_sample),
        CASE(streams_of_no_kind_are_refused),
        CASE(empty_stream_is_refused),
        CASE(full_disk_is_said_and_leaves_nothing_that_counts),
        CASE(fifo_that_never_comes_ends_the_wait),
        CASE(stop_ends_every_wait),
        CASE(shards_that_no_spool_wrote_are_left_alone),
        CASE(folder_that_another_reads_into_is_left_alone),
        CASE(what_is_no_fifo_is_refused),
        CASE(kill_while_reading_leaves_nothing_that_passes_for_whole),
    };

    log_init("", true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
