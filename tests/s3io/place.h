/*
 * tests/s3io/place.h -- a home folder of its own and no AWS variables, for tests that read settings
 * or credentials.
 */
#ifndef TESTS_S3IO_PLACE_H
#define TESTS_S3IO_PLACE_H

/** Make an empty folder, set HOME to it, unset all variables that begin with AWS_ or that s3io
 * reads, and turn instance metadata off. */
void place_open(void);
/** Remove the folder. */
void place_close(void);

#define PLACE_SECRET "wJalrXUtnFEMI/K7MDENG" /* must be in no message */

/** Fixtures of a group: place_open, and keys in the environment with PLACE_SECRET; place_close. */
int place_setup(void **state);
int place_teardown(void **state);

/** A path in it; valid until the fourth call from now. */
const char *place_path(const char *name);
/** Write a file (making its folder); its path. */
const char *place_write(const char *name, const char *text);

#endif
