#!/usr/bin/env python3
"""`convoy bench model`, `layers` and `input`: bad options, and what a tiny run prints. No figure is judged."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

CONVOY = os.path.join(os.environ["CONVOY_BIN"], "convoy")
WAIT_S = 120
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "CONVOY_", "SM_", "PMI"))}
MODEL_FIELDS = {"bench": str, "model": str, "image_size": int, "batch": int, "threads": int, "steps": int, "repeats": int,
                "images_per_s": float, "images_per_s_min": float, "images_per_s_max": float, "images_per_cpu_s": float,
                "peak_rss_mib": float, "kernels": str, "numerics": str}
LAYERS_FIELDS = {"bench": str, "model": str, "image_size": int, "batch": int, "threads": int, "layer": str, "direction": str,
                 "count": int, "kernel": str, "ms": float, "ms_min": float, "gflops": float, "percent_of_peak": float,
                 "peak_gflops": float, "fused": bool, "kernels": str}

INPUT_FIELDS = {"bench": str, "source": str, "sharded": bool, "transform": str, "image_size": int, "images": int, "batch": int,
                "threads": int, "repeats": int, "images_per_s": float, "images_per_s_min": float, "images_per_s_max": float,
                "images_per_cpu_s": float, "cpu_us": float, "read_us": float, "read_cpu_us": float, "decode_us": float,
                "decode_cpu_us": float, "transform_us": float, "transform_cpu_us": float, "other_cpu_us": float,
                "truncated": int, "left_out": int}


class Verbs(unittest.TestCase):
    def bench(self, *words, **env):
        done = subprocess.run([CONVOY, "bench", *words], env={**CLEAN, **env}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=WAIT_S)
        self.out, self.err = done.stdout, done.stderr
        return done.returncode

    def lines(self, *words, **env):
        self.assertEqual(self.bench(*words, "--threads=1", "--json", **env), 0, self.err)
        return [json.loads(line) for line in self.out.splitlines()]

    def check_fields(self, line, fields):
        self.assertEqual(list(line), list(fields))
        for name, kind in fields.items():
            self.assertIsInstance(line[name], kind, name)

    def refused(self, *words, said, **env):
        self.assertEqual(self.bench(*words, **env), 2, words)
        self.assertEqual((self.out, len(self.err.splitlines())), ("", 1), self.err)
        self.assertIn(said, self.err)

    # words

    def test_help_names_every_option_within_100_columns(self):
        for name, options in (("model", ("--batch", "--steps")), ("layers", ("--batch", "--fused"))):
            self.assertEqual(self.bench(name, "--help"), 0)
            for option in ("--model", "--image-size", "--threads", "--repeats", "--json", *options):
                self.assertIn(f"  {option} ", self.out)
            self.assertLess(max(map(len, self.out.splitlines())), 101)

    def test_bad_option_is_one_line_and_2(self):
        for name in ("model", "layers"):
            for words in (["--model", "resnet21"], ["--batch", "0"], ["--batch", "x"], ["--threads", "0"],
                          ["--image-size", "4"], ["--repeats", "0"], ["--frob"], ["--json", "word"]):
                self.refused(name, *words, said=words[-1] if words[0] == "--json" else words[0])
            self.refused(name, "--image-size=16", said="at least 32")
            self.refused(name, "--image-size=2048", "--batch=65536", said="up to 511 images of 2048 pixels")
            self.refused(name, "--modle=resnet18", said="--model")
            self.refused(name, said="CONVOY_ISA", CONVOY_ISA="sse9")
            self.refused(name, said="CONVOY_CONV", CONVOY_CONV="fft")
            self.refused(name, said="without mpirun", OMPI_COMM_WORLD_RANK="0")
        self.refused("model", "--steps", "0", said="--steps")
        self.refused("layers", "--steps", "1", said="--steps")
        self.refused("layers", "--model=resnet20", "--layer=conv2", said="--layer: no row")

    def test_full_stdout_does_not_pass_for_success(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([CONVOY, "bench", "model", "--model=resnet20", "--batch=2", "--repeats=1", "--threads=1"],
                                  stdout=full, stderr=subprocess.PIPE, text=True, timeout=WAIT_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn("stdout", done.stderr)

    def test_an_interrupt_ends_it(self):
        for name in ("model", "layers"):
            process = subprocess.Popen([CONVOY, "bench", name, "--model=resnet20", "--repeats=1000000", "--threads=1"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(process.kill)
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
            self.assertEqual((out, process.returncode), ("", 75), err)
            self.assertIn("stopped while measuring", err)

    # figures

    def test_model_prints_one_line_of_figures(self):
        line, = self.lines("model", "--model=resnet20", "--batch=2", "--repeats=3", "--steps=2")
        self.check_fields(line, MODEL_FIELDS)
        self.assertEqual([line[key] for key in ("bench", "model", "image_size", "batch", "threads", "steps", "repeats")],
                         ["model", "resnet20", 32, 2, 1, 2, 3])
        self.assertLessEqual(line["images_per_s_min"], line["images_per_s"])
        self.assertLessEqual(line["images_per_s"], line["images_per_s_max"])
        self.assertGreater(line["images_per_s_min"], 0)
        self.assertGreater(line["peak_rss_mib"], 5)

    def test_threads_are_those_of_a_rank_that_is_alone(self):
        words = ["bench", "model", "--model=resnet20", "--batch=2", "--repeats=1", "--json"]
        for program, env, expected in ((CONVOY, {}, self.threads_of_train()), (CONVOY + "-train", {"CONVOY_THREADS": "3"}, 3)):
            out = subprocess.run([program, *words], env={**CLEAN, **env}, capture_output=True, text=True, timeout=WAIT_S, check=True)
            self.assertEqual(json.loads(out.stdout)["threads"], expected)

    @staticmethod
    def threads_of_train():
        words = ["train", "--memory", "--model=resnet20"]
        out = subprocess.run([CONVOY, *words], env=CLEAN, capture_output=True, text=True, timeout=WAIT_S, check=True)
        return int(out.stdout.split(" thread")[0].split()[-1])

    def test_model_takes_an_image_size_and_shows_a_table(self):
        self.assertEqual(self.bench("model", "--model=resnet18", "--image-size=32", "--batch=2", "--repeats=1"), 0)
        self.assertRegex(self.out, r"\Aresnet18, 32 x 32 pixels, batches of 2, \d+ threads?; 1 repeat of 1 step\n")
        for name in ("images/s", "step, ms", "images per CPU second", "peak memory, MiB"):
            self.assertRegex(self.out, rf"(?m)^{name} +\d")

    def test_layers_has_every_convolution_in_each_direction(self):
        for model, size, convolutions in (("resnet20", 32, 19), ("resnet18", 32, 20), ("resnet50", 32, 53)):
            lines = self.lines("layers", f"--model={model}", f"--image-size={size}", "--batch=2", "--repeats=1")
            by_direction = {}
            for line in lines:
                self.check_fields(line, LAYERS_FIELDS)
                by_direction.setdefault(line["direction"], {})[line["layer"]] = line["count"]
            forward, data = by_direction["forward"], by_direction["backward-data"]
            self.assertEqual(sum(forward.values()), convolutions)
            self.assertEqual(by_direction["backward-weights"], forward)
            self.assertEqual({**data, "conv1": 1}, forward)
            self.assertNotIn("conv1", data)

    def test_layers_runs_one_layer_where_it_is_named(self):
        lines = self.lines("layers", "--model=resnet20", "--batch=2", "--repeats=1", "--layer=layer2.0.conv1")
        self.assertEqual([(line["layer"], line["direction"]) for line in lines],
                         [("layer2.0.conv1", direction) for direction in ("forward", "backward-weights", "backward-data")])

    def test_layers_counts_a_direct_convolution_and_compares_with_the_peak(self):
        lines = self.lines("layers", "--model=resnet20", "--batch=2", "--repeats=3", "--fused")
        flops = {"layer1.0.conv1": 2 * 2 * 32 * 32 * 16 * 9 * 16, "layer2.0.conv1": 2 * 2 * 16 * 16 * 32 * 9 * 16}
        for line in lines:
            self.assertTrue(line["fused"])
            self.assertLessEqual(line["ms_min"], line["ms"])
            self.assertAlmostEqual(line["percent_of_peak"] / (100 * line["gflops"] / line["peak_gflops"]), 1, 3)
            if line["layer"] in flops:
                self.assertAlmostEqual(1e6 * line["gflops"] * line["ms"] / flops[line["layer"]], 1, 3)

    def test_layers_table_ends_with_how_many_are_slow(self):
        self.assertEqual(self.bench("layers", "--model=resnet20", "--batch=2", "--repeats=1", "--threads=1"), 0)
        rows = [line.split() for line in self.out.splitlines() if " forward " in line or " backward-" in line]
        slow = sum(float(row[-1]) < 80 for row in rows)
        near = sum(float(row[-1]) == 80 for row in rows)  # rounded: either side
        found, of = self.out.splitlines()[-1].split(" rows")[0].split(" of ")
        self.assertEqual(int(of), len(rows))
        self.assertTrue(slow <= int(found) <= slow + near, self.out)

    def test_the_environment_chooses_the_kernels(self):
        line, = self.lines("model", "--model=resnet20", "--batch=2", "--repeats=1", CONVOY_ISA="generic")
        self.assertEqual(line["kernels"], "generic")
        lines = self.lines("layers", "--model=resnet20", "--batch=2", "--repeats=1", CONVOY_CONV="gemm")
        self.assertEqual({line["kernel"] for line in lines}, {"gemm"})

    # pictures

    def pictures(self):
        folder = tempfile.mkdtemp(prefix="convoy-verbs-")
        self.addCleanup(shutil.rmtree, folder)
        subprocess.run([CONVOY, "synth", folder, "--count=40", "--size=48"], env=CLEAN, check=True, timeout=WAIT_S,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return folder

    def test_input_prints_one_line_of_figures(self):
        data = self.pictures()
        for words, expected in ((("--repeats=3", "--transform=center", "--image-size=32"), ("center", 32, 40, 32, 3)),
                                (("--repeats=1", "--count=16", "--batch=5"), ("crop", 224, 16, 5, 1))):
            line, = self.lines("input", "--data", data, *words)
            self.check_fields(line, INPUT_FIELDS)
            self.assertEqual([line[key] for key in ("bench", "source", "sharded", "threads", "truncated", "left_out")],
                             ["input", "disk", False, 1, 0, 0])
            self.assertEqual(tuple(line[key] for key in ("transform", "image_size", "images", "batch", "repeats")), expected)
            self.assertTrue(0 < line["images_per_s_min"] <= line["images_per_s"] <= line["images_per_s_max"])
            self.assertAlmostEqual(line["cpu_us"] * line["images_per_cpu_s"] / 1e6, 1, 4)
            self.assertGreater(line["decode_cpu_us"], 0)
            stages = sum(line[f"{stage}_cpu_us"] for stage in ("read", "decode", "transform", "other"))
            if expected[-1] == 1:
                self.assertAlmostEqual(stages / line["cpu_us"], 1, 1)

    def test_input_shows_a_table_and_names_what_is_bad(self):
        data = self.pictures()
        train = os.path.join(data, "train")
        shards = os.path.join(data, "shards")
        subprocess.run([CONVOY, "pack", train, shards], env=CLEAN, check=True, timeout=WAIT_S, stderr=subprocess.DEVNULL)
        self.assertEqual(self.bench("input", "--train", shards, "--repeats=1", "--threads=2", "--image-size=32"), 0, self.err)
        self.assertIn(f"{shards}: shards of 40 pictures, ", self.out)
        for name in ("images/s", "images per CPU second", "CPU, us an image", "read", "decode", "transform", "other"):
            self.assertRegex(self.out, rf"(?m)^{name} +\d")
        with open(os.path.join(train, os.listdir(train)[0], "bad.jpg"), "w") as file:
            file.write("no picture")
        self.assertEqual(self.bench("input", "--train", train, "--repeats=1"), 0, self.err)
        self.assertRegex(self.out, r"\n1 left out, the first: .*bad\.jpg")

    def test_input_refuses_bad_options(self):
        self.assertEqual(self.bench("input", "--help"), 0)
        for option in ("--data", "--train", "--transform", "--image-size", "--count", "--batch", "--threads", "--fetch-threads",
                       "--repeats", "--json"):
            self.assertIn(f"  {option} ", self.out)
        self.assertLess(max(map(len, self.out.splitlines())), 101)
        self.refused("input", said="--data or --train")
        self.refused("input", "--data=a", "--train=b", said="--data or --train")
        self.refused("input", "--train=/nonexistent", said="/nonexistent")
        for words in (["--transform", "fit"], ["--image-size", "4"], ["--threads", "0"], ["--repeats", "0"], ["--count", "0"]):
            self.refused("input", "--train=/tmp", *words, said=words[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
