/* tests/data/test_packing.c -- the note of a pack: two that begin at once, and who has it then. */
#include "trainer/data/index/shard.h"
#include "trainer/data/pack/packing.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/data/pack/target.h"
#include "tree.h"

#define ROUNDS 50

static pthread_barrier_t both;
static atomic_int winners;

struct packer {
    pthread_t thread;
    struct data_packing note;
    struct data_target target;
    struct err err;
    int rc;
    bool resumes;
};

static void begin(struct packer *packer)
{
    static const unsigned char identity[DIGEST_SHA256_BYTES] = "of one source";

    packer->rc = data_packing_begin(&packer->note, &packer->target, tree_root, "source", identity,
                                    1000, &packer->resumes, &packer->err);
    if (packer->rc < 0) { /* as a pack that ends there */
        data_packing_release(&packer->note);
        data_target_release(&packer->target, true);
    }
}

/* Again and again till one of the two has it: in every moment of the other's beginning. */
static void *begin_with_another(void *argument)
{
    struct packer *const packer = argument;

    pthread_barrier_wait(&both);
    do
        begin(packer);
    while (packer->rc < 0 && winners == 0);
    winners += packer->rc == 0;
    return NULL;
}

static void of_two_that_begin_at_once_one_has_the_note_and_it_stays(void **state)
{
    (void)state;
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < ROUNDS; i++) {
        struct packer packers[2] = {{.rc = 0}, {.rc = 0}};
        struct packer *winner, *loser;

        winners = 0;
        for (int p = 0; p < 2; p++)
            assert_int_equal(
                pthread_create(&packers[p].thread, NULL, begin_with_another, &packers[p]), 0);
        for (int p = 0; p < 2; p++)
            pthread_join(packers[p].thread, NULL);
        assert_int_equal(winners, 1);
        winner = &packers[packers[0].rc < 0];
        loser = &packers[packers[0].rc == 0];
        assert_int_equal(loser->err.code, ERR_INPUT);
        assert_false(winner->resumes); /* it took over from nobody */
        assert_int_equal(data_packing_check(&winner->note, &winner->err), 0);
        data_packing_end(&winner->note, &winner->target);
        data_packing_release(&winner->note);
        data_target_release(&winner->target, true);
        assert_int_equal(tree_count(""), 0);
    }
    pthread_barrier_destroy(&both);
}

static void note_that_is_left_is_taken_over_once(void **state)
{
    struct packer first = {.rc = 0}, second = {.rc = 0}, third = {.rc = 0};

    (void)state;
    begin(&first);
    assert_int_equal(first.rc, 0);
    begin(&second);
    assert_int_equal(second.rc, -1);
    assert_non_null(strstr(second.err.msg, "another process packs"));
    assert_int_equal(data_packing_check(&first.note, &first.err), 0);
    data_packing_release(&first.note);
    data_target_release(&first.target, false);
    begin(&third);
    assert_int_equal(third.rc, 0);
    assert_true(third.resumes);
    data_packing_release(&third.note);
    data_target_release(&third.target, false);
    assert_true(file_exists(tree_path(SHARD_PACKING_NAME)));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(of_two_that_begin_at_once_one_has_the_note_and_it_stays),
        CASE(note_that_is_left_is_taken_over_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
