/*
 * trainer/weights/zip.h -- a zip archive in memory whose files lie in one folder: what torch.save
 * writes.
 *
 * Read by libarchive, through the central directory, so entries come in any order. Source: PKWARE,
 * "APPNOTE.TXT - .ZIP File Format Specification".
 */
#ifndef WEIGHTS_ZIP_H
#define WEIGHTS_ZIP_H

#include <stdbool.h>
#include <stddef.h>

struct err;

struct weights_zip_entry {
    char *name; /* without the folder */
    const unsigned char *data;
    size_t bytes;
    void *copy; /* what data points to where it was compressed; else data lies in the archive */
};

struct weights_zip {
    struct weights_zip_entry *entries; /* by name, bytewise */
    size_t count;
};

/** Read every entry, stored or deflated, and check its CRC-32. `bytes` has to stay until
 * weights_zip_close. ERR_INPUT names `path` and what is wrong: entries that overlap or have one
 * name, names that leave the folder, other compressions, encryption, links, more than 16 times the
 * bytes of the archive. */
int weights_zip_open(struct weights_zip *zip, const void *bytes, size_t count, const char *path,
                     struct err *err);
/** Accepts all-zero. */
void weights_zip_close(struct weights_zip *zip);

/** Look up; NULL if absent. */
const struct weights_zip_entry *weights_zip_find(const struct weights_zip *zip, const char *name);

#endif
