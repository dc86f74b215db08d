#!/usr/bin/env python3
"""Hosts that were given no key agree on one below the s3:// checkpoint prefix that they have in common. With a real S3 server."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import s3  # noqa: E402
from hosts_case import Case  # noqa: E402

BUCKET = "state"


class SharedKey(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = s3.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.client = cls.server.client()
        cls.client.make_bucket(BUCKET)

    def keyless(self, place, user="test", **more):
        aws = {name: value for name, value in self.server.env(user).items() if name.startswith("AWS_")}
        return self.job(CONVOY_JOB_KEY=None, SM_HP_CHECKPOINT=place, **{**aws, **more})

    def test_hosts_agree_and_leave_nothing(self):
        mark = self.server.log_mark()
        job = self.keyless(f"s3://{BUCKET}/prefix/", FAKE="exit-0").start()
        self.assert_all_end(job, 0)
        self.assertNotIn("CONVOY_JOB_KEY", job.logs())
        methods = [request.method for request in self.server.requests(mark) if "convoy-job-key-" in request.path]
        self.assertGreaterEqual(methods.count("PUT"), 1)
        self.assertGreaterEqual(methods.count("GET"), 2)
        self.assertEqual(methods.count("DELETE"), 1)
        self.assertEqual(self.client.list(BUCKET, "prefix/"), [])

    def test_a_prefix_that_may_not_be_written_ends_all_with_the_reason(self):
        job = self.keyless(f"s3://{BUCKET}/prefix/", "other", FAKE="exit-0").start()
        self.assert_all_end(job, 2)
        for host in job.hosts.values():
            for part in ("--checkpoint", "CONVOY_JOB_KEY", "403"):
                self.assertIn(part, host.reason())


if __name__ == "__main__":
    s3.require()
    unittest.main(verbosity=2)
