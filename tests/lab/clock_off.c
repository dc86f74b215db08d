/* tests/lab/clock_off.c -- preloaded into a program: the time of day is CLOCK_OFF_S seconds away
 * from this host's. Clocks that only go forward are as they are. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
    const char *off = getenv("CLOCK_OFF_S");
    const int rc = (int)syscall(SYS_clock_gettime, id, now);

    if (rc == 0 && off != NULL && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += atol(off);
    return rc;
}

time_t time(time_t *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
