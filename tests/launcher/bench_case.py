"""`convoy bench` with a stand-in for convoy-train that prints given figures: what the tests of the benchmarks share."""
import os
import shutil
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT_S = 120
# One process in place of mpirun's many: the stand-in's rank 0 is all that speaks.
MPIRUN = """#!/bin/sh
while :; do case $1 in -np) size=$2 ;; */convoy-train) break ;; esac; shift; done
OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=$size exec "$@"
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class BenchCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="convoy-bench-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.convoy = shutil.copy(os.path.join(os.environ["CONVOY_BIN"], "convoy"), self.folder)
        shutil.copy(os.path.join(HERE, "fake-bench"), os.path.join(self.folder, "convoy-train"))
        self.write("mpirun", MPIRUN)
        os.chmod(self.path("mpirun"), 0o755)
        ours = ("OMPI_", "CONVOY_", "SM_", "PMI", "SLURM_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.env.update(FAKE_DIR=self.folder, PATH=f"{self.folder}:{os.environ['PATH']}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def read(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def start(self, *words, lines=(), **env):
        self.write("figures", "".join(line + "\n" for line in lines))
        process = subprocess.Popen([self.convoy, "bench", *words], env={**self.env, **env}, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        return process

    def run_bench(self, *words, **more):
        process = self.start(*words, **more)
        self.out, self.err = process.communicate(timeout=WAIT_S)
        return process.returncode

    def messages(self):
        return [line for line in self.err.splitlines() if "is busy already" not in line]

    def runs(self):
        return self.read("runs").splitlines() if os.path.exists(self.path("runs")) else []

    def use_real(self):
        os.remove(self.path("convoy-train"))
        os.remove(self.path("mpirun"))
        os.symlink(os.path.abspath(os.path.join(os.environ["CONVOY_BIN"], "convoy-train")), self.path("convoy-train"))
