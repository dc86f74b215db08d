/*
 * launcher/export.h -- variables of our environment, for the ranks and a user's hooks.
 *
 * What is set already, and not empty, stays: the environment comes before files.
 */
#ifndef LAUNCH_EXPORT_H
#define LAUNCH_EXPORT_H

#include <jansson.h>

/* The kernel takes at most 128 KiB for one variable (MAX_ARG_STRLEN), or execve fails. */
#define LAUNCH_EXPORT_BYTES_MAX (100 * 1000)

/** Set a variable. One that is longer than LAUNCH_EXPORT_BYTES_MAX, or a name that no variable can
 * have ("", "A=B"), is left out with a warning. value NULL: nothing is done. */
void launch_export(const char *name, const char *value);

/** The same with a JSON text: compact, keys sorted, ASCII, as the training toolkit writes it. */
void launch_export_json(const char *name, const json_t *value);

/** prefix + name in capitals; other characters than a-z stay ("SM_CHANNEL_MY-DATA.1"). Heap, the
 * caller frees. */
char *launch_export_name(const char *prefix, const char *name);

#endif
