#!/usr/bin/env python3
"""Write resnet20.golden, resnet18.golden and the tables of tensor names that the tests compare with.

Run with a Python that has torch and torchvision (Debian 12: apt-get install python3-torchvision; made with PyTorch 1.13):

    /usr/bin/python3 make_golden.py

PyTorch computes in float64, so the values are true to the last bit of float32. Weights and pictures are not stored: both
sides draw them from the same integer hash. Long tensors are stored as evenly spread samples, beside every tensor's norm.
File: "CVGOLD1\\n", then records of u32 name length, name, u32 count, float32 values; little-endian.
"""
import struct

import numpy
import torch
import torchvision

BATCH, CLASSES, STEPS = 4, 10, 5
MOMENTUM, WEIGHT_DECAY, SMOOTHING = 0.9, 5e-4, 0.1
X_STREAM, LABEL_STREAM = 1000, 900  # streams of the hash; tensors use their number in the state_dict
TRIALS, FINALISTS, DRAWS = 300, 12, 3
ROUNDING = 1e-6


def hashed(stream, count):
    """Integers of 32 bits: the finalizer of MurmurHash3 over (stream, i)."""
    h = numpy.arange(count, dtype=numpy.uint32) + numpy.uint32(stream * 0x9E3779B1 & 0xFFFFFFFF)
    h = (h ^ (h >> 16)) * numpy.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * numpy.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def uniform(stream, count):
    """float32 in [-1, 1), exact: 24 bits of the hash."""
    return (hashed(stream, count) >> 8).astype(numpy.float32) * numpy.float32(2.0**-23) - numpy.float32(1)


class Shortcut(torch.nn.Module):
    def __init__(self, more):
        super().__init__()
        self.more = more

    def forward(self, x):
        return torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))


class Resnet20(torch.nn.Module):
    """He et al. 2015, section 4.2, n = 3, shortcut A with the zeros behind."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        self.relu = torch.nn.ReLU()
        inputs = 16
        for stage, planes in enumerate((16, 32, 64)):
            blocks = []
            for i in range(3):
                stride = 2 if stage > 0 and i == 0 else 1
                block = torchvision.models.resnet.BasicBlock(inputs, planes, stride)
                if inputs != planes:
                    block.downsample = Shortcut(planes - inputs)
                blocks.append(block)
                inputs = planes
            setattr(self, f"layer{stage + 1}", torch.nn.Sequential(*blocks))
        self.fc = torch.nn.Linear(64, CLASSES)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def tensors(model):
    return [(n, t) for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")]


def set_weights(model):
    for number, (name, tensor) in enumerate(tensors(model)):
        u = uniform(number, tensor.numel())
        if tensor.dim() == 4:
            k, _, r, s = tensor.shape
            u *= numpy.float32(numpy.sqrt(6.0 / (k * r * s)))
        elif name.startswith("fc."):
            u *= numpy.float32(0.125)
        elif name.endswith("running_mean"):
            u *= numpy.float32(0)
        elif name.endswith("running_var"):
            u = u * numpy.float32(0) + numpy.float32(1)
        else:
            u = u * numpy.float32(0.25) + numpy.float32(1 if name.endswith("weight") else 0)
        tensor.copy_(torch.from_numpy(u.astype(numpy.float64)).reshape(tensor.shape))


class Golden:
    def __init__(self, path, samples):
        self.samples = samples
        self.file = open(path, "wb")
        self.file.write(b"CVGOLD1\n")

    def put(self, name, values):
        values = numpy.asarray(values, dtype="<f4").ravel()
        self.file.write(struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", values.size))
        self.file.write(values.tobytes())

    def put_tensors(self, group, named):
        norms = []
        for name, tensor in named:
            flat = tensor.detach().numpy().ravel()
            kept = min(flat.size, self.samples)
            self.put(f"{group}/{name}", flat[numpy.arange(kept) * flat.size // kept])
            norms.append(numpy.sqrt((flat**2).sum()))
        self.put(f"{group}.norms", norms)


def pictures(size, stream, step):
    nhwc = uniform(stream + step, BATCH * size * size * 3).reshape(BATCH, size, size, 3)
    labels = hashed(LABEL_STREAM + step, BATCH) % CLASSES
    return torch.from_numpy(nhwc.astype(numpy.float64)).permute(0, 3, 1, 2), torch.from_numpy(labels.astype(numpy.int64))


def margin(model, x):
    """How near the network comes to a corner: the smallest |input| of a ReLU, or lead of the largest value in a pooling window."""
    margins = []

    def at_relu(_, inputs):
        margins.append(inputs[0].abs().min().item())

    def at_pool(_, inputs):
        windows = torch.nn.functional.unfold(inputs[0], 3, padding=1, stride=2)
        first, second = windows.reshape(x.shape[0], -1, 9, windows.shape[-1]).topk(2, dim=2)[0].unbind(2)
        margins.append((first - second)[first > 0].min().item())

    hooks = [m.register_forward_pre_hook(at_relu) for m in model.modules() if isinstance(m, torch.nn.ReLU)]
    hooks += [m.register_forward_pre_hook(at_pool) for m in model.modules() if isinstance(m, torch.nn.MaxPool2d)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return min(margins)


class Training:
    """The network from its first weights on, fed from a stream of pictures."""

    def __init__(self, model, size, stream, lr):
        self.model, self.size, self.stream, self.lr = model.train(), size, stream, lr
        self.criterion = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
        self.restart()

    def restart(self, draw=0):
        """draw > 0: with weights that are wrong by up to ROUNDING of their size."""
        generator = torch.Generator().manual_seed(draw)
        with torch.no_grad():
            set_weights(self.model)
            for parameter in self.model.parameters() if draw > 0 else ():
                noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) * 2 - 1
                parameter *= 1 + ROUNDING * noise
        self.step = 0
        self.sgd = torch.optim.SGD(
            self.model.parameters(), lr=self.lr, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
        )

    def backward(self):
        """The next step's loss; its gradients are in the parameters."""
        x, labels = pictures(self.size, self.stream, self.step)
        self.step += 1
        self.sgd.zero_grad()
        loss = self.criterion(self.model(x), labels)
        loss.backward()
        return loss.item()

    def margin(self):
        """Of the next step."""
        return margin(self.model, pictures(self.size, self.stream, self.step)[0])


def stray(model, size, stream, lr):
    """How far five steps end from where they should when the first weights are as wrong as float32's rounding makes sums."""
    training = Training(model, size, stream, lr)
    ends = []
    for draw in range(DRAWS + 1):
        training.restart(draw)
        for _ in range(STEPS):
            training.backward()
            training.sgd.step()
        ends.append([t.clone() for _, t in tensors(model)])
    return max((a - b).abs().max().item() / a.abs().max().item() for end in ends[1:] for a, b in zip(ends[0], end))


def find_stream(model, size, lr):
    """Where rounding decides a ReLU, float32 and float64 have different gradients (5e-3 apart when it is in the last stage), and
    neither is wrong. So take pictures whose first step stays clear of all corners; of the FINALISTS that do so best, those whose
    five steps wrong weights lead astray the least."""
    streams = [X_STREAM + STEPS * trial for trial in range(TRIALS)]
    margins = {stream: Training(model, size, stream, lr).margin() for stream in streams}
    finalists = sorted(margins, key=margins.__getitem__)[-FINALISTS:]
    strays = {stream: stray(model, size, stream, lr) for stream in finalists}
    best = min(strays, key=strays.__getitem__)
    print(f"stream {best}: {margins[best]:.1e} from the next corner, {strays[best]:.1e} astray (the worst: {max(strays.values()):.1e})")
    return best


def write(name, model, size, lr, samples):
    model.double()
    stream = find_stream(model, size, lr)
    training = Training(model, size, stream, lr)
    golden = Golden(f"{name}.golden", samples)
    golden.put("stream", [stream])
    losses = []
    for step in range(STEPS):
        losses.append(training.backward())
        if step == 0:
            golden.put_tensors("gradient", [(n, p.grad) for n, p in model.named_parameters()])
            golden.put_tensors("running", [(n, t) for n, t in tensors(model) if "running" in n])
        training.sgd.step()
    golden.put("losses", losses)
    golden.put_tensors("after", tensors(model))
    golden.put_tensors("momentum", [(n, training.sgd.state[p]["momentum_buffer"]) for n, p in model.named_parameters()])
    model.eval()
    with torch.no_grad():
        golden.put("logits", model(pictures(size, stream, 0)[0]).numpy())


def write_names(name, model):
    with open(f"{name}.tensors", "w", encoding="ascii") as file:
        for tensor_name, tensor in tensors(model):
            print(tensor_name, *tensor.shape, file=file)


# Four images and 2x2 pixels in the last stage make resnet18's steps chaotic: at a rate of 0.01 PyTorch's own float32 and
# float64 are 10 % apart after five steps, at 0.001 0.1 %, at 2e-5 conv1.weight still 1.2e-4 with some pictures. resnet20 is
# tame, and tests the update at a rate that shows.
write("resnet20", Resnet20(), 32, 0.002, 4096)
write("resnet18", torchvision.models.resnet18(num_classes=CLASSES), 64, 5e-6, 512)
for deep in ("resnet18", "resnet50"):
    write_names(deep, getattr(torchvision.models, deep)(num_classes=1000))
