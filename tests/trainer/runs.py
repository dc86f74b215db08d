"""Runs of the built programs in a folder of their own, for tests that compare what the runs leave."""
import json
import os
import shutil
import subprocess
import tempfile

# What the place where the tests run may say about other jobs must not reach ours.
FOREIGN = ("OMPI_MCA_", "OMPI_COMM_", "CONVOY_", "SM_", "PMI", "SLURM_", "OMP_", "OPENBLAS_")


class Failed(Exception):
    pass


class Runs:
    """A temporary folder, and the programs of CONVOY_BIN (else those of the ci preset) started in it."""

    def __init__(self):
        here = os.path.dirname(os.path.abspath(__file__))
        bin_folder = os.environ.get("CONVOY_BIN", os.path.join(here, "..", "..", "build", "ci", "bin"))
        self.convoy = os.path.join(os.path.abspath(bin_folder), "convoy")
        if not os.path.exists(self.convoy):
            raise SystemExit(f"there is no '{self.convoy}': build it, or set CONVOY_BIN")
        self.folder = tempfile.mkdtemp(prefix="convoy-runs-")
        os.mkdir(self.path("tmp"))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        # More threads than cores are asked for on purpose: they should not spin while they wait.
        self.env.update(TMPDIR=self.path("tmp"), OMP_WAIT_POLICY="passive")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self, *words):
        return subprocess.Popen([self.convoy, *map(str, words)], cwd=self.folder, env=self.env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def call(self, *words):
        process = self.start(*words)
        out, err = process.communicate()
        if process.returncode != 0:
            raise Failed(f"convoy {' '.join(map(str, words))}: exit {process.returncode}\n{out}{err}")
        return out

    def synth(self, name, **options):
        """Draw pictures; each seed only once."""
        if not os.path.exists(self.path(name)):
            self.call("synth", name, *as_words(options))
        return name

    def train(self, name, apart=False, **options):
        """Train to the end; what is left has `name`. Returns the weights' sha256. apart: as hosts to each other, the ranks
        exchange gradients by MPI alone."""
        if apart:
            self.env.update(LD_PRELOAD=os.path.join(os.path.dirname(self.convoy), "libapart.so"),
                            ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0")
        try:
            out = self.call("train", *as_words(options), "--model-dir", name, "--report", name + "-report")
        finally:
            self.env.pop("LD_PRELOAD", None)
        return sha256_of(out)

    def model(self, name):
        with open(self.path(name, "model.safetensors"), "rb") as file:
            return file.read()

    def events(self, name):
        """The events of a run's metrics.jsonl. A last line that is still being written is left out."""
        try:
            with open(self.path(name + "-report", "metrics.jsonl")) as file:
                lines = file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]


def as_words(options):
    return [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), str(value))]


def sha256_of(out):
    last = out.splitlines()[-1] if out else ""
    if not last.startswith("weights sha256=") or len(last) != len("weights sha256=") + 64:
        raise Failed(f"the last line is no sha256: '{last}'")
    return last.split("=")[1]
