#!/usr/bin/env python3
"""A training whose keys for S3 end several times: the bits of a run on local files. With a real S3 server."""
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import s3  # noqa: E402
from job import CONVOY, Job  # noqa: E402
from proxy import Proxy  # noqa: E402

BUCKET = "pictures"
LIVES_S = 3
DELAY_S = 0.2  # of each request
EPOCHS = 6


class Keys(Job):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = s3.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.server.client().make_bucket(BUCKET)

    def setUp(self):
        super().setUp()
        if self.server.sts_is_broken():
            self.skipTest("this version of Ceph's gateway refuses all temporary keys (tests/lab/README.md)")
        proxy = Proxy(self.server.http_url, DELAY_S)
        self.addCleanup(proxy.end)
        self.server.sts(60)  # makes the role
        self.data_uri = f"s3://{BUCKET}/{self.id().rsplit('.', 1)[1]}"
        self.bare = {k: v for k, v in self.env.items() if not k.startswith("AWS_")}
        self.env = {**self.bare, **{k: v for k, v in self.server.env().items() if k.startswith("AWS_")}}
        self.assertEqual(self.wait(self.start(CONVOY, "pack", self.data, self.data_uri)), 0, self.err)
        self.env = {**self.bare, **{k: v for k, v in self.server.env(None).items() if k.startswith("AWS_")},
                    "AWS_ENDPOINT_URL_S3": proxy.url, "AWS_CONFIG_FILE": self.path("config"), "AWS_PROFILE": "p"}

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def trained(self, **more):
        options = {"image_size": 8, "global_batch": 8, "micro_batch": 4, "epochs": EPOCHS, **more}
        self.assertEqual(self.convoy(2, *self.options(**options)), 0, self.err)
        return self.sha256()

    def check(self):
        """Train from the bucket, with checkpoints in it, for several lives of the keys; then from local files."""
        began_s = time.monotonic()
        weights = self.trained(data=self.data_uri, checkpoint=f"{self.data_uri}/checkpoint", report="remote")
        self.assertGreater(time.monotonic() - began_s, 3 * LIVES_S)
        self.assertNotIn("error", self.err)
        self.assertEqual(weights, self.trained(report="local"))

    def test_keys_of_a_process_end_during_a_run(self):
        self.write("process", f"#!/bin/sh\ncd '{self.folder}' && echo run >>runs || exit 1\n"
                              f"eval \"$('{s3.SCRIPT}' sts '{self.server.dir}' {LIVES_S})\" || exit 1\n"
                              "printf '{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"%s\","
                              "\"SessionToken\":\"%s\",\"Expiration\":\"%s\"}' \"$AWS_ACCESS_KEY_ID\" "
                              "\"$AWS_SECRET_ACCESS_KEY\" \"$AWS_SESSION_TOKEN\" \"$AWS_CREDENTIAL_EXPIRATION\"\n")
        os.chmod(self.path("process"), 0o700)
        self.write("config", f"[profile p]\ncredential_process = {self.path('process')}\n")
        self.check()
        self.assertGreaterEqual(len(self.text("runs").splitlines()), 6)  # two ranks

    def test_keys_of_a_role_end_during_a_run(self):
        keys = self.server.users["test"]
        self.write("config", f"[profile p]\nrole_arn = arn:aws:iam:::role/tester\nsource_profile = p\n"
                             f"duration_seconds = {LIVES_S}\naws_access_key_id = {keys.access_key}\n"
                             f"aws_secret_access_key = {keys.secret_key}\n")
        mark = self.server.log_mark()
        self.check()
        asked = [r for r in self.server.requests(mark) if r.method == "POST" and r.path == "/"]
        self.assertGreaterEqual(len(asked), 6)


if __name__ == "__main__":
    s3.require()
    unittest.main(verbosity=2)
