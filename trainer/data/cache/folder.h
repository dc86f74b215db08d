/*
 * trainer/data/cache/folder.h -- names in a cache's folder, and removing what is ours.
 */
#ifndef DATA_CACHE_FOLDER_H
#define DATA_CACHE_FOLDER_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"

/* The names in an open folder, hidden ones too, one after the other; the folder stays the caller's.
 * What cannot be listed has none. */
struct data_cache_names {
    DIR *dir;
    const char *name; /* until the next call */
};
void data_cache_names_open(struct data_cache_names *names, int folder);
bool data_cache_names_next(struct data_cache_names *names);
void data_cache_names_close(struct data_cache_names *names);

/** Whether a name is a key in hex. */
bool data_cache_key_read(const char *name, unsigned char key[DIGEST_SHA256_BYTES]);

#define DATA_CACHE_NAME_CHARS 32 /* "0000002a.chunk" */
void data_cache_chunk_name(uint64_t chunk, char name[DATA_CACHE_NAME_CHARS]);

/** Whether a file is a chunk's by its name and beginning; its number and length. One that was made
 * and never begun (its maker was killed) is removed and is none. */
bool data_cache_is_chunk(int folder, const char *name, uint64_t *chunk, uint64_t *bytes);

enum data_cache_removal {
    DATA_CACHE_REMOVED,
    DATA_CACHE_GONE,   /* it is not there */
    DATA_CACHE_BUSY,   /* somebody has a flock on it */
    DATA_CACHE_ALIEN,  /* not ours: left alone */
    DATA_CACHE_FAILED, /* it is still there, or nobody knows: errno */
};
/** Remove a chunk's file; *bytes: its length, also where it is alien. */
enum data_cache_removal data_cache_remove(int folder, const char *name, uint64_t *bytes);

#endif
