/*
 * launcher/polls.h -- the file descriptors that an event loop sleeps on.
 *
 * Only to sleep: whoever owns a descriptor looks by itself, without blocking, at every turn. So
 * more of them than there is room for are served too, at each timeout.
 */
#ifndef LAUNCH_POLLS_H
#define LAUNCH_POLLS_H

#include <poll.h>

#define LAUNCH_POLLS_MAX     1024
#define LAUNCH_POLLS_WAIT_MS 100 /* also how often files are looked for */

struct launch_polls {
    struct pollfd at[LAUNCH_POLLS_MAX];
    int count;
};

/** Negative descriptors are passed over. */
static inline void launch_polls_add(struct launch_polls *polls, int fd, short events)
{
    if (fd >= 0 && polls->count < LAUNCH_POLLS_MAX)
        polls->at[polls->count++] = (struct pollfd){.fd = fd, .events = events};
}

/** Sleep until something happens or the time is over, and forget the descriptors. */
static inline void launch_polls_wait(struct launch_polls *polls)
{
    poll(polls->at, (nfds_t)polls->count, LAUNCH_POLLS_WAIT_MS);
    polls->count = 0;
}

#endif
