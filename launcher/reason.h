/*
 * launcher/reason.h -- why the ranks failed, for the platform's failure file.
 *
 * The rank that says an error also writes its line to the file that CONVOY_FAILURE names. Under our
 * own launcher that is a private one, taken up only when the job has failed for good: a failure
 * that a restart mended is none. Under somebody else's mpirun nobody is left to take it up, and it
 * is the platform's own.
 */
#ifndef LAUNCH_REASON_H
#define LAUNCH_REASON_H

struct err;
struct launch_sagemaker;

struct launch_reason {
    char *folder, *file; /* NULL: the platform has no such file */
};

/** Make the private file's folder and set CONVOY_FAILURE. Does nothing where the platform is
 * inactive. ERR_IO. */
int launch_reason_init(struct launch_reason *reason, const struct launch_sagemaker *sagemaker,
                       struct err *err);

/** Write the platform's failure file if the status is none of success: with the rank's line, or
 * where no rank of this host had one, with what the status means. */
void launch_reason_tell(const struct launch_reason *reason,
                        const struct launch_sagemaker *sagemaker, int status);

/** Removes folder and file. Accepts all-zero. */
void launch_reason_release(struct launch_reason *reason);

/** For a rank under a foreign mpirun: CONVOY_FAILURE is the platform's file. */
void launch_reason_hand_over(const struct launch_sagemaker *sagemaker);

#endif
