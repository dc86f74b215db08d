#!/usr/bin/env python3
"""A rank that freezes while the others train or evaluate is given up within --step-timeout, by one line that names its host;
silence that has a reason is none: a process that was stopped itself, pictures that take their time, a slow rank."""
import os
import signal
import subprocess
import time

from job import CONVOY, Job, main, ranks_of, wait_until

TIMEOUT_S = 2
LEAVE_S = 8  # for the line, and for all processes to be gone, on a busy machine


class Deadline(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.large = os.path.join(cls.shared, "large")
        subprocess.run([CONVOY, "synth", cls.large, "--classes", "2", "--size", "32", "--count", "2000"], check=True)

    def long(self, **more):
        return self.options(**{"data": self.large, "epochs": 50, "step_timeout": f"{TIMEOUT_S}s", **more})

    def launched(self, ranks, *words):
        return self.start(CONVOY, "train", f"--ranks-per-host={ranks}", *words)

    def stepped(self, steps=3):
        wait_until(lambda: len(self.events("step")) >= steps)

    def frozen(self, process, ranks, victim):
        """Freezes the rank of this number: they are started in the order of their numbers."""
        pids = ranks_of(process)
        self.assertEqual(len(pids), ranks)
        self.addCleanup(self.thaw, pids[victim])
        os.kill(pids[victim], signal.SIGSTOP)
        return time.monotonic()

    @staticmethod
    def thaw(pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    # --- a rank that freezes ---

    def test_frozen_rank_is_named_and_given_up(self):
        for ranks, victim in ((2, 0), (2, 1), (3, 1)):
            with self.subTest(ranks=ranks, victim=victim):
                process = self.launched(ranks, *self.long(global_batch=8 * ranks))
                self.stepped()
                begun = self.frozen(process, ranks, victim)
                self.assertEqual(self.wait(process), 3, self.err)
                self.assertLess(time.monotonic() - begun, TIMEOUT_S + LEAVE_S)
                # Several ranks may come to say it; the frozen one, which mpirun wakes to end it, may miss the others by then.
                errors = {line.split("error: ", 1)[1] for line in self.err.splitlines()
                          if "error: " in line and not line.startswith(f"[{victim}/")}
                self.assertEqual(len(errors), 1, self.err)
                self.assertRegex(errors.pop(), rf"no sign of progress from host '{os.uname().nodename}' \(rank {victim}\) "
                                 r"for [23] s \(--step-timeout\): it is dead, frozen, cut off, or stuck in reading or saving$")
                os.remove(self.path("report", "metrics.jsonl"))

    def test_frozen_rank_under_a_foreign_mpirun(self):
        """It is called what the platform calls its host."""
        self.env = dict(self.env, CONVOY_HOST="algo-7")
        process = self.start(*self.foreign(2, *self.long()))
        self.stepped()
        begun = self.frozen(process, 2, 1)
        self.assertEqual(self.wait(process), 3, self.err)
        self.assertLess(time.monotonic() - begun, TIMEOUT_S + LEAVE_S)
        self.assertIn("from host 'algo-7' (rank 1)", self.err)

    def test_job_goes_on_where_restarts_are_allowed(self):
        words = self.options(data=self.large, val=os.path.join(self.data, "val"), train=os.path.join(self.large, "train"),
                             checkpoint="checkpoint", checkpoint_every=2, max_steps=40, image_size=8,
                             step_timeout=f"{TIMEOUT_S}s")
        self.assertEqual(self.convoy(1, *words[1:], "--checkpoint=other", "--report=other"), 0, self.err)
        whole = self.sha256()
        process = self.launched(2, "--max-restarts=1", *words[1:])
        self.stepped(6)
        self.frozen(process, 2, 1)
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertRegex(self.err, r"resuming at step [1-9]")
        self.assertEqual(self.sha256(), whole)

    def test_frozen_rank_in_an_evaluation(self):
        """There pictures may take their time: ten times the deadline of a step."""
        process = self.launched(2, *self.long(data=None, train=self.train, val=os.path.join(self.large, "train"),
                                              micro_batch=4, image_size=96, step_timeout="2s"))
        wait_until(lambda: self.events("epoch"))
        time.sleep(0.5)
        begun = self.frozen(process, 2, 1)
        self.assertEqual(self.wait(process), 3, self.err)
        self.assertGreater(time.monotonic() - begun, 19)
        self.assertLess(time.monotonic() - begun, 20 + LEAVE_S)
        self.assert_one_error("no word from host", "(rank 1) for 20 s")

    # --- silence that has a reason ---

    def test_all_ranks_stopped_and_continued_go_on(self):
        process = self.launched(2, *self.long(epochs=3, data=self.data))
        self.stepped(1)
        pids = ranks_of(process)
        for pid in pids:
            self.addCleanup(self.thaw, pid)
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2 * TIMEOUT_S)
        for pid in pids:
            self.thaw(pid)
        self.assertEqual(self.wait(process), 0, self.err)

    def test_micro_batches_may_take_longer_than_the_timeout_in_sum(self):
        """Each micro-batch is a sign of progress: 48 of them on a rank last longer than what is given, and each much shorter,
        even with sanitizers on a busy machine. (Where a core is so quick that all take less than that, nothing is shown.)"""
        process = self.launched(2, *self.options(step_timeout="6s", model="resnet18", image_size=160, micro_batch=2,
                                                 global_batch=192, data=self.large, max_steps=1))
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertGreater(max(event["compute_s"] for event in self.events("step")), 1)

    # --- what is said of the pace ---

    def test_slowest_rank_is_told(self):
        self.assertEqual(self.convoy(2, *self.options(epochs=2)), 0, self.err)
        for event in self.events("step", "epoch"):
            slowest = event["slowest"]
            self.assertEqual(sorted(slowest), ["busy_s", "host", "over_s", "rank"])
            self.assertEqual(slowest["host"], os.uname().nodename)
            self.assertIn(slowest["rank"], (0, 1))
            self.assertGreater(slowest["busy_s"], 0)
            self.assertGreaterEqual(slowest["busy_s"], slowest["over_s"])
            self.assertGreaterEqual(slowest["over_s"], 0)
        for kind in ("step", "epoch"):
            self.assertEqual(len(self.events(kind)), 4 if kind == "step" else 2)
        for event in self.events("step"):
            times = [event[key] for key in ("input_s", "compute_s", "ranks_s", "exchange_s")]
            self.assertGreater(event["ranks_s"], 0)
            self.assertTrue(0 < sum(times) <= event["seconds"] and min(times) >= 0, event)
        self.assertEqual(self.convoy(1, *self.options(report="alone")), 0, self.err)
        self.assertNotIn("slowest", self.text("alone/metrics.jsonl"))

    def test_slow_rank_is_the_slowest(self):
        """A rank that is stopped for half a second between two micro-batches."""
        process = self.launched(2, *self.long(data=self.data, epochs=200, step_timeout="60s"))
        self.stepped()
        pid = ranks_of(process)[1]
        self.addCleanup(self.thaw, pid)
        for _ in range(3):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.5)
            self.thaw(pid)
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        self.wait(process)
        over = [event["slowest"] for event in self.events("step") if event["slowest"]["over_s"] > 0.3]
        self.assertTrue(over)
        self.assertEqual({slowest["rank"] for slowest in over}, {1})

    def test_time_that_is_none(self):
        for text, word in (("x", "is no time"), ("5", "is no time"), ("0s", "is no time"), ("0.5s", "at least 1s")):
            with self.subTest(text):
                self.assertEqual(self.convoy(1, *self.options(step_timeout=text)), 2)
                self.assert_one_error("--step-timeout", word)


if __name__ == "__main__":
    main(Deadline)
