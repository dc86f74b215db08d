/*
 * trainer/data/set/list_file.h -- a list of pictures with their labels, as MXNet's im2rec makes
 * them.
 *
 * Source: MXNet, tools/im2rec.py. A line is "INDEX<TAB>LABEL<TAB>PATH": a number that is not looked
 * at, one label (whole, from 0), and a path below the list's root folder. LF or CR LF; empty lines
 * are passed over.
 */
#ifndef DATA_SET_LIST_FILE_H
#define DATA_SET_LIST_FILE_H

#include <signal.h>

struct data_index;
struct err;

/** Whether a name is that of a list: it ends in ".lst". */
int data_list_is(const char *path);

/** Fill classes and samples (in the list's order) of an index whose root is the folder that the
 * paths are below; a sample's key is its path. The folder may lie in a bucket (it is listed once;
 * crc32c as data_bucket_read), the list too. ERR_INPUT names list and line: not three fields, a
 * label that is no number, a path that leads out of the root, is there twice, or leads to no
 * picture; ERR_STOPPED. */
int data_list_read(struct data_index *index, const char *path, const volatile sig_atomic_t *cancel,
                   struct err *err);

#endif
