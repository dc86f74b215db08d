/* tests/data/test_plan.c -- groups of samples, and the ranges that hold them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/stream/group.h"
#include "trainer/data/stream/plan.h"

#define SAMPLES 300
#define BIG     ((uint64_t)1 << 40)

static struct data_sample samples[SAMPLES];
static struct data_index index_of_shards = {.sharded = true, .count = SAMPLES, .samples = samples};

/* Pictures of `bytes(i)` bytes one behind another as `convoy pack` lays them, `each` a shard. */
static void lay(uint32_t (*bytes)(uint32_t i), uint32_t each)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < SAMPLES; i++) {
        const uint64_t size = bytes(i);

        end = i % each == 0 ? 0 : end;
        samples[i] = (struct data_sample){
            .key = "a/x.jpg", .offset = end + TAR_BLOCK, .bytes = (uint32_t)size, .file = i / each};
        end += TAR_BLOCK + (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK + 2 * (uint64_t)TAR_BLOCK;
    }
}

static uint32_t of_1000(uint32_t i)
{
    (void)i;
    return 1000;
}

static uint32_t of_all_sizes(uint32_t i)
{
    static const uint32_t sizes[] = {1, 511, 512, 513, 1023, 70000, 3, 1024};

    return sizes[i % 8];
}

static void draw(struct philox *philox, uint64_t *wanted, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        wanted[i] = i;
    for (uint32_t i = count; i-- > 1;) {
        const uint32_t j = philox_u32(philox) % (i + 1);
        const uint64_t other = wanted[i];

        wanted[i] = wanted[j];
        wanted[j] = other;
    }
}

/* Every sample is in one range, lies within it, and ranges are as their header says. */
static void check(const struct data_plan *plan, const uint64_t *wanted, uint32_t count,
                  uint64_t range_bytes)
{
    bool seen[SAMPLES] = {false};
    uint32_t in_all = 0;

    for (size_t r = 0; r < plan->range_count; r++) {
        const struct data_plan_range *range = &plan->ranges[r];
        uint64_t bytes = 0;
        uint32_t need = UINT32_MAX;

        assert_true(range->count > 0);
        assert_true(range->count == 1 || range->length <= range_bytes);
        assert_true(r == 0 || plan->ranges[r - 1].need < range->need);
        for (uint32_t i = range->first; i < range->first + range->count; i++) {
            const uint32_t place = plan->by_file[i];
            const struct data_sample *sample = &samples[wanted[place]];

            assert_false(seen[place]);
            seen[place] = true;
            assert_int_equal(sample->file, range->file);
            assert_true(sample->offset >= range->offset);
            assert_true(sample->offset + sample->bytes <= range->offset + range->length);
            bytes += sample->bytes;
            need = place < need ? place : need;
        }
        assert_int_equal(bytes, range->bytes);
        assert_int_equal(need, range->need);
        in_all += range->count;
    }
    assert_int_equal(in_all, count);
}

/* As a group does it. */
static void make_plan(struct data_plan *plan, const struct data_index *index,
                      const uint64_t *wanted, uint32_t count, uint64_t range_bytes)
{
    struct data_sample entries[SAMPLES];

    for (uint32_t i = 0; i < count; i++)
        entries[i] = samples[wanted[i]];
    data_plan_init(plan, index, entries, NULL, count, range_bytes);
}

static void plan_of_nothing_is_nothing(void **state)
{
    struct data_plan plan;

    (void)state;
    make_plan(&plan, &index_of_shards, NULL, 0, BIG);
    assert_int_equal(plan.range_count, 0);
    data_plan_release(&plan);
    data_plan_release(&plan);
}

static void plan_merges_neighbours_in_a_shard_whatever_their_order_and_size(void **state)
{
    uint64_t wanted[SAMPLES];
    struct data_plan plan;
    struct philox philox;

    (void)state;
    philox_init(&philox, 1, 0, 0, PHILOX_ORDER);
    lay(of_all_sizes, 100);
    draw(&philox, wanted, SAMPLES);
    make_plan(&plan, &index_of_shards, wanted, SAMPLES, BIG);
    check(&plan, wanted, SAMPLES, BIG);
    assert_int_equal(plan.range_count, 3); /* one a shard */
    data_plan_release(&plan);
}

static void plan_does_not_read_over_a_picture_that_is_not_wanted(void **state)
{
    /* 4 is missing, and 9 begins another shard. */
    static const uint64_t wanted[] = {8, 2, 9, 3, 5, 7, 6};
    struct data_plan plan;

    (void)state;
    lay(of_1000, 9);
    make_plan(&plan, &index_of_shards, wanted, 7, BIG);
    check(&plan, wanted, 7, BIG);
    assert_int_equal(plan.range_count, 3);
    assert_int_equal(plan.ranges[0].offset, samples[5].offset);
    assert_int_equal(plan.ranges[0].length, samples[8].offset + 1000 - samples[5].offset);
    assert_int_equal(plan.ranges[1].count, 2);
    assert_int_equal(plan.ranges[2].count, 1);
    data_plan_release(&plan);
    /* A picture of one byte that is left out is a gap too. */
    lay(of_all_sizes, SAMPLES);
    make_plan(&plan, &index_of_shards, (const uint64_t[]){7, 9}, 2, BIG);
    assert_int_equal(plan.range_count, 2);
    data_plan_release(&plan);
}

static void plan_keeps_ranges_below_the_limit_and_reads_larger_pictures_alone(void **state)
{
    static const uint64_t limits[] = {1, 1000, 4096, 65536, 70000, 100000};

    (void)state;
    lay(of_all_sizes, 150);
    for (size_t l = 0; l < sizeof limits / sizeof *limits; l++) {
        uint64_t wanted[SAMPLES];
        struct data_plan plan;
        struct philox philox;

        philox_init(&philox, l, 0, 0, PHILOX_ORDER);
        draw(&philox, wanted, SAMPLES);
        make_plan(&plan, &index_of_shards, wanted, SAMPLES, limits[l]);
        check(&plan, wanted, SAMPLES, limits[l]);
        data_plan_release(&plan);
    }
}

static void plan_of_a_folder_has_a_range_a_picture(void **state)
{
    struct data_index folder = {.count = SAMPLES, .samples = samples};
    uint64_t wanted[SAMPLES];
    struct data_plan plan;

    (void)state;
    lay(of_1000, SAMPLES);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        samples[i].offset = 0;
        wanted[i] = SAMPLES - 1 - i;
    }
    make_plan(&plan, &folder, wanted, SAMPLES, BIG);
    check(&plan, wanted, SAMPLES, BIG);
    assert_int_equal(plan.range_count, SAMPLES);
    assert_int_equal(plan.ranges[0].length, 1000);
    data_plan_release(&plan);
}

static void group_ends_with_its_window_its_bytes_or_its_lane(void **state)
{
    static const struct {
        const char *name;
        uint64_t place, bytes_max;
        uint32_t count;
    } cases[] = {
        {"a window", 0, BIG, 40},
        {"the rest of a window", 75, BIG, 5},
        {"the last window", 280, BIG, 20},
        {"the last place", 299, BIG, 1},
        {"bytes", 40, 7000, 7},
        {"a byte less", 40, 6999, 6},
        {"one that is larger than all", 40, 999, 1},
    };

    (void)state;
    lay(of_1000, SAMPLES);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const struct data_group_cut cut = {.index = &index_of_shards,
                                           .place = cases[c].place,
                                           .places = SAMPLES,
                                           .window = 40,
                                           .bytes_max = cases[c].bytes_max,
                                           .range_bytes = BIG};
        struct data_group *group = data_group_new(&cut);

        if (group->count != cases[c].count)
            fail_msg("%s: %u samples", cases[c].name, group->count);
        for (uint32_t i = 0; i < group->count; i++) {
            assert_int_equal(group->samples[i], cases[c].place + i);
            assert_int_equal(group->range_of[i], 0);
        }
        data_group_free(group);
    }
    data_group_free(NULL);
}

static void groups_of_a_lane_are_its_order(void **state)
{
    const struct data_order order = {
        .samples = SAMPLES, .chunk_samples = 3, .seed = 5, .batch = 20, .lanes = 3};
    struct data_group_cut cut = {.index = &index_of_shards,
                                 .order = &order,
                                 .epoch = 4,
                                 .window = data_order_window_places(&order),
                                 .bytes_max = 20000,
                                 .range_bytes = 9000};

    (void)state;
    lay(of_1000, 77);
    for (cut.lane = 0; cut.lane < 3; cut.lane++) {
        cut.places = data_order_lane_places(&order, cut.lane);
        for (cut.place = 0; cut.place < cut.places;) {
            struct data_group *group = data_group_new(&cut);

            assert_true(group->count > 0 && group->begin == cut.place);
            check(&group->plan, group->samples, group->count, 9000);
            for (uint32_t i = 0; i < group->count; i++)
                assert_int_equal(group->samples[i],
                                 data_order_place_sample(&order, 4, cut.lane, group->begin + i));
            cut.place += group->count;
            data_group_free(group);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_of_nothing_is_nothing),
        cmocka_unit_test(plan_merges_neighbours_in_a_shard_whatever_their_order_and_size),
        cmocka_unit_test(plan_does_not_read_over_a_picture_that_is_not_wanted),
        cmocka_unit_test(plan_keeps_ranges_below_the_limit_and_reads_larger_pictures_alone),
        cmocka_unit_test(plan_of_a_folder_has_a_range_a_picture),
        cmocka_unit_test(group_ends_with_its_window_its_bytes_or_its_lane),
        cmocka_unit_test(groups_of_a_lane_are_its_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
