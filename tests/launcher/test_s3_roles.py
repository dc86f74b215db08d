#!/usr/bin/env python3
"""Keys that are asked for: roles of the real server's STS and a credential_process, also where they end in a run."""
import os
import time
import unittest

from s3_case import Case, Fake, s3, server, stop_servers
from proxy import Proxy  # of the lab, whose path s3_case has set

ROLE = "arn:aws:iam:::role/tester"  # made by `s3server sts`; user "test" may assume it
LIVES_S = 3
FILES, DELAY_S = 96, 0.7  # 8 at once: 8 s and more


class Roles(Case):
    def setUp(self):
        super().setUp()
        if server().sts_is_broken():
            self.skipTest("this version of Ceph's gateway refuses all temporary keys (tests/lab/README.md)")
        server().sts(60)  # makes the role
        self.client.put(self.bucket, "key", b"data")
        self.target = self.uri + "/key"
        self.secrets = [keys.secret_key for keys in server().users.values()]
        self.env = server().env(None, HOME=self.folder, AWS_CONFIG_FILE=self.path("config"), AWS_MAX_ATTEMPTS="2")

    def profiles(self, **sections):
        """Write the config file; the users' profiles are called as they are."""
        text = "".join(f"[profile {name}]\naws_access_key_id = {keys.access_key}\n"
                       f"aws_secret_access_key = {keys.secret_key}\n" for name, keys in server().users.items())
        text += "".join(f"[profile {name}]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items())
                        for name, lines in sections.items())
        self.write("config", text.encode())

    def process(self, seconds, expires=True, fails_after=None):
        """A program that makes keys of so many seconds; it writes a line for each run."""
        json = ('{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"%s","SessionToken":"%s"' +
                (',"Expiration":"%s"' if expires else '%.0s') + '}')
        fails = ""
        if fails_after is not None:
            fails = f'[ "$(wc -l <runs)" -le {fails_after} ] || {{ echo sealed >&2; exit 7; }}\n'
        self.write("process", f"#!/bin/sh\ncd '{self.folder}' && echo run >>runs || exit 1\n{fails}"
                              f"eval \"$('{s3.SCRIPT}' sts '{server().dir}' {seconds})\" || exit 1\n"
                              f"printf '{json}' \"$AWS_ACCESS_KEY_ID\" \"$AWS_SECRET_ACCESS_KEY\" "
                              "\"$AWS_SESSION_TOKEN\" \"$AWS_CREDENTIAL_EXPIRATION\"\n".encode())
        os.chmod(self.path("process"), 0o700)
        return self.path("process")

    def runs(self):
        return len(self.read("runs").splitlines())

    def copy(self, status=0):
        """Copy a folder over a way so slow that it takes several lives of the keys; STS is asked at another place."""
        for number in range(FILES):
            self.write(f"folder/{number}", b"%d" % number)
        proxy = Proxy(server().http_url, DELAY_S)
        self.addCleanup(proxy.end)
        env = {**self.env, "AWS_ENDPOINT_URL_S3": proxy.url, "AWS_ENDPOINT_URL": server().url}
        began_s, mark = time.monotonic(), server().log_mark()
        self.assertEqual(self.convoy("cp", "--recursive", "folder", self.uri, "--profile", "p", env=env), status,
                         self.err)
        seconds = time.monotonic() - began_s
        if status == 0:
            self.assertGreater(seconds, 2 * LIVES_S)
            self.assertEqual(len(self.keys()), FILES + 1)
        return server().requests(mark)

    def refused(self, status, said, *words, **more):
        super().refused(status, said, *words, **more)
        for secret in self.secrets:
            self.assertNotIn(secret, self.err[0])

    def test_a_role_is_assumed(self):
        self.profiles(p={"role_arn": ROLE, "source_profile": "test", "role_session_name": "some-session",
                         "external_id": "some-id"})
        mark = server().log_mark()
        self.assertEqual(self.done("cat", self.target, "--profile", "p"), b"data")
        self.assertEqual([r.path for r in server().requests(mark) if r.method == "POST"], ["/"])

    def test_a_role_may_have_the_environment_as_its_source(self):
        self.profiles(p={"role_arn": ROLE, "credential_source": "Environment"})
        keys = server().users["test"]
        env = {**self.env, "AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
        mark = server().log_mark()
        self.assertEqual(self.done("cat", self.target, "--profile", "p", env=env), b"data")
        self.assertEqual([r.path for r in server().requests(mark) if r.method == "POST"], ["/"])

    def test_a_role_that_may_not_be_assumed_is_said(self):
        keys = server().users["test"]
        self.profiles(p={"role_arn": ROLE, "source_profile": "other"},
                      nosuch={"role_arn": ROLE + "-17", "source_profile": "test"},
                      wrong={"role_arn": ROLE, "source_profile": "keys"},
                      keys={"aws_access_key_id": keys.access_key, "aws_secret_access_key": "wrong"})
        self.refused(2, [f"cannot assume the role '{ROLE}' of profile 'p': HTTP 403 AccessDenied",
                         "from profile 'other' in the config file need sts:AssumeRole"],
                     "ls", self.uri, "--profile", "p")
        self.refused(2, [ROLE + "-17", "404 NoSuchEntity"], "ls", self.uri, "--profile", "nosuch")
        self.refused(2, ["SignatureDoesNotMatch", "profile 'keys' in the config file have a secret access key"],
                     "ls", self.uri, "--profile", "wrong")

    def test_what_the_role_may_not_do_is_said_of_the_role(self):
        self.profiles(p={"role_arn": ROLE, "source_profile": "test"})
        listing = b"<Error><Code>AccessDenied</Code></Error>"
        with Fake(lambda _: (403, {}, listing)) as fake:
            env = {**self.env, "AWS_ENDPOINT_URL_S3": fake.url}
            self.refused(2, ["the credentials from the role of profile 'p' need s3:ListBucket"], "ls", self.uri,
                         "--profile", "p", env=env)

    def test_a_run_outlives_the_keys_of_its_role(self):
        self.profiles(p={"role_arn": ROLE, "source_profile": "test", "duration_seconds": LIVES_S})
        asked = [r for r in self.copy() if r.method == "POST" and r.path == "/"]
        self.assertGreaterEqual(len(asked), 3)

    def test_a_run_outlives_the_keys_of_a_process(self):
        self.profiles(p={"credential_process": self.process(LIVES_S)})
        self.copy()
        self.assertGreaterEqual(self.runs(), 3)

    def test_keys_that_end_unforeseen_are_fetched_anew(self):
        self.profiles(p={"credential_process": self.process(LIVES_S, expires=False)})
        refused = [r for r in self.copy() if r.status == 403]
        self.assertGreaterEqual(self.runs(), 3)
        self.assertGreaterEqual(len(refused), self.runs() - 1)  # once for each life, by each request under way

    def test_a_process_that_gives_no_more_keys_is_said(self):
        self.profiles(p={"credential_process": self.process(LIVES_S, fails_after=1)})
        self.copy(status=2)
        self.assertIn("credential_process of profile 'p': its exit status is 7; run it by hand to see why", self.err[-1])
        self.assertNotIn("sealed", "\n".join(self.err))


if __name__ == "__main__":
    s3.require()
    try:
        unittest.main(verbosity=2)
    finally:
        stop_servers()
