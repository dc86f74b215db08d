#!/usr/bin/env python3
"""Checkpoints and the model in S3: the bits of a local run, whatever is killed, damaged or away meanwhile; one job at a
time on a prefix; what is refused is one line. With a real S3 server."""
import json
import os
import re
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import s3  # noqa: E402
from proxy import Proxy  # noqa: E402
from job import BIN, CONVOY, Job, descendants, main, wait_until  # noqa: E402

TRAIN = os.path.join(BIN, "convoy-train")
BUCKET = "state"


class S3(Job):
    FIRST = ("test_kill_then_resume_by_another_job_waits_for_the_lease_to_lapse",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = s3.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client()
        cls.client.make_bucket(BUCKET)

    def setUp(self):
        super().setUp()
        self.env = {**self.server.env(), **{k: v for k, v in self.env.items() if not k.startswith("AWS_")}}
        self.env.update({k: v for k, v in self.server.env().items() if k.startswith("AWS_")})
        self.prefix = self.id().rsplit(".", 1)[1]
        self.place = f"s3://{BUCKET}/{self.prefix}"

    def keys(self, below=""):
        """Names below the case's prefix."""
        start = f"{self.prefix}/{below}"
        return [item.key.decode()[len(start):] for item in self.client.list(BUCKET, start)]

    def saved(self):
        """(generation, step) of the committed checkpoints, oldest first."""
        found = (re.fullmatch(r"step-(\d+)-g(\d+)\.safetensors", name) for name in self.keys())
        return sorted((int(match[2]), int(match[1])) for match in found if match)

    def lease(self):
        return json.loads(self.client.get(BUCKET, f"{self.prefix}/convoy-lease.json"))

    def options(self, **more):
        """Steps of a few ms, four of them an epoch."""
        return super().options(**{"image_size": 8, "global_batch": 8, "micro_batch": 4, **more})

    def words(self, **more):
        return self.options(**{"checkpoint": self.place, "checkpoint_every": 1, **more})

    def long(self, **more):
        """Nobody waits for its end; saved twice a second."""
        return self.words(**{"epochs": 100000, "checkpoint_every": "0.5s", **more})

    def undisturbed(self, **more):
        words = self.options(**{"model_dir": "plain", "report": "plain", **more})
        self.assertEqual(self.convoy(1, *words), 0, self.err)
        return self.sha256()

    def rank_of(self, process):
        for pid in [process.pid, *descendants(process.pid)]:
            with open(f"/proc/{pid}/comm") as comm:
                if comm.read().strip() == "convoy-train":
                    return pid
        raise AssertionError("no rank")

    def killed(self):
        """A run that was killed without a word after its second checkpoint."""
        process = self.start(CONVOY, "train", *self.long())
        wait_until(lambda: len(self.saved()) >= 2)
        os.kill(self.rank_of(process), signal.SIGKILL)
        self.assertEqual(self.wait(process), 137, self.err)
        self.assertFalse(self.lease()["released"])
        os.rename(self.path("report"), self.path("killed"))

    def goes_on_as_if_undisturbed(self):
        """What was saved is the last step; a step later the weights are those of a local run."""
        step = self.events("step")[-1]["step"]
        self.assertEqual(self.saved()[-1][1], step)
        self.assertEqual(self.convoy(1, *self.options(epochs=100000, resume=self.place, max_steps=step + 1)), 0, self.err)
        self.assertIn(f"resuming at step {step} ", self.err)
        resumed = self.sha256()
        self.assertEqual(self.undisturbed(epochs=100000, max_steps=step + 1), resumed)

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        return self.wait(process)

    # --- the same bits ---

    def test_run_with_its_state_in_s3_leaves_what_a_local_one_does(self):
        whole = self.undisturbed(epochs=2)
        for ranks in (1, 2):
            self.assertEqual(self.convoy(ranks, *self.words(epochs=2, model_dir=f"{self.place}/model", keep=2,
                                                            resume="never")), 0, self.err)
            self.assertEqual(self.sha256(), whole)
            self.assertEqual(self.keys("model/"), ["class_labels.json", "config.json", "model.safetensors"])
            for name in self.keys("model/"):
                with open(self.path("plain", name), "rb") as file:
                    self.assertEqual(self.client.get(BUCKET, f"{self.prefix}/model/{name}"), file.read(), name)
            self.assertEqual(self.saved(), [(ranks, 7), (ranks, 8)])
            self.assertTrue(self.lease()["released"])
        self.assertFalse(os.path.exists(self.path("model")))
        self.assertEqual(self.client.uploads(BUCKET), [])

    def test_max_restarts_goes_on_at_once(self):
        self.env["CONVOY_JOB"] = "one-launch"
        process = self.start(CONVOY, "train", "--max-restarts=1", *self.long(keep=9))
        wait_until(lambda: self.saved())
        os.kill(self.rank_of(process), signal.SIGKILL)
        wait_until(lambda: self.saved()[-1][0] == 2)
        self.assertEqual(self.stop(process), 75, self.err)
        self.assertNotIn("waiting", self.err)
        self.assertRegex(self.err, r"resuming at step [1-9]")
        self.goes_on_as_if_undisturbed()

    def test_kill_then_resume_by_another_job_waits_for_the_lease_to_lapse(self):  # 20 s
        self.killed()
        steps = self.saved()[-1][1] + 50
        self.assertEqual(self.convoy(2, *self.long(max_steps=steps)), 0, self.err)
        self.assertRegex(self.err, rf"'{self.place}' is the job '[0-9a-f]+''s on \S+: waiting up to \d+ s")
        self.assertRegex(self.err, r"resuming at step [1-9]")
        self.assertEqual(self.lease()["generation"], 2)
        resumed = self.sha256()
        self.assertEqual(self.undisturbed(epochs=100000, max_steps=steps), resumed)

    def test_stop_then_resume_from_what_resume_names(self):
        process = self.start(CONVOY, "train", *self.long())
        wait_until(lambda: self.saved())
        self.assertEqual(self.stop(process), 75, self.err)
        generation, step = self.saved()[-1]
        self.assertEqual(self.events("step")[-1]["step"], step)
        self.assertTrue(self.lease()["released"])
        name = f"step-{step:012}-g{generation}.safetensors"
        for resume in (f"{self.place}/{name}", f"{self.place}/", self.place):
            self.assertEqual(self.convoy(1, *self.options(epochs=100000, resume=resume, max_steps=step + 1)), 0, self.err)
            self.assertIn(f"resuming at step {step} (epoch", self.err)
            self.assertIn(f"'{self.place}/{name}'", self.err)
        self.assertNotIn("waiting", self.err)

    def test_damaged_newest_object_gives_way_to_the_one_before(self):
        whole = self.undisturbed(epochs=2)
        self.assertEqual(self.convoy(1, *self.words(epochs=2)), 0, self.err)
        key = f"{self.prefix}/step-000000000008-g1.safetensors"
        good = self.client.get(BUCKET, key)
        self.client.put(BUCKET, key, good[:-5] + b"xxxxx")
        self.assertEqual(self.convoy(2, *self.words(epochs=2)), 0, self.err)
        warnings = [line for line in self.err.splitlines() if "warning: passing over a checkpoint" in line]
        self.assertEqual(len(warnings), 1, self.err)
        self.assertIn(key, warnings[0])
        self.assertIn("resuming at step 7 ", self.err)
        self.assertEqual(self.sha256(), whole)

    # --- one job at a time ---

    def test_second_job_on_a_prefix_is_refused_and_the_first_unharmed(self):
        self.env["CONVOY_JOB"] = "first"
        first = self.start(TRAIN, "train", *self.long())
        wait_until(lambda: self.saved())
        os.mkdir(self.path("second"))
        second = subprocess.run([TRAIN, "train", *self.long(model_dir="model")], cwd=self.path("second"), text=True,
                                env={**self.env, "CONVOY_JOB": "second"}, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(second.returncode, 2, second.stderr)
        errors = [line for line in second.stderr.splitlines() if "error: " in line]
        self.assertEqual(len(errors), 1, second.stderr)
        for word in ("--checkpoint", self.place, "'first'", socket.gethostname()):
            self.assertIn(word, errors[0])
        self.assertEqual(os.listdir(self.path("second")), [])
        before = self.saved()[-1]
        wait_until(lambda: self.saved()[-1] > before)
        self.assertEqual(self.stop(first), 75, self.err)
        self.assertNotIn("warning: cannot", self.err)
        self.assertEqual(self.saved()[-1][1], self.events("step")[-1]["step"])

    def test_half_that_was_cut_off_loses_the_lease_and_ends(self):
        self.env["CONVOY_JOB"] = "job"
        process = self.start(CONVOY, "train", "--ranks-per-host=2", *self.long())
        wait_until(lambda: self.saved())
        with open(self.path("other"), "w") as log:
            other = subprocess.Popen([TRAIN, "train", *self.long(report="other-report")], cwd=self.folder, env=self.env,
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(self.end_of, other)
        self.assertEqual(self.wait(process), 3, self.err)
        self.assert_one_error(self.place, "lease", "generation 2")
        wait_until(lambda: self.saved()[-1][0] == 2)
        other.send_signal(signal.SIGTERM)
        self.assertEqual(other.wait(60), 75, self.text("other"))
        self.assertIn("resuming at step", self.text("other"))

    # --- what goes wrong ---

    def refused(self, words, *said, status=2):
        self.assertEqual(self.convoy(1, *words), status, self.err)
        self.assert_one_error(*said)

    def test_read_only_keys(self):
        allow = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/other"]},
                 "Action": ["s3:GetObject", "s3:ListBucket"],
                 "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]}).encode()
        self.client.request("PUT", f"/{BUCKET}", {"policy": ""}, policy)
        self.env.update({k: v for k, v in self.server.env("other").items() if k.startswith("AWS_")})
        self.refused(self.words(), "--checkpoint", self.place, "403", "s3:PutObject")
        self.refused(self.options(model_dir=self.place), "--model-dir", self.place, "403", "s3:PutObject")
        self.assertEqual(self.keys(), [])

    def test_bucket_or_object_that_is_not_there(self):
        self.refused(self.words(checkpoint="s3://nosuch/prefix"), "--checkpoint", "s3://nosuch")
        self.refused(self.options(model_dir="s3://nosuch/prefix"), "--model-dir", "s3://nosuch")
        self.refused(self.options(resume=f"{self.place}/nosuch.safetensors"), "--resume", "nosuch.safetensors")
        self.refused(self.options(resume=f"{self.place}/nosuch"), "--resume", f"'{self.place}/nosuch'")

    def test_model_in_s3_is_exported_there_and_begun_with(self):
        self.assertEqual(self.convoy(1, *self.options(model_dir=self.place + "/model", max_steps=1)), 0, self.err)
        self.assertEqual(self.wait(self.start(CONVOY, "export", "--model", self.place + "/model", "--output",
                                              self.place + "/other/weights")), 0, self.err)
        self.assertIn("resnet20 of 2 classes", self.err)
        self.assertEqual(self.keys("other/"), ["weights"])
        made = [self.sha256_of(pretrained=self.place + name) for name in ("/model", "/other/weights", "/model/model.safetensors")]
        self.assertEqual(len(set(made)), 1, made)
        for name, says in (("/nowhere", "nowhere"), ("/", "has no weights in it")):
            self.assertEqual(self.convoy(1, *self.options(model_dir="bad", pretrained=self.place + name)), 2, self.err)
            self.assert_one_error("--pretrained", says)

    def sha256_of(self, **more):
        self.assertEqual(self.convoy(1, *self.options(model_dir="after", max_steps=1, **more)), 0, self.err)
        self.assertIn("weights from 's3://", self.err)
        return self.sha256()

    def test_server_that_is_away_for_a_while(self):
        proxy = Proxy(self.server.http_url)
        self.addCleanup(proxy.end)
        self.env.update(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{proxy.port}", AWS_MAX_ATTEMPTS="2")
        process = self.start(CONVOY, "train", *self.long())
        wait_until(lambda: self.saved())
        proxy.end()
        wait_until(lambda: self.text("stderr").count("warning: cannot save a checkpoint") >= 2)
        step = self.events("step")[-1]["step"]
        wait_until(lambda: self.events("step")[-1]["step"] > step)
        proxy.begin()
        saved = self.saved()[-1]
        wait_until(lambda: self.saved()[-1] > saved)
        self.assertEqual(self.stop(process), 75, self.err)
        self.assertTrue(self.lease()["released"])
        self.goes_on_as_if_undisturbed()

    # --- what a platform wants ---

    def test_model_on_stop(self):
        self.env["CONVOY_MODEL_ON_STOP"] = "1"
        for model_dir in ("model", f"{self.place}/model"):
            process = self.start(CONVOY, "train", "--ranks-per-host=2", *self.long(model_dir=model_dir))
            steps = len(self.events("step"))
            wait_until(lambda: len(self.events("step")) > steps + 3)
            self.assertEqual(self.stop(process), 75, self.err)
            self.assertEqual(self.out.splitlines()[-1].split("=")[0], "stopped epoch")
            self.assertNotIn("sha256", self.out)
            self.assertIn(f"the model of step {self.events('step')[-1]['step']} is in '{model_dir}'", self.err)
        self.assertEqual(sorted(os.listdir(self.path("model"))), self.keys("model/"))
        self.assertEqual(self.saved()[-1][1], self.events("step")[-1]["step"])

    def test_stop_of_a_platform_s_job_succeeds_wherever_its_model_goes(self):
        self.env.update(SAGEMAKER_BASE_DIR=self.path("ml"), TRAINING_JOB_ARN="arn:dogs")
        for ranks, model_dir in ((1, "model"), (2, f"{self.place}/model")):
            process = self.start(CONVOY, "train", f"--ranks-per-host={ranks}",
                                 *self.long(model_dir=model_dir, report="report"))
            steps = len(self.events("step"))
            wait_until(lambda: len(self.events("step")) > steps + 3)
            self.assertEqual(self.stop(process), 0, self.err)
            self.assertEqual(self.out.splitlines()[-1].split("=")[0], "stopped epoch")
            self.assertFalse(os.path.exists(self.path("ml/output/failure")))
        self.assertIn("model.safetensors", self.keys("model/"))

    def test_stop_while_the_server_is_away_leaves_the_model_before_it_tries_to_save(self):
        proxy = Proxy(self.server.http_url)
        self.addCleanup(proxy.end)
        self.env.update(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{proxy.port}", AWS_MAX_ATTEMPTS="2", CONVOY_MODEL_ON_STOP="1")
        process = self.start(CONVOY, "train", *self.long(checkpoint_every="1h"))
        wait_until(lambda: len(self.events("step")) > 3)
        proxy.end()
        self.assertEqual(self.stop(process), 1, self.err)
        said = [self.err.rindex(text) for text in ("the model of step", "warning: cannot save a checkpoint: ",
                                                   "and the checkpoint could not be written")]
        self.assertEqual(said, sorted(said), self.err)

    def test_stop_while_waiting_for_a_lease(self):  # before the first step: there is no model yet
        self.env.update(SAGEMAKER_BASE_DIR=self.path("ml"), TRAINING_JOB_ARN="arn:dogs")
        lease = {"format": "convoy-lease-1", "job": "dead", "host": "h", "generation": 4, "pid": 1, "start": 1,
                 "sequence": 1, "released": False}
        self.client.put(BUCKET, f"{self.prefix}/convoy-lease.json", json.dumps(lease).encode())
        for ranks in (1, 2):
            process = self.start(CONVOY, "train", f"--ranks-per-host={ranks}", *self.words())
            wait_until(lambda: "is the job 'dead''s on h: waiting up to" in self.text("stderr"))
            self.assertEqual(self.stop(process), 75, self.err)
            self.assertEqual(self.out, "stopped epoch=0 of=1\n")
            self.assertFalse(os.path.exists(self.path("ml/model")))
            self.assertEqual(self.text("ml/output/failure"), "stopped before the model was written")
        self.assertEqual(self.lease(), lease)

    def test_failure_is_left_for_the_platform(self):
        self.env.update(SAGEMAKER_BASE_DIR=self.path("ml"), TRAINING_JOB_ARN="arn:dogs", CONVOY_MODEL_ON_STOP="0",
                        CONVOY_FAILURE=self.path("own"))  # from rank to launcher: a user's is not looked at
        cases = ((1, self.words(checkpoint="s3://nosuch/prefix"), r"\[0/1 \S+\] --checkpoint: .*nosuch.*"),
                 (2, self.options(data="nosuch"), r"\[0/2 \S+\] .*'nosuch'.*"),
                 (1, self.options(epochs="x"), r"convoy: --epochs: .*"))
        for ranks, words, want in cases:
            self.assertEqual(self.convoy(ranks, *words), 2, self.err)
            first = self.text("ml/output/failure")
            self.assertRegex(first, f"^{want}$")
            self.assertEqual(self.convoy(1, *self.options(data="another")), 2)
            self.assertEqual(self.text("ml/output/failure"), first)  # the first stays
            os.remove(self.path("ml/output/failure"))
        self.assertEqual(self.convoy(1, *self.options()), 0, self.err)
        self.assertEqual(os.listdir(self.path("ml/output")), ["data"])
        self.assertFalse(os.path.exists(self.path("own")))

    def test_checkpoint_of_the_environment(self):
        self.env["CONVOY_CHECKPOINT"] = self.place
        self.assertEqual(self.convoy(1, *self.options()), 0, self.err)
        self.assertEqual(self.saved(), [(1, 4)])


if __name__ == "__main__":
    s3.require()
    main(S3)
