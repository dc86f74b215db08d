#!/usr/bin/env python3
"""Manifests: --train s3://.../x.manifest trains, scores and packs what a folder of the same pictures does; bad ones are
one line and exit 2. With a real S3 server."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import s3  # noqa: E402
from job import CONVOY, Job  # noqa: E402

BUCKET = "pictures"
NOWHERE = {"data": None}


class Manifest(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = s3.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client()
        cls.client.make_bucket(BUCKET)
        cls.names = {"train": [], "val": []}
        for top, _, names in os.walk(cls.data):
            for name in names:
                path = os.path.relpath(os.path.join(top, name), cls.data)
                with open(os.path.join(top, name), "rb") as file:
                    cls.client.put(BUCKET, f"set/{path}", file.read())
                if path.split("/")[0] in cls.names:
                    cls.names[path.split("/")[0]].append(path)
        # Another class and another picture, which no manifest names.
        cls.client.put(BUCKET, "set/train/other/0.jpg", b"not named")
        cls.client.put(BUCKET, f"set/{os.path.dirname(cls.names['train'][0])}/zzz.jpg", b"not named")

    def setUp(self):
        super().setUp()
        self.env = {k: v for k, v in self.env.items() if not k.startswith("AWS_")}
        self.env.update({k: v for k, v in self.server.env().items() if k.startswith("AWS_")})

    def options(self, **more):
        return super().options(**{"image_size": 8, "global_batch": 8, "micro_batch": 4, **more})

    def put(self, entries, name="x.manifest"):
        """In the bucket; it has its name from the case."""
        key = f"{self.id().rsplit('.', 1)[1]}/{name}"
        text = entries if isinstance(entries, str) else json.dumps(entries)
        self.client.put(BUCKET, key, text.encode())
        return f"s3://{BUCKET}/{key}"

    def manifest(self, split, name=None):
        return self.put([{"prefix": f"s3://{BUCKET}/set/"}, *self.names[split]], name or f"{split}.manifest")

    def trained(self, ranks=1, **more):
        shutil.rmtree(self.path("report"), ignore_errors=True)
        self.assertEqual(self.convoy(ranks, *self.options(**more)), 0, self.err)
        return self.sha256()

    def test_weights_are_those_of_the_folder(self):
        want = self.trained(epochs=2)
        train, val = self.manifest("train"), self.manifest("val")
        for ranks in (1, 2):
            self.assertEqual(self.trained(ranks, **NOWHERE, train=train, val=val, epochs=2), want)
        with open(self.path("here.json"), "w") as file:  # a local copy of one, in the other shape of a prefix
            json.dump([{"prefix": f"s3://{BUCKET}/se"}, *["t/" + name for name in self.names["train"]]], file)
        self.assertEqual(self.trained(**NOWHERE, train="here.json", val=val, epochs=2, cache="cache",
                                      cache_bytes=10 << 20), want)
        self.assertEqual(self.events("end")[0]["cache"]["misses"], len(self.names["train"]) + len(self.names["val"]))

    def test_evaluated_and_packed_as_the_folder(self):
        self.trained()
        lines = []
        for test in (os.path.join(self.data, "val"), self.manifest("val")):
            self.assertEqual(self.wait(self.start(CONVOY, "eval", f"--test={test}")), 0, self.err)
            lines.append(self.out)
        self.assertEqual(lines[0], lines[1])
        for source, target in ((self.train, "a"), (self.manifest("train"), "b")):
            self.assertEqual(self.wait(self.start(CONVOY, "pack", source, target, "--shard-bytes=20000")), 0, self.err)
        self.assertEqual(subprocess.run(["diff", "-r", self.path("a"), self.path("b")]).returncode, 0)

    def test_shards_and_tars(self):
        self.assertEqual(self.wait(self.start(CONVOY, "pack", self.train, f"s3://{BUCKET}/shards",
                                              "--shard-bytes=20000")), 0, self.err)
        keys = [item.key.decode() for item in self.client.list(BUCKET, "shards/")]
        want = self.trained(**NOWHERE, train=f"s3://{BUCKET}/shards")
        named = self.put([{"prefix": f"s3://{BUCKET}/"}, *keys])
        self.assertEqual(self.trained(2, **NOWHERE, train=named), want)
        tars = [key for key in keys if key.endswith(".tar")][:2]
        for i, key in enumerate(tars):
            self.client.put(BUCKET, f"tars/{i}/x.tar", self.client.get(BUCKET, key))
        self.client.put(BUCKET, "tars/2/x.tar", b"no tar, and not named")
        self.trained(**NOWHERE, train=self.put([{"prefix": f"s3://{BUCKET}/tars/"}, "1/x.tar", "0/x.tar"]), cache="kept")
        self.assertIn("read the headers of 2 tars", self.err)

    def test_an_augmented_manifest_brings_its_labels(self):
        classes = sorted({os.path.dirname(name) for name in self.names["train"]})
        lines = [json.dumps({"source-ref": f"s3://{BUCKET}/set/{name}", "kind": classes.index(os.path.dirname(name)),
                             "kind-metadata": {"type": "groundtruth/image-classification"}})
                 for name in self.names["train"]]
        train = self.put("\n".join(lines), "x.jsonl")
        want = self.trained(**NOWHERE, train=train)
        self.assertEqual(self.trained(2, **NOWHERE, train=train), want)
        self.assertEqual(json.loads(self.text("model/class_labels.json")), ["0", "1"])

    def test_bad_ones_are_one_line(self):
        prefix, names = {"prefix": f"s3://{BUCKET}/set/"}, self.names["train"]
        missing = self.put([prefix, names[0], "train/gone/0.jpg"])
        for entries, *said in (([prefix, *names, names[3]], f"'s3://{BUCKET}/set/{names[3]}' twice: entries 5 and "),
                               ([prefix, names[0], 7], "entry 3: no text"), ([names[0]], 'entry 1: {"prefix"'),
                               ([prefix, names[0], "train/gone/0.jpg"], "entry 3: there is no", "train/gone/0.jpg"),
                               ("{}", "line 1: "), ("never mind", "no manifest")):
            self.put(entries)
            for ranks in (1, 2):
                self.assertEqual(self.convoy(ranks, *self.options(**NOWHERE, train=missing)), 2, self.err)
                self.assert_one_error(*said, f"'{missing}'")
        for words, said in (({"train": f"s3://{BUCKET}/none.manifest"}, "none.manifest': no such key"),
                            ({"train": "none.json"}, "none.json"),
                            ({"train": self.manifest("train"), "host_data": "train"}, "--host-data: ")):
            self.assertEqual(self.convoy(1, *self.options(**NOWHERE, **words)), 2, self.err)
            self.assert_one_error(said)


if __name__ == "__main__":
    import unittest

    s3.require()
    unittest.main(verbosity=2)
