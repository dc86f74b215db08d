/* tests/data/test_synth.c -- the drawn dataset: whole, balanced, reproducible. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <ftw.h>
#include <math.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "base/philox.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/synth/draw.h"
#include "trainer/data/synth/photo.h"
#include "trainer/data/synth/synth.h"

static char root[64];

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(root, "/tmp/convoy-synth-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *below_root(const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

/* Entries of a folder below the root, hidden ones too; -1 if there is none. */
static int entries(const char *name)
{
    DIR *folder = opendir(below_root(name));
    int count = -2; /* . and .. */

    if (folder == NULL)
        return -1;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* Draw into the folder `name` below the root. */
static int draw(const char *name, struct data_synth_options options, struct err *err)
{
    char target[256];

    strcpy(target, below_root(name));
    options.target = target;
    return data_synth(&options, err);
}

static void synth_writes_a_balanced_folder_per_class(void **state)
{
    const struct data_synth_options options = {.classes = 3, .size = 20, .count = 31, .seed = 5};
    static const char *const classes[] = {"00-disc-stripes", "01-square-checks",
                                          "02-triangle-dots"};
    struct data_image image = {0};
    struct buf bytes = {0};
    struct err err = {0};
    char name[64];

    (void)state;
    if (draw("set", options, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(entries("set"), 2); /* train and val: nothing else is left behind */
    assert_int_equal(entries("set/train"), 3);
    assert_int_equal(entries("set/val"), 3);
    for (int class = 0; class < 3; class ++) {
        snprintf(name, sizeof name, "set/train/%s", classes[class]);
        assert_int_equal(entries(name), class < 1 ? 11 : 10);
        snprintf(name, sizeof name, "set/val/%s", classes[class]);
        assert_int_equal(entries(name), 2);
        snprintf(name, sizeof name, "set/train/%s/00009.jpg", classes[class]);
        bytes.bytes = 0;
        assert_int_equal(file_read(below_root(name), 1 << 20, &bytes, NULL), 0);
        assert_int_equal(data_decode(bytes.data, bytes.bytes, &image, NULL), 0);
        assert_false(image.truncated);
        assert_int_equal(image.width, 20);
        assert_int_equal(image.height, 20);
    }
    data_image_release(&image);
    buf_release(&bytes);
}

/* The digest over all files of a drawn set, in a fixed order. */
static void digest_of(const char *name, unsigned char sha[DIGEST_SHA256_BYTES])
{
    static const char *const classes[] = {"00-disc-stripes", "01-square-checks"};
    struct buf bytes = {0};

    for (int i = 0; i < 40; i++) {
        char path[128];

        snprintf(path, sizeof path, "%s/%s/%s/%05d.jpg", name, i < 20 ? "train" : "val",
                 classes[i % 2], i % 20 / 2 % (i < 20 ? 10 : 2));
        assert_int_equal(file_read(below_root(path), 1 << 24, &bytes, NULL), 0);
    }
    digest_sha256(bytes.data, bytes.bytes, sha);
    buf_release(&bytes);
}

static void synth_draws_the_same_bytes_for_the_same_options(void **state)
{
    static const struct data_synth_options options[] = {
        {.classes = 2, .size = 32, .count = 20, .seed = 1},
        {.classes = 2, .size = 32, .count = 20, .seed = 1},
        {.classes = 2, .size = 32, .count = 20, .seed = 2},
    };
    unsigned char sha[3][DIGEST_SHA256_BYTES];

    (void)state;
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), '\0'};

        assert_int_equal(draw(name, options[i], NULL), 0);
        digest_of(name, sha[i]);
    }
    assert_memory_equal(sha[0], sha[1], DIGEST_SHA256_BYTES);
    assert_memory_not_equal(sha[0], sha[2], DIGEST_SHA256_BYTES);
}

/* The picture `name` below the root; *bytes is its file's length. */
static void load(const char *name, struct data_image *image, size_t *bytes)
{
    struct buf file = {0};
    struct err err = {0};

    assert_int_equal(file_read(below_root(name), 1 << 24, &file, NULL), 0);
    if (data_decode(file.data, file.bytes, image, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    *bytes = file.bytes;
    buf_release(&file);
}

/* A photograph has a third to a whole byte a pixel: 500 x 375 of quality 90 some 60 to 100 KB. */
static void synth_draws_photographs_of_many_sizes_with_as_many_bytes(void **state)
{
    const struct data_synth_options options = {
        .classes = 2, .size = 200, .photos = true, .count = 60, .seed = 3};
    int upright = 0, usual = 0;
    size_t pixels = 0, bytes = 0;
    struct data_image image = {0};

    (void)state;
    assert_int_equal(draw("set", options, NULL), 0);
    for (int i = 0; i < 60; i++) {
        char name[64];
        size_t length;
        int longer, shorter;

        snprintf(name, sizeof name, "set/train/%s/%05d.jpg",
                 i % 2 == 0 ? "00-disc-stripes" : "01-square-checks", i / 2);
        load(name, &image, &length);
        longer = image.width > image.height ? image.width : image.height;
        shorter = image.width + image.height - longer;
        assert_in_range(longer, 140, 280);
        assert_in_range(longer * 100 / shorter, 100, 161);
        assert_true((size_t)image.width * (size_t)image.height <= data_photo_pixels_max(200));
        upright += image.height > image.width;
        usual += longer == 200 && shorter == 150;
        pixels += (size_t)image.width * (size_t)image.height;
        bytes += length;
    }
    assert_in_range(upright, 10, 30);
    assert_in_range(usual, 20, 40);
    assert_in_range(bytes * 100 / pixels, 33, 60);
    data_image_release(&image);
}

static void synth_draws_the_same_photographs_for_the_same_options(void **state)
{
    const struct data_synth_options options = {
        .classes = 2, .size = 64, .photos = true, .count = 20, .seed = 1};
    unsigned char sha[2][DIGEST_SHA256_BYTES];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(draw(i == 0 ? "a" : "b", options, NULL), 0);
        digest_of(i == 0 ? "a" : "b", sha[i]);
    }
    assert_memory_equal(sha[0], sha[1], DIGEST_SHA256_BYTES);
}

/* The mean colour of the shape's points, over pictures of a class. */
static void photograph_colour(int class, uint64_t seed, float mean[3])
{
    float *const rgba = malloc(40 * 30 * 4 * sizeof *rgba);
    float weight = 0;

    memset(mean, 0, 3 * sizeof *mean);
    for (uint64_t number = 0; number < 20; number++) {
        struct philox random;

        philox_init(&random, seed, number, 0, PHILOX_SYNTH);
        data_draw_coarse(class, 40, 30, &random, rgba);
        for (int i = 0; i < 40 * 30; i++) {
            for (int c = 0; c < 3; c++)
                mean[c] += rgba[4 * i + c] * rgba[4 * i + 3];
            weight += rgba[4 * i + 3];
        }
    }
    assert_true(weight > 20 * 40 * 30 * 0.1f); /* the shape is there, and not all there is */
    assert_true(weight < 20 * 40 * 30 * 0.8f);
    for (int c = 0; c < 3; c++)
        mean[c] /= weight;
    free(rgba);
}

static float distance(const float a[3], const float b[3])
{
    return fabsf(a[0] - b[0]) + fabsf(a[1] - b[1]) + fabsf(a[2] - b[2]);
}

static void photographs_of_a_class_share_its_colours(void **state)
{
    float first[3], again[3], other[3];
    int unlike = 0;

    (void)state;
    for (int class = 0; class < 20; class ++) {
        photograph_colour(class, 9, first);
        photograph_colour(class, 10, again);
        photograph_colour(class + 1, 9, other);
        assert_true(distance(first, again) < 0.15f);
        unlike += distance(first, other) > 0.2f;
    }
    assert_true(unlike >= 15);
}

static void synth_shows_other_pictures_in_validation_than_in_training(void **state)
{
    const struct data_synth_options options = {.classes = 2, .size = 16, .count = 10, .seed = 1};
    struct buf train = {0}, val = {0};

    (void)state;
    assert_int_equal(draw("set", options, NULL), 0);
    assert_int_equal(
        file_read(below_root("set/train/00-disc-stripes/00000.jpg"), 1 << 20, &train, NULL), 0);
    assert_int_equal(
        file_read(below_root("set/val/00-disc-stripes/00000.jpg"), 1 << 20, &val, NULL), 0);
    assert_true(train.bytes != val.bytes || memcmp(train.data, val.data, val.bytes) != 0);
    buf_release(&train);
    buf_release(&val);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void draw_names_every_class_differently(void **state)
{
    static char names[DATA_SYNTH_CLASSES_MAX][64];

    (void)state;
    assert_true(data_draw_classes() >= DATA_SYNTH_CLASSES_MAX);
    for (int class = 0; class < DATA_SYNTH_CLASSES_MAX; class ++)
        data_draw_name(class, names[class], sizeof names[class]);
    qsort(names, DATA_SYNTH_CLASSES_MAX, sizeof names[0], compare_names);
    for (int class = 1; class < DATA_SYNTH_CLASSES_MAX; class ++)
        assert_string_not_equal(names[class - 1], names[class]);
}

static void synth_draws_the_most_classes(void **state)
{
    const struct data_synth_options options = {
        .classes = DATA_SYNTH_CLASSES_MAX, .size = 16, .count = 1000, .seed = 1};

    (void)state;
    assert_int_equal(draw("set", options, NULL), 0);
    assert_int_equal(entries("set/train"), 1000);
    assert_int_equal(entries("set/val"), 1000);
    assert_int_equal(entries("set/train/000-disc-stripes"), 1);
}

static void synth_refuses_a_folder_that_holds_something(void **state)
{
    static const char *const taken[] = {"set/train/x", "set/val/x"};
    const struct data_synth_options options = {.classes = 2, .size = 16, .count = 10};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct err err = {0};
        char folder[256];

        strcpy(folder, below_root(taken[i]));
        assert_int_equal(file_make_folder(folder, NULL), 0);
        assert_int_equal(draw("set", options, &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_non_null(strstr(err.msg, i == 0 ? "set/train'" : "set/val'"));
        assert_int_equal(entries("set"), 1);
        assert_int_equal(rmdir(folder), 0);
        assert_int_equal(draw("set", options, NULL), 0); /* empty is as good as missing */
        assert_int_equal(nftw(below_root("set"), remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    }
}

static void synth_says_which_option_is_out_of_range(void **state)
{
    static const struct {
        struct data_synth_options options;
        const char *option;
    } cases[] = {
        {{.classes = 1, .size = 32, .count = 10}, "--classes"},
        {{.classes = 1001, .size = 32, .count = 2000}, "--classes"},
        {{.classes = 2, .size = 15, .count = 10}, "--size"},
        {{.classes = 11, .size = 32, .count = 10}, "--count"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};

        assert_int_equal(draw("set", cases[i].options, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, cases[i].option));
        assert_int_equal(entries("set"), -1);
    }
}

static void synth_leaves_nothing_when_stopped(void **state)
{
    static const volatile sig_atomic_t stop = 1;
    const struct data_synth_options options = {
        .classes = 2, .size = 64, .count = 100000, .seed = 1, .cancel = &stop};
    struct err err = {0};

    (void)state;
    assert_int_equal(draw("set", options, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_int_equal(entries("set"), 0);
}

static void synth_says_where_it_cannot_write(void **state)
{
    const struct data_synth_options options = {.classes = 2, .size = 16, .count = 10};
    struct err err = {0};

    (void)state;
    assert_int_equal(file_replace(below_root("file"), "x", 1, NULL), 0);
    assert_int_equal(draw("file", options, &err), -1);
    assert_non_null(strstr(err.msg, below_root("file")));
    assert_int_equal(draw("file/deeper", options, &err), -1);
    assert_non_null(strstr(err.msg, below_root("file")));
}

#define ROOT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROOT_TEST(synth_writes_a_balanced_folder_per_class),
        ROOT_TEST(synth_draws_the_same_bytes_for_the_same_options),
        ROOT_TEST(synth_shows_other_pictures_in_validation_than_in_training),
        cmocka_unit_test(draw_names_every_class_differently),
        cmocka_unit_test(photographs_of_a_class_share_its_colours),
        ROOT_TEST(synth_draws_photographs_of_many_sizes_with_as_many_bytes),
        ROOT_TEST(synth_draws_the_same_photographs_for_the_same_options),
        ROOT_TEST(synth_draws_the_most_classes),
        ROOT_TEST(synth_refuses_a_folder_that_holds_something),
        ROOT_TEST(synth_says_which_option_is_out_of_range),
        ROOT_TEST(synth_leaves_nothing_when_stopped),
        ROOT_TEST(synth_says_where_it_cannot_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
