/*
 * launcher/agent.h -- a host that does what the leader asks for: it starts Open MPI's daemon, tells
 * about its ranks and signals, and ends as all the others do.
 *
 * Messages (channel.h), each {"type": ..., ...}:
 *
 *     agent -> leader   hello                      see crew.h
 *                       beat
 *                       failed    code, reason     this host cannot take part: the job fails
 *                       started   number, reason   answer to run; "": it runs
 *                       orted     status           the daemon ended
 *                       ready                      every rank handles SIGUSR1 (rank 0 is here)
 *                       failure   reason           a rank here said why it failed
 *                       stop      signal           a signal came to this host
 *                       over                       answer: nothing of the generation is left here
 *                       done                       answer: the reason is written down
 *     leader -> agent   refused   reason           cannot take part: wrong version, host or job
 *                       welcome   job, hosts, leader
 *                       beat
 *                       run       number, words    start orted with these words (orted.h)
 *                       over                       the ranks have ended: end what is left
 *                       done      code, reason     the job has ended so
 *                       leave                      every host has heard it: exit
 */
#ifndef LAUNCH_AGENT_H
#define LAUNCH_AGENT_H

#include "launcher/channel.h"
#include "launcher/outcome.h"

struct launch_sagemaker;
struct launch_signals;

struct launch_agent_job {
    const char *host;    /* our name in the job */
    const char *leader;  /* the leader's name, for messages */
    const char *address; /* where it is: a name or an address */
    int port;
    int rendezvous_s;
    const char *job; /* NULL: the leader tells */
    unsigned char key[LAUNCH_KEY_BYTES];
    int input; /* ssh's stream, whose end ends us; -1: none */
    const struct launch_local *local;
    const struct launch_signals *signals;
    const struct launch_sagemaker *sagemaker; /* may be NULL */
};

/** Take part to the end. outcome: with a code already, this host cannot take part, which the leader
 * is told; then how the job ended. */
void launch_agent_run(const struct launch_agent_job *job, struct launch_outcome *outcome);

#endif
