#!/usr/bin/env python3
"""test_state_dict.py PROGRAM: what weights_torch_write leaves, read by Python's zipfile and, where there is one, by PyTorch
with weights_only=True."""
import os
import subprocess
import sys
import tempfile
import zipfile

try:
    import torch
except ImportError:
    torch = None

SHAPES = {"z.weight": (2, 3, 4, 5), "bias": (300,), "many": (700, 100), "scalar": (), "empty": (0, 4),
          "bn.num_batches_tracked": ()}


def check_zip(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == ["archive/data.pkl", "archive/byteorder", *(f"archive/data/{i}" for i in range(len(SHAPES))),
                         "archive/version"], names
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED and entry.date_time == (1980, 1, 1, 0, 0, 0), entry
            with open(path, "rb") as raw:
                raw.seek(entry.header_offset + 26)
                lengths = raw.read(4)
            begin = entry.header_offset + 30 + sum(int.from_bytes(lengths[i:i + 2], "little") for i in (0, 2))
            assert begin % 64 == 0, (entry.filename, begin)


def check_torch(path):
    state = torch.load(path, weights_only=True)
    assert type(state).__name__ == "OrderedDict" and {k: tuple(v.shape) for k, v in state.items()} == SHAPES, state
    assert list(state) == list(SHAPES)
    for name in ("z.weight", "bias", "many"):
        tensor = state[name]
        assert tensor.is_contiguous() and tensor.dtype == torch.float32 and not tensor.requires_grad
        assert torch.equal(tensor.flatten(), torch.arange(tensor.numel(), dtype=torch.float32)), name
    assert state["scalar"] == 1 and state["bn.num_batches_tracked"] == 1234567890123
    assert state["bn.num_batches_tracked"].dtype == torch.int64
    assert torch.load(path)["scalar"] == 1


def main():
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("one.pth", "two.pth")]
        for path in paths:
            subprocess.run([sys.argv[1], path], check=True)
        with open(paths[0], "rb") as one, open(paths[1], "rb") as two:
            assert one.read() == two.read(), "two files of the same tensors differ"
        check_zip(paths[0])
        if torch is None:
            print("skipped the half that needs PyTorch")
            sys.exit(77)
        check_torch(paths[0])


if __name__ == "__main__":
    main()
