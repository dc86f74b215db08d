/* tests/base/test_entropy.c -- bytes from the kernel. */
#include "base/entropy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define BYTES 1000 /* getrandom may give fewer than asked for above 256 */

static void entropy_fills_what_was_asked_for_and_no_more(void **state)
{
    unsigned char a[BYTES + 2], b[BYTES + 2];
    int zeros = 0;

    (void)state;
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    entropy_fill(a + 1, BYTES);
    entropy_fill(b + 1, BYTES);
    assert_int_equal(a[0] | a[BYTES + 1] | b[0] | b[BYTES + 1], 0);
    assert_memory_not_equal(a, b, sizeof a);
    for (int i = 1; i <= BYTES; i++)
        zeros += a[i] == 0 && b[i] == 0;
    assert_in_range(zeros, 0, 5); /* each place: 1 in 65,536 */
    entropy_fill(a, 0);
    assert_int_equal(a[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entropy_fills_what_was_asked_for_and_no_more),
    };

    return cmocka_run_group_tests_name("base/entropy", tests, NULL, NULL);
}
