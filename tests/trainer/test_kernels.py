#!/usr/bin/env python3
"""Kernels and memory as a run meets them: ranks on different CPUs, wrong names in the environment, a host that is too small."""
import os
import threading

from job import CONVOY, LIMIT_S, Job, main


class Kernels(Job):
    def options(self, **more):
        return super().options(**{"image_size": 8, **more})

    def refused(self, *said):
        """Exit 2 with one line, and nothing written."""
        self.assert_one_error(*said)
        self.assertEqual([n for n in ("model", "report", "checkpoint") if os.path.exists(self.path(n))], [])

    # --- the instruction set ---

    def numerics(self):
        return self.events("run")[0]["numerics"]

    def test_ranks_use_what_all_have(self):
        self.env["CONVOY_ISA"] = "generic"
        self.assertEqual(self.convoy(1, *self.options()), 0, self.err)
        expected = self.sha256()
        del self.env["CONVOY_ISA"]
        words = self.foreign(1, *self.options(report="mixed"))
        rank = words[words.index("-n"):]
        mixed = [*words, ":", *rank[:2], "-x", "CONVOY_ISA=generic", *rank[2:]]
        self.assertEqual(self.wait(self.start(*mixed)), 0, self.err)
        self.assertEqual(self.sha256(), expected)
        self.assertIn('"numerics":"', self.text("mixed/metrics.jsonl"))
        self.assertIn(", kernels generic", self.text("mixed/metrics.jsonl"))

    def test_ranks_with_other_convolutions_are_refused(self):
        words = self.foreign(1, *self.options())
        rank = words[words.index("-n"):]
        self.assertEqual(self.wait(self.start(*words, ":", *rank[:2], "-x", "CONVOY_CONV=gemm", *rank[2:])), 2, self.err)
        self.assertIn("rank 1 computes with ", self.err)
        self.assertIn("and the same CONVOY_CONV", self.err)

    def test_names_that_are_none(self):
        for name, value in (("CONVOY_ISA", "sse9"), ("CONVOY_CONV", "fft")):
            with self.subTest(name):
                self.env[name] = value
                self.assertEqual(self.convoy(1, *self.options()), 2, self.err)
                self.refused(name, value)
                del self.env[name]

    def test_a_forced_convolution_is_named_and_trains(self):
        self.env["CONVOY_CONV"] = "winograd2"
        self.assertEqual(self.convoy(1, *self.options()), 0, self.err)
        self.assertIn("conv winograd2", self.numerics())

    # --- memory ---

    def plan(self, *words):
        """Rows of --memory's table in MiB, by their first word."""
        status = self.wait(self.start(CONVOY, "train", "--memory", *words))
        return status, {line.split()[0]: float(line[42:].split()[0]) for line in self.out.splitlines()[1:]}

    def test_memory_is_planned_without_pictures(self):
        status, rows = self.plan("--model", "resnet50", "--micro-batch", "4")
        self.assertEqual(status, 0, self.err)
        parts = sum(value for name, value in rows.items() if name not in ("together", "free"))
        self.assertAlmostEqual(parts, rows["together"], delta=1)
        self.assertGreater(rows["values"], 100)
        self.assertEqual(sorted(os.listdir(self.folder)), ["stderr", "stdout"])

    def test_memory_is_shown_in_each_way_to_ask_for_it(self):
        for words in (["--memory=true"], ["--memory=1"], ["--memory", "--check-options"], ["--memory=false", "--memory"]):
            with self.subTest(words):
                self.assertEqual(self.wait(self.start(CONVOY, "train", *words, "--model=resnet20", "--threads=1")), 0, self.err)
                self.assertIn(", 1 thread: ", self.out)
                self.assertEqual(self.out.count("\ntogether "), 1)
        self.env["SM_HP_MEMORY"] = "true"
        self.assertEqual(self.convoy(2, "--model=resnet20"), 0, self.err)
        self.assertEqual(self.out.count("\ntogether "), 1)

    def test_what_is_fetched_ahead_from_s3_is_planned(self):
        words = ["--model", "resnet20", "--prefetch-bytes", str(64 << 20)]
        self.assertNotIn("fetched", self.plan(*words)[1])
        status, rows = self.plan(*words, "--data", "s3://bucket/pictures")
        self.assertEqual((status, rows["fetched"]), (0, 64), self.err)

    def test_the_first_of_somebodys_ranks_shows_the_plan_of_all(self):
        self.assertEqual(self.wait(self.start(*self.foreign(2, "--memory", "--model", "resnet20"))), 0, self.err)
        self.assertEqual(self.out.count("together"), 1, self.out)
        self.assertIn(" for 2 ranks\n", self.out)

    def test_hosts_share_the_gradients_of_the_job(self):
        words = ["--model", "resnet18", "--image-size", "32", "--global-batch", "56", "--micro-batch", "8", "--ranks-per-host=2"]
        _, alone = self.plan(*words)
        self.assertIn(" for 2 ranks\n", self.out)
        status, several = self.plan(*words, "--hosts=node-1,node-2,node-3")
        self.assertEqual(status, 0, self.err)
        self.assertIn(" for 2 ranks\n", self.out)
        self.assertGreater(several["buffers"], 4)
        self.assertLess(several["gradients"], alone["gradients"])
        self.assertEqual(self.plan(*words, "--hosts=node-1,node-2,node-3,node-4")[0], 2)
        self.assert_one_error("8 ranks, but a step has 7 micro-batches")

    def most_resident_mib(self, *words):
        """Of the process of a run that had most: the kernel hands it up from child to parent as each is waited for."""
        process = self.start(*words)
        limit = threading.Timer(LIMIT_S, process.kill)
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        limit.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, self.text("stderr"))
        return usage.ru_maxrss / 1024

    def test_a_run_takes_what_is_planned_or_less(self):
        with open(CONVOY + "-train", "rb") as program:
            if b"__asan_init" in program.read():
                self.skipTest("the sanitizer has memory of its own")
        for ranks in (1, 2):
            with self.subTest(ranks):
                words = [f"--ranks-per-host={ranks}", *self.options(image_size=64, global_batch=64, micro_batch=32, threads=2)]
                status, rows = self.plan(*words)
                self.assertEqual(status, 0, self.err)
                taken = self.most_resident_mib(CONVOY, "train", *words, f"--checkpoint=of-{ranks}")
                self.assertLessEqual(taken, rows["together"])
                self.assertGreater(taken, 0.4 * rows["together"])

    def test_too_much_is_refused_and_what_fits_does_fit(self):
        words = ["--model", "resnet18", "--global-batch", "64", "--micro-batch", "64"]
        self.env["CONVOY_HOST_MEMORY"] = "900000000"
        status, _ = self.plan(*words)
        self.assertEqual(status, 2)
        self.assert_one_error("resnet18", "--micro-batch 64", "858.3 MiB left")
        fits = self.err.split("--micro-batch ")[-1].split()[0]
        self.assertLess(0, int(fits))
        self.assertLess(int(fits), 64)
        status, _ = self.plan(*words[:-1], fits)
        self.assertEqual(status, 0, self.err)

    def test_a_resumed_run_that_does_not_fit_names_no_micro_batch(self):
        words = self.options(checkpoint="checkpoint", model_dir="model", global_batch=64, micro_batch=32, image_size=32)
        self.assertEqual(self.convoy(1, *words, "--max-steps=1"), 0, self.err)
        self.env["CONVOY_HOST_MEMORY"] = "70000000"
        self.assertEqual(self.convoy(1, *words), 2, self.err)
        self.assert_one_error("use a larger host, as the checkpoint fixes --micro-batch")

    def test_more_pixels_than_a_network_counts(self):
        for size, batch, most in ((2048, 65536, 511), (1024, 32768, 2047)):
            with self.subTest(size):
                words = ["--model", "resnet50", "--image-size", str(size), "--micro-batch", str(batch), "--global-batch", str(batch)]
                self.assertEqual(self.plan(*words)[0], 2, self.err)
                self.assert_one_error(f"up to {most} images of {size} pixels")
                self.assertEqual(self.convoy(1, "--data", self.data, *words), 2, self.err)
                self.assert_one_error(f"up to {most} images of {size} pixels")

    def test_a_host_without_room_for_one_picture(self):
        self.env["CONVOY_HOST_MEMORY"] = "1000"
        self.assertEqual(self.plan("--model", "resnet20")[0], 2)
        self.assert_one_error("no --micro-batch fits")

    def test_a_host_memory_that_is_no_number_of_bytes(self):
        for value in ("4G", "-1"):
            self.env["CONVOY_HOST_MEMORY"] = value
            with self.subTest(value):
                self.assertEqual(self.plan("--model", "resnet20")[0], 2)
                self.assert_one_error("CONVOY_HOST_MEMORY", f"'{value}'")
            for ranks in (1, 2):
                with self.subTest(value, ranks=ranks):
                    self.assertEqual(self.convoy(ranks, *self.options()), 2, self.err)
                    self.refused("CONVOY_HOST_MEMORY", f"'{value}'")

    def test_a_run_that_does_not_fit_does_not_start(self):
        self.env["CONVOY_HOST_MEMORY"] = "110000000"
        for ranks in (1, 2):
            with self.subTest(ranks):
                self.assertEqual(self.convoy(ranks, *self.options(global_batch=512, micro_batch=256, image_size=32)), 2, self.err)
                self.refused("--micro-batch")


if __name__ == "__main__":
    main(Kernels)
