/*
 * trainer/weights/choice.h -- which of a model's files its weights are.
 */
#ifndef WEIGHTS_CHOICE_H
#define WEIGHTS_CHOICE_H

#include <stdbool.h>

struct err;

/* The best of the names offered so far. All zero to begin with. */
struct weights_choice {
    char *name, *other; /* other: one as good, so that nothing is chosen */
    int rank;
    bool params; /* there were MXNet's .params */
};

/** Offer a file's name, without a folder: model.safetensors is better than model.pth, that than
 * other .safetensors, .pth and .pt files, those than model.tar.gz, and that than other .tar.gz and
 * .tgz files. Whether it is better than all before. */
bool weights_choice_offer(struct weights_choice *choice, const char *name);
/** 0 where there is one name that is the best; ERR_INPUT names `path`, the folder. */
int weights_choice_settle(const struct weights_choice *choice, const char *path, struct err *err);
/** Accepts all-zero. */
void weights_choice_release(struct weights_choice *choice);

/** Whether a name ends as one of those above does. */
bool weights_is_name(const char *name);

#endif
