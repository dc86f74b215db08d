#!/usr/bin/env python3
"""PyTorch's side of compare_torch and compare_loss: the same networks, trained on the CPU from data in memory.

  torch_peer.py speed --model resnet50 --batch 32 [--format channels_last] [--threads 1] [--steps 3] [--warmup 1]
  torch_peer.py about
  torch_peer.py init --model resnet50 [--weights calm] WEIGHTS.safetensors
  torch_peer.py losses --model resnet50 --batch 8 --size 224 --steps 50 [--format ...] [--momentum 0.9] \\
                       WEIGHTS.safetensors DATA.f32 LABELS.i32

Each prints one JSON object on the last line of stdout. Needs PyTorch and NumPy; the networks are defined here, with
torchvision's names (He et al. 2015; "v1.5": the 3x3 convolution of a bottleneck carries the stride) and, for CIFAR, the paper's
shortcut A, as ours are. Calm weights: the last batch norm of each residual block begins with weight 0, so that the block begins
as its shortcut (Goyal et al. 2017, section 5.1; torchvision: zero_init_residual). compare_torch sets the environment:
threads, allocator, instruction set.
"""
import argparse
import json
import os
import statistics
import struct
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4


def conv(i, o, r, stride=1):
    return nn.Conv2d(i, o, r, stride, r // 2, bias=False)


class Basic(nn.Module):
    expansion = 1

    def __init__(self, i, width, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = conv(i, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, i, width, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = conv(i, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Pad(nn.Module):
    """Shortcut A: every second pixel, and channels of zeros behind."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.channels))


class ResNet(nn.Module):
    def __init__(self, block, counts, classes, cifar):
        super().__init__()
        first = 16 if cifar else 64
        self.conv1 = conv(3, first, 3 if cifar else 7, 1 if cifar else 2)
        self.bn1, self.relu = nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        self.count, i = len(counts), first
        for stage, count in enumerate(counts):
            width, blocks = first << stage, []
            for b in range(count):
                stride, o = 2 if stage > 0 and b == 0 else 1, width * block.expansion
                shortcut = None
                if cifar and i != o:
                    shortcut = Pad(o - i)
                elif stride != 1 or i != o:
                    shortcut = nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))
                blocks.append(block(i, width, stride, shortcut))
                i = o
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(i, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.count):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def make(name):
    """The network, its classes and its usual image size."""
    deep = {"resnet18": (Basic, (2, 2, 2, 2)), "resnet34": (Basic, (3, 4, 6, 3)), "resnet50": (Bottleneck, (3, 4, 6, 3)),
            "resnet101": (Bottleneck, (3, 4, 23, 3)), "resnet152": (Bottleneck, (3, 8, 36, 3))}
    if name in deep:
        return ResNet(*deep[name], 1000, False), 1000, 224
    each = (int(name.replace("resnet", "")) - 2) // 6
    return ResNet(Basic, (each,) * 3, 10, True), 10, 32


# --- files ---

def read_tensors(path):
    """A safetensors file as {name: tensor}."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    state = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], {"F32": "<f4", "I64": "<i8"}[entry["dtype"]])
        state[name] = torch.from_numpy(values.copy()).reshape(entry["shape"])
    return state


def write_tensors(path, state):
    header, data = {}, []
    at = 0
    for name in sorted(state, key=lambda key: (state[key].dtype != torch.int64, key)):
        raw = state[name].detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": "I64" if state[name].dtype == torch.int64 else "F32", "shape": list(state[name].shape),
                        "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


# --- training ---

def peak_rss_mib():
    """Of this program alone; getrusage remembers what the process was before exec."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def place(net, memory_format):
    memory_format = getattr(torch, memory_format + "_format" if memory_format == "contiguous" else memory_format)
    return net.to(memory_format=memory_format).train(), memory_format


def optimizer(net, lr, momentum=MOMENTUM):
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=WEIGHT_DECAY)


def step(net, opt, x, y):
    opt.zero_grad(set_to_none=True)
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    return loss


def speed(o):
    net, classes, size = make(o.model)
    size = o.size or size
    net, memory_format = place(net, o.format)
    x = torch.rand(o.batch, 3, size, size).sub_(0.5).contiguous(memory_format=memory_format)
    y = torch.arange(o.batch) % classes
    opt = optimizer(net, 1e-3)
    for _ in range(o.warmup):
        step(net, opt, x, y)
    wall, cpu = [], []
    for _ in range(o.steps):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        step(net, opt, x, y)
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
    return {"model": o.model, "batch": o.batch, "image_size": size, "threads": o.threads, "format": o.format,
            "images_per_s": o.batch / statistics.median(wall), "images_per_s_min": o.batch / max(wall),
            "images_per_s_max": o.batch / min(wall), "images_per_cpu_s": o.batch / statistics.median(cpu),
            "peak_rss_mib": peak_rss_mib(), "version": torch.__version__}


def about(_):
    """oneDNN says on stdout what it takes for a convolution, where ONEDNN_VERBOSE is 1."""
    net = nn.Conv2d(64, 64, 3, padding=1)  # large enough that PyTorch leaves it to oneDNN
    net(torch.rand(8, 64, 56, 56)).sum().backward()
    text = torch.__config__.show()
    onednn = [line.split("v", 1)[1].split()[0] for line in text.splitlines() if "MKL-DNN v" in line]
    capability = getattr(torch.backends.cpu, "get_cpu_capability", None) if hasattr(torch.backends, "cpu") else None
    return {"version": torch.__version__, "onednn": onednn[0] if onednn else None,
            "capability": capability() if capability else None, "threads": torch.get_num_threads(),
            "import_rss_mib": IMPORT_RSS_MIB}


def init(o):
    torch.manual_seed(o.seed)
    net = make(o.model)[0]
    if o.weights == "calm":
        for module in net.modules():
            if isinstance(module, (Basic, Bottleneck)):
                nn.init.zeros_((module.bn2 if isinstance(module, Basic) else module.bn3).weight)
    write_tensors(o.files[0], net.state_dict())
    return {"weights": o.files[0]}


def losses(o):
    """The rate grows to --lr over --warmup-steps steps and stays there."""
    net, _, size = make(o.model)
    size = o.size or size
    net.load_state_dict(read_tensors(o.files[0]), strict=True)
    net, memory_format = place(net, o.format)
    x = np.fromfile(o.files[1], "<f4").reshape(o.steps, o.batch, size, size, 3)
    y = torch.from_numpy(np.fromfile(o.files[2], "<i4").astype(np.int64)).reshape(o.steps, o.batch)
    opt = optimizer(net, 0.0, o.momentum)
    found = []
    for i in range(o.steps):
        opt.param_groups[0]["lr"] = o.lr * min(1.0, (i + 1) / max(1, o.warmup_steps))
        batch = torch.from_numpy(x[i]).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
        found.append(float(step(net, opt, batch, y[i])))
    return {"losses": found, "version": torch.__version__}


IMPORT_RSS_MIB = peak_rss_mib()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "about", "init", "losses"])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--format", choices=["contiguous", "channels_last"], default="contiguous")
    parser.add_argument("--weights", choices=["calm", "default"], default="default")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=MOMENTUM)
    for name, value in (("batch", 32), ("size", 0), ("threads", 1), ("steps", 3), ("warmup", 1), ("warmup-steps", 10),
                        ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    print(json.dumps({"speed": speed, "about": about, "init": init, "losses": losses}[o.what](o)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
