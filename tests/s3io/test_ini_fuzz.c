/* tests/s3io/test_ini_fuzz.c -- fuzz_ini.c on its seeds and on what becomes of them by chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutate.h"

#define ROUNDS 10000

static void ini_reader_survives_any_bytes(void **state)
{
    (void)state;
    mutate_run("seeds/ini", ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ini_reader_survives_any_bytes)};

    return cmocka_run_group_tests_name("ini_fuzz", tests, NULL, NULL);
}
