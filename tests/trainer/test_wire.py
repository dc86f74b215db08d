#!/usr/bin/env python3
"""--wire-dtype bf16: what it gives up, and what it keeps. The ranks of these runs are hosts to each other (apart.c)."""
import os

from job import Job, main


class Wire(Job):
    def trained(self, ranks, apart=True, **more):
        """The sha256 of two epochs of four micro-batches a step."""
        if apart:
            self.keep_apart()
        self.assertEqual(self.convoy(ranks, *self.options(epochs=2, micro_batch=4, **more)), 0, self.err)
        self.env.pop("LD_PRELOAD", None)
        return self.sha256()

    def test_bf16_has_bits_of_its_own_for_each_number_of_hosts_and_only_those(self):
        exact = self.trained(1)
        self.assertEqual(self.trained(2), exact)
        self.assertIn("cannot share memory", self.err)
        seen = {exact}
        for ranks in (2, 3):
            sha = self.trained(ranks, wire_dtype="bf16")
            self.assertIn("gradients travel as bf16", self.err)
            self.assertEqual(self.trained(ranks, wire_dtype="bf16", threads=2, decode_threads=2), sha)
            self.assertNotIn(sha, seen)
            seen.add(sha)

    def test_on_one_host_nothing_is_rounded(self):
        self.assertEqual(self.trained(2, apart=False, wire_dtype="bf16"), self.trained(1))
        self.assertEqual(self.trained(1, apart=False, wire_dtype="bf16"), self.trained(1))
        self.assertIn("on one nothing is rounded", self.err + self.said(wire_dtype="bf16"))

    def said(self, **more):
        self.trained(1, apart=False, **more)
        return self.err

    def test_bf16_learns_as_floats_do(self):
        """Loss of the last epoch, of a task that is learnt in six: alike, and far below the first's."""
        loss = {}
        for wire in ("fp32", "bf16"):
            self.trained(2, wire_dtype=wire, report=wire)
            epochs = self.epochs_of(wire, wire_dtype=wire)
            loss[wire] = epochs[-1]
            self.assertLess(epochs[-1], 0.7 * epochs[0])
        self.assertAlmostEqual(loss["fp32"], loss["bf16"], delta=0.1)

    def epochs_of(self, name, **more):
        self.keep_apart()
        self.assertEqual(self.convoy(2, *self.options(epochs=6, lr=0.02, **more)), 0, self.err)
        losses = [event["loss"] for event in self.events("epoch")]
        os.rename(self.path("report"), self.path(name + "-six"))
        return losses

    def test_word_that_is_none(self):
        self.assertEqual(self.convoy(1, *self.options(wire_dtype="fp16")), 2)
        self.assert_one_error("--wire-dtype", "fp32|bf16")


if __name__ == "__main__":
    main(Wire)
