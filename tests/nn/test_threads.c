/* tests/nn/test_threads.c -- the arithmetic's environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cblas.h>
#include <immintrin.h>
#include <omp.h>

#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/threads.h"

static void threads_treat_denormals_as_zero(void **state)
{
    volatile float small = 1e-30f, tiny = 1e-10f;

    (void)state;
    nn_threads_init(2);
    assert_true(small * tiny == 0);
}

/* New threads inherit the mode of the one that makes them, so the pool is made before. */
static void threads_of_the_pool_treat_denormals_as_zero_too(void **state)
{
    int wrong = 0;

    (void)state;
    omp_set_num_threads(2);
    _mm_setcsr(_mm_getcsr() & ~(0x8000u | 0x0040u)); /* FTZ and DAZ off */
#pragma omp parallel num_threads(2)
    _mm_setcsr(_mm_getcsr() & ~(0x8000u | 0x0040u));
    nn_threads_init(2);
#pragma omp parallel num_threads(2)
    {
        volatile float small = 1e-30f, tiny = 1e-10f;

        if (small * tiny != 0 || omp_get_num_threads() != 2) {
#pragma omp atomic write
            wrong = 1;
        }
    }
    assert_int_equal(wrong, 0);
}

static void openblas_computes_with_one_thread(void **state)
{
    (void)state;
    openblas_set_num_threads(2);
    nn_threads_init(2);
    assert_int_equal(openblas_get_num_threads(), 1);
}

static void numerics_id_names_build_kernels_and_openblas(void **state)
{
    char kernels[32];
    const char *const parts[] = {"convoy ", kernels, " conv gemm, ", "OpenBLAS 0."};

    (void)state;
    setenv("CONVOY_CONV", "gemm", 1);
    snprintf(kernels, sizeof(kernels), ", kernels %s", nn_kernels()->name);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        assert_non_null(strstr(nn_numerics_id(), parts[i]));
    assert_ptr_equal(nn_numerics_id(), nn_numerics_id());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_treat_denormals_as_zero),
        cmocka_unit_test(threads_of_the_pool_treat_denormals_as_zero_too),
        cmocka_unit_test(openblas_computes_with_one_thread),
        cmocka_unit_test(numerics_id_names_build_kernels_and_openblas),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
