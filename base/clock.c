#include "base/clock.h"

#include <time.h>

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double clock_now_s(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

double clock_wall_s(void)
{
    return seconds_of(CLOCK_REALTIME);
}

void clock_sleep_s(double seconds)
{
    struct timespec pause;

    if (!(seconds > 0))
        return;
    pause.tv_sec = (time_t)seconds;
    pause.tv_nsec = (long)((seconds - (double)pause.tv_sec) * 1e9);
    nanosleep(&pause, NULL);
}
