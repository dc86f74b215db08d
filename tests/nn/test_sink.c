/* tests/nn/test_sink.c -- leaving rows through a sink, against the formulas in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "tests/nn/rows_bed.h"
#include "trainer/nn/kernel/sink.h"

#define BLOCKS 3

/* Rows in the order in which calls leave them. A row outside is in no block. */
static const struct call {
    size_t block, row, rows;
    bool first;
} calls[] = {
    {2, 20, 5, true}, {0, 2, 1, true},   {2, 25, 1, false}, {0, 3, 8, false},
    {1, 11, 9, true}, {2, 30, 4, false}, {0, 35, 2, false},
};

/* Channels in the order in which each of those leaves them. */
static const struct cut {
    const char *name;
    struct range range[3];
} cuts[] = {
    {"all channels", {{0, C}}},
    {"channels from the front", {{0, 7}, {7, 9}, {16, 7}}},
    {"channels from the end", {{16, 7}, {1, 15}, {0, 1}}},
};

static size_t block_of(size_t row)
{
    for (size_t i = 0; i < COUNT(calls); i++)
        if (row >= calls[i].row && row < calls[i].row + calls[i].rows)
            return calls[i].block;
    return BLOCKS;
}

struct drain {
    struct bed bed;
    struct nn_sink sink;
    float before[ROWS * C], out[ROWS * C], x[2][ROWS * C];
    float sums[BLOCKS * NN_BLOCK_SUMS * C];
    uint32_t block_rows[BLOCKS];
};

static void drain_fill(struct drain *drain, enum nn_sink_kind kind)
{
    bed_fill(&drain->bed);
    memcpy(drain->before, drain->bed.y, sizeof(drain->before));
    numbers_fill(20, drain->out, ROWS * C);
    numbers_fill(21, drain->x[0], ROWS * C);
    numbers_fill(22, drain->x[1], ROWS * C);
    numbers_fill(23, drain->sums, COUNT(drain->sums)); /* left from other layers */
    for (size_t i = 0; i < BLOCKS; i++)
        drain->block_rows[i] = 1000;
    drain->sink = (struct nn_sink){
        .kind = kind,
        .c = C,
        .y = drain->bed.y,
        .sums = drain->sums,
        .block_rows = drain->block_rows,
        .bias = drain->bed.vectors[BIAS],
        .affine = affine_at(&drain->bed, MEAN),
        .norm_x = {drain->x[0], drain->x[1]},
        .norm_mean = {drain->bed.vectors[MEAN], drain->bed.vectors[OTHER_MEAN]},
    };
}

static void leave_all(struct drain *drain, const struct cut *cut)
{
    for (size_t i = 0; i < COUNT(calls); i++)
        for (size_t r = 0; r < COUNT(cut->range) && cut->range[r].count > 0; r++)
            nn_sink_rows(&drain->sink, calls[i].block, calls[i].first, calls[i].row, calls[i].rows,
                         cut->range[r].begin, cut->range[r].count);
}

/* The sum of what `term` says over the rows of a block, for channel j. */
static double sum_of(const struct drain *drain, size_t block, size_t j,
                     double (*term)(const struct drain *drain, size_t block, size_t at))
{
    double sum = 0;

    for (size_t row = 0; row < ROWS; row++)
        if (block_of(row) == block)
            sum += term(drain, block, row * C + j);
    return sum;
}

static int sums_differ(const struct drain *drain, const char *name, int number,
                       double (*term)(const struct drain *drain, size_t block, size_t at))
{
    int wrong = 0;

    for (size_t block = 0; block < BLOCKS; block++)
        for (size_t j = 0; j < C; j++)
            wrong += !is_near(drain->sums[(block * NN_BLOCK_SUMS + (size_t)number) * C + j],
                              sum_of(drain, block, j, term));
    if (wrong > 0)
        print_error("%s: %d of sums %d\n", name, wrong, number);
    return wrong;
}

static double rows_term(const struct drain *drain, size_t block, size_t at)
{
    (void)drain;
    (void)block;
    (void)at;
    return 1;
}

static int block_rows_differ(const struct drain *drain)
{
    int wrong = 0;

    for (size_t block = 0; block < BLOCKS; block++)
        wrong += drain->block_rows[block] != sum_of(drain, block, 0, rows_term);
    return wrong;
}

static double pivot_of(const struct drain *drain, size_t block, size_t at)
{
    static const size_t first_rows[BLOCKS] = {2, 11, 20};

    return drain->before[first_rows[block] * C + at % C];
}

static double distance_term(const struct drain *drain, size_t block, size_t at)
{
    return drain->before[at] - pivot_of(drain, block, at);
}

static double square_term(const struct drain *drain, size_t block, size_t at)
{
    return pow(distance_term(drain, block, at), 2);
}

static void sink_measures_each_block_about_its_first_row(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t c = 0; c < COUNT(cuts); c++) {
        struct drain drain;

        drain_fill(&drain, NN_SINK_MEASURE);
        leave_all(&drain, &cuts[c]);
        assert_memory_equal(drain.bed.y, drain.before, sizeof(drain.before));
        wrong += sums_differ(&drain, cuts[c].name, 0, distance_term);
        wrong += sums_differ(&drain, cuts[c].name, 1, square_term);
        for (size_t block = 0; block < BLOCKS; block++)
            for (size_t j = 0; j < C; j++)
                wrong += drain.sums[(block * NN_BLOCK_SUMS + 2) * C + j] !=
                         (float)pivot_of(&drain, block, j);
        wrong += block_rows_differ(&drain);
    }
    assert_int_equal(wrong, 0);
}

/* y of rows that were left against `expected`, and the others against what was there. */
static int result_differs(const struct drain *drain, const char *name,
                          double (*expected)(const struct drain *drain, size_t block, size_t at))
{
    int wrong = 0;

    for (size_t at = 0; at < ROWS * C; at++) {
        const size_t block = block_of(at / C);
        const double y = block == BLOCKS ? drain->before[at] : expected(drain, block, at);

        wrong += !is_near(drain->bed.y[at], y);
    }
    if (wrong > 0)
        print_error("%s: %d results\n", name, wrong);
    return wrong;
}

static double finished(const struct drain *drain, size_t block, size_t at)
{
    const double y = (double)drain->before[at] + drain->sink.bias[at % C] +
                     (drain->sink.residual != NULL ? drain->sink.residual[at] : 0);

    (void)block;
    return drain->sink.relu ? rectified(y) : y;
}

static void sink_finishes_with_bias_residual_and_relu_where_there_are_some(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t c = 0; c < COUNT(cuts); c++) {
        for (int form = 0; form < 4; form++) {
            struct drain drain;

            drain_fill(&drain, NN_SINK_FINISH);
            drain.sink.relu = form % 2 == 1;
            drain.sink.residual = form / 2 == 1 ? drain.bed.other : NULL;
            leave_all(&drain, &cuts[c]);
            wrong += result_differs(&drain, cuts[c].name, finished);
        }
    }
    assert_int_equal(wrong, 0);
}

static double masked(const struct drain *drain, size_t block, size_t at)
{
    const struct nn_sink *sink = &drain->sink;
    double z = affine_value(&drain->bed, MEAN, drain->x[0][at], at % C);

    (void)block;
    if (sink->out != NULL)
        z = sink->out[at];
    else if (sink->other != NULL && sink->other_affine.mean == NULL)
        z += sink->other[at];
    else if (sink->other != NULL)
        z += affine_value(&drain->bed, OTHER_MEAN, sink->other[at], at % C);
    return z <= 0 ? 0 : drain->before[at];
}

static double first_product(const struct drain *drain, size_t block, size_t at)
{
    return masked(drain, block, at) * (drain->x[0][at] - (double)drain->bed.vectors[MEAN][at % C]);
}

static double second_product(const struct drain *drain, size_t block, size_t at)
{
    return masked(drain, block, at) *
           (drain->x[1][at] - (double)drain->bed.vectors[OTHER_MEAN][at % C]);
}

enum shut_by { INPUT, OUTPUT, JOIN, JOIN_SCALED };

static const struct masking {
    const char *name;
    enum shut_by by;
    int norms;
} maskings[] = {
    {"by input, one norm", INPUT, 1},
    {"by input, two norms", INPUT, 2},
    {"by output, one norm", OUTPUT, 1},
    {"by output, two norms", OUTPUT, 2},
    {"by a join, one norm", JOIN, 1},
    {"by a join, two norms", JOIN, 2},
    {"by a join of two norms, one norm", JOIN_SCALED, 1},
    {"by a join of two norms, two norms", JOIN_SCALED, 2},
};

static int masking_differs(const struct masking *masking, const struct cut *cut)
{
    struct drain drain;
    int wrong = 0;

    drain_fill(&drain, NN_SINK_MASK);
    drain.sink.out = masking->by == OUTPUT ? drain.out : NULL;
    if (masking->by == JOIN || masking->by == JOIN_SCALED)
        drain.sink.other = drain.bed.other;
    if (masking->by == JOIN_SCALED)
        drain.sink.other_affine = affine_at(&drain.bed, OTHER_MEAN);
    drain.sink.norms = masking->norms;
    drain.out[4 * C + 1] = 0; /* a ReLU is shut there */
    leave_all(&drain, cut);
    wrong += result_differs(&drain, masking->name, masked);
    wrong += sums_differ(&drain, masking->name, 0, masked) + block_rows_differ(&drain);
    wrong += sums_differ(&drain, masking->name, 1, first_product);
    if (masking->norms > 1)
        wrong += sums_differ(&drain, masking->name, 2, second_product);
    return wrong;
}

static void sink_masks_a_gradient_and_sums_it_for_each_norm(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t m = 0; m < COUNT(maskings); m++)
        for (size_t c = 0; c < COUNT(cuts); c++)
            wrong += masking_differs(&maskings[m], &cuts[c]);
    assert_int_equal(wrong, 0);
}

static void sink_leaves_plain_rows_alone(void **state)
{
    struct drain drain, untouched;

    (void)state;
    memset(&drain, 0, sizeof(drain));
    drain_fill(&drain, NN_SINK_PLAIN);
    memcpy(&untouched, &drain, sizeof(drain));
    leave_all(&drain, &cuts[1]);
    assert_memory_equal(&drain, &untouched, sizeof(drain));
}

/* `channel` and the one behind it, of a row in block 1. */
static void check_nan(size_t channel)
{
    struct drain drain;
    const size_t at = 12 * C + channel;
    const float *sums = drain.sums + 1 * NN_BLOCK_SUMS * C + channel;

    drain_fill(&drain, NN_SINK_FINISH);
    drain.sink.relu = true;
    drain.bed.y[at] = NAN;
    leave_all(&drain, &cuts[0]);
    assert_true(isnan(drain.bed.y[at]) && !isnan(drain.bed.y[at + 1]));

    drain_fill(&drain, NN_SINK_MEASURE);
    drain.bed.y[at] = NAN;
    leave_all(&drain, &cuts[0]);
    assert_true(isnan(sums[0]) && isnan(sums[C]));

    drain_fill(&drain, NN_SINK_MASK);
    drain.sink.norms = 1;
    drain.sink.out = drain.out;
    drain.out[at] = NAN; /* not known to be shut */
    drain.out[at + 1] = 1;
    drain.bed.y[at + 1] = NAN;
    leave_all(&drain, &cuts[0]);
    assert_true(drain.bed.y[at] == drain.before[at] && isnan(drain.bed.y[at + 1]));
    assert_true(isnan(sums[1]));
}

static void sink_keeps_a_nan(void **state)
{
    (void)state;
    check_nan(3);     /* in a vector */
    check_nan(C - 3); /* behind the last one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sink_measures_each_block_about_its_first_row),
        cmocka_unit_test(sink_finishes_with_bias_residual_and_relu_where_there_are_some),
        cmocka_unit_test(sink_masks_a_gradient_and_sums_it_for_each_norm),
        cmocka_unit_test(sink_leaves_plain_rows_alone),
        cmocka_unit_test(sink_keeps_a_nan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
