#!/usr/bin/env python3
"""convoy export: files for PyTorch and back, read here without it; what does not fit is one line, and nothing is written."""
import collections
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import tarfile
import zipfile

from job import CONVOY, Job, main

TYPES = {"FloatStorage": "F32", "LongStorage": "I64"}


class StateDict(pickle.Unpickler):
    """The three names that a state_dict needs, and no other: {name: (type, shape, bytes)}."""

    def __init__(self, archive):
        super().__init__(io.BytesIO(archive.read("archive/data.pkl")))
        self.archive = archive

    def find_class(self, module, name):
        if module == "torch" and name in TYPES:
            return TYPES[name]
        return {("collections", "OrderedDict"): collections.OrderedDict,
                ("torch._utils", "_rebuild_tensor_v2"): self.tensor}[module, name]

    def persistent_load(self, words):
        kind, of, key, device, _ = words
        assert (kind, device) == ("storage", "cpu"), words
        return of, self.archive.read(f"archive/data/{key}")

    @staticmethod
    def tensor(storage, offset, size, stride, requires_grad, hooks):
        elements, rows = 1, []
        for n in reversed(size):
            rows.insert(0, elements)
            elements *= n
        of, data = storage
        assert offset == 0 and stride == tuple(rows) and not requires_grad and not hooks
        assert len(data) == elements * {"F32": 4, "I64": 8}[of]
        return of, list(size), data


def pth(path):
    with zipfile.ZipFile(path) as archive:
        return StateDict(archive).load()


def safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()
            if name != "__metadata__"}


class Export(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.models = {}
        for name, more in (("linear", []), ("hidden", ["--head", "64-12-relu"])):
            cls.models[name] = os.path.join(cls.shared, name)
            subprocess.run([CONVOY, "train", "--data", cls.data, "--model", "resnet20", "--max-steps", "2", "--global-batch=16",
                            "--threads=1", "--model-dir", cls.models[name], "--report", cls.models[name] + "-report",
                            "--checkpoint", cls.models[name] + "-saved", *more], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)

    def export(self, *words):
        return self.wait(self.start(CONVOY, "export", *words))

    def refused(self, *words, says):
        before = sorted(os.listdir(self.folder))
        self.assertEqual(self.export(*words), 2, self.err)
        self.assert_one_error(*says)
        self.assertEqual(sorted(set(os.listdir(self.folder)) - {"stdout", "stderr"}), sorted(set(before) - {"stdout", "stderr"}))

    def test_state_dicts_have_the_tensors_in_torchvisions_order(self):
        for name, ends in (("linear", ["fc.weight", "fc.bias"]),
                           ("hidden", ["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"])):
            folder = self.models[name]
            self.assertEqual(self.export("--model", folder), 0, self.err)
            state = pth(self.path("model.pth"))
            self.assertEqual(dict(state), safetensors(os.path.join(folder, "model.safetensors")))
            self.assertEqual(list(state)[:7], ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
                                               "bn1.num_batches_tracked", "layer1.0.conv1.weight"])
            self.assertEqual(list(state)[-len(ends):], ends)
            self.assertEqual(state["bn1.num_batches_tracked"], ("I64", [], struct.pack("<q", 2)))
            self.assertIn("resnet20 of 2 classes", self.err)
            self.assertEqual(self.out, "")

    def test_safetensors_come_back_as_they_were(self):
        folder = self.models["hidden"]
        self.assertEqual(self.export("--model", folder, "--output", "a.pth"), 0, self.err)
        self.assertEqual(self.export("--model=a.pth", "--output", self.path("back.safetensors")), 0, self.err)
        with open(os.path.join(folder, "model.safetensors"), "rb") as one, open(self.path("back.safetensors"), "rb") as other:
            self.assertEqual(one.read(), other.read())

    def test_equal_models_are_equal_files(self):
        for name in ("a.pth", "b.pth"):
            self.assertEqual(self.export("--model", self.models["linear"], "--format", "pth", "--output", name), 0, self.err)
        with open(self.path("a.pth"), "rb") as one, open(self.path("b.pth"), "rb") as other:
            self.assertEqual(one.read(), other.read())

    def test_checkpoints_give_their_weights_only(self):
        folder = self.models["linear"] + "-saved"
        newest = max(name for name in os.listdir(folder) if name.endswith(".safetensors"))
        self.assertEqual(self.export("--model", os.path.join(folder, newest)), 0, self.err)
        self.assertEqual(dict(pth(self.path("model.pth"))),
                         safetensors(os.path.join(self.models["linear"], "model.safetensors")))

    def test_packed_models_are_unpacked(self):
        with tarfile.open(self.path("model.tar.gz"), "w:gz") as tar:
            tar.add(self.models["linear"], ".")
        self.assertEqual(self.export("--model=model.tar.gz", "--output=m.pth"), 0, self.err)
        self.assertEqual(dict(pth(self.path("m.pth"))), safetensors(os.path.join(self.models["linear"], "model.safetensors")))

    def changed(self, **more):
        """A copy of the hidden model whose config.json says something else."""
        folder = self.path("changed")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.models["hidden"], folder)
        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
        config["hyperparameters"]["head"] = "linear"  # how it was trained is not how it is built
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump({**config, **more}, file)
        if "classes" in more:
            with open(os.path.join(folder, "class_labels.json"), "w") as file:
                json.dump([f"class-{i}" for i in range(3)], file)
        return folder

    def test_models_that_are_not_as_their_config_says_are_refused(self):
        for more, says in ((dict(model="resnet18", head="linear"), "'conv1.weight': it is 16x3x3x3 there and 64x3x7x7 here"),
                           (dict(model="resnet18"), "the head of resnet18 has 512 inputs"),
                           (dict(model="resnet21"), "'resnet21', which is not one of"),
                           (dict(model=3), "model"),
                           (dict(classes=3), "'fc.2.weight': it is 2x12 there and 3x12 here"),
                           (dict(format="other"), "'format' is 'other'"), (dict(classes=0), "classes"), (dict(classes="2"), "classes"),
                           (dict(head="linear"), "'fc.weight': it is not there"),
                           (dict(head="32-12-relu"), "64 inputs"),
                           (dict(model="resnet32"), "'layer1.3.conv1.weight': it is not there")):
            self.refused("--model", self.changed(**more), says=(says, "changed"))
        folder = self.changed()
        with open(os.path.join(folder, "config.json"), "w") as file:
            file.write('{"model": ')
        self.refused("--model", folder, says=("config.json",))
        shutil.copy(os.path.join(self.models["hidden"], "config.json"), folder)
        state = safetensors(os.path.join(folder, "model.safetensors"))
        state["stray"] = ("F32", [1], b"\0" * 4)
        at, header, data = 0, {}, b""
        for name in sorted(state, key=lambda n: (state[n][0] != "I64", n)):
            of, shape, values = state[name]
            header[name] = {"dtype": of, "shape": shape, "data_offsets": [at, at + len(values)]}
            data, at = data + values, at + len(values)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(os.path.join(folder, "model.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + data)
        self.refused("--model", folder, says=("'stray'",))

    def test_packed_models_are_what_their_config_says(self):
        for name, mode in (("model.tar.gz", "w:gz"), ("model.tar", "w"), ("channel/model.tar.gz", "w:gz")):
            os.makedirs(self.path(os.path.dirname(name)), exist_ok=True)
            for more, status in ((dict(), 0), (dict(head="linear"), 2)):
                with tarfile.open(self.path(name), mode) as tar:
                    tar.add(self.changed(**more), ".")
                with self.subTest(name, status=status):
                    if status == 0:
                        self.assertEqual(self.export("--model", name.split("/")[0], "--output=m.pth"), 0, self.err)
                        self.assertIn("resnet20 of 2 classes", self.err)
                    else:
                        self.refused("--model", name.split("/")[0], says=("'fc.weight': it is not there",))

    def test_weights_alone_are_written_as_they_are(self):
        os.mkdir(self.path("alone"))
        shutil.copy(os.path.join(self.models["hidden"], "model.safetensors"), self.path("alone/model.safetensors"))
        with tarfile.open(self.path("alone.tar.gz"), "w:gz") as tar:
            tar.add(self.path("alone"), ".")
        for name in ("alone", "alone.tar.gz", "alone/model.safetensors"):
            self.assertEqual(self.export("--model", name, "--output=m.pth"), 0, self.err)
            self.assertEqual(dict(pth(self.path("m.pth"))), safetensors(self.path("alone/model.safetensors")))
            self.assertNotIn("resnet20", self.err)

    def test_wrong_words_are_one_line(self):
        os.mkdir(self.path("empty"))
        os.mkdir(self.path("out"))
        with open(self.path("page.pth"), "w") as file:
            file.write("<html>404</html>")
        model = self.models["linear"]
        for words, says in (([], "--model"), (["--model", "nowhere"], "nowhere"),
                            (["--model", "empty"], "has no weights in it"), (["--model", "page.pth"], "an HTML or XML page"),
                            (["--model", model, "--format", "onnx"], "--format"), (["--model", model, "--output", "out"], "out"),
                            (["--model", model, "--output", "out/"], "name a file"), (["--modle", model], "--model"),
                            (["--model", model, "--output", "s3://bucket"], "name a file"), ([model], model)):
            with self.subTest(words):
                self.refused(*words, says=(says,))

    def test_no_half_of_a_file_is_left(self):
        self.assertEqual(self.wait(self.start(CONVOY, "export", "--model", self.models["linear"], file_bytes_max=500000)), 1,
                         self.err)
        self.assert_one_error("model.pth")
        self.assertEqual([name for name in os.listdir(self.folder) if "model" in name], [])

    def test_help_names_the_options(self):
        self.assertEqual(self.export("--help"), 0)
        for word in ("--model", "--format", "--output"):
            self.assertIn(word, self.out)


if __name__ == "__main__":
    main(Export)
