#!/usr/bin/env python3
"""check_torchvision.py LOGITS CONVOY MODEL HIDDEN [NETWORK...]: torchvision's networks and ours on the same weights.

For ResNet-18, -34, -50, -101 and -152 with random weights and running statistics: torch.save's files, new and old, are read
by our program, whose logits are compared with torchvision's; what `convoy export` makes of them is loaded with
weights_only=True and strict=True and has the same bits. Then two folders that short trainings left: MODEL, a resnet18, and
HIDDEN, one whose head has a hidden layer. Works in the current folder."""
import json
import os
import shutil
import subprocess
import sys

import numpy
import torch
import torchvision

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
N, SIZE, CLASSES = 4, 64, 7
TOLERANCE = 1e-4  # of the largest logit


def randomise(model, pictures):
    """Weights as initialised; batch norms of any scale and shift whose running statistics are those of some pictures, give or
    take: the values between layers then neither vanish nor explode, however deep the network. A block's last norm is of
    smaller scale, as training tends to make it: with the scale of the others what is rounded grows from block to block, and
    PyTorch's 101 layers in float32 are 2e-5 from its own in float64."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of what it has seen
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.2)
    for block in model.modules():
        if hasattr(block, "downsample"):
            getattr(block, "bn3", block.bn2).weight.data.uniform_(0.1, 0.5)
    with torch.no_grad():
        model.train()(pictures)
    for norm in norms:
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
        norm.num_batches_tracked.random_(1 << 40)
    return model


def load(network, path, classes, hidden=()):
    model = getattr(torchvision.models, network)(num_classes=classes)
    if hidden:
        sizes, layers = [model.fc.in_features, *hidden, classes], []
        for inputs, outputs in zip(sizes, sizes[1:]):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        model.fc = torch.nn.Sequential(*layers[:-1])
    state = torch.load(path, weights_only=True)
    assert list(state) == list(model.state_dict()), "names or their order"
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == tensor.dtype, name
    model.load_state_dict(state, strict=True)
    return model.eval()


class Check:
    def __init__(self, logits, convoy):
        self.programs = {"logits": logits, "convoy": convoy}

    def run(self, program, *words):
        result = subprocess.run([self.programs[program], *map(str, words)], stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            sys.exit(f"{program} {' '.join(map(str, words))}: exit {result.returncode}\n{result.stderr}")

    def ours(self, path, network, classes, head="linear"):
        """Pictures (N, 3, SIZE, SIZE) and the logits of our network."""
        self.run("logits", path, network, SIZE, classes, head, N, "input.f32", "logits.f32")
        x = numpy.fromfile("input.f32", "<f4").reshape(N, SIZE, SIZE, 3)
        return torch.from_numpy(x).permute(0, 3, 1, 2), numpy.fromfile("logits.f32", "<f4").reshape(N, classes)

    def theirs(self, what, model, x):
        """Logits, which must tell something: pictures apart, from values of usual size in every stage."""
        spread = {}
        hooks = [layer.register_forward_hook(lambda _, __, out, name=name: spread.update({name: out.std().item()}))
                 for name, layer in model.named_children() if name.startswith("layer")]
        with torch.no_grad():
            logits = model(x).numpy()
        for hook in hooks:
            hook.remove()
        assert len(spread) == 4 and all(0.1 < s < 30 for s in spread.values()), (what, spread)
        apart = logits.std(axis=0).max() / abs(logits).max()
        assert apart > 0.02, (what, apart)
        return logits

    def compare(self, what, ours, theirs):
        error = abs(ours - theirs).max() / abs(theirs).max()
        print(f"{what}: logits differ by {error:.1e} of the largest", flush=True)
        if not error <= TOLERANCE:
            sys.exit(f"FAILED: {what}: {error:.1e}")

    def network(self, network):
        torch.manual_seed(int(network[6:]))
        model = randomise(getattr(torchvision.models, network)(num_classes=CLASSES), torch.randn(8, 3, SIZE, SIZE)).eval()
        state = model.state_dict()
        torch.save(state, "new.pth")
        torch.save(state, "old.pth", _use_new_zipfile_serialization=False)
        x, ours = self.ours("new.pth", network, CLASSES)
        theirs = self.theirs(network, model, x)
        self.compare(f"{network}, .pth of torchvision read by us", ours, theirs)
        assert numpy.array_equal(self.ours("old.pth", network, CLASSES)[1], ours), "the older format"
        self.run("convoy", "export", "--model", "old.pth", "--output", "middle.safetensors")
        os.mkdir("folder")
        os.rename("middle.safetensors", "folder/model.safetensors")
        with open("folder/config.json", "w") as file:
            json.dump({"format": "convoy-model-1", "model": network, "classes": CLASSES, "head": "linear", "image_size": SIZE,
                       "normalize": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, file)
        with open("folder/class_labels.json", "w") as file:
            json.dump([str(label) for label in range(CLASSES)], file)
        self.run("convoy", "export", "--model", "folder", "--output", "exported.pth")
        exported = load(network, "exported.pth", CLASSES)
        for name, tensor in exported.state_dict().items():
            assert torch.equal(tensor, state[name]), name
        self.compare(f"{network}, ours read by torchvision", ours, self.theirs(network, exported, x))
        shutil.rmtree("folder")
        for name in ("new.pth", "old.pth", "exported.pth"):
            os.remove(name)

    def trained(self, folder):
        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
        head = config["hyperparameters"]["head"]
        hidden = [int(size) for size in head.split("-")[1:-1]]
        x, ours = self.ours(os.path.join(folder, "model.safetensors"), config["model"], config["classes"], head)
        self.run("convoy", "export", "--model", folder, "--output", "trained.pth")
        model = load(config["model"], "trained.pth", config["classes"], hidden)
        with torch.no_grad():
            self.compare(f"{config['model']} of a training, head {head}", ours, model(x).numpy())


def main():
    check = Check(*sys.argv[1:3])
    for folder in sys.argv[3:5]:
        check.trained(folder)
    for network in sys.argv[5:] or NETWORKS:
        check.network(network)


if __name__ == "__main__":
    main()
