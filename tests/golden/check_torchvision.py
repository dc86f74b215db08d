#!/usr/bin/env python3
"""check_torchvision.py MODEL.safetensors INPUT.f32 LOGITS.f32 N SIZE CLASSES: does torchvision's resnet18 take the file with
strict=True, and compute the same logits (N, CLASSES) from the pictures (N, SIZE, SIZE, 3)?"""
import json
import struct
import sys

import numpy
import torch
import torchvision

model_path, input_path, logits_path = sys.argv[1:4]
n, size, classes = map(int, sys.argv[4:7])
with open(model_path, "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = file.read()
state = {}
for name, entry in header.items():
    if name != "__metadata__":
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[begin:end], {"F32": "<f4", "I64": "<i8"}[entry["dtype"]])
        state[name] = torch.from_numpy(values.copy()).reshape(entry["shape"])
model = torchvision.models.resnet18(num_classes=classes)
model.load_state_dict(state, strict=True)
x = torch.from_numpy(numpy.fromfile(input_path, "<f4").reshape(n, size, size, 3)).permute(0, 3, 1, 2)
with torch.no_grad():
    theirs = model.eval()(x).numpy()
ours = numpy.fromfile(logits_path, "<f4").reshape(n, classes)
error = abs(ours - theirs).max() / abs(theirs).max()
print(f"resnet18: {len(state)} tensors loaded with strict=True, logits differ by {error:.1e} of the largest")
sys.exit(not error <= 1e-4)
