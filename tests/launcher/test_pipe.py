#!/usr/bin/env python3
"""`convoy train` with channels in Pipe mode: what goes before a stream is read, and how it ends when reading does not go well."""
import json
import os
import signal
import unittest

from hosts_case import GONE_S, Case

WAITS = "while :; do sleep 0.05; done"


class Pipe(Case):
    def job(self, names=("algo-1",), **env):
        job = super().job(names, words=(), **{"FAKE": "exit-0", **env})
        for host in job.hosts.values():
            with open(os.path.join(host.base, "input", "config", "inputdataconfig.json"), "w") as file:
                json.dump({"training": {"TrainingInputMode": "Pipe"}, "validation": {"TrainingInputMode": "Pipe"}}, file)
        return job

    def assert_not_trained(self, job):
        self.assertIsNone(job.note("words-0"), job.logs())

    def test_channels_are_read_before_there_are_ranks(self):
        job = self.job().start()
        self.assert_all_end(job, 0)
        job.wait_for("spool--training_0", "spool--validation_0", "words-0")
        self.assertEqual(job.env_of_rank(0)["SM_CHANNEL_TRAINING"], os.path.join(job["algo-1"].base, "spool", "training"))

    def test_wrong_options_are_known_before_a_stream_is_read(self):
        job = self.job(FAKE_CHECK="2", FAKE_SPOOL=WAITS).start()
        self.assert_all_end(job, 2)
        self.assertIsNone(job.note("spool--training_0"))
        self.assertIn("options", job["algo-1"].reason())

    def test_reader_that_is_killed_is_named_by_its_channel(self):
        job = self.job(("algo-1", "algo-2"))
        job.start("algo-1")
        job["algo-2"].start(FAKE_SPOOL="[ ${2##*/} = training_0 ] || exit 0; kill -9 $$")
        self.assert_all_end(job, 137)
        for part in ("channel 'training'", "signal 9 (Killed)", "algo-2/input/data/training_0"):
            self.assertIn(part, job["algo-1"].reason())
            self.assertIn(part, job["algo-2"].failure())
        self.assertIn("error: channel 'training'", job["algo-2"].log())
        self.assert_not_trained(job)

    def test_stop_is_not_lost_on_a_reader_that_is_done(self):
        job = self.job(FAKE_SPOOL="trap 'exit 0' TERM; " + WAITS).start()
        job.wait_for("spool--training_0", "spool--validation_0")
        job["algo-1"].process.send_signal(signal.SIGTERM)
        self.assert_all_end(job, 75)
        self.assertIn("stopped (Terminated)", job["algo-1"].reason())
        self.assert_not_trained(job)

    def test_stop_of_one_host_while_it_reads_ends_the_job(self):
        job = self.job(("algo-1", "algo-2"))
        job.start("algo-1")
        job["algo-2"].start(FAKE_HOST="algo-2", FAKE_SPOOL="trap 'exit 0' TERM; " + WAITS)
        job.wait_for("spool--training_0", "spool-algo-2-training_0", "spool-algo-2-validation_0")
        job["algo-2"].process.send_signal(signal.SIGTERM)
        self.assert_all_end(job, 75)
        self.assert_not_trained(job)

    def test_stopped_host_does_not_wait_for_a_leader_that_reads_on(self):
        job = self.job(("algo-1", "algo-2"), FAKE_SPOOL="trap 'exit 0' TERM; " + WAITS).start("algo-2")
        job.wait_for("spool--training_0", "spool--validation_0")
        job["algo-2"].process.send_signal(signal.SIGTERM)
        self.assertEqual(job["algo-2"].wait(GONE_S), 75, job.logs())
        self.assertIn("stopped (Terminated)", job["algo-2"].reason())

    def test_hosts_that_do_not_meet_are_told_of_the_channels(self):
        for name in ("algo-1", "algo-2"):
            job = self.job(("algo-1", "algo-2"))
            job[name].start("--rendezvous-timeout=1")
            self.assertEqual(job[name].wait(), 3, job.logs())
            self.assertIn("channels in Pipe mode", job[name].failure())
            self.assertIn("(--rendezvous-timeout)", job[name].failure())

    def test_rank_of_a_foreign_mpirun_refuses_them(self):
        job = self.job(OMPI_COMM_WORLD_RANK="0").start()
        self.assert_all_end(job, 2)
        for part in ("channel 'training'", "Pipe mode", "FastFile"):
            self.assertIn(part, job["algo-1"].reason())
        self.assertIsNone(job.note("spool--training_0"))
        self.assert_not_trained(job)


if __name__ == "__main__":
    unittest.main(verbosity=2)
