#!/usr/bin/env python3
"""compare_torch, compare_ddp, compare_input and compare_loss with stand-ins for both sides, and for the lab, that print given figures: turns,
environment, medians, bars, rest of the slow; the rule for losses, its control, and what each one's exit status says."""
import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT_S = 60
# Stands for convoy, and for an interpreter with PyTorch: notes its words and some of its environment, and prints the figures
# that are set for it.
FAKE = """#!/usr/bin/env python3
import json, os, sys
here, words = os.path.dirname(os.path.abspath(__file__)), sys.argv[1:]
me = os.path.basename(__file__)
side = me if me == "convoy" else me + ":" + (words[words.index("--format") + 1] if "--format" in words else "about")
env = {key: os.environ.get(key) for key in ("CONVOY_ISA", "CONVOY_CONV", "CONVOY_BIN", "ONEDNN_MAX_CPU_ISA",
                                            "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE", "OMP_NUM_THREADS",
                                            "MALLOC_TRIM_THRESHOLD_", "GLOO_SOCKET_IFNAME", "CONVOY_ONE_MACHINE")}
with open(os.path.join(here, "runs"), "a") as runs:
    runs.write(json.dumps({"side": side, "words": words, "cpus": len(os.sched_getaffinity(0)), **env}) + "\\n")
if side.endswith(":about"):
    print("onednn_verbose,info,cpu,isa:Fake ISA\\nonednn_verbose,exec,cpu,convolution,jit:fake,forward")
    print(json.dumps({"version": me, "onednn": "1.2", "import_rss_mib": 7}))
    sys.exit()
with open(os.path.join(here, "figures")) as file:
    figures = json.load(file)[side]
with open(os.path.join(here, "runs")) as file:
    number = sum(json.loads(line)["side"] == side for line in file)
rate, rss = figures[min(number, len(figures)) - 1]
print(json.dumps({"images_per_s": rate, "images_per_cpu_s": rate, "peak_rss_mib": rss, "numerics": "ours", "kernels": "k"}))
"""


# Stands for `losses`, and for an interpreter with PyTorch, which leaves the seed in the file of weights: prints the losses that
# are set for the seed and the side.
FAKE_LOSSES = """#!/usr/bin/env python3
import json, os, sys
here, words = os.path.dirname(os.path.abspath(__file__)), sys.argv[1:]
def option(name): return words[words.index(name) + 1]
def found(side, weights):
    with open(os.path.join(here, "figures")) as file, open(weights) as seed:
        return json.load(file)[seed.read()][side]
if os.path.basename(__file__) == "losses":
    print("\\n".join(map(str, found("ours", words[1]))))
elif words[0] != "-c":
    with open(os.path.join(here, "runs"), "a") as runs:
        runs.write(json.dumps(words[1:]) + "\\n")
    if words[1] == "init":
        with open(words[2], "w") as weights:
            weights.write(option("--seed"))
    side = "control" if "--momentum" in words else option("--format") if "--format" in words else None
    print(json.dumps({"losses": found(side, words[2])} if side else {"version": "1", "onednn": "1.2"}))
"""


# Stands for convoy, and for an interpreter with torchvision: notes its words, draws no pictures, and prints the figures of its next
# run: images/s by the clock and of processor time.
FAKE_INPUT = """#!/usr/bin/env python3
import json, os, sys
here, words = os.path.dirname(os.path.abspath(__file__)), sys.argv[1:]
me = os.path.basename(__file__)
with open(os.path.join(here, "runs"), "a") as runs:
    runs.write(json.dumps({"me": me, "words": words, "cpus": len(os.sched_getaffinity(0))}) + "\\n")
if "about" in words:
    print(json.dumps({"version": me, "torchvision": "0.1", "pillow": "9", "image_backend": "PIL"}))
elif words[0] == "synth":
    os.makedirs(os.path.join(words[1], "train"))
else:
    with open(os.path.join(here, "figures")) as file:
        figures = json.load(file)
    with open(os.path.join(here, "runs")) as file:
        number = sum(run["me"] == me and "about" not in run["words"] and run["words"][0] != "synth" for run in map(json.loads, file))
    per_s, per_cpu_s = figures[me][min(number, len(figures[me])) - 1]
    print(json.dumps({"images": figures.get("images", {}).get(me, 1000), "images_per_s": per_s, "images_per_cpu_s": per_cpu_s,
                      "left_out": figures.get("left_out", 0) if me == "convoy" else 0}))
"""


class Standing(unittest.TestCase):
    def stand(self, text, *names):
        self.folder = tempfile.mkdtemp(prefix="convoy-compare-")
        self.addCleanup(shutil.rmtree, self.folder)
        for name in names:
            with open(self.path(name), "w") as file:
                file.write(text)
            os.chmod(self.path(name), 0o755)

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, figures, *words, **inherited):
        with open(self.path("figures"), "w") as file:
            json.dump(figures, file)
        done = subprocess.run([os.path.join(HERE, words[0]), *words[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=WAIT_S, env={**os.environ, **inherited})
        self.out, self.err = done.stdout, done.stderr
        return done.returncode


class CompareTorch(Standing):
    def setUp(self):
        self.stand(FAKE, "convoy", "old", "new")

    def compare(self, figures, *words, **inherited):
        return self.start(figures, "compare_torch", "--convoy", self.path("convoy"), "--peer", self.path("old"), "--peer",
                          self.path("new"), "--models", "resnet50:32", *words, **inherited)

    def runs(self):
        with open(self.path("runs")) as file:
            return [run for run in map(json.loads, file) if not run["side"].endswith(":about")]

    FIGURES = {"convoy": [(40, 60), (4, 62), (5, 61)], "old:contiguous": [(2, 200), (2, 200), (3, 200)],
               "old:channels_last": [(1, 100)], "new:contiguous": [(1, 300)],
               "new:channels_last": [(2, 400), (2.5, 400), (9, 400)]}

    def test_sides_take_turns_and_the_slow_rest_after_the_first_round(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=3"), 0, self.err)
        first = ["convoy", "old:contiguous", "old:channels_last", "new:contiguous", "new:channels_last"]
        self.assertEqual([run["side"] for run in self.runs()],
                         first + ["old:contiguous", "new:channels_last", "convoy"]
                         + ["new:channels_last", "convoy", "old:contiguous"])
        os.remove(self.path("runs"))
        self.assertEqual(self.compare(self.FIGURES, "--rounds=2", "--all"), 0, self.err)
        self.assertEqual([run["side"] for run in self.runs()], first + first[1:] + first[:1])

    def test_medians_are_judged_against_the_fastest_and_the_smallest(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=3"), 0, self.err)
        self.assertIn("resnet50, batch 32, 1 thread(s): 2.00 times the images/s of PyTorch new, channels_last (2.00 by "
                      "processor time); 0.61 of the memory of PyTorch old, channels_last; bar 1.65 and 0.75: reached",
                      self.out)
        self.assertIn("oneDNN 1.2 says Fake ISA; convolutions by jit:fake; 7 MiB after import", self.out)
        for convoy in ([(4.1, 61)], [(5, 76)]):  # one too slow, one too large
            self.assertEqual(self.compare({**self.FIGURES, "convoy": convoy}, "--rounds=3"), 1, self.err)
            self.assertIn("bar 1.65 and 0.75: NOT reached", self.out)
            os.remove(self.path("runs"))

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "needs two processors")
    def test_two_threads_are_judged_against_one(self):
        names = ("old:contiguous", "old:channels_last", "new:contiguous", "new:channels_last")
        for two, said, status in ((7.4, "reached", 0), (7.3, "NOT reached", 1)):  # the rounds of one thread, then of two
            figures = {"convoy": [(4, 60), (two, 60)], **{name: [(2, 100)] for name in names}}
            self.assertEqual(self.compare(figures, "--rounds=1", "--threads=1,2"), status, self.err)
            self.assertEqual([(run["OMP_NUM_THREADS"], run["cpus"]) for run in self.runs() if run["side"] == "convoy"],
                             [("1", 1), ("2", 2)])
            self.assertIn(f"resnet50, batch 32: 2 threads give {two / 4:.2f} times the images/s of 1; bar 1.85: {said}\n",
                          self.out)
            os.remove(self.path("runs"))

    def test_each_side_gets_its_environment(self):
        inherited = {"CONVOY_ISA": "scalar", "CONVOY_CONV": "direct", "CONVOY_BIN": self.folder, "OPENBLAS_CORETYPE": "Zen"}
        self.assertEqual(self.compare(self.FIGURES, "--rounds=1", "--isa=avx2", **inherited), 0, self.err)
        for run in self.runs():
            ours = run["side"] == "convoy"
            self.assertEqual(run["CONVOY_ISA"], "avx2" if ours else None)
            self.assertEqual((run["CONVOY_CONV"], run["CONVOY_BIN"]), (None, self.folder))
            self.assertEqual(run["ONEDNN_MAX_CPU_ISA"], None if ours else "AVX2")
            self.assertEqual(run["ATEN_CPU_CAPABILITY"], None if ours else "avx2")
            self.assertEqual(run["OPENBLAS_CORETYPE"], "Haswell")
            self.assertEqual(run["MALLOC_TRIM_THRESHOLD_"] is None, ours)
            self.assertEqual((run["OMP_NUM_THREADS"], run["cpus"]), ("1", 1))

    def test_json_has_the_runs_and_the_result(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=3", "--json=-"), 0, self.err)
        lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual([line["event"] for line in lines], ["setting"] + ["run"] * 11 + ["result"])
        self.assertEqual((lines[-1]["ratio"], lines[-1]["peer_images_per_s"], lines[-1]["reached"]), (2.0, 2.5, True))

    def test_bad_options_and_a_side_that_fails_are_said(self):
        for words in (["--rounds=0"], ["--threads=0"], ["--models=resnet50"], ["--formats=x"], ["--convoy=/nonexistent"]):
            self.assertEqual(self.compare(self.FIGURES, *words), 2, words)
        self.assertEqual(self.compare({"convoy": []}, "--rounds=1"), 1)
        self.assertRegex(self.err.splitlines()[-1], r"^compare_torch: `.*convoy bench model .*` ended with 1: IndexError")


# Stands for tests/lab/hosts: each of its hosts is this one. What is in the file NAME-HOST is done there instead.
FAKE_LAB = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/lab"
[ "$1" != up ] || [ ! -e "$here/no-lab" ] || { echo "no cgroups here"; exit 1; }
[ "$1" = exec ] || exit 0
instead=$here/$(basename "$3")-$2
[ ! -e "$instead" ] || exec sh "$instead"
shift 2
exec "$@"
"""


class CompareDdp(Standing):
    FIGURES = {"convoy": [(35.0, 0)], "old:contiguous": [(11.0, 0)], "old:channels_last": [(16.0, 0)],
               "new:contiguous": [(17.5, 0)], "new:channels_last": [(12.0, 0)]}

    def setUp(self):
        self.stand(FAKE, "convoy", "old", "new")
        with open(self.path("hosts"), "w") as file:
            file.write(FAKE_LAB)
        os.chmod(self.path("hosts"), 0o755)

    def compare(self, figures, *words, **inherited):
        return self.start(figures, "compare_ddp", "--convoy", self.path("convoy"), "--lab", self.path("hosts"), "--peer",
                          self.path("old"), "--peer", self.path("new"), *words, **inherited)

    def lab(self):
        with open(self.path("lab")) as file:
            return [line.split() for line in file]

    def test_sides_take_turns_on_the_hosts_of_a_lab_that_goes_away(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=2", "--hosts=3", "--share=/tmp/x", "--isa=avx2"), 0, self.err)
        lab = self.lab()
        self.assertEqual(lab[0], "up 3 --rate 1gbit --share /tmp/x".split())
        self.assertEqual(lab[-1], ["down"])
        ours = [words for words in lab[1:-1] if words[2] == self.path("convoy")]
        self.assertEqual(ours, [["exec", "algo-1", self.path("convoy"), *"train --hosts algo-1,algo-2,algo-3 --model resnet18 "
                                 "--threads 1 --global-batch 96 --micro-batch 32 --bench-steps 5".split()]] * 2)
        for python, memory_format, rounds in (("old", "contiguous", 1), ("old", "channels_last", 2), ("new", "contiguous", 2),
                                              ("new", "channels_last", 1)):
            peers = [words for words in lab[1:-1] if words[2] == self.path(python) and words[-1] == memory_format]
            self.assertEqual(sorted((words[1], words[words.index("--rank") + 1]) for words in peers),
                             sorted([("algo-1", "0"), ("algo-2", "1"), ("algo-3", "2")] * rounds))
            for words in peers:
                self.assertRegex(words[words.index("--address") + 1], r"^10\.1\d\d\.0\.1$")
        with open(self.path("runs")) as file:
            runs = [run for run in map(json.loads, file) if not run["side"].endswith(":about")]
        for run in runs:
            ours = run["side"] == "convoy"
            self.assertEqual((run["CONVOY_ISA"], run["CONVOY_ONE_MACHINE"]), ("avx2", "1") if ours else (None, None))
            self.assertEqual((run["GLOO_SOCKET_IFNAME"], run["ATEN_CPU_CAPABILITY"]),
                             (None, None) if ours else ("eth0", "avx2"))
            self.assertEqual((run["OMP_NUM_THREADS"], run["MALLOC_TRIM_THRESHOLD_"] is None), ("1", ours))

    def test_the_bar_is_against_the_fastest_and_only_where_there_is_one(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=1"), 0, self.err)
        self.assertIn("\n2.00 times the images/s of PyTorch new, contiguous; bar 2: reached\n", self.out)
        self.assertIn("| PyTorch old, channels_last | 16 | 16-16 | 1 |\n", self.out)
        slower = {**self.FIGURES, "convoy": [(34.9, 0)]}
        self.assertEqual(self.compare(slower, "--rounds=1"), 1, self.err)
        self.assertIn("1.99 times the images/s of PyTorch new, contiguous; bar 2: NOT reached\n", self.out)
        self.assertEqual(self.compare(slower, "--rounds=1", "--rate=200mbit"), 0, self.err)
        self.assertIn("1.99 times the images/s of PyTorch new, contiguous\n", self.out)

    def test_json_has_the_runs_and_the_result(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=2", "--all", "--json=-"), 0, self.err)
        lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual([line["event"] for line in lines], ["setting"] + ["run"] * 10 + ["result"])
        self.assertEqual((lines[-1]["ratio"], lines[-1]["peer_images_per_s"], lines[-1]["reached"]), (2.0, 17.5, True))

    def test_bad_options_are_said_before_there_is_a_lab(self):
        for words in (["--rounds=0"], ["--hosts=1"], ["--formats=x"], ["--convoy=/nonexistent"], ["--lab=/nonexistent"],
                      ["--peer=/nonexistent"], ["--json=/nonexistent/x"]):
            self.assertEqual(self.compare(self.FIGURES, *words), 2, words)
        self.assertFalse(os.path.exists(self.path("lab")))

    def test_whichever_host_fails_ends_all_and_is_named_and_the_lab_goes_away(self):
        for host, instead, said in ((1, "echo no torch >&2; exit 7", "on host 1 ended with 7: no torch"),
                                    (2, "echo no torch >&2; exit 7", "on host 2 ended with 7: no torch"),
                                    (2, "kill -9 $$", "on host 2 ended with -9: "), (1, "exit 0", "gave no figures: "),
                                    (1, "exec sleep 60", "has not ended within 2 s")):
            with open(self.path(f"new-algo-{host}"), "w") as file:
                file.write(instead)
            if host == 2:  # that waits for it, as PyTorch does
                with open(self.path("new-algo-1"), "w") as file:
                    file.write("exec sleep 60")
            begun = time.monotonic()
            self.assertEqual(self.compare(self.FIGURES, "--timeout=2" if "within" in said else "--timeout=50"), 3, self.err)
            self.assertLess(time.monotonic() - begun, 40)
            self.assertRegex(self.err.splitlines()[-1], "^compare_ddp: `.*new ")
            self.assertIn(said, self.err.splitlines()[-1])
            self.assertEqual(self.lab()[-1], ["down"])
            os.remove(self.path("new-algo-1"))
            if host == 2:
                os.remove(self.path("new-algo-2"))

    def test_a_lab_that_does_not_come_up_is_said_and_taken_down(self):
        with open(self.path("no-lab"), "w"):
            pass
        self.assertEqual(self.compare(self.FIGURES), 3)
        self.assertEqual(self.err.splitlines()[-1], "compare_ddp: `hosts up 2 --rate 1gbit` ended with 1: no cgroups here")
        self.assertEqual(self.lab()[-1], ["down"])


class CompareInput(Standing):
    FIGURES = {"convoy": [(90, 100), (300, 330), (1000, 1100)], "old": [(100, 80)], "new": [(60, 70), (70, 110), (80, 120)]}

    def setUp(self):
        self.stand(FAKE_INPUT, "convoy", "old", "new")

    def compare(self, figures, *words):
        return self.start(figures, "compare_input", "--convoy", self.path("convoy"), "--peer", self.path("old"), "--peer",
                          self.path("new"), "--work", self.path("work"), *words)

    def runs(self):
        with open(self.path("runs")) as file:
            return [run for run in map(json.loads, file) if "about" not in run["words"]]

    def test_sides_take_turns_on_one_processor_over_the_same_pictures(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=3"), 0, self.err)
        drawn, *runs = self.runs()
        self.assertEqual(drawn["words"][2:], ["--photos", "--count", "1000"])
        self.assertEqual([run["me"] for run in runs],
                         ["convoy", "old", "new", "old", "new", "convoy", "new", "convoy", "old"])
        folder = self.path("work/photos-1000/train")
        for run in runs:
            self.assertEqual(run["cpus"], 1)
            self.assertIn(folder, run["words"])
        self.assertEqual(runs[0]["words"][:2] + runs[0]["words"][4:],
                         ["bench", "input", "--image-size", "224", "--threads", "1", "--json", "--batch", "32", "--repeats", "2"])
        os.remove(self.path("runs"))
        self.assertEqual(self.compare(self.FIGURES, "--rounds=1"), 1, self.err)
        self.assertNotIn("synth", [run["words"][0] for run in self.runs()])  # they are there

    def test_medians_are_judged_by_the_clock_and_by_processor_time(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=3"), 0, self.err)
        self.assertIn("by the clock: 3.00 times torchvision 0.1, PyTorch old, Pillow 9; bar 3, goal 4: reached", self.out)
        self.assertIn("by processor time: 3.00 times torchvision 0.1, PyTorch new", self.out)
        for convoy, said in (((299, 500), ("NOT reached", "reached")), ((500, 329), ("reached", "NOT reached"))):
            os.remove(self.path("runs"))
            self.assertEqual(self.compare({**self.FIGURES, "convoy": [convoy]}, "--rounds=3"), 1, self.err)
            self.assertEqual(tuple(line.rsplit(": ", 1)[1] for line in self.out.splitlines()[-2:]), said)

    def test_json_has_the_runs_and_the_results(self):
        self.assertEqual(self.compare(self.FIGURES, "--rounds=3", "--json=-"), 0, self.err)
        lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual([line["event"] for line in lines], ["setting"] + ["run"] * 9 + ["result"] * 2)
        self.assertEqual((lines[-2]["ratio"], lines[-2]["reached"]), (3.0, True))

    def test_other_pictures_left_out_ones_and_bad_options_are_said(self):
        self.assertEqual(self.compare({**self.FIGURES, "images": {"old": 999}}, "--rounds=1"), 1)
        self.assertIn("compare_input: the sides had 999 and 1000 pictures", self.err)
        self.assertEqual(self.compare({**self.FIGURES, "left_out": 2}, "--rounds=1"), 1)
        self.assertIn("compare_input: Convoy left 2 pictures out", self.err)
        self.assertEqual(self.compare({**self.FIGURES, "old": [(0, 1)]}, "--rounds=1"), 1)
        self.assertIn("gave no figures", self.err)
        for words in (["--rounds=0"], ["--repeats=0"], ["--size=4"], ["--pictures=/nonexistent"], ["--convoy=/nonexistent"]):
            self.assertEqual(self.compare(self.FIGURES, *words), 2, words)


class CompareLoss(Standing):
    # PyTorch's formats differ by 0.01 at every step; ours by 0.03 from the farther, the control by 0.04.
    RIGHT = {"contiguous": [2.0, 1.0], "channels_last": [2.01, 1.01], "ours": [2.029, 1.029], "control": [2.04, 1.04]}

    def setUp(self):
        self.stand(FAKE_LOSSES, "losses", "peer")

    def compare(self, seeds, *words):
        figures = {str(i + 1): {**self.RIGHT, **found} for i, found in enumerate(seeds)}
        return self.start(figures, "compare_loss", "--peer", self.path("peer"), "--steps=2", "--seeds",
                          ",".join(figures), *words, CONVOY_BIN=self.folder)

    def verdict(self):
        return self.out.splitlines()[-1]

    def test_losses_within_three_times_the_formats_difference_are_right(self):
        self.assertEqual(self.compare([{}]), 0, self.err)
        self.assertEqual(self.verdict(), "our mean is 2.90 times PyTorch's own (allowed 3); the control's 4.00 times: right")
        self.assertIn("| 1 | Convoy | 2.90e-02 | 2.90e-02 | 2.90e-02 | 2.90 |\n", self.out)
        with open(self.path("runs")) as file:
            runs = list(map(json.loads, file))
        self.assertEqual([words[0] for words in runs], ["about", "init", "losses", "losses", "losses"])
        self.assertEqual(runs[1][-2:], ["--weights", "calm"])
        self.assertEqual(runs[4], runs[2] + ["--momentum", "0.89"])  # the mistake and nothing else

    def test_the_farther_format_counts(self):
        self.assertEqual(self.compare([{"ours": [2.031, 1.031]}]), 1)  # 3.1 and 2.1
        self.assertRegex(self.verdict(), r"our mean is 3\.10 times .*: WRONG$")
        self.assertEqual(self.compare([{"ours": [1.979, 0.979]}]), 1)  # 2.1 and 3.1
        self.assertRegex(self.verdict(), r"our mean is 3\.10 times .*: WRONG$")

    def test_a_control_that_is_not_found_leaves_the_verdict_open(self):
        near = {"control": [2.029, 1.029]}
        self.assertEqual(self.compare([near]), 1)
        self.assertRegex(self.verdict(), r"the control's 2\.90 times: cannot tell, ")
        self.assertEqual(self.compare([{**near, "ours": [3, 2]}]), 1)
        self.assertTrue(self.verdict().endswith(": WRONG"), self.verdict())
        self.assertEqual(self.compare([near], "--no-control"), 0, self.err)
        self.assertTrue(self.verdict().endswith(": right, if a mistake would be found: there was no control"), self.verdict())

    def test_all_seeds_are_judged_together_and_shown_each(self):
        self.assertEqual(self.compare([{"ours": [2.04, 1.04]}, {"ours": [2.01, 1.01]}]), 0, self.err)
        for row in ("| 1 | Convoy | 4.00e-02 ", "| 2 | Convoy | 1.00e-02 ", "| all | Convoy | 2.50e-02 "):
            self.assertIn("\n" + row, self.out)
        self.assertIn("our mean is 2.50 times", self.verdict())

    def test_losses_that_lack_or_are_not_finite_fail(self):
        for values, reason in (([2.0], "1 losses, not 2"), ([2.0, float("nan")], "a loss is not finite")):
            self.assertEqual(self.compare([{"ours": values}]), 1)
            self.assertEqual(self.err.splitlines()[-1], f"compare_loss: Convoy: {reason}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
