/* base/clock.h -- seconds. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/** Seconds on a clock that never jumps (CLOCK_MONOTONIC); only differences mean anything. */
double clock_now_s(void);

/** Seconds since 1970 UTC, for logs and records. */
double clock_wall_s(void);

/** Sleep `seconds` (or less, if a signal handler runs). */
void clock_sleep_s(double seconds);

#endif
