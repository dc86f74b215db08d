#!/usr/bin/env python3
"""Training with its pictures and checkpoints in S3 while bytes change on their way: the weights of a run without faults, or
one line about what stays wrong. With the real server behind the fault proxy."""
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import s3  # noqa: E402
from faults import Faults  # noqa: E402
from job import CONVOY, Job  # noqa: E402

BUCKET = "pictures"


class S3Faults(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = s3.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client()
        cls.client.make_bucket(BUCKET)
        cls.shards = f"s3://{BUCKET}/shards"
        subprocess.run([CONVOY, "pack", cls.data, cls.shards, "--shard-bytes=20000"], env=cls.server.env(), check=True)

    def setUp(self):
        super().setUp()
        self.place = f"s3://{BUCKET}/{self.id().rsplit('.', 1)[1]}"
        self.reach(self.server)

    def reach(self, by):
        self.env = {k: v for k, v in self.env.items() if not k.startswith("AWS_")}
        self.env.update({k: v for k, v in by.env().items() if k.startswith("AWS_")})

    def through(self, *rules, **more):
        proxy = Faults(self.server, *rules, **more)
        self.addCleanup(proxy.stop)
        self.reach(proxy)
        return proxy

    def trained(self, ranks=1, status=0, **more):
        shutil.rmtree(self.path("report"), ignore_errors=True)
        options = {"image_size": 8, "global_batch": 8, "micro_batch": 4, "epochs": 2, "data": self.shards, **more}
        self.assertEqual(self.convoy(ranks, *self.options(**options)), status, self.err)
        return self.sha256() if status == 0 else None

    def read_again(self):
        return sum(map(int, re.findall(r"(\d+) times a picture .* was read again", self.err)))

    def test_11_a_picture_of_a_shard_that_came_damaged_is_read_again(self):
        want = self.trained(data=self.data)
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                # The first sample of a tar lies behind a header of 512 bytes, and ranges begin with samples.
                # Three of a sample's four readings may be damaged, should all three be of one.
                proxy = self.through("GET */train/*.tar #1-3 flip at=0", "GET */val/*.tar #1 flip at=7")
                self.assertEqual(self.trained(ranks), want)
                self.assertGreaterEqual(self.read_again(), 2)
                self.assertEqual(proxy.report()["flip"], 4)
        self.assertIn("another CRC-32C than its index has", self.err)

    def test_11_a_picture_that_stays_damaged_is_named(self):
        self.through("GET */train/*.tar flip at=0")
        self.trained(status=2)
        self.assert_one_error(f"{self.shards}/train/shard-", "CRC-32C", "each time it is read")

    def test_11_an_index_or_listing_that_came_damaged_is_read_again(self):
        want = self.trained(data=self.data)
        proxy = self.through()
        self.trained(max_steps=1)
        lists = proxy.requests("GET", "list-type=2")
        for rules in (["GET *.idx #2-3 flip"], ["GET *index.json #1 flip at=40"],
                      ["GET *index.json #2 flip"]):
            with self.subTest(rules=rules):
                self.through(*rules)
                self.assertEqual(self.trained(), want)
        # Any byte of a listing: most are of its keys, lengths and ETags; an ETag of the tars is remembered for the run.
        tars = [n + 1 for n, r in enumerate(lists) if r.path.endswith("train%2F")][-2:]
        for number, at in [(n + 1, at) for n in range(len(lists)) for at in (150, 400, 520)] + [
                (n, at) for n in tars for at in range(840, 900, 9)]:
            with self.subTest(listing=number, at=at):
                self.through(f"GET *list-type=2* #{number} flip at={at}")
                self.trained(max_steps=1)

    def test_11_a_checkpoint_or_lease_that_came_damaged_is_read_again(self):
        want = self.trained(data=self.data, epochs=3)
        self.trained(epochs=3, max_steps=7, checkpoint=self.place, checkpoint_every=2)
        proxy = self.through("GET *.safetensors #1-2 flip", "GET *convoy-lease.json #1 flip at=40")
        self.assertEqual(self.trained(epochs=3, checkpoint=self.place), want)
        self.assertIn("resuming at step 7 ", self.err)
        self.assertNotIn("passing over", self.err)
        self.assertEqual(proxy.report()["flip"], 3)

    def test_01_a_job_with_all_it_has_in_an_ill_bucket_ends_as_in_a_sound_one(self):
        want = self.trained(data=self.data, epochs=4)
        proxy = self.through(seed=11, delay_ms=10, delay_p99_ms=200, shares={"503": 0.1, "500": 0.05, "reset": 0.03,
                                                                            "cut": 0.03, "flip": 0.02})
        where = {"checkpoint": f"{self.place}/state", "model_dir": f"{self.place}/model", "prefetch_bytes": 1 << 20}
        self.trained(epochs=4, max_steps=10, **where)
        self.assertEqual(self.trained(2, epochs=4, **where), want)
        self.assertIn("resuming at step 10 ", self.err)
        report = proxy.report()
        print(report)
        for kind in ("status", "reset", "cut", "flip"):
            self.assertGreater(report[kind], 0)
        kept = self.client.get(BUCKET, f"{self.place.split('/')[-1]}/model/model.safetensors")
        self.reach(self.server)
        self.trained(data=self.data, epochs=4, model_dir="model")
        with open(self.path("model/model.safetensors"), "rb") as file:
            self.assertEqual(kept, file.read())
        self.assertEqual(self.client.uploads(BUCKET), [])


if __name__ == "__main__":
    s3.require()
    unittest.main(verbosity=2)
