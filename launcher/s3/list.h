/*
 * launcher/s3/list.h -- `convoy s3 ls` and `convoy s3 rm`.
 */
#ifndef LAUNCH_S3_LIST_H
#define LAUNCH_S3_LIST_H

#include "launcher/s3/verb.h"

/** ls [URI]: to stdout, a line per key: "TIME BYTES KEY", "-" for what a folder does not have, the
 * key as launch_s3_key_show has it behind the one blank after the bytes; with --json an object per
 * line. */
int launch_s3_ls(const struct launch_s3 *s3, struct err *err);

/** rm URI */
int launch_s3_rm(const struct launch_s3 *s3, struct err *err);

#endif
