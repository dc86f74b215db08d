/*
 * trainer/data/picture/transform_text.h -- an evaluation's transform as options word it, and as a
 * model's config.json keeps it.
 *
 * In config.json, beside what else is there:
 *
 *     "image_size": 224, "eval_transform": "center", "normalize": {"mean": [...], "std": [...]}
 *
 * Whoever loads the model feeds it the pictures that it was trained for by these three.
 */
#ifndef DATA_PICTURE_TRANSFORM_TEXT_H
#define DATA_PICTURE_TRANSFORM_TEXT_H

#include <jansson.h>
#include <stdbool.h>

#include "trainer/data/picture/transform.h"

struct err;

#define DATA_IMAGE_SIZE_MIN 8 /* of a network's input; pixels along a side */
#define DATA_IMAGE_SIZE_MAX 2048

/** Set mean and std. "imagenet": its statistics; "none": 0 and 1, values stay in [0, 1];
 * "R,G,B/R,G,B": means, in [0, 1], and standard deviations, in [0.001, 10], of pictures in [0, 1]
 * (of other ranges they are refused: they would be for pictures in 0..255). ERR_USAGE says what
 * the text should be; then nothing is set. */
int data_transform_set_normalize(struct data_transform *transform, const char *text,
                                 struct err *err);

/** Set kind: "center" or "resize". false: another text, nothing is set. */
bool data_transform_set_eval(struct data_transform *transform, const char *text);

/** "center" or "resize" of an evaluation's kind. */
const char *data_transform_eval_name(enum data_transform_kind kind);

/** Put size, kind (of an evaluation) and normalisation into config, an object. */
void data_transform_to_json(const struct data_transform *transform, json_t *config);

/** The same back, bit for bit. Where config has no "eval_transform" (models of before it had one)
 * kind stays what the caller set. ERR_INPUT names the key and `what`, the file; then nothing is
 * set. */
int data_transform_from_json(struct data_transform *transform, const json_t *config,
                             const char *what, struct err *err);

#endif
