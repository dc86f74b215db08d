#!/usr/bin/env python3
"""Start a training or a tuning job of Convoy with the SageMaker Python SDK, version 2 (pip install 'sagemaker<3').

    sagemaker_sdk.py --image URI --role ARN --bucket NAME            # two instances, managed spot
    sagemaker_sdk.py --image URI --role ARN --bucket NAME --stream   # the hosts read the shards from S3 by themselves
    sagemaker_sdk.py --image URI --role ARN --bucket NAME --tune     # six trials, two at a time

Expects s3://NAME/shards/train and s3://NAME/shards/val, as `convoy pack pictures s3://NAME/shards` makes them. It shows the
job's log until the job ends. Ctrl-C ends the showing, not the job: `aws sagemaker stop-training-job --training-job-name ...`
(a tuning job: `stop-hyper-parameter-tuning-job`) does that.
"""
import argparse
import secrets

from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.tuner import ContinuousParameter, HyperparameterTuner

METRICS = [
    {"Name": "train:accuracy", "Regex": r"Epoch\[[0-9]+\] Train-accuracy=([0-9\.]+)"},
    {"Name": "train:loss", "Regex": r"Epoch\[[0-9]+\] Train-loss=([0-9\.]+)"},
    {"Name": "validation:accuracy", "Regex": r"Epoch\[[0-9]+\] Validation-accuracy=([0-9\.]+)"},
    {"Name": "validation:loss", "Regex": r"Epoch\[[0-9]+\] Validation-loss=([0-9\.]+)"},
    {"Name": "test:accuracy", "Regex": r"Testing Accuracy: ([0-9\.]+)"},
    {"Name": "test:loss", "Regex": r"Testing Loss: ([0-9\.]+)"},
    {"Name": "speed", "Regex": r"Speed: ([0-9\.]+) samples/sec"},
]


def make_estimator(options, checkpoints, epochs):
    # Only the job's hosts and those who may describe the job know the key: the hosts' agents prove it to each other.
    environment = {"CONVOY_JOB_KEY": secrets.token_hex(32)}
    if options.stream:
        environment["SM_CHANNEL_TRAINING"] = f"s3://{options.bucket}/shards/train"
        environment["SM_CHANNEL_VALIDATION"] = f"s3://{options.bucket}/shards/val"
    return Estimator(
        image_uri=options.image,
        role=options.role,
        instance_count=2,  # no `distribution`: every host runs `convoy train`, and they find each other
        instance_type=options.instance_type,
        volume_size=30,
        use_spot_instances=True,
        max_run=4 * 3600,
        max_wait=8 * 3600,  # running and waiting for capacity together
        max_retry_attempts=2,  # after an error of the platform's
        checkpoint_s3_uri=checkpoints,
        output_path=f"s3://{options.bucket}/output/",
        base_job_name="convoy",
        environment=environment,
        metric_definitions=METRICS,
        disable_profiler=True,  # the SDK's profiler and debugger look for Python frameworks
        debugger_hook_config=False,
        hyperparameters={"model": "resnet18", "epochs": epochs, "global-batch": 256, "micro-batch": 32, "seed": 1},
    )


def channels(options):
    if options.stream:
        return None
    return {"training": TrainingInput(f"s3://{options.bucket}/shards/train/"),
            "validation": TrainingInput(f"s3://{options.bucket}/shards/val/")}


def train(options):
    # The slash at the end keeps the files of ".../pictures-10" out of ".../pictures-1". A prefix is resumed by the next
    # job that names it: choose a new one for a new training.
    estimator = make_estimator(options, f"s3://{options.bucket}/checkpoints/{options.name}/", epochs=30)
    estimator.fit(channels(options))
    print("model:", estimator.model_data)


def tune(options):
    # No checkpoints: the trials would share one prefix. One that is interrupted begins again, which short ones can bear.
    tuner = HyperparameterTuner(
        estimator=make_estimator(options, checkpoints=None, epochs=5),
        objective_metric_name="validation:accuracy",
        objective_type="Maximize",
        metric_definitions=METRICS,
        hyperparameter_ranges={"lr": ContinuousParameter(0.01, 0.5, scaling_type="Logarithmic"),
                               "weight-decay": ContinuousParameter(1e-5, 1e-3, scaling_type="Logarithmic")},
        max_jobs=6,
        max_parallel_jobs=2,
        early_stopping_type="Auto",
        base_tuning_job_name="convoy-tune",
    )
    tuner.fit(channels(options))
    print("best trial:", tuner.best_training_job())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="URI of the image in ECR")
    parser.add_argument("--role", required=True, help="ARN of the job's role (iam/training-role.json)")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--name", default="pictures-1", help="of the folder of checkpoints")
    parser.add_argument("--instance-type", default="ml.c5.2xlarge")
    parser.add_argument("--stream", action="store_true", help="read from S3 while training, without a copy on the hosts")
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    (tune if options.tune else train)(options)


if __name__ == "__main__":
    main()
