/*
 * base/failure.h -- the file in which a platform looks for the reason of a failure.
 *
 * Source: Amazon SageMaker Developer Guide, "How Amazon SageMaker Processes Training Output": the
 * first 1,024 characters of /opt/ml/output/failure become the job's FailureReason.
 */
#ifndef BASE_FAILURE_H
#define BASE_FAILURE_H

struct err;

#define FAILURE_CHARS_MAX 1024

/** Write `reason`, and behind it `where` in parentheses (NULL or "": nothing), as one line of
 * UTF-8: what is none becomes '?', and the reason is cut so that all has at most FAILURE_CHARS_MAX
 * characters. The file appears whole or not at all, and one that is there already stays: the first
 * reason is the one that counts, whichever process has it. Makes the folder. ERR_IO. */
int failure_write(const char *path, const char *reason, const char *where, struct err *err);

#endif
