/* tests/nn/test_source.c -- reading rows through a source, against the formulas in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nn/rows_bed.h"
#include "trainer/nn/kernel/source.h"

#define GUARD 77777.0f

static const struct range ranges[] = {{16, 7}, {5, 1}, {0, 16}, {C, 0}, {0, C}};

static const struct reading {
    const char *name;
    enum nn_source_kind kind;
    bool other_affine, other_source;
} readings[] = {
    {"plain", NN_SOURCE_PLAIN, false, false},
    {"scaled", NN_SOURCE_SCALED, false, false},
    {"joined", NN_SOURCE_JOINED, false, false},
    {"joined, both scaled", NN_SOURCE_JOINED, true, false},
    {"joined with what another source reads", NN_SOURCE_JOINED, false, true},
    {"gradient", NN_SOURCE_GRADIENT, false, false},
};

static struct nn_source source_of(const struct bed *bed, const struct reading *reading)
{
    return (struct nn_source){
        .kind = reading->kind,
        .c = C,
        .x = bed->x,
        .other = reading->other_source ? NULL : bed->other,
        .other_source = reading->other_source ? &bed->inner : NULL,
        .affine = affine_at(bed, MEAN),
        .other_affine = reading->other_affine ? affine_at(bed, OTHER_MEAN) : (struct nn_affine){0},
        .mean = bed->vectors[MEAN],
        .share = bed->vectors[SHARE],
        .pull = bed->vectors[PULL],
        .slope = bed->vectors[SLOPE],
    };
}

/* The other operand of a join. */
static double seen_other(const struct bed *bed, const struct reading *reading, size_t at)
{
    const double affine = affine_value(bed, OTHER_MEAN, bed->other[at], at % C);

    if (reading->other_source)
        return rectified(affine);
    return reading->other_affine ? affine : bed->other[at];
}

/* What the reader of element `at` should see. */
static double seen(const struct bed *bed, const struct reading *reading, size_t at)
{
    const size_t j = at % C;
    const double x = bed->x[at];

    switch (reading->kind) {
    case NN_SOURCE_PLAIN:
        return x;
    case NN_SOURCE_SCALED:
        return rectified(affine_value(bed, MEAN, x, j));
    case NN_SOURCE_JOINED:
        return rectified(affine_value(bed, MEAN, x, j) + seen_other(bed, reading, at));
    case NN_SOURCE_GRADIENT:
        return bed->vectors[SLOPE][j] * ((double)bed->other[at] - bed->vectors[SHARE][j] -
                                         (x - bed->vectors[MEAN][j]) * bed->vectors[PULL][j]);
    }
    return NAN;
}

/* Read rows 3 to 29 in two calls into rows of `step` floats, and look at every float of out. */
static int range_differs(const struct bed *bed, const struct reading *reading,
                         const struct nn_source *source, struct range range, size_t step)
{
    const size_t begin = 3, cut = 11, end = 29;
    float out[ROWS * (C + 9)];
    int wrong = 0;

    for (size_t i = 0; i < COUNT(out); i++)
        out[i] = GUARD;
    nn_source_read(source, begin, cut - begin, range.begin, range.count, out + begin * step, step);
    nn_source_read(source, cut, end - cut, range.begin, range.count, out + cut * step, step);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t j = 0; j < step; j++) {
            const bool read = i >= begin && i < end && j < range.count;
            const float found = out[i * step + j];

            wrong += read ? !is_near(found, seen(bed, reading, i * C + range.begin + j))
                          : found != GUARD;
        }
    }
    if (wrong > 0)
        print_error("%s, channels from %zu on, step %zu: %d floats\n", reading->name, range.begin,
                    step, wrong);
    return wrong;
}

static void source_read_equals_its_formula_for_any_channels_and_step(void **state)
{
    struct bed bed;
    int wrong = 0;

    (void)state;
    bed_fill(&bed);
    for (size_t k = 0; k < COUNT(readings); k++) {
        const struct nn_source source = source_of(&bed, &readings[k]);

        for (size_t r = 0; r < COUNT(ranges); r++) {
            wrong += range_differs(&bed, &readings[k], &source, ranges[r], ranges[r].count);
            wrong += range_differs(&bed, &readings[k], &source, ranges[r], C + 9);
        }
    }
    assert_int_equal(wrong, 0);
}

/* Rows 3 to 29 of channels 5 to 20: what was read is in the store, and nothing else changed. */
static int store_differs(const struct nn_source *source, const float *before)
{
    const size_t begin = 3, rows = 26, first = 5, count = 15;
    float out[ROWS * C];
    int wrong = 0;

    nn_source_read(source, begin, rows, first, count, out, count);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t j = 0; j < C; j++) {
            const bool read = i >= begin && i < begin + rows && j >= first && j < first + count;
            const float *expected =
                read ? out + (i - begin) * count + (j - first) : before + i * C + j;

            wrong += memcmp(source->store + i * C + j, expected, sizeof(*expected)) != 0;
        }
    }
    return wrong;
}

static void source_leaves_what_was_read_in_its_store(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(readings); k++) {
        struct bed bed;
        struct nn_source source;
        float before[ROWS * C];

        bed_fill(&bed);
        source = source_of(&bed, &readings[k]);
        source.store = bed.y;
        memcpy(before, bed.y, sizeof(before));
        assert_int_equal(store_differs(&source, before), 0);
    }
}

static void source_reads_the_same_when_its_store_is_x_itself(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(readings); k++) {
        struct bed bed;
        struct nn_source source;
        float expected[ROWS * C], found[ROWS * C], before[ROWS * C];

        bed_fill(&bed);
        source = source_of(&bed, &readings[k]);
        memcpy(before, bed.x, sizeof(before));
        nn_source_read(&source, 0, ROWS, 0, C, expected, C);
        source.store = bed.x;
        nn_source_read(&source, 0, ROWS, 0, C, found, C);
        assert_memory_equal(found, expected, sizeof(expected));
        assert_memory_equal(bed.x, expected, sizeof(expected));
        bed_fill(&bed);
        assert_int_equal(store_differs(&source, before), 0);
    }
}

static void source_passes_a_nan_through_relu(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(readings); k++) {
        struct bed bed;
        struct nn_source source;
        float out[ROWS * C];
        int nans = 0;

        bed_fill(&bed);
        bed.x[5 * C + 3] = NAN;
        bed.other[9 * C + 17] = NAN;
        source = source_of(&bed, &readings[k]);
        nn_source_read(&source, 0, ROWS, 0, C, out, C);
        for (size_t i = 0; i < COUNT(out); i++)
            nans += isnan(out[i]) != 0;
        assert_true(isnan(out[5 * C + 3]));
        if (readings[k].kind == NN_SOURCE_JOINED || readings[k].kind == NN_SOURCE_GRADIENT) {
            assert_true(isnan(out[9 * C + 17]));
            nans--;
        }
        assert_int_equal(nans, 1);
    }
}

static void source_is_plain_only_if_nothing_is_done_to_its_rows(void **state)
{
    struct bed bed;

    (void)state;
    bed_fill(&bed);
    for (size_t k = 0; k < COUNT(readings); k++) {
        struct nn_source source = source_of(&bed, &readings[k]);

        assert_int_equal(nn_source_is_plain(&source), readings[k].kind == NN_SOURCE_PLAIN);
        source.store = bed.y;
        assert_false(nn_source_is_plain(&source));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source_read_equals_its_formula_for_any_channels_and_step),
        cmocka_unit_test(source_leaves_what_was_read_in_its_store),
        cmocka_unit_test(source_reads_the_same_when_its_store_is_x_itself),
        cmocka_unit_test(source_passes_a_nan_through_relu),
        cmocka_unit_test(source_is_plain_only_if_nothing_is_done_to_its_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
