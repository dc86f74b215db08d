#!/usr/bin/env python3
"""scenarios.py [OPTION...] SCENARIO... -- whole jobs over several hosts of the lab, against a real S3 server, with evidence.

    single      one SageMaker host with channels in File mode and a local checkpoint folder; SIGTERM and resume
    sagemaker   two SageMaker hosts without sshd: shards from S3, checkpoints to S3, the model on the first host
    ssh         three hosts by `convoy train --hosts a,b,c` over ssh, everything in S3
    mpirun      `mpirun -np 2 convoy train`, everything in S3
    kill        two SageMaker hosts lose power after a checkpoint; one host goes on from S3
    term        SIGTERM to both containers: committed and gone in under 90 s; a second job of the same name goes on
    loss        three hosts over ssh, from local files, with links of 2 ms and 1 % of packets lost
    all         the seven of them

Each compares its weights' sha256 with that of one host that trained from local files, without S3. With --root DIR, the
files of an image (launcher/container/build --rootfs DIR), every host is a container of that image (ssh: the image's programs
on the host itself, as on EC2); else the programs of --bin run in containers made of this machine's own files. As root;
nothing is left behind.
"""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cluster
import s3

BUCKET = "convoy-lab"
LIMIT_S = 3600  # of a whole training; the machine may be slow
TERM_LIMIT_S = 90
OWN_VARIABLES = ("OMPI_", "CONVOY_", "SM_", "PMI", "SLURM_", "AWS_", "TRAINING_JOB")


class Failed(Exception):
    """What a scenario wanted to see and did not."""


def say(text):
    print(text, flush=True)


def check(condition, what):
    if not condition:
        raise Failed(what)
    say(f"  ok: {what}")


def tail(text, lines=6):
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def sha256_of(text):
    found = re.findall(r"^weights sha256=([0-9a-f]{64})$", text, re.M)
    if not found:
        raise Failed(f"no sha256 on stdout; its end:\n{tail(text)}")
    return found[-1]


def clean_env(more):
    """Our own variables without what would lead a run elsewhere, for programs outside the lab's hosts."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
    env.update(AWS_EC2_METADATA_DISABLED="true")
    return {**env, **more}


class Lab:
    """What the scenarios share: pictures, the S3 server with their shards, and the sha256 of one host from local files."""

    def __init__(self, options, server, folder):
        self.options, self.server, self.folder = options, server, folder
        self.port = int(server.url.rsplit(":", 1)[1])
        self.client = server.client()
        self.aws = {name: value for name, value in server.env().items() if name.startswith("AWS_")}
        self.root = os.path.abspath(options.root) if options.root else "/"
        self.convoy = "/usr/local/bin/convoy" if options.root else os.path.join(os.path.abspath(options.bin), "convoy")
        self.serial = 0

    # The training

    def settings(self):
        """Of every run: the same weights everywhere."""
        given = {"model": self.options.model, "epochs": self.options.epochs, "global-batch": self.options.global_batch,
                 "micro-batch": self.options.micro_batch, "seed": self.options.seed,
                 "max-steps": self.options.steps or 0}
        return {name: str(value) for name, value in given.items()}

    def words(self, **more):
        given = {**self.settings(), **{name.replace("_", "-"): value for name, value in more.items()}}
        return [f"--{name}={value}" for name, value in given.items()]

    def prefix(self, name):
        """A new place for checkpoints."""
        self.serial += 1
        return f"s3://{BUCKET}/checkpoints/{name}-{self.serial}/"

    def steps_saved(self, prefix):
        keys = (entry.key.decode() for entry in self.client.list(BUCKET, prefix.split("/", 3)[3]))
        found = (re.search(r"step-(\d+)-g\d+\.safetensors$", key) for key in keys)
        return sorted(int(match[1]) for match in found if match)

    # Programs outside the lab's hosts

    def run(self, words, name, env=None):
        """A program on this machine, or in the image's files; its output, and its exit status has to be 0."""
        say(f"  $ {' '.join(words)}")
        out, err = (os.path.join(self.folder, f"{name}.{kind}") for kind in ("out", "err"))
        env = clean_env(env or {})
        if self.options.root:
            words = [cluster.CONTAIN, "--bind", self.folder, self.root, "localhost", *words]
            env["PATH"] = cluster.PATH
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            done = subprocess.run(words, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=stdout,
                                  stderr=stderr, timeout=LIMIT_S)
        with open(out, errors="replace") as stdout, open(err, errors="replace") as stderr:
            text, errors = stdout.read(), stderr.read()
        if done.returncode != 0:
            raise Failed(f"exit status {done.returncode}; stderr ends with:\n{tail(errors)}")
        return text

    def make_pictures(self):
        """self.data: a folder with train and one for validation; self.val: the latter's name."""
        self.data = os.path.join(self.folder, "pictures")
        source = self.options.data
        if source is None:
            self.run([self.convoy, "synth", self.data, "--classes", "8", "--size", "32", "--count", "1600"], "synth")
        else:
            self.copy_pictures(source)
        names = [name for name in ("validation", "valid", "val", "test") if os.path.isdir(os.path.join(self.data, name))]
        if not names or not os.path.isdir(os.path.join(self.data, "train")):
            raise Failed(f"'{source}' needs train/ and val/ (or test/), a folder per class in each")
        self.val = names[0]

    def copy_pictures(self, source):
        """The first --per-class of each class by name, or all."""
        for split in sorted(os.listdir(source)):
            for label in sorted(os.listdir(os.path.join(source, split))):
                target = os.path.join(self.data, split, label)
                os.makedirs(target)
                names = sorted(os.listdir(os.path.join(source, split, label)))
                for name in names[:self.options.per_class]:
                    shutil.copyfile(os.path.join(source, split, label, name), os.path.join(target, name))

    def prepare(self):
        say("== prepare: pictures, one host from local files, shards in S3")
        self.client.make_bucket(BUCKET)
        self.make_pictures()
        count = sum(len(names) for _, _, names in os.walk(self.data))
        self.sha256 = self.options.sha256 or self.train_here()
        say(f"  {count} pictures; one host from local files: sha256 {self.sha256}"
            + (" (as --sha256 says)" if self.options.sha256 else ""))
        self.run([self.convoy, "pack", self.data, f"s3://{BUCKET}/shards"], "pack", self.aws)
        shards = self.client.list(BUCKET, "shards/")
        say(f"  s3://{BUCKET}/shards: {len(shards)} objects, {sum(entry.bytes for entry in shards)} bytes")
        self.train_uri, self.val_uri = f"s3://{BUCKET}/shards/train", f"s3://{BUCKET}/shards/{self.val}"

    def train_here(self):
        """One host, local files, no S3: the sha256 that all others have to come to."""
        words = self.words(train=f"{self.data}/train", val=f"{self.data}/{self.val}", report=f"{self.folder}/reference-report",
                           model_dir=f"{self.folder}/reference")
        return sha256_of(self.run([self.convoy, "train", *words], "reference"))

    def is_last(self, step):
        return self.options.steps is not None and step >= self.options.steps

    def cluster(self, count, sshd, link=()):
        return cluster.Cluster(count, sshd=sshd, link=link, share=[self.folder, self.root, os.path.dirname(self.convoy)])

    # A SageMaker job of several hosts

    def sagemaker_env(self, job):
        """What the platform sets, and what a person puts into the job's Environment."""
        return {"TRAINING_JOB_NAME": job,
                "TRAINING_JOB_ARN": f"arn:aws:sagemaker:us-east-1:111122223333:training-job/{job}",
                "SM_CHANNEL_TRAINING": self.train_uri, "SM_CHANNEL_VALIDATION": self.val_uri, **self.aws}

    def start_sagemaker(self, hosts, job, prefix, **more):
        jobs = {}
        for host in hosts.names:
            hosts.reach(host, self.port)
            hosts.write_sagemaker(host, {**self.settings(), "checkpoint": prefix, **more})
        for host in hosts.names:
            say(f"  {host} $ {self.convoy} train    (process 1 of its container)")
            jobs[host] = hosts.start(host, [self.convoy, "train"], self.sagemaker_env(job), self.root, self.folder, job)
        return jobs

    def wait_for_all(self, jobs, expected):
        started = time.monotonic()
        statuses = {host: job.wait(LIMIT_S) for host, job in jobs.items()}
        say(f"  exit statuses: {statuses} after {time.monotonic() - started:.1f} s more")
        wrong = [host for host, status in statuses.items() if status != expected]
        for host in wrong:
            say(f"  stderr of {host} ends with:\n{tail(jobs[host].stderr(), 12)}")
        check(not wrong, f"every host ends with {expected}")

    def check_sha256(self, text, where):
        sha256 = sha256_of(text)
        say(f"  {where}: sha256 {sha256}")
        check(sha256 == self.sha256, "its sha256 is that of one host from local files")

    def check_models(self, hosts):
        for host in hosts.names:
            names = sorted(os.listdir(os.path.join(hosts.ml(host), "model")))
            say(f"  /opt/ml/model on {host}: {' '.join(names) or 'empty'}")
            check(("model.safetensors" in names) == (host == hosts.names[0]) and (host == hosts.names[0] or not names),
                  f"{host} has {'the model' if host == hosts.names[0] else 'nothing to upload'}")

    @staticmethod
    def steps_done(hosts):
        """Of the run on the first host, by its metrics."""
        try:
            with open(os.path.join(hosts.ml(hosts.names[0]), "output", "data", "metrics.jsonl")) as metrics:
                return sum('"event":"step"' in line.replace(" ", "") for line in metrics)
        except FileNotFoundError:
            return 0

    def show_processes(self, hosts, jobs):
        """ps of every host while a rank works there."""
        running = {}
        for host in hosts.names:
            def rank_is_there(host=host):
                running[host] = hosts.ps(host)
                ended = next((job for job in jobs.values() if not job.running()), None)
                if ended is not None:
                    raise Failed(f"ended with {ended.wait(0)} before there was a rank on {host}; stderr ends with:\n"
                                 f"{tail(ended.stderr())}")
                return "convoy-train" in running[host]

            cluster.wait_until(rank_is_there, 120, f"a rank on {host}")
            say(f"  ps on {host}:\n{tail(running[host], 40)}")
        return running


def fill_channels(lab, hosts):
    """What the platform does before it starts a container whose channels are in File mode."""
    for channel, split in (("training", "train"), ("validation", lab.val)):
        shutil.copytree(os.path.join(lab.data, split), os.path.join(hosts.ml("algo-1"), "input", "data", channel))


def scenario_single(lab):
    with lab.cluster(1, sshd=False) as hosts:
        fill_channels(lab, hosts)
        env = {name: value for name, value in lab.sagemaker_env("dogs-0").items()
               if not name.startswith(("AWS_", "SM_CHANNEL_"))}

        def start():
            hosts.write_sagemaker("algo-1", lab.settings(), ["training", "validation"], checkpoints="/opt/ml/checkpoints")
            return hosts.start("algo-1", [lab.convoy, "train"], env, lab.root, lab.folder, "dogs-0")

        job = start()
        cluster.wait_until(lambda: lab.steps_done(hosts) > 0 or not job.running(), 600, "a first step")
        lab.show_processes(hosts, {"algo-1": job})
        job.signal(signal.SIGTERM)
        status = job.wait(TERM_LIMIT_S)
        say(f"  SIGTERM: exit status {status}; stdout ends with:\n{tail(job.stdout(), 2)}")
        check(status == 0 and "stopped epoch=" in job.stdout(), "it stopped, and succeeded as a SageMaker job")
        lab.check_models(hosts)
        job = start()
        lab.wait_for_all({"algo-1": job}, 0)
        lab.check_sha256(job.stdout(), "stopped and started again")
        lab.check_models(hosts)


def scenario_sagemaker(lab):
    with lab.cluster(2, sshd=False) as hosts:
        prefix = lab.prefix("sagemaker")
        mark = lab.server.log_mark()
        jobs = lab.start_sagemaker(hosts, "dogs-1", prefix, **{"checkpoint-every": lab.options.checkpoint_every})
        for host, table in lab.show_processes(hosts, jobs).items():
            check("sshd" not in table, f"no sshd runs on {host}")
        lab.wait_for_all(jobs, 0)
        lab.check_sha256(jobs["algo-1"].stdout(), "two hosts, shards from S3")
        lab.check_models(hosts)
        requests = lab.server.requests(mark)
        read = [request for request in requests if request.method == "GET" and "/shards/" in request.path]
        say(f"  S3 answered {len(requests)} requests; {len(read)} reads of shards, "
            f"{sum(request.bytes for request in read)} bytes; checkpoints of steps {lab.steps_saved(prefix)}")
        check(read and lab.steps_saved(prefix), "shards were streamed and checkpoints were committed")


def scenario_kill(lab):
    prefix = lab.prefix("kill")
    with lab.cluster(2, sshd=False) as hosts:
        jobs = lab.start_sagemaker(hosts, "dogs-2", prefix, **{"checkpoint-every": lab.options.checkpoint_every})
        cluster.wait_until(lambda: lab.steps_saved(prefix) or not all(job.running() for job in jobs.values()), LIMIT_S,
                           "a checkpoint in S3")
        for host in hosts.names:
            hosts.power_off(host)
        saved = lab.steps_saved(prefix)
        say(f"  both hosts lost power; S3 has checkpoints of steps {saved}")
        check(saved and not lab.is_last(saved[-1]) and "sha256" not in jobs["algo-1"].stdout(),
              "there is a checkpoint, and the training was not over")
        hosts.power_on("algo-1")
        hosts.names = ["algo-1"]
        jobs = lab.start_sagemaker(hosts, "dogs-2", prefix)
        lab.wait_for_all(jobs, 0)
        resumed = [line for line in jobs["algo-1"].stderr().splitlines() if "resum" in line or "goes on" in line]
        say("\n".join(f"  it said: {line}" for line in resumed[:3]))
        check(resumed, "it says that it resumed")
        lab.check_sha256(jobs["algo-1"].stdout(), "one host after the power failure")


def scenario_term(lab):
    prefix = lab.prefix("term")
    with lab.cluster(2, sshd=False) as hosts:
        jobs = lab.start_sagemaker(hosts, "dogs-3", prefix)
        cluster.wait_until(lambda: lab.steps_done(hosts) > 0 or not jobs["algo-1"].running(), 600, "a first step")
        asked = time.monotonic()
        for job in jobs.values():
            job.signal(signal.SIGTERM)
        for job in jobs.values():
            job.wait(TERM_LIMIT_S + 30)
        seconds = time.monotonic() - asked
        statuses = {host: job.wait(0) for host, job in jobs.items()}
        saved = lab.steps_saved(prefix)
        say(f"  SIGTERM to both: gone after {seconds:.1f} s, exit statuses {statuses}, checkpoints of steps {saved}")
        say(f"  stdout of algo-1 ends with:\n{tail(jobs['algo-1'].stdout(), 3)}")
        check(seconds < TERM_LIMIT_S, f"gone in under {TERM_LIMIT_S} s")
        check(set(statuses.values()) == {0}, "both exit with 0, as a stopped SageMaker job with a model should")
        check(saved and not lab.is_last(saved[-1]), "the state is committed, and the training was not over")
        check("stopped epoch=" in jobs["algo-1"].stdout(), "stdout says that it was stopped")
        check("model.safetensors" in os.listdir(os.path.join(hosts.ml("algo-1"), "model")), "the model so far is there")
        for host in hosts.names:
            hosts.power_off(host)
            hosts.power_on(host)
        jobs = lab.start_sagemaker(hosts, "dogs-3", prefix)
        lab.wait_for_all(jobs, 0)
        lab.check_sha256(jobs["algo-1"].stdout(), "stopped and resumed on two new hosts")


def scenario_ssh(lab):
    with lab.cluster(3, sshd=True) as hosts:
        prefix, model = lab.prefix("ssh"), f"s3://{BUCKET}/models/ssh-{lab.serial}"
        for host in hosts.names:
            hosts.reach(host, lab.port)
        # sshd runs on the hosts, not in containers: as on EC2, the programs were copied there out of the image.
        program = os.path.join(lab.root, "usr/local/bin/convoy") if lab.options.root else lab.convoy
        words = [program, "train", "--hosts", ",".join(hosts.names),
                 *lab.words(train=lab.train_uri, val=lab.val_uri, checkpoint=prefix, model_dir=model,
                            report=f"{lab.folder}/ssh-report", checkpoint_every=lab.options.checkpoint_every)]
        say(f"  algo-1 $ {' '.join(words)}")
        job = hosts.start("algo-1", words, lab.aws, "/", lab.folder, "ssh")
        lab.show_processes(hosts, {"algo-1": job})
        lab.wait_for_all({"algo-1": job}, 0)
        lab.check_sha256(job.stdout(), "three hosts over ssh")
        size = lab.client.head(BUCKET, f"models/ssh-{lab.serial}/model.safetensors")
        check(size is not None, f"the model is in {model}")


def scenario_mpirun(lab):
    prefix = lab.prefix("mpirun")
    words = ["/usr/bin/mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2", lab.convoy, "train",
             *lab.words(train=lab.train_uri, val=lab.val_uri, checkpoint=prefix, model_dir=f"{lab.folder}/mpirun-model",
                        report=f"{lab.folder}/mpirun-report", checkpoint_every=lab.options.checkpoint_every)]
    text = lab.run(words, "mpirun", {**lab.aws, "OMPI_MCA_mpi_yield_when_idle": "1"})
    lab.check_sha256(text, "mpirun -np 2")
    check(lab.steps_saved(prefix), f"checkpoints of steps {lab.steps_saved(prefix)} are in {prefix}")


def scenario_loss(lab):
    with lab.cluster(3, sshd=True, link=("--rate", "1gbit", "--delay", "2ms", "--loss", "1%")) as hosts:
        words = [lab.convoy, "train", "--hosts", ",".join(hosts.names),
                 *lab.words(train=f"{lab.data}/train", val=f"{lab.data}/{lab.val}", report=f"{lab.folder}/loss-report",
                            model_dir=f"{lab.folder}/loss-model")]
        say(f"  algo-1 $ {' '.join(words)}")
        job = hosts.start("algo-1", words, {}, "/", lab.folder, "loss")
        lab.wait_for_all({"algo-1": job}, 0)
        lab.check_sha256(job.stdout(), "three hosts with links that lose packets")


SCENARIOS = {"single": scenario_single, "sagemaker": scenario_sagemaker, "ssh": scenario_ssh, "mpirun": scenario_mpirun,
             "kill": scenario_kill, "term": scenario_term, "loss": scenario_loss}


def count_or(word):
    """A number above zero, or None for the word that means no limit."""
    def parse(text):
        if text != word and int(text) < 1:
            raise ValueError
        return None if text == word else int(text)

    parse.__name__ = f"number-or-{word}"  # argparse names it in its message
    return parse


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="+", choices=[*SCENARIOS, "all"])
    parser.add_argument("--bin", default=os.environ.get("CONVOY_BIN", "build/release/bin"), help="folder of the programs")
    parser.add_argument("--root", help="the files of an image: run in it instead")
    parser.add_argument("--data", help="folder with train/ and test/ or val/, a folder per class in each; default: drawn")
    parser.add_argument("--per-class", type=count_or("all"), default=200, metavar="N|all",
                        help="take the first N pictures of each class (200)")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--epochs", type=int, default=3, help="(3)")
    parser.add_argument("--steps", type=count_or("none"), default=40, metavar="N|none", help="end after so many steps (40)")
    parser.add_argument("--checkpoint-every", default="10", help="steps, or 30s (10)")
    parser.add_argument("--global-batch", type=int, default=128)
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sha256", metavar="HEX", help="of one host from local files, where it is known: saves that run")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and results")
    return parser.parse_args()


def main():
    options = read_options()
    names = list(SCENARIOS) if "all" in options.scenario else options.scenario
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of every `with`: no host stays
    folder = tempfile.mkdtemp(prefix="convoy-scenario-")
    failed = []
    try:
        with s3.Server() as server:
            lab = Lab(options, server, folder)
            lab.prepare()
            for name in names:
                say(f"== {name}")
                try:
                    SCENARIOS[name](lab)
                    say(f"PASS {name}")
                except (Failed, cluster.Timeout, subprocess.SubprocessError) as error:
                    say(f"FAIL {name}: {error}")
                    failed.append(name)
    except Failed as error:
        say(f"FAIL prepare: {error}")
        failed.append("prepare")
    finally:
        if options.keep:
            say(f"logs and results are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
