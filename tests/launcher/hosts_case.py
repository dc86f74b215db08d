"""Several hosts for a test: as many launchers on this machine, each with a /opt/ml and a TMPDIR of its own, that meet at
127.0.0.1. Their names are invented, as on SageMaker; the ranks are fake-train's. Needs neither root nor a network.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT_S = 60   # for what must happen; a loaded machine is slow
GONE_S = 45   # after a death all hosts of the job must be gone (contract of the platform)
JOB_KEY = "a test's own secret"
SETTINGS = ("OMPI_", "CONVOY_", "SM_", "PMI", "SLURM_", "TRAINING_", "SAGEMAKER_")


def wait_until(condition, seconds=WAIT_S, what="what was waited for"):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Host:
    """One launcher of a job."""

    def __init__(self, job, name):
        self.job, self.name = job, name
        self.base = os.path.join(job.folder, name)
        self.temp = os.path.join(self.base, "tmp")
        config = os.path.join(self.base, "input", "config")
        os.makedirs(config)
        os.mkdir(self.temp)
        resources = {"current_host": name, "hosts": job.names, "network_interface_name": "lo"}
        for file, value in (("resourceconfig.json", {**resources, **job.resources}), ("hyperparameters.json", {}),
                            ("inputdataconfig.json", {})):
            with open(os.path.join(config, file), "w") as out:
                json.dump(value, out)

    def start(self, *words, before=(), **env):
        """before: words in front of ours, a program that ends by running them."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        environment.update(SAGEMAKER_BASE_DIR=self.base, TMPDIR=self.temp, TRAINING_JOB_NAME=self.job.name,
                           CONVOY_ONE_MACHINE="1", CONVOY_JOB_KEY=JOB_KEY, FAKE_DIR=self.job.notes,
                           OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        environment.update(self.job.env)
        environment.update(env)
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=0")
        environment = {key: value for key, value in environment.items() if value is not None}
        line = [*before, self.job.convoy, "train", f"--port={self.job.port}", "--leader-address=127.0.0.1",
                *self.job.words, *words]
        with open(os.path.join(self.base, "log"), "wb") as log:
            self.process = subprocess.Popen(line, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def log(self):
        with open(os.path.join(self.base, "log"), errors="replace") as log:
            return log.read()

    def wait(self, seconds=WAIT_S):
        return self.process.wait(seconds)

    def failure(self):
        """The text of the platform's failure file, the name of this host at its end; None: there is none."""
        try:
            with open(os.path.join(self.base, "output", "failure"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def reason(self):
        """The same without the host."""
        text, own = self.failure(), f" (host {self.name})"
        assert text.endswith(own), text
        return text[:-len(own)]


class Job:
    """A job of these hosts. folder is its own; env and words are for every launcher."""

    def __init__(self, folder, names, words=(), resources=None, **env):
        self.folder, self.names, self.words, self.resources = folder, list(names), list(words), resources or {}
        self.name, self.port = os.path.basename(folder), free_port()
        self.notes = os.path.join(folder, "notes")
        os.mkdir(self.notes)
        self.env = env
        self.convoy = shutil.copy(os.path.join(os.environ["CONVOY_BIN"], "convoy"), folder)
        shutil.copy(os.path.join(HERE, "fake-train"), os.path.join(folder, "convoy-train"))
        self.hosts = {name: Host(self, name) for name in names}

    def __getitem__(self, name):
        return self.hosts[name]

    def start(self, *names, **env):
        """The launchers of these hosts, or of all."""
        for name in names or self.names:
            self.hosts[name].start(**env)
        return self

    def wait(self, seconds=WAIT_S):
        """Exit statuses by host."""
        until = time.monotonic() + seconds
        return {name: host.wait(max(0.1, until - time.monotonic())) for name, host in self.hosts.items()}

    def note(self, name):
        """What fake-train wrote under this name; None: nothing yet."""
        try:
            with open(os.path.join(self.notes, name)) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def wait_for(self, *names):
        wait_until(lambda: all(self.note(name) is not None for name in names), what=lambda: f"{names} of {self.logs()}")

    def tell(self, name):
        open(os.path.join(self.notes, name), "w").close()

    def env_of_rank(self, rank):
        return dict(line.split("=", 1) for line in self.note(f"env-{rank}").splitlines() if "=" in line)

    def logs(self):
        return "".join(f"\n--- {name}\n{host.log()}" for name, host in self.hosts.items() if hasattr(host, "process"))

    def processes(self):
        """Of this job, whoever their parents are: what runs with its folder in the environment."""
        mark, found = f"FAKE_DIR={self.notes}\0".encode(), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/stat") as stat:
                    if mark in environ.read() and stat.read().rsplit(")", 1)[1].split()[0] != "Z":
                        found.append(int(pid))
            except OSError:
                continue
        return found

    def end(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for host in self.hosts.values():
            if hasattr(host, "process"):
                host.process.kill()
                host.process.wait()
        wait_until(lambda: not self.processes())  # their folders are removed next


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="convoy-hosts-", dir="/tmp")  # sockets have short paths
        self.addCleanup(shutil.rmtree, self.folder)
        self.jobs = 0

    def job(self, names=("algo-1", "algo-2"), words=("--ranks-per-host=2",), resources=None, **env):
        self.jobs += 1
        folder = os.path.join(self.folder, f"j{self.jobs}")
        os.mkdir(folder)
        job = Job(folder, names, words, resources, **env)
        self.addCleanup(job.end)
        return job

    def assert_all_end(self, job, status, seconds=WAIT_S):
        statuses = job.wait(seconds)
        self.assertEqual(statuses, {name: status for name in job.names}, job.logs())

    def assert_nothing_is_left(self, job, seconds=GONE_S):
        wait_until(lambda: not job.processes(), seconds, lambda: f"the end of {job.processes()}")
