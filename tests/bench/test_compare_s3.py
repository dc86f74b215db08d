#!/usr/bin/env python3
"""compare_s3 with few and small objects of a real server: both sides read what they are given, and the rest is counted right."""
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "compare_s3")
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lab")]
import s3  # noqa: E402

LOADER = importlib.machinery.SourceFileLoader("compare_s3", SCRIPT)
compare_s3 = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare_s3", LOADER))
sys.dont_write_bytecode = True
LOADER.exec_module(compare_s3)


def runs(row, ours, curls):
    names = ("mb_per_s", "objects_per_s", "cpu_s_per_gb", "cpu_ms_per_object")
    return [{"row": row, "side": side, **dict.fromkeys(names[:2], rate), **dict.fromkeys(names[2:], cpu)}
            for side, values in (("convoy", ours), ("curl", curls)) for rate, cpu in values]


class CompareS3(unittest.TestCase):
    def test_both_sides_read_all_objects(self):
        s3.require()
        with tempfile.NamedTemporaryFile("r") as file:
            done = subprocess.run([SCRIPT, "--row", "small", "--count", "40", "--rounds", "2", "--json", file.name],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250)
            lines = [json.loads(line) for line in file]
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertEqual([line.get("side") for line in lines], [None, "convoy", "curl", "curl", "convoy", None])
        for line in lines[1:-1]:
            self.assertGreater(line["cpu_s"], 0)
        self.assertRegex(done.stdout, r"times curl's rate \(bar 0\.9\), .*(reached|NOT reached)")

    def test_medians_are_compared(self):
        verdict = compare_s3.judge("large-http", runs("large-http", [(100, 1.2), (90, 9), (110, 1.3)], [(100, 1), (80, 7), (120, 1)]))
        self.assertEqual((verdict["rate_ratio"], verdict["cpu"], verdict["reached"], verdict["goal_reached"]), (1, 1.3, True, False))
        self.assertFalse(compare_s3.judge("large-http", runs("large-http", [(99, 1)], [(100, 1)]))["reached"])
        self.assertFalse(compare_s3.judge("large-http", runs("large-http", [(100, 1.31)], [(100, 1)]))["reached"])

    def test_small_objects_are_judged_by_ms_each(self):
        self.assertTrue(compare_s3.judge("small", runs("small", [(90, 0.2)], [(100, 0.1)]))["reached"])
        self.assertFalse(compare_s3.judge("small", runs("small", [(89, 0.2)], [(100, 0.3)]))["reached"])
        self.assertFalse(compare_s3.judge("small", runs("small", [(100, 0.21)], [(100, 0.3)]))["reached"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
