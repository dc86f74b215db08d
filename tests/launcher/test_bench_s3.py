#!/usr/bin/env python3
"""`convoy bench s3` against a real S3 server: options, fields, counts. No figure is judged."""
import json
import os
import subprocess
import time
import unittest

from s3_case import CONVOY, LIMIT_S, Case, s3, server, stop_servers
from faults import Faults


class BenchS3(Case):
    def bench(self, *words):
        done = subprocess.run([CONVOY, "bench", "s3", *words], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=LIMIT_S)
        self.out, self.err = done.stdout, done.stderr
        return done.returncode

    def put(self):
        self.client.put(self.bucket, "a/large", os.urandom(5 << 20))
        self.client.put(self.bucket, "a/small", b"x" * 1000)
        self.client.put(self.bucket, "a/empty", b"")
        self.client.put(self.bucket, "b", b"y")

    def test_every_byte_of_the_prefix_is_read_in_every_round(self):
        self.put()
        mark = server().log_mark()
        self.assertEqual(self.bench(self.uri + "/a/", "--repeats=2", "--requests=3", "--range-bytes=2097152", "--json", "runs"), 0,
                         self.err)
        gets = [r for r in server().requests(mark) if r.method == "GET" and "/a/" in r.path and "?" not in r.path]
        self.assertEqual((len(gets), sum(r.bytes for r in gets)), (8, 2 * ((5 << 20) + 1000)))
        with open(self.path("runs")) as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual([line["what"] for line in lines], ["setting", "run", "run", "get"])
        self.assertEqual((lines[0]["objects"], lines[0]["bytes"]), (2, (5 << 20) + 1000))
        for field in ("mb_per_s", "objects_per_s", "cpu_s_per_gb", "cpu_ms_per_object"):
            self.assertGreater(lines[3][field], 0)
            self.assertLessEqual(lines[3][field + "_min"], lines[3][field])
            self.assertLessEqual(lines[3][field], lines[3][field + "_max"])
        self.assertEqual((lines[3]["retries"], lines[3]["repeats"]), (0, 2))
        self.assertEqual([line["bytes_in"] for line in lines[1:]], [(5 << 20) + 1000] * 2 + [2 * ((5 << 20) + 1000)])
        self.assertRegex(self.out, r"(?m)^ +median( +[0-9.]+){6}$")

    def test_json_alone_is_one_object_in_the_tables_place(self):
        self.put()
        for words in ((), ("--into", "memory")):
            self.assertEqual(self.bench(self.uri + "/b", "--repeats=1", *words, "--json"), 0, self.err)
            result = json.loads(self.out)
            self.assertEqual((result["bench"], result["what"], result["requests"]), ("s3", "get-small", 1))
            self.assertEqual(result["into"], words[1] if words else "nothing")

    def test_range_that_cannot_be_read_ends_the_others_in_work(self):
        for name in ("a", "b"):
            self.client.put(self.bucket, f"o/{name}", os.urandom(1000))
        with Faults(server(), "GET */o/a pass delay=60000", "GET */o/b 403 AccessDenied delay=500") as proxy:
            begun = time.monotonic()
            self.assertEqual(self.bench(self.uri + "/o/", "--requests=2", "--repeats=1", "--endpoint-url", proxy.url), 2, self.err)
            self.assertLess(time.monotonic() - begun, 30)  # else the other one's whole minute
            self.assertEqual(len(proxy.requests("GET", "/o/a")), 1)
        self.assertIn("AccessDenied", self.err)
        self.assertIn("/o/b'", self.err)

    def test_what_cannot_be_is_one_line_and_2(self):
        for words, said in (([], "s3://BUCKET"), (["x"], "'x' is not in S3"), ([self.uri, "--requests", "0"], "--requests"),
                            ([self.uri, "--frob"], "--frob"), ([self.uri + "/none"], "no object with a byte in it")):
            self.assertEqual(self.bench(*words), 2)
            self.assertEqual(len(self.err.splitlines()), 1)
            self.assertIn(said, self.err)
        self.put()
        self.assertEqual(self.bench(self.uri, "--range-bytes", "1"), 2)
        self.assertRegex(self.err, r"--range-bytes 1 makes 5243881 requests")
        self.assertEqual(self.bench("--help"), 0)
        for option in ("--requests", "--range-bytes", "--into", "--repeats", "--json"):
            self.assertIn(f"  {option} ", self.out)


if __name__ == "__main__":
    s3.require()
    try:
        unittest.main(verbosity=2)
    finally:
        stop_servers()
