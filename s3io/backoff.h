/*
 * s3io/backoff.h -- how long to wait before the next try, and waiting.
 *
 * A random share (full jitter) of a time that doubles: AWS Architecture Blog, "Exponential Backoff
 * And Jitter", 2015.
 */
#ifndef S3IO_BACKOFF_H
#define S3IO_BACKOFF_H

#include <signal.h>
#include <stdbool.h>

/** Seconds to wait after so many tries (1 or more): anything below first_s * 2^(tries - 1), and
 * below max_s. */
double s3_backoff_s(int tries, double first_s, double max_s);

/** Wait. False: one of the flags (may be NULL) was set, which ends it within 0.1 s. */
bool s3_backoff_wait(double seconds, const volatile sig_atomic_t *cancel,
                     const volatile sig_atomic_t *stop);

#endif
