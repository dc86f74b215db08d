/* tests/data/test_order.c -- the sample order: complete, mixed, and the same for ever. */
#include "trainer/data/index/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t sizes[] = {1, 2, 3, 7, 31, 32, 33, 100, 257, 600};
static const uint64_t chunks[] = {1, 3, 16, 256, 5000};
static const uint32_t batches[] = {1, 2, 5, 32, 100, 2000};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void permutation_is_a_bijection_with_inverse_for_every_n(void **state)
{
    bool seen[2000];

    (void)state;
    for (uint64_t n = 1; n <= 2000; n++) {
        const uint32_t key[2] = {(uint32_t)n * 2654435761u, 7};

        memset(seen, 0, sizeof seen);
        for (uint64_t x = 0; x < n; x++) {
            const uint64_t y = data_permute(x, n, key);

            assert_true(y < n);
            assert_false(seen[y]);
            seen[y] = true;
            if (n <= 300 || x % 16 == 0)
                assert_int_equal(data_unpermute(y, n, key), x);
        }
    }
}

static void permutation_works_on_huge_ranges(void **state)
{
    static const uint64_t ranges[] = {(uint64_t)1 << 32, ((uint64_t)1 << 40) + 1, UINT64_MAX};
    const uint32_t key[2] = {1, 2};

    (void)state;
    for (size_t r = 0; r < COUNT(ranges); r++)
        for (uint64_t i = 0; i < 100; i++) {
            const uint64_t x = i * (ranges[r] / 101), y = data_permute(x, ranges[r], key);

            assert_true(y < ranges[r]);
            assert_int_equal(data_unpermute(y, ranges[r], key), x);
        }
}

/* Over many keys each value goes to each place about equally often, down to the smallest ranges. */
static void permutation_sends_each_value_everywhere(void **state)
{
    static const uint64_t ranges[] = {2, 3, 4, 5, 8, 13, 16, 17};
    enum { KEYS = 20000 };

    (void)state;
    for (size_t r = 0; r < COUNT(ranges); r++) {
        const uint64_t n = ranges[r];
        unsigned hits[17][17] = {{0}};
        double chi2 = 0;

        for (uint32_t k = 0; k < KEYS; k++)
            for (uint64_t x = 0; x < n; x++)
                hits[x][data_permute(x, n, (const uint32_t[2]){k, k ^ 0x5bd1e995u})]++;
        for (uint64_t x = 0; x < n; x++)
            for (uint64_t y = 0; y < n; y++) {
                const double expected = (double)KEYS / (double)n,
                             off = (double)hits[x][y] - expected;

                chi2 += off * off / expected;
            }
        /* (n-1)^2 degrees of freedom: beyond chance, and where six rounds end up. */
        assert_true(chi2 < 1.5 * (double)((n - 1) * (n - 1)) + 15);
    }
}

/* Visit every image of an epoch; marks says how often each sample came. Returns the images. */
static uint64_t walk(const struct data_order *order, uint32_t epoch, unsigned char *marks)
{
    uint64_t images = 0;

    memset(marks, 0, order->samples);
    for (uint64_t s = 0; s < data_order_steps(order); s++) {
        uint32_t step_images = 0;

        for (uint32_t v = 0; v < order->lanes; v++) {
            const uint32_t n = data_order_lane_images(order, s, v);

            for (uint32_t i = 0; i < n; i++) {
                const uint64_t sample = data_order_sample(order, epoch, s, v, i);

                assert_true(sample < order->samples);
                marks[sample]++;
            }
            step_images += n;
        }
        assert_int_equal(step_images, data_order_step_images(order, s));
        images += step_images;
    }
    return images;
}

static void each_sample_comes_once_an_epoch_for(struct data_order order)
{
    unsigned char marks[1000];
    uint64_t missing = 0;

    for (uint32_t epoch = 0; epoch < 2; epoch++) {
        const uint64_t images = walk(&order, epoch, marks);

        missing = 0;
        for (uint64_t i = 0; i < order.samples; i++) {
            assert_true(marks[i] <= 1);
            missing += marks[i] == 0;
        }
        assert_int_equal(images, order.samples - missing);
        assert_int_equal(missing, order.drop_last ? order.samples % order.batch : 0);
    }
}

static void order_gives_each_sample_once_an_epoch(void **state)
{
    (void)state;
    for (size_t n = 0; n < COUNT(sizes); n++)
        for (size_t g = 0; g < COUNT(chunks); g++)
            for (size_t b = 0; b < COUNT(batches); b++)
                for (uint32_t lanes = 1; lanes <= 11 && lanes <= batches[b]; lanes += 1 + lanes / 4)
                    each_sample_comes_once_an_epoch_for((struct data_order){
                        .samples = sizes[n],
                        .chunk_samples = chunks[g],
                        .seed = 1,
                        .batch = batches[b],
                        .lanes = lanes,
                        .drop_last = lanes % 2 == 0,
                    });
}

static void order_gives_each_sample_once_when_last_batch_is_trained_on_even_lanes(void **state)
{
    (void)state;
    for (size_t n = 0; n < COUNT(sizes); n++)
        for (uint32_t lanes = 2; lanes <= 32; lanes += 2)
            each_sample_comes_once_an_epoch_for((struct data_order){.samples = sizes[n],
                                                                    .chunk_samples = 4,
                                                                    .seed = UINT64_MAX,
                                                                    .batch = 32,
                                                                    .lanes = lanes});
}

static void order_shares_steps_out_as_documented(void **state)
{
    static const struct {
        uint64_t samples;
        uint32_t batch, lanes;
        bool drop_last;
        uint64_t steps;
        uint32_t first[4], last[4]; /* images of the first and last step's lanes */
    } cases[] = {
        {100, 10, 3, false, 10, {4, 3, 3}, {4, 3, 3}},
        {25, 10, 3, false, 3, {4, 3, 3}, {2, 2, 1}},
        {22, 10, 4, false, 3, {3, 3, 2, 2}, {1, 1}},
        {22, 10, 4, true, 2, {3, 3, 2, 2}, {3, 3, 2, 2}},
        {3, 10, 4, false, 1, {1, 1, 1, 0}, {1, 1, 1}},
        {3, 10, 4, true, 0, {0}, {0}},
    };

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        const struct data_order order = {.samples = cases[c].samples,
                                         .chunk_samples = 2,
                                         .batch = cases[c].batch,
                                         .lanes = cases[c].lanes,
                                         .drop_last = cases[c].drop_last};

        assert_int_equal(data_order_steps(&order), cases[c].steps);
        for (uint32_t v = 0; v < order.lanes && cases[c].steps > 0; v++) {
            assert_int_equal(data_order_lane_images(&order, 0, v), cases[c].first[v]);
            assert_int_equal(data_order_lane_images(&order, cases[c].steps - 1, v),
                             cases[c].last[v]);
        }
    }
}

/* How many places of an epoch two orders have in common. */
static unsigned same_places(const struct data_order *a, uint32_t epoch_a,
                            const struct data_order *b, uint32_t epoch_b)
{
    unsigned same = 0;

    for (uint64_t s = 0; s < data_order_steps(a); s++)
        for (uint32_t v = 0; v < a->lanes; v++)
            for (uint32_t i = 0; i < data_order_lane_images(a, s, v); i++)
                same += data_order_sample(a, epoch_a, s, v, i) ==
                        data_order_sample(b, epoch_b, s, v, i);
    return same;
}

static void order_differs_between_epochs_and_seeds(void **state)
{
    const struct data_order one = {
        .samples = 4096, .chunk_samples = 8, .seed = 1, .batch = 64, .lanes = 4};
    const struct data_order two = {
        .samples = 4096, .chunk_samples = 8, .seed = 2, .batch = 64, .lanes = 4};

    (void)state;
    assert_int_equal(same_places(&one, 0, &one, 0), 4096);
    assert_true(same_places(&one, 0, &one, 1) < 40); /* by chance: one */
    assert_true(same_places(&one, 0, &two, 0) < 40);
}

/* A micro-batch draws from many chunks: else samples that lie together would be trained together.
 */
static void order_mixes_chunks_within_a_window(void **state)
{
    const struct data_order order = {
        .samples = 1600, .chunk_samples = 100, .seed = 3, .batch = 32, .lanes = 1};
    bool chunk_seen[16] = {false};
    unsigned seen = 0, neighbours = 0;

    (void)state;
    for (uint32_t i = 0; i < 32; i++) {
        const uint64_t sample = data_order_sample(&order, 0, 0, 0, i);

        seen += !chunk_seen[sample / 100];
        chunk_seen[sample / 100] = true;
        neighbours += i > 0 && sample == data_order_sample(&order, 0, 0, 0, i - 1) + 1;
    }
    assert_true(seen >= 10); /* expected 14 of 16 */
    assert_true(neighbours <= 2);
}

/* A window holds 16 chunks and no more: what a reader fetches ahead is bounded. */
static void order_stays_within_sixteen_chunks_a_window(void **state)
{
    const struct data_order order = {
        .samples = 100000, .chunk_samples = 10, .seed = 3, .batch = 32, .lanes = 1};
    bool chunk_seen[10000] = {false};
    unsigned seen = 0;

    (void)state;
    for (uint64_t place = 0; place < 160; place++) {
        const uint64_t sample = data_order_sample(&order, 0, place / 32, 0, (uint32_t)(place % 32));

        seen += !chunk_seen[sample / 10];
        chunk_seen[sample / 10] = true;
    }
    assert_int_equal(seen, 16);
}

/* Order version 1 on record. If this fails, the program has become unable to resume its own
 * checkpoints: mend the code, never the table. */
static void order_version_1_never_changes(void **state)
{
    static const struct data_order orders[] = {
        {.samples = 1281167, .chunk_samples = 36, .seed = 1, .batch = 256, .lanes = 8},
        {.samples = 50000,
         .chunk_samples = 256,
         .seed = 0x123456789abcdef0,
         .batch = 100,
         .lanes = 3},
        {.samples = 33, .chunk_samples = 4, .seed = 42, .batch = 8, .lanes = 3},
    };
    static const struct {
        int order;
        uint32_t epoch;
        uint64_t step;
        uint32_t lane, i;
        uint64_t sample;
    } table[] = {
        {0, 0, 0, 0, 0, 31467},       {0, 0, 0, 7, 31, 38112},
        {0, 0, 2500, 3, 5, 321675},   {0, 0, 5004, 0, 0, 118703},
        {0, 0, 5004, 7, 9, 1015737},  {0, 1, 0, 0, 0, 568334},
        {0, 29, 4321, 4, 17, 231999}, {0, 29, 5003, 7, 31, 937661},
        {1, 0, 0, 0, 0, 21487},       {1, 0, 0, 2, 32, 33990},
        {1, 0, 499, 0, 33, 31761},    {1, 0, 499, 2, 32, 38824},
        {1, 7, 250, 1, 11, 28126},    {1, 4000000000, 1, 1, 1, 35210},
        {2, 3, 0, 0, 0, 30},          {2, 3, 0, 0, 1, 3},
        {2, 3, 0, 0, 2, 0},           {2, 3, 0, 1, 0, 8},
        {2, 3, 0, 1, 1, 18},          {2, 3, 0, 1, 2, 9},
        {2, 3, 0, 2, 0, 20},          {2, 3, 0, 2, 1, 27},
        {2, 3, 1, 0, 0, 13},          {2, 3, 1, 0, 1, 12},
        {2, 3, 1, 0, 2, 15},          {2, 3, 1, 1, 0, 10},
        {2, 3, 1, 1, 1, 19},          {2, 3, 1, 1, 2, 6},
        {2, 3, 1, 2, 0, 23},          {2, 3, 1, 2, 1, 26},
        {2, 3, 2, 0, 0, 2},           {2, 3, 2, 0, 1, 32},
        {2, 3, 2, 0, 2, 29},          {2, 3, 2, 1, 0, 17},
        {2, 3, 2, 1, 1, 4},           {2, 3, 2, 1, 2, 5},
        {2, 3, 2, 2, 0, 24},          {2, 3, 2, 2, 1, 25},
        {2, 3, 3, 0, 0, 14},          {2, 3, 3, 0, 1, 31},
        {2, 3, 3, 0, 2, 1},           {2, 3, 3, 1, 0, 7},
        {2, 3, 3, 1, 1, 16},          {2, 3, 3, 1, 2, 11},
        {2, 3, 3, 2, 0, 21},          {2, 3, 3, 2, 1, 22},
        {2, 3, 4, 0, 0, 28},
    };

    (void)state;
    assert_int_equal(DATA_ORDER_VERSION, 1);
    for (size_t t = 0; t < COUNT(table); t++)
        assert_int_equal(data_order_sample(&orders[table[t].order], table[t].epoch, table[t].step,
                                           table[t].lane, table[t].i),
                         table[t].sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutation_is_a_bijection_with_inverse_for_every_n),
        cmocka_unit_test(permutation_works_on_huge_ranges),
        cmocka_unit_test(permutation_sends_each_value_everywhere),
        cmocka_unit_test(order_gives_each_sample_once_an_epoch),
        cmocka_unit_test(order_gives_each_sample_once_when_last_batch_is_trained_on_even_lanes),
        cmocka_unit_test(order_shares_steps_out_as_documented),
        cmocka_unit_test(order_differs_between_epochs_and_seeds),
        cmocka_unit_test(order_mixes_chunks_within_a_window),
        cmocka_unit_test(order_stays_within_sixteen_chunks_a_window),
        cmocka_unit_test(order_version_1_never_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
