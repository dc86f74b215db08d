#!/usr/bin/env python3
"""walkthrough.py [--bin DIR] [--classes N] [--count N] [--keep] -- the README's way from photographs to answers, as it stands there.

Runs the lines of the README's section "From photographs to answers" with drawn photographs, a ResNet-50 whose weights are drawn
too, and a real S3 server. Two names are stand-ins: `aws` is told where that server is, and `curl` finds the weights here. Then
the job of launcher/container/examples/photographs.json on two hosts as SageMaker runs it, which has to leave the same weights.

As root (network namespaces), with the packages that README.md beside this file names, and awscli. Takes some minutes; ends with
PASS or FAIL, and leaves nothing behind.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import cluster
import s3

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
SECTION = "## From photographs to answers"
EXAMPLE = os.path.join(ROOT, "launcher", "container", "examples", "photographs.json")
BUCKET = "convoy-lab"
LIMIT_S = 3600
STAND_INS = """
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
curl() { local url=${*: -1}; cp -- "$WEIGHTS" "${url##*/}"; }
set -euo pipefail
"""


class Failed(Exception):
    """What should have been seen and was not."""


def say(text):
    print(text, flush=True)


def check(condition, what):
    if not condition:
        raise Failed(what)
    say(f"  ok: {what}")


def readme_lines():
    """The section's commands for one host, ahead of those for SageMaker, with this lab's bucket."""
    with open(os.path.join(ROOT, "README.md")) as readme:
        text = readme.read().split(SECTION, 1)[1].split("\n## ", 1)[0].split("\nAs a SageMaker job", 1)[0]
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    return "\n".join(lines).replace("s3://BUCKET", f"s3://{BUCKET}")


def run(words, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT_S, **more)
    if done.returncode != 0:
        raise Failed(f"{words[0]} {words[1]}: exit status {done.returncode}; its end:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


class Walk:
    def __init__(self, options, server, folder):
        self.options, self.server, self.folder = options, server, folder
        self.convoy = os.path.join(os.path.abspath(options.bin), "convoy")
        self.weights = os.path.join(folder, "weights.pth")
        self.photographs = os.path.join(folder, "dogImages")

    def draw(self):
        """dogImages/{train,valid,test}, photo.jpg, and what stands for ImageNet's weights: another number of classes."""
        say("== photographs and weights")
        drawn = os.path.join(self.folder, "drawn")
        run([self.convoy, "synth", drawn, "--photos", "--classes", str(self.options.classes), "--count", str(self.options.count)])
        os.makedirs(self.photographs)
        os.rename(os.path.join(drawn, "train"), os.path.join(self.photographs, "train"))
        for label in sorted(os.listdir(os.path.join(drawn, "val"))):
            names = sorted(os.listdir(os.path.join(drawn, "val", label)))
            for split, some in (("valid", names[0::2]), ("test", names[1::2])):
                os.makedirs(os.path.join(self.photographs, split, label))
                for name in some:
                    shutil.copy(os.path.join(drawn, "val", label, name), os.path.join(self.photographs, split, label))
        label = sorted(os.listdir(os.path.join(self.photographs, "test")))[0]
        names = sorted(os.listdir(os.path.join(self.photographs, "test", label)))
        shutil.copy(os.path.join(self.photographs, "test", label, names[0]), os.path.join(self.folder, "photo.jpg"))
        self.label = label
        self.first_weights()

    def first_weights(self):
        """Of one step on other pictures."""
        other, model = os.path.join(self.folder, "other"), os.path.join(self.folder, "first")
        run([self.convoy, "synth", other, "--classes", "3", "--count", "32", "--size", "64"])
        run([self.convoy, "train", "--data", other, "--model", "resnet50", "--image-size", "64", "--max-steps", "1",
             "--global-batch", "32", "--model-dir", model, "--report", os.path.join(self.folder, "first-report")])
        run([self.convoy, "export", "--model", model, "--output", self.weights])

    def follow_readme(self):
        say("== the README's lines")
        lines = readme_lines()
        say("\n".join(f"  $ {line}" for line in lines.splitlines()))
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SM_", "CONVOY_"))}
        env.update(self.server.env(), PATH=f"{os.path.dirname(self.convoy)}:{os.environ['PATH']}", WEIGHTS=self.weights)
        self.out = run(["bash", "-c", STAND_INS + lines], cwd=self.folder, env=env)
        say("\n".join(f"  {line}" for line in self.out.splitlines()))
        self.sha256 = re.findall(r"^weights sha256=([0-9a-f]{64})$", self.out, re.M)
        check(len(self.sha256) == 1, "one training came to its end")
        check(len(re.findall(r"^Testing Accuracy: [0-9.]+$", self.out, re.M)) == 2, "train and eval tested it")
        losses = re.findall(r"^Testing Loss: ([0-9.]+)$", self.out, re.M)
        check(len(set(losses)) == 1, f"both found the same loss, {losses[0]}")
        check("photo.jpg" in self.out, "photo.jpg was answered")
        check(os.path.getsize(os.path.join(self.folder, "dogs.pth")) > 1 << 20, "there is a dogs.pth")

    def follow_example(self):
        """The job of the example, channels in File mode as the platform fills them."""
        say("== two SageMaker hosts")
        with open(EXAMPLE) as file:
            job = json.load(file)
        channels = {"training": self.photographs, "model": None}
        check({channel["ChannelName"] for channel in job["InputDataConfig"]} == set(channels), "the example has these channels")
        with cluster.Cluster(2, sshd=False, share=[self.folder, os.path.dirname(self.convoy)]) as hosts:
            jobs = {}
            for host in hosts.names:
                data = os.path.join(hosts.ml(host), "input", "data")
                shutil.copytree(self.photographs, os.path.join(data, "training"))
                os.makedirs(os.path.join(data, "model"))
                shutil.copy(self.weights, os.path.join(data, "model", "resnet50-0676ba61.pth"))
                hosts.write_sagemaker(host, job["HyperParameters"], list(channels))
            for host in hosts.names:
                env = {"TRAINING_JOB_NAME": "dogs",
                       "TRAINING_JOB_ARN": "arn:aws:sagemaker:us-east-1:111122223333:training-job/dogs"}
                jobs[host] = hosts.start(host, [self.convoy, "train"], env, "/", self.folder, "dogs")
            for host, running in jobs.items():
                status = running.wait(LIMIT_S)
                say("\n".join(f"  {host}: {line}" for line in running.stdout().splitlines()[-6:]))
                check(status == 0, f"{host} ends with 0" if status == 0 else f"{host}: {status}\n{running.stderr()[-2000:]}")
            check(f"weights sha256={self.sha256[0]}" in jobs["algo-1"].stdout(),
                  "two hosts leave the weights of one that read from S3")
            check(os.path.exists(os.path.join(hosts.ml("algo-1"), "model", "model.safetensors")), "the model is on the first host")


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("CONVOY_BIN", "build/release/bin"), help="folder of the programs")
    parser.add_argument("--classes", type=int, default=12, help="(12)")
    parser.add_argument("--count", type=int, default=240, help="photographs to train with (240)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all that was made")
    return parser.parse_args()


def main():
    options = read_options()
    folder = tempfile.mkdtemp(prefix="convoy-walk-")
    try:
        with s3.Server() as server:
            server.client().make_bucket(BUCKET)
            walk = Walk(options, server, folder)
            walk.draw()
            walk.follow_readme()
            walk.follow_example()
        say("PASS")
        return 0
    except (Failed, cluster.Timeout, subprocess.SubprocessError) as error:
        say(f"FAIL: {error}")
        return 1
    finally:
        if options.keep:
            say(f"all that was made is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
