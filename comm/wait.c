/* comm/wait.c -- see wait.h. */
#include "comm/wait.h"

#include <sched.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"

/* A blocking MPI call of Open MPI spins a whole core. An answer that is on its way takes 5 to 50
 * us, so polls follow each other for that long: a small message then costs no sleep. Later ones
 * sleep, at most a quarter of a millisecond. */
#define AT_ONCE_S   50e-6
#define SLEEP_S_MIN 20e-6
#define SLEEP_S_MAX 250e-6
#define STANDSTILL  4 /* a patience's part between two looks */

int comm_check(int code, const char *what, struct err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    if (code == MPI_SUCCESS)
        return 0;
    MPI_Error_string(code, text, &length);
    return err_set(err, ERR_PEER, "cannot %s: %s", what, text);
}

double comm_patience_s(const struct comm *comm)
{
    return comm->deadline_s > 0 ? comm->deadline_s : COMM_PATIENCE_S;
}

int comm_wait_all(struct comm *comm, int count, const char *what, struct err *err)
{
    const int rc = comm_wait_a_while(comm, count, what, err);

    if (rc != 1)
        return rc;
    return err_set(err, ERR_PEER,
                   "cannot %s: no word from another rank for %.0f s: " COMM_SILENT_MEANS, what,
                   comm_patience_s(comm));
}

/* Who was stopped for a while itself has not looked, and counts from now on. */
int comm_wait_a_while(struct comm *comm, int count, const char *what, struct err *err)
{
    struct comm_mpi *const mpi = comm->mpi;
    const double patience_s = comm_patience_s(comm);
    double since = clock_now_s(), looked = since, sleep_s = SLEEP_S_MIN;
    int left = count;

    while (left > 0) {
        double now;
        int came = 0;

        if (comm_check(MPI_Testsome(count, mpi->requests, &came, mpi->done, MPI_STATUSES_IGNORE),
                       what, err) < 0)
            return -1;
        if (came ==
            MPI_UNDEFINED) /* none is active: some were MPI_REQUEST_NULL from the beginning */
            return 0;
        left -= came;
        now = clock_now_s();
        if (came > 0 || now - looked > patience_s / STANDSTILL) {
            since = now;
            sleep_s = SLEEP_S_MIN;
        } else if (now - since < AT_ONCE_S) {
            sched_yield(); /* to a rank on the same core, which may be the one we wait for */
        } else if (now - since > patience_s) {
            return 1;
        } else {
            clock_sleep_s(sleep_s);
            sleep_s = sleep_s * 2 < SLEEP_S_MAX ? sleep_s * 2 : SLEEP_S_MAX;
        }
        looked = now;
    }
    return 0;
}
