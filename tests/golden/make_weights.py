#!/usr/bin/env python3
"""Write weights/*.pth: small files of torch.save, for tests/weights to read.

Run with a Python that has torch (Debian 12: apt-get install python3-torch; made with PyTorch 1.13, modern.pth with 2.15):

    /usr/bin/python3 make_weights.py          all but modern.pth
    python3 make_weights.py modern            modern.pth, with a newer PyTorch

Every tensor counts from some number in its own order, whatever its type and its strides, so that the tests need no table.
"""
import collections
import os
import sys
import zipfile

import torch

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights")


def counted(start, *shape, dtype=torch.float32):
    count = torch.Size(shape).numel()
    return torch.arange(start, start + count).to(dtype).reshape(shape)


def plain():
    """What a network's state_dict looks like: every type, a scalar, a tensor without elements."""
    state = collections.OrderedDict()
    state["conv.weight"] = counted(-10, 4, 3, 2, 2)
    state["half"] = counted(1, 5, dtype=torch.float16)
    state["brain"] = counted(2, 5, dtype=torch.bfloat16)
    state["double"] = counted(3, 2, 3, dtype=torch.float64)
    state["bytes"] = counted(4, 3, dtype=torch.uint8)
    state["chars"] = counted(-3, 6, dtype=torch.int8)
    state["shorts"] = counted(-300, 3, dtype=torch.int16)
    state["ints"] = counted(70000, 3, dtype=torch.int32)
    state["flags"] = counted(0, 2, dtype=torch.bool)
    state["empty"] = torch.zeros(0, 4)
    state["bn.num_batches_tracked"] = torch.tensor(7)
    return state


def views():
    """Tensors that do not lie as one run, and tensors that share their storage."""
    state = collections.OrderedDict()
    base = counted(0, 60)
    state["whole"] = base
    state["tail"] = base[50:]  # 50 ...
    state["transposed"] = counted(0, 5, 4).t().contiguous().t()  # column by column in memory
    four = counted(0, 2, 3, 4, 5).permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    state["four"] = four
    state["channels_last"] = counted(0, 2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    state["repeated"] = counted(5, 1).expand(3, 4)  # every element is 5
    return state


def wrapped():
    """A checkpoint as PyTorch's ImageNet example writes it, of a DataParallel."""
    state = collections.OrderedDict(("module." + name, tensor) for name, tensor in plain().items())
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    weight = torch.nn.Parameter(counted(0, 3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    return {"epoch": 90, "arch": "resnet18", "state_dict": state, "best_acc1": torch.tensor(76.1), "done": True, "none": None,
            "optimizer": optimizer.state_dict(), "list": [1, -2, 3.5, (4, "five"), 1 << 40]}


def parameters():
    return collections.OrderedDict([("weight", torch.nn.Parameter(counted(0, 3, 2))), ("bias", torch.nn.Parameter(counted(6, 3)))])


def save(name, what, **options):
    torch.save(what, os.path.join(FOLDER, name), **options)


def deflate(source, target):
    """The same zip, compressed, and in another order."""
    with zipfile.ZipFile(os.path.join(FOLDER, source)) as old, \
            zipfile.ZipFile(os.path.join(FOLDER, target), "w", zipfile.ZIP_DEFLATED) as new:
        for name in reversed(old.namelist()):
            new.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), old.read(name), zipfile.ZIP_DEFLATED)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    if sys.argv[1:] == ["modern"]:
        save("modern.pth", plain())
        return
    for kind, options in (("zip", {}), ("old", {"_use_new_zipfile_serialization": False})):
        save(f"plain-{kind}.pth", plain(), **options)
        save(f"views-{kind}.pth", views(), **options)
        save(f"wrapped-{kind}.pth", wrapped(), **options)
        save(f"parameters-{kind}.pth", parameters(), **options)
    save("gr\u00f6\u00dfe.pth", parameters())
    deflate("plain-zip.pth", "deflated.pth")


if __name__ == "__main__":
    main()
