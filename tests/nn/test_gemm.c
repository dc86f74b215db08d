/* tests/nn/test_gemm.c -- matrix products, above all the thin ones that are computed here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/gemm.h"
#include "trainer/nn/kernel/threads.h"

#define SIDE 40 /* larger than any side below */

static const size_t shapes[][3] = {
    {1, 1, 1}, {1, 7, 33}, {5, 1, 40}, {6, 5, 1}, {1, 17, 1}, {1, 1, 35}, {2, 2, 2}, {16, 33, 20},
};

enum form { NN, TN };

static void expect(enum form form, const size_t shape[3], const float *a, const float *b,
                   float beta, const float *before, float *c)
{
    for (size_t i = 0; i < shape[0]; i++) {
        for (size_t j = 0; j < shape[1]; j++) {
            double sum = beta == 0 ? 0 : before[i * SIDE + j];

            for (size_t l = 0; l < shape[2]; l++)
                sum += (double)(form == TN ? a[l * SIDE + i] : a[i * SIDE + l]) * b[l * SIDE + j];
            c[i * SIDE + j] = (float)sum;
        }
    }
}

static void gemm_equals_plain_loops_for_thin_and_thick_shapes(void **state)
{
    static void (*const gemm[])(size_t, size_t, size_t, const float *, size_t, const float *,
                                size_t, float, float *, size_t) = {nn_gemm_nn, nn_gemm_tn};
    float *a = numbers_new(1, SIDE * SIDE), *b = numbers_new(2, SIDE * SIDE);
    float *before = numbers_new(3, SIDE * SIDE), *c = numbers_new(3, SIDE * SIDE);
    float *expected = numbers_new(3, SIDE * SIDE);
    int wrong = 0;

    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        for (enum form form = NN; form <= TN; form++) {
            for (int beta = 0; beta <= 1; beta++) {
                numbers_fill(3, c, SIDE * SIDE); /* elements outside the shape stay as they are */
                numbers_fill(3, expected, SIDE * SIDE);
                expect(form, shapes[s], a, b, (float)beta, before, expected);
                gemm[form](shapes[s][0], shapes[s][1], shapes[s][2], a, SIDE, b, SIDE, (float)beta,
                           c, SIDE);
                wrong += numbers_differ("gemm", c, expected, SIDE * SIDE, 1e-5);
            }
        }
    }
    free(a);
    free(b);
    free(before);
    free(c);
    free(expected);
    assert_int_equal(wrong, 0);
}

static void transpose_puts_every_element_in_its_place(void **state)
{
    static const size_t sizes[][2] = {{1, 1}, {3, 50}, {33, 16}, {17, 35}};
    float *x = numbers_new(1, SIDE * SIDE), *transposed = numbers_new(2, SIDE * SIDE);

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
        const size_t rows = sizes[s][0], columns = sizes[s][1];

        nn_transpose(rows, columns, x, transposed);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                assert_true(transposed[j * rows + i] == x[i * columns + j]);
    }
    free(x);
    free(transposed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_equals_plain_loops_for_thin_and_thick_shapes),
        cmocka_unit_test(transpose_puts_every_element_in_its_place),
    };

    nn_threads_init(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
