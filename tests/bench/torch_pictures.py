"""Pictures in a folder per class as PyTorch's side reads them: torchvision's transforms where it is installed, else the same
ones here, on Pillow and NumPy."""
import math
import os
import random

import numpy as np
import torch
from PIL import Image

try:
    from torchvision import transforms
except ImportError:
    transforms = None

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of random crops: share of the area, width / height
TRIES = 10
CENTER = 256 / 224  # shorter side of an evaluated picture, of which the middle 224 are taken
NORMALIZE = {"none": None, "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
             "cifar": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))}


class Folder(torch.utils.data.Dataset):
    """(picture, label) of each file below root/CLASS; classes are numbered by name. A picture is what transform makes of it."""

    def __init__(self, root, transform, count=None):
        self.classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        self.files = [(os.path.join(root, name, file), label) for label, name in enumerate(self.classes)
                      for file in sorted(os.listdir(os.path.join(root, name)))]
        if count:  # of all classes
            self.files = self.files[::max(1, len(self.files) // count)][:count]
        self.transform = transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        path, label = self.files[i]
        with open(path, "rb") as file:
            return self.transform(Image.open(file).convert("RGB")), label


def random_box(width, height):
    """As torchvision's RandomResizedCrop: a box of random area and aspect, or after ten misses the middle."""
    for _ in range(TRIES):
        area = width * height * random.uniform(*SCALE)
        ratio = math.exp(random.uniform(*map(math.log, RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    return (width - w) // 2, (height - h) // 2, (width - w) // 2 + w, (height - h) // 2 + h


def shorter_to(picture, side):
    width, height = picture.size
    by = side / min(width, height)
    return picture.resize((side, int(by * height)) if width < height else (int(by * width), side), Image.BILINEAR)


def middle(picture, size):
    left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def tensor(picture, normalize):
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div_(255)
    if normalize:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalize)
        x.sub_(mean).div_(std)
    return x


class Own:
    """Without torchvision. A class, so that workers of any start method can be given it."""

    def __init__(self, kind, size, normalize):
        self.kind, self.size, self.normalize = kind, size, normalize

    def __call__(self, picture):
        size = self.size
        if self.kind == "random":
            picture = picture.crop(random_box(*picture.size)).resize((size, size), Image.BILINEAR)
            if random.random() < 0.5:
                picture = picture.transpose(Image.FLIP_LEFT_RIGHT)
        elif self.kind == "center":
            picture = middle(shorter_to(picture, int(size * CENTER)), size)
        else:
            picture = picture.resize((size, size), Image.BILINEAR)
        return tensor(picture, self.normalize)


def transform(kind, size, normalize):
    """kind: "random" crops and flips for training; "center" or "resize" for evaluation. normalize: a key of NORMALIZE."""
    normalize = NORMALIZE[normalize]
    if transforms is None:
        return Own(kind, size, normalize)
    steps = {"random": [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()],
             "center": [transforms.Resize(int(size * CENTER)), transforms.CenterCrop(size)],
             "resize": [transforms.Resize((size, size))]}[kind] + [transforms.ToTensor()]
    return transforms.Compose(steps + ([transforms.Normalize(*normalize)] if normalize else []))
