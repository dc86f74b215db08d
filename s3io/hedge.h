/*
 * s3io/hedge.h -- when a range that is slow is asked for a second time.
 *
 * A range of about the same size that takes twice as long as 19 of 20 did is likely to be stuck
 * somewhere: another connection, and maybe another host of S3, has it sooner. Source: Dean and
 * Barroso, "The Tail at Scale", CACM 56(2), 2013 (hedged requests); AWS, "Best practices design
 * patterns: optimizing Amazon S3 performance", timeouts and retries for latency-sensitive
 * applications.
 */
#ifndef S3IO_HEDGE_H
#define S3IO_HEDGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define S3_HEDGE_MIN_S 0.05 /* sooner it is never worth a request */
#define S3_HEDGE_SHARE 20   /* at most one second request for so many first ones: 5 % */
#define S3_HEDGE_BURST 2    /* so many at a time, saved up for by 20 first ones each */
#define S3_HEDGE_QUIET_S                                                                           \
    10.0                    /* none for so long after a server said that it has too much to do     \
                             */
#define S3_HEDGE_SAMPLES 16 /* of ranges like it that have to be known */
#define S3_HEDGE_MEMORY  64 /* of which the last so many count */
#define S3_HEDGE_CLASSES 48 /* by size: powers of two */

struct s3_hedge {
    double min_s, quiet_s; /* S3_HEDGE_MIN_S, S3_HEDGE_QUIET_S; tests make them short */
    pthread_mutex_t mutex; /* guards what follows */
    int credit;            /* first requests that were not spent yet on second ones */
    double quiet_until_s;
    struct s3_hedge_class {
        float seconds[S3_HEDGE_MEMORY]; /* a ring */
        unsigned count;
        double limit_s; /* 0: not known yet */
    } classes[S3_HEDGE_CLASSES];
};

void s3_hedge_init(struct s3_hedge *hedge);
void s3_hedge_release(struct s3_hedge *hedge);

/** After how many seconds a range of so many bytes may be asked for again; 0: not at all. Any
 * thread, as all below. */
double s3_hedge_after_s(struct s3_hedge *hedge, uint64_t bytes);

/** Those seconds are over: may it be now? If so, it is paid for. */
bool s3_hedge_take(struct s3_hedge *hedge);

/** How long the range took until it was whole (seconds; 0: it failed). */
void s3_hedge_note(struct s3_hedge *hedge, uint64_t bytes, double seconds);

/** The server has too much to do: no second requests for a while. */
void s3_hedge_quiet(struct s3_hedge *hedge);

#endif
