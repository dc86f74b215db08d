#!/usr/bin/env python3
"""The contract of a SageMaker training container, one host, with the real programs: a tree in place of /opt/ml, what a
job's authors may write into it, and what the platform finds afterwards."""
import ast
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time

from job import CONVOY, Job, descendants, main, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
CONTAINER = os.path.join(HERE, "..", "..", "launcher", "container")
DEFINITIONS, EXAMPLES = os.path.join(CONTAINER, "metric-definitions.json"), os.path.join(CONTAINER, "examples")

# A run of a second, as a job's author would ask for it.
SMALL = {"num_layers": "20", "image_shape": "3,8,8", "epochs": "1", "mini_batch_size": "16", "micro_batch": "8"}


def state(pid):
    """/proc/PID/status; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return {}


class SageMaker(Job):
    def setUp(self):
        super().setUp()
        for name in [name for name in self.env if name.startswith(("TRAINING_JOB", "SAGEMAKER_"))]:
            del self.env[name]
        self.tree = self.path("opt-ml")
        self.env["SAGEMAKER_BASE_DIR"] = self.tree
        self.env["TMPDIR"] = self.path("tmp")
        os.mkdir(self.env["TMPDIR"])

    def put(self, name, content):
        path = os.path.join(self.tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def job(self, hyperparameters=SMALL, channels=("training", "validation"), host="algo-1", **resources):
        """The tree of a job on one host."""
        self.put("input/config/resourceconfig.json", {"current_host": host, "hosts": [host], **resources})
        self.put("input/config/hyperparameters.json", hyperparameters)
        self.put("input/config/inputdataconfig.json",
                 {channel: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"} for channel in channels})
        for channel in channels:
            part = "val" if channel.startswith("val") else "train"
            shutil.copytree(os.path.join(self.data, part), os.path.join(self.tree, "input", "data", channel))

    def container(self, *words):
        """`docker run IMAGE WORDS`."""
        return self.wait(self.start(CONVOY, *words))

    def left(self, *names):
        path = os.path.join(self.tree, *names)
        if not os.path.exists(path):
            return None
        with open(path) as file:
            return file.read()

    def model(self):
        """When it was written."""
        path = os.path.join(self.tree, "model", "model.safetensors")
        return os.stat(path).st_mtime_ns if os.path.exists(path) else None

    def hyperparameters(self):
        """What the model says it was trained with."""
        return json.loads(self.left("model", "config.json"))["hyperparameters"]

    def succeeds(self, *words):
        self.assertEqual(self.container(*words), 0, self.err)
        self.assertIsNone(self.left("output", "failure"))
        self.assertEqual(sorted(os.listdir(os.path.join(self.tree, "model"))),
                         ["class_labels.json", "config.json", "model.safetensors"])
        self.assertEqual([name for name in os.listdir(self.env["TMPDIR"]) if name.startswith("convoy")], [])

    def fails(self, words, *said, status=2):
        """One line says it, and the platform's file says the same."""
        model = self.model()  # of a run before
        self.assertEqual(self.container(*words), status, self.err)
        self.assert_one_error(*said)
        failure = self.left("output", "failure")
        self.assertIsNotNone(failure, self.err)
        self.assertLessEqual(len(failure), 1024)
        for word in said:
            self.assertIn(word, failure)
        self.assertEqual(model, self.model())
        self.assertEqual([name for name in os.listdir(self.env["TMPDIR"]) if name.startswith("convoy")], [])
        return failure

    # --- Pipe mode ---

    def pipes(self, **streams):
        """Channels in Pipe mode, each with a writer that makes its FIFO a little late and ends as S3 does."""
        self.job(channels=())
        self.put("input/config/inputdataconfig.json", {name: {"TrainingInputMode": "Pipe"} for name in streams})
        os.makedirs(os.path.join(self.tree, "input", "data"), exist_ok=True)

        def write(name, stream):
            time.sleep(0.2)
            path = os.path.join(self.tree, "input", "data", name + "_0")
            os.mkfifo(path)
            with contextlib.suppress(BrokenPipeError), open(path, "wb") as file:
                file.write(stream)

        for name, stream in streams.items():
            threading.Thread(target=write, args=(name, stream), daemon=True).start()

    def shards(self, part):
        """A part of the data as shards, and what a Pipe channel makes of them."""
        target = self.path("shards", part)
        self.assertEqual(self.wait(self.start(CONVOY, "pack", os.path.join(self.data, part), target,
                                              "--shard-bytes=20000")), 0, self.err)
        stream = b""
        for tar in sorted(glob.glob(os.path.join(target, "*.tar"))):
            with open(tar, "rb") as file:
                stream += file.read()
        return target, stream

    def test_pipe_channels_give_the_weights_of_file_mode(self):
        shards = {"training": self.shards("train"), "validation": self.shards("val")}
        self.job(channels=())
        self.put("input/config/inputdataconfig.json", {name: {"TrainingInputMode": "File"} for name in shards})
        for name, (folder, _) in shards.items():
            shutil.copytree(folder, os.path.join(self.tree, "input", "data", name))
        self.succeeds("train")
        want = self.sha256()
        shutil.rmtree(self.tree)
        self.pipes(**{name: stream for name, (_, stream) in shards.items()})
        self.succeeds("train", "--epochs=1")
        self.assertEqual(self.sha256(), want)
        self.assertTrue(os.path.exists(os.path.join(self.tree, "spool", "training", "index.json")))

    def test_pipe_channel_that_is_cut_off_fails_in_one_line(self):
        self.pipes(training=self.shards("train")[1][:5000])
        self.put("input/config/inputdataconfig.json",  # the other one, whose FIFO never comes, is ended
                 {name: {"TrainingInputMode": "Pipe"} for name in ("training", "validation")})
        self.fails(["train"], "training_0", "byte")
        for name in ("training", "validation"):
            self.assertFalse(os.path.exists(os.path.join(self.tree, "spool", name)))

    def test_stop_ends_the_wait_for_a_channel(self):
        self.job(channels=())
        self.put("input/config/inputdataconfig.json", {"training": {"TrainingInputMode": "Pipe"}})
        job = self.start(CONVOY, "train")
        wait_until(lambda: os.path.exists(os.path.join(self.tree, "spool", "training", "packing.json")))
        job.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        self.assertEqual(self.wait(job), 75, self.err)
        self.assertLess(time.monotonic() - begun, 10)
        self.assertIn("stopped", self.left("output", "failure"))
        self.assertFalse(os.path.exists(os.path.join(self.tree, "spool", "training")))

    # --- what the tree says ---

    def test_job_without_channels_and_hyperparameters_fails_in_one_line(self):
        self.job(hyperparameters={}, channels=())
        self.assertIn("algo-1", self.fails(["train"], "no training pictures", "training"))

    def test_job_leaves_model_metrics_and_checkpoints_where_the_platform_takes_them(self):
        self.job(host="algo-1-ab12c")
        self.env["SM_CURRENT_HOST"] = "algo-7"  # wrong on purpose: the file wins
        self.succeeds("train")
        self.assertIsNotNone(self.left("output", "data", "metrics.jsonl"))
        self.assertNotEqual(os.listdir(os.path.join(self.tree, "checkpoints")), [])
        self.assertIn("#quality_metric: host=algo-1-ab12c, epoch=0, train accuracy=", self.out)
        self.assertIn("[0/1 algo-1-ab12c]", self.err)
        for line in ("--model resnet20 (from hyperparameter num_layers (SM_HP_NUM_LAYERS))",
                     "--train " + os.path.join(self.tree, "input/data/training") + " (from SM_CHANNEL_TRAINING"):
            self.assertIn(line, self.err)
        self.assertFalse(os.path.exists(self.path("model")) or os.path.exists(self.path("report")))

    def test_hyperparameters_in_every_spelling_that_submitters_use(self):
        text = json.dumps({"num_layers": "\"20\"", "image_shape": "\"3,8,8\"", "batch-size": "\"16\"", "micro_batch": " 8.0 ", "epochs": 1,
                           "learning_rate": "\"1e-3\"", "lr_scheduler_step": "\"10,20\"", "use_pretrained_model": "0",
                           "_tuning_objective_metric": "validation:accuracy", "sagemaker_job_name": "\"dogs\"",
                           "sagemaker_program": "\"train\"", "colour": "blue", "notes": "n" * 2500}, indent=1)
        self.job()
        self.put("input/config/hyperparameters.json", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        self.succeeds("train")
        taken = self.hyperparameters()
        self.assertEqual([taken[name] for name in ("model", "global-batch", "micro-batch", "epochs", "lr", "lr-schedule")],
                         ["resnet20", "16", "8.0", "1", "1e-3", "step"])
        warnings = [line for line in self.err.splitlines() if "warning: " in line]
        self.assertEqual(len(warnings), 2, self.err)
        self.assertIn("SM_HP_COLOUR", warnings[0] + warnings[1])
        self.assertIn("SM_HP_NOTES", warnings[0] + warnings[1])
        self.fails(["train", "--strict"], "SM_HP_")

    def test_only_channel_of_any_name_with_all_splits_in_it(self):
        self.job(channels=())
        shutil.copytree(self.data, os.path.join(self.tree, "input", "data", "dogs.1"))
        self.succeeds("train")
        self.assertIn("Validation-accuracy=", self.out)

    def test_variable_of_the_user_comes_before_the_tree(self):
        self.job(channels=("training",))
        self.env.update(SM_CHANNEL_TRAINING=self.path("elsewhere"), SM_CHANNEL_VALIDATION="", SM_HP_EPOCHS="2")
        self.fails(["train"], self.path("elsewhere"))
        os.remove(os.path.join(self.tree, "output", "failure"))
        self.env["SM_CHANNEL_TRAINING"] = ""  # says nothing
        self.succeeds("train")
        self.assertEqual(self.hyperparameters()["epochs"], "2")

    # --- words of the container ---

    def test_words_stand_for_train(self):
        self.job()
        self.succeeds()  # no word at all
        for name in ("model", "checkpoints"):
            shutil.rmtree(os.path.join(self.tree, name))
        self.succeeds("--seed", "5", "--val-split=0")  # ContainerArguments in place of `train`
        self.assertEqual(self.hyperparameters()["seed"], "5")

    def test_wrong_words_are_the_jobs_failure(self):
        self.job()
        for words, said in ((["serve"], "serve"), (["python", "train.py"], "python"), (["train", "more"], "more"),
                            (["--frob"], "--frob"), (["train", "--epochs=x"], "--epochs"),
                            (["train", "--ranks-per-host=x"], "--ranks-per-host")):
            with self.subTest(words):
                self.fails(words, said)
                os.remove(os.path.join(self.tree, "output", "failure"))

    # --- failures ---

    def test_bad_trees_are_named(self):
        self.job()
        cases = [("resourceconfig", {"current_host": "algo-3", "hosts": ["algo-1", "algo-2"]}, "algo-3"),
                 ("resourceconfig", {"hosts": ["algo-1"]}, "current_host"),
                 ("hyperparameters", b'{"epochs": ', "hyperparameters.json"),
                 ("hyperparameters", dict(SMALL, optimizer='"rmsprop"'), "optimizer"),
                 ("hyperparameters", dict(SMALL, num_classes="133"), "num_classes"),
                 ("inputdataconfig", {"training": {"TrainingInputMode": "Tube"}}, "'training'"),
                 ("inputdataconfig", {"model": {"S3DistributionType": "ShardedByS3Key"}}, "FullyReplicated"),
                 ("inputdataconfig", {"breeds": {}}, "channel 'breeds' has no folder"),
                 ("checkpointconfig", {"LocalPath": 3}, "LocalPath")]
        for name, content, said in cases:
            with self.subTest(said):
                kept = self.left("input", "config", f"{name}.json")
                self.put(f"input/config/{name}.json", content)
                self.fails(["train"], said)
                os.remove(os.path.join(self.tree, "output", "failure"))
                if kept is None:
                    os.remove(os.path.join(self.tree, "input", "config", f"{name}.json"))
                else:
                    self.put(f"input/config/{name}.json", kept.encode())

    def test_empty_channel_is_named(self):
        self.job()
        shutil.rmtree(os.path.join(self.tree, "input/data/training"))
        os.makedirs(os.path.join(self.tree, "input/data/training/001.Affenpinscher"))
        self.fails(["train"], "channel 'training' is empty")

    def test_channel_that_may_not_be_read_is_not_called_empty(self):
        """As root every folder can be read: somebody else then starts the job."""
        own = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        self.job(channels=("training",))
        locked = os.path.join(self.tree, "input/data/training")
        os.chmod(locked, 0)
        self.addCleanup(os.chmod, locked, 0o755)
        for folder, _, _ in os.walk(self.folder):  # else the other user finds nothing at all
            os.chmod(folder, 0o000 if folder == locked else 0o755)
        self.assertEqual(self.wait(self.start(*own, CONVOY, "train")), 2, self.err)
        self.assertRegex(self.err, r"channel 'training': user \d+ may not read a folder in '.*/training': .*chmod")

    def test_failure_of_a_rank_is_the_rank_s_line(self):
        self.job(hyperparameters=dict(SMALL, bad_images="stop"))
        picture = sorted(self.pictures_of(os.path.join(self.tree, "input/data/training")))[3]
        with open(picture, "w") as file:
            file.write("<html>404</html>")
        self.fails(["train"], os.path.basename(picture), "neither a JPEG nor a PNG", "algo-1")

    def test_failure_that_is_there_stays(self):
        self.job(hyperparameters=dict(SMALL, optimizer="rmsprop"))
        self.put("output/failure", b"somebody else was first")
        self.assertEqual(self.container("train"), 2)
        self.assertEqual(self.left("output", "failure"), "somebody else was first")

    # --- weights to begin with ---

    def test_incremental_training_begins_with_the_channel_model(self):
        self.job()
        self.succeeds("train", "--checkpoint", self.path("first"))
        model, channel = os.path.join(self.tree, "model"), os.path.join(self.tree, "input/data/model")
        os.makedirs(channel)
        shutil.copytree(model, self.path("kept"))
        with tarfile.open(os.path.join(channel, "model.tar.gz"), "w:gz") as tar:  # as the platform packs it
            for name in os.listdir(model):
                tar.add(os.path.join(model, name), name)
        self.put("input/config/hyperparameters.json", dict(SMALL, use_pretrained_model="1", train_only_on_top_layer="True"))
        self.succeeds("train", "--checkpoint", self.path("second"))
        self.assertIn(f"weights from '{channel}/model.tar.gz: model.safetensors' (safetensors)", self.err)
        self.assertNotIn("begins anew", self.err)
        self.assertIn(f"--pretrained {channel} (from SM_CHANNEL_MODEL", self.err)
        packed = self.sha256()
        os.remove(os.path.join(channel, "model.tar.gz"))
        shutil.copytree(self.path("kept"), channel, dirs_exist_ok=True)  # unpacked
        self.succeeds("train", "--checkpoint", self.path("third"))
        self.assertEqual(self.sha256(), packed)
        self.assertIn(f"weights from '{channel}/model.safetensors'", self.err)

    def test_pretrained_weights_that_nobody_gives_are_asked_for(self):
        self.job(hyperparameters=dict(SMALL, use_pretrained_model="1"))
        self.fails(["train"], "use_pretrained_model", "channel 'model'", "hyperparameter pretrained")

    # --- again, stopped, under another's mpirun ---

    def test_job_that_starts_again_keeps_its_batch_whatever_the_hosts_would_make_of_it(self):
        self.job(hyperparameters=dict(SMALL, mini_batch_size="32"))
        self.succeeds("train")
        first = self.sha256()
        self.put("input/config/hyperparameters.json", SMALL)  # half as much, as on half as many hosts
        self.succeeds("train")
        self.assertEqual(self.sha256(), first)
        self.assertEqual(self.hyperparameters()["global-batch"], "32")
        self.assertRegex(self.err, "warning: hyperparameter mini_batch_size .* but the checkpoint's 32 stays")

    def test_ranks_of_a_foreign_mpirun_read_the_tree_too(self):
        self.job()
        self.assertEqual(self.wait(self.start(*self.foreign(2))), 0, self.err)
        self.assertIsNotNone(self.model())
        shutil.rmtree(os.path.join(self.tree, "input/data/training"))
        self.assertEqual(self.wait(self.start(*self.foreign(2))), 2, self.err)
        self.assertIn("channel 'training' has no folder", self.left("output", "failure"))

    def test_stopped_job_leaves_its_model_and_succeeds(self):
        self.job(hyperparameters=dict(SMALL, epochs="100000"))
        process = self.start(CONVOY, "train")
        wait_until(lambda: "Epoch[1] Train-accuracy" in self.text("stdout"))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertRegex(self.out.splitlines()[-1], r"^stopped epoch=\d+ of=100000$")
        self.assertIsNotNone(self.model())
        self.assertIsNone(self.left("output", "failure"))

    def test_job_whose_own_time_is_up_leaves_its_model_and_succeeds(self):
        self.job(hyperparameters=dict(SMALL, epochs="100000", max_run="3s"))
        self.succeeds("train")
        self.assertRegex(self.out.splitlines()[-1], r"^stopped epoch=\d+ of=100000$")

    def test_stop_reaches_a_container_s_first_process(self):
        """As process 1 a signal without a handler is lost, and orphans are ours: none may stay a zombie."""
        space = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if subprocess.run([*space, "true"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("the system does not let us have a process 1 of our own")
        self.job(hyperparameters=dict(SMALL, epochs="100000"))
        process = self.start(*space, CONVOY, "train", "--ranks-per-host=2")
        wait_until(lambda: "Epoch[1] Train-accuracy" in self.text("stdout"))
        first = next(pid for pid in descendants(process.pid) if state(pid)["NSpid"].split()[1:] == ["1"])
        subprocess.run(["nsenter", f"--target={first}", "--pid", "sh", "-c", "sleep 2 &"], check=True)
        orphans = lambda: [pid for pid in descendants(first) if state(pid).get("Name") == "sleep"]
        wait_until(orphans)
        wait_until(lambda: not orphans())  # ended and reaped
        os.kill(first, signal.SIGTERM)
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertRegex(self.out.splitlines()[-1], r"^stopped epoch=\d+ of=100000$")
        self.assertIsNotNone(self.model())
        self.assertIsNone(self.left("output", "failure"))

    def test_job_may_be_a_benchmark(self):
        """One point of `convoy bench scaling`, whose hosts are another job's each time."""
        self.job(hyperparameters={"model": "resnet20", "bench_steps": "2", "global_batch": "16", "micro_batch": "8"},
                 channels=())
        self.assertEqual(self.container("train"), 0, self.err)
        line = json.loads(self.out.splitlines()[-1])
        self.assertEqual((line["event"], line["ranks"], line["images"]), ("bench", 1, 32))
        self.assertGreater(line["images_per_s"], 0)
        self.assertIsNone(self.left("output", "failure"))
        self.assertIsNone(self.model())

    # --- metrics ---

    def test_examples_ask_for_metrics_by_the_tested_definitions(self):
        with open(DEFINITIONS) as file:
            tested = {definition["Name"]: definition["Regex"] for definition in json.load(file)}
        with open(os.path.join(EXAMPLES, "create-training-job.json")) as file:
            asked = {"json": json.load(file)["AlgorithmSpecification"]["MetricDefinitions"]}
        with open(os.path.join(EXAMPLES, "sagemaker_sdk.py")) as file:
            program = ast.parse(file.read())
        asked["sdk"] = next(ast.literal_eval(line.value) for line in program.body
                            if isinstance(line, ast.Assign) and line.targets[0].id == "METRICS")
        for definitions in asked.values():
            self.assertIn("validation:accuracy", [definition["Name"] for definition in definitions])
            for definition in definitions:
                self.assertEqual(definition["Regex"], tested.get(definition["Name"]))

    def test_every_metric_definition_finds_its_lines_and_only_them(self):
        self.job(hyperparameters=dict(SMALL, epochs="2"), channels=("training", "validation", "test"))
        self.succeeds("train")
        with open(DEFINITIONS) as file:
            definitions = {d["Name"]: d["Regex"] for d in json.load(file)}
        self.assertLessEqual(len(definitions), 40)
        lines = self.out.splitlines() + self.err.splitlines()  # the platform searches both
        found = {name: [m[1] for m in (re.search(regex, line) for line in lines) if m] for name, regex in definitions.items()}
        for name, values in found.items():
            self.assertLessEqual(len(definitions[name]), 500)
            self.assertEqual(len(values), 1 if name.startswith("test:") else 2, name)
            for value in values:
                self.assertRegex(value, r"^[0-9]+\.[0-9]{3,}$")
        for name in ("train:accuracy", "train:loss", "validation:accuracy", "validation:loss", "speed", "test:loss",
                     "test:accuracy"):
            self.assertIn(name, found)
        accuracies = [e["accuracy"] for e in map(json.loads, self.left("output", "data", "metrics.jsonl").splitlines())
                      if e["event"] == "epoch"]
        for value, want in zip(found["train:accuracy"], accuracies):
            self.assertAlmostEqual(float(value), want, places=5)

    def test_evaluation_is_a_job_too(self):
        self.job()
        self.succeeds("train")
        shutil.rmtree(os.path.join(self.tree, "input", "data"))
        shutil.move(os.path.join(self.tree, "model"), os.path.join(self.tree, "input", "data", "model"))
        shutil.copytree(os.path.join(self.data, "val"), os.path.join(self.tree, "input", "data", "test"))
        self.put("input/config/inputdataconfig.json", {channel: {"TrainingInputMode": "File"} for channel in ("model", "test")})
        self.assertEqual(self.container("eval"), 0, self.err)
        self.assertRegex(self.out, r"^Testing Loss: [0-9.]+\nTesting Accuracy: [0-9.]+\nTesting Top-5 Accuracy: 1.000000\n$")
        self.assertIn('"accuracy5": 1.0', self.left("output", "data", "evaluation.json"))
        self.assertIsNone(self.left("output", "failure"))
        os.remove(os.path.join(self.tree, "input", "data", "model", "config.json"))
        self.fails(["eval"], "--model", "config.json", "convoy train")

    def test_lines_have_the_built_in_algorithms_shape(self):
        self.job(channels=("training", "validation", "test"))
        self.succeeds("train")
        number = r"[0-9]+\.[0-9]+"
        for shape in (rf"#quality_metric: host=algo-1, epoch=0, train accuracy={number}",
                      rf"Epoch\[0\] Batch \[[0-9]+\]\tSpeed: {number} samples/sec\taccuracy={number}",
                      rf"Epoch\[0\] Train-accuracy={number}", rf"Epoch\[0\] Time cost={number}",
                      rf"Epoch\[0\] Validation-accuracy={number}", rf"Testing Loss: {number}",
                      rf"Testing Accuracy: {number}"):
            self.assertEqual(len(re.findall(f"^{shape}$", self.out, re.M)), 1, shape)


if __name__ == "__main__":
    main(SageMaker)
