#!/usr/bin/env python3
"""Write adam.table: what torch.optim.Adam and AdamW make of the same weights and gradients in 20 steps.

Run with a Python that has torch (Debian 12: apt-get install python3-torch; made with PyTorch 1.13):

    /usr/bin/python3 make_adam.py > adam.table

Weights and gradients are not stored: both sides draw them from an integer hash. A line per case and step that is looked at:
optimizer, rate, betas, eps, weight decay, step, then the weights as float32.
"""
import numpy
import torch

COUNT, STEPS, SHOWN = 24, 20, (1, 2, 20)
CASES = [
    ("adam", 1e-3, 0.9, 0.999, 1e-8, 0),
    ("adam", 1e-2, 0.8, 0.99, 1e-3, 0.1),
    ("adam", 0.1, 0, 0, 1e-8, 0),
    ("adamw", 1e-3, 0.9, 0.999, 1e-8, 0.01),
    ("adamw", 0.05, 0.5, 0.95, 0.5, 0.5),
]


def uniform(stream):
    """float32 in [-1, 1), exact: 24 bits of MurmurHash3's finalizer over (stream, i)."""
    h = numpy.arange(COUNT, dtype=numpy.uint32) + numpy.uint32(stream * 0x9E3779B1 & 0xFFFFFFFF)
    h = (h ^ (h >> 16)) * numpy.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * numpy.uint32(0xC2B2AE35)
    return ((h ^ (h >> 16)) >> 8).astype(numpy.float32) * numpy.float32(2.0**-23) - numpy.float32(1)


def gradient(step):
    """Of very different sizes, one always zero."""
    scales = numpy.array([2.0 ** (i % 8 * 3 - 18) for i in range(COUNT)], dtype=numpy.float32)
    scales[COUNT - 1] = 0
    return uniform(step) * scales


def main():
    for name, lr, beta1, beta2, eps, decay in CASES:
        w = torch.from_numpy(uniform(0)).requires_grad_()
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        optimizer = make([w], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
        for step in range(1, STEPS + 1):
            w.grad = torch.from_numpy(gradient(step))
            optimizer.step()
            if step in SHOWN:
                print(name, lr, beta1, beta2, eps, decay, step, *("%.9g" % x for x in w.detach().numpy()))


if __name__ == "__main__":
    main()
