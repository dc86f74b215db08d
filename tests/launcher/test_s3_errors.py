#!/usr/bin/env python3
"""What a person gets wrong with S3, one case each: one line that names it, the exit status, and no secret."""
import email.utils
import os
import socket
import time
import unittest

from s3_case import Case, Fake, error, s3, server, stop_servers

SKEW_S = 3 * 3600


class Credentials(Case):
    def setUp(self):
        super().setUp()
        self.client.put(self.bucket, "key", b"data")
        self.target = self.uri + "/key"

    def test_a_wrong_secret_is_said(self):
        env = {**self.env, "AWS_SECRET_ACCESS_KEY": "wrong" * 8}
        self.refused(2, ["SignatureDoesNotMatch", "secret"], "ls", self.uri, env=env)
        self.write("file", b"1")
        self.refused(2, ["SignatureDoesNotMatch", self.target], "cp", "file", self.target, env=env)
        self.assertEqual(self.client.get(self.bucket, "key"), b"data")

    def test_a_key_id_that_nobody_has_is_said(self):
        env = {**self.env, "AWS_ACCESS_KEY_ID": "AKIANOBODY"}
        self.refused(2, ["InvalidAccessKeyId"], "ls", self.uri, env=env)

    def test_an_expired_token_is_said(self):
        keys = server().sts(1)
        expires = time.strptime(keys["AWS_CREDENTIAL_EXPIRATION"][:19], "%Y-%m-%dT%H:%M:%S")
        env = {**self.env, **keys}
        del env["AWS_CREDENTIAL_EXPIRATION"]  # else it is known without asking the server
        while time.gmtime(time.time() - 1.5) < expires:
            time.sleep(0.05)
        self.refused(2, ["InvalidAccessKeyId", "session token"], "ls", self.uri, env=env)
        with Fake(lambda _: (400, {}, error("ExpiredToken", "The provided token has expired."))) as fake:
            self.refused(2, ["ExpiredToken", "expired"], "ls", self.uri, "--endpoint-url", fake.url, env=env)

    def test_temporary_keys_work_until_then(self):
        if server().sts_is_broken():
            self.skipTest("this version of Ceph's gateway refuses all temporary keys (tests/lab/README.md)")
        self.assertEqual(self.done("cat", self.target, env={**self.env, **server().sts(3600)}), b"data")

    def test_no_credentials_at_all_lists_where_it_looked(self):
        env = server().env(None, HOME=self.folder)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            del env[name]
        self.refused(2, ["AWS_ACCESS_KEY_ID", ".aws/credentials", ".aws/config", "AWS_CONTAINER_CREDENTIALS",
                         "instance metadata"], "ls", self.uri, env=env)

    def test_half_a_pair_is_said(self):
        env = server().env(None, AWS_ACCESS_KEY_ID="AKIDHALF")
        self.refused(2, ["AWS_SECRET_ACCESS_KEY"], "ls", self.uri, env=env)

    def test_a_profile_that_is_not_there_is_named(self):
        self.refused(2, ["'nosuch'"], "ls", self.uri, "--profile", "nosuch")

    def test_who_may_not_learns_which_permission_is_missing(self):
        env = server().env("other")
        self.write("file", b"1")
        self.refused(2, ["AccessDenied", "s3:ListBucket", self.bucket], "ls", self.uri, env=env)
        self.refused(2, ["403", "s3:GetObject", self.target], "cat", self.target, env=env)
        self.refused(2, ["403", "s3:GetObject", self.target], "cp", self.target, "back", env=env)
        self.refused(2, ["AccessDenied", "s3:PutObject", self.target], "cp", "file", self.target, env=env)
        self.refused(2, ["AccessDenied", "s3:DeleteObject", self.target], "rm", self.target, env=env)
        self.assertEqual(os.listdir(self.folder), ["file"])
        self.assertEqual(self.client.get(self.bucket, "key"), b"data")


class Targets(Case):
    def test_a_bucket_that_is_not_there_is_named(self):
        self.write("file", b"1")
        self.refused(2, ["NoSuchBucket", "nosuch-bucket"], "ls", "s3://nosuch-bucket/x")
        self.refused(2, ["NoSuchBucket", "s3://nosuch-bucket/key"], "cp", "file", "s3://nosuch-bucket/key")
        self.refused(2, ["s3://nosuch-bucket/key"], "cat", "s3://nosuch-bucket/key")
        self.refused(2, ["s3://nosuch-bucket/key"], "cp", "s3://nosuch-bucket/key", "back")

    def test_a_key_that_is_not_there_is_named(self):
        for words in (("cat", self.uri + "/nosuch"), ("cp", self.uri + "/nosuch", "back"), ("rm", self.uri + "/nosuch"),
                      ("cp", self.uri + "/nosuch", "-"), ("cp", self.uri + "/nosuch", self.uri + "/other")):
            self.refused(2, [f"'{self.uri}/nosuch'", "no such key"], *words)
        self.assertEqual((os.listdir(self.folder), self.keys()), ([], []))

    def test_a_name_that_no_bucket_has_is_refused_before_asking(self):
        for name in ("ab", "Upper", "under_score", "-x-", "a..b", "x" * 64, "a b", "a?b", "b\u00e4r", "..."):
            self.refused(2, [f"'{name}'", "bucket"], "ls", f"s3://{name}/key")

    def test_what_is_no_s3_uri_is_refused(self):
        self.refused(2, ["'s3://'", "bucket"], "ls", "s3://")
        self.refused(2, ["'s3:///key'", "bucket"], "cat", "s3:///key")
        self.refused(2, ["'s4://b/k'"], "ls", "s4://b/k")
        self.refused(2, ["'s3:/bucket/key'", "s3://BUCKET/KEY"], "cat", "s3:/bucket/key")
        self.refused(2, ["'a'", "'b'", "s3://BUCKET/KEY"], "cp", "a", "b")
        self.refused(2, [f"'{self.uri}'", "key"], "cat", self.uri)
        self.refused(2, ["empty"], "rm", "")

    def test_words_that_make_no_sense_are_refused(self):
        self.refused(2, ["ls, cp, cat"])
        self.refused(2, ["'mv'"], "mv", "a", "b")
        self.refused(2, ["BUCKET"], "ls")
        self.refused(2, ["SRC DST"], "cp", "a")
        self.refused(2, ["one"], "rm", self.uri + "/a", self.uri + "/b")
        self.refused(2, ["--recursive"], "ls", "--recursiv", self.uri)
        self.refused(2, ["--sse"], "cat", "--sse", "AES256", self.uri + "/a")
        self.refused(2, ["aws:kms"], "cp", "--sse", "rot13", "a", self.uri + "/a")
        self.refused(2, ["--region"], "ls", self.uri, "--region")
        self.refused(2, ["'-x'"], "ls", "-x", self.uri)
        self.refused(2, ["endpoint", "https://HOST"], "ls", self.uri, "--endpoint-url", "gopher://x")

    def test_help_tells_all(self):
        for words in (["--help"], ["-h"]):
            out = self.done(*words).decode()
            for text in ("ls s3://", "cp SRC DST", "cat s3://", "rm s3://", "--recursive", "--sse-kms-key-id",
                         "exit status"):
                self.assertIn(text, out)
        out = self.done("ls", "--help").decode()
        self.assertIn("--json", out)
        self.assertNotIn("--sse", out)


class Endpoints(Case):
    def at(self, answer, words=("ls",), **more):
        """Run against an endpoint that gives such answers; what it saw."""
        self.write("file", b"1")
        with Fake(answer) as fake:
            if more:
                self.refused(*more["refused"], *words, "--endpoint-url", fake.url)
            else:
                self.done(*words, "--endpoint-url", fake.url)
            return fake.seen

    def test_a_wrong_region_is_followed_or_named(self):
        listing = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        malformed = error("AuthorizationHeaderMalformed", "the region is wrong", "<Region>eu-north-1</Region>")

        def scope(request):
            return request.headers["Authorization"].split("Credential=")[1].split(",")[0].split("/")[2]

        seen = self.at(lambda r: (200, {}, listing) if scope(r) == "eu-north-1" else (400, {}, malformed),
                       ("ls", self.uri))
        self.assertEqual([scope(r) for r in seen], ["us-east-1", "eu-north-1"])
        redirect = {"x-amz-bucket-region": "ap-south-1"}
        seen = self.at(lambda r: (200, {}, listing) if scope(r) == "ap-south-1" else
                       (301, redirect, error("PermanentRedirect")), ("ls", self.uri))
        self.assertEqual([scope(r) for r in seen], ["us-east-1", "ap-south-1"])
        seen = self.at(lambda r: (400, {}, malformed), ("ls", self.uri), refused=(2, ["eu-north-1", "region"]))
        self.assertLessEqual(len(seen), 3)
        seen = self.at(lambda r: (301, redirect, b""), ("cat", self.uri + "/key"), refused=(2, ["ap-south-1", "region"]))
        self.assertLessEqual(len(seen), 4)

    def test_a_clock_that_is_off_is_corrected_once_or_said(self):
        listing = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

        def skewed(request):
            now = time.time() + SKEW_S
            said = time.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
            date = {"Date": email.utils.formatdate(now, usegmt=True)}
            if abs(time.mktime(said) - time.mktime(time.gmtime(now))) > 900:
                return 403, date, error("RequestTimeTooSkewed", "The difference is too large.")
            return 200, date, listing

        self.assertEqual(len(self.at(skewed, ("ls", self.uri))), 2)
        date = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
        seen = self.at(lambda _: (403, date, error("RequestTimeTooSkewed")), ("ls", self.uri),
                       refused=(2, ["clock", "2026-01-01", time.strftime("%Y-%m-%d", time.gmtime())]))
        self.assertLessEqual(len(seen), 3)

    def test_an_endpoint_that_is_down_is_named(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # and never listens
            port = unused.getsockname()[1]
            self.write("file", b"1")
            env = {**self.env, "AWS_MAX_ATTEMPTS": "2"}
            for words in (("ls", self.uri), ("cat", self.uri + "/key"), ("cp", "file", self.uri + "/key")):
                self.refused(3, [f"127.0.0.1:{port}"], *words, "--endpoint-url", f"http://127.0.0.1:{port}", env=env)
            self.refused(3, ["nosuch.invalid"], "ls", self.uri, "--endpoint-url", "https://nosuch.invalid", env=env)

    def test_a_server_that_stays_ill_is_said_after_the_attempts(self):
        env = {**self.env, "AWS_MAX_ATTEMPTS": "3"}
        with Fake(lambda _: (503, {}, error("SlowDown", "Please reduce your request rate."))) as fake:
            self.refused(3, ["503", "SlowDown", "REQUEST17"], "ls", self.uri, "--endpoint-url", fake.url, env=env)
            self.assertEqual(len(fake.seen), 3)

    def test_an_answer_that_is_no_listing_is_refused(self):
        env = {**self.env, "AWS_MAX_ATTEMPTS": "1"}
        for body in (b"", b"<html>", b"not XML", b"<ListBucketResult>"):
            with Fake(lambda _, body=body: (200, {}, body)) as fake:
                self.assertIn(self.convoy("ls", self.uri, "--endpoint-url", fake.url, env=env), (2, 3))
                self.assertEqual(len(self.err), 1)
                self.assertIn(self.bucket, self.err[0])


class Certificates(Case):
    @classmethod
    def setUpClass(cls):
        server(tls=True)

    def test_https_works_with_the_ca(self):
        client = server(tls=True).client()
        client.make_bucket("over-tls")
        client.put("over-tls", "key", b"data")
        self.assertEqual(self.done("cat", "s3://over-tls/key", env=server(tls=True).env()), b"data")

    def test_a_bucket_may_be_in_the_hosts_name(self):
        self.write("config", b"[default]\ns3 =\n  addressing_style = virtual\n")
        for tls in (False, True):
            env = server(tls).env(AWS_CONFIG_FILE=self.path("config"))
            url = server(tls).url.replace("127.0.0.1", "s3.localhost")
            server(tls).client().request("PUT", f"/{self.bucket}")
            mark = server(tls).log_mark()
            self.done("cp", "-", self.uri + "/a//c", "--endpoint-url", url, env=env, data=b"more")
            self.assertEqual(self.done("cat", self.uri + "/a//c", "--endpoint-url", url, env=env), b"more")
            self.assertEqual({r.path for r in server(tls).requests(mark)}, {"/a//c"})

    def test_a_certificate_that_is_not_trusted_is_refused_and_the_bundle_named(self):
        env = server(tls=True).env(AWS_CA_BUNDLE=None)
        self.refused(2, ["certificate", "AWS_CA_BUNDLE"], "ls", self.uri, env=env)

    def test_a_certificate_for_another_host_is_refused(self):
        url = server(tls=True).url.replace("127.0.0.1", "wrong.localhost")
        self.refused(2, ["certificate", "wrong.localhost"], "ls", self.uri, "--endpoint-url", url,
                     env=server(tls=True).env())

    def test_a_bundle_that_cannot_be_read_is_named(self):
        self.refused(2, ["AWS_CA_BUNDLE", "/nonexistent/ca.pem"], "ls", self.uri,
                     env=server(tls=True).env(AWS_CA_BUNDLE="/nonexistent/ca.pem"))


if __name__ == "__main__":
    s3.require()
    try:
        unittest.main(verbosity=2)
    finally:
        stop_servers()
