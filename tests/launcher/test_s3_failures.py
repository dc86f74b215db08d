#!/usr/bin/env python3
"""What goes wrong between a client and S3, a case or more for each kind, by the built program, with the real server behind
the fault proxy: numbers in the names are those of the table in s3io/README.md."""
import base64
import calendar
import hashlib
import json
import os
import re
import select
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import unittest
import urllib.parse

from s3_case import CONVOY, LIMIT_S, SIZE_PART, Case, Fake, s3, server, stop_servers
from faults import Faults

SMALL = 300_000  # bytes: one request
CLOCK_OFF = os.path.join(os.path.dirname(CONVOY), "libclock_off.so")


def crc32c(data):
    """As S3 writes it."""
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
        table.append(n)
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return base64.b64encode((crc ^ 0xffffffff).to_bytes(4, "big")).decode()


class Failures(Case):
    def through(self, *rules, **more):
        """From now on the program reaches the server by a proxy with these rules."""
        proxy = Faults(server(), *rules, **more)
        self.addCleanup(proxy.stop)
        self.env = proxy.env()
        return proxy

    def put(self, key, count=SMALL):
        data = os.urandom(count)
        self.client.put(self.bucket, key, data)
        return data

    def wait_until(self, condition):
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, "waited in vain")
            time.sleep(0.02)

    def get(self, key, env=None):
        self.done("cp", f"{self.uri}/{key}", "got", env=env)
        return self.read("got")


class Answers(Failures):
    """Rows 1 to 4: what is tried again, and from where."""

    ILL = ("503 SlowDown", "500 InternalError", "502 bare", "504 bare", "400 RequestTimeout", "503 ServiceUnavailable",
           "429 TooManyRequestsException", "403 RequestThrottled", "503 SlowDown retry-after=1")

    def test_01_an_ill_server_is_asked_again_for_each_kind_of_request(self):
        data = self.put("here")
        self.write("file", data)
        for number, ill in enumerate(self.ILL):
            with self.subTest(ill=ill):
                proxy = self.through(f"HEAD * #1-2 {ill}", f"GET * #1-2 {ill}", f"PUT * #1-2 {ill}", f"DELETE * #1-2 {ill}")
                self.assertEqual(self.get("here"), data)
                self.done("cp", "file", f"{self.uri}/there-{number}")
                self.assertEqual(self.client.get(self.bucket, f"there-{number}"), data)
                self.assertIn(f"there-{number}", self.done("ls", self.uri).decode())
                self.done("rm", f"{self.uri}/there-{number}")
                self.assertIsNone(self.client.head(self.bucket, f"there-{number}"))
                self.assertGreaterEqual(proxy.report()["status"], 8)

    def test_01_attempts_are_counted_for_each_part_and_not_for_the_object(self):
        data = os.urandom(5 * SIZE_PART)
        self.write("file", data)
        part = f"GET {self.path_of('big')}"
        proxy = self.through(*(f"PUT *partNumber={n}* #1-2 503" for n in (1, 2, 3, 4, 5)),
                             *(f"{part} #{n} 503" for n in range(1, 6)))
        env = {**self.env, "AWS_MAX_ATTEMPTS": "4"}
        self.done("cp", "file", f"{self.uri}/big", env=env)
        self.assertEqual(self.get("big", env), data)
        self.assertEqual(proxy.report()["status"], 10 + 5)

    def path_of(self, key):
        return f"/{self.bucket}/{key}"

    def test_01_a_server_that_stays_ill_is_never_taken_for_a_missing_key(self):
        self.put("here")
        for method in ("HEAD", "GET"):
            self.through(f"{method} * 503")
            env = {**self.env, "AWS_MAX_ATTEMPTS": "2"}
            self.refused(3, ["503", f"{self.uri}/here"], "cp", f"{self.uri}/here", "got", env=env)
            self.assertNotIn("no such key", self.err[0])
            self.assertEqual(os.listdir(self.folder), [])

    def test_02_a_body_cut_short_is_asked_for_from_the_byte_reached(self):
        data = self.put("here")
        for how in ("cut", "reset"):
            with self.subTest(how=how):
                proxy = self.through(f"GET * #1 {how} at=100000", f"GET * #2 {how} at=50000")
                self.assertEqual(self.get("here"), data)
                gets = proxy.requests("GET")
                starts = [int(r.range.split("=")[1].split("-")[0]) for r in gets]
                self.assertEqual((len(gets), starts[0]), (3, 0))
                self.assertTrue(0 < starts[1] <= 100000 and starts[1] < starts[2] <= 150000, starts)
                self.assertEqual({r.if_match for r in gets}, {self.client.head(self.bucket, "here")["ETag"]})

    def test_02_no_answer_and_a_success_without_bytes_are_none(self):
        data = self.put("here")
        for how in ("close", "empty"):
            with self.subTest(how=how):
                proxy = self.through(f"GET * #1-2 {how}", "HEAD * #1 close")
                self.assertEqual(self.get("here"), data)
                self.assertEqual(len(proxy.requests("GET")), 3)

    def test_02_a_success_without_bytes_is_none_for_head_put_and_whole_objects(self):
        for n in range(4):
            self.put(f"in/{n}")
        self.write("file", os.urandom(SMALL))
        proxy = self.through("GET */in/* #1-3 empty", "HEAD * #1 empty", "PUT * #1 empty")
        self.done("cp", "--recursive", f"{self.uri}/in/", "all")
        self.assertEqual(self.files("all"), {b"%d" % n: self.client.get(self.bucket, f"in/{n}") for n in range(4)})
        self.done("cp", "file", f"{self.uri}/new")
        self.assertEqual(self.client.get(self.bucket, "new"), self.read("file"))
        self.assertEqual(self.done("cat", f"{self.uri}/new"), self.read("file"))
        self.assertEqual(proxy.report()["empty"], 5)

    def test_03_a_kept_connection_that_was_closed_costs_no_attempt(self):
        for n in range(12):
            self.put(f"{n:02}", 2000)
        for rule in ("GET * stale", "* * #2- drop"):
            with self.subTest(rule=rule):
                proxy = self.through(rule)
                env = {**self.env, "AWS_MAX_ATTEMPTS": "1"}
                self.done("cp", "--recursive", f"{self.uri}/", "all", env=env)
                self.assertEqual(self.files("all"), {b"%02d" % n: self.client.get(self.bucket, f"{n:02}") for n in range(12)})
                self.assertIn(rule.split()[-1], proxy.report())
                shutil.rmtree(self.path("all"))

    def test_04_a_success_with_an_error_inside_is_none(self):
        data = os.urandom(2 * SIZE_PART)
        self.write("file", data)
        proxy = self.through("POST *uploadId=* #1-2 200 InternalError")
        self.done("cp", "file", f"{self.uri}/big")
        self.assertEqual(self.client.get(self.bucket, "big"), data)
        self.assertEqual(len(proxy.requests("POST", "uploadId=")), 3)
        self.through("POST *uploadId=* 200 AccessDenied")
        self.refused(2, ["AccessDenied", f"{self.uri}/none"], "cp", "file", f"{self.uri}/none")
        self.assertIsNone(self.client.head(self.bucket, "none"))
        self.assertEqual(self.client.uploads(self.bucket), [])

    def test_04_an_upload_that_is_gone_is_an_error_where_another_object_is_there(self):
        self.write("file", os.urandom(2 * SIZE_PART))
        old = self.put("big")
        self.through("POST *uploadId=* 200 NoSuchUpload")
        self.refused(2, ["NoSuchUpload", f"{self.uri}/big"], "cp", "file", f"{self.uri}/big")
        self.assertEqual(self.client.get(self.bucket, "big"), old)
        self.assertEqual(self.client.uploads(self.bucket), [])

    def test_04_a_listing_with_an_error_inside_is_no_empty_one(self):
        self.put("here")
        self.through("GET *list-type* 200 NoSuchKey")
        self.refused(2, ["NoSuchKey", self.uri], "ls", self.uri)


class Writes(Failures):
    """Rows 5, 11, 13 and 16: what became of a write."""

    def test_05_a_completion_whose_answer_was_lost_is_found_to_have_happened(self):
        data = os.urandom(2 * SIZE_PART)
        self.write("file", data)
        for number, second in enumerate(("pass", "404 NoSuchUpload", "500 InternalError", "lose")):
            with self.subTest(second=second):
                proxy = self.through("POST *uploadId=* #1 lose", f"POST *uploadId=* #2 {second}",
                                     "POST *uploadId=* #3- 404 NoSuchUpload")
                self.done("cp", "file", f"{self.uri}/big-{number}")
                self.assertEqual(self.client.get(self.bucket, f"big-{number}"), data)
                self.assertGreaterEqual(len(proxy.requests("POST", "uploadId=")), 2)
        self.assertEqual(self.client.uploads(self.bucket), [])

    def test_05_a_write_whose_answer_was_lost_is_written_again(self):
        data = os.urandom(SMALL)
        self.write("file", data)
        self.through("PUT * #1-2 lose", "DELETE * #1 lose")
        self.done("cp", "file", f"{self.uri}/key")
        self.assertEqual(self.client.get(self.bucket, "key"), data)
        self.done("rm", f"{self.uri}/key")
        self.assertEqual(self.keys(), [])

    def test_05_a_creation_whose_answer_was_lost_is_repeated(self):
        data = os.urandom(2 * SIZE_PART)
        self.write("file", data)
        proxy = self.through("POST *uploads* #1 lose")
        self.done("cp", "file", f"{self.uri}/big")
        self.assertEqual(self.client.get(self.bucket, "big"), data)
        self.assertEqual(len(proxy.requests("POST", "uploads=")), 2)
        # The first one has no parts and costs nothing. S3 does not say whose it is: it is left alone.
        self.assertEqual(self.client.uploads(self.bucket), [b"big"])

    def test_11_a_byte_changed_on_its_way_up_is_refused_and_sent_again(self):
        data = os.urandom(3 * SIZE_PART)
        self.write("small", data[:SMALL])
        self.write("big", data)
        proxy = self.through("PUT *small #1 spoil at=1234", "PUT *partNumber=2* #1 spoil", "PUT *partNumber=3* #1 spoil at=0")
        mark = server().log_mark()
        self.done("cp", "small", f"{self.uri}/small")
        self.done("cp", "big", f"{self.uri}/big")
        self.assertEqual(self.client.get(self.bucket, "small"), data[:SMALL])
        self.assertEqual(self.client.get(self.bucket, "big"), data)
        self.assertEqual(proxy.report()["spoil"], 3)
        self.assertEqual(sum(r.status == 400 for r in server().requests(mark)), 3)

    def test_11_a_byte_changed_on_its_way_down_is_known_by_the_servers_checksum(self):
        small, big = b"hello", bytes(range(256)) * (SIZE_PART >> 8) + b"hello"
        for data, crc, tries in ((small, "mnG7TA==", 3), (big, crc32c(big), 1)):
            for mended in (True, False):
                with self.subTest(bytes=len(data), mended=mended):
                    spoiled = []

                    def answer(request):
                        first, last = re.match(r"bytes=(\d+)-(\d+)", request.headers.get("range", "")) \
                            .groups() if "range" in request.headers else (0, len(data) - 1)
                        body = bytearray(data[int(first):int(last) + 1])
                        if request.command == "GET" and int(first) == 0 and not (mended and spoiled):
                            spoiled.append(request)
                            body[0] ^= 1
                        more = {} if "range" not in request.headers else {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
                        return 206 if more else 200, {"ETag": '"e"', "x-amz-checksum-crc32c": crc,
                                                      "x-amz-checksum-type": "FULL_OBJECT", **more}, bytes(body)

                    with Fake(answer) as fake:
                        env = {**self.env, "AWS_ENDPOINT_URL_S3": fake.url}
                        self.assertEqual(self.convoy("cp", f"{self.uri}/k", "got", env=env), 0 if mended else 3, self.err)
                        if mended:
                            self.assertEqual(self.read("got"), data)
                        if len(data) > 5 or not mended:  # else it is asked for again without a word
                            self.assertIn("CRC-32C", self.err[0])
                        spoiled.clear()
                        said = self.convoy("cat", f"{self.uri}/k", env=env)
                        if mended and len(data) == 5:  # known before it was written
                            self.assertEqual((said, self.out), (0, data))
                        else:
                            self.assertEqual(said, 3, self.err)
                            self.assertIn("CRC-32C", self.err[0])
                            self.assertEqual(len(spoiled), tries)

    EXPECTED = 1 << 20  # bytes from which on a body is announced

    def test_13_small_bodies_are_not_announced(self):
        for size in (0, SMALL, self.EXPECTED, self.EXPECTED + 1):
            self.write(f"files/{size}", os.urandom(size))
        proxy = self.through()
        self.done("cp", "--recursive", "files", f"{self.uri}/")
        announced = {int(r.content_length): r.expect for r in proxy.requests("PUT")}
        self.assertEqual(announced, {0: "", SMALL: "", self.EXPECTED: "", self.EXPECTED + 1: "100-continue"})

    def test_16_an_upload_that_fails_leaves_no_parts(self):
        self.write("file", os.urandom(3 * SIZE_PART))
        proxy = self.through("PUT *partNumber=2* 403 AccessDenied", "DELETE * #1-2 503")
        self.refused(2, ["AccessDenied", "s3:PutObject", f"{self.uri}/big"], "cp", "file", f"{self.uri}/big")
        self.assertEqual(self.client.uploads(self.bucket), [])
        self.assertEqual(len(proxy.requests("DELETE", "uploadId=")), 3)
        self.assertIsNone(self.client.head(self.bucket, "big"))

    def test_16_an_upload_that_the_network_cut_off_stays_and_is_gone_on_with(self):
        self.write("file", os.urandom(3 * SIZE_PART))
        state = self.env["XDG_STATE_HOME"]
        self.assertEqual(os.path.dirname(state), server().dir)  # not that of whoever runs the tests
        proxy = self.through("PUT *partNumber=3* #1-2 503")
        self.refused(3, ["gave up after 2 tries", "kept for a day", f"{self.uri}/big"], "cp", "file", f"{self.uri}/big",
                     env={**self.env, "AWS_MAX_ATTEMPTS": "2"})
        self.assertEqual(self.client.uploads(self.bucket), [b"big"])
        self.assertEqual(len(os.listdir(os.path.join(state, "convoy", "uploads"))), 1)
        self.done("cp", "file", f"{self.uri}/big")
        self.assertEqual(self.client.get(self.bucket, "big"), self.read("file"))
        sent = [len(proxy.requests("PUT", f"partNumber={n}&")) for n in (1, 2, 3)]
        self.assertEqual(sent, [1, 1, 3])
        self.assertEqual(self.client.uploads(self.bucket), [])
        self.assertEqual(os.listdir(os.path.join(state, "convoy", "uploads")), [])

    def test_16_parts_of_an_upload_that_was_killed_are_used_or_aborted_by_the_next(self):
        self.write("file", os.urandom(4 * SIZE_PART))
        self.write("other", os.urandom(2 * SIZE_PART))
        for again, key in (("file", "big"), ("other", "else")):
            with self.subTest(again=again):
                proxy = self.through("PUT *partNumber=3* #1 pass delay=60000")
                env = {**self.env, "XDG_STATE_HOME": self.path(f"state-{key}")}
                process = self.start("cp", "file", f"{self.uri}/big", env=env)
                self.wait_until(lambda: sum(r.delay_s == 0 for r in proxy.requests("PUT")) >= 3)
                time.sleep(1)  # for their answers
                process.kill()
                process.wait()
                self.assertEqual(self.client.uploads(self.bucket), [b"big"])
                (begun,) = {urllib.parse.parse_qs(r.path)["uploadId"][0] for r in proxy.requests("PUT", "partNumber=")}
                if again != "file":
                    os.remove(self.path("file"))  # else somebody may yet want to go on with it
                self.done("cp", again, f"{self.uri}/{key}", env=env)
                self.assertEqual(self.client.get(self.bucket, key), self.read(again))
                self.assertEqual(self.client.uploads(self.bucket), [])
                parts = [r.path for r in proxy.requests("PUT", "partNumber=") if begun in urllib.parse.unquote(r.path)]
                sent = [sum(f"partNumber={n}&" in path for path in parts) for n in (1, 2, 3, 4)]
                self.assertEqual(sent, [1, 1, 2, 1] if again == "file" else [1, 1, 1, 1])
                aborts = proxy.requests("DELETE", "uploadId=")
                self.assertEqual(len(aborts), 0 if again == "file" else 1)
                self.client.delete(self.bucket, key)


class Who(Failures):
    """Rows 6 to 8: clocks and keys."""

    def test_06_a_clock_that_is_off_is_corrected_by_the_servers(self):
        data = self.put("here")
        for off in (3 * 3600, -5 * 86400):
            with self.subTest(off=off):
                env = {**self.env, "LD_PRELOAD": CLOCK_OFF, "CLOCK_OFF_S": str(off)}
                env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
                mark = server().log_mark()
                self.assertEqual(self.get("here", env), data)
                self.assertEqual([r.status for r in server().requests(mark)].count(403), 2)  # HEAD, and the GET that asks why

    def test_06_each_try_is_signed_anew(self):
        self.put("here")
        proxy = self.through("GET * #1-2 503 retry-after=2")
        self.get("here")
        dates = [calendar.timegm(time.strptime(r.x_amz_date, "%Y%m%dT%H%M%SZ")) for r in proxy.requests("GET")]
        self.assertEqual(len(dates), 3)
        self.assertTrue(dates[0] + 2 <= dates[1] <= dates[2] - 2, dates)

    def test_06_a_server_that_disagrees_with_its_own_clock_is_an_error_with_both(self):
        self.put("here")
        proxy = self.through("* * 403 RequestTimeTooSkewed date=-86400")
        self.refused(2, ["clock", time.strftime("%Y-%m-%d", time.gmtime()),
                         time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))], "cat", f"{self.uri}/here")
        self.assertLessEqual(len(proxy.requests()), 4)

    def keys(self, access_key_id="AKIAFIRST"):
        own = server().users["test"]
        return {"AccessKeyId": access_key_id if access_key_id else own.access_key, "SecretAccessKey": own.secret_key,
                "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6 * 3600))}

    def test_07_keys_that_are_refused_in_mid_run_are_fetched_once_for_all(self):
        for n in range(40):
            self.put(f"{n:02}", 2000)
        for refusal in ("400 ExpiredToken", "403 InvalidAccessKeyId"):
            with self.subTest(refusal=refusal):
                fetched = []

                def answer(request):
                    fetched.append(request.path)
                    first = len(fetched) == 1
                    return 200, {}, json.dumps(self.keys("AKIAFIRST" if first else None)).encode()

                with Fake(answer) as fake:
                    proxy = Faults(server(), f"* * {refusal} for-key=AKIAFIRST delay=100")
                    self.addCleanup(proxy.stop)
                    env = proxy.env(None, AWS_CONTAINER_CREDENTIALS_FULL_URI=fake.url + "/keys")
                    env.pop("AWS_ACCESS_KEY_ID", None)
                    self.done("cp", "--recursive", f"{self.uri}/", "all", env=env)
                self.assertEqual(len(self.files("all")), 40)
                self.assertEqual(len(fetched), 2)

    def test_07_keys_in_a_file_that_ended_are_read_again(self):
        self.put("here")

        def text(key_id):
            return (f"[default]\naws_access_key_id = {key_id}\n"
                    f"aws_secret_access_key = {server().users['test'].secret_key}\n").encode()

        self.write("keys", text("AKIAFIRST"))
        proxy = Faults(server(), "* * 400 ExpiredToken for-key=AKIAFIRST delay=1500")
        self.addCleanup(proxy.stop)
        process = self.start("cat", f"{self.uri}/here",
                             env=proxy.env(None, AWS_SHARED_CREDENTIALS_FILE=self.path("keys")))
        while not proxy.requests():
            time.sleep(0.01)
        self.write("keys", text(server().users["test"].access_key))
        out, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual((process.returncode, len(out)), (0, SMALL), err)

    def test_08_a_slow_and_throttled_metadata_service_is_asked_again(self):
        data = self.put("here")
        tokens = []

        def answer(request):
            count = sum(seen.path == request.path for seen in fake.seen)
            if request.path == "/latest/api/token":
                if count <= 2:
                    time.sleep(1.5 if count == 1 else 0)  # above AWS_METADATA_SERVICE_TIMEOUT
                    return 503, {}, b""
                tokens.append(b"token-%d" % count)
                return 200, {"x-aws-ec2-metadata-token-ttl-seconds": "21600"}, tokens[-1]
            if len(tokens) < 2 or request.headers.get("x-aws-ec2-metadata-token", "").encode() != tokens[-1]:
                return 401, {}, b""  # the first token is no good: a new one is asked for
            if request.path.endswith("/security-credentials/"):
                return 200, {}, b"role"
            return (429, {}, b"") if count == 1 else (200, {}, json.dumps({**self.keys(None), "Code": "Success"}).encode())

        with Fake(answer) as fake:
            proxy = self.through()
            env = proxy.env(None, AWS_EC2_METADATA_DISABLED=None, AWS_EC2_METADATA_SERVICE_ENDPOINT=fake.url,
                            AWS_METADATA_SERVICE_NUM_ATTEMPTS="4")
            self.assertEqual(self.get("here", env), data)
        steps = [(r.command, r.path.rsplit("/", 1)[1] or "list", r.headers.get("x-aws-ec2-metadata-token")) for r in fake.seen]
        self.assertEqual(steps, [("PUT", "token", None)] * 3 + [("GET", "list", "token-3"), ("PUT", "token", None)] +
                         [("GET", "list", "token-4"), ("GET", "role", "token-4"), ("GET", "role", "token-4")])

class Where(Failures):
    """Rows 9 and 10: where the bucket is."""

    def test_09_a_bucket_of_another_region_is_followed_and_remembered(self):
        for n in range(10):
            self.put(f"{n}", 2000)
        for answer in ("301 region=eu-north-1", "301 region=eu-north-1 bare", "307 region=eu-north-1",
                       "400 AuthorizationHeaderMalformed region=eu-north-1"):
            with self.subTest(answer=answer):
                proxy = self.through(f"* * {answer} for-region=us-east-1")
                self.done("ls", self.uri)
                self.assertEqual([r.region for r in proxy.requests()][0], "us-east-1")
                self.done("cp", "--recursive", f"{self.uri}/", "all")
                self.assertEqual(len(self.files("all")), 10)
                wrong = [r for r in proxy.requests() if r.region == "us-east-1"]
                self.assertLessEqual(len(wrong), 2)  # one for each of the two commands

    def test_09_a_location_is_followed_to_its_host(self):
        data = self.put("here")
        proxy = self.through(f"* * 307 location={server().http_url}/")
        mark = server().log_mark()
        self.assertEqual(self.get("here"), data)
        self.assertEqual({r.status // 100 for r in server().requests(mark)}, {2})
        self.assertLessEqual(len(proxy.requests()), 3)  # HEAD, the GET that asks why, GET: each is sent there

    def test_09_a_301_with_nothing_but_a_location_is_remembered(self):
        for n in range(10):
            self.put(f"{n}", 2000)
        proxy = self.through(f"* * 301 bare location={server().http_url}/")
        self.done("cp", "--recursive", f"{self.uri}/", "all")
        self.assertEqual(len(self.files("all")), 10)
        self.assertEqual(len(proxy.requests()), 1)  # the listing

    def test_09_one_redirect_after_the_other_ends_with_the_right_region(self):
        self.put("here")
        proxy = self.through("GET * #1 301 region=eu-north-1", "GET * #2 301 region=eu-west-1",
                             "GET * #3- 301 region=ap-south-1")
        self.refused(2, ["ap-south-1", "AWS_REGION"], "cat", f"{self.uri}/here")
        self.assertEqual([r.region for r in proxy.requests("GET")], ["us-east-1", "eu-north-1", "eu-west-1"])

    def test_10_connections_are_spread_over_the_addresses_of_a_name(self):
        addresses = [f"127.0.0.{n}" for n in (2, 3, 4, 5)]
        name = "spread.faults.test"  # the server takes a Host that it does not know for the name of a bucket
        self.write("hosts", "".join(f"{address} {name}\n" for address in addresses).encode())
        self.write("config", b"[default]\ns3 =\n  addressing_style = virtual\n")
        inside = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', self.path("hosts")]
        if subprocess.run([*inside, "true"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("names of our own need a mount namespace: run as root")
        self.client.make_bucket(name)
        for n in range(64):
            self.client.put(name, f"{n:02}", b"data")
        proxy = self.through("* * pass delay=100", listen="0.0.0.0:0")
        env = {**self.env, "AWS_ENDPOINT_URL_S3": f"http://faults.test:{proxy.port}", "AWS_CONFIG_FILE": self.path("config")}
        done = subprocess.run([*inside, CONVOY, "s3", "cp", "--recursive", "s3://spread/", "all"], cwd=self.folder, env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        self.assertEqual((done.returncode, len(self.files("all"))), (0, 64), done.stderr)
        used = {r.connection: r.address for r in proxy.requests()}
        print(f"{len(used)} connections to {sorted(set(used.values()))}")
        self.assertGreaterEqual(len(set(used.values())), 2)


class Reads(Failures):
    """Rows 12, 15, 17 and 18."""

    def test_12_an_object_replaced_while_its_ranges_are_read_is_an_error(self):
        self.put("big", 3 * SIZE_PART)
        self.put("small")
        for key, rule in (("big", "GET * #2- pass delay=5000"), ("small", "GET * pass delay=5000")):
            with self.subTest(key=key):
                proxy = self.through(rule)
                process = self.start("cp", f"{self.uri}/{key}", "got")
                self.wait_until(lambda: [r for r in proxy.requests("GET") if r.delay_s > 0])
                self.put(key, 3 * SIZE_PART if key == "big" else SMALL)
                err = process.communicate(timeout=LIMIT_S)[1].decode()
                self.assertEqual(process.returncode, 2, err)
                self.assertIn("was replaced while it was read", err)
                self.assertIn(f"{self.uri}/{key}", err)
                self.assertEqual(os.listdir(self.folder), [])

    def test_15_an_answer_that_stands_still_is_asked_for_on_another_connection(self):
        data = self.put("here")
        proxy = self.through("GET * #1 stall at=100000")
        begin = time.monotonic()
        self.assertEqual(self.get("here"), data)
        self.assertLess(time.monotonic() - begin, 60)
        gets = proxy.requests("GET")
        self.assertEqual(len({r.connection for r in gets}), len(gets))
        self.assertGreaterEqual(len(gets), 2)

    def test_15_a_range_that_stands_still_is_asked_for_twice(self):
        self.put("here", 8 << 20)
        proxy = self.through("GET */here #60 stall at=1000")
        begin = time.monotonic()
        done = subprocess.run([CONVOY, "bench", "s3", f"{self.uri}/here", "--range-bytes=65536", "--requests=4", "--repeats=1",
                               "--json"], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = json.loads(done.stdout)
        self.assertLess(time.monotonic() - begin, 15)  # nothing for 20 s would have been an error
        self.assertEqual(figures["retries"], 0)
        self.assertTrue(1 <= figures["hedged"] <= 8, figures)
        self.assertEqual(len(proxy.requests("GET", "/here")), 128 + figures["hedged"])

    KEYS = ["a b", "a+b", "a%20b", "a%2Fb", "//a//b", "../a", "a/./b/..", "ü-€-𝄞", "?x=y&z#", "~a-b_c.d", "*'()!$,;:@=",
            "k" * 1024]

    def test_17_each_byte_of_a_key_is_encoded_once(self):
        proxy = self.through()
        for number, key in enumerate(self.KEYS):
            with self.subTest(key=key):
                data = b"%d" % number
                self.done("cp", "-", f"{self.uri}/{key}", data=data)
                self.assertEqual(self.client.get(self.bucket, key), data)
                self.assertEqual(self.done("cat", f"{self.uri}/{key}"), data)
                want = f"/{self.bucket}/" + urllib.parse.quote(key, safe="-._~/")
                self.assertEqual(proxy.requests()[-1].path, want)
        self.assertEqual(sorted(super().keys()), sorted(key.encode() for key in self.KEYS))

    def test_18_what_is_not_allowed_or_not_there_is_asked_once_and_said_in_a_line(self):
        self.put("here")
        self.write("file", b"1")
        proxy = self.through()
        other = proxy.env("other")
        cases = ((other, ("cat", f"{self.uri}/here"), ["403", "s3:GetObject", "request"], 2),  # HEAD, and the GET that asks why
                 (other, ("cp", f"{self.uri}/here", "got"), ["403", "s3:GetObject", "request"], 2),
                 (other, ("cp", "file", f"{self.uri}/new"), ["AccessDenied", "s3:PutObject", "request"], 1),
                 (other, ("ls", self.uri), ["AccessDenied", "s3:ListBucket", self.bucket, "request"], 1),
                 (self.env, ("cat", "s3://nosuch-bucket/key"), ["NoSuchBucket", "nosuch-bucket"], 2),
                 (self.env, ("ls", "s3://nosuch-bucket"), ["NoSuchBucket", "nosuch-bucket", "request"], 1),
                 (self.env, ("cat", f"{self.uri}/nosuch"), [f"'{self.uri}/nosuch'", "no such key"], 2))
        for env, words, said, requests in cases:
            with self.subTest(words=words):
                before = len(proxy.requests())
                self.refused(2, said, *words, env=env)
                self.assertLessEqual(len(proxy.requests()) - before, requests)


class Tunnels:
    """An HTTP proxy that knows nothing but CONNECT."""

    def __init__(self):
        self.seen = []
        tunnels = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                line = self.rfile.readline().strip()
                while self.rfile.readline().strip():
                    pass
                tunnels.seen.append(line)
                host, port = line.split()[1].decode().rsplit(":", 1)
                with socket.create_connection((host, int(port))) as far:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    ends = {self.connection: far, far: self.connection}
                    while True:
                        for source in select.select(list(ends), [], [])[0]:
                            data = source.recv(65536)
                            if not data:
                                return
                            ends[source].sendall(data)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Certificates(Failures):
    """Rows 11 and 14, over TLS."""

    def setUp(self):
        super().setUp()
        self.tls = server(tls=True)
        self.tls.client().make_bucket(self.bucket)
        self.data = os.urandom(SMALL)
        self.tls.client().put(self.bucket, "here", self.data)

    def tunnel(self, *rules):
        proxy = Faults(self.tls, *rules, tunnel=True)
        self.addCleanup(proxy.stop)
        return proxy

    def test_11_over_https_a_part_goes_with_its_crc32c_in_the_place_of_its_sha256(self):
        self.write("file", os.urandom(2 * SIZE_PART))  # for a fake: the real server knows no CRC-32C

        def answer(request):
            if "uploads=" in request.path:
                return 200, {"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT"}, \
                    b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            if "partNumber=" in request.path:
                return 200, {"ETag": '"p"'}, b""
            return 200, {}, b"<CompleteMultipartUploadResult><ETag>c</ETag></CompleteMultipartUploadResult>"

        with Fake(answer, tls=self.tls) as fake:
            env = self.tls.env(AWS_ENDPOINT_URL_S3=fake.url, AWS_REQUEST_CHECKSUM_CALCULATION=None)
            self.done("cp", "file", f"{self.uri}/big", env=env)
        self.assertEqual([request.command for request in fake.seen], ["POST", "PUT", "PUT", "POST"])
        for request in fake.seen:
            part = request.command == "PUT"
            said = "UNSIGNED-PAYLOAD" if part else hashlib.sha256(request.body).hexdigest()
            self.assertEqual(request.headers["x-amz-content-sha256"], said)
            self.assertEqual("x-amz-checksum-crc32c" in request.headers, request is not fake.seen[0])

    def test_14_a_tls_connection_that_breaks_is_made_anew(self):
        for how in ("reset at=0", "reset at=1500", "reset at=150000", "cut at=1500", "cut at=150000", "flip at=3000",
                    "flip at=150000", "close"):
            with self.subTest(how=how):
                proxy = self.tunnel(f"CONNECTION - #1-2 {how}")
                self.assertEqual(self.done("cat", f"{self.uri}/here", env=proxy.env()), self.data)
                self.assertGreaterEqual(len(proxy.requests()), 3)

    def test_14_the_server_is_reached_through_a_proxy_that_sees_no_byte(self):
        with Tunnels() as tunnels:
            env = {name: value for name, value in self.tls.env(HTTPS_PROXY=tunnels.url).items() if name.lower() != "no_proxy"}
            self.assertEqual(self.done("cat", f"{self.uri}/here", env=env), self.data)
            self.assertEqual(set(tunnels.seen), {b"CONNECT " + self.tls.url.split("//")[1].encode() + b" HTTP/1.1"})
            for more in ({"AWS_CA_BUNDLE": None}, {"NO_PROXY": "*"}):
                seen = len(tunnels.seen)
                env.update(more)
                self.convoy("cat", f"{self.uri}/here", env={k: v for k, v in env.items() if v is not None})
                self.assertEqual(len(tunnels.seen) - seen, 0 if "NO_PROXY" in more else 1)

    def test_14_a_certificate_that_is_not_trusted_is_asked_once(self):
        proxy = self.tunnel()
        self.refused(2, ["certificate", "AWS_CA_BUNDLE", f"127.0.0.1:{proxy.port}"], "ls", self.uri,
                     env=proxy.env(AWS_CA_BUNDLE=None))
        self.assertEqual(len(proxy.requests()), 1)
        wrong = proxy.url.replace("127.0.0.1", "wrong.localhost")
        self.refused(2, ["certificate", "wrong.localhost"], "ls", self.uri, env=proxy.env(AWS_ENDPOINT_URL_S3=wrong))
        self.assertEqual(len(proxy.requests()), 2)


if __name__ == "__main__":
    s3.require()
    try:
        unittest.main(verbosity=2)
    finally:
        stop_servers()
