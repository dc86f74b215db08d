#!/usr/bin/env python3
"""The end of a training: tables of an evaluation, stopping early, and which epoch's weights are kept; with any number of
ranks and after kills."""
import csv
import json
import os
import shutil
import signal
import subprocess
import time

from job import CONVOY, Job, main, wait_until


class Ends(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.four = os.path.join(cls.shared, "four")
        subprocess.run([CONVOY, "synth", cls.four, "--classes", "4", "--size", "32", "--count", "120"], check=True)
        shutil.copytree(os.path.join(cls.four, "val"), os.path.join(cls.four, "test"))

    def model(self, name="model"):
        with open(self.path(name, "model.safetensors"), "rb") as file:
            return file.read()

    def trained(self, ranks=1, **more):
        self.assertEqual(self.convoy(ranks, *self.options(**more)), 0, self.err)
        return self.model(more.get("model_dir", "model"))

    # --- tables ---

    def tables(self, split):
        found = []
        for name in ("classes.csv", "confusion.csv"):
            with open(self.path("report", split, name), newline="") as file:
                found.append(list(csv.reader(file)))
        return found

    def test_tables_are_exact_for_any_number_of_ranks(self):
        more = dict(data=self.four, epochs=2, global_batch=24, micro_batch=8, seed=3)
        found = []
        for ranks in (1, 2, 3):
            self.trained(ranks, **more)
            found.append([self.tables(split) for split in ("validation", "test")])
            shutil.move(self.path("report", "metrics.jsonl"), self.path(f"{ranks}.jsonl"))
            if ranks == 1:
                self.assertIn("the classes known least:", self.err)
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])
        with open(self.path("1.jsonl")) as file:
            scores = [event for event in map(json.loads, file) if event["event"] == "eval"]
        last = [score for score in scores if score["what"] == "validating"][-1]
        for (classes, confusion), score in zip(found[0], (last, scores[-1])):
            self.assertEqual([row[1] for row in classes[1:]], sorted(os.listdir(os.path.join(self.four, "train"))))
            self.assertEqual(confusion[0][1:], [row[0] for row in confusion[1:]])
            right = sum(int(row[label + 1]) for label, row in enumerate(confusion[1:]))
            images = sum(int(count) for row in confusion[1:] for count in row[1:])
            self.assertEqual(images, score["images"])
            self.assertEqual(images, sum(int(row[2]) for row in classes[1:]))
            self.assertEqual(right / images, score["accuracy"])
            self.assertEqual(sum(int(row[4]) for row in classes[1:]) / images, score["accuracy5"])

    def test_tables_are_of_the_weights_that_are_kept(self):
        """By this seed the first epoch's are the best of four, on most CPUs."""
        more = dict(data=self.four, epochs=4, global_batch=24, lr=0.05, seed=3)
        for keep in ("last", "best"):
            shutil.rmtree(self.path("report"), ignore_errors=True)
            self.trained(keep_model=keep, **more)
            scores = [score["accuracy"] for score in self.events("eval") if score["what"] == "validating"]
            classes = self.tables("validation")[0][1:]
            accuracy = sum(int(row[3]) for row in classes) / sum(int(row[2]) for row in classes)
            self.assertAlmostEqual(accuracy, max(scores) if keep == "best" else scores[-1], delta=1e-9)
            heading = f"validation, best in epoch {scores.index(max(scores))}" if keep == "best" else "validation"
            self.assertIn(f"] {heading}, the classes known least:", self.err)

    def test_tables_that_cannot_be_written_are_a_warning(self):
        os.mkdir(self.path("report"))
        with open(self.path("report", "test"), "w"):
            pass
        self.trained(data=self.four)
        self.assertIn("warning: ", self.err)
        self.assertIn("report/test", self.err)
        self.assertTrue(os.path.exists(self.path("report", "validation", "classes.csv")))


    # --- early stopping ---

    PATIENCE, MIN_EPOCHS, TOLERANCE = 2, 4, 0.02

    def early(self, **more):
        return dict(dict(data=self.four, epochs=30, global_batch=24, micro_batch=8, lr=0.02, lr_schedule="constant",
                         early_stopping="on", early_stopping_patience=self.PATIENCE,
                         early_stopping_min_epochs=self.MIN_EPOCHS, early_stopping_tolerance=self.TOLERANCE), **more)

    def validations(self):
        """Accuracy by epoch; an epoch that was validated again after a kill has to say the same."""
        found = {}
        for event in self.events("eval"):
            if event["what"] == "validating":
                self.assertEqual(found.setdefault(event["epoch"], event["accuracy"]), event["accuracy"])
        return [found[epoch] for epoch in range(len(found))]

    def end_by_the_rule(self, accuracies):
        best, improved = -1, 0
        for epoch, accuracy in enumerate(accuracies):
            if best < 0 or accuracy > best and accuracy - best >= self.TOLERANCE * best:
                improved = epoch
            best = max(best, accuracy)
            if epoch + 1 >= self.MIN_EPOCHS and epoch - improved >= self.PATIENCE:
                return epoch
        return None

    def test_early_stopping_ends_by_its_rule_for_any_number_of_ranks(self):
        found = set()
        for ranks in (1, 3):
            found.add(self.trained(ranks, **self.early()))
            accuracies = self.validations()
            self.assertEqual(self.end_by_the_rule(accuracies), len(accuracies) - 1, accuracies)
            self.assertIn(f"ends early, after epoch {len(accuracies) - 1}: ", self.err)
            self.assertEqual([(e["how"], e["why"]) for e in self.events("end")], [("finished", "early stopping")])
            shutil.rmtree(self.path("report"))
        self.assertEqual(len(found), 1)

    def test_early_stopping_ends_at_the_same_epoch_after_kills(self):
        whole = self.trained(**self.early())
        epochs = len(self.validations())
        shutil.rmtree(self.path("report"))
        more = self.early(checkpoint="checkpoint", checkpoint_every=2)
        for kill in (1, 2, 3):
            process = self.start(*self.foreign(kill, *self.options(**more)))
            wait_until(lambda: len(self.events("eval")) >= kill + (kill > 1))
            process.kill()
            process.wait()
            time.sleep(1)  # its ranks notice
        self.assertEqual(self.trained(2, **more), whole)
        self.assertEqual(len(self.validations()), epochs)
        # It has ended: asked again, it says so again.
        self.assertEqual(self.trained(1, **more), whole)
        self.assertIn(f"ends early, after epoch {epochs - 1}: ", self.err)

    def test_early_stopping_needs_validation_pictures(self):
        self.assertEqual(self.convoy(2, *self.options(data=None, train=self.train, early_stopping="on")), 2)
        self.assert_one_error("--early-stopping", "--val")

    # --- the best model ---

    def best(self, **more):
        return dict(dict(data=self.four, epochs=6, global_batch=24, micro_batch=8, lr=0.03, lr_schedule="constant",
                         keep_model="best"), **more)

    def best_epoch(self):
        accuracies = self.validations()
        return accuracies.index(max(accuracies))

    def test_best_model_is_that_of_the_best_epoch(self):
        """A constant rate: a run of as many epochs as it took has the same weights; all is the same for 1 to 3 ranks."""
        found = {self.trained(ranks, **self.best()) for ranks in (1, 2, 3)}
        self.assertEqual(len(found), 1)
        epoch, test = self.best_epoch(), self.events("eval")[-1]
        self.assertLess(epoch, 5, "choose another seed: the best must not be the last")
        self.assertIn(f"the model is that of epoch {epoch}, ", self.err)
        shutil.rmtree(self.path("report"))
        self.assertEqual(self.trained(**self.best(keep_model="last", epochs=epoch + 1)), found.pop())
        for key in ("loss", "accuracy", "accuracy5"):  # what is tested is what is written
            self.assertEqual(self.events("eval")[-1][key], test[key])

    def test_best_model_survives_kills(self):
        whole = self.trained(**self.best(optimizer="adam", lr=0.003))
        epoch = self.best_epoch()
        shutil.rmtree(self.path("report"))
        more = self.best(optimizer="adam", lr=0.003, checkpoint="checkpoint", checkpoint_every=3, keep=100)
        for kill, ranks in ((max(epoch, 1), 2), (epoch + 2, 3)):  # before the best, and after it
            process = self.start(*self.foreign(ranks, *self.options(**more)))
            wait_until(lambda: len(self.events("eval")) >= kill)
            process.kill()
            process.wait()
            time.sleep(1)  # its ranks notice
        self.assertEqual(self.trained(1, **more), whole)
        self.assertEqual(self.best_epoch(), epoch)
        for step in self.checkpoints():  # there from the first validation on
            name = next(n for n in os.listdir(self.path("checkpoint")) if n.startswith(f"step-{step:012d}-"))
            with open(self.path("checkpoint", name), "rb") as file:
                header = file.read(int.from_bytes(file.read(8), "little"))
            steps_of_epoch = self.events("epoch")[0]["step"]
            self.assertEqual(b'"best.conv1.weight"' in header, step > steps_of_epoch, name)
            self.assertEqual(b'"best.bn1.running_mean"' in header, step > steps_of_epoch, name)

    def test_stopped_run_leaves_its_best_model_and_goes_on(self):
        whole = self.trained(**self.best(model_dir="whole"))
        shutil.rmtree(self.path("report"))
        more = self.best(checkpoint="checkpoint")
        self.env["CONVOY_MODEL_ON_STOP"] = "1"
        process = self.start(CONVOY, "train", "--ranks-per-host=2", *self.options(**more))
        wait_until(lambda: len(self.events("eval")) >= 3)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.wait(process), 75, self.err)
        epoch, left = self.best_epoch(), self.model()
        self.env.pop("CONVOY_MODEL_ON_STOP")
        self.assertEqual(self.trained(2, **more), whole)
        self.assertEqual(self.trained(**self.best(keep_model="last", epochs=epoch + 1, model_dir="other")), left)

    def test_run_that_is_stopped_while_it_tests_goes_on(self):
        slow = self.path("slow")
        for name in os.listdir(os.path.join(self.four, "test")):
            os.makedirs(os.path.join(slow, name))
            for picture in os.listdir(os.path.join(self.four, "test", name)):
                for copy in range(300):
                    os.link(os.path.join(self.four, "test", name, picture), os.path.join(slow, name, f"{copy}-{picture}"))
        more = self.best(data=None, train=os.path.join(self.four, "train"), val=os.path.join(self.four, "val"))
        whole = self.trained(**more)
        shutil.rmtree(self.path("report"))
        more.update(test=slow, checkpoint="checkpoint")
        process = self.start(CONVOY, "train", "--ranks-per-host=2", *self.options(**more))
        wait_until(lambda: len(self.events("eval")) == 6)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertEqual(self.trained(2, **more), whole)
        self.assertIn("Testing Accuracy", self.out)

    def test_keep_model_is_fixed_and_needs_validation_pictures(self):
        more = dict(data=None, train=self.train, checkpoint="checkpoint")
        self.trained(keep_model="best", **more)
        self.assertIn("warning: --keep-model best: there are no validation pictures", self.err)
        self.assertEqual(self.convoy(1, *self.options(keep_model="last", epochs=2, **more)), 2)
        self.assert_one_error("--keep-model is last, but the checkpoint", "was made with best")

    def test_bad_values_are_named(self):
        for options, words in (({"early_stopping": "perhaps"}, ("--early-stopping", "perhaps")),
                               ({"early_stopping_patience": "0"}, ("--early-stopping-patience", "not within")),
                               ({"early_stopping_patience": "1.5"}, ("--early-stopping-patience", "1.5")),
                               ({"early_stopping_min_epochs": "-1"}, ("--early-stopping-min-epochs", "not within")),
                               ({"early_stopping_tolerance": "-0.1"}, ("--early-stopping-tolerance", "not within")),
                               ({"early_stopping_tolerance": "inf"}, ("--early-stopping-tolerance", "number")),
                               ({"keep_model": "first"}, ("--keep-model", "last|best"))):
            with self.subTest(**options):
                self.assertEqual(self.convoy(1, *self.options(**options)), 2)
                self.assert_one_error(*words)

    def test_memory_counts_the_best(self):
        taken = []
        for keep in ("last", "best"):
            self.assertEqual(self.convoy(1, *self.options(memory="true", keep_model=keep)), 0, self.err)
            taken.append({key: float(value) for key, value in (line.rsplit(None, 1) for line in self.out.splitlines()[1:-1])})
        weights = taken[0]["weights and running statistics"]
        self.assertAlmostEqual(taken[1]["together"] - taken[0]["together"], 2 * weights, delta=0.21)


if __name__ == "__main__":
    main(Ends)
