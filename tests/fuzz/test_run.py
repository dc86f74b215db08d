#!/usr/bin/env python3
"""What `run` says where there is nothing to run."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77


def main():
    with tempfile.TemporaryDirectory(prefix="convoy-fuzz-run-") as top:
        folder = pathlib.Path(top, "tests", "fuzz")
        folder.mkdir(parents=True)
        for name in ("run", "CMakeLists.txt"):
            shutil.copy(HERE / name, folder)
        done = subprocess.run([sys.executable, folder / "run", "--built", "1", "tar", "json"], text=True, capture_output=True,
                              check=False)
        if done.returncode == SKIPPED:
            return SKIPPED
        expected = "tests/fuzz/run: not built: tar json; build it first: tests/fuzz/run 0\n"
        if (done.returncode, done.stdout, done.stderr) != (1, "", expected):
            print(f"targets that were never built: exit status {done.returncode}, {done.stdout}{done.stderr}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
