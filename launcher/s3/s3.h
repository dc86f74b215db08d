/*
 * launcher/s3/s3.h -- `convoy s3 ls|cp|cat|rm`: the S3 client by hand.
 */
#ifndef LAUNCH_S3_H
#define LAUNCH_S3_H

struct err;

/** Run the verb; argv[0] is "s3". 0, or -1 with err. Call once, from a process with one thread. An
 * interrupt (SIGINT, SIGTERM, SIGHUP) ends what is under way at once, leaving no half of a file or
 * object, and then this process, by that signal. */
int launch_s3_run(int argc, char *const *argv, struct err *err);

#endif
