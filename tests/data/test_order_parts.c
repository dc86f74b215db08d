/* tests/data/test_order_parts.c -- where hosts have samples of their own: each once an epoch, by
 * the lanes that can read them, whoever has how many. */
#include "trainer/data/index/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"

#define PARTS_MAX   5
#define SAMPLES_MAX 2000

struct drawn {
    struct data_order order;
    struct data_order_part parts[PARTS_MAX];
};

static void draw(struct drawn *drawn, struct philox *philox)
{
    uint64_t samples = 0;
    uint32_t lane = 0;

    *drawn = (struct drawn){.order = {.chunk_samples = 1 + philox_below(philox, 20),
                                      .seed = philox_u32(philox),
                                      .drop_last = philox_below(philox, 3) == 0,
                                      .part_count = 1 + philox_below(philox, PARTS_MAX)}};
    drawn->order.parts = drawn->parts;
    for (uint32_t p = 0; p < drawn->order.part_count; p++) {
        struct data_order_part *const part = &drawn->parts[p];

        part->sample_begin = samples;
        part->samples = philox_below(philox, 4) == 0 ? 0 : philox_below(philox, 300);
        part->lane_begin = lane;
        part->lanes = 1 + philox_below(philox, 4);
        samples += part->samples;
        lane += part->lanes;
    }
    drawn->order.samples = samples;
    drawn->order.lanes = lane;
    drawn->order.batch = lane + philox_below(philox, 60);
}

static uint32_t part_of_lane(const struct drawn *drawn, uint32_t lane)
{
    uint32_t p = 0;

    while (lane >= drawn->parts[p].lane_begin + drawn->parts[p].lanes)
        p++;
    return p;
}

/* One micro-batch: its samples are its part's, and were not seen before. */
static uint32_t see_lane(const struct drawn *drawn, uint32_t epoch, uint64_t step, uint32_t lane,
                         bool *seen)
{
    const struct data_order_part *const part = &drawn->parts[part_of_lane(drawn, lane)];
    const uint32_t images = data_order_lane_images(&drawn->order, step, lane);

    for (uint32_t i = 0; i < images; i++) {
        const uint64_t sample = data_order_sample(&drawn->order, epoch, step, lane, i),
                       place = data_order_place(&drawn->order, step, lane, i);

        assert_true(sample >= part->sample_begin && sample < part->sample_begin + part->samples);
        assert_false(seen[sample]);
        seen[sample] = true;
        assert_true(place < data_order_lane_places(&drawn->order, lane));
        assert_int_equal(data_order_place_step(&drawn->order, lane, place), step);
        assert_int_equal(data_order_place_sample(&drawn->order, epoch, lane, place), sample);
    }
    return images;
}

static void each_sample_comes_once_from_its_own_part(void **state)
{
    static bool seen[SAMPLES_MAX];
    struct philox philox;
    struct drawn drawn;

    (void)state;
    philox_init(&philox, 7, 0, 0, PHILOX_ORDER);
    for (int round = 0; round < 300; round++) {
        const uint32_t epoch = (uint32_t)round % 3;
        uint64_t images = 0, steps, most = 0;

        draw(&drawn, &philox);
        steps = data_order_steps(&drawn.order);
        memset(seen, 0, sizeof seen);
        for (uint64_t step = 0; step < steps; step++) {
            uint32_t of_step = 0;

            assert_int_equal(data_order_images_before(&drawn.order, step), images);
            for (uint32_t lane = 0; lane < drawn.order.lanes; lane++)
                of_step += see_lane(&drawn, epoch, step, lane, seen);
            assert_int_equal(data_order_step_images(&drawn.order, step), of_step);
            assert_true(of_step > 0 && of_step <= drawn.order.batch);
            images += of_step;
        }
        assert_int_equal(data_order_images(&drawn.order), images);
        if (!drawn.order.drop_last)
            assert_int_equal(images, drawn.order.samples);
        for (uint32_t lane = 0; lane < drawn.order.lanes; lane++)
            most += data_order_lane_places(&drawn.order, lane);
        assert_int_equal(most, images);
    }
}

static void parts_of_a_size_are_not_shuffled_alike(void **state)
{
    const struct data_order_part parts[] = {{0, 200, 0, 1}, {200, 200, 1, 1}};
    const struct data_order order = {.samples = 400,
                                     .chunk_samples = 4,
                                     .seed = 1,
                                     .batch = 20,
                                     .lanes = 2,
                                     .parts = parts,
                                     .part_count = 2};
    int equal = 0;

    (void)state;
    for (uint64_t place = 0; place < 200; place++)
        equal += data_order_place_sample(&order, 0, 0, place) + 200 ==
                 data_order_place_sample(&order, 0, 1, place);
    assert_true(equal < 20);
}

static void one_part_shares_steps_out_as_all_do(void **state)
{
    const struct data_order_part part = {0, 107, 0, 3};
    const struct data_order whole = {.samples = 107,
                                     .chunk_samples = 8,
                                     .seed = 1,
                                     .batch = 20,
                                     .lanes = 3},
                            parted = {.samples = 107,
                                      .chunk_samples = 8,
                                      .seed = 1,
                                      .batch = 20,
                                      .lanes = 3,
                                      .parts = &part,
                                      .part_count = 1};

    (void)state;
    assert_int_equal(data_order_steps(&parted), data_order_steps(&whole));
    for (uint64_t step = 0; step < data_order_steps(&whole); step++)
        for (uint32_t lane = 0; lane < 3; lane++)
            assert_int_equal(data_order_lane_images(&parted, step, lane),
                             data_order_lane_images(&whole, step, lane));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sample_comes_once_from_its_own_part),
        cmocka_unit_test(parts_of_a_size_are_not_shuffled_alike),
        cmocka_unit_test(one_part_shares_steps_out_as_all_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
