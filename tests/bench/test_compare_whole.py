#!/usr/bin/env python3
"""compare_accuracy and compare_finetune with stand-ins for both sides that print given figures: what either side is asked for, what
is kept and not done again, and the statistics, bars and exit statuses."""
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
import unittest

from test_compare import HERE, Standing

# Stands for convoy, and for an interpreter with PyTorch: notes its words and some of its environment, makes the files that it is
# asked for, and prints the figures of its next run. A number of workers may be slow by the picture, or begin slowly; "less" is what
# a side forgets, with exit status 0.
FAKE = """#!/usr/bin/env python3
import json, os, sys, time
here, words = os.path.dirname(os.path.abspath(__file__)), sys.argv[1:]
me = os.path.basename(__file__)
def option(name): return words[words.index(name) + 1] if name in words else None
with open(os.path.join(here, "runs"), "a") as runs:
    runs.write(json.dumps({"me": me, "words": words, "isa": os.environ.get("CONVOY_ISA" if me == "convoy" else
               "ONEDNN_MAX_CPU_ISA"), "tuned": "MALLOC_TRIM_THRESHOLD_" in os.environ, "preload": os.environ.get("LD_PRELOAD")}) + "\\n")
with open(os.path.join(here, "figures")) as file:
    figures = json.load(file)
if "about" in words:
    print(json.dumps({"version": me, "onednn": "1.2"}))
elif words[0] == "synth":
    os.makedirs(os.path.join(words[1], "train"))
elif "weights" in words:
    open(option("--left"), "w").close()
    print("{}")
elif me == "convoy":
    os.makedirs(option("--model-dir"), exist_ok=True)
    with open(os.path.join(option("--model-dir"), "model.safetensors"), "w") as file:
        file.write(option("--model"))
    wire = option("--wire-dtype") or ""
    accuracy = figures[wire or me][option("--seed") or "first"]
    less, epochs = figures.get("less", {}), int(option("--epochs"))
    for epoch in range(epochs - less.get("epochs", 0)):
        print(f"Epoch[{epoch}] Train-accuracy=0.250000\\nEpoch[{epoch}] Train-loss={1 / (epoch + 1):.6f}")
    if option("--report"):
        os.makedirs(option("--report"), exist_ok=True)
        with open(os.path.join(option("--report"), "metrics.jsonl"), "w") as file:
            for epoch in range(epochs):
                file.write(json.dumps({"event": "epoch", "images": 1000 - less.get("images", 0)}) + "\\n")
            file.write(json.dumps({"event": "end", "left_out": less.get("left_out", 0)}) + "\\n")
    if "--test" in words:
        print(("" if "test" in less else "Testing Loss: 0.500000\\n") + f"Testing Accuracy: {accuracy:.6f}")
    print("weights sha256=abc" + ("" if "wire" in less else wire))
else:
    workers, count = option("--workers"), int(option("--count") or 0)
    time.sleep(figures.get("slow", {}).get(workers, 0) * count + figures.get("start", {}).get(workers, 0))
    print(json.dumps({"loss": 0.5, "train_loss": 0.4, "seconds": 1, "images": 1000 - figures.get("less", {}).get("theirs", 0),
                      "accuracy": figures[me][option("--seed") or "first"]}))
"""


def load(name):
    """A script as a module."""
    sys.path.insert(0, HERE)
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(HERE, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


class Whole(Standing):
    def setUp(self):
        self.stand(FAKE, "convoy", "peer", "new")

    def runs(self):
        with open(self.path("runs")) as file:
            return [run for run in map(json.loads, file) if "about" not in run["words"]]


class CompareAccuracy(Whole):
    FIGURES = {"convoy": {"1": 0.80, "2": 0.82, "first": 0.7}, "peer": {"1": 0.81, "2": 0.85}}

    def compare(self, *words, figures=None):
        for folder in ("cifar10/train", "cifar10/test", "hymenoptera/train", "hymenoptera/val"):
            os.makedirs(self.path("data", folder), exist_ok=True)
        return self.start(figures or self.FIGURES, "compare_accuracy", "--data", self.path("data"), "--convoy",
                          self.path("convoy"), "--peer", self.path("peer"), "--work", self.path("work"), "--threads=1", *words)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def verdicts(self):
        return [line for line in self.out.splitlines() if line.startswith("row ")]

    def test_means_and_the_error_of_their_difference_are_judged(self):
        self.assertEqual(self.compare("--seeds=1,2"), 1, self.err)  # variances 2 and 8 points, two seeds each: sqrt(1 + 4)
        four, five = self.verdicts()
        said = "Convoy 81.00 %, PyTorch 83.00 %: difference -2.00 points, standard error 2.24; bar at most 2 standard errors below"
        self.assertEqual(four, f"row 4: hymenoptera, ResNet-18 fine-tuned at 64 px: {said}: reached")
        self.assertEqual(five, f"row 5: CIFAR-10, ResNet-20: {said} and at most 1.0 point: NOT reached")
        self.assertIn("| 5 | 2 | Convoy | 82.00 | 0.5000 | 0.1000 | ", self.out)
        self.assertIn("| 5 | 2 | PyTorch | 85.00 | 0.5000 | 0.4000 | 1 | ", self.out)

    def test_a_row_alone_is_reached_or_not(self):
        self.assertEqual(self.compare("--row=4", "--seeds=1,2"), 0, self.err)
        self.assertEqual(self.compare("--row=5", "--seeds=1,2"), 1)
        self.assertEqual(self.compare("--row=5", "--seeds=1"), 1)
        self.assertRegex(self.verdicts()[0], r"difference -1\.00 points, no error from one seed; .*: cannot tell$")

    def test_bf16_is_set_beside_fp32(self):
        figures = {"bf16": {"1": 0.80, "2": 0.82}, "fp32": {"1": 0.81, "2": 0.85}}
        self.assertEqual(self.compare("--row=6", "--seeds=1,2", figures=figures), 0, self.err)
        self.assertEqual(self.verdicts(), ["row 6: CIFAR-10, ResNet-20, two hosts: bf16 81.00 %, fp32 83.00 %: difference -2.00 "
                                           "points, standard error 2.24; bar at most 2 standard errors below: reached"])
        for run, wire in zip(self.runs(), ("bf16", "fp32", "bf16", "fp32")):
            words = " ".join(run["words"])
            self.assertIn(f"--ranks-per-host 2 --wire-dtype {wire}", words)
            self.assertIn("--global-batch 128 --micro-batch 64", words)
            self.assertEqual(run["preload"], self.path("libapart.so"))

    def test_bf16_that_rounds_nothing_fails(self):
        figures = {"bf16": {"1": 0.8}, "fp32": {"1": 0.8}, "less": {"wire": 1}}
        self.assertEqual(self.compare("--row=6", "--seeds=1", figures=figures), 1)
        self.assertRegex(self.err.splitlines()[-1], r"^compare_accuracy: row 6, seed 1: .*: nothing was rounded")

    def test_a_run_without_a_result_fails(self):
        self.assertEqual(self.compare("--row=4", "--seeds=1", figures={**self.FIGURES, "less": {"test": 1}}), 1)
        self.assertRegex(self.err.splitlines()[-1], r"^compare_accuracy: `.*convoy train .*` printed no 'Testing Loss: '$")

    def test_statistics_at_the_bars(self):
        judge = load("compare_accuracy").judge
        self.assertTrue(judge([0.5, 0.5], [0.5, 0.5], None)["reached"])
        self.assertFalse(judge([0.5, 0.5], [0.5001, 0.5001], None)["reached"])
        self.assertTrue(judge([0.9, 0.9], [0.5, 0.5], 1.0)["reached"])
        self.assertIs(judge([0.485], [0.5], 1.0)["reached"], False)  # one seed, and yet too far
        self.assertIs(judge([0.45, 0.53], [0.49, 0.55], 1.0)["reached"], False)  # within two errors, 5 points each
        self.assertIsNone(judge([0.495], [0.5], 1.0)["reached"])
        found = judge([0.1, 0.3], [0.2, 0.2, 0.2], None)
        self.assertAlmostEqual(found["error"], 10)
        self.assertAlmostEqual(found["difference"], 0)

    def test_what_is_finished_is_not_done_again(self):
        figures = {**self.FIGURES, "peer": {"1": 0.81}}  # seed 2 fails
        self.assertEqual(self.compare("--seeds=1,2", "--row=4", figures=figures), 1)
        self.assertRegex(self.err.splitlines()[-1], r"^compare_accuracy: `.*peer .* --seed 2 .*` ended with 1: KeyError")
        self.assertEqual(len(self.runs()), 5)  # the first weights, two seeds a side
        with open(self.path("work/results.jsonl"), "a") as file:
            file.write('{"key": {"row"')  # killed while it wrote
        self.assertEqual(self.compare("--seeds=1,2", "--row=4"), 0, self.err)
        self.assertEqual([(run["me"], run["words"][run["words"].index("--seed") + 1]) for run in self.runs()[5:]], [("peer", "2")])
        self.assertEqual(self.compare("--seeds=1,2", "--row=4"), 0, self.err)
        self.assertEqual(len(self.runs()), 6)
        self.compare("--seeds=1,2", "--row=4", "--epochs=3")  # another recipe
        self.assertEqual(len(self.runs()), 10)
        self.compare("--seeds=1,2", "--row=5", "--shortcut=A")
        self.assertEqual(len(self.runs()), 14)
        self.compare("--seeds=1,2", "--row=5")  # another network
        self.assertEqual([run["me"] for run in self.runs()[14:]], ["convoy", "peer"] * 2)

    def test_both_sides_have_the_same_recipe(self):
        self.compare("--seeds=1", "--isa=avx2")
        first, ours4, theirs4, ours5, theirs5 = (run["words"] for run in self.runs())
        self.assertIn(self.path("data/cifar10/train"), first)
        weights = self.path("work/first-5-avx2/model.safetensors")
        for ours, theirs, pairs in (
                (ours4, theirs4, (("--pretrained", "--weights", weights), ("--lr", "--lr", "0.01"), ("--image-size", "--size", "64"),
                                  ("--weight-decay", "--weight-decay", "0.0001"), ("--micro-batch", "--batch", "32"))),
                (ours5, theirs5, (("--lr", "--lr", "0.1"), ("--weight-decay", "--weight-decay", "0.0005"),
                                  ("--global-batch", "--batch", "128"), ("--epochs", "--epochs", "10")))):
            for our_name, their_name, value in pairs:
                self.assertEqual(ours[ours.index(our_name) + 1], value)
                self.assertEqual(theirs[theirs.index(their_name) + 1], value)
            self.assertEqual("--nesterov" in ours, "--nesterov" in theirs)
            self.assertEqual("--nesterov" in ours, ours is ours5)
        self.assertEqual(theirs5[1:5], ["cifar", self.path("data/cifar10"), "--shortcut", "B"])
        self.assertEqual(ours5[ours5.index("--model") + 1], "resnet20b")
        for run in self.runs():
            self.assertEqual(run["isa"], "avx2" if run["me"] == "convoy" else "AVX2")

    def test_bad_options_are_said(self):
        for words in (["--row=3"], ["--seeds=1,1"], ["--seeds=x"], ["--epochs=0"], ["--convoy=/nonexistent"], ["--data=/nonexistent"]):
            self.assertEqual(self.compare(*words), 2, words)


class CompareFinetune(Whole):
    def compare(self, *words, figures=None):
        self.start(figures or {"convoy": {"first": 0}, "peer": {"first": 0.1}, "new": {"first": 0.1}}, "compare_finetune",
                   "--convoy", self.path("convoy"), "--peer", self.path("peer"), "--work", self.path("work"), "--threads=1",
                   "--rounds=2", "--all", *words)
        return [run for run in self.runs() if "train" in run["words"] or "--count" not in run["words"] and "tune" in run["words"]]

    def test_a_row_has_ours_and_each_of_theirs_in_turn(self):
        runs = self.compare("--row=1,3", "--workers=0", "--isa=avx2", "--json=-", "--peer", self.path("new"))
        one, all_three = ["convoy", "peer", "peer", "new", "new"], ["convoy"] + ["peer", "peer", "new", "new"] * 2
        self.assertEqual([run["me"] for run in runs], one + one[1:] + one[:1] + all_three + all_three[1:] + all_three[:1])
        ours, theirs = runs[0]["words"], runs[1]["words"]
        for our_name, their_name, value in (("--batch-norm", "--batch-norm", "batch"), ("--augment", "--crops", None),
                                            ("--pretrained", "--weights", os.path.join(self.path("work"), "resnet50-133-1000.pth")),
                                            ("--lr", "--lr", "0.001"), ("--global-batch", "--batch", "32")):
            if value:
                self.assertEqual(ours[ours.index(our_name) + 1], value)
                self.assertEqual(theirs[theirs.index(their_name) + 1], value)
        self.assertEqual((ours[ours.index("--augment") + 1], theirs[theirs.index("--crops") + 1]), ("standard", "random"))
        three = [run["words"] for run in runs[10:]]
        self.assertEqual(three[0][three[0].index("--augment") + 1], "none")
        self.assertEqual(["--cache" in words for words in three[1:9]], [True] * 4 + [False] * 4)
        for run in runs:
            self.assertEqual((run["isa"], run["tuned"]), ("avx2", False) if run["me"] == "convoy" else ("AVX2", True))
        lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual([line["event"] for line in lines], ["setting"] + ["run"] * 28 + ["result"] * 3)
        self.assertEqual([(line["row"], line["way"], line["bar"]) for line in lines[-3:]],
                         [(1, "plain", 1.7), (3, "caching", 1.8), (3, "plain", 8)])
        self.assertEqual((lines[1]["loss"], lines[11]["loss"]), (1.0, 0.2))  # of the last epoch
        self.assertGreater(lines[1]["peak_rss_mib"], 1)

    def test_inputs_are_made_once(self):
        for _ in range(2):
            self.compare("--row=2", "--workers=0", "--formats=contiguous")
        words = [run["words"][:2] for run in self.runs()]
        self.assertEqual(sum(one[0] == "synth" for one in words), 1)
        self.assertEqual(sum(one[1] == "weights" for one in words), 1)
        self.assertEqual(sorted(os.listdir(self.path("work"))), ["pictures-133-1000", "resnet50-133-1000.pth"])

    def test_the_fastest_workers_are_kept(self):
        """Those that begin slowly are not slow; each way of a row is tried, for one epoch."""
        figures = {"convoy": {"first": 0}, "peer": {"first": 0}, "slow": {"0": 0.01, "2": 0.01}, "start": {"1": 1.5}}
        runs = self.compare("--row=3", "--formats=channels_last", figures=figures)
        tried = [run["words"] for run in self.runs() if "tune" in run["words"] and "--count" in run["words"]]
        self.assertEqual([[words[words.index(name) + 1] for name in ("--workers", "--count", "--epochs")] for words in tried],
                         [[workers, count, "1"] for workers in "012" for count in ("160", "40")] * 2)
        self.assertEqual(["--cache" in words for words in tried], [True] * 6 + [False] * 6)
        self.assertEqual({run["words"][run["words"].index("--workers") + 1] for run in runs if run["me"] == "peer"}, {"1"})

    def test_a_run_that_fails_is_said(self):
        self.compare("--row=1", "--workers=0", figures={"convoy": {}, "peer": {"first": 0}})
        self.assertRegex(self.err.splitlines()[-1], r"^compare_finetune: `.*convoy train .*` ended with 1: KeyError")

    def test_a_run_that_did_less_than_all_fails(self):
        for less, said in (({"epochs": 1}, r"`.*convoy train .*` printed 'Train-loss=' 4 times, not 5$"),
                           ({"images": 32}, r"Convoy trained on \[968, .*\] pictures and left out \[0\]: not 5 times on all 1000$"),
                           ({"left_out": 1}, r"Convoy trained on \[1000, .*\] pictures and left out \[1\]: not 5 times"),
                           ({"theirs": 8}, r".*peer trained on 992 pictures, not on 1000$")):
            with self.subTest(less):
                self.compare("--row=3", "--workers=0", figures={"convoy": {"first": 0}, "peer": {"first": 0}, "less": less})
                self.assertRegex(self.err.splitlines()[-1], "^compare_finetune: " + said)
                self.assertEqual(self.out, "")

    def test_bad_options_are_said(self):
        for words in (["--row=4"], ["--rounds=0"], ["--workers=-1"], ["--formats=x"], ["--convoy=/nonexistent"], ["--classes=1"]):
            done = self.start({}, "compare_finetune", "--convoy", self.path("convoy"), "--peer", self.path("peer"), "--work",
                              self.path("work"), *words)
            self.assertEqual(done, 2, words)


class JudgeFinetune(unittest.TestCase):
    """The verdicts, on given figures."""

    def setUp(self):
        self.script = load("compare_finetune")

    def side(self, row, seconds, rss, cpu=None, loss=2.0, **more):
        side = self.script.Side(row, **more)
        side.runs = [{"seconds": s, "cpu_s": cpu or s, "peak_rss_mib": rss, "loss": loss, "accuracy": 0.5, "others": 0.0}
                     for s in seconds]
        return side

    def sides(self, *ours, loss=2.1):
        return [self.side(3, ours, 600, loss=loss),
                self.side(3, [18, 20, 90], 1200, python="old", memory_format="contiguous", way="caching"),
                self.side(3, [30], 900, python="new", memory_format="channels_last", way="caching"),
                self.side(3, [79], 1300, python="old", memory_format="contiguous", way="plain"),
                self.side(3, [94], 1300, cpu=92.9, python="new", memory_format="contiguous", way="plain"),
                self.side(3, [94], 1300, python="new", memory_format="channels_last", way="plain")]

    def test_medians_are_judged_against_the_fastest_of_the_way(self):
        versions = {"old": "1.13", "new": "2.15"}
        found = self.script.judge(self.sides(1, 10, 12), "caching")
        self.assertEqual((found["ratio"], found["bar"], found["reached"], found["ratio_memory"]), (2.0, 1.8, True, 600 / 900))
        self.assertEqual(self.script.verdict(found, versions),
                         "row 3: evaluation's crops, 5 epochs: Convoy 10.0 s, PyTorch 1.13, contiguous, caching 20.0 s: 2.00 times "
                         "faster (2.00 by processor time); bar 1.8, goal 2.2: reached; 0.67 of the memory of PyTorch 2.15, "
                         "channels_last, caching; loss 2.100 and 2.000, accuracy 50.0 and 50.0 %")
        found = self.script.judge(self.sides(1, 10, 12), "plain")
        self.assertEqual((found["ratio"], found["reached"]), (7.9, False))
        self.assertIn("bar 8, goal 10: NOT reached", self.script.verdict(found, versions))
        self.assertTrue(self.script.judge(self.sides(9.8), "plain")["reached"])

    def test_a_loss_that_is_not_near_reaches_nothing(self):
        for loss, near in ((1.79, False), (1.81, True), (2.19, True), (2.21, False), (float("nan"), False)):
            found = self.script.judge(self.sides(1, 10, 12, loss=loss), "caching")
            self.assertEqual((found["near"], found["reached"]), (near, near), loss)
            said = self.script.verdict(found, {"old": "1.13", "new": "2.15"})
            self.assertEqual("goal 2.2: NOT reached; " in said and ", TOO FAR, accuracy" in said, not near)

    def test_the_slow_of_a_way_rest(self):
        sides = self.sides(10)
        sides[1].runs = sides[1].runs[:1]
        for way in ("caching", "plain"):
            self.script.rest_the_slow(sides, way)
        self.assertEqual([side.rests for side in sides], [False, False, True, False, False, True])

    def test_folding_doubles_their_sides_where_batch_norm_is_frozen(self):
        o = types.SimpleNamespace(peers=["old"], formats=["contiguous", "channels_last"], fused=True)
        self.assertEqual([len(self.script.sides_of(o, row)) for row in (1, 2, 3)], [3, 5, 9])


if __name__ == "__main__":
    unittest.main(verbosity=2)
