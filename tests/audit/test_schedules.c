/*
 * tests/audit/test_schedules.c -- random schedules of kills, resumes and numbers of ranks, through
 * the order alone, with the audit as judge.
 *
 *     test_audit_schedules [COUNT [SEED]]
 *
 * Each schedule is played twice: as it should go, where the judge has to find every picture exactly
 * once an epoch, and with one fault in one step of one rank, which he has to find.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/audit/play.h"

#define LAUNCHES_MAX 12 /* then nobody kills it any more */

static unsigned long count = 1000, first_seed = 1;

/* Marsaglia's xorshift64*. */
struct dice {
    uint64_t state;
};

static uint64_t roll(struct dice *dice, uint64_t sides)
{
    dice->state ^= dice->state >> 12;
    dice->state ^= dice->state << 25;
    dice->state ^= dice->state >> 27;
    return (dice->state * 2685821657736338717u >> 11) % sides;
}

struct schedule {
    struct play play;
    struct dice dice;
    uint64_t total, save_every;
    uint32_t left_out_every;
    /* The newest checkpoint. */
    bool saved;
    struct audit_begin saved_by;
    uint64_t saved_step;
    uint32_t generation;
};

static void begin(struct schedule *s, uint64_t seed)
{
    struct data_order *const order = &s->play.order;
    struct dice *const dice = &s->dice;

    *s = (struct schedule){.dice = {seed * 0x9e3779b97f4a7c15u + 1}};
    for (int i = 0; i < 8; i++)
        roll(dice, 2);
    do {
        const uint32_t micro = 1 + (uint32_t)roll(dice, 8);

        *order = (struct data_order){.samples = 1 + roll(dice, 400),
                                     .chunk_samples = 1 + roll(dice, 20),
                                     .seed = roll(dice, 1000),
                                     .batch = 1 + (uint32_t)roll(dice, 64),
                                     .drop_last = roll(dice, 3) == 0};
        order->lanes = (order->batch + micro - 1) / micro;
    } while (data_order_steps(order) == 0);
    s->total = data_order_steps(order) * (1 + roll(dice, 4));
    s->save_every = 1 + roll(dice, 9);
    s->left_out_every = roll(dice, 3) == 0 ? 1 + (uint32_t)roll(dice, 20) : 0;
}

static uint32_t some_ranks(struct schedule *s)
{
    const uint32_t most = s->play.order.lanes + 2; /* those above the lanes idle */

    return 1 + (uint32_t)roll(&s->dice, most < PLAY_RANKS_MAX ? most : PLAY_RANKS_MAX);
}

static void launch(struct schedule *s)
{
    play_launch(&s->play, some_ranks(s), s->saved ? &s->saved_by : NULL,
                s->saved ? s->saved_step : 0, s->generation + 1);
}

/* Somebody writes at the moment of the kill: the last record of some files is cut. */
static void tear(struct schedule *s, const size_t *whole)
{
    for (uint32_t r = 0; r < PLAY_RANKS_MAX; r++) {
        const size_t bytes = s->play.files[r].bytes;

        if (bytes > whole[r] && roll(&s->dice, 2) == 0)
            play_tear(&s->play, r, whole[r] + roll(&s->dice, bytes - whole[r] + 1));
    }
}

static void note_bytes(const struct schedule *s, size_t *whole)
{
    for (uint32_t r = 0; r < PLAY_RANKS_MAX; r++)
        whole[r] = s->play.files[r].bytes;
}

static void save(struct schedule *s)
{
    s->saved = true;
    s->saved_by = s->play.begin;
    s->saved_step = s->play.step;
    s->generation = s->play.begin.generation;
}

/* Steps until a random kill, or to the end. */
static bool go(struct schedule *s, uint64_t steps)
{
    size_t whole[PLAY_RANKS_MAX];
    const uint64_t of_epoch = data_order_steps(&s->play.order);

    for (; s->play.step < s->total; steps--) {
        note_bytes(s, whole);
        if (steps == 0 && roll(&s->dice, 3) == 0) { /* asked to stop in a step: it is given up */
            play_step(&s->play, (uint32_t)roll(&s->dice, s->play.begin.ranks + 1),
                      s->left_out_every);
            if (s->play.step > 0)
                save(s);
            play_end(&s->play, AUDIT_STOPPED);
            return false;
        }
        if (steps == 0) { /* killed in a step that some of the ranks have recorded, or all */
            play_step(&s->play, (uint32_t)roll(&s->dice, s->play.begin.ranks + 1),
                      s->left_out_every);
            tear(s, whole);
            return false;
        }
        play_step(&s->play, s->play.begin.ranks, s->left_out_every);
        s->play.step++;
        if (s->play.step % s->save_every == 0 || s->play.step % of_epoch == 0)
            save(s);
    }
    return true;
}

static void play(struct schedule *s)
{
    for (int launches = 1;; launches++) {
        size_t whole[PLAY_RANKS_MAX];

        note_bytes(s, whole);
        launch(s);
        if (launches < LAUNCHES_MAX && roll(&s->dice, 8) == 0) { /* killed while it began */
            tear(s, whole);
            continue;
        }
        if (go(s, launches < LAUNCHES_MAX ? roll(&s->dice, s->total + 1) : UINT64_MAX))
            break;
    }
    play_end(&s->play, AUDIT_FINISHED);
}

static void judge_accepts_what_went_as_it_should(void **state)
{
    (void)state;
    for (unsigned long i = 0; i < count; i++) {
        struct audit_verdict verdict = {0};
        struct schedule s;
        struct err err = {0};
        uint64_t of_epoch;

        begin(&s, first_seed + i);
        play(&s);
        of_epoch = s.play.order.drop_last ? data_order_steps(&s.play.order) * s.play.order.batch
                                          : s.play.order.samples;
        if (play_judge(&s.play, &verdict, &err) != 0)
            fail_msg("seed %lu: %s%s", first_seed + i, err.msg, verdict.first);
        assert_int_equal(verdict.steps, s.total);
        assert_int_equal(verdict.trained + verdict.left_out,
                         of_epoch * (s.total / data_order_steps(&s.play.order)));
        for (size_t e = 0; e < verdict.epoch_count; e++) {
            assert_true(verdict.epochs[e].whole);
            assert_int_equal(verdict.epochs[e].lost + verdict.epochs[e].repeated, 0);
        }
        audit_verdict_release(&verdict);
        play_release(&s.play);
    }
}

static void judge_finds_one_fault_anywhere(void **state)
{
    unsigned long found = 0;

    (void)state;
    for (unsigned long i = 0; i < count; i++) {
        struct audit_verdict verdict = {0};
        struct schedule s;
        struct err err = {0};
        uint64_t faults;

        begin(&s, first_seed + i);
        s.play.bad_step = 1 + roll(&s.dice, s.total);
        s.play.bad = (int)roll(&s.dice, 5);
        play(&s);
        faults = play_judge(&s.play, &verdict, &err);
        if (faults == UINT64_MAX || (faults > 0) != s.play.has_erred)
            fail_msg("seed %lu, fault %d at step %llu: %s%s", first_seed + i, (int)s.play.bad,
                     (unsigned long long)s.play.bad_step, err.msg,
                     faults == 0 ? "not found" : verdict.first);
        found += faults > 0;
        audit_verdict_release(&verdict);
        play_release(&s.play);
    }
    printf("%lu schedules from seed %lu, each exactly once; of as many with a fault %lu had one "
           "that survived, and all were found\n",
           count, first_seed, found);
    assert_true(found > count / 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judge_accepts_what_went_as_it_should),
        cmocka_unit_test(judge_finds_one_fault_anywhere),
    };

    if (argc > 1)
        count = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoul(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
