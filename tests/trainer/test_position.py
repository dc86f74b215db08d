#!/usr/bin/env python3
"""Shards whose indexes are read on demand, as those of very large sets are: the same weights as with the whole index."""
import os
import shutil
import subprocess

from job import CONVOY, Job, main


class Position(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shards = os.path.join(cls.shared, "shards")
        subprocess.run([CONVOY, "pack", cls.data, cls.shards, "--shard-bytes=6000"], check=True,
                       stderr=subprocess.DEVNULL)

    def setUp(self):
        super().setUp()
        self.env["CONVOY_INDEX_WHOLE_MAX"] = "0"

    def trains(self, ranks=2, status=0, data=None, **more):
        self.assertEqual(self.convoy(ranks, *self.options(data=data or self.shards, epochs=2, **more)), status, self.err)

    def test_same_bits(self):
        del self.env["CONVOY_INDEX_WHOLE_MAX"]
        self.trains()
        whole = self.sha256()
        self.assertNotIn("as they are wanted", self.err)
        self.env["CONVOY_INDEX_WHOLE_MAX"] = "0"
        for ranks in (1, 2):
            self.trains(ranks)
            self.assertIn("training: 32 pictures of 2 classes", self.err)
            self.assertIn("shards, whose indexes are read as they are wanted", self.err)
            self.assertEqual(self.sha256(), whole)

    def test_resumed_in_the_middle_of_an_epoch(self):
        """With the whole index before and after: they are the same data set."""
        self.trains()
        undisturbed = self.sha256()
        del self.env["CONVOY_INDEX_WHOLE_MAX"]
        self.trains(1, max_steps=1, checkpoint="saved", audit="run.audit")
        self.env["CONVOY_INDEX_WHOLE_MAX"] = "0"
        self.trains(2, max_steps=3, checkpoint="saved", audit="run.audit")
        del self.env["CONVOY_INDEX_WHOLE_MAX"]
        self.trains(1, max_steps=0, checkpoint="saved", audit="run.audit")
        self.assertEqual(self.sha256(), undisturbed)
        self.assertEqual(self.wait(self.start(CONVOY, "audit", "run.audit")), 0, self.out)
        self.assertIn("exactly once: steps=4 ", self.out)

    def test_a_limit_that_is_no_number(self):
        for text in ("1e6", "-1", "many", "18446744073709551616"):
            self.env["CONVOY_INDEX_WHOLE_MAX"] = text
            self.trains(status=2)
            self.assert_one_error(f"CONVOY_INDEX_WHOLE_MAX is '{text}'")
        self.env["CONVOY_INDEX_WHOLE_MAX"] = ""  # as if it were not set
        self.trains()

    def test_what_needs_every_label_reads_the_whole_index(self):
        for more in (dict(class_weights="balanced"), dict(train_layers="head", augment="none"),
                     dict(data=os.path.join(self.shards, "train"), val_split=0.2)):
            self.trains(**more)
            self.assertNotIn("as they are wanted", self.err)

    def test_a_damaged_index_is_named_when_it_is_wanted(self):
        shutil.copytree(self.shards, self.path("broken"))
        with open(self.path("broken", "train", "shard-000001.idx"), "r+b") as file:
            file.seek(40)
            file.write(b"\xff\xff")
        self.trains(status=2, data="broken")
        self.assert_one_error("shard-000001.idx' is damaged: its CRC-32C does not match")


if __name__ == "__main__":
    main(Position)
