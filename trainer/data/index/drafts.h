/*
 * trainer/data/index/drafts.h -- drafts of files (base/file.h) that a process of this host left
 * behind.
 */
#ifndef DATA_INDEX_DRAFTS_H
#define DATA_INDEX_DRAFTS_H

#include <stdbool.h>

/** Remove the drafts in a folder whose process is no more; is_ours says of the name of one, with
 * the dot in front, whether it is to be looked at. What cannot be removed stays. */
void data_drafts_remove(const char *folder, bool (*is_ours)(const char *name));

#endif
