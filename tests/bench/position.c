/*
 * tests/bench/position.c -- how long it takes to reach a place of an epoch in a large set of
 * shards.
 *
 *     position make DIR PICTURES SHARD_PICTURES BYTES [same]   sound indexes, hollow tars
 *     position open ROOT [PLACES [WHOLE_MAX]]    open it; go to random places of an epoch
 *
 * The pictures of 10^9 would fill 100 TB: tars are sparse files of the right length with the
 * headers that an opening looks at, and no pictures. BYTES 0 makes tars of a block, for a server to
 * hold: what is measured is the index. `same`: all shards have the first one's index file, by
 * links, for 10^9 take 54 GB of indexes; the fingerprint is then wrong, which nobody sees as long
 * as they are read on demand (position_s3.py does it in S3). `open` prints a line of JSON.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "s3io/client.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/index/pages.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/set/open.h"

enum { CLASSES = 1000, LINKS_MAX = 50000 }; /* ext4 has at most 65,000 of a file */

struct make {
    const char *folder;
    uint64_t pictures, of_shard;
    uint32_t bytes;
    bool same;
    struct digest_sha256 *digest;
    struct buf top;
    uint64_t total, first_bytes;
    struct data_shard shard; /* the last made */
};

static void die(const struct err *err)
{
    fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

static void put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static void write_header(int fd, const struct data_shard_record *record, uint64_t sample)
{
    char header[TAR_BLOCK] = {0};

    snprintf(header, 100, "%012" PRIu64 ".jpg", sample);
    snprintf(header + 124, 12, "%011" PRIo32, record->bytes);
    memcpy(header + 257, "ustar", 5);
    if (pwrite(fd, header, sizeof header, (off_t)(record->offset - TAR_BLOCK)) != sizeof header)
        exit(1);
}

static void write_tar(const char *path, const struct data_shard *shard, uint64_t first)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    if (fd < 0 || ftruncate(fd, (off_t)shard->tar_bytes) < 0) {
        perror(path);
        exit(1);
    }
    write_header(fd, &shard->records[0], first);
    write_header(fd, &shard->records[shard->count - 1], first + shard->count - 1);
    close(fd);
}

static void add_sample(struct make *make, struct data_shard *shard, uint64_t sample, bool hollow)
{
    struct data_shard_record record = {.offset = hollow ? TAR_BLOCK : shard->tar_bytes + TAR_BLOCK,
                                       .bytes = hollow ? 1 : make->bytes,
                                       .label = (uint32_t)(sample * 7919 % CLASSES),
                                       .crc32c = (uint32_t)sample};
    unsigned char numbers[8];
    char key[64];

    snprintf(key, sizeof key, "c%03" PRIu32 "/n%08" PRIu32 "_%" PRIu64 ".JPEG", record.label,
             record.label, sample);
    data_shard_add(shard, &record, key);
    shard->tar_bytes = hollow ? 4 * TAR_BLOCK
                              : record.offset +
                                    (record.bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK +
                                    2 * TAR_BLOCK;
    put_u32(numbers, record.label);
    put_u32(numbers + 4, record.bytes);
    digest_sha256_put(make->digest, key, strlen(key) + 1);
    digest_sha256_put(make->digest, numbers, sizeof numbers);
    make->total += record.bytes;
}

/* The index file: a new one, or the first one's. */
static void write_index(const struct make *make, const struct data_shard *shard, uint64_t number)
{
    struct buf file = {0};
    struct err err = {0};
    char path[512], first[512];

    snprintf(path, sizeof path, "%s/shard-%06" PRIu64 ".idx", make->folder, number);
    if (make->same && number % LINKS_MAX > 0) {
        snprintf(first, sizeof first, "%s/shard-%06" PRIu64 ".idx", make->folder,
                 number - number % LINKS_MAX);
        if (link(first, path) == 0)
            return;
        perror(path);
        exit(1);
    }
    data_shard_encode(shard, &file);
    if (file_replace(path, file.data, file.bytes, &err) < 0)
        die(&err);
    buf_release(&file);
}

static void make_shard(struct make *make, uint64_t number, uint64_t first, uint64_t count)
{
    const uint64_t before = make->total;
    struct data_shard *const shard = &make->shard;
    char path[512];

    if (make->same && number > 0) {
        make->total += make->first_bytes;
    } else {
        data_shard_release(shard);
        for (uint64_t i = 0; i < count; i++)
            add_sample(make, shard, first + i, make->bytes == 0);
        make->first_bytes = make->total - before;
    }
    snprintf(path, sizeof path, "%s/shard-%06" PRIu64 ".tar", make->folder, number);
    write_tar(path, shard, first);
    write_index(make, shard, number);
    buf_printf(&make->top,
               "%s{\"name\":\"shard-%06" PRIu64 ".tar\",\"count\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"tar_bytes\":%" PRIu64 "}",
               number > 0 ? "," : "", number, count, make->total - before, shard->tar_bytes);
}

static void begin_top(struct make *make)
{
    buf_printf(&make->top, "{\"format\":\"convoy-shards\",\"version\":1,\"order\":1,\"classes\":[");
    for (int c = 0; c < CLASSES; c++) {
        char name[8];

        snprintf(name, sizeof name, "c%03d", c);
        buf_printf(&make->top, "%s\"%s\"", c > 0 ? "," : "", name);
        digest_sha256_put(make->digest, name, strlen(name) + 1);
    }
    digest_sha256_put(make->digest, "", 1);
    buf_printf(&make->top, "],\"shards\":[");
}

static int make(int argc, char **argv)
{
    struct make make = {.digest = digest_sha256_new()};
    unsigned char sha[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS], path[512];
    struct err err = {0};

    if (argc != 4 && argc != 5)
        return 2;
    make.same = argc == 5;
    make.folder = argv[0];
    make.pictures = strtoull(argv[1], NULL, 10);
    make.of_shard = strtoull(argv[2], NULL, 10);
    make.bytes = (uint32_t)strtoul(argv[3], NULL, 10);
    if (make.same && make.pictures % make.of_shard != 0)
        return 2;
    if (file_make_folder(make.folder, &err) < 0)
        die(&err);
    begin_top(&make);
    for (uint64_t first = 0, number = 0; first < make.pictures; number++) {
        const uint64_t rest = make.pictures - first,
                       count = rest < make.of_shard ? rest : make.of_shard;

        make_shard(&make, number, first, count);
        first += count;
    }
    digest_sha256_end(make.digest, sha);
    digest_sha256_free(make.digest);
    digest_hex(sha, hex);
    buf_printf(&make.top, "],\"count\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"fingerprint\":\"%s\"}\n",
               make.pictures, make.total, hex);
    snprintf(path, sizeof path, "%s/index.json", make.folder);
    if (file_replace(path, make.top.data, make.top.bytes, &err) < 0)
        die(&err);
    buf_release(&make.top);
    data_shard_release(&make.shard);
    return 0;
}

static double peak_mib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int open_and_go(int argc, char **argv)
{
    const uint64_t places = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000,
                   whole_max = argc > 2 ? strtoull(argv[2], NULL, 10) : UINT64_MAX;
    struct data_pages_stats stats = {0};
    struct data_index index = {0};
    struct data_order order;
    struct err err = {0};
    double begun = clock_now_s(), opened, slowest = 0, all;

    if (data_index_open_paged(&index, argv[0], whole_max, NULL, 0, NULL, &err) < 0)
        die(&err);
    opened = clock_now_s() - begun;
    printf("{\"bench\":\"position\",\"pictures\":%zu,\"shards\":%zu,\"open_s\":%.3f,\"cpu_s\":%.3f,"
           "\"open_peak_mib\":%.0f",
           index.count, index.files, opened, cpu_s(), peak_mib());
    fflush(stdout);
    order = (struct data_order){.samples = index.count,
                                .chunk_samples = data_index_chunk_samples(&index),
                                .seed = 1,
                                .batch = 256,
                                .lanes = 8};
    all = clock_now_s();
    for (uint64_t i = 0; i < places; i++) {
        const uint64_t step = i * 2654435761u % data_order_steps(&order);
        const double at = clock_now_s();
        const uint64_t sample = data_order_sample(&order, (uint32_t)(i % 90), step, 0, 0);
        double took;

        if (data_index_hold(&index, sample, NULL, &err) < 0)
            die(&err);
        data_index_drop(&index, sample);
        took = clock_now_s() - at;
        slowest = took > slowest ? took : slowest;
    }
    if (index.pages != NULL)
        data_pages_stats(index.pages, &stats);
    printf(",\"place_s\":%.6f,\"place_slowest_s\":%.6f,\"pages_read\":%" PRIu64
           ",\"pages_max_mib\":%.0f,\"peak_mib\":%.0f}\n",
           (clock_now_s() - all) / (double)places, slowest, stats.reads,
           (double)stats.bytes_max / 1048576, peak_mib());
    data_index_release(&index);
    s3_client_shared_close();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "make") == 0)
        return make(argc - 2, argv + 2);
    if (argc > 2 && strcmp(argv[1], "open") == 0)
        return open_and_go(argc - 2, argv + 2);
    fprintf(stderr, "position make DIR PICTURES SHARD_PICTURES BYTES [same] | open ROOT [PLACES "
                    "[WHOLE_MAX]]\n");
    return 2;
}
