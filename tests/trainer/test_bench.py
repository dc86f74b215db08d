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
           "compute_s": float, "compute_s_max": float, "exchange_s": float, "input_s": float, "imbalance": float,
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
        self.assertGreater(with_exchange["exchange_s"], 0.05 * with_exchange["seconds"])
        self.assertLess(alone["exchange_s"], 0.01 * alone["seconds"])
        self.assertEqual((alone["images"], alone["global_batch"]), (2400, 24))
        self.assertGreater(alone["images_per_s"], 1.05 * alone["images"] / alone["seconds"])  # rank 0 had ended long before
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


if __name__ == "__main__":
    main(Bench)
