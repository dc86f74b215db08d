#!/usr/bin/env python3
"""Adam, AdamW and class weights in runs: the same bits for any number of ranks and threads and after a kill, what
checkpoints keep of them, and what is said of options that do not fit."""
import json
import os
import shutil
import time

from job import Job, main, wait_until

# What goes into the model: optimizer and its options.
WAYS = (("adam", {}), ("adamw", {"weight_decay": 0.1}))


class Optimizer(Job):
    def model(self, name):
        with open(self.path(name, "model.safetensors"), "rb") as file:
            return file.read()

    def left_by(self, ranks, name, **more):
        self.assertEqual(self.convoy(ranks, *self.options(model_dir=name, **more)), 0, self.err)
        return self.model(name)

    def entries(self, path):
        with open(path, "rb") as file:
            return file.read(int.from_bytes(file.read(8), "little")).decode()

    def newest(self, folder="checkpoint"):
        return self.path(folder, sorted(n for n in os.listdir(self.path(folder)) if n.startswith("step"))[-1])

    def test_same_bits_for_ranks_and_threads(self):
        """Three micro-batches a step; SGD's weights and those of the two differ from each other."""
        found = {"sgd": self.left_by(1, "sgd", micro_batch=6)}
        for name, more in WAYS:
            for ranks, threads in ((1, 1), (2, 2), (3, 1), (1, 3)):
                model = self.left_by(ranks, f"{name}-{ranks}-{threads}", micro_batch=6, threads=threads, optimizer=name,
                                     **more)
                self.assertEqual(found.setdefault(name, model), model, (name, ranks, threads))
        self.assertEqual(len(set(found.values())), 3)

    def test_same_bits_after_a_kill(self):
        """Killed behind a save; resumed on another number of ranks."""
        more = dict(optimizer="adam", epochs=30, checkpoint="checkpoint", checkpoint_every=3)
        whole = self.left_by(1, "whole", **{**more, "checkpoint": None})
        shutil.rmtree(self.path("report"))
        process = self.start(*self.foreign(2, *self.options(model_dir="resumed", **more)))
        wait_until(lambda: max(self.checkpoints(), default=0) >= 6)
        process.kill()
        process.wait()
        time.sleep(1)  # its ranks notice
        self.assertLess(max(self.checkpoints()), 60)
        self.assertEqual(self.left_by(1, "resumed", **more), whole)
        self.assertIn("resuming at step", self.err)

    def test_state_in_checkpoints(self):
        for name, kept in (("sgd", {"momentum"}), ("adamw", {"exp_avg", "exp_avg_sq"})):
            self.left_by(1, name, optimizer=name, checkpoint=name)
            header = self.entries(self.newest(name))
            for state in ("momentum", "exp_avg", "exp_avg_sq"):
                self.assertEqual(header.count(f'"optimizer.{state}.conv1.weight"'), int(state in kept), (name, state))
            self.assertNotIn("optimizer.", self.entries(self.path(name, "model.safetensors")).split("conv1", 1)[1])

    def test_resuming_with_another_optimizer_is_refused(self):
        self.left_by(1, "first", optimizer="adam", checkpoint="checkpoint")
        for other in ("sgd", "adamw"):
            self.assertEqual(self.convoy(1, *self.options(optimizer=other, epochs=2, checkpoint="checkpoint")), 2)
            self.assert_one_error(f"--optimizer is {other}, but the checkpoint", "was made with adam")
        # The same one in other letters, and one that is not named, go on.
        self.assertEqual(self.convoy(1, *self.options(optimizer="ADAM", epochs=2, checkpoint="checkpoint")), 0, self.err)
        self.assertEqual(self.convoy(1, *self.options(epochs=3, checkpoint="checkpoint")), 0, self.err)
        self.assertIn("--optimizer adam (from", self.err)

    # --- class weights ---

    def weights(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text if isinstance(text, str) else json.dumps(text))
        return name

    def uneven(self):
        """Class "a" has 5 pictures, class "b" 16."""
        if not os.path.exists(self.path("uneven")):
            names = sorted(os.listdir(self.train))
            shutil.copytree(os.path.join(self.train, names[0]), self.path("uneven", "a"))
            shutil.copytree(os.path.join(self.train, names[1]), self.path("uneven", "b"))
            for picture in self.pictures_of("uneven/a")[5:]:
                os.remove(picture)
        return len(self.pictures_of("uneven/a")), len(self.pictures_of("uneven/b"))

    def test_class_weights_in_every_form_are_the_same_bits(self):
        a, b = self.uneven()
        balanced = {"a": (a + b) / (2 * a), "b": (a + b) / (2 * b)}
        more = dict(data="uneven", global_batch=12, micro_batch=4, epochs=2)
        # Only the proportions count: a step is divided by the sum of its weights, and halves are exact.
        found = {self.left_by(1, "none", **more), *(self.left_by(1, f"same-{x}", class_weights=f'{{"b": {x}, "a": {x}}}',
                                                                 **more) for x in (1, 2))}
        self.assertEqual(len(found), 1)
        text = json.dumps({"b": balanced["b"], "a": balanced["a"]}, indent=1)
        forms = ("balanced", self.weights("weights.json", text), text)
        ways = ((1, 1), (2, 2), (3, 1))
        found |= {self.left_by(ranks, f"{ranks}-{i}", threads=threads, class_weights=form, **more)
                  for i, form in enumerate(forms) for ranks, threads in ways[:3 if i == 0 else 1]}
        self.assertEqual(len(found), 2)

    def test_label_smoothing_is_the_same_bits_for_ranks(self):
        self.uneven()
        more = dict(data="uneven", global_batch=12, micro_batch=4, class_weights="balanced")
        models = [self.left_by(1, "none", **more)]
        models += [self.left_by(ranks, f"smooth-{ranks}", label_smoothing=0.1, **more) for ranks in (1, 2, 3)]
        self.assertEqual(models[1:], [models[1]] * 3)
        self.assertNotEqual(*models[:2])

    def test_loss_with_pictures_left_out_is_the_weighted_mean(self):
        """A third of class "a" cannot be decoded: with a rate of 0, the mean of the others' losses, weighted."""
        self.uneven()
        for picture in self.pictures_of("uneven/a")[:2]:
            with open(picture, "w") as file:
                file.write("no picture")
        more = dict(data="uneven", global_batch=21, micro_batch=5, lr=0, augment="none", epochs=1)
        found = {}
        for weight in (1, 4, 1e-6):
            for ranks in (1, 2, 3):
                shutil.rmtree(self.path("report"), ignore_errors=True)
                self.left_by(ranks, "model", class_weights=json.dumps({"a": weight, "b": 1}), **more)
                losses = self.events("step")[0]["loss"], self.events("epoch")[0]["loss"]
                self.assertEqual(*losses)
                self.assertEqual(found.setdefault(weight, losses), losses, (weight, ranks))
        mean_b = found[1e-6][0]
        mean_a = (found[1][0] * 19 - mean_b * 16) / 3
        self.assertAlmostEqual(found[4][0], (4 * 3 * mean_a + 16 * mean_b) / (4 * 3 + 16), delta=1e-4)
        self.assertNotAlmostEqual(mean_a, mean_b, delta=1e-2)

    def test_loss_is_the_weighted_mean(self):
        """With a rate of 0 every picture keeps its loss: the mean of all, weighted, is the sum of the classes' parts."""
        self.uneven()
        more = dict(data="uneven", global_batch=21, micro_batch=21, lr=0, augment="none", max_steps=1)
        losses = {}
        for a in (1, 3):
            shutil.rmtree(self.path("report"), ignore_errors=True)
            self.left_by(1, "model", class_weights=json.dumps({"a": a, "b": 1}), **more)
            losses[a] = self.events("step")[0]["loss"], self.events("epoch")[0]["loss"]
            self.assertEqual(*losses[a])
        a, b = self.uneven()
        mean_a = (losses[3][0] * (3 * a + b) - losses[1][0] * (a + b)) / (2 * a)
        mean_b = (losses[1][0] * (a + b) - mean_a * a) / b
        shutil.rmtree(self.path("report"))
        self.left_by(1, "model", class_weights=json.dumps({"a": 1e-6, "b": 1}), **more)
        self.assertAlmostEqual(self.events("step")[0]["loss"], mean_b, delta=1e-4)
        self.assertNotAlmostEqual(mean_a, mean_b, delta=1e-3)

    def test_large_class_weights_are_shown_as_small_ones(self):
        self.uneven()
        found = []
        for x in (1, 2**10, 2**19):
            shutil.rmtree(self.path("report"), ignore_errors=True)
            model = self.left_by(1, "model", data="uneven", class_weights=f'{{"b": {x}, "a": {1.5 * x}}}')
            found.append((model, [event["loss"] for event in self.events("step")]))
            self.assertEqual(found[-1], found[0])
        self.assertGreater(min(found[0][1]), 0.1)

    def test_pictures_left_out_do_not_delay_the_rate(self):
        self.uneven()
        rates = []
        for bad in ((), (2, 7, 11)):
            for at in bad:
                with open(self.pictures_of("uneven")[at], "w") as file:
                    file.write("no picture")
            shutil.rmtree(self.path("report"), ignore_errors=True)
            self.left_by(1, "model", data="uneven", epochs=4, global_batch=8, micro_batch=4)
            rates.append([event["lr"] for event in self.events("step")])
            self.assertEqual(self.events("end")[0]["images"], 4 * (21 - len(bad)))
        self.assertEqual(len(rates[0]), 12)
        self.assertEqual(*rates)

    def test_class_weights_are_the_checkpoint_s(self):
        self.uneven()
        more = dict(data="uneven", checkpoint="checkpoint")
        name = self.weights("weights.json", {"a": 2, "b": 0.5})
        self.left_by(1, "first", class_weights=name, **more)
        os.remove(self.path(name))
        resumed = self.left_by(2, "second", epochs=2, **more)  # the file is not needed any more
        self.assertEqual(resumed, self.left_by(1, "whole", data="uneven", epochs=2, class_weights='{"a":2.0,"b":0.5}'))
        self.weights("weights.json", {"a": 2, "b": 1})
        self.assertEqual(self.convoy(1, *self.options(class_weights=name, epochs=3, **more)), 2)
        self.assert_one_error("--class-weights is weights.json, but the checkpoint", '"b":0.5')

    def test_only_rank_0_s_host_needs_the_file(self):
        """Its ranks begin in two folders, and one has the file."""
        self.uneven()
        os.mkdir(self.path("elsewhere"))
        self.weights("weights.json", {"a": 2, "b": 0.5})
        more = dict(data=self.path("uneven"), model_dir=self.path("model"), report=self.path("report"))
        words = self.foreign(1, *self.options(class_weights="weights.json", **more))
        self.assertEqual(self.wait(self.start(*words, ":", "-wdir", self.path("elsewhere"), *words[words.index("-n"):])), 0,
                         self.err)
        self.assertEqual(self.model("model"), self.left_by(1, "whole", data="uneven", class_weights='{"a":2,"b":0.5}'))
        self.assertEqual(self.events("run")[0]["options"]["class-weights"], '{"a":2.0,"b":0.5}')

    def test_long_class_weights_leave_room_for_advice(self):
        self.uneven()
        for name in ("a", "b"):
            os.rename(self.path("uneven", name), self.path("uneven", name * 220))
        text = {x: json.dumps({"a" * 220: x, "b" * 220: 1}) for x in (2, 3)}
        more = dict(data="uneven", checkpoint="checkpoint")
        self.left_by(1, "model", class_weights=text[2], **more)
        self.assertEqual(self.convoy(1, *self.options(class_weights=text[3], epochs=2, **more)), 2)
        self.assert_one_error("--class-weights is", "or another --checkpoint")

    def test_bad_class_weights_are_named(self):
        self.uneven()
        for text, words in (("missing.json", ("missing.json", "--class-weights")),
                            (self.weights("list", "[1, 2]"), ("'list'", "CLASS")),
                            (self.weights("broken", '{"a": '), ("broken",)),
                            (self.weights("twice", '{"a": 1, "a": 2, "b": 1}'), ("twice", "duplicate")),
                            (self.weights("empty", ""), ("empty",)),
                            ('{"a": 1}', ("no weight for class 'b'",)),
                            ('{"a": 1, "b": 1, "c": 1}', ("no class 'c'",)),
                            ('{"a": 0, "b": 1}', ("class 'a'", "1e-06")),
                            ('{"a": -1, "b": 1}', ("class 'a'",)),
                            ('{"a": 1e300, "b": 1}', ("class 'a'",)),
                            ('{"a": "1", "b": 1}', ("class 'a'",)),
                            ('{"a": true, "b": 1}', ("class 'a'",)),
                            ('{}', ("no weight for class 'a'",))):
            with self.subTest(text):
                self.assertEqual(self.convoy(1, *self.options(data="uneven", class_weights=text)), 2, self.err)
                self.assert_one_error(*words)
                self.assertFalse(os.path.exists(self.path("model")))

    def test_bad_values_are_named(self):
        for options, words in (({"optimizer": "rmsprop"}, ("--optimizer", "rmsprop", "sgd, nag, adam, adamw")),
                               ({"optimizer": ""}, ("--optimizer", "empty")),
                               ({"beta1": "1"}, ("--beta1", "not within")),
                               ({"beta2": "-1e-3"}, ("--beta2", "not within")),
                               ({"beta2": "nan"}, ("--beta2", "number")),
                               ({"eps": "0"}, ("--eps", "not within")),
                               ({"eps": "small"}, ("--eps", "not a number"))):
            with self.subTest(**options):
                self.assertEqual(self.convoy(1, *self.options(**options)), 2)
                self.assert_one_error(*words)

    def test_options_of_the_other_optimizer_are_told(self):
        self.left_by(1, "model", optimizer="adam", momentum=0.5, max_steps=1)
        self.assertIn("--momentum has no effect with --optimizer adam", self.err)
        self.left_by(1, "model", beta1=0.5, max_steps=1)
        self.assertIn("--beta1 has no effect with --optimizer sgd", self.err)

    def test_memory_counts_the_second_vector(self):
        taken = {}
        for name in ("sgd", "adam"):
            self.assertEqual(self.convoy(1, *self.options(memory="true", optimizer=name)), 0, self.err)
            lines = dict(line.rsplit(None, 1) for line in self.out.splitlines()[1:-1])
            taken[name] = [float(lines[key]) for key in ("weights and running statistics",
                                                         "momentum" if name == "sgd" else "Adam's two means")]
        self.assertEqual(taken["adam"][0], taken["sgd"][0])
        self.assertAlmostEqual(taken["adam"][1], 2 * taken["sgd"][1], delta=0.11)


if __name__ == "__main__":
    main(Optimizer)
