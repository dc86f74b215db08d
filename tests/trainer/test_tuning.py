#!/usr/bin/env python3
"""Fine-tuning: weights to begin with, frozen layers, other heads: the same bits for any number of ranks and threads and
after a kill, and what is said of files and options that do not fit."""
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

from job import Job, main, ranks_of, wait_until

# What is trained, and how frozen batch norms work.
WAYS = (dict(train_layers="head"), dict(train_layers="from:layer3"),
        dict(train_layers="from:layer2", batch_norm="batch"), dict(train_layers="head", head="64-12-relu", optimizer="adam"))


class Tuning(Job):
    def tensors(self, path):
        """Name: digest of its bytes, so that what differs can be shown."""
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            data = file.read()
        return {name: hashlib.sha256(data[slice(*t["data_offsets"])]).hexdigest() for name, t in header.items() if name != "__metadata__"}

    def left_by(self, ranks, name, **more):
        self.assertEqual(self.convoy(ranks, *self.options(model_dir=name, **more)), 0, self.err)
        return self.tensors(self.path(name, "model.safetensors"))

    def file(self, name="first"):
        return self.path(name, "model.safetensors")

    def test_what_is_frozen_stays(self):
        first = self.left_by(1, "first", max_steps=2)
        for way in WAYS:
            with self.subTest(way):
                shutil.rmtree(self.path("report"))
                after = self.left_by(1, "after", pretrained=self.file(), **way)
                layers, batch = way["train_layers"], way.get("batch_norm") == "batch"
                behind = ("fc",) if layers == "head" else tuple(f"layer{i}" for i in range(int(layers[-1]), 4)) + ("fc",)
                for name, value in after.items():
                    trained = name.startswith(behind)
                    if "num_batches_tracked" in name or (trained and name not in first):
                        continue
                    moves = trained or (batch and "running" in name)
                    self.assertEqual(value != first[name], moves, name)

    def test_same_bits_for_ranks_and_threads(self):
        self.left_by(1, "first", max_steps=2)
        for way in WAYS:
            found = None
            for ranks, threads in ((1, 1), (2, 2), (3, 1), (1, 3)):
                model = self.left_by(ranks, "after", pretrained=self.file(), micro_batch=6, threads=threads, **way)
                found = found or model
                self.assertEqual(found, model, (way, ranks, threads))

    def test_same_bits_after_a_kill(self):
        self.left_by(1, "first", max_steps=2)
        more = dict(pretrained=self.file(), train_layers="from:layer2", epochs=30, checkpoint="checkpoint", checkpoint_every=3)
        whole = self.left_by(1, "whole", **{**more, "checkpoint": None})
        shutil.rmtree(self.path("report"))
        process = self.start(*self.foreign(2, *self.options(model_dir="resumed", **more)))
        wait_until(lambda: max(self.checkpoints(), default=0) >= 6)
        process.kill()
        process.wait()
        time.sleep(1)  # its ranks notice
        self.assertEqual(self.left_by(1, "resumed", **more), whole)
        self.assertIn("resuming at step", self.err)

    # --- the feature cache ---

    CACHED = (dict(train_layers="head", augment="none"), dict(train_layers="from:layer3", augment_views=2))

    def tight(self, ranks, spare_bytes, **more):
        """Of the host's memory no more than the plan of such a run, and so much for each rank."""
        self.env["CONVOY_HOST_MEMORY"] = "1"
        self.assertEqual(self.convoy(ranks, *self.options(**more)), 2, self.err)
        needed = float(re.search(r"needs ([0-9.]+) MiB", self.err)[1]) + 0.1
        self.env["CONVOY_HOST_MEMORY"] = str(int(needed * (1 << 20)) + ranks * spare_bytes)

    def assert_cached(self, *words):
        line = re.search(r"the features of (\d+) views of pictures are kept: .*", self.err)
        self.assertTrue(line, self.err)
        self.assertNotIn("no feature cache", self.err)
        for word in words:
            self.assertIn(word, line[0])

    def test_same_bits_with_a_feature_cache(self):
        self.left_by(1, "first", max_steps=2)
        for way in self.CACHED:
            more = dict(pretrained=self.file(), epochs=3, micro_batch=6, **way)
            without = self.left_by(1, "without", feature_cache=0, **more)
            self.assertNotIn("are kept", self.err)
            for ranks in (1, 2, 3):
                self.assertEqual(self.left_by(ranks, "with", **more), without, (way, ranks))
                self.assert_cached("MB in memory")

    def test_progress_of_features_has_no_score(self):
        self.env["CONVOY_TERMINAL_COLUMNS"] = "200"
        words = self.options(train_layers="head", augment="none", model="resnet110", image_size=64, max_steps=1)
        self.assertEqual(self.wait(self.start(*self.foreign(1, *words))), 0, self.err)
        bars = [bar.rstrip() for bar in re.findall("computing features 1/1 [^\r\n\033]*", self.err)]
        self.assertTrue(bars, self.err)
        for bar in bars:
            self.assertRegex(bar, r"\] +[0-9]+ %$")

    def test_same_bits_with_features_in_a_file(self):
        self.left_by(1, "first", max_steps=2)
        more = dict(pretrained=self.file(), epochs=3, micro_batch=6, train_layers="from:layer3", augment_views=2)
        without = self.left_by(1, "without", feature_cache=0, **more)
        os.mkdir(self.path("files"))
        for ranks in (1, 2):
            self.tight(ranks, 1 << 20, **more)
            self.env["TMPDIR"] = self.path("files")
            self.assertEqual(self.left_by(ranks, "with", **more), without, ranks)
            self.assert_cached("MB in memory, 1.", f"MB in '{self.path('files')}'")
            self.assertFalse([name for name in os.listdir(self.path("files")) if "features" in name])
            del self.env["TMPDIR"]

    def test_without_room_for_features_a_training_goes_on(self):
        self.left_by(1, "first", max_steps=2)
        more = dict(pretrained=self.file(), epochs=2, train_layers="from:layer3", augment="none")
        without = self.left_by(1, "without", feature_cache=0, **more)
        if "tmpfs" not in subprocess.run(("stat", "-f", "-c", "%T", "/dev/shm"), capture_output=True, text=True).stdout:
            self.skipTest("/dev/shm is no tmpfs")
        for ranks in (1, 2):
            self.tight(ranks, 100000, **more)
            self.env["TMPDIR"] = "/dev/shm"
            self.assertEqual(self.left_by(ranks, "with", **more), without, ranks)
            self.assertRegex(self.err, "warning: no feature cache: 1[.][0-9] MB find no room in memory, and '/dev/shm' is memory")
            del self.env["TMPDIR"]

    def test_same_numbers_with_a_feature_cache(self):
        """Pictures left out, a test split, the best model, an early end."""
        self.left_by(1, "first", max_steps=2)
        self.copy_of_train("train")
        self.copy_of_train("val")
        self.copy_of_train("test")
        for folder, number in (("train", 3), ("val", 5), ("test", 7)):
            with open(self.pictures_of(folder)[number], "wb") as file:
                file.write(b"no picture")
        more = dict(data=None, train="train", val="val", test="test", pretrained=self.file(), train_layers="head", epochs=6,
                    augment="none", micro_batch=3, keep_model="best", early_stopping="on", early_stopping_min_epochs=1,
                    early_stopping_patience=1, early_stopping_tolerance=0.2)
        found = []
        for ranks, cache in ((1, dict(feature_cache=0)), (1, {}), (2, {}), (3, {})):
            shutil.rmtree(self.path("report"), ignore_errors=True)
            model = self.left_by(ranks, "after", **more, **cache)
            facts = [{key: event[key] for key in ("epoch", "step", "loss", "accuracy", "lr", "images", "what", "why") if key in event}
                     for event in self.events("step", "epoch", "eval", "end")]
            with open(self.path("report", "validation", "confusion.csv")) as file:
                found.append((model, facts, file.read(), [line for line in self.out.splitlines() if line.startswith("Test")]))
            self.assertEqual(found[-1], found[0], (ranks, cache))
        self.assertEqual(found[0][1][-1]["why"], "early stopping")
        self.assertEqual([fact["images"] for fact in found[0][1] if fact.get("what")][-2:], [31, 31])

    def test_same_bits_after_a_kill_with_a_feature_cache(self):
        """In the first epoch and in the second: of other steps no checkpoint is left."""
        self.left_by(1, "first", max_steps=2)
        for way in self.CACHED:
            more = dict(pretrained=self.file(), epochs=5, global_batch=8, micro_batch=3, checkpoint="checkpoint",
                        checkpoint_every=1, keep=100, **way)
            shutil.rmtree(self.path("report"), ignore_errors=True)
            whole = self.left_by(1, "whole", **{**more, "checkpoint": None, "feature_cache": 0})
            for ranks, step in ((2, 3), (1, 6)):
                shutil.rmtree(self.path("report"))
                process = self.start(*self.foreign(3 - ranks, *self.options(model_dir="resumed", **more)))
                wait_until(lambda: max(self.checkpoints(), default=0) >= step)
                pids = [process.pid, *ranks_of(process)]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                process.wait()
                wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
                for name in os.listdir(self.path("checkpoint")):
                    if name.startswith("step-") and int(name.split("-")[1]) > step:
                        os.remove(self.path("checkpoint", name))
                self.assertEqual(self.left_by(ranks, "resumed", **more), whole, (way, step))
                self.assertIn(f"resuming at step {step} ", self.err)
                self.assert_cached("MB in memory")
                shutil.rmtree(self.path("checkpoint"))

    def test_same_bits_after_a_stop_with_a_feature_cache(self):
        self.left_by(1, "first", max_steps=2)
        more = dict(pretrained=self.file(), train_layers="head", augment="none", lr_schedule="constant", checkpoint="checkpoint")
        shutil.rmtree(self.path("report"))
        process = self.start(*self.foreign(2, *self.options(model_dir="resumed", epochs=5000, **more)))
        wait_until(lambda: len(self.events("step")) > 5)
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(self.wait(process), 75, self.err)
        epochs = self.events("step")[-1]["epoch"] + 2
        resumed = self.left_by(1, "resumed", epochs=epochs, **more)
        self.assertIn("resuming at step", self.err)
        self.assertEqual(resumed, self.left_by(1, "whole", epochs=epochs, **{**more, "checkpoint": None}))

    def test_no_feature_cache_where_it_cannot_be_right(self):
        self.left_by(1, "first", max_steps=2)
        for more, says in ((dict(), "cropped anew"), (dict(augment="none", batch_norm="batch"), "whole micro-batch"),
                           (dict(augment="none", feature_cache=100), "--feature-cache allows")):
            self.left_by(1, "after", pretrained=self.file(), train_layers="head", max_steps=1, **more)
            self.assertIn("no feature cache", self.err)
            self.assertIn(says, self.err)

    def test_checkpoints_keep_no_state_of_frozen_layers(self):
        self.left_by(1, "first", train_layers="head", checkpoint="checkpoint")
        folder = self.path("checkpoint")
        newest = sorted(n for n in os.listdir(folder) if n.startswith("step"))[-1]
        states = [n for n in self.tensors(os.path.join(folder, newest)) if n.startswith("optimizer.")]
        self.assertEqual(sorted(states), ["optimizer.momentum.fc.bias", "optimizer.momentum.fc.weight"])

    def test_heads_of_another_size_begin_anew(self):
        self.left_by(1, "first", max_steps=1)
        self.left_by(1, "other", pretrained=self.file(), head="64-12-relu", max_steps=1)
        self.assertIn("the head begins anew", self.err)
        self.assertIn("'fc.0.weight': it is not there", self.err)
        self.left_by(1, "again", pretrained=self.file(), max_steps=1)
        self.assertNotIn("begins anew", self.err)

    def test_heads_are_kept_or_begun_anew_as_asked_for(self):
        first = self.left_by(1, "first", max_steps=2)
        drawn = self.left_by(1, "drawn", max_steps=1, lr=0, weight_decay=0)
        still = dict(pretrained=self.path("first"), max_steps=1, lr=0, weight_decay=0)  # the folder, this time
        self.assertEqual(self.left_by(1, "after", **still)["fc.weight"], first["fc.weight"])
        after = self.left_by(1, "after", pretrained_head="new", **still)
        self.assertIn("the head begins anew, as asked for", self.err)
        self.assertEqual(after["fc.weight"], drawn["fc.weight"])
        self.assertEqual(after["conv1.weight"], first["conv1.weight"])
        self.assertEqual(self.convoy(1, *self.options(pretrained_head="keep", head="64-12-relu", **still)), 2)
        self.assert_one_error("has another head, which was to be kept: 'fc.0.weight'")

    def test_frozen_layers_that_nobody_trained_are_warned_of(self):
        self.left_by(1, "first", train_layers="head", max_steps=1)
        self.assertIn("--train-layers head without --pretrained", self.err)

    def test_what_does_not_fit_is_one_line(self):
        self.left_by(1, "first", max_steps=1)
        with open(self.path("words"), "w") as file:
            file.write("no weights")
        for more, says in ((dict(pretrained=self.path("nowhere")), "nowhere"),
                           (dict(pretrained=self.path("words")), "words"),
                           (dict(pretrained=self.file(), model="resnet32"), "is of another network: 'layer1.3.conv1.weight'"),
                           (dict(train_layers="from:layer4"), "--train-layers: 'from:layer4'"),
                           (dict(head="2048-128-relu"), "--head: '2048-128-relu': the head of resnet20 has 64 inputs"),
                           (dict(batch_norm="none"), "--batch-norm")):
            self.assertEqual(self.convoy(1, *self.options(model_dir="bad", **more)), 2, (more, self.err))
            self.assertIn(says, self.err)
            self.assertEqual(sum("error:" in line for line in self.err.splitlines()), 1, self.err)
            self.assertFalse(os.path.exists(self.path("bad")), more)


if __name__ == "__main__":
    main(Tuning)
