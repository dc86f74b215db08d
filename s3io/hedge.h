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

#define S3_HEDGE_MIN_S   0.05 /* sooner it is never worth a request */
#define S3_HEDGE_SHARE   20   /* at most one second request for so many first ones: 5 % */
#define S3_HEDGE_SAMPLES 16   /* of ranges like it that have to be known */
#define S3_HEDGE_MEMORY  64   /* of which the last so many count */
#define S3_HEDGE_CLASSES 48   /* by size: powers of two */

struct s3_hedge {
    double min_s;                     /* S3_HEDGE_MIN_S; tests make it short */
    pthread_mutex_t mutex;            /* guards what follows */
    unsigned long long first, second; /* requests */
    struct s3_hedge_class {
        float seconds[S3_HEDGE_MEMORY]; /* a ring */
        unsigned count;
        double limit_s; /* 0: not known yet */
    } classes[S3_HEDGE_CLASSES];
};

void s3_hedge_init(struct s3_hedge *hedge);
void s3_hedge_release(struct s3_hedge *hedge);

/** After how many seconds a range of so many bytes shall be asked for again; 0: not at all. Any
 * thread, as both below. */
double s3_hedge_after_s(struct s3_hedge *hedge, uint64_t bytes);

/** How long the range took until it was whole (seconds; 0: it failed), and whether it was asked for
 * twice. */
void s3_hedge_note(struct s3_hedge *hedge, uint64_t bytes, double seconds, bool hedged);

#endif
