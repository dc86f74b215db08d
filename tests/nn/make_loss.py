#!/usr/bin/env python3
"""Write loss.table: torch.nn.CrossEntropyLoss with class weights and label smoothing, and its gradient.

Run with a Python that has torch (Debian 12: apt-get install python3-torch; made with PyTorch 1.13):

    /usr/bin/python3 make_loss.py > loss.table

Logits are drawn from an integer hash, as the test does. A line per case: smoothing, the classes' weights, the mean loss,
the gradient of all logits; computed in float64.
"""
import numpy
import torch

N, CLASSES = 6, 5
LABELS = [0, 4, 2, 2, 1, 4]
WEIGHTS = [[1, 1, 1, 1, 1], [0.5, 2, 1.25, 3, 0.125], [1e-3, 1, 1e3, 7, 0.1]]
SMOOTHINGS = [0, 0.1, 0.75]


def uniform(count):
    """float32 in [-1, 1), exact: 24 bits of MurmurHash3's finalizer over i."""
    h = numpy.arange(count, dtype=numpy.uint32)
    h = (h ^ (h >> 16)) * numpy.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * numpy.uint32(0xC2B2AE35)
    return ((h ^ (h >> 16)) >> 8).astype(numpy.float32) * numpy.float32(2.0**-23) - numpy.float32(1)


def main():
    for weights in WEIGHTS:
        for smoothing in SMOOTHINGS:
            z = torch.from_numpy(4 * uniform(N * CLASSES).astype(numpy.float64)).reshape(N, CLASSES).requires_grad_()
            criterion = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights, dtype=torch.float64),
                                                  label_smoothing=smoothing)
            loss = criterion(z, torch.tensor(LABELS))
            loss.backward()
            print(smoothing, *weights, *("%.12g" % x for x in [loss.item(), *z.grad.flatten().tolist()]))


if __name__ == "__main__":
    main()
