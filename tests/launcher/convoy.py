#!/usr/bin/env python3
"""The built `convoy` with a stand-in for convoy-train beside it: what it passes on, how it stops, how it ends."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT_S = 60  # for what must happen; a loaded machine is slow, and nothing here measures time


def wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Convoy(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="convoy-cli-")
        self.addCleanup(wait_until, self.remove)
        self.temp = os.path.join(self.folder, "tmp")
        os.mkdir(self.temp)
        self.convoy = shutil.copy(os.path.join(os.environ["CONVOY_BIN"], "convoy"), self.folder)
        shutil.copy(os.path.join(HERE, "fake-train"), os.path.join(self.folder, "convoy-train"))
        ours = ("OMPI_", "CONVOY_", "SM_", "PMI", "SLURM_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.env.update(FAKE_DIR=self.folder, FAKE="exit-0", TMPDIR=self.temp)

    def remove(self):
        """mpirun may still be removing its own folders."""
        shutil.rmtree(self.folder, ignore_errors=True)
        return not os.path.exists(self.folder)

    def start(self, *words, **env):
        self.env.update(env)
        process = subprocess.Popen([self.convoy, *words], env=self.env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def end(self, process):
        self.out, self.err = process.communicate(timeout=WAIT_S)
        return process.returncode

    def run_convoy(self, *words, **env):
        return self.end(self.start(*words, **env))

    def lines_of(self, name):
        with open(os.path.join(self.folder, name)) as file:
            return file.read().split("\n")[:-1]

    def wait_for(self, *names):
        wait_until(lambda: all(os.path.exists(os.path.join(self.folder, n)) for n in names))

    def env_of_rank(self, rank):
        return dict(line.split("=", 1) for line in self.lines_of(f"env-{rank}") if "=" in line)

    # verbs

    def test_help_and_version_go_to_stdout_when_asked_for(self):
        for words in (["--help"], ["help"], ["-h"]):
            self.assertEqual(self.run_convoy(*words), 0)
            for verb in ("train", "synth", "pack", "s3", "--version"):
                self.assertIn(f"convoy {verb}", self.out)
        help_of_all = self.out
        self.assertEqual(self.run_convoy("bench", "--help"), 0)
        benches = re.findall(r"^  (\w+) ", self.out, re.M)
        self.assertIn(f"convoy bench {'|'.join(benches)} ...", help_of_all)
        self.assertEqual(self.run_convoy("--version"), 0)
        self.assertRegex(self.out, r"^convoy \d+\.\d+\.\d+\n$")

    def test_unknown_verb_is_one_line_and_2(self):
        for words in (["serve"], ["--frob"], [], ["help", "nosuch"]):
            self.assertEqual(self.run_convoy(*words), 2)
            self.assertEqual(len(self.err.splitlines()), 1)
            self.assertEqual(self.out, "")

    def test_synth_and_pack_become_convoy_train(self):
        for verb in ("synth", "pack"):
            process = self.start(verb, "a b", "--seed=1;$X", "", "--hosts", FAKE="exit-2")
            self.assertEqual(self.end(process), 2)
            self.assertEqual(self.lines_of("words-0"), [verb, "a b", "--seed=1;$X", "", "--hosts"])
            self.assertEqual(self.lines_of("pid-0"), [str(process.pid)])

    def test_train_help_shows_launch_options_then_convoy_trains(self):
        for words in (["train", "--help"], ["help", "train"], ["train", "--ranks-per-host", "2", "--help"]):
            self.assertEqual(self.run_convoy(*words), 0)
            self.assertIn("--ranks-per-host N", self.out)
            self.assertEqual(self.lines_of("words-0"), ["train", "--help"])

    def test_missing_convoy_train_is_named(self):
        os.remove(os.path.join(self.folder, "convoy-train"))
        self.assertEqual(self.run_convoy("train"), 1)
        self.assertIn("/convoy-train'", self.err)

    def test_closed_streams_are_held(self):
        """Else a socket or file would get stderr's number, and messages would be written into it."""
        self.env.update(FAKE="until-told")
        process = subprocess.Popen(["sh", "-c", 'exec "$0" train <&- >&- 2>&-', self.convoy], env=self.env)
        self.addCleanup(process.kill)
        self.wait_for("up-0")
        for fd in range(3):
            self.assertEqual(os.readlink(f"/proc/{process.pid}/fd/{fd}"), "/dev/null")
        open(os.path.join(self.folder, "go"), "w").close()
        self.assertEqual(process.wait(WAIT_S), 0)

    # words and settings

    def test_words_reach_every_rank_unchanged(self):
        odd = ["--data", "a  b", "--x='q\"", "--y=$HOME;`id`*", "", "\\", "--", "--hosts", "-x"]
        for ranks in (1, 2):
            self.assertEqual(self.run_convoy("train", "--ranks-per-host", str(ranks), *odd), 0, self.err)
            self.assertEqual(self.lines_of("check"), ["train", "--check-options", *odd])
            self.assertEqual(self.lines_of("check-ranks"), [str(ranks)])
            for rank in range(ranks):
                self.assertEqual(self.lines_of(f"words-{rank}"), ["train", *odd])

    def test_threads_and_settings_reach_every_rank(self):
        for ranks in (1, 2):
            self.assertEqual(self.run_convoy("train", f"--ranks-per-host={ranks}", "--threads=3",
                                             OPENBLAS_NUM_THREADS="7", CONVOY_JOB_KEY="k" * 32), 0)
            for rank in range(ranks):
                env = self.env_of_rank(rank)
                self.assertEqual(env["CONVOY_THREADS"], "3")
                self.assertEqual(env["OMP_NUM_THREADS"], "3")
                self.assertEqual(env["OPENBLAS_NUM_THREADS"], "1")
                self.assertNotIn("CONVOY_RANKS", env)
                self.assertNotIn("CONVOY_JOB_KEY", env)
                self.assertNotIn("CONVOY_TERMINAL_COLUMNS", env)

    def test_mpirun_args_reach_mpirun(self):
        self.assertEqual(self.run_convoy("train", "--ranks-per-host=2", "--mpirun-args",
                                         "-x 'FAKE_SAID=a b' --mca btl self,tcp"), 0, self.err)
        env = self.env_of_rank(1)
        self.assertEqual(env["FAKE_SAID"], "a b")
        self.assertEqual(env["OMPI_MCA_btl"], "self,tcp")

    def test_bad_launch_option_is_one_line_and_2(self):
        for words in (["--ranks-per-host", "0"], ["--hosts", "a,,b"], ["--hosts", "a:4"], ["--threads"],
                      ["--hostfile", "/nonexistent"], ["--min-hosts", "2"], ["--max-restarts", "1"]):
            self.assertEqual(self.run_convoy("train", *words), 2)
            self.assertEqual(len(self.err.splitlines()), 1, self.err)
            self.assertIn(words[0], self.err)
            self.assertFalse(os.path.exists(os.path.join(self.folder, "check")))

    def test_bad_train_option_is_one_line_and_starts_no_rank(self):
        self.assertEqual(self.run_convoy("train", "--ranks-per-host=2", FAKE_CHECK="2"), 2)
        self.assertEqual(self.err, "error: --epochs: 'x' is no number\n")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "pid-0")))

    def test_missing_mpirun_names_the_package(self):
        bare = os.path.join(self.folder, "path")
        os.mkdir(bare)
        for tool in ("sh", "cat", "env", "sleep"):
            os.symlink(shutil.which(tool), os.path.join(bare, tool))
        self.assertEqual(self.run_convoy("train", "--ranks-per-host=2", PATH=bare), 1)
        self.assertEqual(len(self.err.splitlines()), 1)
        self.assertIn("openmpi-bin", self.err)
        self.assertEqual(self.run_convoy("train"), 0)

    # how it ends

    def test_exit_status_is_the_ranks(self):
        for ranks, status in ((1, 0), (1, 1), (1, 2), (1, 3), (1, 75), (2, 0), (2, 75)):
            self.assertEqual(self.run_convoy("train", f"--ranks-per-host={ranks}", FAKE=f"exit-{status}"), status)
            self.assertEqual(len(self.err.splitlines()), 1, self.err)
        self.assertEqual(os.listdir(self.temp), [])

    def test_one_rank_failing_ends_all_with_its_line_and_status(self):
        for status in (2, 3):
            self.assertEqual(self.run_convoy("train", "--ranks-per-host=3", FAKE=f"rank1-exit-{status}"), status)
            self.assertEqual(self.err.splitlines()[1:], ["error: only rank 1 knows"])

    def test_killed_rank_is_said_in_one_line_and_137(self):
        for ranks in (1, 3):
            self.assertEqual(self.run_convoy("train", f"--ranks-per-host={ranks}", FAKE="last-rank-killed",
                                             FAKE_LAST=str(ranks - 1)), 137)
            self.assertEqual(len(self.err.splitlines()), 2, self.err)
            self.assertIn("died by signal 9 (Killed)", self.err)

    def test_ranks_die_with_a_killed_launcher(self):
        for ranks in (1, 2):
            process = self.start("train", f"--ranks-per-host={ranks}", FAKE="wait")
            names = [f"up-{rank}" for rank in range(ranks)]
            self.wait_for(*names)
            process.kill()
            pids = [self.lines_of(f"pid-{rank}")[0] for rank in range(ranks)]
            wait_until(lambda: not any(alive(pid) for pid in pids))
            for name in names:
                os.remove(os.path.join(self.folder, name))

    # signals

    def test_stop_signals_reach_the_ranks_as_sigusr1(self):
        for ranks, number in ((1, signal.SIGTERM), (1, signal.SIGINT), (1, signal.SIGUSR1), (1, signal.SIGHUP),
                              (2, signal.SIGTERM), (2, signal.SIGINT)):
            names = [f"up-{rank}" for rank in range(ranks)]
            process = self.start("train", f"--ranks-per-host={ranks}", FAKE="wait")
            self.wait_for(*names)
            process.send_signal(number)
            self.assertEqual(self.end(process), 75)
            for name in names:
                os.remove(os.path.join(self.folder, name))
        self.assertEqual(os.listdir(self.temp), [])

    def test_stop_signal_is_held_until_the_ranks_are_ready(self):
        for ranks in (1, 2):
            process = self.start("train", f"--ranks-per-host={ranks}", FAKE="late")
            self.wait_for("up-0")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(self.end(process), 75)
            os.remove(os.path.join(self.folder, "up-0"))

    def test_stop_signal_while_options_are_checked_is_not_lost(self):
        os.mkfifo(os.path.join(self.folder, "check"))  # the check waits until someone reads it
        process = self.start("train", FAKE="wait")
        with open(os.path.join(self.folder, "check")) as fifo:
            process.send_signal(signal.SIGTERM)
            fifo.read()
        self.assertEqual(self.end(process), 75)

    def test_second_interrupt_ends_deaf_ranks(self):
        for ranks in (1, 2):
            process = self.start("train", f"--ranks-per-host={ranks}", FAKE="deaf")
            names = [f"up-{rank}" for rank in range(ranks)]
            self.wait_for(*names)
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)  # two at once would be one
            process.send_signal(signal.SIGINT)
            self.assertEqual(self.end(process), 130)
            pids = [self.lines_of(f"pid-{rank}")[0] for rank in range(ranks)]
            wait_until(lambda: not any(alive(pid) for pid in pids))
            for name in names:
                os.remove(os.path.join(self.folder, name))

    # generations

    def test_ranks_are_started_again_when_allowed(self):
        self.assertEqual(self.run_convoy("train", "--max-restarts=2", "--checkpoint", "c", FAKE="die-once"), 0)
        self.assertEqual(self.lines_of("starts-0"), ["2"])
        self.assertEqual(self.lines_of("words-0"), ["train", "--checkpoint", "c"])

    def test_restarts_are_bounded_and_not_for_bad_input_or_stops(self):
        for status, starts in ((3, 3), (1, 3), (2, 1), (75, 1)):
            self.assertEqual(self.run_convoy("train", "--max-restarts=2", "--checkpoint=c", FAKE=f"exit-{status}"),
                             status)
            self.assertEqual(self.lines_of("starts-0"), [str(starts)])
            os.remove(os.path.join(self.folder, "starts-0"))

    # under another's mpirun

    def test_under_a_foreign_mpirun_it_becomes_one_rank(self):
        for env in ({"OMPI_COMM_WORLD_RANK": "1"}, {"PMIX_RANK": "1"}, {"SLURM_PROCID": "1", "PMI_RANK": "1"}):
            self.env = {k: v for k, v in self.env.items() if not k.startswith(("OMPI_", "PMI", "SLURM"))}
            process = self.start("train", "--data", "a b", "--threads=5", "--hosts", "a,b", FAKE="exit-75", **env)
            self.assertEqual(self.end(process), 75)
            rank = env.get("OMPI_COMM_WORLD_RANK", "0")  # how the stand-in counts
            self.assertEqual(self.lines_of(f"words-{rank}"), ["train", "--data", "a b"])
            self.assertEqual(self.lines_of(f"pid-{rank}"), [str(process.pid)])
            self.assertEqual(self.env_of_rank(rank)["CONVOY_THREADS"], "5")
            self.assertEqual(self.err, "")

    def test_ignored_launch_options_are_said_by_rank_0_alone(self):
        self.assertEqual(self.run_convoy("train", "--ranks-per-host=2", OMPI_COMM_WORLD_RANK="0"), 0)
        self.assertEqual(len(self.err.splitlines()), 1)
        self.assertIn("--ranks-per-host is ignored", self.err)

    def test_a_batch_script_of_slurm_is_no_rank(self):
        self.assertEqual(self.run_convoy("train", SLURM_PROCID="0"), 0)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "check")))

    def test_mpirun_convoy_train_gives_each_rank_its_words(self):
        self.env["OMPI_ALLOW_RUN_AS_ROOT"] = self.env["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
        done = subprocess.run(["mpirun", "--oversubscribe", "-np", "2", self.convoy, "train", "--data", "a b"],
                              env=self.env, stdin=subprocess.DEVNULL, timeout=WAIT_S)
        self.assertEqual(done.returncode, 0)
        for rank in range(2):
            self.assertEqual(self.lines_of(f"words-{rank}"), ["train", "--data", "a b"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
