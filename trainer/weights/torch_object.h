/*
 * trainer/weights/torch_object.h -- the few names that a pickle of tensors may call, and what they
 * make.
 *
 * Nothing is called: each name stands for a case in torch_object_call. Sources: torch.save's
 * output; docs.python.org/3/library/pickle.html ("Persistence of External Objects") for
 * persistent ids.
 */
#ifndef WEIGHTS_TORCH_OBJECT_H
#define WEIGHTS_TORCH_OBJECT_H

#include "trainer/weights/pickle_value.h"

struct err;

/** Look a name up: sets value (PICKLE_FUNCTION), or refuses it by name (ERR_INPUT). */
int torch_object_find(const char *module, const char *name, struct pickle_value *value,
                      const char *path, struct err *err);

/** What `function` makes of a tuple of arguments; NULL with err set (ERR_INPUT) for anything but
 * the calls that torch.save writes. */
struct pickle_value *torch_object_call(struct pickle_store *store,
                                       const struct pickle_value *function,
                                       const struct pickle_value *arguments, const char *path,
                                       struct err *err);

/** Give an object its state: an OrderedDict's attributes, a Parameter's flags, an old tensor's
 * elements. */
int torch_object_build(struct pickle_value *object, const struct pickle_value *state,
                       const char *path, struct err *err);

/** The storage that a persistent id, ('storage', type, key, location, count[, view]), names. */
struct pickle_value *torch_object_storage(struct pickle_store *store, const struct pickle_value *id,
                                          const char *path, struct err *err);

#endif
