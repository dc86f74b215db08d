#!/usr/bin/env python3
"""The end of a training: tables of an evaluation, stopping early, and which epoch's weights are kept; with any number of
ranks and after kills."""
import csv
import json
import os
import shutil
import subprocess

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
        best = max((s for s in scores if s["what"] == "validating"), key=lambda s: s["accuracy"])
        for (classes, confusion), score in zip(found[0], (best, scores[-1])):
            self.assertEqual([row[1] for row in classes[1:]], sorted(os.listdir(os.path.join(self.four, "train"))))
            self.assertEqual(confusion[0][1:], [row[0] for row in confusion[1:]])
            right = sum(int(row[label + 1]) for label, row in enumerate(confusion[1:]))
            images = sum(int(count) for row in confusion[1:] for count in row[1:])
            self.assertEqual(images, score["images"])
            self.assertEqual(images, sum(int(row[2]) for row in classes[1:]))
            self.assertEqual(right / images, score["accuracy"])
            self.assertEqual(sum(int(row[4]) for row in classes[1:]) / images, score["accuracy5"])

    def test_tables_that_cannot_be_written_are_a_warning(self):
        os.mkdir(self.path("report"))
        with open(self.path("report", "test"), "w"):
            pass
        self.trained(data=self.four)
        self.assertIn("warning: ", self.err)
        self.assertIn("report/test", self.err)
        self.assertTrue(os.path.exists(self.path("report", "validation", "classes.csv")))


if __name__ == "__main__":
    main(Ends)
