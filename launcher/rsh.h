/*
 * launcher/rsh.h -- Open MPI's remote shell: `convoy rsh HOST orted ...`, which mpirun starts once
 * per host, hands its words to the leader and ends when that host has started orted.
 *
 * They meet at a socket in the leader's private folder, named by CONVOY_RSH. The request is HOST
 * and the words, each ended by a NUL byte, then the end of the stream; the answer is one line,
 * which is empty for success. No line at all means that the leader is gone.
 */
#ifndef LAUNCH_RSH_H
#define LAUNCH_RSH_H

#include <stdbool.h>

#include "base/buf.h"
#include "launcher/words.h"

struct err;

#define LAUNCH_RSH_BYTES_MAX 49152 /* of a request: as JSON it fits a frame of a channel */

/** The verb: argv[0] is HOST. Blocks until the answer is there. ERR_USAGE: not started by mpirun;
 * ERR_PEER: what the leader or the host answered, or that no answer came. */
int launch_rsh_call(int argc, char *const *argv, struct err *err);

/* The leader's side. */
struct launch_rsh_request {
    int fd; /* of the caller, who waits for the answer */
    int number;
    bool whole;       /* host and words are there */
    struct buf bytes; /* as they come */
    char *host;
    struct launch_words words;
};

struct launch_rsh {
    int fd; /* 0: closed */
    int next_number;
    struct launch_rsh_request *at;
    int count;
};

/** Listen at the path. ERR_IO. */
int launch_rsh_open(struct launch_rsh *rsh, const char *path, struct err *err);
/** Whoever waits is answered with an error. Accepts all-zero. */
void launch_rsh_close(struct launch_rsh *rsh);

/** The next request that is whole and was not returned before; NULL: none. Valid until the next
 * call of this or of answer. Does not block. */
const struct launch_rsh_request *launch_rsh_next(struct launch_rsh *rsh);

/** Answer the request of that number, if it still waits: failure NULL or "" is success. */
void launch_rsh_answer(struct launch_rsh *rsh, int number, const char *failure);

#endif
