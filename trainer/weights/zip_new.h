/*
 * trainer/weights/zip_new.h -- write a zip whose bytes depend on its entries only.
 *
 * Entries are stored, their data begin at multiples of 64 bytes of the file (as PyTorch's own do,
 * so that it can map them), all dates are the first of 1980. Source: PKWARE, "APPNOTE.TXT - .ZIP
 * File Format Specification", sections 4.3 and 4.4.
 */
#ifndef WEIGHTS_ZIP_NEW_H
#define WEIGHTS_ZIP_NEW_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct err;
struct file_new;

/* All zero but for the file, which is the caller's, is an empty archive. */
struct zip_new {
    struct file_new *file;
    uint64_t bytes; /* written so far */
    struct buf directory;
    unsigned entries;
};

/** Append an entry. ERR_INPUT where the archive would pass 4 GiB (or 65,535 entries), which this
 * form of zip does not count; ERR_IO. */
int zip_new_put(struct zip_new *zip, const char *name, const void *data, size_t bytes,
                struct err *err);

/** Write the directory. What makes the file appear is the caller's. */
int zip_new_finish(struct zip_new *zip, struct err *err);

/** Accepts all-zero. */
void zip_new_release(struct zip_new *zip);

#endif
