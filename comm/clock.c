#include "comm/clock.h"

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/wait.h"

struct comm_clock comm_clock_of(const struct comm_clock_round *rounds, int count)
{
    struct comm_clock best = {0};

    for (int i = 0; i < count; i++) {
        const struct comm_clock_round *const r = &rounds[i];
        const double round_s = r->received_s - r->asked_s;

        if (i > 0 && round_s >= best.round_s)
            continue;
        best.at_s = r->asked_s + round_s / 2;
        best.offset_s = r->answered_s - best.at_s;
        best.round_s = round_s;
    }
    return best;
}

/* Rank 0: one question of a rank. */
static int answer(struct comm *comm, int rank, struct err *err)
{
    static const char what[] = "tell a rank the time";
    struct comm_mpi *const mpi = comm->mpi;
    char question;
    double now_s;

    if (comm_check(
            MPI_Irecv(&question, 1, MPI_BYTE, rank, COMM_TAG_CLOCK, mpi->ranks, &mpi->requests[0]),
            what, err) < 0 ||
        comm_wait_all(comm, 1, what, err) < 0)
        return -1;
    now_s = clock_now_s();
    if (comm_check(
            MPI_Isend(&now_s, 1, MPI_DOUBLE, rank, COMM_TAG_CLOCK, mpi->ranks, &mpi->requests[0]),
            what, err) < 0)
        return -1;
    return comm_wait_all(comm, 1, what, err);
}

static int ask(struct comm *comm, struct comm_clock_round *round, struct err *err)
{
    static const char what[] = "ask for the time";
    struct comm_mpi *const mpi = comm->mpi;
    const char question = '?';

    if (comm_check(MPI_Irecv(&round->answered_s, 1, MPI_DOUBLE, 0, COMM_TAG_CLOCK, mpi->ranks,
                             &mpi->requests[0]),
                   what, err) < 0)
        return -1;
    round->asked_s = clock_now_s();
    if (comm_check(
            MPI_Isend(&question, 1, MPI_BYTE, 0, COMM_TAG_CLOCK, mpi->ranks, &mpi->requests[1]),
            what, err) < 0 ||
        comm_wait_all(comm, 2, what, err) < 0)
        return -1;
    round->received_s = clock_now_s();
    return 0;
}

int comm_clock_measure(struct comm *comm, struct comm_clock *clock, struct err *err)
{
    struct comm_clock_round rounds[COMM_CLOCK_ROUNDS];

    *clock = (struct comm_clock){.at_s = clock_now_s()};
    for (int i = 0; comm->rank != 0 && i < COMM_CLOCK_ROUNDS; i++)
        if (ask(comm, &rounds[i], err) < 0)
            return -1;
    for (int rank = 1; comm->rank == 0 && rank < comm->size; rank++)
        for (int i = 0; i < COMM_CLOCK_ROUNDS; i++)
            if (answer(comm, rank, err) < 0)
                return -1;
    if (comm->rank != 0)
        *clock = comm_clock_of(rounds, COMM_CLOCK_ROUNDS);
    return 0;
}
