#!/usr/bin/env python3
"""`convoy bench comm` with a stand-in for convoy-train that prints given figures: options, arithmetic, table, JSON, failures;
then the real one on two ranks, whose figures need only be there."""
import json
import os
import signal
import time
import unittest

from bench_case import WAIT_S, BenchCase, alive

WAYS = ["convoy", "mpi-default", "mpi-basic-linear", "mpi-segmented-ring", "mpi-ring"]
# Seconds by round: the second round is slow, in the third the ring is; the segmented one has the least time, once.
SUMS = {1000000: {"convoy": (0.010, 0.100, 0.020), "mpi-default": (0.020, 0.400, 0.010), "mpi-basic-linear": (0.1, 0.1, 0.1),
                  "mpi-segmented-ring": (0.009, 0.2, 0.021), "mpi-ring": (0.016, 0.080, 0.020)},
        65536: {way: (1e-4, 1e-4, 1e-4) for way in WAYS}}
SUMS[65536]["mpi-default"] = (5e-5, 5e-5, 5e-5)
del SUMS[65536]["mpi-basic-linear"]  # hopeless
TABLE = """\
2 ranks on 1 host; 3 rounds; buckets of at most 4194304 bytes
HOST
KERNEL
Open MPI v9, a rank that waits keeps its core

                                            ms     MB/s bound% ours/    CPU
    1 MB  Convoy                         20.00    50.00      -     -   2.50
          MPI_Allreduce as it comes      20.00    50.00      -  0.50      -
          forced: ring                   20.00    50.00      -  1.00      -
  64 KiB  Convoy                         0.100    655.4      -     -  36.62
          MPI_Allreduce as it comes      0.050     1311      -  2.00      -
          forced: segmented-ring         0.100    655.4      -  1.00      -

Medians; ms: of a sum, the slowest rank's. MB/s: of the vector. ours/: our ms by
its ms in the same round; forced: the best of MPI_Allreduce's algorithms.
CPU: of our communication thread, ms for each MB of the vector.
"""


def setting(**more):
    return {"event": "comm", "ranks": 2, "hosts": 1, "threads": 1, "bucket_bytes": 4 << 20, "rounds": 3, "bytes": list(SUMS),
            "algorithms": WAYS, "yield_when_idle": False, "mpi": "Open MPI v9", **more}


def figures(**more):
    """As the stand-in's one line: the shell makes lines of it."""
    lines = [setting(**more)]
    for number in range(4):
        for size, ways in SUMS.items():
            for way, seconds in ways.items():
                line = {"event": "comm-sum", "bytes": size, "algorithm": way, "round": number, "sums": 3,
                        "seconds": seconds[number - 1] if number else 7.0, "cpu_s": 4e-9 * size}
                lines.append({**line, "exchange_cpu_s": 2.4e-3 if size == 65536 else 2.5e-3} if way == "convoy" else line)
    return lines


def as_one(lines):
    return "\\n".join(json.dumps(line) for line in lines)


class BenchComm(BenchCase):
    def comm(self, *words, lines=None, **env):
        self.write("runs", "")
        return self.run_bench("comm", "--repeats=3", *words, lines=[as_one(figures() if lines is None else lines)], **env)

    def said(self):
        return [line for line in self.messages() if "error: " in line]

    # words

    def test_help_lists_every_option(self):
        self.assertEqual(self.run_bench("--help"), 0)
        self.assertRegex(self.out, r"(?m)^  comm ")
        self.assertEqual(self.run_bench("comm", "--help"), 0)
        for option in ("--hosts", "--hostfile", "--ranks-per-host", "--threads", "--sizes", "--repeats", "--link", "--json"):
            self.assertIn(f"  {option} ", self.out)
        self.assertLess(max(map(len, self.out.splitlines())), 101)

    def test_bad_option_is_one_line_and_2_and_nothing_runs(self):
        for words, said in ((["--frob"], "--frob"), (["word"], "'word'"), (["--repeats", "0"], "--repeats"),
                            (["--ranks-per-host", "1"], "one rank has nobody to exchange with"),
                            (["--hosts", "a", "--ranks-per-host", "1"], "one rank has nobody"),
                            (["--hosts", "a,,b"], "--hosts"), (["--hostfile", "/nonexistent"], "/nonexistent"),
                            (["--hosts", "a", "--hostfile", "f"], "--hosts and --hostfile"),
                            (["--link", "1gbit"], "--link needs several hosts"),
                            (["--json", "x", "--json"], "--json and --json x"), (["--json", "/nonexistent/x"], "--json"),
                            (["--", "--port", "x"], "--port")):
            self.assertEqual(self.run_bench("comm", *words), 2, words)
            self.assertEqual(len(self.messages()), 1, self.err)
            self.assertIn(said, self.err)
        for rate in ("1", "gbit", "1Gbit/s", "-1gbit", "0gbit", "nangbit", "1e30gbit", "1 gbit", "1gbits", ","):
            self.assertEqual(self.run_bench("comm", "--hosts=a,b", f"--link={rate}"), 2, rate)
            self.assertEqual(len(self.messages()), 1, self.err)
            self.assertIn("is no rate such as 1gbit or 250mbit", self.err)
        self.assertEqual(self.runs(), [])

    def test_what_convoy_train_refuses_is_its_line_and_nothing_runs(self):
        self.assertEqual(self.run_bench("comm", FAKE_REFUSE="2"), 2)
        self.assertEqual(self.messages(), ["error: not on 2 ranks"])
        self.assertEqual(self.runs(), [])

    def test_under_mpirun_it_is_refused(self):
        self.assertEqual(self.run_bench("comm", OMPI_COMM_WORLD_RANK="0"), 2)
        self.assertIn("without mpirun", self.err)

    def test_the_run_is_convoy_train_with_its_words(self):
        lines = figures(ranks=3, rounds=3)
        self.assertEqual(self.comm("--ranks-per-host=3", "--threads=5", "--sizes=1MB,64KiB", "--", "--bucket-bytes", "8",
                                   lines=lines), 0, self.err)
        self.assertEqual(self.runs(), ["5: train --bench-comm 1MB,64KiB --bench-rounds 3 --bucket-bytes 8"])
        self.assertEqual(self.comm(), 0, self.err)
        self.assertTrue(self.runs()[0].endswith(": train --bench-comm 1MB,10MB,100MB --bench-rounds 3"), self.runs())

    # figures

    def test_table_has_medians_and_ratios_of_each_round(self):
        self.assertEqual(self.comm(), 0, self.err)
        lines, want = self.out.splitlines(keepends=True), TABLE.splitlines(keepends=True)
        self.assertRegex(lines[1], r"^\S+: .+, \d+ cores?$")
        self.assertRegex(lines[2], r"^Linux \S+ \S+, convoy \d+\.\d+\.\d+, 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, load \d+\.\d$")
        self.assertEqual("".join(lines[:1] + lines[3:]), "".join(want[:1] + want[3:]))
        self.assertLessEqual(max(map(len, lines[3:])), 81)

    def test_without_algorithms_to_force_the_table_says_so(self):
        lines = [line for line in figures(algorithms=WAYS[:2]) if line.get("algorithm", "convoy") in WAYS[:2]]
        self.assertEqual(self.comm(lines=lines), 0, self.err)
        self.assertEqual(self.out.count("MPI_Allreduce as it comes"), 2)
        self.assertNotIn("forced: ", self.out.split("Medians")[0])
        self.assertIn("Open MPI v9 lets no algorithm be forced", self.out)

    def test_json_has_setting_every_measurement_and_results(self):
        self.assertEqual(self.comm("--json", self.path("out.json")), 0, self.err)
        self.assertIn("ours/", self.out)
        lines = [json.loads(line) for line in self.read("out.json").splitlines()]
        self.assertEqual({line["bench"] for line in lines}, {"comm"})
        self.assertEqual([line["what"] for line in lines], ["setting"] + ["run"] * 37 + ["result"] * 9)
        self.assertTrue(lines[0]["command"].startswith("convoy bench comm --repeats=3 --json "), lines[0])
        for key in ("time", "convoy", "host", "cpu", "cores", "memory_bytes", "kernel", "load"):
            self.assertIn(key, lines[0])
        self.assertEqual(lines[1]["algorithms"], WAYS)
        self.assertEqual((lines[2]["algorithm"], lines[2]["round"], lines[2]["seconds"]), ("convoy", 0, 7.0))
        results = {(line["bytes"], line["algorithm"]): line for line in lines[38:]}
        self.assertEqual(set(results), {(size, way) for size, ways in SUMS.items() for way in ways})
        ours, default = results[1000000, "convoy"], results[1000000, "mpi-default"]
        self.assertEqual((ours["ranks"], ours["hosts"], ours["repeats"]), (2, 1, 3))
        self.assertAlmostEqual(ours["seconds"], 0.02)
        self.assertAlmostEqual(ours["seconds_min"], 0.01)
        self.assertAlmostEqual(ours["seconds_max"], 0.1)
        self.assertAlmostEqual(ours["bytes_per_s"], 5e7)
        self.assertAlmostEqual(ours["cpu_ms_per_mb"], 4)
        self.assertAlmostEqual(ours["exchange_cpu_ms_per_mb"], 2.5)
        self.assertAlmostEqual(default["convoy_ratio"], 0.5)
        self.assertAlmostEqual(default["convoy_ratio_min"], 0.25)
        self.assertAlmostEqual(default["convoy_ratio_max"], 2)
        self.assertEqual([key for key, line in results.items() if "best" in line],
                         [(1000000, "mpi-ring"), (65536, "mpi-segmented-ring")])

    def test_json_alone_is_the_results_and_json_to_stdout_is_all(self):
        self.assertEqual(self.comm("--json"), 0, self.err)
        self.assertEqual([json.loads(line)["what"] for line in self.out.splitlines()], ["result"] * 9)
        self.assertEqual(self.comm("--json", "-"), 0, self.err)
        self.assertEqual(len([json.loads(line) for line in self.out.splitlines()]), 47)

    def test_a_full_disk_is_no_success(self):
        self.assertEqual(self.comm("--json", "/dev/full"), 1)
        self.assertIn("'/dev/full'", self.messages()[-1])
        self.assertEqual(self.runs(), [])

    # what goes wrong

    def test_a_run_that_fails_is_told_with_its_command(self):
        for line, status, why in (("exit-3", 3, "exit status 3"), ("exit-2", 2, "status 2"), ("kill", 1, "signal 9 (Killed)")):
            self.write("runs", "")
            self.assertEqual(self.run_bench("comm", lines=[line]), status)
            self.assertIn("the run failed: ", self.messages()[-1])
            self.assertIn(f"{self.convoy} train --hosts localhost --ranks-per-host 2", self.messages()[-1])
            self.assertIn(why, self.messages()[-1])
            self.assertEqual(self.out, "")

    def test_what_is_no_figure_is_shown_and_refused(self):
        good = figures()
        for lines in ([], good[1:], good[:1], good[:-1], good + [{}], good + [good[0]],
                      figures(ranks=4), figures(rounds=4), figures(rounds=0), figures(rounds=1 << 29), figures(bytes=[]),
                      figures(bytes=[0]), figures(bytes=[1] * 17), figures(bytes=["x"]), figures(algorithms=WAYS[:1]),
                      figures(algorithms=["x" * 80] * 3), figures(algorithms=["w"] * 41), figures(mpi=7), figures(hosts=0),
                      good[:-1] + [{**good[-1], "seconds": 0}], good[:-1] + [{**good[-1], "seconds": -1}],
                      good[:-1] + [{**good[-1], "cpu_s": "x"}], good[:-1] + [{**good[-1], "round": 4}],
                      good[:-1] + [{**good[-1], "round": "3"}], good[:-1] + [{**good[-1], "bytes": 5}],
                      good[:-1] + [{**good[-1], "algorithm": "frob"}]):
            self.write("runs", "")
            self.assertEqual(self.comm(lines=lines), 1, lines[:1])
            self.assertEqual(len(self.said()), 1, self.err)
            self.assertIn("the run failed: it", self.err)
            self.assertEqual(self.out, "")
        for text in ("garbage", "[" * 5000, "\\0377\\0001x", "{}"):
            self.write("runs", "")
            self.assertEqual(self.run_bench("comm", lines=[text]), 1, text)
            self.assertIn("where its figures should be", self.said()[0])

    def test_signals_end_the_run(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.write("runs", "")
            process = self.start("comm", lines=["deaf"])
            deadline = time.monotonic() + WAIT_S
            while not os.path.exists(self.path("deaf")) or not self.read("deaf").strip():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)
            process.send_signal(number)
            out, err = process.communicate(timeout=WAIT_S)
            self.assertEqual((process.returncode, out), (128 + number, ""), err)
            self.assertIn("the benchmark has ended", err)
            self.assertFalse(alive(int(self.read("deaf"))))
            os.remove(self.path("deaf"))

    # the real one

    def test_the_real_program_measures_two_ranks(self):
        self.use_real()
        self.assertEqual(self.run_bench("comm", "--sizes=4kB,1MB", "--repeats=2", "--json=-", "--", "--bucket-bytes=65536"), 0,
                         self.err)
        lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertTrue(lines[1]["yield_when_idle"])  # as every run of ours
        self.assertEqual((lines[1]["bytes"], lines[1]["bucket_bytes"]), ([4000, 1000000], 65536))
        for size in (4000, 1000000):
            names = [line["algorithm"] for line in lines if line["what"] == "result" and line["bytes"] == size]
            self.assertEqual(names[:2], ["convoy", "mpi-default"])
            self.assertIn("mpi-ring", names)

    def test_the_real_program_refuses_sizes_before_anything_runs(self):
        self.use_real()
        for sizes in ("x", "1MB,1MB", "3"):
            self.assertEqual(self.run_bench("comm", "--sizes", sizes), 2)
            self.assertEqual((len(self.messages()), self.out), (1, ""), self.err)
            self.assertIn("--bench-comm: ", self.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
