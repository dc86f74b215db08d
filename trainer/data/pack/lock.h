/*
 * trainer/data/pack/lock.h -- a file that one process at a time holds (flock): of this host, and
 * where the file system says so to others (NFS), of all hosts.
 */
#ifndef DATA_PACK_LOCK_H
#define DATA_PACK_LOCK_H

struct err;

/** Take the lock of a file, made where it is missing, and never wait for it: 1, and *fd holds it
 * until it is closed; 0: another holds it (a second time in one process too). Where the file system
 * has no locks it is taken without one. -1: ERR_IO. */
int data_lock_take(const char *path, int *fd, struct err *err);

#endif
