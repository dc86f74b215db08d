/*
 * trainer/checkpoint/holder.h -- the lease's object: who holds a prefix, as it is written there.
 *
 * "convoy-lease.json" is {"format": "convoy-lease-1", "job", "generation", "host", "pid", "start",
 * "sequence", "released"}. For lease.c only.
 */
#ifndef CHECKPOINT_HOLDER_H
#define CHECKPOINT_HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "s3io/object.h"
#include "trainer/checkpoint/lease.h"

struct err;
struct place;

#define HOLDER_HOST_CHARS 256

struct holder {
    char job[LEASE_JOB_CHARS], host[HOLDER_HOST_CHARS];
    int64_t generation, pid;
    int64_t start;    /* random: which start of a process this is; in containers pids repeat */
    int64_t sequence; /* grows with each renewal, so that no two have the same content */
    bool released;
};

/* What is at the key. */
struct holder_seen {
    bool there;
    struct holder holder;
    struct s3_object object; /* its ETag and times */
    double since_s; /* lease.c's: of our clock, how long it has been this as far as we know */
};

/** Read the object. 0, also where there is none; -1: ERR_INPUT (no lease of ours; refused),
 * ERR_NET. */
int holder_read(struct s3_client *client, const struct place *place, struct holder_seen *seen,
                struct err *err);

/** Write the object over the one with the ETag `over`, or ("") where there is none. As
 * s3_object_put: S3_NO where the condition does not hold. */
int holder_write(struct s3_client *client, const struct place *place, const struct holder *holder,
                 const char *over, struct s3_object *object, struct err *err);

/** Remove the object, whoever's it is; a failure is of no account. */
void holder_remove(struct s3_client *client, const struct place *place);

#endif
