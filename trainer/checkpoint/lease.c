/* trainer/checkpoint/lease.c -- see lease.h. */
#include "trainer/checkpoint/lease.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/entropy.h"
#include "base/err.h"
#include "base/log.h"
#include "s3io/client.h"
#include "trainer/checkpoint/holder.h"
#include "trainer/checkpoint/place.h"

#define POLLS_PER_LAPSE   20 /* while watching another's */
#define RETRIES_PER_RENEW 5  /* how much sooner than renew_s after a renewal that failed */
#define RENEW_TRIES       3 /* in one renewal: an answer that was lost, an object that was removed */
#define RENEW_PATIENCE_S  1.0 /* of a request: it is the renewal that is tried again */
/* Of a request while it is taken: nobody tries that again. The same as that of a run's other
 * requests on several ranks, who give this one up later (trainer/pace.h). */
#define TAKE_PATIENCE_S   45.0

struct lease {
    /* A client of its own, so that ending the lease ends its requests and nobody else's; one for
     * the taking, another one from start() on. */
    struct s3_client *client;
    volatile sig_atomic_t cancel;
    struct place place;
    double renew_s, lapse_s, margin_s;
    bool started;
    pthread_t thread;
    char etag[S3_ETAG_CHARS]; /* of what we wrote last; "" where there is none. The thread's */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct holder self;
    bool raised; /* the generation, since the last renewal: it is due now */
    bool ending, ended, lost;
    double renewed_s; /* just before the last renewal was sent */
    struct err why;   /* of lost */
};

static uint64_t random_number(void)
{
    uint64_t number;

    entropy_fill(&number, sizeof number);
    return number;
}

void lease_job(char job[LEASE_JOB_CHARS])
{
    static const char *const names[] = {"CONVOY_JOB", "TRAINING_JOB_ARN", "SLURM_JOB_ID",
                                        "PBS_JOBID"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *const text = getenv(names[i]);

        if (text != NULL && text[0] != '\0') {
            snprintf(job, LEASE_JOB_CHARS, "%s", text);
            return;
        }
    }
    snprintf(job, LEASE_JOB_CHARS, "%016" PRIx64, random_number());
}

/* --- taking it --- */

/* By the server's clock; or we have seen it unchanged for so long, where that clock is no help: a
 * time that an answer leaves out is 0. */
static bool has_lapsed(const struct lease *lease, const struct holder_seen *seen)
{
    const struct s3_object *const object = &seen->object;

    return (object->modified_s > 0 && object->server_s - object->modified_s >= lease->lapse_s) ||
           clock_now_s() - seen->since_s >= lease->lapse_s;
}

static int say_alive(const struct lease *lease, const struct holder *holder, struct err *err)
{
    return err_set(err, ERR_USAGE,
                   "'%s' belongs to the job '%s', which is alive on %s (process %" PRId64
                   ") and renews its lease: end that job, or give another prefix",
                   lease->place.text, holder->job, holder->host, holder->pid);
}

static void say_waiting(const struct lease *lease, const struct holder_seen *seen)
{
    const double left = lease->lapse_s - (seen->object.server_s - seen->object.modified_s);

    log_info("'%s' is the job '%s''s on %s: waiting up to %.0f s for its lease to lapse, or to be "
             "renewed if the job is alive",
             lease->place.text, seen->holder.job, seen->holder.host, ceil(left));
}

static int wait_a_little(const struct lease *lease, const volatile sig_atomic_t *cancel,
                         struct err *err)
{
    clock_sleep_s(lease->lapse_s / POLLS_PER_LAPSE);
    if (cancel != NULL && *cancel != 0)
        return err_set(err, ERR_STOPPED, "stopped while waiting for the lease of '%s'",
                       lease->place.text);
    return 0;
}

/* Wait until the lease may be taken over what is in *seen. Another one that takes it meanwhile is
 * watched from its start. */
static int wait_for_turn(const struct lease *lease, const volatile sig_atomic_t *cancel,
                         struct holder_seen *seen, struct err *err)
{
    struct holder_seen watched = {0};

    for (;;) {
        if (holder_read(lease->client, &lease->place, seen, err) < 0)
            return -1;
        seen->since_s =
            strcmp(watched.object.etag, seen->object.etag) == 0 ? watched.since_s : clock_now_s();
        if (!seen->there || seen->holder.released || has_lapsed(lease, seen) ||
            strcmp(seen->holder.job, lease->self.job) == 0)
            return 0;
        if (!watched.there)
            say_waiting(lease, seen);
        else if (watched.holder.start == seen->holder.start &&
                 strcmp(watched.object.etag, seen->object.etag) != 0)
            return say_alive(lease, &seen->holder, err);
        watched = *seen;
        if (wait_a_little(lease, cancel, err) < 0)
            return -1;
    }
}

static void say_taken(const struct lease *lease, const struct holder_seen *seen)
{
    if (!seen->there || seen->holder.released)
        return;
    if (strcmp(seen->holder.job, lease->self.job) == 0)
        log_debug("the lease of '%s' goes over from generation %" PRId64 " of this job to %" PRId64,
                  lease->place.text, seen->holder.generation, lease->self.generation);
    else
        log_info("the lease of the job '%s' on '%s' has lapsed; it is ours now", seen->holder.job,
                 lease->place.text);
}

/* A server that does not know conditions either says so or pays no heed to them. */
static int warn_unconditional(const struct lease *lease, const char *why)
{
    log_warn("the server of '%s' knows no conditional writes (%s): nothing keeps a second job from "
             "saving there",
             lease->place.text, why);
    return 0;
}

/* That the lease is refused to somebody who comes second is what all rests on. 1: it is. */
static int check_conditions(struct lease *lease, struct err *err)
{
    struct s3_object object = {0};
    struct holder second = lease->self;
    int rc;

    second.sequence++;
    rc = holder_write(lease->client, &lease->place, &second, "", &object, err);
    if (rc == S3_YES) {
        holder_remove(lease->client, &lease->place);
        return warn_unconditional(lease, "it overwrites");
    }
    return rc < 0 ? -1 : 1;
}

/* As lease_take, without the thread. */
static int take(struct lease *lease, const struct lease_options *options, struct err *err)
{
    for (;;) {
        struct s3_object object = {0};
        struct holder_seen seen = {0};
        double begun;
        int rc;

        if (wait_for_turn(lease, options->cancel, &seen, err) < 0)
            return -1;
        lease->self.generation = options->generation;
        if (seen.there && seen.holder.generation > lease->self.generation)
            lease->self.generation = seen.holder.generation;
        lease->self.generation++;
        begun = clock_now_s();
        rc = holder_write(lease->client, &lease->place, &lease->self,
                          seen.there ? seen.object.etag : "", &object, err);
        if (rc < 0 && place_is_unconditional(err))
            return warn_unconditional(lease, err->msg);
        if (rc < 0)
            return -1;
        if (rc == S3_NO) /* somebody was faster: see who */
            continue;
        memcpy(lease->etag, object.etag, sizeof lease->etag);
        lease->renewed_s = begun;
        say_taken(lease, &seen);
        return check_conditions(lease, err);
    }
}

/* --- keeping it --- */

static void set_lost(struct lease *lease, const struct holder *holder)
{
    pthread_mutex_lock(&lease->mutex);
    lease->lost = true;
    err_set(&lease->why, ERR_PEER,
            "the lease of '%s' was lost: the job '%s' on %s (generation %" PRId64
            ") has taken it; nothing more is saved there by this one (job '%s', generation %" PRId64
            ")",
            lease->place.text, holder->job, holder->host, holder->generation, lease->self.job,
            lease->self.generation);
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mutex);
}

static void set_renewed(struct lease *lease, double begun, const struct holder *as,
                        const char *etag)
{
    memcpy(lease->etag, etag, sizeof lease->etag);
    pthread_mutex_lock(&lease->mutex);
    lease->renewed_s = begun;
    lease->self.sequence = as->sequence;
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mutex);
}

/* The object has another ETag than we know: after a lost answer it may still be ours, and one that
 * was removed can be made again. False: it is another's now. */
static bool is_still_ours(struct lease *lease, const struct holder_seen *seen)
{
    if (!seen->there) {
        lease->etag[0] = '\0';
        return true;
    }
    if (seen->holder.start != lease->self.start) {
        set_lost(lease, &seen->holder);
        return false;
    }
    memcpy(lease->etag, seen->object.etag, sizeof lease->etag);
    return true;
}

/* One renewal, on the thread or after its end. 0 when it is done or the lease is lost. */
static int renew(struct lease *lease, bool release, struct err *err)
{
    for (int i = 0; i < RENEW_TRIES; i++) {
        const double begun = clock_now_s();
        struct s3_object object = {0};
        struct holder_seen seen = {0};
        struct holder next;
        int rc;

        pthread_mutex_lock(&lease->mutex);
        next = lease->self;
        pthread_mutex_unlock(&lease->mutex);
        next.sequence += 1 + i;
        next.released = release;
        rc = holder_write(lease->client, &lease->place, &next, lease->etag, &object, err);
        if (rc < 0)
            return -1;
        if (rc == S3_YES) {
            set_renewed(lease, begun, &next, object.etag);
            return 0;
        }
        if (holder_read(lease->client, &lease->place, &seen, err) < 0)
            return -1;
        if (!is_still_ours(lease, &seen))
            return 0;
    }
    return err_set(err, ERR_NET, "the lease of '%s' keeps changing while it is renewed",
                   lease->place.text);
}

/* Wait for a change until clock_now_s() is `until`; the mutex is held. */
static void wait_until(struct lease *lease, double until)
{
    const struct timespec at = {.tv_sec = (time_t)until,
                                .tv_nsec = (long)((until - floor(until)) * 1e9)};

    pthread_cond_timedwait(&lease->changed, &lease->mutex, &at);
}

/* Say once that renewals fail, and once that they go well again. */
static void tell(const struct lease *lease, bool failed, bool *away, const struct err *err)
{
    if (failed && !*away)
        log_warn("cannot renew the lease of '%s', and go on trying; without it nothing is saved: "
                 "%s",
                 lease->place.text, err->msg);
    if (!failed && *away)
        log_info("the lease of '%s' is renewed again", lease->place.text);
    *away = failed;
}

static void *keep(void *argument)
{
    struct lease *const lease = argument;
    double next = clock_now_s() + lease->renew_s;
    bool away = false;

    pthread_mutex_lock(&lease->mutex);
    while (!lease->ending && !lease->lost) {
        struct err err = {0};
        bool failed;

        if (!lease->raised && clock_now_s() < next) {
            wait_until(lease, next);
            continue;
        }
        lease->raised = false;
        pthread_mutex_unlock(&lease->mutex);
        failed = renew(lease, false, &err) < 0;
        pthread_mutex_lock(&lease->mutex);
        if (!lease->ending && !lease->lost)
            tell(lease, failed, &away, &err);
        next = clock_now_s() + (failed ? lease->renew_s / RETRIES_PER_RENEW : lease->renew_s);
    }
    lease->ended = true;
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mutex);
    return NULL;
}

/* Signals are the main thread's. */
static int start(struct lease *lease, struct err *err)
{
    const struct s3_client_options options = {.cancel = &lease->cancel,
                                              .patience_s = RENEW_PATIENCE_S};
    sigset_t all, before;
    int why;

    s3_client_close(lease->client);
    lease->client = NULL;
    if (s3_client_open(&lease->client, &options, err) < 0)
        return -1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    why = pthread_create(&lease->thread, NULL, keep, lease);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why != 0)
        return err_set_errno(err, ERR_INTERNAL, why, "cannot start a thread");
    lease->started = true;
    return 0;
}

/* --- the rest of its life --- */

static int open_lease(struct lease *lease, const struct lease_options *options, struct err *err)
{
    const struct s3_client_options client = {.cancel = options->cancel,
                                             .patience_s = TAKE_PATIENCE_S};
    pthread_condattr_t monotonic;

    pthread_mutex_init(&lease->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lease->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    lease->renew_s = options->renew_s > 0 ? options->renew_s : LEASE_RENEW_S;
    lease->lapse_s = options->lapse_s > 0 ? options->lapse_s : LEASE_LAPSE_S;
    lease->margin_s = options->lapse_s > 0 ? options->lapse_s / 4 : LEASE_MARGIN_S;
    snprintf(lease->self.job, sizeof lease->self.job, "%s", options->job);
    snprintf(lease->self.host, sizeof lease->self.host, "%s", options->host);
    lease->self.pid = getpid();
    lease->self.start = (int64_t)(random_number() >> 1);
    if (place_open(&lease->place, options->place, err) < 0)
        return -1;
    return s3_client_open(&lease->client, &client, err);
}

static void close_lease(struct lease *lease)
{
    s3_client_close(lease->client);
    pthread_cond_destroy(&lease->changed);
    pthread_mutex_destroy(&lease->mutex);
    place_release(&lease->place);
    free(lease);
}

int lease_take(struct lease **lease, const struct lease_options *options, struct err *err)
{
    struct lease *const new = calloc(1, sizeof *new);
    int rc = -1;

    if (new == NULL)
        abort();
    *lease = NULL;
    if (open_lease(new, options, err) == 0)
        rc = take(new, options, err);
    if (rc > 0 && start(new, err) < 0)
        rc = -1;
    if (rc > 0)
        *lease = new;
    else
        close_lease(new);
    return rc;
}

int lease_generation(const struct lease *lease)
{
    return (int)lease->self.generation; /* changed by its owner only, who asks */
}

void lease_raise(struct lease *lease, int generation)
{
    pthread_mutex_lock(&lease->mutex);
    lease->raised = generation > lease->self.generation;
    lease->self.generation = generation;
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mutex);
}

static bool is_held(const struct lease *lease)
{
    return !lease->lost && clock_now_s() - lease->renewed_s < lease->lapse_s - lease->margin_s;
}

int lease_check(struct lease *lease, double wait_s, struct err *err)
{
    const double until = clock_now_s() + wait_s;
    int rc = 0;

    if (lease == NULL)
        return 0;
    pthread_mutex_lock(&lease->mutex);
    while (!lease->lost && !is_held(lease) && clock_now_s() < until)
        wait_until(lease, until);
    if (lease->lost) {
        *err = lease->why;
        rc = -1;
    } else if (!is_held(lease)) {
        rc = err_set(err, ERR_NET,
                     "the lease of '%s' was renewed %.0f s ago last: another job may have it",
                     lease->place.text, clock_now_s() - lease->renewed_s);
    }
    pthread_mutex_unlock(&lease->mutex);
    return rc;
}

bool lease_lost(struct lease *lease, struct err *err)
{
    bool lost;

    if (lease == NULL)
        return false;
    pthread_mutex_lock(&lease->mutex);
    lost = lease->lost;
    if (lost && err != NULL)
        *err = lease->why;
    pthread_mutex_unlock(&lease->mutex);
    return lost;
}

static void end_thread(struct lease *lease)
{
    const double until = clock_now_s() + LEASE_END_S;

    pthread_mutex_lock(&lease->mutex);
    lease->ending = true;
    pthread_cond_broadcast(&lease->changed);
    while (!lease->ended && clock_now_s() < until)
        wait_until(lease, until);
    if (!lease->ended)
        __atomic_store_n(&lease->cancel, 1, __ATOMIC_RELAXED); /* the thread looks at it */
    pthread_mutex_unlock(&lease->mutex);
    pthread_join(lease->thread, NULL);
}

void lease_release(struct lease *lease)
{
    struct err err = {0};

    if (lease == NULL)
        return;
    if (lease->started)
        end_thread(lease);
    if (lease->cancel == 0 && is_held(lease) && renew(lease, true, &err) < 0)
        log_warn("cannot give back the lease of '%s', the next job has to wait for it to lapse: %s",
                 lease->place.text, err.msg);
    close_lease(lease);
}
