/*
 * trainer/predict.h -- `convoy predict`: what a trained model takes pictures for.
 */
#ifndef TRAIN_PREDICT_H
#define TRAIN_PREDICT_H

struct err;
struct train_infer_options;

/**
 * Write a prediction for each picture that the options name, in their order (report/predictions.h),
 * to stdout as they come, or to options->output, which appears whole or not at all. One process.
 *
 * A picture that cannot be read or decoded has a line that says why, in S3 one that goes or changes
 * after its place was listed too; a shard that cannot be read ends it. A picture's numbers depend
 * on the model and the picture alone.
 *
 * Returns 0; -1 with err: ERR_INPUT, also where there was not one prediction (then options->output
 * is not written), ERR_USAGE, ERR_IO, ERR_STOPPED, and what reading says.
 */
int train_predict(const struct train_infer_options *options, struct err *err);

#endif
