/* tests/s3io/test_keys_fuzz.c -- fuzz_keys.c on its seeds and on what becomes of them by chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutate.h"

#define ROUNDS 100000

static void keys_readers_survive_any_bytes(void **state)
{
    (void)state;
    mutate_run("seeds/keys", ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_readers_survive_any_bytes)};

    return cmocka_run_group_tests_name("keys_fuzz", tests, NULL, NULL);
}
