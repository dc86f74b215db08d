#!/usr/bin/env python3
"""`convoy predict`: given pictures in their order, whatever the format, batch and threads; pictures that are none have a
line; what cannot be done is one line, exit 2, and leaves no file."""
import csv
import io
import json
import os
import shutil
import subprocess

from job import BIN, CONVOY, Job, main, wait_until

PICTURES = os.path.join(BIN, "test_trainer_pictures")
CLASSES = 6


class Predict(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = os.path.join(cls.shared, "six")
        subprocess.run([CONVOY, "synth", cls.data, "--classes", str(CLASSES), "--size", "32", "--count", "120"], check=True)
        cls.test = os.path.join(cls.data, "val")
        cls.made = cls("made")
        cls.made.setUp()
        cls.addClassCleanup(cls.made.doCleanups)
        if cls.made.convoy(1, *cls.made.options(epochs=2, global_batch=24)) != 0:
            raise AssertionError(cls.made.err)
        cls.model = cls.made.path("model")

    def made(self):
        """Not a case: holds what the class's model is trained in."""

    def predict(self, *words, model=None, status=0, **more):
        process = self.start(CONVOY, "predict", f"--model={model or self.model}", "--threads=1", *words, **more)
        self.assertEqual(self.wait(process), status, self.err)
        return self.out

    def lines(self, *words, **how):
        return [json.loads(line) for line in self.predict("--format=jsonl", *words, **how).splitlines()]

    def refused(self, *said, words, **how):
        self.predict(*words, status=2, **how)
        self.assert_one_error(*said)

    def files(self):
        return [os.path.join(top, name) for top, _, names in sorted(os.walk(self.test)) for name in sorted(names)]

    def write(self, name, content=b""):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(content)
        return name

    # --- what comes out ---

    def test_order_is_that_of_the_words(self):
        files = self.files()
        self.assertEqual([line["picture"] for line in self.lines(self.test)], files)
        words = [files[7], os.path.dirname(files[0]), files[7], files[2]]
        below = [file for file in files if os.path.dirname(file) == os.path.dirname(files[0])]
        self.assertEqual([line["picture"] for line in self.lines(*words)], [files[7], *below, files[7], files[2]])

    def test_formats_say_the_same(self):
        lines = self.lines(self.test, "--top-k=3")
        rows = list(csv.DictReader(io.StringIO(self.predict(self.test, "--top-k=3", "--format=csv"))))
        self.assertEqual(len(rows), 3 * len(lines))
        names = json.loads(open(os.path.join(self.model, "class_labels.json")).read())
        for at, row in enumerate(rows):
            line, rank = lines[at // 3], at % 3
            guess = line["guesses"][rank]
            self.assertEqual((row["picture"], row["rank"], row["label"], row["class"], row["error"]),
                             (line["picture"], str(rank + 1), str(guess["label"]), guess["class"], ""))
            self.assertEqual(guess["class"], names[guess["label"]])
            self.assertEqual(float(row["probability"]), guess["probability"])
        text = self.predict(self.test, "--top-k=3").splitlines()
        self.assertEqual(text, [line["picture"] + ": " + ", ".join(f"{g['class']} {g['probability']:.6f}" for g in line["guesses"])
                                for line in lines])

    def test_top_k(self):
        self.assertEqual({len(line["guesses"]) for line in self.lines(self.test)}, {5})
        for line in self.lines(self.test, f"--top-k={CLASSES}"):
            found = [guess["probability"] for guess in line["guesses"]]
            self.assertEqual(found, sorted(found, reverse=True))
            self.assertAlmostEqual(sum(found), 1, places=6)
        self.refused("--top-k 7", "6 classes", words=["--top-k=7", self.test])
        self.refused("--top-k", words=["--top-k=0", self.test])

    def test_numbers_of_a_picture_are_its_own(self):
        want = self.predict("--format=jsonl", self.test)
        for words in (["--batch=1"], ["--batch=5", "--threads=2", "--decode-threads=3"], ["--batch=7", "--threads=3"]):
            self.assertEqual(self.predict("--format=jsonl", self.test, *words), want, words)
        alone = [self.predict("--format=jsonl", file) for file in self.files()[:4]]
        self.assertEqual(alone, want.splitlines(keepends=True)[:4])
        odd = self.write("odd.jpg", b"no picture")
        among = self.predict("--format=jsonl", odd, *self.files()[:4], odd, "--batch=3").splitlines(keepends=True)
        self.assertEqual(among[1:5], alone)

    def test_first_guesses_are_those_of_eval(self):
        found = self.lines(self.test)
        right = sum(line["guesses"][0]["class"] == os.path.basename(os.path.dirname(line["picture"])) for line in found)
        self.assertEqual(self.wait(self.start(CONVOY, "eval", f"--model={self.model}", f"--test={self.test}")), 0)
        self.assertIn(f"Testing Accuracy: {right / len(found):.6f}\n", self.out)

    def test_shards(self):
        subprocess.run([CONVOY, "pack", self.test, self.path("shards"), "--shard-bytes=5000"], check=True)
        want = {os.path.relpath(line["picture"], self.test): line["guesses"] for line in self.lines(self.test)}
        self.assertEqual({line["picture"]: line["guesses"] for line in self.lines("shards")}, want)
        self.refused("'shards'", "the only one", words=["shards", self.files()[0]])

    def test_model_of_a_platforms_channel(self):
        want = self.predict(self.files()[0])
        os.mkdir(self.path("channel"))
        subprocess.run(["tar", "-czf", self.path("channel/model.tar.gz"), "-C", self.model, "."], check=True)
        self.env["SM_CHANNEL_MODEL"] = self.path("channel")
        self.assertEqual(self.wait(self.start(CONVOY, "predict", self.files()[0])), 0, self.err)
        self.assertEqual(self.out, want)

    # --- pictures that are none ---

    def test_bad_pictures_have_a_line(self):
        good = self.files()[0]
        subprocess.run([PICTURES, self.folder], check=True)
        words = [self.write("empty.jpg"), good, "nosuch.jpg", self.write("page.jpg", b"<html>404</html>"), "truncated.jpg",
                 self.write("x.txt", b"text"), "grey.jpg", "cmyk.jpg", "png-0.png", good]
        for batch in (1, 3, 32):
            lines = self.lines(*words, f"--batch={batch}")
            self.assertEqual([line["picture"] for line in lines], words)
            bad = {line["picture"] for line in lines if "error" in line}
            self.assertEqual(bad, {"empty.jpg", "nosuch.jpg", "page.jpg", "x.txt"})
            for line in lines:
                self.assertEqual("guesses" in line, "error" not in line)
                if "error" in line:
                    self.assertIn(line["picture"], line["error"])
            self.assertEqual(lines[1], lines[-1])
            self.assertIn("warning: 4 pictures could not be predicted; the first: ", self.err)
            self.assertIn("warning: 1 pictures were cut short and decoded as far as they go; the first is 'truncated.jpg'", self.err)
        self.assertIn("nosuch.jpg: error: ", self.predict(*words))
        rows = list(csv.DictReader(io.StringIO(self.predict(*words, "--format=csv", "--top-k=1"))))
        self.assertEqual([bool(row["error"]) for row in rows], [word in bad for word in words])

    def test_paths_that_cannot_be_read_have_a_line(self):
        good = self.files()[0]
        os.symlink("self.jpg", self.path("self.jpg"))
        words = ["self.jpg", "n" * 300 + ".jpg", good, "/dev/null", good]
        process = ["bash", "-c", 'exec "$@" <(cat "$0")', good, CONVOY, "predict", f"--model={self.model}", "--threads=1",
                   "--format=jsonl", *words]
        self.assertEqual(self.wait(self.start(*process)), 0, self.err)
        lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual(["error" in line for line in lines], [True, True, False, True, False, True])
        for line, said in zip(lines, ("symbolic links", "too long", None, "a pipe", None, "a pipe")):
            self.assertTrue(said is None or said in line["error"], line)
        self.assertEqual(lines[2], lines[4])

    def test_nothing_that_could_be_predicted(self):
        self.write("page.jpg", b"<html>404</html>")
        self.predict("page.jpg", "nosuch.jpg", "--format=jsonl", status=2)
        self.assert_one_error("not one of 2 pictures", "'page.jpg'")
        self.assertEqual(len(self.out.splitlines()), 2)
        self.refused("not one of 2 pictures", words=["page.jpg", "nosuch.jpg", "--output=out.jsonl"])
        self.assertFalse(os.path.exists(self.path("out.jsonl")))

    def test_folders_with_nothing_to_predict(self):
        os.mkdir(self.path("empty"))
        self.write("notes/readme.txt", b"text")
        for name in ("empty", "notes"):
            self.refused("no pictures", f"'{name}'", words=[name])

    def test_folder_that_leads_back(self):
        os.mkdir(self.path("loop"))
        os.symlink(".", self.path("loop", "again"))
        self.refused("symbolic link", words=["loop"])

    def test_names_of_all_kinds(self):
        names = ["a b,\"c\".jpg", "ü.jpg", "-x.jpg", "line\nbreak.jpg", b"\xc3\xbc\xff\xfe.jpg"]
        folder = os.fsencode(self.path("names"))
        os.mkdir(folder)
        for name in names:
            shutil.copy(self.files()[0], os.path.join(folder, os.fsencode(name)))
        lines = self.lines("names")
        self.assertEqual({line["picture"] for line in lines}, {*(f"names/{n}" for n in names[:-1]), "names/ü\ufffd\ufffd.jpg"})
        with open(self.path("stdout"), "wb") as out:
            subprocess.run([CONVOY, "predict", f"--model={self.model}", "names", "--format=csv", "--top-k=1"], cwd=self.folder,
                           env=self.env, stdout=out, stderr=subprocess.DEVNULL, check=True)
        with open(self.path("stdout"), newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual({row["picture"] for row in rows}, {f"names/{os.fsdecode(name)}" for name in names})
        shutil.copy(self.files()[0], self.path("--odd.jpg"))
        self.assertEqual(self.lines("--", "--odd.jpg")[0]["picture"], "--odd.jpg")

    # --- the output ---

    def test_output_file(self):
        want = self.predict(self.test, "--format=csv")
        self.write("out.csv", b"of before")
        for name in ("out.csv", "new/below/out.csv", self.path("absolute.csv")):
            self.assertEqual(self.predict(self.test, "--format=csv", f"--output={name}"), "")
            with open(self.path(name)) as file:
                self.assertEqual(file.read(), want)
        self.assertEqual(sorted(os.listdir(self.path("new/below"))), ["out.csv"])

    def test_stop(self):
        shutil.copytree(self.test, self.path("many"))
        for picture in self.pictures_of("many"):
            for i in range(400):
                os.link(picture, f"{picture[:-4]}-{i}.jpg")
        process = self.start(CONVOY, "predict", f"--model={self.model}", "--threads=1", "--batch=1", "many", "--output=out/all")
        wait_until(lambda: os.path.isdir(self.path("out")) and os.listdir(self.path("out")))
        process.terminate()
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertEqual(os.listdir(self.path("out")), [])
        self.assertIn("stopped", self.err)

    def test_output_that_cannot_be_written(self):
        self.write("file")
        os.mkdir(self.path("folder"))
        os.mkfifo(self.path("fifo"))
        for place in ("file/out", "folder", "/proc/nosuch", "folder/", "fifo", "s3:///x"):
            self.refused("--output", words=[self.test, f"--output={place}"])
        self.predict(self.test, "--format=jsonl", "--output=folder/out", status=1, file_bytes_max=1000)
        self.assert_one_error("folder/out")
        self.assertEqual(os.listdir(self.path("folder")), [])
        with open("/dev/full", "w") as full:
            done = subprocess.run([CONVOY, "predict", f"--model={self.model}", self.test], env=self.env, stdout=full,
                                  stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("stdout", done.stderr)

    def test_progress_on_a_terminal(self):
        words = [CONVOY, "predict", f"--model={self.model}", "--threads=1", "--batch=4", self.test]
        for more, shown in ((["--output=out"], True), ([], True), (["both"], False)):
            ours, theirs = os.openpty()
            with open(self.path("stdout"), "wb") as out:
                done = subprocess.Popen([*words, *(word for word in more if word != "both")], cwd=self.folder, env=self.env,
                                        stdout=theirs if more == ["both"] else out, stderr=theirs)
            os.close(theirs)
            seen = b""
            try:
                while part := os.read(ours, 4096):
                    seen += part
            except OSError:  # nobody has the other end any more
                pass
            os.close(ours)
            self.assertEqual(done.wait(), 0)
            self.assertEqual(b"predicting" in seen, shown, seen)

    # --- options and models ---

    def test_options_that_are_wrong(self):
        for word, said in (("--format=xml", "--format"), ("--batch=0", "--batch"), ("--frobnicate", "--frobnicate"), ("-k", "unknown option '-k'"),
                           ("--test=x", "--test"), ("--top-k=many", "--top-k"), ("s3://", "s3://"), ("http://host/x", "http://host/x")):
            self.refused(said, words=[word, self.test])
        self.refused("no pictures", words=[])
        self.refused("s3://bucket/x", "the only one", words=["s3://bucket/x", self.test])

    def test_models_that_are_none(self):
        file = self.files()[0]
        self.refused("'nosuch", words=[file], model="nosuch")
        for name, edit, said in (("size", dict(image_size=2048.5), "image_size"), ("head", dict(head="64-3-relu"), "'fc."),
                                 ("classes", dict(classes=2 ** 31), "classes"), ("network", dict(model="resnet56"), "layer1.")):
            shutil.copytree(self.model, self.path(name))
            with open(self.path(name, "config.json")) as config:
                said_so = json.load(config)
            with open(self.path(name, "config.json"), "w") as config:
                json.dump({**said_so, **edit}, config)
            self.refused(said, f"{name}/", words=[file, "--output=out"], model=name)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_help(self):
        for verb, word in (("predict", "--top-k"), ("eval", "--test")):
            self.assertEqual(self.wait(self.start(CONVOY, verb, "--help")), 0)
            self.assertIn(word, self.out)
            self.assertEqual(self.wait(self.start(CONVOY, "--help")), 0)
            self.assertIn(f"convoy {verb} ", self.out)

    def test_under_mpirun_it_is_refused(self):
        words = [word for word in self.foreign(2, self.test)]
        words[words.index("train")] = "predict"
        self.assertEqual(self.wait(self.start(*words)), 2, self.err)
        self.assertEqual(self.err.count("error: "), 1, self.err)


if __name__ == "__main__":
    main(Predict)
