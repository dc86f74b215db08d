/*
 * trainer/data/synth/synth.h -- draw a dataset: labelled JPEGs of shapes and textures.
 *
 * Each class is a shape filled with a texture; size, place, rotation, colours, lighting, clutter
 * and noise are random, so that pixels alone tell little and a convolutional network much.
 * Reproducible: the files' bytes depend on the options only (and on libjpeg's version).
 */
#ifndef DATA_SYNTH_H
#define DATA_SYNTH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

struct data_synth_options {
    const char *target; /* DIR/train/CLASS/NNNNN.jpg and DIR/val/CLASS/NNNNN.jpg */
    int classes;        /* 2 .. DATA_SYNTH_CLASSES_MAX */
    int size;           /* pixels, >= 16; of photographs what data_photo_size() is asked for */
    bool photos;        /* as large and as detailed as photographs (photo.h), not size x size */
    uint64_t count; /* training pictures in all; a fifth as many more for validation, at least one a
                       class */
    uint64_t seed;
    const volatile sig_atomic_t *cancel;
};
#define DATA_SYNTH_CLASSES_MAX 1000

/** Draw. ERR_INPUT where target/train or target/val exists and is not empty; ERR_IO; ERR_STOPPED.
 */
int data_synth(const struct data_synth_options *options, struct err *err);

#endif
