#!/usr/bin/env python3
"""PyTorch's side of compare_finetune: a new head on a frozen ResNet-50, from the start of the program to the file it leaves.

  torch_finetune.py weights --pictures FOLDER --left WEIGHTS.pth
  torch_finetune.py tune --pictures FOLDER --weights WEIGHTS.pth --left MODEL.pth [--crops random] [--batch-norm batch] [--cache]
                         [--fused] [--workers 1] [--format channels_last] [--epochs 1] [--batch 32] [--threads 1] [--count N]

`weights` draws a network and saves its state_dict; its batch norms have the statistics of some of the pictures, so that what
comes out of it has a sensible size. `tune` prints one JSON object. Nothing of the frozen layers is recorded for a gradient
(torch.no_grad). --batch-norm batch leaves them in training mode, frozen in evaluation mode. --cache computes what they make of
each picture once and keeps it in memory. --fused folds batch norms into the convolutions (only frozen ones can be).
Needs PyTorch, NumPy and Pillow; torchvision's transforms are used where it is installed.
"""
import argparse
import copy
import json
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import torch_peer
from torch_pictures import Folder, transform

MODEL, SIZE, HIDDEN = "resnet50", 224, 128
MEASURED = 64  # pictures that the drawn weights' batch norms are measured on


def loader(o, folder, shuffle):
    return torch.utils.data.DataLoader(folder, batch_size=o.batch, shuffle=shuffle, num_workers=o.workers,
                                       persistent_workers=o.workers > 0 and o.epochs > 1)


@torch.no_grad()
def weights(o):
    net = torch_peer.make(MODEL)[0].train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the batches
    for x, _ in loader(o, Folder(o.pictures, transform("resize", SIZE, "none"), MEASURED), False):
        net(x)
    torch.save(net.state_dict(), o.left)
    return {"weights": o.left}


def fuse(net):
    """A copy with each batch norm in the convolution before it; the places of the former do nothing any more."""
    net = copy.deepcopy(net)
    pairs = [(block, f"conv{i}", f"bn{i}") for block in net.modules() for i in (1, 2, 3) if hasattr(block, f"conv{i}")]
    pairs += [(block.downsample, "0", "1") for block in net.modules() if getattr(block, "downsample", None) is not None]
    for parent, conv, norm in pairs:
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        setattr(parent, norm, nn.Identity())
    return net


def prepare(o, classes):
    """The frozen body, whose result are the features, and a new head for them."""
    body = torch_peer.make(MODEL)[0]
    body.load_state_dict(torch.load(o.weights))
    head = nn.Sequential(nn.Linear(body.fc.in_features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
    body.fc = nn.Identity()
    body.requires_grad_(False).to(memory_format=o.memory_format)
    return body.train(o.batch_norm == "batch"), head


@torch.no_grad()
def features_of(o, net, x):
    return net(x.contiguous(memory_format=o.memory_format))


def tune(o):
    folder = Folder(o.pictures, transform(o.crops, SIZE, "none"), o.count)
    body, head = prepare(o, len(folder.classes))
    net = fuse(body) if o.fused else body
    opt = torch.optim.Adam(head.parameters(), lr=o.lr)
    batches = loader(o, folder, not o.cache)
    kept = None
    if o.cache:
        parts = [(features_of(o, net, x), y) for x, y in batches]
        kept = [torch.cat(values) for values in zip(*parts)]
    for _ in range(o.epochs):
        loss_sum, right, count = 0.0, 0, 0
        order = torch.randperm(len(folder)).split(o.batch) if kept else None
        for x, y in ((kept[0][some], kept[1][some]) for some in order) if kept else batches:
            logits = head(x if kept else features_of(o, net, x))
            loss = F.cross_entropy(logits, y)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            loss_sum, count = loss_sum + loss.item() * len(y), count + len(y)
            right += int((logits.argmax(1) == y).sum())
    torch.save({**body.state_dict(), **{f"fc.{name}": value for name, value in head.state_dict().items()}}, o.left)
    return {"loss": loss_sum / count, "accuracy": right / count, "images": count, "version": torch.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["weights", "tune"])
    parser.add_argument("--pictures", required=True, metavar="FOLDER", help="a folder per class")
    parser.add_argument("--left", required=True, metavar="FILE")
    parser.add_argument("--weights", metavar="FILE")
    parser.add_argument("--crops", choices=["random", "resize"], default="random")
    parser.add_argument("--batch-norm", choices=["batch", "frozen"], default="frozen")
    parser.add_argument("--format", choices=["contiguous", "channels_last"], default="channels_last")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--fused", action="store_true")
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--count", type=int, help="so many of the pictures [all]")
    for name, value in (("epochs", 1), ("batch", 32), ("workers", 0), ("threads", 1), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    if o.batch_norm == "batch" and (o.fused or o.cache):
        parser.error("--batch-norm batch goes without --fused and --cache")
    o.memory_format = getattr(torch, {"contiguous": "contiguous_format"}.get(o.format, o.format))
    torch.set_num_threads(o.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(o.seed)
    random.seed(o.seed)
    print(json.dumps({"weights": weights, "tune": tune}[o.what](o)), flush=True)


if __name__ == "__main__":
    main()
