/*
 * trainer/data/picture/transform.h -- a decoded picture to the network's input: crop, resize, flip,
 * normalise.
 *
 * Random choices come from Philox with (seed, sample, view): the same on any rank, thread and
 * resume. The view is the epoch, or the epoch modulo `views`.
 */
#ifndef DATA_PICTURE_TRANSFORM_H
#define DATA_PICTURE_TRANSFORM_H

#include <stddef.h>
#include <stdint.h>

struct data_decoder;
struct data_image;
struct data_part;
struct data_shape;
struct err;

enum data_transform_kind {
    DATA_TRANSFORM_RESIZED_CROP, /* training: RandomResizedCrop (area 0.08..1, aspect 3/4..4/3, 10
                                    tries, else centre; as torchvision: Szegedy et al. 2014) and
                                    horizontal flip with probability 1/2 */
    DATA_TRANSFORM_PAD_CROP, /* training on small pictures: resize to the size if it differs, pad 4
                                (zeros after normalisation's mean, as He et al. 2015 section 4.2),
                                crop at random, flip */
    DATA_TRANSFORM_CENTER,   /* evaluation: shorter side to size * 256 / 224, centre crop */
    DATA_TRANSFORM_RESIZE,   /* evaluation of small pictures: resize both sides to the size if they
                                differ */
};

struct data_transform {
    enum data_transform_kind kind;
    int size;              /* output is (size, size, 3) */
    float mean[3], std[3]; /* per channel, of values in [0, 1] */
    uint64_t seed;
    uint32_t views; /* training: so many fixed crops and flips of each picture, one an epoch in
                       turn; 0: a new one each epoch */
};

/** Which of a picture's views an epoch sees: with equal seed, sample and view
 * data_transform_apply writes equal floats. Evaluation's kinds have one, 0. */
uint32_t data_transform_view(const struct data_transform *transform, uint32_t epoch);

/** ImageNet's statistics, as torchvision's models use them. */
extern const float data_imagenet_mean[3], data_imagenet_std[3];

/* A thread's scratch for resizing; all zero to begin. */
struct data_scratch {
    int *ints;
    size_t capacity;
};
void data_scratch_release(struct data_scratch *scratch);

/** The part of a picture that data_transform_apply looks at. Where the picture can be decoded
 * shrunk it is, by 2, 4 or 8, when the crop has that many pixels for each output along both sides.
 */
struct data_part data_transform_part(const struct data_transform *transform,
                                     const struct data_shape *shape, uint64_t sample,
                                     uint32_t epoch);

/** Decode that part: data_decoder_begin, then data_decoder_part. */
int data_transform_decode(const struct data_transform *transform, struct data_decoder *decoder,
                          const void *data, size_t bytes, uint64_t sample, uint32_t epoch,
                          struct data_image *image, struct err *err);

/** Write (size, size, 3) floats to out, of the picture held upright. The image has to hold
 * data_transform_part; the floats are the same however much more it holds. Resizing is antialiased
 * bilinear, as PIL's BILINEAR on images, in whole numbers (resize.h). */
void data_transform_apply(const struct data_transform *transform, const struct data_image *image,
                          uint64_t sample, uint32_t epoch, struct data_scratch *scratch,
                          float *out);

#endif
