#!/usr/bin/env python3
"""PyTorch's side of compare_input: torchvision's loader alone, as its reference training reads ImageNet.

  torch_input.py --pictures FOLDER [--size 224] [--batch 32] [--repeats 1] [--seed 1]
  torch_input.py about

ImageFolder, RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize in a DataLoader without workers, shuffled. Goes over
all pictures once untimed, then `repeats` times, and prints one JSON object: medians of images per second by the clock and of
processor time, and how many images a repeat had.
"""
import argparse
import json
import statistics
import time

import PIL
import torch
import torchvision
from torchvision import datasets, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def about():
    return {"version": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__,
            "image_backend": torchvision.get_image_backend()}


def go_over(loader):
    """All pictures once: how many, and images per second of either kind."""
    begun, begun_cpu, images = time.perf_counter(), time.process_time(), 0
    for x, _ in loader:
        images += len(x)
    return images, images / (time.perf_counter() - begun), images / (time.process_time() - begun_cpu)


def measure(o):
    transform = transforms.Compose([transforms.RandomResizedCrop(o.size), transforms.RandomHorizontalFlip(),
                                    transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    loader = torch.utils.data.DataLoader(datasets.ImageFolder(o.pictures, transform), batch_size=o.batch, shuffle=True,
                                         num_workers=0)
    go_over(loader)
    images, per_s, per_cpu_s = zip(*(go_over(loader) for _ in range(o.repeats)))
    return {"images": images[0], "images_per_s": statistics.median(per_s), "images_per_cpu_s": statistics.median(per_cpu_s)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["about"])
    parser.add_argument("--pictures", metavar="FOLDER", help="a folder per class")
    for name, value in (("size", 224), ("batch", 32), ("repeats", 1), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    if not o.what and not o.pictures:
        parser.error("--pictures is needed")
    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    print(json.dumps(about() if o.what else measure(o)), flush=True)


if __name__ == "__main__":
    main()
