/* tests/comm/test_outbox.c -- CTest runs it with 2 ranks: rank 0 sends, and rank 1 receives in the
 * order in which messages set out. Asserts come last in a case: one rank's assert must not leave
 * the other waiting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/outbox.h"
#include "comm/post.h"
#include "comm/wait.h"

#define TAG      7
#define MOST     2 /* segments in the window */
#define SEGMENT  (COMM_SEGMENT_BYTES / sizeof(float))
#define SEGMENTS 2 /* of a message */
#define FLOATS   (SEGMENTS * SEGMENT)
#define NUMBER   6
#define ODD      700001 /* bytes of a message whose segments are no round numbers */

static struct comm comm;
static float out[NUMBER][FLOATS];

static void put(struct comm_outbox *outbox, int number, int urgency, int *under_way)
{
    for (size_t i = 0; i < FLOATS; i++)
        out[number][i] = (float)number;
    comm_outbox_put(outbox, &(struct comm_outgoing){(char *)out[number], sizeof out[number], 1, TAG,
                                                    0, urgency, under_way});
}

/* The greatest number of segments that MPI had at once, or -1. */
static int send_all(struct comm_post *post, int *counts)
{
    struct comm_outbox outbox;
    struct err err = {0};
    int under_way[2] = {0}, most = 0, finished;

    comm_outbox_init(&outbox, post, 2, MOST * COMM_SEGMENT_BYTES);
    put(&outbox, 0, 1, &under_way[0]);
    put(&outbox, 1, 5, &under_way[0]);
    put(&outbox, 2, 3, &under_way[1]);
    put(&outbox, 3, 3, &under_way[1]);
    put(&outbox, 4, 2, &under_way[1]);
    counts[0] = under_way[0];
    counts[1] = under_way[1];
    if (comm_outbox_send(&outbox, -1, &err) < 0)
        return -1;
    put(&outbox, 5, 9, &under_way[0]); /* overtakes what MPI has not */
    while (under_way[0] + under_way[1] > 0) {
        most = post->count > most ? post->count : most;
        if (comm_post_test(post, &finished, &err) < 0)
            return -1;
        comm_outbox_settle(&outbox);
        if (comm_outbox_send(&outbox, -1, &err) < 0)
            return -1;
    }
    comm_outbox_release(&outbox);
    return most;
}

static int receive_all(struct comm_post *post, int *order)
{
    static float in[SEGMENT];
    struct err err = {0};

    clock_sleep_s(0.05);
    for (int i = 0; i < NUMBER * SEGMENTS; i++) {
        int under_way = 0, finished;

        if (comm_post_receive(post, in, sizeof in, 0, TAG, &under_way, &err) < 0)
            return -1;
        while (under_way > 0)
            if (comm_post_test(post, &finished, &err) < 0)
                return -1;
        order[i] = (int)in[0];
        for (size_t k = 0; k < SEGMENT; k++)
            if (in[k] != in[0])
                return -1;
    }
    return 0;
}

static void the_most_urgent_sets_out_first_and_few_at_a_time(void **state)
{
    static const int expected[NUMBER * SEGMENTS] = {1, 1, 5, 5, 2, 2, 3, 3, 4, 4, 0, 0};
    int order[NUMBER * SEGMENTS] = {0}, counts[2] = {0}, rc;
    struct comm_post post;

    (void)state;
    comm_post_init(&post, &comm);
    rc = comm.rank == 0 ? send_all(&post, counts) : receive_all(&post, order);
    comm_post_release(&post);
    if (comm.rank == 0) {
        assert_int_equal(rc, MOST);
        assert_int_equal(counts[0], 2 * SEGMENTS);
        assert_int_equal(counts[1], 3 * SEGMENTS);
        return;
    }
    assert_int_equal(rc, 0);
    assert_memory_equal(order, expected, sizeof order);
}

/* Both ways at once, on each rank: 0, or -1. */
static int swap(struct comm_post *post, const char *mine, char *theirs)
{
    const int other = 1 - comm.rank;
    struct comm_outbox outbox;
    struct err err = {0};
    int in = 0, gone = 0, finished, rc = 0;

    comm_outbox_init(&outbox, post, 2, 1); /* less than a segment: one at a time */
    comm_outbox_put(&outbox, &(struct comm_outgoing){mine, ODD, other, TAG, 0, 0, &gone});
    rc = comm_outbox_receive(post, theirs, ODD, other, TAG, &in, &err);
    while (rc == 0 && in + gone > 0) {
        comm_outbox_settle(&outbox);
        rc = comm_outbox_send(&outbox, -1, &err) < 0 ? -1 : comm_post_test(post, &finished, &err);
    }
    comm_outbox_release(&outbox);
    return rc;
}

static void a_message_of_any_length_comes_as_it_went(void **state)
{
    static char mine[ODD], theirs[ODD];
    struct comm_post post;
    int rc, wrong = 0;

    (void)state;
    for (int i = 0; i < ODD; i++)
        mine[i] = (char)(i % 251 + comm.rank);
    comm_post_init(&post, &comm);
    rc = swap(&post, mine, theirs);
    comm_post_release(&post);
    for (int i = 0; i < ODD; i++)
        wrong += theirs[i] != (char)(i % 251 + 1 - comm.rank);
    assert_int_equal(rc, 0);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_of_any_length_comes_as_it_went),
        cmocka_unit_test(the_most_urgent_sets_out_first_and_few_at_a_time),
    };
    struct err err = {0};
    int failed;

    if (comm_open(&comm, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
