/*
 * launcher/sagemaker.h -- the /opt/ml tree of a SageMaker training container: who we are, with
 * whom, and what to train.
 *
 * Source: Amazon SageMaker Developer Guide, "How Amazon SageMaker Provides Training Information"
 * and "... Processes Training Output". SAGEMAKER_BASE_DIR stands for /opt/ml where it is set. Files
 * are at most 1 MiB, unknown keys pass.
 */
#ifndef LAUNCH_SAGEMAKER_H
#define LAUNCH_SAGEMAKER_H

#include <stdbool.h>

#include "launcher/words.h"

struct err;

struct launch_sagemaker {
    bool active;   /* TRAINING_JOB_ARN is set, or input/config/resourceconfig.json is there */
    char *base;    /* "/opt/ml" */
    char *job;     /* TRAINING_JOB_ARN, else TRAINING_JOB_NAME, else NULL */
    char *current; /* this host's name; NULL: no resourceconfig.json (then hosts is empty too) */
    struct launch_words
        hosts; /* of our group, sorted bytewise (algo-1, algo-10, algo-2); the first leads */
    struct launch_words pipes; /* channels in Pipe mode: FIFO, folder, ... (channels.h) */
    char *interface;           /* network_interface_name; NULL: not given */
};

/** Read resourceconfig.json, inputdataconfig.json, hyperparameters.json, checkpointconfig.json, and
 * put what they say into our environment as SM_* variables (contract of the SageMaker training
 * toolkit; those set already stay, but for SM_CURRENT_HOST: the file wins, and for channels in Pipe
 * mode), so that the ranks and a user's hooks find them: SM_HOSTS, SM_CURRENT_HOST,
 * SM_NETWORK_INTERFACE_NAME, SM_CHANNELS, SM_CHANNEL_<NAME>, SM_HPS, SM_HP_<NAME>, SM_MODEL_DIR,
 * SM_OUTPUT_DATA_DIR, SM_OUTPUT_DIR, SM_INPUT_DIR, SM_INPUT_CONFIG_DIR, SM_NUM_CPUS, ..., and
 * CONVOY_CHECKPOINT where a checkpoint folder is configured. Outside SageMaker: active is false and
 * nothing is read. ERR_INPUT names file and key: not JSON, the current host not among the hosts, a
 * channel that cannot be read (channels.h). */
int launch_sagemaker_read(struct launch_sagemaker *sagemaker, struct err *err);
void launch_sagemaker_release(struct launch_sagemaker *sagemaker);

/** What else to say where hosts did not meet in time: "", or that each reads its channels in Pipe
 * mode before. Accepts NULL. */
const char *launch_sagemaker_late(const struct launch_sagemaker *sagemaker);

/** Write the reason of a failure to BASE/output/failure, at most 1,024 characters of UTF-8, whole
 * or not at all, unless there is one already. Does nothing where inactive. A failure to write is
 * logged. */
void launch_sagemaker_fail(const struct launch_sagemaker *sagemaker, const char *reason);

#endif
