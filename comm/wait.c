/* comm/wait.c -- see wait.h. */
#include "comm/wait.h"

#include <sched.h>

#include "base/clock.h"
#include "base/err.h"

/* A blocking MPI call of Open MPI spins a whole core. An answer that is on its way takes 5 to 50
 * us, so polls follow each other for that long: a small message then costs no sleep. Later ones
 * sleep, at most a quarter of a millisecond. */
#define AT_ONCE_S   50e-6
#define SLEEP_S_MIN 20e-6
#define SLEEP_S_MAX 250e-6

int comm_check(int code, const char *what, struct err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    if (code == MPI_SUCCESS)
        return 0;
    MPI_Error_string(code, text, &length);
    return err_set(err, ERR_PEER, "cannot %s: %s", what, text);
}

int comm_wait_all(MPI_Request *requests, int *done, int count, const char *what, struct err *err)
{
    return comm_wait_for(requests, done, count, 0, what, err);
}

int comm_wait_for(MPI_Request *requests, int *done, int count, double seconds, const char *what,
                  struct err *err)
{
    const double begun = clock_now_s();
    double since = begun, sleep_s = SLEEP_S_MIN;
    int left = count;

    while (left > 0) {
        int now = 0;

        if (comm_check(MPI_Testsome(count, requests, &now, done, MPI_STATUSES_IGNORE), what, err) <
            0)
            return -1;
        if (now ==
            MPI_UNDEFINED) /* none is active: some were MPI_REQUEST_NULL from the beginning */
            return 0;
        left -= now;
        if (now > 0) {
            since = clock_now_s();
            sleep_s = SLEEP_S_MIN;
        } else if (clock_now_s() - since < AT_ONCE_S) {
            sched_yield(); /* to a rank on the same core, which may be the one we wait for */
        } else if (seconds > 0 && clock_now_s() - begun > seconds) {
            return 1;
        } else {
            clock_sleep_s(sleep_s);
            sleep_s = sleep_s * 2 < SLEEP_S_MAX ? sleep_s * 2 : SLEEP_S_MAX;
        }
    }
    return 0;
}
