#!/usr/bin/env python3
"""`convoy train --hosts`: what goes to the other hosts over ssh, and what comes of an ssh that fails. fake-ssh stands for ssh;
tests/lab has jobs over a real one."""
import os
import shutil
import signal
import subprocess
import unittest

from hosts_case import GONE_S, HERE, SETTINGS, WAIT_S, Case

NAMES = ["node-10", "node-2"]


class OverSsh(Case):
    def start(self, *words, **more):
        self.fake = self.job(NAMES)
        tools = os.path.join(self.fake.folder, "bin")
        os.mkdir(tools)
        shutil.copy(os.path.join(HERE, "fake-ssh"), os.path.join(tools, "ssh"))
        env = {key: value for key, value in os.environ.items() if not key.startswith((*SETTINGS, "AWS_"))}
        env.update(FAKE_DIR=self.fake.notes, TMPDIR=self.fake.folder, PATH=f"{tools}:{env['PATH']}",
                   OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", ASAN_OPTIONS="detect_leaks=0", **more)
        self.log = os.path.join(self.fake.folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.fake.convoy, "train", "--hosts", ",".join(NAMES), "--ranks-per-host=2", "--interface=lo", *words],
                env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)

    def text(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def run_job(self, status, *words, **more):
        self.start(*words, **more)
        self.assertEqual(self.process.wait(WAIT_S), status, self.text())
        self.assert_nothing_is_left(self.fake)

    def test_hosts_get_what_their_ranks_need_and_no_more(self):
        self.run_job(0, "--data", "a b", FAKE="exit-0", AWS_SECRET_ACCESS_KEY="it's \"secret\"", ONLY_THERE="x",
                     CONVOY_JOB_KEY="x" * 32, CONVOY_HOST="the-first")
        self.assertEqual([self.fake.env_of_rank(rank)["TMPDIR"].rsplit("-", 2)[-2:] for rank in range(4)],
                         [["node", "10"], ["node", "10"], ["node", "2"], ["node", "2"]])  # as given, not sorted
        for rank in range(4):
            env = self.fake.env_of_rank(rank)
            self.assertEqual(self.fake.note(f"words-{rank}"), "train\n--data\na b\n")
            self.assertEqual(env["AWS_SECRET_ACCESS_KEY"], "it's \"secret\"")
            self.assertEqual((env["CONVOY_HOSTS"], env["PWD"]), ("2", self.folder))
            self.assertFalse({"ONLY_THERE", "CONVOY_JOB_KEY", "CONVOY_HOST"} & set(env))
        for name in NAMES:
            self.assertEqual(self.fake.note(f"ssh-{name}"), f"'{self.fake.convoy}' agent\n")

    def test_a_host_that_ssh_cannot_enter_is_named_with_sshs_reason(self):
        self.run_job(3, FAKE="exit-0", FAKE_SSH_REFUSED="node-2")
        self.assertIn("host 'node-2' is lost: root@node-2: Permission denied (publickey).", self.text())
        self.assertIsNone(self.fake.note("words-0"))

    def test_a_killed_rank_ends_the_job_with_its_status(self):
        self.run_job(137, FAKE="last", FAKE_END="kill -9 $$")

    def test_agents_end_with_a_killed_leader(self):
        self.start(FAKE="wait")
        self.fake.wait_for("up-0", "up-1", "up-2", "up-3")
        self.process.send_signal(signal.SIGKILL)
        self.assert_nothing_is_left(self.fake, GONE_S)

    def test_the_agent_is_not_for_people(self):
        done = subprocess.run([os.path.join(os.environ["CONVOY_BIN"], "convoy"), "agent"], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
