/*
 * trainer/eval.h -- `convoy eval`: how well a trained model knows labelled pictures.
 */
#ifndef TRAIN_EVAL_H
#define TRAIN_EVAL_H

#include <stdbool.h>

struct comm;
struct err;
struct train_infer_options;

/**
 * Score the pictures that the options name, exactly: the numbers are those of a run's last
 * evaluation of the same pictures, on any number of ranks. Collective.
 *
 * Results go to stdout ("Testing Loss:", "Testing Accuracy:", "Testing Top-5 Accuracy:") and, with
 * options->report, to evaluation.json, classes.csv and confusion.csv there, each appearing whole.
 * stdout has them also where these cannot be written (ERR_IO).
 *
 * Returns 0; -1 with err: ERR_INPUT (model or pictures, or their classes differ), ERR_USAGE,
 * ERR_STOPPED when asked to stop, and what reading says. *agreed as of train_run.
 */
int train_eval(const struct train_infer_options *options, struct comm *comm, bool *agreed,
               struct err *err);

#endif
