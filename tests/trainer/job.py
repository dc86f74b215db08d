"""A folder of its own, small data sets, and `convoy` run in it: what the tests of the built programs share."""
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BIN = os.path.abspath(os.environ["CONVOY_BIN"])
CONVOY = os.path.join(BIN, "convoy")
LIMIT_S = 240  # what has not ended by then hangs; nothing here measures time
OURS = ("OMPI_MCA", "OMPI_COMM", "CONVOY_", "SM_", "PMI", "SLURM_")


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", HWLOC_HIDE_ERRORS="2")
    return env


def wait_until(condition, seconds=LIMIT_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.02)


def descendants(pid):
    """Ids of all processes below a process, by /proc."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                parents[int(name)] = int(stat.read().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    found, rest = [], [pid]
    while rest:
        at = rest.pop()
        below = [p for p, parent in parents.items() if parent == at]
        found += below
        rest += below
    return found


def ranks_of(process):
    """Ids of the ranks that a `convoy` has started."""
    found = []
    for pid in descendants(process.pid):
        try:
            with open(f"/proc/{pid}/comm") as comm:
                if comm.read().strip() == "convoy-train":
                    found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return sorted(found)


def tell_otherwise(path, **changes):
    """A checkpoint as somebody would make it who knows its sums (trainer/checkpoint/README.md), of other metadata; None: without
    that key. The metadata that it had."""
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    had = header.pop("__metadata__")
    metadata = {key: changes.get(key, value) for key, value in had.items() if changes.get(key, value) is not None}
    told = b"".join(f"{k}\0{v}\0".encode() for k, v in metadata.items() if not k.endswith("_sha256"))
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        numbers = [{"I64": 0, "F32": 1}[t["dtype"]], len(t["shape"]), *t["shape"]]
        told += name.encode() + b"\0" + struct.pack(f"<{len(numbers)}Q", *numbers)
    metadata["header_sha256"] = hashlib.sha256(told).hexdigest()
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode().ljust(length)
    assert len(text) == length
    with open(path, "wb") as file:
        file.write(data[:8] + text + data[8 + length:])
    return had


class Job(unittest.TestCase):
    """Each case works in a new empty folder; `self.data` is made once for all of a class."""

    AT_ONCE = 3  # cases: they mostly wait, for mpirun, for an end, for a lease
    FIRST = ()   # those that take longest

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="convoy-job-")
        cls.addClassCleanup(shutil.rmtree, cls.shared)
        cls.data = os.path.join(cls.shared, "data")
        subprocess.run([CONVOY, "synth", cls.data, "--classes", "2", "--size", "32", "--count", "32"], check=True)
        cls.train = os.path.join(cls.data, "train")

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="convoy-job-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.env = environment()

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def keep_apart(self):
        """From now on ranks find no memory to share (apart.c)."""
        self.env["LD_PRELOAD"] = os.path.join(BIN, "libapart.so")
        self.env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"

    def copy_of_train(self, name="pictures"):
        shutil.copytree(self.train, self.path(name))
        return name

    def pictures_of(self, folder):
        return sorted(os.path.join(top, name) for top, _, names in os.walk(self.path(folder)) for name in names)

    def options(self, **more):
        """A run of a second: one epoch of two steps of two micro-batches."""
        options = {"data": self.data, "model": "resnet20", "epochs": 1, "global-batch": 16, "micro-batch": 8,
                   "threads": 1}
        options.update({name.replace("_", "-"): value for name, value in more.items()})
        return [f"--{name}={value}" for name, value in options.items() if value is not None]

    def start(self, *words, file_bytes_max=None):
        if file_bytes_max is not None:
            words = ("prlimit", f"--fsize={file_bytes_max}", *words)
        with open(self.path("stdout"), "w") as out, open(self.path("stderr"), "w") as err:
            process = subprocess.Popen(words, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=err)
        self.addCleanup(self.end_of, process)
        return process

    @staticmethod
    def end_of(process):
        if process.poll() is None:
            process.kill()
            process.wait()

    def wait(self, process):
        try:
            status = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.fail(f"hangs; it said:\n{self.text('stderr')}")
        self.out, self.err = self.text("stdout"), self.text("stderr")
        return status

    def text(self, name):
        with open(self.path(name), errors="surrogateescape") as file:
            return file.read()

    def convoy(self, ranks, *words, **more):
        return self.wait(self.start(CONVOY, "train", f"--ranks-per-host={ranks}", *words, **more))

    def foreign(self, ranks, *words):
        return ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", "--mca", "btl",
                "self,vader", "-n", str(ranks), CONVOY, "train", *words]

    def events(self, *kinds):
        """metrics.jsonl; a line that is being written is not there yet."""
        try:
            lines = self.text("report/metrics.jsonl").split("\n")[:-1]
        except FileNotFoundError:
            return []
        events = [json.loads(line) for line in lines]
        return [e for e in events if not kinds or e["event"] in kinds]

    def checkpoints(self, folder="checkpoint"):
        """Steps of the committed checkpoints, oldest first."""
        if not os.path.isdir(self.path(folder)):
            return []
        found = (re.fullmatch(r"step-(\d+)-g(\d+)\.safetensors", name) for name in os.listdir(self.path(folder)))
        return sorted(int(match[1]) for match in found if match)

    def assert_one_error(self, *words):
        """One line carries the error; nobody else has anything to say about the end."""
        errors = [line for line in self.err.splitlines() if "error: " in line]
        self.assertEqual(len(errors), 1, self.err)
        for word in words:
            self.assertIn(word, errors[0])
        self.assertEqual(self.err.splitlines()[-1], errors[0], self.err)
        for chatter in ("MPI_ABORT", "-----", "mpirun", "Primary job"):
            self.assertNotIn(chatter, self.err)
        self.assertNotIn("sha256", self.out)

    def sha256(self):
        return re.search(r"^weights sha256=([0-9a-f]{64})$", self.out, re.M)[1]


def _run_case(case):
    result = unittest.TestResult()
    begun = time.monotonic()
    case.run(result)
    bad = [trace for _, trace in [*result.failures, *result.errors]]
    how = "FAILED" if bad else f"skipped: {result.skipped[0][1]}" if result.skipped else "ok"
    print(f"{case.id().split('.', 1)[1]}: {how} ({time.monotonic() - begun:.1f} s)", flush=True)
    return bad


def main(cases):
    """All cases of the class, or those that the command line names, AT_ONCE of them side by side."""
    names = [name.split(".")[-1] for name in sys.argv[1:]] or unittest.TestLoader().getTestCaseNames(cases)
    names = sorted(names, key=lambda name: name not in cases.FIRST)
    try:
        cases.setUpClass()
        with concurrent.futures.ThreadPoolExecutor(cases.AT_ONCE) as pool:
            bad = sum(pool.map(_run_case, [cases(name) for name in names]), [])
    finally:
        cases.doClassCleanups()
    print("".join(f"{'=' * 70}\n{trace}\n" for trace in bad) + f"{len(names)} cases, {len(bad)} failures")
    sys.exit(1 if bad else 0)
