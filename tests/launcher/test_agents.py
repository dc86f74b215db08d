#!/usr/bin/env python3
"""`convoy train` on several hosts that each start it by themselves: they meet, they run, they end alike."""
import os
import re
import shutil
import signal
import subprocess
import unittest

from hosts_case import GONE_S, WAIT_S, Case, wait_until

TWELVE = [f"algo-{i}" for i in range(1, 13)]
UNKNOWN = re.compile("name resolution|not known")  # with and without an answer from a name server
IN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_have_namespaces():
    try:
        return subprocess.run([*IN_NAMESPACE, "mount", "--bind", "/etc/hosts", "/etc/hosts"],
                              stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


class Agents(Case):
    # How a job ends

    def test_all_hosts_end_with_the_ranks_status(self):
        job = self.job(FAKE="exit-0").start("algo-1", ONLY_THERE="a secret").start("algo-2")
        self.assert_all_end(job, 0)
        self.assertEqual(["ONLY_THERE" in job.env_of_rank(rank) for rank in range(4)], [True, True, False, False])
        self.assertEqual([host.failure() for host in job.hosts.values()], [None, None])
        for end, status, says in (("exit 3", 3, "rank 3 lost its ship " + "x" * 3000), ("kill -11 $$", 139, "")):
            job = self.job(FAKE="last", FAKE_END=end, FAKE_SAYS=says).start()
            self.assert_all_end(job, status)
            self.assert_one_reason(job, says[:21] or "signal 11")
            self.assert_nothing_is_left(job)
            for host in job.hosts.values():
                self.assertEqual(os.listdir(host.temp), [])

    def assert_one_reason(self, job, part):
        """The same on every host, and as much as the platform shows."""
        for host in job.hosts.values():
            self.assertLessEqual(len(host.failure()), 1024)
            self.assertIn(part, host.reason())
        self.assertEqual(len({host.reason() for host in job.hosts.values()}), 1)

    def test_a_failure_file_that_is_there_stays(self):
        job = self.job(FAKE="exit-3")
        for host in job.hosts.values():
            os.mkdir(os.path.join(host.base, "output"))
            with open(os.path.join(host.base, "output", "failure"), "w") as file:
                file.write("said before")
        self.assert_all_end(job.start(), 3)
        self.assertEqual({host.failure() for host in job.hosts.values()}, {"said before"})

    def test_a_host_that_refuses_its_options_ends_all_with_2(self):
        job = self.job(FAKE="exit-0")
        job.start("algo-1")
        job["algo-2"].start(FAKE_CHECK="2")
        self.assert_all_end(job, 2)
        self.assertIsNone(job.note("words-0"))

    # Deaths

    def kill_one(self, which):
        job = self.job(FAKE="wait").start()
        job.wait_for("up-0", "up-1", "up-2", "up-3")
        pid = int(job.note("pid-3")) if which == "rank" else job[which].process.pid
        os.kill(pid, signal.SIGKILL)
        statuses = job.wait(GONE_S)
        self.assert_nothing_is_left(job)
        return job, statuses

    def test_a_killed_agent_ends_the_job(self):
        job, statuses = self.kill_one("algo-2")
        self.assertEqual(statuses, {"algo-1": 3, "algo-2": -9}, job.logs())
        self.assertIn("'algo-2' is lost", job["algo-1"].failure())

    def test_a_killed_leader_ends_the_job(self):
        job, statuses = self.kill_one("algo-1")
        self.assertEqual(statuses, {"algo-1": -9, "algo-2": 3}, job.logs())
        self.assertIn("has lost the first host, 'algo-1'", job["algo-2"].failure())

    def test_a_killed_rank_ends_the_job(self):
        job, statuses = self.kill_one("rank")
        self.assertEqual(statuses, {"algo-1": 137, "algo-2": 137}, job.logs())
        self.assert_one_reason(job, "signal 9")

    # Waiting for each other

    def test_a_leader_that_never_comes_is_said_at_the_deadline(self):
        job = self.job(words=["--rendezvous-timeout=1"], FAKE="exit-0")
        self.assertEqual(job["algo-2"].start().wait(), 3)
        for part in ("'algo-2'", "'algo-1'", f"port {job.port}", "within 1 s", "refused"):
            self.assertIn(part, job["algo-2"].failure())
        self.assertIn(job["algo-2"].failure(), job["algo-2"].log())

    def test_the_deadline_may_be_a_hyperparameter(self):
        job = self.job(FAKE="exit-0", SM_HP_RENDEZVOUS_TIMEOUT="1")
        self.assertEqual(job["algo-2"].start().wait(), 3)

    def test_a_host_that_never_comes_is_named(self):
        job = self.job(names=["algo-1", "algo-2", "algo-3"], words=["--rendezvous-timeout=2"], FAKE="exit-0")
        job.start("algo-1", "algo-2")
        self.assertEqual([job["algo-1"].wait(), job["algo-2"].wait()], [3, 3], job.logs())
        for name in ("algo-1", "algo-2"):
            self.assertTrue(job[name].reason().endswith("in vain for: algo-3"), job.logs())
            self.assertEqual(job[name].log().count(job[name].reason()), 1, job.logs())

    @unittest.skipUnless(can_have_namespaces(), "no mount namespace for a /etc/hosts of its own")
    def test_a_name_that_resolves_late_is_asked_for_again(self):
        job = self.job(FAKE="exit-0")
        own = os.path.join(job.folder, "hosts")
        shutil.copy("/etc/hosts", own)
        with open(os.path.join(job.folder, "resolv.conf"), "w") as file:
            file.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")  # nobody answers there
        bind = f"mount --bind {own} /etc/hosts && mount --bind {job.folder}/resolv.conf /etc/resolv.conf || exit 9; exec \"$@\""
        job["algo-1"].start()
        job["algo-2"].start("--leader-address=late-leader", before=[*IN_NAMESPACE, "sh", "-c", bind, "sh"], CONVOY_LOG="debug")
        wait_until(lambda: UNKNOWN.search(job["algo-2"].log()) or job["algo-2"].process.poll() is not None, what=job.logs)
        with open(own, "a") as file:
            file.write("127.0.0.1 late-leader\n")
        self.assert_all_end(job, 0)

    # Names, numbers, networks

    def test_twelve_hosts_are_numbered_as_text_and_the_files_name_goes_before_the_environments(self):
        job = self.job(names=TWELVE, words=["--ranks-per-host=1"], FAKE="exit-0", SM_CURRENT_HOST="algo-7")
        self.assert_all_end(job.start(), 0, 2 * WAIT_S)
        order = sorted(TWELVE)
        self.assertEqual(order[:4], ["algo-1", "algo-10", "algo-11", "algo-12"])
        self.assertEqual([job.env_of_rank(rank)["SM_CURRENT_HOST"] for rank in range(12)], order)
        for rank in range(12):
            env = job.env_of_rank(rank)
            self.assertEqual(env["CONVOY_HOSTS"], "12")
            self.assertEqual(env["OMPI_MCA_btl_tcp_if_include"], "lo")
            self.assertEqual(env["OMPI_MCA_oob_tcp_if_include"], "lo")
            self.assertNotIn("CONVOY_JOB_KEY", env)

    def test_hosts_without_the_current_one_is_one_line(self):
        job = self.job(resources={"current_host": "algo-9"}, FAKE="exit-0")
        self.assertEqual(job["algo-1"].start().wait(), 2)
        self.assertEqual(len(job["algo-1"].log().splitlines()), 1, job.logs())
        self.assertIn("'algo-9' is not among the hosts: algo-1, algo-2", job["algo-1"].failure())

    def test_an_interface_that_does_not_exist_is_refused(self):
        job = self.job(words=["--interface=nosuch0"], FAKE="exit-0").start()
        self.assert_all_end(job, 2)
        self.assertIn("--interface: this host has no network interface 'nosuch0'; it has: ", job["algo-1"].failure())

    def test_the_platforms_interface_that_does_not_exist_gives_way_to_the_network_that_worked(self):
        job = self.job(resources={"network_interface_name": "ethwe"}, FAKE="exit-0").start()
        self.assert_all_end(job, 0)
        self.assertIn("no network interface 'ethwe'", job["algo-1"].log())
        self.assertEqual(job.env_of_rank(3)["OMPI_MCA_btl_tcp_if_include"], "127.0.0.0/8")

    # Stops, restarts, neighbours

    def test_sigterm_to_one_host_stops_all(self):
        for name in ("algo-2", "algo-1"):
            job = self.job(FAKE="wait").start()
            job.wait_for("up-0", "up-1", "up-2", "up-3")
            job[name].process.send_signal(signal.SIGTERM)
            self.assert_all_end(job, 75)
            self.assert_nothing_is_left(job)

    def test_ranks_are_started_again_on_all_hosts(self):
        job = self.job(words=["--ranks-per-host=2", "--max-restarts=1", "--checkpoint=c"], FAKE="last-once",
                       FAKE_END="kill -9 $$").start()
        self.assert_all_end(job, 0)
        self.assertEqual([job.note(f"starts-{rank}") for rank in range(4)], ["2\n"] * 4)
        self.assertIn("restart 1 of at most 1", job["algo-1"].log())
        self.assertIsNone(job["algo-2"].failure())

    def test_two_jobs_on_one_machine_leave_each_other_alone(self):
        lasting = self.job(FAKE="until-told").start()
        dying = self.job(FAKE="wait").start()
        for job in (lasting, dying):
            job.wait_for("up-0", "up-1", "up-2", "up-3")
        dying["algo-1"].process.kill()
        self.assertEqual(dying.wait(GONE_S)["algo-2"], 3)
        self.assert_nothing_is_left(dying)
        lasting.tell("go")
        self.assert_all_end(lasting, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
