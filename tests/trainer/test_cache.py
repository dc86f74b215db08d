#!/usr/bin/env python3
"""--cache: pictures of S3 kept on the disk. The same bits with it; no request for what is there; never above
--cache-bytes; damage, kills, a full disk and other people's files. With a real S3 server."""
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import s3  # noqa: E402
from job import CONVOY, Job, ranks_of, wait_until  # noqa: E402

BUCKET = "pictures"
COUNT = 1100  # of training: five chunks, of 256 pictures at most


class Cache(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = s3.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client()
        cls.client.make_bucket(BUCKET)
        cls.many = os.path.join(cls.shared, "many")
        subprocess.run([CONVOY, "synth", cls.many, "--classes", "2", "--size", "32", "--count", str(COUNT)], check=True)
        cls.upload(os.path.join(cls.data), "folder")
        env = {**os.environ, **{k: v for k, v in cls.server.env().items() if k.startswith("AWS_")}}
        subprocess.run([CONVOY, "pack", cls.many, f"s3://{BUCKET}/shards", "--shard-bytes=400000"], check=True, env=env)
        cls.bytes = sum(item.bytes for item in cls.client.list(BUCKET, "shards/train/") if item.key.endswith(b".tar"))

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
        self.cache = self.path("cache")
        self.shards = f"s3://{BUCKET}/shards"

    def options(self, **more):
        return super().options(**{"image_size": 8, "global_batch": 64, "micro_batch": 16, "data": None,
                                  "train": f"{self.shards}/train", **more})

    def trained(self, ranks=1, **more):
        """The weights; what was read of pictures is left in self.gets and self.read."""
        shutil.rmtree(self.path("report"), ignore_errors=True)
        mark = self.server.log_mark()
        self.assertEqual(self.convoy(ranks, *self.options(**more)), 0, self.err)
        gets = [r for r in self.server.requests(mark) if r.method == "GET" and r.status in (200, 206)]
        self.gets = [r for r in gets if r.path.split("?")[0].endswith((".jpg", ".tar"))]
        self.read = sum(r.bytes for r in self.gets)
        return self.sha256()

    def counts(self):
        return self.events("end")[0]["cache"]

    def assert_kept(self):
        """All of them; of two that read one at once (a rank, or the next epoch read ahead) both may write it."""
        counts = self.counts()
        self.assertGreaterEqual(counts["kept"], COUNT)
        self.assertLessEqual(counts["kept"], counts["misses"])

    def du(self, folder=None):
        """Bytes of the folder, its own and those of folders below it included."""
        out = subprocess.run(["du", "-s", "-B1", folder or self.cache], capture_output=True, text=True)
        return int(out.stdout.split()[0]) if out.stdout else 0

    def chunks(self):
        return sorted(p for p in self.pictures_of("cache") if p.endswith(".chunk"))

    # --- what it is for ---

    def test_later_epochs_and_runs_read_nothing_and_bits_stay(self):
        self.trained(epochs=1)
        once = len(self.gets)
        want = self.trained(epochs=3)
        self.assertEqual(self.trained(epochs=3, cache=self.cache, cache_bytes=10 << 20), want)
        counts = self.counts()
        self.assertEqual(counts["misses"] + counts["hits"], 3 * COUNT)
        self.assert_kept()
        self.assertLess(len(self.gets), 2 * once)
        self.assertLess(counts["misses"], 3 * COUNT // 2)  # some: the second epoch is read ahead while the first one is written
        self.assertEqual(self.events("epoch")[0]["cache"]["evicted"], 0)
        self.assertIn(f"--cache '{self.cache}': {counts['hits']} pictures", self.err)
        self.assertEqual(self.trained(epochs=3, cache=self.cache, cache_bytes=10 << 20), want)
        self.assertEqual(self.gets, [])
        self.assertEqual(self.counts()["hits"], 3 * COUNT)

    def test_ranks_of_a_host_share_it(self):
        """What one of them read another finds; lanes change hands from epoch to epoch."""
        want = self.trained(epochs=3)
        self.assertEqual(self.trained(2, epochs=3, cache=self.cache, cache_bytes=10 << 20), want)
        self.assert_kept()
        for ranks in (1, 2):
            self.assertEqual(self.trained(ranks, epochs=3, cache=self.cache, cache_bytes=10 << 20), want)
            self.assertEqual(self.gets, [])

    def test_folder_per_class_with_validation_and_test(self):
        folder = f"s3://{BUCKET}/folder"
        more = {"train": f"{folder}/train", "val": f"{folder}/val", "test": f"{folder}/val", "epochs": 3,
                "global_batch": 8, "micro_batch": 4}
        want = self.trained(**more)
        self.assertEqual(self.trained(**more, cache=self.cache, cache_bytes=10 << 20), want)
        train, val = (len(self.pictures_of(os.path.join(self.data, split))) for split in ("train", "val"))
        self.assertEqual(len(self.gets), train + val)  # a request each; of test nothing: it is val
        self.assertEqual(self.trained(**more, cache=self.cache, cache_bytes=10 << 20), want)
        self.assertEqual(self.gets, [])

    def test_of_a_set_too_large_nothing_is_kept(self):
        """Its index is read on demand: with a whole one's weights, and a warning."""
        want = self.trained(epochs=2)
        self.env["CONVOY_INDEX_WHOLE_MAX"] = str(COUNT - 1)
        for ranks in (1, 2):
            self.assertEqual(self.trained(ranks, epochs=2, cache=self.cache, cache_bytes=10 << 20), want)
            self.assertIn("shards, whose indexes are read as they are wanted", self.err)
            self.assertIn(f"has {COUNT} pictures, too many to keep any", self.err)
            self.assertGreater(len(self.gets), 0)
            self.assertEqual(self.counts()["kept"], 0)

    def test_hyperparameters_name_it(self):
        self.env.update(SM_HP_CACHE=self.cache, SM_HP_CACHE_BYTES=str(10 << 20))
        self.trained(epochs=2)
        self.assertGreater(self.counts()["hits"], COUNT // 2)

    # --- its limit ---

    def test_never_more_than_its_bytes(self):
        want = self.trained(epochs=4)
        read = self.read
        for size in (1, 20000, 50000, 100000, 300000, 700000, 1000000):
            with self.subTest(size):
                shutil.rmtree(self.cache, ignore_errors=True)
                self.most = 0
                shutil.rmtree(self.path("report"), ignore_errors=True)
                mark = self.server.log_mark()
                process = self.start(CONVOY, "train", "--ranks-per-host=2",
                                     *self.options(epochs=4, cache=self.cache, cache_bytes=size))
                while process.poll() is None:
                    self.most = max(self.most, self.du())
                    time.sleep(0.01)
                self.assertEqual(self.wait(process), 0, self.err)
                self.assertEqual(self.sha256(), want)
                self.assertLessEqual(max(self.most, self.du()), size)
                got = sum(r.bytes for r in self.server.requests(mark)
                          if r.status == 206 and r.path.split("?")[0].endswith(".tar"))
                self.assertLessEqual(got, read * 1.02)
                if size >= 1000000:
                    self.assertLess(got, read * 0.75)
                self.assertEqual(self.err.count("--cache:"), size < 24576, self.err)  # one warning, or none

    def test_a_smaller_limit_later_makes_it_smaller(self):
        self.trained(cache=self.cache, cache_bytes=10 << 20)
        self.assertGreater(self.du(), 400000)
        self.trained(cache=self.cache, cache_bytes=400000)
        self.assertLessEqual(self.du(), 400000)
        self.trained(cache=self.cache, cache_bytes=1)
        self.assertLessEqual(self.du(), 24576)  # lock, users and the folders
        self.assertEqual(self.chunks(), [])

    # --- what it does not touch, and what is not trusted ---

    def test_other_files_stay(self):
        self.trained(cache=self.cache, cache_bytes=10 << 20)
        key = os.path.dirname(self.chunks()[0])
        mine = {os.path.join(self.cache, "notes.txt"), os.path.join(self.cache, "pictures", "a.jpg"),
                os.path.join(key, "b.jpg"), os.path.join(key, "00000fff.chunk"),
                os.path.join(self.cache, "pictures", "f" * 64, "00000000.chunk"),
                os.path.join(self.cache, "pictures", "f" * 64, "table")}
        for path in mine:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write("not yours, and longer than a magic number")
        folder = f"s3://{BUCKET}/folder"
        self.trained(cache=self.cache, cache_bytes=60000)
        self.trained(cache=self.cache, cache_bytes=80000, train=f"{folder}/train", global_batch=8, micro_batch=4)
        self.trained(cache=self.cache, cache_bytes=1)
        self.assertEqual({p for p in self.pictures_of("cache") if os.path.basename(p) not in ("lock", "users", "warned")}, mine)

    def test_two_datasets_side_by_side(self):
        folder = {"train": f"s3://{BUCKET}/folder/train", "global_batch": 8, "micro_batch": 4}
        big = {"cache": self.cache, "cache_bytes": 10 << 20}
        self.trained(**big)
        self.trained(**big, **folder)
        self.trained(**big)
        self.assertEqual(self.gets, [])
        self.trained(**big, **folder)
        self.assertEqual(self.gets, [])

    def test_what_changed_in_s3_is_another_dataset(self):
        prefix = "changing"
        self.upload(self.data, prefix)
        more = {"train": f"s3://{BUCKET}/{prefix}/train", "global_batch": 8, "micro_batch": 4, "cache": self.cache,
                "cache_bytes": 10 << 20}
        self.trained(**more)
        pictures = self.pictures_of(self.train)
        one = next(p for p in pictures[1:] if os.path.getsize(p) != os.path.getsize(pictures[0]))
        with open(one, "rb") as file:
            self.client.put(BUCKET, f"{prefix}/train/{os.path.relpath(pictures[0], self.train)}", file.read())
        changed = self.trained(**more)
        self.assertEqual(len(self.gets), len(pictures))
        self.assertEqual(self.trained(**{**more, "cache": None, "cache_bytes": None}), changed)

    def test_a_flipped_bit_is_noticed_and_read_again(self):
        big = {"epochs": 2, "cache": self.cache, "cache_bytes": 10 << 20}
        want = self.trained(**big)
        chunks = self.chunks()
        for at in (100, os.path.getsize(chunks[0]) // 2, 10):  # a record, a picture, the header
            with self.subTest(at):
                with open(chunks[0], "r+b") as file:
                    file.seek(at)
                    byte = file.read(1)
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 4]))
                self.assertEqual(self.trained(**big), want)
                self.assertEqual(self.counts()["damaged"], int(at != 100))  # a void record is one that is not there
                self.assertGreater(len(self.gets), 0)
                self.assertEqual(self.trained(**big), want)
                self.assertEqual((self.gets, self.counts()["damaged"]), ([], 0))

    def test_an_evaluation_keeps_and_uses_them_too(self):
        for item in self.client.list(BUCKET, "shards/"):
            if item.key.endswith(b".tar"):  # other people's: without an index
                self.client.put(BUCKET, f"tars/{item.key.decode()[7:]}", self.client.get(BUCKET, item.key.decode()))
        for place in (self.shards, f"s3://{BUCKET}/tars"):
            shutil.rmtree(self.cache, ignore_errors=True)
            self.trained(train=f"{place}/train")
            lines = []
            for ranks, words in ((1, []), (1, [f"--cache={self.cache}"]), (2, [f"--cache={self.cache}"]),
                                 (1, [f"--cache={self.cache}", "--cache-bytes=1"])):
                mark = self.server.log_mark()
                process = self.start(CONVOY, "eval", f"--ranks-per-host={ranks}", f"--test={place}/val", *words)
                self.assertEqual(self.wait(process), 0, self.err)
                lines.append(self.out)
                gets = [r for r in self.server.requests(mark) if r.method == "GET" and ".tar" in r.path]
                self.assertEqual(gets == [], ranks == 2, self.err)
                self.assertEqual(f"--cache '{self.cache}': " in self.err, words != [], self.err)
            self.assertEqual(set(lines), {lines[0]})
            self.assertEqual(os.path.isdir(os.path.join(self.cache, "index")), place != self.shards)

    # --- ends ---

    def test_killed_at_any_moment(self):
        want = self.trained(epochs=3)
        big = {"epochs": 3, "cache": self.cache, "cache_bytes": 700000}
        for i in range(8):
            process = self.start(CONVOY, "train", "--ranks-per-host=2", *self.options(**big))
            wait_until(lambda: len(ranks_of(process)) == 2 or process.poll() is not None)
            wait_until(lambda: os.path.isdir(self.cache) and os.listdir(self.cache) or process.poll() is not None)
            time.sleep(0.03 * i)
            for pid in ranks_of(process):
                os.kill(pid, signal.SIGKILL)
            self.wait(process)
            self.assertLessEqual(self.du(), 700000)
        for _ in range(2):
            self.assertEqual(self.trained(**big), want)
            self.assertEqual(self.counts()["damaged"], 0)
            self.assertLessEqual(self.du(), 700000)

    def test_no_rank_loses_it_to_one_that_holds_the_lock_for_long(self):
        """As the first to open a large one does, which counts its files."""
        want = self.trained(2, epochs=2, cache=self.cache, cache_bytes=10 << 20)
        shutil.rmtree(os.path.dirname(self.chunks()[0]))
        shutil.rmtree(self.path("report"))
        with open(self.path("cache", "pictures", "lock"), "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = self.start(CONVOY, "train", "--ranks-per-host=2",
                                 *self.options(epochs=2, cache=self.cache, cache_bytes=10 << 20))
            wait_until(lambda: len(ranks_of(process)) == 2)
            time.sleep(4)
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertEqual(self.sha256(), want)
        self.assertNotIn("without it", self.err)
        self.assert_kept()

    def test_without_a_folder_that_can_be_used(self):
        want = self.trained(epochs=2)
        with open(self.path("file"), "w"):
            pass
        self.assertEqual(self.trained(2, epochs=2, cache=self.path("file", "below"), cache_bytes=10 << 20), want)
        self.assertEqual(self.err.count("training goes on without it on 2 of 2 ranks of this host"), 1, self.err)

    def test_a_full_disk_is_one_warning(self):
        """A limit on the length of files is no full disk, but an error of writing like it."""
        want = self.trained(epochs=2)
        process = self.start(CONVOY, "train", *self.options(epochs=2, cache=self.cache, cache_bytes=10 << 20),
                             file_bytes_max=150000)
        # The model is larger than that too: what ends this run is the model, not the cache.
        self.wait(process)
        self.assertEqual(self.err.count("training goes on without it"), 1, self.err)
        self.assertIn("Epoch[1] Train-accuracy", self.out)
        self.assertEqual(self.trained(epochs=2, cache=self.cache, cache_bytes=10 << 20), want)


if __name__ == "__main__":
    import unittest

    s3.require()
    unittest.main(verbosity=2)
