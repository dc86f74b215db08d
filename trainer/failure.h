/*
 * trainer/failure.h -- the line that a platform shows for a run that failed.
 *
 * CONVOY_FAILURE in the environment names a file; the launcher sets it, whatever it was before. The
 * first failure of all ranks on a host is written there; it appears whole and is never overwritten.
 * What is there when the job ends is what the launcher hands on to the platform, which shows 1024
 * characters.
 */
#ifndef TRAIN_FAILURE_H
#define TRAIN_FAILURE_H

/** Write "PREFIX MESSAGE" as base/failure.h says. Does nothing without CONVOY_FAILURE, or where the
 * file is there. A file that cannot be made is warned of: the message is on stderr too. */
void train_failure_write(const char *prefix, const char *message);

#endif
