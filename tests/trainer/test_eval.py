#!/usr/bin/env python3
"""`convoy eval`: the numbers of the run's own last evaluation, on any number of ranks, from folders and shards; models and
pictures that do not fit each other are one line, exit 2."""
import json
import os
import shutil
import signal
import struct
import subprocess
import tarfile

from job import CONVOY, Job, main, ranks_of, wait_until

CLASSES = 6


class Eval(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = os.path.join(cls.shared, "six")
        subprocess.run([CONVOY, "synth", cls.data, "--classes", str(CLASSES), "--size", "32", "--count", "120"], check=True)
        cls.test = os.path.join(cls.data, "test")
        shutil.copytree(os.path.join(cls.data, "val"), cls.test)
        cls.left = cls("left")
        cls.left.setUp()
        cls.addClassCleanup(cls.left.doCleanups)
        cls.left.trained()
        cls.model = cls.left.path("model")

    def left(self):
        """Not a case: holds what the class's model is trained in."""

    def trained(self, ranks=1, **more):
        """Leaves model and report/test here."""
        options = {"epochs": 2, "global_batch": 24, **more}
        self.assertEqual(self.convoy(ranks, *self.options(**options)), 0, self.err)
        self.trained_lines = [line for line in self.out.splitlines() if line.startswith("Testing")]

    def eval(self, *words, ranks=1, model=None, test=None, status=0):
        shutil.rmtree(self.path("eval"), ignore_errors=True)
        process = self.start(CONVOY, "eval", f"--ranks-per-host={ranks}", f"--model={model or self.model}",
                             *([] if test is False else [f"--test={test or self.test}"]), "--report=eval", "--threads=1", *words)
        self.assertIn(self.wait(process), (0, 2) if status is None else (status,), self.err)

    def result(self):
        return json.loads(self.text("eval/evaluation.json"))

    def refused(self, *said, ranks=(1, 2), **how):
        words = how.pop("words", ())
        for n in ranks:
            self.eval(*words, ranks=n, status=2, **how)
            self.assert_one_error(*said)
            self.assertEqual(self.out, "")

    def model_with(self, name="changed", labels=None, **config):
        """A copy of the model whose config.json says something else; None: nothing of it."""
        shutil.copytree(self.model, self.path(name))
        with open(self.path(name, "config.json")) as file:
            said = json.load(file)
        said.update(config)
        with open(self.path(name, "config.json"), "w") as file:
            json.dump({key: value for key, value in said.items() if value is not None}, file)
        if labels is not None:
            with open(self.path(name, "class_labels.json"), "w") as file:
                json.dump(labels, file)
        return name

    def names(self):
        with open(os.path.join(self.model, "class_labels.json")) as file:
            return json.load(file)

    # --- the same numbers ---

    def assert_as_trained(self, *words, ranks=(1, 2, 3), test=None):
        """Every bit of what the training found of its test pictures in the end."""
        last = self.events("eval")[-1]
        self.assertEqual(last["what"], "testing")
        for n in ranks:
            self.eval(*words, ranks=n, model=self.path("model"), test=test)
            found = self.result()
            for key in ("loss", "accuracy", "accuracy5", "images"):
                self.assertEqual(found[key], last[key], key)
            for table in ("classes.csv", "confusion.csv"):
                self.assertEqual(self.text(f"eval/{table}"), self.text(f"report/test/{table}"))
            self.assertEqual(self.out.splitlines()[:2], self.trained_lines)
            self.assertEqual(self.out.splitlines()[2:], [f"Testing Top-5 Accuracy: {last['accuracy5']:.6f}"])

    def test_numbers_are_those_of_the_training(self):
        self.trained()
        self.assert_as_trained()
        self.assert_as_trained("--batch=5", "--threads=2", ranks=(1, 2))

    def test_numbers_of_other_heads_layers_sizes_and_pictures(self):
        for i, way in enumerate((dict(head="64-12-relu", train_layers="head", optimizer="adam"),
                                 dict(normalize="none", eval_transform="center", image_size=24),
                                 dict(train_layers="from:layer3", batch_norm="batch", keep_model="best"),
                                 dict(model="resnet18", image_size=32, head="512-7-9-relu", max_steps=2,
                                      normalize="0.5,0.4,0.3/0.3,0.2,0.1"))):
            with self.subTest(way):
                shutil.rmtree(self.path("report"), ignore_errors=True)
                self.trained(ranks=1 + i % 2, **way)
                self.assert_as_trained(ranks=(1, 2))

    def test_folder_and_shards_and_data_and_channels_are_alike(self):
        self.eval()
        want = {**self.result(), "data": None}
        subprocess.run([CONVOY, "pack", self.test, self.path("shards"), "--shard-bytes=5000"], check=True)
        self.eval(test="shards", ranks=2)
        self.assertEqual({**self.result(), "data": None}, want)
        self.eval(f"--data={self.data}", test=False)
        self.assertEqual(self.result(), {**want, "data": self.test})
        self.env.update(SM_CHANNEL_TEST=self.test, SM_CHANNEL_MODEL=self.model, SM_OUTPUT_DATA_DIR=self.path("eval"))
        shutil.rmtree(self.path("eval"))
        self.assertEqual(self.wait(self.start(CONVOY, "eval")), 0, self.err)
        self.assertEqual({**self.result(), "data": None}, want)

    def test_foreign_mpirun(self):
        words = ["eval" if word == "train" else word for word in self.foreign(2, f"--model={self.model}", f"--test={self.test}")]
        self.eval()
        want = self.out
        self.assertEqual(self.wait(self.start(*words)), 0, self.err)
        self.assertEqual(self.out, want)

    def test_model_of_a_tar_and_of_older_and_other_writers(self):
        self.eval()
        want = self.result()
        for name, mode in (("m.tar.gz", "w:gz"), ("m.tgz", "w:gz"), ("m.tar", "w"), ("channel/model.tar.gz", "w:gz")):
            os.makedirs(self.path(os.path.dirname(name)), exist_ok=True)
            with tarfile.open(self.path(name), mode) as tar:
                tar.add(self.model, arcname=".")
        old = self.model_with("old", head=None, eval_transform=None, hyperparameters=None)
        for model in ("m.tar.gz", "m.tgz", "m.tar", "channel", old):
            self.eval(model=model)
            self.assertEqual(self.result(), {**want, "model": model})

    # --- classes ---

    def pictures(self, **classes):
        """A folder per class; each of the class that is named."""
        for name, source in classes.items():
            shutil.copytree(os.path.join(self.test, source), self.path("classes", name))
        return "classes"

    def test_class_that_the_model_does_not_know(self):
        names = self.names()
        self.refused("class 'zebra'", "'classes'", test=self.pictures(zebra=names[0], **{name: name for name in names}))

    def test_class_without_pictures(self):
        names = self.names()
        test = self.pictures(**{name: name for name in names if name != names[2]})
        self.refused(f"no pictures of the model's class '{names[2]}'", "1 classes are missing", "--partial", test=test)
        self.eval("--partial", test=test, ranks=2)
        self.assertEqual(self.result()["images"], 20)
        self.assertEqual(self.result()["classes"], CLASSES)

    def test_model_of_another_number_of_classes(self):
        other = os.path.join(self.shared, "data", "val")  # of two classes
        self.refused("no pictures of the model's class", "4 classes are missing", test=other)
        self.trained(data=os.path.join(self.shared, "data"))
        self.refused(f"class '{self.names()[2]}'", "not among the 2 classes", model="model")

    def test_model_whose_classes_are_in_another_order(self):
        names = self.names()
        names[1], names[2] = names[2], names[1]
        self.refused("another order", f"'{names[1]}'", f"'{names[2]}'", model=self.model_with(labels=names))

    # --- models ---

    def test_no_model(self):
        self.refused("'nosuch'", "convoy train", model="nosuch")
        os.mkdir(self.path("empty"))
        self.refused("'empty'", "convoy train", model="empty", ranks=(1,))
        self.refused("'nosuch.tar.gz'", model="nosuch.tar.gz", ranks=(1,))
        for file in ("class_labels.json", "model.safetensors"):
            shutil.copytree(self.model, self.path("less-" + file))
            os.remove(self.path("less-" + file, file))
            self.refused(file, model="less-" + file, ranks=(1,))

    def test_config_of_another_network(self):
        names = self.names()
        weights = "model.safetensors"
        for i, (config, said) in enumerate(((dict(model="resnet32"), (weights, "resnet32")),
                                            (dict(head="64-9-relu"), (weights, "fc.")),
                                            (dict(head="64-65536-65536-relu"), (weights, "needs")),
                                            (dict(classes=7), ("6 class names", "7")),
                                            (dict(image_size=10**12), ("image_size",)),
                                            (dict(normalize=None), ("normalize",)))):
            with self.subTest(config):
                self.refused(*said, model=self.model_with(f"m{i}", **config), ranks=(1, 2) if i < 2 else (1,))
        more = self.model_with("more", classes=7, labels=names + ["zebra"])
        self.refused(weights, "'fc.weight'", "6x64", "7x64", model=more)
        huge = self.model_with("huge", classes=600000, labels=[f"c{i:06}" for i in range(600000)])
        self.refused(weights, "needs", model=huge, ranks=(1,))

    def test_batch_that_does_not_fit(self):
        self.env["CONVOY_HOST_MEMORY"] = str(50 << 20)
        self.refused("--batch", words=["--batch=4096"])

    def test_weights_that_are_damaged(self):
        with open(os.path.join(self.model, "model.safetensors"), "rb") as file:
            good = file.read()
        for name, content in (("half", good[:len(good) // 2]), ("none", b""), ("page", b"<html>404</html>")):
            shutil.copytree(self.model, self.path(name))
            with open(self.path(name, "model.safetensors"), "wb") as file:
                file.write(content)
            self.refused(f"{name}/model.safetensors", model=name, ranks=(1,))

    def model_with_weights(self, name, values):
        """A copy of the model in which one tensor has these floats."""
        shutil.rmtree(self.path("weights"), ignore_errors=True)
        shutil.copytree(self.model, self.path("weights"))
        with open(self.path("weights", "model.safetensors"), "r+b") as file:
            bytes_of_header = struct.unpack("<Q", file.read(8))[0]
            begin, end = json.loads(file.read(bytes_of_header))[name]["data_offsets"]
            self.assertLessEqual(4 * len(values), end - begin)
            file.seek(8 + bytes_of_header + begin)
            file.write(struct.pack(f"<{len(values)}f", *values))
        return "weights"

    def test_weights_that_are_no_numbers(self):
        model = self.model_with_weights("fc.bias", [float("nan")] * CLASSES)
        self.refused("not one picture of", self.test, "finite loss", model=model)

    def test_pictures_without_a_finite_loss_are_left_out_of_the_mean(self):
        """The first class's logit of some pictures, the larger ones, is beyond all floats; this logit
        alone decides about the others: each has a loss of 0, or of the most that counts."""
        low, high = 20.0, 38.5
        while high - low > 0.01:
            exponent = (low + high) / 2
            self.eval(model=self.model_with_weights("fc.weight", [10**exponent] * 64), status=None)
            if self.out == "":
                high = exponent
                continue
            found = self.result()
            if found["nonfinite"] > 0:
                break
            low = exponent
        self.assertIn(f"{found['nonfinite']} pictures have a loss that is not finite", self.err)
        finite = found["images"] - found["nonfinite"]
        self.assertEqual(found["images"], 24)
        self.assertEqual(found["loss"], 1e4 * (finite - round(found["accuracy"] * 24)) / finite)
        for ranks in (2, 3):
            self.eval(model="weights", ranks=ranks)
            self.assertEqual(self.result(), found)

    def test_tars_that_are_none(self):
        def tar(name, *members):
            with tarfile.open(self.path(name), "w:gz") as file:
                for member in members:
                    file.add(os.path.join(self.model, os.path.basename(member)), arcname=member)
        names = ("config.json", "class_labels.json", "model.safetensors")
        tar("two.tar.gz", *names[:2])
        tar("twice.tar.gz", *names, "x/config.json")
        tar("good.tar.gz", *names)
        with open(self.path("good.tar.gz"), "rb") as file:
            good = file.read()
        for name, content in (("cut.tar.gz", good[:-9000]), ("sum.tar.gz", good[:-6] + bytes([good[-6] ^ 1]) + good[-5:]), ("page.tar.gz", b"<html>404</html>" * 100), ("none.tar.gz", b"")):
            with open(self.path(name), "wb") as file:
                file.write(content)
        for name, said in (("two", "no model.safetensors"), ("twice", "more than one config.json"), ("cut", "is cut short"), ("sum", "is damaged: incorrect data check"),
                           ("page", "is no tar"), ("none", "")):
            with self.subTest(name):
                self.refused(f"'{name}.tar.gz'", said, model=f"{name}.tar.gz", ranks=(1,))

    def test_tar_of_more_than_this_host_has(self):
        """40 KB that unpack to 40 MB of zeros."""
        shutil.copytree(self.model, self.path("big"))
        with open(self.path("big/model.safetensors"), "wb") as file:
            file.truncate(40 << 20)
        with tarfile.open(self.path("big.tar.gz"), "w:gz") as tar:
            tar.add(self.path("big"), arcname=".")
        self.env["CONVOY_HOST_MEMORY"] = str(30 << 20)
        self.refused("model.safetensors", "'big.tar.gz' has 41 MB", "31 MB", model="big.tar.gz", ranks=(1,))

    # --- pictures ---

    def test_no_pictures(self):
        os.mkdir(self.path("empty"))
        self.refused("'nosuch'", test="nosuch")
        self.refused("'empty'", test="empty")
        self.refused("class folder", test=os.path.join(self.test, self.names()[0]), ranks=(1,))
        self.refused("--data and --test", words=["--data=x"], ranks=(1,))
        self.refused("no test pictures", test=False, words=[f"--data={os.path.join(self.shared, 'data')}"], ranks=(1,))

    def test_pictures_that_are_none_are_left_out(self):
        shutil.copytree(self.test, self.path("odd"))
        pictures = self.pictures_of("odd")
        for at in (3, 11):
            with open(pictures[at], "w") as file:
                file.write("no picture")
        for ranks in (1, 2, 3):
            self.eval(test="odd", ranks=ranks)
            self.assertEqual((self.result()["images"], self.result()["left_out"]), (22, 2))
            self.assertIn("warning: 2 times a picture could not be decoded", self.err)
        self.refused("odd/", "neither a JPEG nor a PNG", test="odd", words=["--bad-images=stop"])
        for picture in pictures:
            with open(picture, "w") as file:
                file.write("no picture")
        self.refused("not one picture in 'odd'", test="odd")

    def test_more_ranks_than_pictures(self):
        name = self.names()[1]
        os.makedirs(self.path("one", name))
        shutil.copy(os.path.join(self.test, name, sorted(os.listdir(os.path.join(self.test, name)))[0]), self.path("one", name))
        self.eval("--partial", test="one")
        want = self.result()
        self.assertEqual(want["images"], 1)
        self.eval("--partial", test="one", ranks=3)
        self.assertEqual(self.result(), want)

    # --- the end ---

    def test_report_that_cannot_be_written(self):
        open(self.path("file"), "w").close()
        for place in ("file", "/proc/nosuch"):
            self.refused("--report", place, words=[f"--report={place}"], ranks=(1, 2) if place == "file" else (1,))

    def test_report_that_fails_in_the_end(self):
        self.eval()
        want = self.out
        os.makedirs(self.path("blocked/evaluation.json"))
        self.eval("--report=blocked", status=1)
        self.assert_one_error("--report", "blocked/evaluation.json")
        self.assertEqual(self.out, want)

    def test_paths_that_are_not_utf8(self):
        self.eval()
        want = self.result()
        for name, source in ((b"m\xc3\xbc\xff", self.model), (b"t\xfe", self.test)):
            shutil.copytree(os.fsencode(source), os.path.join(os.fsencode(self.folder), name))
        self.eval(model=os.fsdecode(b"m\xc3\xbc\xff"), test=os.fsdecode(b"t\xfe"))
        self.assertEqual(self.result(), {**want, "model": "mü\ufffd", "data": "t\ufffd"})

    def many(self, *words):
        """An evaluation of 2 ranks that nobody waits for, begun."""
        shutil.copytree(self.test, self.path("many"))
        for picture in self.pictures_of("many"):
            for i in range(400):
                os.link(picture, f"{picture[:-4]}-{i}.jpg")
        process = self.start(CONVOY, "eval", f"--model={self.model}", "--test=many", "--batch=1", "--threads=1", "--ranks-per-host=2",
                             *words)
        wait_until(lambda: "pictures in 'many'" in self.text("stderr"))
        return process

    def test_rank_that_dies_ends_it_with_one_line(self):
        process = self.many("--report=dead")
        os.kill(ranks_of(process)[1], signal.SIGKILL)
        self.assertEqual(self.wait(process), 137, self.err)
        self.assert_one_error("died by signal 9")
        self.assertEqual((self.out, os.path.exists(self.path("dead/evaluation.json"))), ("", False))

    def test_stop(self):
        process = self.many()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertEqual(self.out, "")
        self.assertIn("asked to stop while testing", self.err)


if __name__ == "__main__":
    main(Eval)
