/* tests/audit/test_judge.c -- what a judge says of lineages and of doctored records. */
#include "trainer/audit/judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/audit/play.h"

static const struct data_order order = {
    .samples = 50, .chunk_samples = 4, .seed = 3, .batch = 8, .lanes = 4}; /* 7 steps an epoch */

static void steps(struct play *play, uint64_t to)
{
    for (; play->step < to; play->step++)
        play_step(play, play->begin.ranks, 0);
}

static void expect(const struct play *play, uint64_t faults, const char *text)
{
    struct audit_verdict verdict = {0};
    struct err err = {0};
    const uint64_t found = play_judge(play, &verdict, &err);
    const char *const said = found == UINT64_MAX ? err.msg : verdict.first;

    if (faults == UINT64_MAX ? found != faults : (found > 0) != (faults > 0))
        fail_msg("%llu faults: %s", (unsigned long long)found, said);
    if (text != NULL && strstr(said, text) == NULL)
        fail_msg("'%s' is not in '%s'", text, said);
    audit_verdict_release(&verdict);
}

static void run_without_a_kill_is_clean(void **state)
{
    struct play play = {.order = order};

    (void)state;
    play_launch(&play, 2, NULL, 0, 1);
    expect(&play, 0, NULL); /* it has only begun */
    steps(&play, 14);
    expect(&play, 0, NULL); /* killed right behind a step */
    play_end(&play, AUDIT_FINISHED);
    expect(&play, 0, NULL);
    play_release(&play);
}

static void steps_that_were_lost_with_their_launch_do_not_count(void **state)
{
    struct play play = {.order = order};
    struct audit_begin first;

    (void)state;
    play_launch(&play, 2, NULL, 0, 1);
    steps(&play, 5);
    first = play.begin;
    steps(&play, 9); /* saved at 5, killed at 9 */
    play_launch(&play, 3, &first, 5, 2);
    steps(&play, 7); /* killed before it saved */
    play_launch(&play, 1, &first, 5, 2);
    steps(&play, 14);
    play_end(&play, AUDIT_FINISHED);
    expect(&play, 0, NULL);
    play_release(&play);
}

static void resuming_too_late_or_too_early_is_named(void **state)
{
    struct play late = {.order = order}, early = {.order = order};
    struct audit_begin first;

    (void)state;
    play_launch(&late, 2, NULL, 0, 1);
    steps(&late, 5);
    first = late.begin;
    play_launch(&late, 2, &first, 6, 2);
    steps(&late, 14);
    expect(&late, 1, "epoch 0, step 6: rank 0 of generation 1 has no record of it");
    /* Its checkpoint says 5, and it trains from 4 on: as step 6 it does what is step 5. */
    play_launch(&early, 2, NULL, 0, 1);
    steps(&early, 5);
    first = early.begin;
    play_launch(&early, 2, &first, 5, 2);
    early.step = 4;
    steps(&early, 14);
    expect(&early, 1, "has step 5 again");
    play_release(&late);
    play_release(&early);
}

static void missing_files_are_named(void **state)
{
    struct play play = {.order = order};
    struct audit_begin first;

    (void)state;
    play_launch(&play, 2, NULL, 0, 1);
    steps(&play, 7);
    play_end(&play, AUDIT_FINISHED);
    buf_release(&play.files[1]);
    expect(&play, 1, "generation 1 (launch 01000100) had 2 ranks, and no file here is of rank 1");
    play_release(&play);
    play = (struct play){.order = order};
    play_launch(&play, 1, NULL, 0, 1);
    first = play.begin;
    buf_release(&play.files[0]);
    play_launch(&play, 1, &first, 7, 2);
    steps(&play, 14);
    expect(&play, 1, "steps 1 to 7 were trained before generation 2, by launch 01000100");
    play_release(&play);
}

/* One rank lost more than a kill can explain. */
static void lost_tail_of_a_rank_is_named(void **state)
{
    struct play play = {.order = order};
    size_t bytes;

    (void)state;
    play_launch(&play, 2, NULL, 0, 1);
    steps(&play, 3);
    bytes = play.files[1].bytes;
    steps(&play, 5);
    play_tear(&play, 1, bytes);
    expect(&play, 1, "epoch 0, step 4: rank 1 of generation 1 has no record of it");
    play_release(&play);
    play = (struct play){.order = order};
    play_launch(&play, 1, NULL, 0, 1);
    steps(&play, 7);
    bytes = play.files[0].bytes;
    steps(&play, 8);
    play.files[0].bytes = bytes; /* and the end says more than the steps */
    play_end(&play, AUDIT_FINISHED);
    expect(&play, 1, "epoch 1, step 8: rank 0 of generation 1 has no record of it");
    play_release(&play);
}

static void forks_are_named(void **state)
{
    struct play play = {.order = order};
    struct audit_begin first, second;

    (void)state;
    play_launch(&play, 1, NULL, 0, 1);
    steps(&play, 5);
    first = play.begin;
    play_launch(&play, 1, &first, 5, 2);
    steps(&play, 9);
    second = play.begin;
    play_launch(&play, 1, &second, 9, 3);
    steps(&play, 14);
    play_end(&play, AUDIT_FINISHED);
    expect(&play, 0, NULL);
    play_launch(&play, 1, &first, 5, 4); /* --resume of an old checkpoint */
    steps(&play, 14);
    expect(&play, UINT64_MAX, "the run forked: launch 02000100 (generation 2, from step 5)");
    play_release(&play);
}

/* Its checkpoints were removed, and generations are counted anew. */
static void run_that_began_anew_is_the_later_one(void **state)
{
    struct play play = {.order = order};
    struct audit_begin first;

    (void)state;
    play_launch(&play, 1, NULL, 0, 1);
    steps(&play, 5);
    play_launch(&play, 1, NULL, 0, 1); /* of the first nothing was saved */
    steps(&play, 6);
    expect(&play, 0, NULL);
    first = play.begin;
    play_launch(&play, 1, &first, 6, 2);
    steps(&play, 14);
    expect(&play, 0, NULL);
    play_launch(&play, 1, NULL, 0, 1);
    steps(&play, 3);
    expect(&play, UINT64_MAX, "the run forked: launch 02000100 (generation 1, from step 0)");
    play_release(&play);
}

static void end_beyond_all_steps_is_one_fault(void **state)
{
    struct play play = {.order = order};
    struct audit_verdict verdict = {0};
    struct err err = {0};

    (void)state;
    play_launch(&play, 2, NULL, 0, 1);
    steps(&play, 9);
    play.step = (uint64_t)1 << 60;
    play_end(&play, AUDIT_FINISHED);
    assert_int_equal(play_judge(&play, &verdict, &err), 1);
    assert_non_null(
        strstr(verdict.first, "steps 10 to 1152921504606846976 of generation 1: no rank has"));
    audit_verdict_release(&verdict);
    play_release(&play);
}

static void more_ranks_than_a_machine_has_bytes_are_only_counted(void **state)
{
    struct play play = {.order = order};
    struct audit_begin begin;
    struct buf body = {0};

    (void)state;
    play_launch(&play, 1, NULL, 0, 1);
    begin = play.begin;
    begin.rank = 0;
    begin.ranks = UINT32_MAX;
    begin.launch[3] = 9;
    begin.started_us = 99;
    audit_begin_encode(&body, &begin);
    audit_frame_append(&play.files[0], &body);
    body.bytes = 0;
    audit_step_encode(&body, 0, 0, 1);
    audit_frame_append(&play.files[0], &body);
    buf_release(&body);
    assert_int_equal(play_judge(&play, NULL, &(struct err){0}), UINT32_MAX - 1);
    play_release(&play);
}

static void steps_behind_the_checkpoint_do_not_count(void **state)
{
    struct play play = {.order = order};
    struct audit_lineage lineage = {0};
    struct audit_verdict verdict = {0};
    struct err err = {0};

    (void)state;
    play_launch(&play, 1, NULL, 0, 1);
    steps(&play, 9);
    assert_int_equal(
        audit_lineage_add(&lineage, "a", play.files[0].data, play.files[0].bytes, &err), 0);
    for (uint64_t step = 7; step <= 10; step++) {
        assert_int_equal(audit_lineage_trace(&lineage, 0, step, &err), 0);
        assert_int_equal(audit_judge(&lineage, NULL, &verdict, &err), 0);
        assert_int_equal(verdict.steps, step);
        assert_int_equal(verdict.faults > 0, step > 9);
        audit_verdict_release(&verdict);
    }
    audit_lineage_release(&lineage);
    play_release(&play);
}

static void launch_can_be_chosen_by_its_id(void **state)
{
    struct play play = {.order = order};
    struct audit_lineage lineage = {0};
    struct audit_begin first;
    struct err err = {0};
    size_t found;

    (void)state;
    play_launch(&play, 1, NULL, 0, 1);
    steps(&play, 5);
    first = play.begin;
    play_launch(&play, 1, &first, 5, 2);
    steps(&play, 14);
    play_end(&play, AUDIT_FINISHED);
    play_launch(&play, 1, &first, 5, 2);
    steps(&play, 14);
    assert_int_equal(
        audit_lineage_add(&lineage, "a", play.files[0].data, play.files[0].bytes, &err), 0);
    assert_int_equal(audit_lineage_trace(&lineage, AUDIT_LAST, 0, &err), -1);
    assert_int_equal(audit_lineage_find(&lineage, "0200", &found), 1);
    assert_int_equal(audit_lineage_trace(&lineage, found, 0, &err), 0);
    assert_int_equal(lineage.chain_count, 2);
    assert_int_equal(lineage.launches[lineage.chain[1]].begin.launch[0], 2);
    assert_int_equal(audit_lineage_find(&lineage, "0", &found), 3);
    assert_int_equal(audit_lineage_find(&lineage, "ff", &found), 0);
    audit_lineage_release(&lineage);
    play_release(&play);
}

static void copies_and_other_runs_are_named(void **state)
{
    struct play play = {.order = order}, other = {.order = order};
    struct audit_lineage lineage = {0};
    struct err err = {0};

    (void)state;
    other.order.seed = 4;
    play_launch(&play, 1, NULL, 0, 1);
    play_launch(&other, 1, NULL, 0, 1);
    assert_int_equal(
        audit_lineage_add(&lineage, "a", play.files[0].data, play.files[0].bytes, &err), 0);
    assert_int_equal(
        audit_lineage_add(&lineage, "b", play.files[0].data, play.files[0].bytes, &err), -1);
    assert_non_null(strstr(err.msg, "'a' and 'b' both tell of rank 0"));
    assert_int_equal(
        audit_lineage_add(&lineage, "c", other.files[0].data, other.files[0].bytes, &err), -1);
    assert_non_null(strstr(err.msg, "'c' is of another run than 'a'"));
    audit_lineage_release(&lineage);
    play_release(&play);
    play_release(&other);
}

static void each_kind_of_fault_has_its_words(void **state)
{
    static const struct {
        int bad;
        const char *text;
    } cases[] = {{PLAY_SKIP, "epoch 1, step 9: rank 1 of generation 1 has no record of it"},
                 {PLAY_REPEAT, "is due, and was not trained there"},
                 {PLAY_LOSE, "is due, and was not trained there"},
                 {PLAY_OTHER, "is due, and was not trained there"},
                 {PLAY_LANE, "epoch 1, step 9: micro-batch 2 was trained by no rank"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct play play = {.order = order, .bad_step = 9, .bad_rank = 1, .bad = cases[i].bad};
        struct audit_verdict verdict = {0};
        struct err err = {0};

        play_launch(&play, 2, NULL, 0, 1);
        steps(&play, 14);
        play_end(&play, AUDIT_FINISHED);
        expect(&play, 1, cases[i].text);
        play_judge(&play, &verdict, &err);
        assert_int_equal(verdict.epochs[0].lost + verdict.epochs[0].repeated, 0);
        assert_true(verdict.epochs[1].lost > 0);
        assert_non_null(strstr(buf_text(&verdict.told), "was lost: it was not trained"));
        if (cases[i].bad == PLAY_REPEAT || cases[i].bad == PLAY_OTHER)
            assert_non_null(strstr(buf_text(&verdict.told), "was repeated: it had its turn"));
        audit_verdict_release(&verdict);
        play_release(&play);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_without_a_kill_is_clean),
        cmocka_unit_test(steps_that_were_lost_with_their_launch_do_not_count),
        cmocka_unit_test(resuming_too_late_or_too_early_is_named),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(lost_tail_of_a_rank_is_named),
        cmocka_unit_test(forks_are_named),
        cmocka_unit_test(run_that_began_anew_is_the_later_one),
        cmocka_unit_test(end_beyond_all_steps_is_one_fault),
        cmocka_unit_test(more_ranks_than_a_machine_has_bytes_are_only_counted),
        cmocka_unit_test(steps_behind_the_checkpoint_do_not_count),
        cmocka_unit_test(launch_can_be_chosen_by_its_id),
        cmocka_unit_test(copies_and_other_runs_are_named),
        cmocka_unit_test(each_kind_of_fault_has_its_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
