/*
 * trainer/data/foreign/member.h -- the members of somebody's tar, one after the other, by their
 * headers alone.
 *
 * Source: POSIX.1-2017, pax (ustar and pax interchange formats); GNU tar manual, "Basic Tar
 * Format" (long names, sizes in base 256). Global pax headers are passed over. Contents are passed
 * over unread; whoever wants one reads it at `offset`.
 */
#ifndef DATA_FOREIGN_MEMBER_H
#define DATA_FOREIGN_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

struct data_bytes;
struct err;

#define DATA_MEMBER_NAME_MAX 1024 /* bytes of a name, without its NUL */

struct data_member {
    char name[DATA_MEMBER_NAME_MAX + 1];
    bool file;              /* a regular file; else a folder, a link, a device, ... */
    uint64_t header;        /* where its (last) header begins */
    uint64_t offset, bytes; /* of its content */
};

/**
 * The member whose header, or the first of whose headers, begins at *at; *at goes on behind it.
 * joined: several tars may lie one behind another, as a Pipe channel has them; else the first end
 * ends it.
 *
 * 1: there is one; 0: the end; -1: ERR_INPUT with file and place (no tar, a damaged header, a name
 * above DATA_MEMBER_NAME_MAX, a content that the tar ends before), and what data_bytes_get says.
 */
int data_member_next(struct data_bytes *bytes, uint64_t *at, bool joined,
                     struct data_member *member, struct err *err);

#endif
