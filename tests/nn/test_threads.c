/* tests/nn/test_threads.c -- the arithmetic's environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/nn/threads.h"

static void threads_treat_denormals_as_zero(void **state)
{
    volatile float small = 1e-30f, tiny = 1e-10f;

    (void)state;
    nn_threads_init(2);
    assert_true(small * tiny == 0);
}

static void numerics_id_names_build_kernels_and_openblas(void **state)
{
    static const char *const parts[] = {"convoy ", ", kernels generic, ", "OpenBLAS 0."};

    (void)state;
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        assert_non_null(strstr(nn_numerics_id(), parts[i]));
    assert_ptr_equal(nn_numerics_id(), nn_numerics_id());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_treat_denormals_as_zero),
        cmocka_unit_test(numerics_id_names_build_kernels_and_openblas),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
