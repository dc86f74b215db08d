#!/usr/bin/env python3
"""Pictures in S3: the bits of a run from local files, from a folder per class as it lies in the bucket and from shards,
whatever the number of ranks; read once; what is wrong with them, or with S3, is one line. With a real S3 server."""
import glob
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import s3  # noqa: E402
from job import CONVOY, Job, wait_until  # noqa: E402
from proxy import Proxy  # noqa: E402

BUCKET = "pictures"
# Names that an encoder, a URL parser or a path cleaner would spoil.
AWKWARD = ["a b.jpg", "a+b.jpg", "a%20b.jpg", "a%2Fb.jpg", "#1?x=y&z.jpg", "ü-€-𝄞.jpg", "it's \"so\".jpg", "~(1)!*.JPG",
           "a\\b.jpeg", "x;y,z@=$.jpg", "a..b.jpg", "-rf.jpg", "&amp;<b>.jpg", "l" * 200 + ".jpg"]


class S3Data(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = s3.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client()
        cls.client.make_bucket(BUCKET)
        cls.upload(cls.data, "folder")

    @classmethod
    def upload(cls, folder, prefix):
        for top, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(top, name)
                with open(path, "rb") as file:
                    cls.client.put(BUCKET, f"{prefix}/{os.path.relpath(path, folder)}", file.read())

    def setUp(self):
        super().setUp()
        self.env = {k: v for k, v in self.env.items() if not k.startswith("AWS_")}
        self.env.update({k: v for k, v in self.server.env().items() if k.startswith("AWS_")})
        self.prefix = self.id().rsplit(".", 1)[1]
        self.place = f"s3://{BUCKET}/{self.prefix}"

    def options(self, **more):
        """Four steps of a few ms an epoch."""
        return super().options(**{"image_size": 8, "global_batch": 8, "micro_batch": 4, **more})

    def pack(self, source, target, *words, status=0):
        self.assertEqual(self.wait(self.start(CONVOY, "pack", source, target, *words)), status, self.err)
        return target

    def packed(self):
        """Shards of the shared pictures below the case's prefix, several of each split."""
        return self.pack(self.data, self.place, "--shard-bytes=20000")

    def keys(self, below=""):
        start = f"{self.prefix}/{below}"
        return [item.key.decode()[len(start):] for item in self.client.list(BUCKET, start)]

    def files_of(self, folder):
        """{path below the folder: content}"""
        found = {}
        for path in self.pictures_of(folder):
            with open(path, "rb") as file:
                found[os.path.relpath(path, self.path(folder))] = file.read()
        return found

    def trained(self, data, ranks=1, **more):
        shutil.rmtree(self.path("report"), ignore_errors=True)
        self.assertEqual(self.convoy(ranks, *self.options(data=data, **more)), 0, self.err)
        return self.sha256()

    def refused(self, data, *said, status=2, ranks=1, **more):
        self.assertEqual(self.convoy(ranks, *self.options(data=data, **more)), status, self.err)
        self.assert_one_error(*said)

    def through(self, delay_s=0, attempts="2"):
        """From now on runs reach the server through what is returned."""
        proxy = Proxy(self.server.http_url, delay_s)
        self.addCleanup(proxy.end)
        self.env.update(AWS_ENDPOINT_URL_S3=proxy.url, AWS_MAX_ATTEMPTS=attempts)
        return proxy

    def long(self, data, **more):
        """Nobody waits for its end."""
        return self.start(CONVOY, "train", *self.options(**{"data": data, "epochs": 100000, **more}))

    # --- the same bits ---

    def test_folder_shards_and_local_files_give_the_same_weights(self):
        want = self.trained(self.data, epochs=2)
        shards = self.packed()
        self.assertGreater(len([key for key in self.keys("train/") if key.endswith(".tar")]), 1)
        for data, ranks in ((f"s3://{BUCKET}/folder", 1), (f"s3://{BUCKET}/folder/", 2), (shards, 1), (shards, 2)):
            with self.subTest(data=data, ranks=ranks):
                self.assertEqual(self.trained(data, ranks, epochs=2), want)
        # A split may be named by itself, and little memory and one request at a time change nothing either.
        self.assertEqual(self.trained(None, train=f"{shards}/train", val=f"s3://{BUCKET}/folder/val", epochs=2,
                                      prefetch_bytes=1 << 20, fetch_threads=1), want)

    def test_features_of_several_views_are_those_of_local_files(self):
        frozen = {"train_layers": "head", "augment_views": 2, "epochs": 3}
        want = self.trained(self.data, **frozen)
        for data, ranks in ((f"s3://{BUCKET}/folder", 1), (self.packed(), 2)):
            with self.subTest(data=data, ranks=ranks):
                self.assertEqual(self.trained(data, ranks, **frozen), want)

    def test_each_picture_is_read_once_an_epoch(self):
        shards = self.packed()
        pictures = len(self.pictures_of(self.train))
        for data in (f"s3://{BUCKET}/folder/train", f"{shards}/train"):
            with self.subTest(data=data):
                mark = self.server.log_mark()
                self.trained(None, train=data, ranks=2, epochs=3)
                gets = [r for r in self.server.requests(mark)
                        if r.method == "GET" and r.status in (200, 206) and r.path.split("?")[0].endswith((".jpg", ".tar"))]
                read = sum(r.bytes for r in gets)
                if data.endswith("folder/train"):
                    self.assertEqual(len(gets), 3 * pictures)
                    self.assertEqual(read, 3 * sum(map(os.path.getsize, self.pictures_of(self.train))))
                else:  # a few long ranges, none of them over another
                    tars = sum(item.bytes for item in self.client.list(BUCKET, f"{self.prefix}/train/")
                               if item.key.endswith(b".tar"))
                    self.assertLessEqual(read, 3 * tars)
                    self.assertLess(len(gets), pictures)

    def test_resume_in_the_middle_of_an_epoch(self):
        want = self.trained(self.data, epochs=3)
        shards = self.packed()
        for data, ranks in ((shards, 1), (f"s3://{BUCKET}/folder", 2)):
            with self.subTest(data=data):
                shutil.rmtree(self.path("checkpoint"), ignore_errors=True)
                self.trained(data, epochs=3, max_steps=6, checkpoint="checkpoint")
                mark = self.server.log_mark()
                self.assertEqual(self.trained(data, ranks, epochs=3, checkpoint="checkpoint"), want)
                self.assertIn("resuming at step 6 ", self.err)
                if data == shards:
                    continue
                train = [r for r in self.server.requests(mark)
                         if r.method == "GET" and r.status == 200 and "/train/" in r.path and r.path.endswith(".jpg")]
                self.assertEqual(len(train), 2 * 8 + 32)  # what was trained before is not read again

    def test_pack_from_and_to_s3_writes_the_same_bytes(self):
        self.pack(self.data, "want", "--shard-bytes=20000")
        want = self.files_of("want")
        self.pack(f"s3://{BUCKET}/folder", "local", "--shard-bytes=20000")
        self.assertEqual(self.files_of("local"), want)
        for source in (self.data, f"s3://{BUCKET}/folder"):
            name = f"from-{'s3' if '://' in source else 'disk'}"
            self.pack(source, f"{self.place}/{name}", "--shard-bytes=20000")
            self.assertEqual({key: self.client.get(BUCKET, f"{self.prefix}/{name}/{key}")
                              for key in self.keys(f"{name}/")}, want)
        self.pack(self.data, f"{self.place}/from-s3", status=2)
        self.assert_one_error("holds shards already", f"{self.place}/from-s3")

    def test_pack_that_fails_takes_back_what_it_wrote(self):
        shutil.copytree(self.data, self.path("in"))
        bad = self.pictures_of("in/train")[-1]
        with open(bad, "wb") as file:
            file.write(b"no picture")
        self.pack("in", self.place, "--shard-bytes=5000", "--bad-images=stop", status=2)
        self.assert_one_error(os.path.relpath(bad, self.path()), "no picture")
        self.assertEqual(self.keys(), [])
        self.assertEqual(self.client.uploads(BUCKET), [])

    def test_pack_that_was_killed_goes_on_with_the_shards_that_are_there(self):
        self.pack(self.data, "want", "--shard-bytes=5000")
        want = self.files_of("want")
        self.env["TMPDIR"] = self.path("tmp")
        os.mkdir(self.env["TMPDIR"])
        process = self.start(CONVOY, "pack", self.data, self.place, "--shard-bytes=5000")
        wait_until(lambda: len([key for key in self.keys("train/") if key.endswith(".idx")]) > 1)
        process.kill()
        process.wait()
        self.assertEqual(os.listdir(self.path("tmp")), [])  # the shard on its way has no name
        self.assertNotIn("index.json", self.keys("val/"))
        there = {key for key in self.keys("train/") if key.endswith(".idx")}
        mark = self.server.log_mark()
        self.pack(self.data, self.place, "--shard-bytes=5000")
        self.assertEqual({key: self.client.get(BUCKET, f"{self.prefix}/{key}") for key in self.keys()}, want)
        put = {request.path.rsplit("/", 1)[1] for request in self.server.requests(mark)
               if request.method == "PUT" and "/train/" in request.path}
        self.assertEqual(put & there, set())  # what was whole is not sent again

    def test_pack_that_another_takes_over_ends_and_removes_nothing(self):
        self.pack(self.data, "want", "--shard-bytes=5000")
        want = self.files_of("want")
        first = self.start(CONVOY, "pack", self.data, self.place, "--shard-bytes=5000")
        wait_until(lambda: len([key for key in self.keys("train/") if key.endswith(".idx")]) > 1)
        first.send_signal(signal.SIGSTOP)
        self.assertNotIn("train/index.json", self.keys())
        self.pack(self.data, self.place, "--shard-bytes=5000")
        first.send_signal(signal.SIGCONT)
        self.assertEqual(self.wait(first), 2, self.err)
        self.assertEqual({key: self.client.get(BUCKET, f"{self.prefix}/{key}") for key in self.keys()}, want)

    def meet(self, want, *names):
        """A pack in whose way the last files of a pack that was taken over come, while it is under way."""
        process = self.start(CONVOY, "pack", self.data, self.place, "--shard-bytes=5000")
        wait_until(lambda: len([key for key in self.keys("train/") if key.endswith(".idx")]) > 1)
        process.send_signal(signal.SIGSTOP)
        for name in names:
            self.assertNotIn(name, self.keys())
            self.client.put(BUCKET, f"{self.prefix}/{name}", want[name])
        process.send_signal(signal.SIGCONT)
        return self.wait(process)

    def test_pack_passes_the_last_shard_of_one_that_it_took_over(self):
        self.pack(self.data, "want", "--shard-bytes=5000")
        want = self.files_of("want")
        last = max(key for key in want if key.startswith("train/") and key.endswith(".tar"))
        self.assertEqual(self.meet(want, last, last.replace(".tar", ".idx")), 0, self.err)
        self.assertEqual({key: self.client.get(BUCKET, f"{self.prefix}/{key}") for key in self.keys()}, want)

    def test_pack_leaves_a_shard_that_is_not_whole_and_goes_on_when_told_again(self):
        self.pack(self.data, "want", "--shard-bytes=5000")
        want = self.files_of("want")
        last = max(key for key in want if key.startswith("train/") and key.endswith(".tar"))
        self.assertEqual(self.meet(want, last), 2, self.err)
        self.assert_one_error(os.path.basename(last), "is there already", "the same command again goes on")
        self.assertIn(last, self.keys())
        self.pack(self.data, self.place, "--shard-bytes=5000")
        self.assertEqual({key: self.client.get(BUCKET, f"{self.prefix}/{key}") for key in self.keys()}, want)

    def test_pack_whose_shard_was_removed_does_not_say_that_all_is_there(self):
        process = self.start(CONVOY, "pack", self.train, self.place, "--shard-bytes=5000")
        wait_until(lambda: len([key for key in self.keys() if key.endswith(".idx")]) > 1)
        process.send_signal(signal.SIGSTOP)
        self.client.delete(BUCKET, f"{self.prefix}/shard-000000.tar")
        process.send_signal(signal.SIGCONT)
        self.assertEqual(self.wait(process), 2, self.err)
        self.assert_one_error("shard-000000.tar", "was written, and then removed")
        self.assertNotIn("index.json", self.keys())
        self.pack(self.train, self.place, "--shard-bytes=5000")
        self.assertIn("index.json", self.keys())

    def records(self, folder):
        """The pictures of a folder per class, shuffled, as MXNet's im2rec writes them."""
        paths = sorted(self.pictures_of(folder), key=lambda path: zlib.crc32(path.encode()))
        classes = sorted({os.path.basename(os.path.dirname(path)) for path in paths})
        records = b""
        for number, path in enumerate(paths):
            with open(path, "rb") as file:
                data = struct.pack("<IfQQ", 0, classes.index(os.path.basename(os.path.dirname(path))), number, 0) + file.read()
            self.assertNotIn(struct.pack("<I", 0xced7230a), data)
            records += struct.pack("<II", 0xced7230a, len(data)) + data + bytes(-len(data) % 4)
        return records

    def test_pack_takes_records_and_lists_from_s3_as_from_files(self):
        records = self.records(self.train)
        with open(self.path("train.rec"), "wb") as file:
            file.write(records)
        names = [os.path.relpath(path, self.train) for path in self.pictures_of(self.train)]
        classes = sorted({os.path.dirname(name) for name in names})
        text = "".join(f"{i}\t{classes.index(os.path.dirname(name))}.000000\t{name}\n" for i, name in enumerate(names))
        with open(self.path("train.lst"), "w") as file:
            file.write(text)
        self.client.put(BUCKET, f"{self.prefix}/train.rec", records)
        self.client.put(BUCKET, f"{self.prefix}/train.lst", text.encode())
        for name, root, remote_root in (("train.rec", (), ()),
                                        ("train.lst", ("--root", self.train), ("--root", f"s3://{BUCKET}/folder/train"))):
            self.pack(name, f"local-{name}", "--shard-bytes=20000", *root)
            self.pack(f"{self.place}/{name}", f"remote-{name}", "--shard-bytes=20000", *remote_root)
            self.assertEqual(self.files_of(f"remote-{name}"), self.files_of(f"local-{name}"))
        # The list names what is in the folder, in whatever order: it is the same data.
        want = self.trained(None, train=self.train)
        self.assertEqual(self.trained(None, train="local-train.lst"), want)

    def test_tars_of_others_are_scanned_once_and_give_the_weights_of_shards(self):
        self.pack(self.data, "shards", "--shard-bytes=20000")
        for path in glob.glob(self.path("shards", "*", "*.tar")):
            with open(path, "rb") as file:
                name = os.path.relpath(path, self.path("shards"))
                self.client.put(BUCKET, f"{self.prefix}/{name}", file.read())
                target = self.path("tars", name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(path, target)
        want = self.trained("shards")
        self.env["TMPDIR"] = self.path("tmp")
        os.mkdir(self.env["TMPDIR"])
        for data in ("tars", self.place):
            for ranks in (1, 2):
                with self.subTest(data=data, ranks=ranks):
                    mark = self.server.log_mark()
                    self.assertEqual(self.trained(data, ranks), want)
                    self.assertEqual("read the headers of" in self.err, ranks == 1)
                    if data != "tars":
                        heads = [r for r in self.server.requests(mark) if r.method == "HEAD"]
                        self.assertGreaterEqual(len(heads), len(self.keys("train/")))
        self.assertEqual(self.trained("tars", cache="kept"), want)
        self.assertEqual(len(os.listdir(self.path("kept", "index"))), len(glob.glob(self.path("tars", "*", "*.tar"))))
        self.client.put(BUCKET, f"{self.prefix}/train/shard-000000.tar", b"no tar")
        self.refused(self.place, "shard-000000.tar", "at byte 0")

    # --- what lies in a bucket ---

    def test_awkward_keys_are_classes_and_pictures_like_others(self):
        source = self.pictures_of(self.train)
        for i, name in enumerate(AWKWARD):
            for label, letter in enumerate(("a b+%41é", "z'&?#=")):
                path = self.path("in", "train", letter, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                shutil.copy(source[2 * i + label], path)
        self.upload(self.path("in"), self.prefix)
        self.pack("in", f"{self.place}-shards")
        want = self.trained("in", val_split=0.2)
        self.assertEqual(self.trained(self.place, val_split=0.2), want)
        self.assertEqual(self.trained(f"{self.place}-shards", val_split=0.2), want)

    def test_markers_hidden_and_other_files_are_passed_over(self):
        self.upload(self.train, f"{self.prefix}/train")
        first, second = sorted(os.listdir(self.train))
        for key in ("", "train/", f"train/{first}/", f"train/{first}/notes.txt", f"train/{second}/sub/x.jpg",
                    "train/.DS_Store", f"train/{first}/.hidden.jpg", "train/README.md"):
            self.client.put(BUCKET, f"{self.prefix}/{key}", b"?" * (not key.endswith("/") and bool(key)))
        want = self.trained(None, train=self.train, val_split=0.2)
        self.assertEqual(self.trained(self.place, val_split=0.2), want)
        self.assertIn(f"2 files below '{self.place}/train' are no pictures by their name", self.err)

    def test_listing_of_many_pages(self):
        count, threads = 1100, 4
        copies = [f"{self.prefix}/train/{'ab'[i % 2]}/{i:06}.jpg" for i in range(count)]
        script = [sys.executable, "-c", "import sys, s3\n"
                  "client = s3.Client(sys.argv[1], s3.Keys(*sys.argv[2:4], None), None)\n"
                  "picture = open(sys.argv[4], 'rb').read()\n"
                  "for key in sys.stdin.read().split():\n"
                  f"    client.put('{BUCKET}', key, picture)\n"]
        keys = self.server.users["test"]
        writers = []
        for part in range(threads):
            writers.append(subprocess.Popen(
                [*script, self.server.http_url, keys.access_key, keys.secret_key, self.pictures_of(self.train)[0]],
                cwd=os.path.dirname(os.path.abspath(s3.__file__)), stdin=subprocess.PIPE, text=True))
            writers[-1].stdin.write("\n".join(copies[part::threads]))
            writers[-1].stdin.close()
        self.assertEqual([writer.wait(100) for writer in writers], [0] * threads)
        mark, begin = self.server.log_mark(), time.monotonic()
        self.trained(self.place, val_split=0.1, max_steps=1)
        lists = [r for r in self.server.requests(mark) if "list-type=2" in r.path]
        print(f"{count} keys: {len(lists)} requests to list, {time.monotonic() - begin:.2f} s to the end of a step")
        self.assertIn(f"{count} ", self.err)
        self.assertLessEqual(len(lists), 3 + 10)  # pages of 1,000, and a few looks at what the root is

    # --- the model's users ---

    def verb(self, *words, status=0):
        self.assertEqual(self.wait(self.start(CONVOY, *words)), status, self.err)
        return self.out

    def test_eval_and_predict_read_models_and_pictures_from_a_bucket(self):
        self.trained(self.data, model_dir=f"{self.place}/model")
        self.trained(self.data)
        self.packed()
        want = self.verb("eval", f"--test={self.data}/val")
        for model, test, ranks in ((f"{self.place}/model", f"s3://{BUCKET}/folder/val", 2), ("model", f"{self.place}/val", 1)):
            self.assertEqual(self.verb("eval", f"--model={model}", f"--test={test}", f"--ranks-per-host={ranks}"), want)
        subprocess.run(["tar", "-czf", self.path("m.tar.gz"), "-C", self.path("model"), "."], check=True)
        with open(self.path("m.tar.gz"), "rb") as file:
            self.client.put(BUCKET, f"{self.prefix}/job/model.tar.gz", file.read())
        for model in (f"{self.place}/job/model.tar.gz", f"{self.place}/job"):
            self.assertEqual(self.verb("eval", f"--model={model}", f"--data=s3://{BUCKET}/folder/val"), want)

        names = [os.path.relpath(name, os.path.join(self.data, "val")) for name in self.pictures_of(os.path.join(self.data, "val"))]
        here = self.verb("predict", "--format=csv", *(f"{self.data}/val/{name}" for name in names))
        there = f"s3://{BUCKET}/folder/val"
        want = here.replace(f"{self.data}/val", there)
        self.assertEqual(self.verb("predict", "--format=csv", there, "--batch=3"), want)
        one = self.verb("predict", "--format=csv", f"{there}/{names[0]}", f"--model={self.place}/model")
        self.assertEqual(one.splitlines(), want.splitlines()[:len(one.splitlines())])
        self.assertEqual(self.verb("predict", "--format=csv", there, f"--output={self.place}/out/p.csv"), "")
        self.assertEqual(self.client.get(BUCKET, f"{self.prefix}/out/p.csv").decode(), want)

    def test_eval_and_predict_of_what_is_not_in_a_bucket(self):
        self.trained(self.data)
        self.client.put(BUCKET, f"{self.prefix}/bad/a.jpg", b"<html>404</html>")
        self.client.put(BUCKET, f"{self.prefix}/notes/a.txt", b"text")
        self.client.put(BUCKET, f"{self.prefix}/none.jpg", b"")
        for words, said in ((("eval", f"--model={self.place}/nosuch", f"--test={self.data}/val"), f"'{self.place}/nosuch'"),
                            (("eval", f"--test={self.place}/nosuch"), f"'{self.place}/nosuch'"),
                            (("predict", f"{self.place}/nosuch.jpg"), f"'{self.place}/nosuch.jpg'"),
                            (("predict", f"{self.place}/notes"), f"'{self.place}/notes'"),
                            (("predict", f"{self.place}/bad"), "not one of 1 pictures"),
                            (("predict", f"{self.place}/none.jpg"), f"'{self.place}/none.jpg' is empty"),
                            (("predict", f"{self.data}/val", "--output=s3://nosuch/x"), "s3://nosuch")):
            with self.subTest(words):
                self.verb(*words, status=2)
                self.assert_one_error(said)

    def test_predict_of_objects_that_go_or_change_meanwhile(self):
        self.trained(self.data)
        with open(self.pictures_of(os.path.join(self.data, "val"))[0], "rb") as file:
            picture = file.read()
        for i in range(30):
            self.client.put(BUCKET, f"{self.prefix}/{i:02}.jpg", picture)
        self.through(delay_s=0.1)
        mark = self.server.log_mark()
        process = self.start(CONVOY, "predict", "--format=jsonl", "--fetch-threads=1", "--threads=1", self.place)
        wait_until(lambda: any(f"{self.prefix}/00.jpg" in r.path for r in self.server.requests(mark)))
        self.client.delete(BUCKET, f"{self.prefix}/27.jpg")
        self.client.put(BUCKET, f"{self.prefix}/28.jpg", picture[:-1] + b"x")
        self.assertEqual(self.wait(process), 0, self.err)
        lines = [json.loads(line) for line in self.out.splitlines()]
        bad = {os.path.basename(line["picture"]): line["error"] for line in lines if "error" in line}
        self.assertEqual((len(lines), sorted(bad)), (30, ["27.jpg", "28.jpg"]))
        self.assertIn(f"{self.place}/27.jpg", bad["27.jpg"])
        self.assertIn("was replaced", bad["28.jpg"])

    # --- what is wrong with the pictures ---

    def test_prefix_without_what_is_wanted(self):
        self.client.put(BUCKET, f"{self.prefix}/flat/x.jpg", b"x")
        self.client.put(BUCKET, f"{self.prefix}/no-pictures/train/a/readme.txt", b"x")
        self.client.put(BUCKET, f"{self.prefix}/no-pictures/train/b/x.jpg", b"x")
        self.client.put(BUCKET, f"{self.prefix}/marker/train/a/", b"")
        self.client.put(BUCKET, f"{self.prefix}/marker/train/b/x.jpg", b"x")
        self.client.put(BUCKET, f"{self.prefix}/one/train/a/x.jpg", b"x")
        self.client.put(BUCKET, f"{self.prefix}/empty/train/a/x.jpg", b"")
        self.client.put(BUCKET, f"{self.prefix}/tars/x.tar", b"x")
        place = self.place
        for data, said in ((f"{place}/nothing", (f"'{place}/nothing'", "nothing below")),
                           (f"{place}/flat", (f"'{place}/flat'", "class folder")),
                           (f"{place}/flat/x.jpg", (f"'{place}/flat/x.jpg'",)),
                           (f"{place}/no-pictures", (f"'{place}/no-pictures/train/a'", "no pictures")),
                           (f"{place}/marker", (f"'{place}/marker/train/a'", "no pictures")),
                           (f"{place}/one", (f"'{place}/one/train'", "one class only ('a')")),
                           (f"{place}/empty", (f"'{place}/empty/train/a'", "no pictures")),
                           (f"{place}/tars", (f"'{place}/tars/x.tar'", "byte 0")),
                           ("s3://nosuch/x", ("s3://nosuch", "NoSuchBucket")),
                           ("s3://", ("--data", "s3://"))):
            with self.subTest(data=data):
                self.refused(data, *said, val_split=0.5)

    def test_not_allowed(self):
        self.env.update({k: v for k, v in self.server.env("other").items() if k.startswith("AWS_")})
        self.refused(f"s3://{BUCKET}/folder", "403", "s3:ListBucket", f"s3://{BUCKET}", ranks=2)
        allow = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/other"]}, "Action": ["s3:ListBucket"],
                 "Resource": [f"arn:aws:s3:::{BUCKET}"]}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]}).encode()
        self.client.request("PUT", f"/{BUCKET}", {"policy": ""}, policy)
        self.addCleanup(self.client.request, "DELETE", f"/{BUCKET}", {"policy": ""})
        self.refused(f"s3://{BUCKET}/folder", "403", "s3:GetObject", f"s3://{BUCKET}/folder/train/", ranks=2)

    def test_shards_that_are_damaged(self):
        shards = self.packed()
        top = f"{self.prefix}/train/index.json"
        tar, index = (f"{self.prefix}/train/shard-000001.{kind}" for kind in ("tar", "idx"))
        good = {key: self.client.get(BUCKET, key) for key in (tar, index, top)}
        # The last picture ends before its padding, its class member and the tar's end.
        flipped = bytearray(good[tar])
        flipped[1000] ^= 1
        cases = (
            (tar, good[tar][:-1024], ("cut short", "shard-000001.tar")),
            (tar, good[tar] + bytes(512), ("does not match", "shard-000001.idx")),
            (tar, b"\xff" * len(good[tar]), ("CRC-32C", "shard-000001.tar")),
            (tar, bytes(flipped), ("CRC-32C", "shard-000001.tar")),
            (tar, None, ("shard-000001.tar", "missing")),
            (index, None, ("shard-000001.idx", "no such key")),
            (index, good[index][:-1], ("shard-000001.idx", "damaged")),
            (index, b"garbage", ("shard-000001.idx", "no index of a shard")),
            (index, self.client.get(BUCKET, f"{self.prefix}/train/shard-000000.idx"), ("shard-000001",)),
            (top, b"{", ("index.json",)),
            (top, good[top].replace(b'"count": 32', b'"count": 33'), ("index.json", "pack again")),
        )
        for key, content, said in cases:
            with self.subTest(said=said):
                if content is None:
                    self.client.delete(BUCKET, key)
                else:
                    self.client.put(BUCKET, key, content)
                self.refused(shards, *said, ranks=2 if content == bytes(flipped) else 1)
                self.client.put(BUCKET, key, good[key])
        self.trained(shards)

    def test_object_that_changes_under_a_run(self):
        picture = self.pictures_of(self.train)[0]
        with open(picture, "rb") as file:
            content = file.read()
        longer, as_long = content + bytes(7), content[:-1] + bytes([content[-1] ^ 1])
        changes = (("gone", None, "no such key"), ("longer", longer, "was replaced"),
                   ("shorter", content[:-9], f"it has {len(content) - 9} bytes"), ("as-long", as_long, "was replaced"))
        for name, new, said in changes:
            with self.subTest(change=name):
                shutil.rmtree(self.path("report"), ignore_errors=True)
                self.upload(self.train, f"{self.prefix}/{name}")
                key = f"{self.prefix}/{name}/{os.path.relpath(picture, self.train)}"
                process = self.long(None, train=f"{self.place}/{name}", val=f"s3://{BUCKET}/folder/val")
                wait_until(lambda: self.events("step"))
                if new is None:
                    self.client.delete(BUCKET, key)
                else:
                    self.client.put(BUCKET, key, new)
                self.assertEqual(self.wait(process), 2, self.err)
                self.assert_one_error(f"s3://{BUCKET}/{key}", said)

    def test_shard_that_is_replaced_under_a_run(self):
        shards = self.packed()
        process = self.long(shards)
        wait_until(lambda: self.events("step"))
        key = f"{self.prefix}/train/shard-000000.tar"
        self.client.put(BUCKET, key, self.client.get(BUCKET, key)[:-1] + b"\1")
        self.assertEqual(self.wait(process), 2, self.err)
        self.assert_one_error(f"s3://{BUCKET}/{key}", "was replaced while it was read")

    # --- what is wrong with S3 ---

    def test_server_that_is_slow(self):
        want = self.trained(self.data)
        shards = self.packed()
        self.through(delay_s=0.2)
        self.assertEqual(self.trained(shards, ranks=2), want)

    def test_server_that_is_away_for_a_while(self):
        want = self.trained(self.data, epochs=40)
        proxy = self.through(attempts="")  # an empty variable is as good as none
        process = self.start(CONVOY, "train", *self.options(data=f"s3://{BUCKET}/folder", epochs=40,
                                                            prefetch_bytes=1 << 20))
        wait_until(lambda: self.events("step"))
        proxy.end()
        def still():
            step = self.events("step")[-1]["step"]
            time.sleep(0.5)
            return self.events("step")[-1]["step"] == step
        wait_until(still)
        proxy.begin()
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertEqual(self.sha256(), want)

    def test_server_that_stays_away(self):
        for ranks in (1, 2):
            proxy = self.through()
            process = self.start(CONVOY, "train", f"--ranks-per-host={ranks}",
                                 *self.options(data=f"s3://{BUCKET}/folder", epochs=100000))
            wait_until(lambda: self.events("step"))
            proxy.end()
            self.assertEqual(self.wait(process), 3, self.err)
            self.assert_one_error(f"s3://{BUCKET}/folder/", f"127.0.0.1:{proxy.port}")
            shutil.rmtree(self.path("report"))

    def test_stop_while_the_server_is_silent(self):
        proxy = self.through()
        process = self.long(f"s3://{BUCKET}/folder")
        wait_until(lambda: self.events("step"))
        proxy.delay_s = 1000
        step = [None]
        def still():
            before, step[0] = step[0], self.events("step")[-1]["step"]
            time.sleep(0.2)
            return before == step[0]
        wait_until(still)
        process.terminate()
        begin = time.monotonic()
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertLess(time.monotonic() - begin, 60)


if __name__ == "__main__":
    import unittest

    s3.require()
    unittest.main(verbosity=2)
