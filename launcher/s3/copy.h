/*
 * launcher/s3/copy.h -- `convoy s3 cp`: files and folders to S3, from S3, and from S3 to S3.
 *
 * What is to be copied is listed and checked first; then LAUNCH_S3_OBJECTS_AT_ONCE objects are on
 * their way at a time, a large one in parts side by side. A file appears whole (base/file.h), an
 * object too; at the first failure or signal those under way are given up.
 */
#ifndef LAUNCH_S3_COPY_H
#define LAUNCH_S3_COPY_H

#include "launcher/s3/verb.h"

/** cp SRC DST */
int launch_s3_cp(const struct launch_s3 *s3, struct err *err);

#endif
