#!/usr/bin/env python3
"""test_torchvision.py LOGITS_PROGRAM [NETWORK...]: is the model file of a short training what torchvision's resnet18 has?
Tensor names and shapes against resnet18.tensors; then, where PyTorch is installed, check_torchvision.py, which compares all
networks, or those named, both ways; else the test counts as skipped."""
import json
import os
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "trainer"))
from runs import Failed, Runs  # noqa: E402

SIZE, CLASSES = 64, 5
SKIPPED = 77
PYTHONS = ("/usr/bin/python3", sys.executable)  # Debian's PyTorch belongs to the first


def table():
    """{name: shape}; the committed table is of 1000 classes, and leaves out the counts of batches."""
    with open(os.path.join(HERE, "resnet18.tensors")) as file:
        rows = [line.split() for line in file]
    shapes = {name: [int(size) for size in sizes] for name, *sizes in rows}
    shapes["fc.weight"][0] = shapes["fc.bias"][0] = CLASSES
    counts = [name.replace("running_mean", "num_batches_tracked") for name in shapes if "running_mean" in name]
    return {**shapes, **{name: [] for name in counts}}


def tensors(data):
    """The header of a safetensors file, read by hand: {name: entry}."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    if max(entry["data_offsets"][1] for entry in header.values()) != len(data) - 8 - length:
        raise Failed("the tensors do not end where the file does")
    return header


def check_table(data):
    ours, theirs = {name: entry["shape"] for name, entry in tensors(data).items()}, table()
    for name in sorted(set(ours) | set(theirs)):
        if ours.get(name) != theirs.get(name):
            raise Failed(f"{name}: {ours.get(name)} here, {theirs.get(name)} in torchvision")
    for name, entry in tensors(data).items():
        if entry["dtype"] != ("I64" if name.endswith("num_batches_tracked") else "F32"):
            raise Failed(f"{name} is of type {entry['dtype']}")
    print(f"{len(ours)} tensors: names, shapes and types are torchvision's")


def python_with_torch(env):
    for python in PYTHONS:
        if os.path.exists(python) and subprocess.run([python, "-c", "import numpy, torch, torchvision"], env=env,
                                                     stderr=subprocess.DEVNULL).returncode == 0:
            return python
    return None


def main(logits, networks):
    with Runs() as runs:
        runs.synth("data", classes=CLASSES, size=SIZE, count=30)
        for name, more in (("model", {}), ("hidden", {"head": "512-16-relu"})):
            runs.train(name, data="data", model="resnet18", image_size=SIZE, epochs=1, global_batch=8, micro_batch=4, lr=0.02,
                       warmup_epochs=0, **more)
        check_table(runs.model("model"))
        python = python_with_torch(runs.env)
        if python is None:
            print("SKIPPED: no python3 with torch and torchvision here (python3-torchvision), so outputs are not compared")
            return SKIPPED
        words = [logits, runs.convoy, runs.path("model"), runs.path("hidden"), *networks]
        return subprocess.run([python, os.path.join(HERE, "check_torchvision.py"), *words], cwd=runs.folder,
                              env=runs.env).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(os.path.abspath(sys.argv[1]), sys.argv[2:]))
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
