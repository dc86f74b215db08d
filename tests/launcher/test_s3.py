#!/usr/bin/env python3
"""`convoy s3` against a real S3 server: what each verb does, and awkward keys beside the aws CLI."""
import hashlib
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import subprocess
import unicodedata
import unittest

from s3_case import LIMIT_S, SIZE_PART, Case, Fake, Gate, s3, server, stop_servers


def pattern(count, seed=1):
    return random.Random(seed).randbytes(count)


def read_back(text):
    """A key as `ls` shows it, to the key's bytes."""
    escapes = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t"}
    return re.sub(rb"\\(?:x[0-9a-f]{2}|.)", lambda m: escapes.get(m[0]) or bytes([int(m[0][2:], 16)]), text)


class Ls(Case):
    def setUp(self):
        super().setUp()
        for key, count in (("a.txt", 3), ("dir/b", 2048), ("dir/sub/c", 5), ("dirt", 0), ("z\n\\", 1)):
            self.client.put(self.bucket, key, b"x" * count)

    def lines(self, *words):
        return [line.split(maxsplit=2) for line in self.done("ls", *words).split(b"\n")[:-1]]

    def test_a_level_shows_keys_and_folders_in_order(self):
        lines = self.lines(self.uri)
        self.assertEqual([line[2] for line in lines], [b"a.txt", b"dir/", b"dirt", b"z\\n\\\\"])
        self.assertEqual([line[1] for line in lines], [b"3", b"-", b"0", b"1"])
        self.assertEqual(lines[1][0], b"-")
        self.assertRegex(lines[0][0], rb"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual([line[2] for line in self.lines(self.uri + "/dir/")], [b"dir/b", b"dir/sub/"])
        self.assertEqual([line[2] for line in self.lines(self.uri + "/dir")], [b"dir/", b"dirt"])

    def test_recursive_shows_every_key_that_begins_so(self):
        self.assertEqual([line[2] for line in self.lines(self.uri + "/dir", "--recursive")],
                         [b"dir/b", b"dir/sub/c", b"dirt"])

    def test_sizes_are_short_or_exact(self):
        self.assertEqual(self.lines(self.uri + "/dir/b")[0][1], b"2.0KiB")
        self.assertEqual(self.lines("--bytes", self.uri + "/dir/b")[0][1], b"2048")

    def test_json_has_an_object_per_line(self):
        objects = [json.loads(line) for line in self.done("ls", "--json", self.uri).split(b"\n")[:-1]]
        real = {o.key.decode(): o for o in self.client.list(self.bucket)}
        self.assertEqual(objects[1], {"prefix": "dir/"})
        self.assertEqual(objects[3]["key"], "z\n\\")
        self.assertEqual(objects[0].keys(), {"key", "bytes", "etag", "modified"})
        self.assertEqual(objects[0]["etag"], real["a.txt"].etag.strip('"'))
        self.assertEqual(objects[0]["bytes"], 3)

    def test_more_than_a_page_of_keys_comes_whole(self):
        # The last key of a page comes back as where to go on (as no XML, were there "\x01" in it: this server's fault).
        names = [f"many/{i:04} +%41&<\u00e4>\n" for i in range(1001)]
        for name in names:
            os.makedirs(self.path("many"), exist_ok=True)
            self.write(name, b"")
        self.done("cp", "--recursive", "many", self.uri + "/many")
        self.assertEqual([read_back(line[2]).decode() for line in self.lines(self.uri + "/many/")], names)
        self.done("rm", "--recursive", self.uri + "/many")
        self.assertEqual(len(self.keys()), 5)

    def test_what_is_not_there_is_2_but_an_empty_bucket_is_not(self):
        self.refused(2, [self.uri + "/nothing"], "ls", self.uri + "/nothing")
        for key in self.keys():
            self.client.delete(self.bucket, key)
        self.assertEqual(self.done("ls", self.uri), b"")

    def test_a_reader_that_has_enough_ends_it_quietly(self):
        for verb, target in (("ls", self.uri), ("cat", self.uri + "/dir/b")):
            read_end, write_end = os.pipe()
            os.close(read_end)
            process = self.start(verb, target, stdout=write_end)
            os.close(write_end)
            self.assertEqual(process.communicate(timeout=60)[1], b"")
            self.assertEqual(process.returncode, -signal.SIGPIPE)


class Cp(Case):
    def test_a_file_goes_up_and_comes_down(self):
        for count in (0, 1, 100000):
            data = pattern(count)
            self.write("file", data)
            self.done("cp", "file", self.uri + "/key")
            self.assertEqual(self.client.get(self.bucket, "key"), data)
            self.assertIn("copied 1 object", self.err[0])
            self.done("cp", self.uri + "/key", "back")
            self.assertEqual(self.read("back"), data)

    def test_a_large_one_goes_in_parts_both_ways(self):
        data = pattern(5 * SIZE_PART + 12345)
        self.write("large", data)
        mark = server().log_mark()
        self.done("cp", "large", self.uri + "/large")
        parts = [r for r in server().requests(mark) if r.method == "PUT" and "partNumber" in r.path]
        self.assertEqual(len(parts), 6)
        self.assertEqual(self.client.uploads(self.bucket), [])
        self.assertEqual(hashlib.sha256(self.client.get(self.bucket, "large")).digest(), hashlib.sha256(data).digest())
        mark = server().log_mark()
        self.done("cp", self.uri + "/large", "back")
        self.assertEqual(self.read("back"), data)
        self.assertEqual([r.status for r in server().requests(mark) if r.method == "GET"], [206] * 6)
        self.assertEqual(self.done("cat", self.uri + "/large"), data)
        self.done("cp", self.uri + "/large", self.uri + "/copy")
        self.assertEqual(self.client.get(self.bucket, "copy"), data)

    def test_a_folder_as_the_target_keeps_the_name(self):
        self.write("in/file", b"1")
        os.mkdir(self.path("out"))
        self.done("cp", "in/file", self.uri)
        self.done("cp", "in/file", self.uri + "/x/")
        self.assertEqual(self.keys(), [b"file", b"x/file"])
        self.done("cp", self.uri + "/x/file", "out")
        self.done("cp", self.uri + "/x/file", "new/folder/")
        self.done("cp", self.uri + "/x/file", "newer/name")
        self.assertEqual(self.files("."), {name: b"1" for name in (b"in/file", b"out/file", b"new/folder/file",
                                                                    b"newer/name")})
        self.done("cp", self.uri + "/x/file", self.uri + "/y/")
        self.assertEqual(self.keys(), [b"file", b"x/file", b"y/file"])

    def test_a_folder_goes_up_comes_down_and_goes_across(self):
        tree = {f"d{i % 3}/e{i % 2}/f{i}": pattern(i * 1000, i) for i in range(30)}
        tree.update({".hidden": b"h", "empty": b"", "d0/large": pattern(2 * SIZE_PART + 1)})
        for name, data in tree.items():
            self.write("tree/" + name, data)
        os.symlink("empty", self.path("tree", "link"))
        tree["link"] = b""
        want = {name.encode(): data for name, data in tree.items()}
        self.done("cp", "--recursive", "tree", self.uri + "/up")
        self.assertIn(f"copied {len(tree)} objects", self.err[-1])
        self.assertEqual({o.key[3:]: self.client.get(self.bucket, o.key) for o in self.client.list(self.bucket)}, want)
        self.done("cp", "--recursive", self.uri + "/up", self.uri + "/across/")
        self.done("cp", self.uri + "/across", "down/there", "--recursive", "--quiet")
        self.assertEqual(self.err, [])
        self.assertEqual(self.files("down/there"), want)

    def test_only_what_is_below_the_folder_is_taken(self):
        for key in ("a/1", "ab", "a", "a/"):
            self.client.put(self.bucket, key, b"" if key == "a/" else b"x")
        self.done("cp", "--recursive", self.uri + "/a", "down")
        self.assertEqual(self.files("down"), {b"1": b"x"})

    def test_stdin_and_stdout(self):
        for data in (b"", b"abc", pattern(2 * SIZE_PART + 7)):
            self.done("cp", "-", self.uri + "/key", data=data)
            self.assertEqual(self.client.get(self.bucket, "key"), data)
            self.assertEqual(self.done("cp", self.uri + "/key", "-"), data)
        self.refused(2, ["s3://BUCKET/KEY"], "cp", "-", self.uri, data=b"x")
        self.refused(2, ["neither"], "cp", "-", "-", data=b"x")

    def test_devices_and_pipes_are_written_to_and_links_followed(self):
        self.client.put(self.bucket, "key", b"data")
        os.mkfifo(self.path("pipe"))
        process = self.start("cp", self.uri + "/key", "pipe")
        self.assertEqual(self.read("pipe"), b"data")
        self.assertEqual(process.wait(60), 0)
        os.symlink("/dev/null", self.path("null"))
        self.done("cp", self.uri + "/key", "null")
        self.assertTrue(os.path.islink(self.path("null")))
        os.symlink("real", self.path("link"))
        self.write("real", b"before")
        self.done("cp", self.uri + "/key", "link")
        self.assertEqual((self.read("real"), os.path.islink(self.path("link"))), (b"data", True))
        with open(self.path("real"), "rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat:
            self.start("cp", "/dev/stdin", self.uri + "/piped", stdin=cat.stdout).wait(60)
        self.assertEqual(self.client.get(self.bucket, "piped"), b"data")

    def test_keys_that_would_leave_the_folder_are_refused_before_anything_is_written(self):
        for key in ("p/../out", "p/..", "p/a//b", "p//etc/x", "p/./x", "p/a/../../../x"):
            self.client.put(self.bucket, "p/a-first", b"fine")
            self.client.put(self.bucket, key, b"bad")
            self.refused(2, [f"'{key}'", "inside"], "cp", "--recursive", self.uri + "/p", "down")
            self.assertEqual(os.listdir(self.folder), [])
            self.client.delete(self.bucket, key)
        self.client.put(self.bucket, "p/folder/", b"content")
        self.refused(2, ["p/folder/"], "cp", "--recursive", self.uri + "/p", "down")
        self.client.put(self.bucket, "..", b"1")
        os.mkdir(self.path("down"))
        self.refused(2, ["'..'"], "cp", self.uri + "/..", "down")
        self.done("cp", self.uri + "/..", "by-itself")
        self.assertEqual(self.files("."), {b"by-itself": b"1"})

    def test_files_whose_names_can_be_no_keys_are_refused(self):
        self.write("in/fine", b"")
        with open(os.fsencode(self.path("in")) + b"/z\xff", "wb"):
            pass
        self.refused(2, ["z\\xff", "UTF-8"], "cp", "--recursive", "in", self.uri)
        self.assertEqual(self.keys(), [])
        self.refused(2, ["1024"], "cp", "in/fine", self.uri + "/" + "k" * 1025)

    def test_local_mistakes_are_named(self):
        os.mkdir(self.path("empty"))
        self.write("file", b"")
        self.client.put(self.bucket, "key", b"1")
        self.refused(2, ["'nosuch'", "No such file"], "cp", "nosuch", self.uri)
        self.refused(2, ["'nosuch'"], "cp", "--recursive", "nosuch", self.uri)
        self.refused(2, ["'empty'", "--recursive"], "cp", "empty", self.uri + "/x")
        self.refused(2, ["'empty'", "no files"], "cp", "--recursive", "empty", self.uri)
        self.refused(2, [self.uri, "--recursive"], "cp", self.uri, "down")
        self.refused(2, [self.uri + "/none"], "cp", "--recursive", self.uri + "/none", "down")
        self.refused(1, ["cannot make the folder 'file'"], "cp", self.uri + "/key", "file/x")
        self.refused(1, ["TMPDIR", "/nonexistent"], "cp", "-", self.uri + "/x", data=b"",
                     env={**self.env, "TMPDIR": "/nonexistent"})

    def test_a_disk_that_is_full_is_said_with_the_files_name_and_leaves_nothing(self):
        def small_files_only():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        self.client.put(self.bucket, "key", b"x" * 5000)
        self.write("back", b"before")
        self.refused(1, ["'back'", self.uri + "/key", "File too large"], "cp", self.uri + "/key", "back",
                     preexec_fn=small_files_only)
        self.assertEqual(self.files("."), {b"back": b"before"})
        self.refused(1, [self.folder, "TMPDIR", "File too large"], "cp", self.uri + "/key", self.uri + "/copy",
                     env={**self.env, "TMPDIR": self.folder}, preexec_fn=small_files_only)
        self.refused(1, ["/dev/full", "No space left"], "cp", self.uri + "/key", "/dev/full")

    def test_encryption_headers_go_with_every_write(self):
        self.write("file", b"data")
        with Fake(lambda _: (200, {"ETag": '"e"'}, b"")) as fake:
            for words, want in ((["--sse", "AES256"], ("AES256", None)), (["--sse=aws:kms"], ("aws:kms", None)),
                                (["--sse-kms-key-id", "key-7"], ("aws:kms", "key-7"))):
                self.done("cp", "file", self.uri + "/key", "--endpoint-url", fake.url, *words)
                name = "x-amz-server-side-encryption"
                sent = fake.seen[-1].headers
                self.assertEqual((sent[name], sent[name + "-aws-kms-key-id"]), want)

    def test_profile_region_and_endpoint_are_taken(self):
        self.write("config", b"[profile p]\nregion = eu-west-7\n")
        self.write("credentials", b"[p]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n")
        env = {**self.env, "AWS_CONFIG_FILE": self.path("config"),
               "AWS_SHARED_CREDENTIALS_FILE": self.path("credentials")}
        del env["AWS_REGION"], env["AWS_DEFAULT_REGION"]
        with Fake(lambda _: (200, {"ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 06:00:00 GMT"}, b"")) as fake:
            self.done("cat", "--profile", "p", "--endpoint-url", fake.url, self.uri + "/key", env=env)
            self.assertIn("AKIDPROFILE/", fake.seen[-1].headers["Authorization"])
            self.assertIn("/eu-west-7/s3/", fake.seen[-1].headers["Authorization"])
            self.done("cat", "--region=mars-1", "--endpoint-url", fake.url, self.uri + "/key")
            self.assertIn("/mars-1/s3/", fake.seen[-1].headers["Authorization"])


class Interrupts(Case):
    def test_an_interrupted_upload_leaves_nothing(self):
        self.write("large", b"x" * (4 * SIZE_PART))
        with Gate(server().http_url, up=1 << 20) as gate:
            process = self.start("cp", "large", self.uri + "/large", "--endpoint-url", gate.url)
            self.assertTrue(gate.held.wait(60))
            self.assertEqual(self.client.uploads(self.bucket), [b"large"])
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(30), -signal.SIGINT)
        self.assertEqual((self.client.uploads(self.bucket), self.keys()), ([], []))

    def test_a_killed_upload_goes_on_part_by_part_when_the_same_is_copied_again(self):
        data = pattern(9 * SIZE_PART + 5)
        self.write("large", data)
        env = server().env(XDG_STATE_HOME=None, HOME=self.folder)
        with Gate(server().http_url, up=SIZE_PART * 5 // 4) as gate:  # a part each, and not a second one
            words = ("cp", "large", self.uri + "/large", "--endpoint-url", gate.url)
            process = self.start(*words, env=env)
            self.assertTrue(gate.held.wait(60))
            process.kill()
            process.wait(30)
            self.assertEqual(self.client.uploads(self.bucket), [b"large"])
            gate.open()
            mark = server().log_mark()
            process = self.start(*words, env=env)
            self.assertEqual(process.wait(LIMIT_S), 0)
            sent = {r.path for r in server().requests(mark) if r.method == "PUT" and r.status == 200}
        self.assertLess(len(sent), 10)  # the part before the one that was held is not among them
        self.assertEqual((self.client.uploads(self.bucket), self.client.get(self.bucket, "large")), ([], data))
        self.assertEqual(os.listdir(self.path(".local/state/convoy/uploads")), [])

    def test_an_interrupted_download_leaves_nothing(self):
        self.client.put(self.bucket, "large", b"x" * (3 * SIZE_PART))
        for number in (signal.SIGINT, signal.SIGTERM):
            with Gate(server().http_url, down=1 << 20) as gate:
                process = self.start("cp", self.uri + "/large", "down/large", "--endpoint-url", gate.url)
                self.assertTrue(gate.held.wait(60))
                self.assertEqual(len(os.listdir(self.path("down"))), 1)
                process.send_signal(number)
                self.assertEqual(process.wait(30), -number)
            self.assertEqual(os.listdir(self.path("down")), [])

    def test_an_interrupted_wait_for_stdin_ends_at_once(self):
        read_end, write_end = os.pipe()
        process = self.start("cp", "-", self.uri + "/key", stdin=read_end, env={**self.env, "TMPDIR": self.folder})
        os.close(read_end)
        os.write(write_end, b"some")
        while process.poll() is None and not self.sleeps_in_read(process):
            pass
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(30), -signal.SIGINT)
        os.close(write_end)
        self.assertEqual((self.keys(), os.listdir(self.folder)), ([], []))

    @staticmethod
    def sleeps_in_read(process):
        with open(f"/proc/{process.pid}/wchan") as wchan:
            return "pipe_read" in wchan.read()


class CatAndRm(Case):
    def test_cat_writes_several_objects_in_order(self):
        self.client.put(self.bucket, "a", b"first\0")
        self.client.put(self.bucket, "b", b"")
        self.client.put(self.bucket, "c", pattern(100))
        self.assertEqual(self.done("cat", *(f"{self.uri}/{key}" for key in "abca")),
                         b"first\0" + pattern(100) + b"first\0")
        self.assertEqual(self.err, [])

    def test_rm_deletes_one_key_or_a_folder(self):
        for key in ("a/1", "a/2/3", "a", "ab", "a//x", "z"):
            self.client.put(self.bucket, key, b"")
        self.done("rm", self.uri + "/z")
        self.refused(2, ["--recursive"], "rm", self.uri)
        self.refused(2, ["no such key"], "rm", self.uri + "/z")
        self.done("rm", self.uri + "/a", "--recursive")
        self.assertEqual(self.keys(), [b"a", b"ab"])
        self.refused(2, [self.uri + "/a"], "rm", self.uri + "/a", "--recursive")
        self.done("rm", self.uri, "--recursive")
        self.assertIn("deleted 2 objects", self.err[-1])
        self.assertEqual(self.keys(), [])

    def test_a_bar_is_drawn_on_a_terminal_only(self):
        self.write("file", b"x" * 1000000)
        self.done("cp", "file", self.uri + "/key")
        self.assertNotIn("%", self.err[0])
        for quiet in (False, True):
            master, slave = pty.openpty()
            process = self.start("cp", self.uri + "/key", "back", *(["--quiet"] if quiet else []), stderr=slave)
            os.close(slave)
            shown = b""
            try:
                while data := os.read(master, 4096):
                    shown += data
            except OSError:  # the other side of a terminal is closed
                pass
            os.close(master)
            self.assertEqual(process.wait(60), 0)
            self.assertEqual(re.search(rb"[0-9] %  \S+ of 976.6KiB  [0-9.]+ MB/s", shown) is not None, not quiet, shown)


def awkward_keys():
    """200 keys that somebody's client has once got wrong."""
    keys = [f"char/a{chr(c)}b" for c in (*range(0x20, 0x2f), *range(0x3a, 0x41), *range(0x5b, 0x61), *range(0x7b, 0x7f))]
    keys += [f"control/a{chr(c)}b" for c in (*range(0x01, 0x20), 0x7f, 0x85, 0xa0, 0xad)]
    keys += [f"end/{c}" for c in (" ", "  ", "a ", " a", "a.", ".a", "...", "~", "-", "-rf", "--help", "*", "?", "+", "%")]
    keys += [f"percent/{c}" for c in ("%41", "%2F", "%2f", "%25", "%2B", "%00", "%zz", "100%", "a%20b", "a+b", "%C3%A4")]
    keys += [f"query/{c}" for c in ("?uploads", "?versionId=x", "a?b=c&d=e", "#frag", "a;b", "=", "&", "a&amp;b", "??")]
    keys += [f"xml/{c}" for c in ("<a>", "</Key>", "&lt;", "]]>", "<!--", '"', "'", "<?xml?>")]
    keys += [f"shell/{c}" for c in ("$HOME", "`id`", "$(id)", "\\", "\\n", "a\\b", "{a,b}", "[a]", "a\nb\nc", "\n", "!!")]
    keys += [f"unicode/{c}" for c in (
        unicodedata.normalize("NFC", "ä"), unicodedata.normalize("NFD", "ä"), "日本語", "🐕", "🏳️‍🌈", "עברית", "\u200b", "\ufeff",
        "\u2028", "\u2029", "\u202e", "\ufffd", "\U0010ffff", "\ue000", "ß", "ẞ", "İ", "ﬁ", "é" * 100)]
    keys += [f"length/{'n' * n}" for n in (100, 200, 224, 225, 226, 240, 255)]
    keys += [f"length/{'/'.join(['m' * 100] * 10)}", "length/" + "ü" * 127]
    keys += [f"deep/{'/'.join(str(n) for _ in range(n))}" for n in (10, 100, 200)]
    keys += ["case/A", "case/a", "order/a", "order/a-b", "order/a/b", "order/a0", "order/a.b", "order/B", "order/é"]
    # These no folder can hold.
    keys += ["/", "//", "/lead", "//lead", "slash/a//b", "slash/a///b", "slash/", "slash/a/", "slash//", ".", "..", "./x",
             "../x", "dot/.", "dot/..", "dot/./x", "dot/../x", "dot/a/..", "dot/a/../b", "length/" + "n" * 256, "k" * 1024,
             "ä" * 512, "length/" + "日" * 339]
    keys = [k for k in keys if k != "order/a"]  # a file and a folder cannot have one name
    return keys + [f"plain/{i}" for i in range(200 - len(keys))]


def can_be_file(key):
    parts = key.split("/")
    return all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in parts)


@unittest.skipUnless(shutil.which("aws"), "the aws CLI is not installed (apt-get install awscli)")
class BesideAws(Case):
    def aws(self, *words):
        # Debian 12's does not know AWS_ENDPOINT_URL_S3, and takes file names for what the locale says.
        done = subprocess.run(["aws", "--endpoint-url", self.env["AWS_ENDPOINT_URL_S3"], *words], cwd=self.folder,
                              env={**self.env, **s3.CLI, "LC_ALL": "C.UTF-8"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=200)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout

    def aws_listing(self, bucket):
        page = json.loads(self.aws("s3api", "list-objects-v2", "--bucket", bucket, "--output", "json"))
        return [(o["Key"], o["Size"], o["ETag"].strip('"')) for o in page["Contents"]]

    def our_listing(self, bucket):
        lines = self.done("ls", "--recursive", "--json", f"s3://{bucket}").split(b"\n")[:-1]
        objects = [json.loads(line) for line in lines]
        shown = [line.split(maxsplit=1)[1].split(b" ", 1)[1] for line in
                 self.done("ls", "--recursive", "--bytes", f"s3://{bucket}").split(b"\n")[:-1]]
        self.assertEqual([read_back(text).decode() for text in shown], [o["key"] for o in objects])
        return [(o["key"], o["bytes"], o["etag"]) for o in objects]

    def test_200_awkward_keys_have_the_same_listing_and_bytes(self):
        keys = awkward_keys()
        self.assertEqual((len(keys), len(set(keys))), (200, 200))
        data = {key: f"{i} {key}".encode() * (1 + i % 7) for i, key in enumerate(keys)}
        as_files = {os.fsencode(key): data[key] for key in keys if can_be_file(key)}
        self.assertGreater(len(as_files), 170)
        other = self.bucket + "-aws"
        self.client.make_bucket(other)
        for name, content in as_files.items():
            self.write(os.fsdecode(b"files/" + name), content)

        self.done("cp", "--recursive", "files", self.uri)
        self.aws("s3", "cp", "--recursive", "--only-show-errors", "files", f"s3://{other}")
        self.assertEqual(self.our_listing(self.bucket), self.our_listing(other))
        self.done("cp", "--recursive", f"s3://{other}", "down-ours")
        # Its temporary names are 9 bytes longer than the file's, which some of these do not allow.
        self.aws("s3", "cp", "--recursive", "--only-show-errors", "--exclude", "length/*", self.uri, "down-aws")
        self.assertEqual(self.files("down-ours"), as_files)
        self.assertEqual(self.files("down-aws"),
                         {name: content for name, content in as_files.items() if not name.startswith(b"length/")})

        rest = [key for key in keys if not can_be_file(key)]
        for key in rest:
            self.write("one", data[key])
            if key == "slash/a//b":
                self.aws("s3api", "put-object", "--bucket", self.bucket, "--key", key, "--body", "one")
            else:
                self.done("cp", "one", self.uri + "/" + key) if not key.endswith("/") else \
                    self.done("cp", "-", self.uri + "/" + key, data=data[key])
        self.assertEqual(self.our_listing(self.bucket), self.aws_listing(self.bucket))
        self.assertEqual([key for key, _, _ in self.our_listing(self.bucket)], sorted(keys, key=str.encode))
        for key in rest:
            self.assertEqual(self.done("cat", self.uri + "/" + key), data[key])
            if key == "dot/a/../b":
                self.aws("s3api", "get-object", "--bucket", self.bucket, "--key", key, "back")
                self.assertEqual(self.read("back"), data[key])
        self.done("cat", *(f"{self.uri}/{key}" for key in keys))
        self.assertEqual(self.out, b"".join(data[key] for key in keys))
        across = self.bucket + "-across"
        self.client.make_bucket(across)
        self.done("cp", self.uri, f"s3://{across}", "--recursive")
        self.assertEqual(self.our_listing(across), self.our_listing(self.bucket))
        self.done("rm", self.uri, "--recursive")
        self.assertEqual(self.keys(), [])


if __name__ == "__main__":
    s3.require()
    try:
        unittest.main(verbosity=2)
    finally:
        stop_servers()
