#!/usr/bin/env python3
"""Steps that are timed (--bench-steps): with the exchange and side by side without, on pictures made up and on pictures
read. Times are not judged, but for who waits for whom."""
import json
import os
import signal
import time

from job import CONVOY, Job, main, ranks_of, wait_until

FIGURES = {"event": str, "model": str, "image_size": int, "ranks": int, "threads": int, "micro_batch": int,
           "global_batch": int, "exchange": bool, "steps": int, "images": int, "seconds": float, "images_per_s": float,
           "compute_s": float, "compute_s_max": float, "ranks_s": float, "exchange_s": float, "input_s": float, "imbalance": float,
           "numerics": str, "mpi": str}


class Bench(Job):
    def bench(self, ranks, *words, **more):
        options = dict(data=None, epochs=None, bench_steps=4, image_size=16)
        self.assertEqual(self.convoy(ranks, *self.options(**{**options, **more}), *words), 0, self.err)
        line = json.loads(self.out)
        self.assertEqual(list(line), [name for name in (*list(FIGURES)[:3], "data", *list(FIGURES)[3:])
                                      if name != "data" or name in line])
        for name, kind in FIGURES.items():
            self.assertIsInstance(line[name], kind, name)
        self.assertEqual(sorted(os.listdir(self.folder)), ["stderr", "stdout"])  # nothing is written
        return line

    def test_figures_are_those_of_all_ranks(self):
        for ranks, batch in ((1, 16), (2, 16), (3, 65)):
            line = self.bench(ranks, global_batch=batch)
            self.assertEqual((line["ranks"], line["global_batch"], line["images"], line["exchange"]),
                             (ranks, batch, 4 * batch, True))
            self.assertAlmostEqual(line["images_per_s"] * line["seconds"] / line["images"], 1, places=6)
            self.assertLessEqual(line["compute_s"], line["compute_s_max"])
            self.assertAlmostEqual(line["imbalance"], line["compute_s_max"] / line["compute_s"] - 1, places=6)

    def test_side_by_side_nobody_waits_for_the_rank_that_has_more_to_do(self):
        """Rank 0 has one micro-batch of the three, rank 1 two."""
        with_exchange, alone = (self.bench(2, *words, global_batch=24, bench_steps=100)
                                for words in ((), ("--no-exchange",)))
        self.assertEqual((with_exchange["exchange"], alone["exchange"]), (True, False))
        self.assertGreater(with_exchange["ranks_s"], 0.05 * with_exchange["seconds"])
        self.assertGreater(with_exchange["exchange_s"], 0)
        counted = sum(with_exchange[key] for key in ("compute_s", "ranks_s", "exchange_s", "input_s"))
        self.assertLess(counted, 1.01 * with_exchange["seconds"])  # nothing is counted twice, and little not at all
        self.assertGreater(counted, 0.8 * with_exchange["seconds"])
        self.assertLess(alone["ranks_s"] + alone["exchange_s"], 0.01 * alone["seconds"])
        self.assertEqual((alone["images"], alone["global_batch"]), (2400, 24))
        self.assertGreater(alone["images_per_s"], 1.005 * alone["images"] / alone["seconds"])  # rank 0 had ended long before
        self.assertGreater(alone["imbalance"], 0.1)

    def test_side_by_side_one_rank_is_as_with_the_exchange(self):
        line = self.bench(1, "--no-exchange", global_batch=20)
        self.assertEqual((line["images"], line["imbalance"]), (80, 0))

    def test_pictures_are_read_where_the_command_line_has_them(self):
        """More steps than an epoch has, and no shorter one at its end: 32 pictures, steps of 24."""
        for option in ("data", "train"):
            for words in ((), ("--no-exchange",)):
                line = self.bench(2, f"--{option}={self.data if option == 'data' else self.train}", *words, global_batch=24,
                                  bench_steps=5)
                self.assertEqual((line["images"], line["data"]), (120, self.data if option == "data" else self.train))
                self.assertIn("32 pictures of 2 classes", self.err)

    def test_a_channel_of_the_environment_is_not_read(self):
        self.env["SM_CHANNEL_TRAINING"] = self.path("nowhere")
        self.assertNotIn("data", self.bench(1))

    def test_pictures_that_cannot_be_read_or_fill_no_step_end_it(self):
        for words, said in (((f"--data={self.path('nowhere')}",), "nowhere"),
                            ((f"--data={self.data}", "--global-batch=40"), "32 training pictures do not fill one step of 40")):
            for more in ((), ("--no-exchange",)):
                self.assertEqual(self.convoy(2, *self.options(data=None, bench_steps=2), *words, *more), 2, self.err)
                self.assert_one_error(said)

    def test_a_bad_picture_ends_all_ranks_where_it_shall(self):
        """Only one of the ranks meets it, and nobody else would hear."""
        pictures = self.copy_of_train()
        with open(self.path(pictures, os.listdir(self.path(pictures))[0], "bad.jpg"), "w") as file:
            file.write("no picture")
        for more in ((), ("--no-exchange",)):
            options = self.options(data=None, train=pictures, global_batch=33, bench_steps=8, bad_images="stop")
            self.assertEqual(self.convoy(2, *options, *more), 2, self.err)
            self.assert_one_error("bad.jpg")

    def test_without_bench_steps_no_exchange_is_refused(self):
        self.assertEqual(self.convoy(2, *self.options(), "--no-exchange"), 2)
        self.assert_one_error("--no-exchange is for measuring")
        self.env["SM_HP_NO_EXCHANGE"] = "true"
        self.assertEqual(self.convoy(1, *self.options()), 2)
        self.assert_one_error("hyperparameter no_exchange")

    def test_a_signal_ends_ranks_side_by_side(self):
        process = self.start(CONVOY, "train", "--ranks-per-host=3", "--no-exchange",
                             *self.options(data=None, global_batch=40, image_size=16, bench_steps=1000000))
        wait_until(lambda: len(ranks_of(process)) == 3)
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.wait(process), 75, self.err)
        self.assertEqual(self.out, "")

    def sums(self, ranks, sizes, *words):
        self.assertEqual(self.convoy(ranks, f"--bench-comm={sizes}", "--threads=1", *words), 0, self.err)
        setting, *lines = [json.loads(line) for line in self.out.splitlines()]
        self.assertEqual(sorted(os.listdir(self.folder)), ["stderr", "stdout"])
        return setting, lines

    def test_every_size_is_summed_in_every_way_in_turn(self):
        for ranks in (2, 3):
            setting, lines = self.sums(ranks, "4,64kB,1MiB", "--bench-rounds=3", "--bucket-bytes=4096")
            ways, sizes = setting["algorithms"], [4, 64000, 1 << 20]
            self.assertEqual((setting["event"], setting["ranks"], setting["hosts"], setting["threads"], setting["rounds"],
                              setting["bytes"], setting["bucket_bytes"], setting["yield_when_idle"]),
                             ("comm", ranks, 1, 1, 3, sizes, 4096, True))
            self.assertEqual(ways[:2], ["convoy", "mpi-default"])
            self.assertIn("mpi-ring", ways)
            order = [(0, size, way) for size in sizes for way in ways]
            order += [(r, size, way) for r in (1, 2, 3) for size in sizes
                      for way in ways[r % len(ways):] + ways[:r % len(ways)]]
            self.assertEqual([(line["round"], line["bytes"], line["algorithm"]) for line in lines], order)
            for line in lines:
                self.assertEqual(line["event"], "comm-sum")
                self.assertGreater(line["seconds"], 0)
                self.assertGreater(line["cpu_s"], 0)
                self.assertEqual("exchange_cpu_s" in line, line["algorithm"] == "convoy")
                self.assertTrue(line["sums"] == 1 if line["round"] == 0 else 1 <= line["sums"] <= 1000)

    def test_sums_on_more_ranks_than_a_step_has_micro_batches(self):
        self.assertEqual(self.sums(3, "1kB", "--global-batch=2", "--bench-rounds=1")[0]["ranks"], 3)

    def test_sums_between_hosts_can_be_rounded(self):
        """They are within what bf16 keeps, and not exact: the run checks it (apart.c makes hosts of the ranks)."""
        self.keep_apart()
        setting, _ = self.sums(2, "64kB", "--wire-dtype=bf16", "--bench-rounds=1")
        self.assertEqual(setting["ranks"], 2)

    def test_sums_can_be_traced(self):
        self.assertEqual(self.convoy(2, "--bench-comm=1MB", "--bench-rounds=1", f"--trace={self.path('trace.json')}"), 0,
                         self.err)
        self.assertTrue(json.loads(self.text("trace.json")))

    def test_sizes_that_are_none_are_refused_before_anything_runs(self):
        for sizes in ("x", "1,", ",1MB", "-4", "3", "1MB;2MB", "1.0000001kB", "1TB", "5GB", "nan", "inf", "0", "1 MB", "1MBx",
                      "1MB,4,1000kB", ",".join(str(4 * i) for i in range(1, 18))):
            self.assertEqual(self.convoy(2, f"--bench-comm={sizes}"), 2, sizes)
            self.assert_one_error("--bench-comm: ")
        self.assertEqual(self.convoy(2, "--bench-comm=1MB", "--bench-steps=3"), 2)
        self.assert_one_error("--bench-comm and --bench-steps")
        self.assertEqual(self.convoy(1, "--bench-comm=1MB"), 2)
        self.assert_one_error("one rank has nobody to exchange with")
        self.env["CONVOY_HOST_MEMORY"] = "20000000"
        self.assertEqual(self.convoy(2, "--bench-comm=1MB,100MB"), 2)
        self.assert_one_error("it has 0.0 GB left")

    def test_a_signal_ends_sums(self):
        process = self.start(CONVOY, "train", "--ranks-per-host=2", "--bench-comm=1MB", "--bench-rounds=1000")
        wait_until(lambda: '"round":1,' in self.text("stdout"))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.wait(process), 75, self.err)


if __name__ == "__main__":
    main(Bench)
