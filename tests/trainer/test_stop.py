#!/usr/bin/env python3
"""Asked to stop at any moment: the last whole step is committed, `stopped epoch=E of=N`, exit 75, and resuming goes on
from there. A killed rank ends the job. The one promise about time is tested: 10 s from the signal to the end."""
import os
import re
import signal
import subprocess
import time

from job import CONVOY, Job, main, ranks_of, wait_until

STOP_S = 10


class Stop(Job):
    AT_ONCE = 2  # the time that an end takes is asserted
    FIRST = ("test_step_that_would_take_too_long_is_dropped",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.large = os.path.join(cls.shared, "large")  # many small steps, and an evaluation that takes longer than they do
        subprocess.run([CONVOY, "synth", cls.large, "--classes", "2", "--size", "32", "--count", "4000"], check=True)

    def long(self, **more):
        """A run that nobody waits for."""
        return self.options(**{"data": self.large, "epochs": 5, "checkpoint": "checkpoint", **more})

    def launched(self, ranks, *words):
        return self.start(CONVOY, "train", f"--ranks-per-host={ranks}", *words)

    def stop(self, process, number, epoch=0, of=5):
        asked = time.monotonic()
        process.send_signal(number)
        status = self.wait(process)
        took = time.monotonic() - asked
        self.assertEqual(status, 75, self.err)
        self.assertLess(took, STOP_S)
        self.assertEqual(self.out.splitlines()[-1], f"stopped epoch={epoch} of={of}", self.err)
        self.assertNotIn("error: ", self.err)
        self.assertFalse(os.path.exists(self.path("model", "model.safetensors")))

    def last_step(self):
        return max([event["step"] for event in self.events("step")], default=0)

    def stepped(self, steps=3):
        wait_until(lambda: self.last_step() >= steps)

    def evaluating(self):
        wait_until(lambda: self.events("epoch"))
        time.sleep(0.3)

    def goes_on(self, **more):
        """Resumed on another number of ranks, the run begins behind the last step and repeats none."""
        step = self.last_step()
        self.assertEqual(self.convoy(1, *self.long(max_steps=step + 1, val=os.path.join(self.data, "val"), data=None,
                                                   train=os.path.join(self.large, "train"), **more)), 0, self.err)
        self.assertIn(f"resuming at step {step} ", self.err)
        steps = [event["step"] for event in self.events("step")]
        self.assertEqual(steps, list(range(1, step + 2)))

    # --- in a step ---

    def test_a_stop_with_a_feature_cache_is_told(self):
        words = self.long(train_layers="head", augment="none", epochs=5000, max_run="3s", data=self.data)
        self.assertEqual(self.convoy(2, *words), 75, self.err)
        self.assertEqual(self.events()[-1]["how"], "stopped", self.err)

    def test_signal_to_the_launcher_in_a_step(self):
        for ranks, number in ((1, signal.SIGTERM), (1, signal.SIGUSR1), (2, signal.SIGTERM), (2, signal.SIGUSR1)):
            with self.subTest(ranks=ranks, number=number):
                name = f"checkpoint-{ranks}-{number}"
                process = self.launched(ranks, *self.long(checkpoint=name))
                self.stepped()
                self.stop(process, number)
                self.assertEqual(self.checkpoints(name), [self.last_step()])
                self.assertEqual(self.events()[-1]["how"], "stopped")
                os.rename(self.path("report", "metrics.jsonl"), self.path(f"{name}.jsonl"))

    def test_resuming_goes_on_behind_the_stop(self):
        process = self.launched(2, *self.long())
        self.stepped()
        self.stop(process, signal.SIGTERM)
        self.goes_on()

    def test_signal_to_a_foreign_mpirun(self):
        process = self.start(*self.foreign(2, *self.long()))
        self.stepped()
        asked = time.monotonic()
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertLess(time.monotonic() - asked, STOP_S)
        self.assertIn("stopped epoch=0 of=5\n", self.out)
        self.assertEqual(self.checkpoints(), [self.last_step()])
        self.goes_on()

    def test_signal_to_one_rank_stops_all(self):
        process = self.launched(2, *self.long())
        self.stepped()
        ranks = ranks_of(process)
        os.kill(ranks[-1], signal.SIGUSR1)
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertEqual(self.checkpoints(), [self.last_step()])

    def test_many_signals_are_one(self):
        process = self.launched(2, *self.long())
        self.stepped()
        for _ in range(20):
            process.send_signal(signal.SIGUSR1)
        self.stop(process, signal.SIGTERM)
        self.assertEqual(self.checkpoints(), [self.last_step()])

    def test_stop_without_a_checkpoint_folder(self):
        process = self.launched(2, *self.long(checkpoint=None))
        self.stepped()
        self.stop(process, signal.SIGTERM)
        self.assertFalse(os.path.exists(self.path("checkpoint")))

    def test_step_that_would_take_too_long_is_dropped(self):
        slow = {"model": "resnet18", "image_size": 224, "micro_batch": 4, "global_batch": 1024}
        for ranks in (1, 2):
            process = self.launched(ranks, *self.long(**slow))
            wait_until(lambda: self.events("generation"))
            self.stop(process, signal.SIGTERM)
            self.assertEqual(self.checkpoints(), [])
            self.assertEqual(self.last_step(), 0)
            os.remove(self.path("report", "metrics.jsonl"))

    # --- elsewhere ---

    def in_evaluation(self, start):
        process = start(self.long(data=None, train=self.train, val=os.path.join(self.large, "train"), micro_batch=4,
                                  image_size=64))
        self.evaluating()
        asked = time.monotonic()
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertLess(time.monotonic() - asked, STOP_S)
        self.assertIn("stopped epoch=0 of=5\n", self.out)
        self.assertEqual(self.events("eval"), [])
        self.assertEqual(self.checkpoints(), [2])
        return process

    def test_signal_in_evaluation(self):
        for ranks in (1, 2):
            self.in_evaluation(lambda words, n=ranks: self.launched(n, *words))
            for name in ("checkpoint", "report"):
                os.rename(self.path(name), self.path(f"{name}-{ranks}"))

    def test_signal_in_evaluation_under_a_foreign_mpirun(self):
        self.in_evaluation(lambda words: self.start(*self.foreign(2, *words)))

    def test_evaluation_is_done_again_after_a_stop_in_it(self):
        self.in_evaluation(lambda words: self.launched(2, *words))
        self.assertEqual(self.convoy(1, *self.options(checkpoint="checkpoint", micro_batch=None, image_size=None)), 0,
                         self.err)
        self.assertIn("resuming at step 2 ", self.err)
        self.assertEqual([event["epoch"] for event in self.events("eval")], [0])

    def test_signal_in_a_cached_validation(self):
        """The second one: the first computes the features."""
        words = self.long(data=None, train=self.train, val=os.path.join(self.large, "train"), train_layers="from:layer2",
                          augment="none", model="resnet56", micro_batch=4)
        for ranks in (1, 2):
            process = self.launched(ranks, *words, f"--checkpoint=checkpoint-{ranks}")
            wait_until(lambda: len(self.events("epoch")) == 2)
            time.sleep(0.3)
            self.stop(process, signal.SIGTERM, epoch=1)
            self.assertEqual([event["epoch"] for event in self.events("eval")], [0])
            self.assertEqual(self.events()[-1]["how"], "stopped")
            os.remove(self.path("report", "metrics.jsonl"))

    def many(self):
        """Two classes of so many pictures that reading the folder takes seconds: names of a few files, as a file may
        have no more than some ten thousand names."""
        source = os.path.join(self.train, sorted(os.listdir(self.train))[0])
        with open(os.path.join(source, sorted(os.listdir(source))[0]), "rb") as file:
            picture = file.read()
        for name in ("a", "b"):
            os.makedirs(self.path("many", name))
            for i in range(60000):
                here = self.path("many", name, f"{i}.jpg")
                if i % 20000 == 0:
                    first = here
                    with open(here, "wb") as file:
                        file.write(picture)
                else:
                    os.link(first, here)
        return "many"

    def test_signal_while_the_data_are_scanned(self):
        words = self.options(data=self.many(), epochs=5, checkpoint="checkpoint")
        for ranks in (1, 2):
            process = self.launched(ranks, *words)
            pids = []
            wait_until(lambda: self.opens(pids or ranks_of(process), "many/"))
            self.stop(process, signal.SIGTERM)
            self.assertFalse(os.path.exists(self.path("checkpoint")))
            self.assertNotIn("training: ", self.err)  # what is said when it is scanned

    def opens(self, pids, part):
        """Has one of the processes a file or folder of such a name open?"""
        for pid in pids:
            try:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    if part in os.readlink(f"/proc/{pid}/fd/{fd}"):
                        return True
            except OSError:
                pass
        return False

    def test_signal_at_once(self):
        for ranks, wait_s in ((1, 0), (1, 0.1), (2, 0.3), (2, 0.6)):
            process = self.launched(ranks, *self.long())
            time.sleep(wait_s)
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            status = self.wait(process)
            self.assertLess(time.monotonic() - asked, STOP_S + 5)
            if wait_s > 0 or status != -signal.SIGTERM:  # else it was no launcher yet
                self.assertEqual(status, 75, self.err)
            self.assertNotIn("error: ", self.err)

    # --- time ---

    def test_max_run(self):
        for ranks, folder in ((1, "one"), (2, "two")):
            self.assertEqual(self.convoy(ranks, *self.long(max_run="3s", checkpoint=folder)), 75, self.err)
            self.assertEqual(self.out.splitlines()[-1], "stopped epoch=0 of=5")
            self.assertEqual(self.checkpoints(folder), [self.events("step")[-1]["step"]])

    def test_max_run_ends_an_evaluation(self):
        """After two steps comes an evaluation of many times their length. A slow machine needs longer to get there."""
        for limit_s in (3, 6, 15, 40):
            folder = f"limit-{limit_s}"
            words = self.long(data=None, train=self.train, val=os.path.join(self.large, "train"), micro_batch=4,
                              image_size=64, max_run=f"{limit_s}s", checkpoint=folder)
            self.assertEqual(self.convoy(2, *words), 75, self.err)
            if self.checkpoints(folder) == [2]:
                break
        self.assertEqual(self.checkpoints(folder), [2])
        self.assertEqual(self.events("eval"), [])

    # --- ends that nobody asked for ---

    def test_killed_rank_ends_the_job_with_one_line(self):
        for ranks in (1, 2):
            process = self.launched(ranks, *self.long())
            self.stepped()
            pids = ranks_of(process)
            self.assertEqual(len(pids), ranks)
            os.kill(pids[-1], signal.SIGKILL)
            self.assertEqual(self.wait(process), 137, self.err)
            self.assert_one_error("died by signal 9")
            os.remove(self.path("report", "metrics.jsonl"))

    def test_killed_rank_is_replaced_where_restarts_are_allowed(self):
        words = self.options(data=self.large, val=os.path.join(self.data, "val"), train=os.path.join(self.large, "train"),
                             checkpoint="checkpoint", checkpoint_every=2, max_steps=40, image_size=8)
        self.assertEqual(self.convoy(1, *words[1:], "--checkpoint=other", "--report=other"), 0, self.err)
        whole = self.sha256()
        process = self.launched(2, "--max-restarts=1", *words[1:])
        self.stepped(6)
        os.kill(ranks_of(process)[-1], signal.SIGKILL)
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertRegex(self.err, r"resuming at step [1-9]")
        self.assertIn("restart 1 of at most 1", self.err)
        self.assertEqual(self.sha256(), whole)

    def test_foreign_mpirun_trains_the_same_bits(self):
        self.assertEqual(self.convoy(2, *self.options(model_dir="one")), 0, self.err)
        launched = self.sha256()
        self.assertEqual(self.wait(self.start(*self.foreign(2, *self.options(model_dir="two")))), 0, self.err)
        self.assertEqual(self.sha256(), launched)
        self.assertEqual(len(re.findall("sha256", self.out)), 1)


if __name__ == "__main__":
    main(Stop)
