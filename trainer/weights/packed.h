/*
 * trainer/weights/packed.h -- the weights in a model.tar.gz, and which of a model's files they are.
 *
 * SageMaker keeps what a training leaves as one model.tar.gz, and gives it to the next one as the
 * channel `model`, packed or not. Source: Amazon SageMaker Developer Guide, "Incremental Training".
 */
#ifndef WEIGHTS_PACKED_H
#define WEIGHTS_PACKED_H

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct err;

/* The best of the names offered so far. All zero to begin with. */
struct weights_choice {
    char *name, *other; /* other: one as good, so that nothing is chosen */
    int rank;
    bool params; /* there were MXNet's .params */
};

/** Offer a file's name, without a folder: model.safetensors is better than model.pth, that than
 * other .safetensors, .pth and .pt files, those than model.tar.gz, and that than other .tar.gz and
 * .tgz files. */
void weights_choice_offer(struct weights_choice *choice, const char *name);
/** 0 where there is one name that is the best; ERR_INPUT names `path`, the folder. */
int weights_choice_settle(const struct weights_choice *choice, const char *path, struct err *err);
/** Accepts all-zero. */
void weights_choice_release(struct weights_choice *choice);

/** Whether a name ends as one of those above does. */
bool weights_is_name(const char *name);

/** Whether these bytes begin as a gzip does. */
bool weights_is_packed(const void *bytes, size_t count);

/**
 * Unpack the weights of a tar.gz in memory, the best name of those in its topmost folder.
 *
 * path    names the file in errors.
 * out     their bytes are appended to it.
 * member  the name, heap, the caller frees; set on success only.
 *
 * The sum of the gzip is checked. ERR_INPUT: no gzip of a tar, damaged, cut short, more than 4 GiB
 * unpacked, or without weights; ERR_MEMORY.
 */
int weights_unpack(const void *bytes, size_t count, const char *path, struct buf *out,
                   char **member, struct err *err);

#endif
