/*
 * launcher/handover.h -- what the leader tells an agent that it starts over ssh, on the agent's
 * standard input: the job's key, where the leader is, and the environment that the ranks need
 * (credentials among it, which so appear on no command line).
 */
#ifndef LAUNCH_HANDOVER_H
#define LAUNCH_HANDOVER_H

struct err;
struct launch_leader_job;
struct launch_peer;

/** Start the agent of this host. port: where the leader listens. ERR_IO. */
int launch_handover_start(struct launch_peer *peer, const struct launch_leader_job *job, int port,
                          struct err *err);

/** The verb `agent`: read what is handed over, take part to the end; *status is the job's. The
 * leader is where ssh came from (SSH_CONNECTION), unless another address was given. ERR_USAGE: not
 * started by a leader. */
int launch_handover_serve(int *status, struct err *err);

#endif
