#!/usr/bin/env python3
"""PyTorch's side of compare_accuracy: a whole training, and the accuracy on the pictures set aside.

  torch_accuracy.py cifar CIFAR10 --seed 1 --threads 2         CIFAR10/train and /test: a folder per class
  torch_accuracy.py photos HYMENOPTERA --weights FILE.safetensors --seed 1 --threads 2          .../train and /val

Prints one JSON object on the last line of stdout. Needs PyTorch, NumPy and Pillow. The recipes' numbers are given by
compare_accuracy; the rate grows over the first epoch and falls to 0 as a cosine, step by step, as ours does.
"""
import argparse
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F
from torch import nn

import torch_peer
from torch_pictures import NORMALIZE, Folder, tensor, transform

PAD = 4
EVALUATED_TOGETHER = 250


def rate(peak, done, steps, epochs):
    """Of the step after `done` ones; an epoch has `steps`, of which the first is the warm-up."""
    if done < steps:
        return peak * (done + 1) / steps
    return peak * 0.5 * (1 + math.cos(math.pi * (done - steps) / (steps * (epochs - 1))))


def train(o, net, batches, steps, opt):
    """batches() gives an epoch's. Mean loss of the last epoch."""
    done = 0
    for epoch in range(o.epochs):
        net.train()
        total, count = 0.0, 0
        for x, y in batches():
            opt.param_groups[0]["lr"] = rate(o.lr, done, steps, o.epochs)
            loss = F.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), y)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            done, total, count = done + 1, total + loss.item() * len(y), count + len(y)
        print(f"epoch {epoch}: loss {total / count:.4f}", flush=True)
    return total / count


@torch.no_grad()
def evaluate(net, x, y):
    net.eval()
    right, loss = 0, 0.0
    for at in range(0, len(x), EVALUATED_TOGETHER):
        labels = y[at:at + EVALUATED_TOGETHER]
        logits = net(x[at:at + EVALUATED_TOGETHER].contiguous(memory_format=torch.channels_last))
        right += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return right / len(x), loss / len(x)


def everything(folder):
    pairs = [folder[i] for i in range(len(folder))]
    return torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])


def optimizer(o, net):
    return torch.optim.SGD(net.parameters(), lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay, nesterov=o.nesterov)


# --- CIFAR-10 ---

def project_shortcuts(net):
    """He et al. 2015, section 3.3: shortcut B, a 1x1 convolution, where torch_peer's CIFAR networks have A."""
    for block in net.modules():
        if isinstance(getattr(block, "downsample", None), torch_peer.Pad):
            i, o = block.conv1.in_channels, block.conv1.out_channels
            block.downsample = nn.Sequential(torch_peer.conv(i, o, 1, 2), nn.BatchNorm2d(o))
            nn.init.kaiming_normal_(block.downsample[0].weight, mode="fan_out", nonlinearity="relu")


def shifted(x):
    """Each picture moved by up to PAD pixels each way, zeros behind, and half of them mirrored."""
    n, _, height, width = x.shape
    rows = torch.arange(height) + torch.randint(2 * PAD + 1, (n, 1))
    columns = torch.where(torch.rand(n, 1) < 0.5, torch.arange(width).flip(0), torch.arange(width))
    columns = columns + torch.randint(2 * PAD + 1, (n, 1))
    padded = F.pad(x, (PAD,) * 4)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cifar(o):
    whole = lambda picture: tensor(picture, NORMALIZE["cifar"])  # noqa: E731
    x, y = everything(Folder(os.path.join(o.root, "train"), whole))
    net = torch_peer.make("resnet20")[0]
    if o.shortcut == "B":
        project_shortcuts(net)
    net = net.to(memory_format=torch.channels_last)
    steps = len(x) // o.batch

    def batches():
        order = torch.randperm(len(x))
        for step in range(steps):
            some = order[step * o.batch:(step + 1) * o.batch]
            yield shifted(x[some]), y[some]
    last = train(o, net, batches, steps, optimizer(o, net))
    del x, y
    return last, *evaluate(net, *everything(Folder(os.path.join(o.root, "test"), whole)))


# --- photographs ---

def photos(o):
    folder = Folder(os.path.join(o.root, "train"), transform("random", o.size, "imagenet"))
    net = torch_peer.make("resnet18")[0]
    net.fc = nn.Linear(net.fc.in_features, len(folder.classes))
    state = {name: value for name, value in torch_peer.read_tensors(o.weights).items() if not name.startswith("fc.")}
    missing = net.load_state_dict(state, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) != {"fc.weight", "fc.bias"}:
        raise SystemExit(f"{o.weights} is of another network: {missing}")
    net = net.to(memory_format=torch.channels_last)
    loader = torch.utils.data.DataLoader(folder, batch_size=o.batch, shuffle=True)
    last = train(o, net, lambda: loader, len(loader), optimizer(o, net))
    test = Folder(os.path.join(o.root, "val"), transform("center", o.size, "imagenet"))
    return last, *evaluate(net, *everything(test))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cifar", "photos"])
    parser.add_argument("root")
    parser.add_argument("--weights", help="photos: what to begin with; its head is left out")
    parser.add_argument("--shortcut", choices=["A", "B"], default="B", help="cifar [%(default)s]")
    parser.add_argument("--nesterov", action="store_true")
    for name, value in (("lr", 0.1), ("momentum", 0.9), ("weight-decay", 5e-4)):
        parser.add_argument(f"--{name}", type=float, default=value)
    for name, value in (("epochs", 10), ("batch", 128), ("size", 64), ("seed", 1), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(o.seed)
    random.seed(o.seed)
    begun = time.monotonic()
    last, accuracy, loss = {"cifar": cifar, "photos": photos}[o.what](o)
    print(json.dumps({"accuracy": accuracy, "loss": loss, "train_loss": last, "seconds": time.monotonic() - begun,
                      "version": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
