/* tests/lab/test_fault_plan.c -- the proxy's draws and rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/lab/fault_plan.h"

#define DRAWS 20000

static struct fault_plan *plan_of(uint64_t seed, const struct fault_plan_shares *shares,
                                  const char *rules)
{
    struct err err = {0};
    struct fault_plan *plan = fault_plan_new(seed, shares, rules, &err);

    if (plan == NULL)
        fail_msg("%s", err.msg);
    return plan;
}

static struct fault ask(struct fault_plan *plan, const char *method, const char *target)
{
    const struct fault_request request = {.method = method, .target = target, .range = ""};
    struct fault fault;

    fault_plan_choose(plan, &request, &fault);
    return fault;
}

static struct fault ask_number(struct fault_plan *plan, int number)
{
    char target[32];

    snprintf(target, sizeof target, "/bucket/%d", number);
    return ask(plan, "GET", target);
}

static const struct fault_plan_shares some = {
    .status_503 = 0.05, .reset = 0.01, .cut = 0.01, .flip = 0.01, .delay_s = 0.1, .delay_p99_s = 1};

static void plan_draws_the_same_for_the_same_seed_in_any_order(void **state)
{
    struct fault_plan *forth = plan_of(5, &some, NULL), *back = plan_of(5, &some, NULL),
                      *other = plan_of(6, &some, NULL);
    static struct fault drawn[DRAWS];
    int differ = 0;

    (void)state;
    for (int i = 0; i < DRAWS; i++)
        drawn[i] = ask_number(forth, i);
    for (int i = DRAWS - 1; i >= 0; i--) {
        const struct fault again = ask_number(back, i);

        assert_int_equal(again.kind, drawn[i].kind);
        assert_true(again.place == drawn[i].place && again.delay_s == drawn[i].delay_s);
        differ += ask_number(other, i).kind != drawn[i].kind;
    }
    assert_in_range(differ, DRAWS / 20, DRAWS / 4);
    fault_plan_free(forth);
    fault_plan_free(back);
    fault_plan_free(other);
}

/* Nobody is to meet the same fault for ever: a second try is another draw. */
static void plan_draws_anew_when_the_same_is_asked_again(void **state)
{
    const struct fault_plan_shares half = {.status_503 = 0.5};
    struct fault_plan *plan = plan_of(1, &half, NULL);
    int failed = 0;

    (void)state;
    for (int i = 0; i < DRAWS; i++)
        failed += ask(plan, "GET", "/bucket/key").kind == FAULT_STATUS;
    assert_in_range(failed, DRAWS / 2 - 300, DRAWS / 2 + 300); /* 4 sigma are 283 */
    fault_plan_free(plan);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void plan_keeps_to_shares_and_latency(void **state)
{
    struct fault_plan *plan = plan_of(3, &some, NULL);
    static double delays[DRAWS];
    int kinds[FAULT_KINDS] = {0};

    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        const struct fault fault = ask_number(plan, i);

        kinds[fault.kind]++;
        delays[i] = fault.delay_s;
    }
    assert_in_range(kinds[FAULT_STATUS], 1000 - 124, 1000 + 124); /* 4 sigma */
    assert_in_range(kinds[FAULT_RESET], 200 - 57, 200 + 57);
    assert_in_range(kinds[FAULT_CUT], 200 - 57, 200 + 57);
    assert_in_range(kinds[FAULT_FLIP], 200 - 57, 200 + 57);
    qsort(delays, DRAWS, sizeof *delays, by_size);
    assert_true(delays[DRAWS / 2] > 0.095 && delays[DRAWS / 2] < 0.105);
    assert_true(delays[DRAWS * 99 / 100] > 0.9 && delays[DRAWS * 99 / 100] < 1.1);
    fault_plan_free(plan);
}

static void plan_does_what_its_rules_say(void **state)
{
    const struct fault_plan_shares none = {0};
    struct fault_plan *plan = plan_of(1, &none,
                                      "# the first rule that matches decides\n"
                                      "GET *.tar #2-3 503 SlowDown delay=20\n"
                                      "GET *.tar #5- cut at=7\n"
                                      "\n"
                                      "* /b/[xy] 301 region=eu-north-1 location=http://h:1/ bare\n"
                                      "PUT * 200 InternalError after\n");
    struct fault fault;

    (void)state;
    assert_int_equal(ask(plan, "GET", "/b/a.tar").kind, FAULT_PASS);
    fault = ask(plan, "GET", "/b/b.tar");
    assert_int_equal(fault.kind, FAULT_STATUS);
    assert_int_equal(fault.status, 503);
    assert_string_equal(fault.code, "SlowDown");
    assert_true(fault.delay_s == 0.02);
    assert_int_equal(ask(plan, "GET", "/b/a.tar").status, 503);
    assert_int_equal(ask(plan, "GET", "/b/a.tar").kind, FAULT_PASS);
    fault = ask(plan, "GET", "/b/a.tar?x=1.tar");
    assert_int_equal(fault.kind, FAULT_CUT);
    assert_true(fault.at_given && fault.at == 7);
    fault = ask(plan, "DELETE", "/b/y");
    assert_int_equal(fault.status, 301);
    assert_string_equal(fault.region, "eu-north-1");
    assert_string_equal(fault.location, "http://h:1/");
    assert_true(fault.bare && !fault.after);
    assert_int_equal(ask(plan, "HEAD", "/b/z").kind, FAULT_PASS);
    assert_true(ask(plan, "PUT", "/b/z").after);
    fault_plan_free(plan);
}

static void plan_names_a_rule_that_is_none(void **state)
{
    static const char *const rules[] = {
        "GET",      "GET *",         "GET * #0 503", "GET * #3-2 cut",
        "GET * 99", "GET * explode", "GET * cut at", "GET * 503 a=b"};
    const struct fault_plan_shares none = {0};

    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct err err = {0};

        assert_null(fault_plan_new(1, &none, rules[i], &err));
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, rules[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_draws_the_same_for_the_same_seed_in_any_order),
        cmocka_unit_test(plan_draws_anew_when_the_same_is_asked_again),
        cmocka_unit_test(plan_keeps_to_shares_and_latency),
        cmocka_unit_test(plan_does_what_its_rules_say),
        cmocka_unit_test(plan_names_a_rule_that_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
