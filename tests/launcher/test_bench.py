#!/usr/bin/env python3
"""`convoy bench` with a stand-in for convoy-train that prints given figures: order, arithmetic, table, failures; then the
real one on one and two ranks, whose figures need only be there."""
import json
import os
import re
import signal
import subprocess
import time
import unittest
import xml.etree.ElementTree

from bench_case import WAIT_S, BenchCase, alive

TABLE = """\
resnet20, 32 x 32 pixels, 1 thread a rank; 10 steps a run, 3 rounds
HOST
KERNEL

weak: 32 images of a step on each rank, micro-batches of 32
                               efficiency, %            waiting, % for    imbal-
hosts ranks images/s   min-max  of 1     min-max beside ranks  sums input ance,%
    1     1    100.0 90.0-1000 100.0 100.0-100.0  100.0   0.0   0.0   0.0    0.0
    1     2    180.0   162-190  90.0    9.5-90.0   75.0   0.0  10.0   0.0    0.0

strong: 96 images of a step on all ranks together, micro-batches of 32
                               efficiency, %            waiting, % for    imbal-
hosts ranks images/s   min-max  of 1     min-max beside ranks  sums input ance,%
    1     1     8.00 8.00-8.00 100.0 100.0-100.0  100.0   0.0   0.0   0.0    0.0
    1     2     10.0 9.00-12.0  62.5   56.2-75.0   50.0   8.0  25.0   5.0    2.0

Medians. Efficiency of 1: the rate for each rank, against that of 1 rank in the
same round; beside: against the same ranks side by side without exchange.
Waiting, share of a step: for other ranks' answers, for sums, for pictures.
Imbalance: how much longer than the mean the slowest rank computes.
strong, 2 ranks: 3 micro-batches allow at most 75.0 %.
"""


def figures(ranks, images_per_s, exchange_s=0.0, **more):
    return json.dumps({"event": "bench", "model": "resnet20", "image_size": 32, "ranks": ranks, "threads": 1,
                       "seconds": 2.0, "images_per_s": images_per_s, "ranks_s": 0.0, "exchange_s": exchange_s,
                       "input_s": 0.0, "imbalance": 0.0, **more})


class Bench(BenchCase):
    # words

    def test_help_lists_what_there_is(self):
        for words in (["--help"], ["-h"]):
            self.assertEqual(self.run_bench(*words), 0)
            self.assertRegex(self.out, r"(?m)^  scaling ")
        self.assertEqual(self.run_bench("scaling", "--help"), 0)
        for option in ("--hosts", "--ranks", "--mode", "--repeats", "--json", "--svg", "--data"):
            self.assertIn(f"  {option} ", self.out)
        self.assertLess(max(map(len, self.out.splitlines())), 101)

    def test_no_name_and_an_unknown_one_are_one_line_that_names_what_there_is(self):
        for words in ([], ["frob"], ["--frob"]):
            self.assertEqual(self.run_bench(*words), 2)
            self.assertEqual(len(self.messages()), 1)
            self.assertIn("scaling", self.err)

    def test_bad_option_is_one_line_and_2_and_nothing_runs(self):
        for words in (["--ranks", "2,1"], ["--ranks", "1,,2"], ["--ranks", "0"], ["--ranks", "-1"], ["--ranks", "1,2x"],
                      ["--ranks", "1,99999999999999999999"], ["--ranks", "2000"], ["--host-counts", "1"],
                      ["--ranks-per-host", "2"], ["--mode", "both ways"], ["--repeats", "0"], ["--steps", "x"],
                      ["--hosts", "a,,b"], ["--hostfile", "/nonexistent"], ["--batch-per-rank", "48"],
                      ["--json", "/nonexistent/x"], ["--frob"], ["--mode", ""], ["--mode=frob"], ["--svg", "-"], ["--svg="],
                      ["--svg", "/nonexistent/x.svg"], ["--svg", self.folder], ["--data="], ["--global-batch", "0"]):
            self.assertEqual(self.run_bench("scaling", *words), 2, words)
            self.assertEqual(len(self.messages()), 1, self.err)
            self.assertIn(words[0].split("=")[0], self.err)
        for words, said in ((["--hosts", "a,b", "--ranks", "2"], "--ranks is for one host"),
                            (["--hosts", "a,b", "--host-counts", "1,3"], "--host-counts: 3 is more than"),
                            (["--hosts", "a,b", "--host-counts", "0,1"], "--host-counts"),
                            (["--hosts", "a", "--hostfile", "f"], "--hostfile"),
                            (["--svg", self.path("x"), "--json", self.path("x")], "--svg and --json"),
                            (["--json", "x", "--json"], "--json and --json x"),
                            (["--ranks", "1024", "--batch-per-rank", "1024"], "--batch-per-rank"),
                            (["--", "--port", "x"], "--port"), (["word"], "'word'")):
            self.assertEqual(self.run_bench("scaling", *words), 2, words)
            self.assertEqual(len(self.messages()), 1, self.err)
            self.assertIn(said, self.err)
        self.assertEqual(self.runs(), [])

    def test_options_are_checked_for_every_point_before_the_first_runs(self):
        self.assertEqual(self.run_bench("scaling", "--ranks", "1,2,5", FAKE_REFUSE="5"), 2)
        self.assertEqual(self.messages(), ["error: not on 5 ranks"])
        self.assertEqual(self.read("checks").split(), ["1", "2", "5"])
        self.assertEqual(self.runs(), [])

    def test_under_mpirun_it_is_refused(self):
        self.assertEqual(self.run_bench("scaling", OMPI_COMM_WORLD_RANK="0"), 2)
        self.assertIn("without mpirun", self.err)

    def test_each_run_is_convoy_train_with_its_share(self):
        lines = [figures(ranks, 1.0) for ranks in (1, 1, 2, 2, 1, 1, 2, 2)]
        self.assertEqual(self.run_bench("scaling", "--ranks=1,2", "--threads=3", "--repeats=1", "--steps=7",
                                        "--batch-per-rank=64", "--global-batch=200", "--model=resnet50",
                                        "--image-size=96", "--data=s3://a/b", "--", "--bucket-bytes", "8", lines=lines), 0,
                         self.err)
        words = "3: train --model resnet50 --image-size 96 --global-batch {} --micro-batch 32 --data s3://a/b " \
                "--bench-steps 7 {}--bucket-bytes 8"
        self.assertEqual(self.runs(), [words.format(batch, way) for batch in (64, 128, 200, 200)
                                       for way in ("", "--no-exchange ")])
        self.assertIn("\npictures of s3://a/b\n", self.out)

    # figures

    def whole(self, *words):
        """Three rounds of weak and strong on 1 and 2 ranks: the machine is slow in the third, and once ten times as fast. Each
        run has its own beside it, without exchange."""
        rounds = ((100, 180, 8, 10), (1000, 190, 8, 9), (90, 162, 8, 12))
        lines = [line for a, b, c, d in rounds
                 for line in (figures(1, a), figures(1, a), figures(2, b, 0.2), figures(2, b / 0.75, exchange=False),
                              figures(1, c), figures(1, c), figures(2, d, 0.5, extra=7, ranks_s=0.16, input_s=0.1, imbalance=0.02),
                              figures(2, 2 * d))]
        return self.run_bench("scaling", "--ranks=1,2", "--threads=1", "--global-batch=96", "--model=resnet20", *words,
                              lines=lines)

    def test_points_take_turns_and_the_table_has_medians_of_each_round(self):
        self.assertEqual(self.whole(), 0, self.err)
        batches = [re.search(r"--global-batch (\d+)", run)[1] for run in self.runs()]
        self.assertEqual(batches, ["32", "32", "64", "64", "96", "96", "96", "96"] * 3)
        self.assertEqual(["--no-exchange" in run for run in self.runs()], [False, True] * 12)
        lines = self.out.splitlines(keepends=True)
        self.assertRegex(lines[1], r"^\S+: .+, \d+ cores?$")
        self.assertRegex(lines[2], r"^Linux \S+ \S+, convoy \d+\.\d+\.\d+, 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, load \d+\.\d$")
        shared = [line for line in lines if " threads share " in line]  # where this machine has one core
        want = TABLE.splitlines(keepends=True)
        self.assertEqual("".join(lines[3:len(lines) - len(shared)]), "".join(want[3:]))
        self.assertEqual(lines[0], want[0])
        self.assertLessEqual(max(len(line.rstrip("\n")) for line in lines[3:]), 80)
        self.assertEqual(len(self.messages()), 24)
        self.assertRegex(self.messages()[2], r"run 3 of 24: weak, 2 ranks: 180 images/s; about \d+ s left$")
        self.assertRegex(self.messages()[3], r"run 4 of 24: weak, 2 ranks side by side: 240 images/s; about \d+ s left$")

    def test_json_has_setting_every_run_and_results(self):
        self.assertEqual(self.whole("--json", self.path("out.json")), 0, self.err)
        self.assertIn("efficiency", self.out)
        lines = [json.loads(line) for line in self.read("out.json").splitlines()]
        self.assertEqual([line["what"] for line in lines], ["setting"] + ["run"] * 24 + ["result"] * 4)
        self.assertEqual([line["way"] for line in lines[1:25]], ["exchange", "side-by-side"] * 12)
        self.assertEqual({line["bench"] for line in lines}, {"scaling"})
        self.assertTrue(lines[0]["command"].startswith("convoy bench scaling --ranks=1,2 "))
        for key in ("time", "convoy", "host", "cpu", "cores", "memory_bytes", "kernel", "load"):
            self.assertIn(key, lines[0])
        run = lines[7]
        self.assertEqual((run["mode"], run["round"], run["ranks"], run["images_per_s"], run["extra"]),
                         ("strong", 1, 2, 10, 7))
        self.assertTrue(run["command"].endswith("--global-batch 96 --micro-batch 32 --bench-steps 10"), run["command"])
        result = lines[26]
        self.assertEqual((result["mode"], result["ranks"], result["hosts"]), ("weak", 2, 1))
        self.assertAlmostEqual(result["images_per_s"], 180)
        self.assertAlmostEqual(result["efficiency"], 0.9)
        self.assertAlmostEqual(result["efficiency_min"], 0.095)
        self.assertAlmostEqual(result["exposed_exchange_share"], 0.1)
        self.assertAlmostEqual(result["input_wait_share"], 0)
        self.assertAlmostEqual(result["side_by_side_images_per_s"], 240)
        self.assertAlmostEqual(result["efficiency_side_by_side"], 0.75)
        self.assertEqual((result["steps"], result["repeats"], result["global_batch"]), (10, 3, 64))
        self.assertAlmostEqual(lines[28]["efficiency_limit"], 0.75)
        self.assertAlmostEqual(lines[28]["rank_wait_share"], 0.08)
        self.assertAlmostEqual(lines[28]["input_wait_share"], 0.05)
        self.assertAlmostEqual(lines[28]["imbalance"], 0.02)

    def test_json_to_stdout_replaces_the_table(self):
        self.assertEqual(self.whole("--json", "-"), 0, self.err)
        self.assertEqual(len([json.loads(line) for line in self.out.splitlines()]), 29)

    def test_json_alone_is_the_results_on_stdout(self):
        for words in (["--json"], ["--json", "--repeats=3"], ["--repeats", "3", "--json"]):
            self.write("runs", "")
            self.assertEqual(self.whole(*words), 0, self.err)
            lines = [json.loads(line) for line in self.out.splitlines()]
            self.assertEqual([(line["bench"], line["mode"], line["hosts"], line["ranks"]) for line in lines],
                             [("scaling", mode, 1, ranks) for mode in ("weak", "strong") for ranks in (1, 2)])
            self.assertEqual([line["images_per_s"] for line in lines], [100, 180, 8, 10])
            for line in lines:
                for key in ("efficiency", "rank_wait_share", "exposed_exchange_share", "input_wait_share"):
                    self.assertIsInstance(line[key], float)

    def test_svg_is_a_drawing_of_all_points(self):
        self.assertEqual(self.whole("--svg", self.path("out.svg"), "--json"), 0, self.err)
        tree = xml.etree.ElementTree.parse(self.path("out.svg"))
        texts = [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("resnet20, 32 x 32 pixels: images/s by ranks", texts)
        for text in ("images/s", "ranks of this host", "90.0 %", "side by side, no exchange"):
            self.assertIn(text, texts)
        self.assertEqual(len(self.out.splitlines()), 4)
        self.assertEqual([name for name in os.listdir(self.folder) if "svg" in name], ["out.svg"])

    def test_an_old_svg_stays_where_the_benchmark_fails(self):
        self.write("out.svg", "old")
        self.assertEqual(self.run_bench("scaling", "--ranks=1", "--svg", self.path("out.svg"), lines=["exit-3"]), 3)
        self.assertEqual(self.read("out.svg"), "old")

    def test_a_full_disk_is_no_success(self):
        self.assertEqual(self.whole("--json", "/dev/full"), 1)
        self.assertIn("'/dev/full'", self.messages()[-1])
        self.assertEqual(self.runs(), [])

    # what goes wrong

    def test_a_run_that_fails_is_named_with_its_command_and_ends_the_benchmark(self):
        for line, status, why in (("exit-3", 3, "exit status 3"), ("exit-1", 1, "exit status 1"), ("exit-2", 2, "status 2"),
                                  ("kill", 1, "signal 9 (Killed)")):
            self.write("runs", "")
            self.assertEqual(self.run_bench("scaling", "--ranks=1,2", "--threads=1", "--mode=weak", "--json",
                                            self.path("out.json"), lines=[figures(1, 5.0), figures(1, 5.0), line]), status)
            self.assertEqual(len(self.runs()), 3)
            last = self.messages()[-1]
            self.assertIn("run 3 (weak, 2 ranks) failed", last)
            self.assertIn(f"{self.convoy} train --hosts localhost --ranks-per-host 2", last)
            self.assertIn(why, last)
            self.assertEqual(self.out, "")
            self.assertEqual(len(self.read("out.json").splitlines()), 3)  # the setting, and the runs that were good
            if line != "kill":
                self.assertIn("error: why it ended", self.err)

    def test_what_is_no_figure_is_shown_and_refused(self):
        for line in ("", "garbage", "{", "[]", "{}", figures(1, 0.0), figures(1, -1.0), figures(1, "5"), figures(2, 5.0),
                     figures(1, 5.0, None), figures(1, 5.0, input_s=-1), figures(1, 5.0, imbalance="x"),
                     figures(1, 5.0, ranks_s=-1),
                     '{"event":"bench","ranks":1,"images_per_s":1e999,"seconds":1,"ranks_s":0,"exchange_s":0}',
                     "\\0377\\0001x", "[" * 5000, "x" * 100000):
            self.write("runs", "")
            self.assertEqual(self.run_bench("scaling", "--ranks=1", "--threads=1", "--mode=weak", lines=[line]), 1, line)
            self.assertEqual(len(self.messages()), 1, self.err)
            self.assertIn("run 1 (weak, 1 rank) failed", self.err)
            self.assertEqual(self.out, "")

    def test_other_lines_before_the_figures_do_not_matter(self):
        self.assertEqual(self.run_bench("scaling", "--ranks=1", "--threads=1", "--mode=weak", "--repeats=1",
                                        lines=["hello\\n" + figures(1, 5.0) + "\\n", figures(1, 5.0)]), 0, self.err)

    def test_signals_end_the_run_at_hand_and_the_benchmark(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.write("runs", "")
            process = self.start("scaling", "--ranks=1", "--threads=1", "--mode=weak", lines=["deaf"])
            deadline = time.monotonic() + WAIT_S
            while not os.path.exists(self.path("deaf")) or not self.read("deaf").strip():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)
            process.send_signal(number)
            out, err = process.communicate(timeout=WAIT_S)
            self.assertEqual(process.returncode, 128 + number, err)
            self.assertIn("has ended in run 1 of 6", err)
            self.assertEqual(out, "")
            self.assertFalse(alive(int(self.read("deaf"))))
            self.assertFalse(os.path.exists(self.path("unharmed")))
            os.remove(self.path("deaf"))

    # the real one

    def real(self, *words):
        self.use_real()
        self.assertEqual(self.run_bench("scaling", "--ranks=1,2", "--threads=1", "--model=resnet20", "--image-size=8",
                                        "--batch-per-rank=4", "--global-batch=8", "--steps=1", "--repeats=2",
                                        "--json=-", *words), 0, self.err)
        lines = [json.loads(line) for line in self.out.splitlines()]
        runs = [line for line in lines if line["what"] == "run"]
        self.assertEqual([(run["mode"], run["ranks"], run["images"], run["exchange"]) for run in runs],
                         [(mode, ranks, images, way) for mode, ranks, images in
                          (("weak", 1, 4), ("weak", 2, 8), ("strong", 1, 8), ("strong", 2, 8)) for way in (True, False)] * 2)
        for run in runs:
            self.assertGreater(run["seconds"], 0)
            if run["exchange"]:
                self.assertAlmostEqual(run["images_per_s"] * run["seconds"], run["images"], places=3)
            self.assertLessEqual(run["compute_s"] + run["ranks_s"] + run["exchange_s"], run["seconds"] * 1.5)
            self.assertEqual((run["image_size"], run["threads"], run["micro_batch"]), (8, 1, 4))
            self.assertIn(", kernels ", run["numerics"])
            self.assertIn("MPI", run["mpi"])
        results = [line for line in lines if line["what"] == "result"]
        self.assertEqual([(line["mode"], line["ranks"]) for line in results],
                         [(mode, ranks) for mode in ("weak", "strong") for ranks in (1, 2)])
        for line in results:
            self.assertGreater(line["efficiency_side_by_side"], 0)
            self.assertLess(line["exposed_exchange_share"], 1)
        return runs

    def test_the_real_program_gives_figures_on_one_and_two_ranks(self):
        self.real()

    def test_the_real_program_refuses_what_cannot_be_shared_out_before_anything_runs(self):
        self.use_real()
        for words, said in ((["--ranks=1,2,3", "--global-batch=64", "--micro-batch=32"], "3 ranks, but a step has 2 micro-batches"),
                            (["--ranks=1,4", "--global-batch=3"], "4 ranks, but --global-batch has 3 images"),
                            (["--ranks=1,2", "--model=frob"], "'frob' is not one of")):
            self.assertEqual(self.run_bench("scaling", "--mode=strong", *words, "--svg", self.path("out.svg")), 2, words)
            self.assertEqual((len(self.messages()), self.out), (1, ""), self.err)
            self.assertIn(said, self.err)
            self.assertFalse(os.path.exists(self.path("out.svg")))

    def test_the_real_program_reads_pictures(self):
        subprocess.run([os.path.join(os.environ["CONVOY_BIN"], "convoy"), "synth", self.path("pictures"), "--classes=2",
                        "--count=16"], check=True)
        for run in self.real("--data", self.path("pictures")):
            self.assertEqual(run["data"], self.path("pictures"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
