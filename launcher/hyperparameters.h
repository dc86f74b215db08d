/*
 * launcher/hyperparameters.h -- input/config/hyperparameters.json of a SageMaker job: names to
 * texts.
 *
 * The texts are as their sender wrote them: "64", "\"sgd\"" (a tuner, or an estimator that encodes
 * JSON), "10,20". What they mean is the trainer's business; here they become variables.
 */
#ifndef LAUNCH_HYPERPARAMETERS_H
#define LAUNCH_HYPERPARAMETERS_H

#include <jansson.h>

struct err;

/**
 * Export SM_HP_<NAME> (blanks around it trimmed, a JSON string replaced by its content, once),
 * SM_HPS, SM_USER_ARGS and SM_FRAMEWORK_PARAMS.
 *
 * base     the tree ("/opt/ml"); without the file there are no hyperparameters.
 * decoded  an object that gets a member for each: its text as JSON where it is some (64, [10,20]),
 *          else as a string.
 *
 * The platform's own names (sagemaker_..., _tuning_objective_metric) go to SM_FRAMEWORK_PARAMS
 * alone. ERR_INPUT: the file is not a JSON object, or longer than 1 MiB.
 */
int launch_hyperparameters_export(const char *base, json_t *decoded, struct err *err);

#endif
