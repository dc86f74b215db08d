"""A real S3 server for a test: started in a folder of its own on a free port, and stopped whatever becomes of the test.

    with s3.Server(tls=True) as server:
        client = server.client()
        client.make_bucket("pictures")
        client.put("pictures", "a/1.jpg", b"...")
        subprocess.run([CONVOY, "s3", "ls", "s3://pictures"], env=server.env())
        for request in server.requests():
            print(request.method, request.path, request.status)

The server is `s3server` beside this file (Ceph's RADOS gateway). Where Ceph is not installed, Server() prints a line
and exits with 77, which CTest takes for "skipped". As a program, it runs a command with such a server:

    s3.py [--tls] [--bucket NAME]... COMMAND [ARGUMENT]...
"""
import argparse
import atexit
import calendar
import datetime
import hashlib
import hmac
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import xml.etree.ElementTree
from collections import namedtuple

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "s3server")
SKIPPED = 77
TOOLS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "osdmaptool", "curl", "openssl")
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
START_S = 120  # a loaded machine is slow
REGION = "us-east-1"

Object = namedtuple("Object", "key bytes etag modified_s")  # key: bytes; etag: with its quotes
Request = namedtuple("Request", "user method path status bytes agent")  # path: with the query, as it was sent
Keys = namedtuple("Keys", "access_key secret_key token")


def require():
    """End the program with 77 and one line unless the server can run here."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"skipped: the S3 server of the tests needs {', '.join(missing)} (apt-get install ceph-mon ceph-osd "
              "radosgw ceph-common openssl curl)", flush=True)
        sys.exit(SKIPPED)


# Ceph 16 knows no CRC-32C, which newer AWS CLIs and SDKs send unasked.
CLI = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}


def environment(**more):
    """Our environment without what would lead an S3 client elsewhere; no keys are found with it."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(("AWS_", "S3SERVER_")) and not name.lower().endswith("_proxy")
           and name not in ("S3_ENDPOINT_URL", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CONVOY_SSE",
                            "CONVOY_SSE_KMS_KEY_ID")}
    env.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE="/nonexistent/config",
               AWS_SHARED_CREDENTIALS_FILE="/nonexistent/credentials")
    env.update(more)
    return {name: value for name, value in env.items() if value is not None}


class Error(Exception):
    """An answer that is none of 2xx: .status, .code."""

    def __init__(self, what, status, body):
        code = re.search(rb"<Code>([^<]*)</Code>", body)
        self.status, self.code = status, code[1].decode() if code else ""
        super().__init__(f"{what}: HTTP {status} {self.code}")


class Server:
    """Starts at once; `stop` or the end of a `with` ends it. So does the end of this process, by whatever signal."""

    def __init__(self, tls=False, store="mem", max_requests=None):
        require()
        self.dir = tempfile.mkdtemp(prefix="convoy-s3-")
        self._hold = self._stop_when_we_die()
        atexit.register(self.stop)
        words = [SCRIPT, "start", self.dir, "--store", store]
        words += ["--tls"] if tls else []
        words += ["--max-requests", str(max_requests)] if max_requests else []
        self.settings = {}
        try:
            done = subprocess.run(words, env=self._script_env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  check=True, timeout=START_S)
        except BaseException:
            self.stop()
            raise
        self.settings = _settings(done.stdout)
        self.url = self.settings["AWS_ENDPOINT_URL_S3"]
        self.http_url = self.settings["S3SERVER_HTTP_URL"]
        self.ca_bundle = self.settings.get("AWS_CA_BUNDLE")
        self.users = {
            "test": Keys(self.settings["AWS_ACCESS_KEY_ID"], self.settings["AWS_SECRET_ACCESS_KEY"], None),
            "other": Keys(self.settings["S3SERVER_ACCESS_KEY_ID_2"], self.settings["S3SERVER_SECRET_ACCESS_KEY_2"],
                          None)}

    def _stop_when_we_die(self):
        """A shell that waits for the end of a pipe, whose other end only we hold. It is no child of ours: one that
        ends our whole tree of processes, as CTest does at a time limit, does not find it."""
        read_end, write_end = os.pipe()
        wait = 'exec 3<&0; (read -r line <&3; "$0" stop "$1" --purge; rm -rf "$1") >/dev/null 2>&1 &'
        subprocess.run(["sh", "-c", wait, SCRIPT, self.dir], stdin=read_end, env=self._script_env(),
                       start_new_session=True, check=True)
        os.close(read_end)
        return write_end

    @staticmethod
    def _script_env():
        return {**os.environ, "S3SERVER_QUIET": "1"}

    def stop(self):
        if self._hold is None:
            return
        atexit.unregister(self.stop)
        subprocess.run([SCRIPT, "stop", self.dir, "--purge"], env=self._script_env(), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)
        os.close(self._hold)
        self._hold = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def env(self, user="test", **more):
        """The environment for a child process that shall talk to this server as `user` (None: without keys). What of checksums
        is the client's own default: newer AWS CLIs need CLI of this module."""
        env = {name: value for name, value in self.settings.items() if name not in
               ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", *CLI)}
        env["XDG_STATE_HOME"] = os.path.join(self.dir, "client")  # what a client notes of its uploads is nobody else's
        if user is not None:
            keys = self.users[user]
            env.update(AWS_ACCESS_KEY_ID=keys.access_key, AWS_SECRET_ACCESS_KEY=keys.secret_key)
        env.update(more)
        return environment(**env)

    def sts(self, seconds=3600):
        """Temporary keys with a session token as variables of the environment; they end after `seconds`."""
        done = subprocess.run([SCRIPT, "sts", self.dir, str(seconds)], env=self._script_env(),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=START_S)
        return _settings(done.stdout)

    @staticmethod
    def sts_is_broken():
        """Ubuntu 24.04's version knows no key of its own STS; Debian 12's is 16."""
        text = subprocess.run(["radosgw", "--version"], stdout=subprocess.PIPE, text=True).stdout
        return int(re.search(r"version (\d+)", text)[1]) >= 19

    def client(self, user="test"):
        return Client(self.url, self.users[user], self.ca_bundle)

    def log_mark(self):
        """A place in the log of requests, for `requests`."""
        self._flush_log()
        return os.path.getsize(self._log())

    def requests(self, since=0):
        """The requests that were answered since a mark, in the order of their ends; ours are left out."""
        self._flush_log()
        with open(self._log(), encoding="utf-8", errors="surrogateescape") as log:
            log.seek(since)
            found = [_request(line) for line in log if " beast: " in line]
        return [request for request in found if request is not None and not request.agent.startswith(Client.AGENT)]

    def _log(self):
        return os.path.join(self.dir, "log", "rgw.log")

    def _flush_log(self):
        """The server writes its log a little later than its answers: see a request of our own arrive there."""
        agent = f"{Client.AGENT}-{os.urandom(8).hex()}"
        url = urllib.parse.urlsplit(self.http_url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        connection.request("GET", "/", headers={"User-Agent": agent})
        connection.getresponse().read()
        connection.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with open(self._log(), "rb") as log:
                if agent.encode() in log.read():
                    return
            time.sleep(0.01)
        raise AssertionError("the server does not write its log")


def _settings(text):
    return dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)


_LINE = re.compile(r' beast: \S+: \S+ - (?P<user>.+?) \[[^]]*\] "(?P<method>\S+) (?P<path>.*?) HTTP/[0-9.]+" '
                   r'(?P<status>\d+) (?P<bytes>\d+) .*?"(?P<agent>[^"]*)"')


def _request(line):
    match = _LINE.search(line)
    if match is None:
        return None
    return Request(match["user"], match["method"], match["path"], int(match["status"]), int(match["bytes"]),
                   match["agent"])


class Client:
    """A small client of its own, so that a test does not believe what it tests. Keys are bytes, or text in UTF-8."""

    AGENT = "convoy-tests"

    def __init__(self, url, keys, ca_bundle=None):
        self.url, self.keys, self.ca_bundle = urllib.parse.urlsplit(url), keys, ca_bundle

    def request(self, method, path, query=(), body=b"", headers=None):
        """One signed request; path is percent-encoded. Returns (headers, body); Error for all but 2xx."""
        query = sorted((_encode(name), _encode(value)) for name, value in dict(query).items())
        query = "&".join(f"{name}={value}" for name, value in query)
        headers = {"host": self.url.netloc, **{n.lower(): v for n, v in (headers or {}).items()}}
        self._sign(method, path, query, headers, body)
        connection = self._connect()
        try:
            connection.putrequest(method, path + ("?" + query if query else ""), skip_host=True,
                                  skip_accept_encoding=True)
            for name, value in {**headers, "user-agent": self.AGENT, "content-length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise Error(f"{method} {path}", answer.status, content)
        return answer.headers, content

    def _connect(self):
        if self.url.scheme == "https":
            return http.client.HTTPSConnection(self.url.hostname, self.url.port, timeout=60,
                                               context=ssl.create_default_context(cafile=self.ca_bundle))
        return http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)

    def _sign(self, method, path, query, headers, body):
        """AWS Signature Version 4, by header."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers["x-amz-date"] = now
        headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
        if self.keys.token:
            headers["x-amz-security-token"] = self.keys.token
        names = ";".join(sorted(headers))
        canonical = "\n".join([method, path, query, *(f"{n}:{headers[n].strip()}" for n in sorted(headers)), "", names,
                               headers["x-amz-content-sha256"]])
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.keys.secret_key).encode()
        for part in (*scope.split("/"), to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.keys.access_key}/{scope}, "
                                    f"SignedHeaders={names}, Signature={key.hex()}")

    def make_bucket(self, bucket):
        self.request("PUT", f"/{bucket}")

    def put(self, bucket, key, data, **headers):
        """Returns the ETag."""
        return self.request("PUT", _path(bucket, key), body=data, headers=headers)[0]["ETag"]

    def get(self, bucket, key):
        return self.request("GET", _path(bucket, key))[1]

    def head(self, bucket, key):
        """The answer's headers; None where there is no such key."""
        try:
            return self.request("HEAD", _path(bucket, key))[0]
        except Error as error:
            if error.status != 404:
                raise
            return None

    def delete(self, bucket, key):
        self.request("DELETE", _path(bucket, key))

    def list(self, bucket, prefix=""):
        """Every object whose key begins with prefix, in the server's order."""
        query, found = {"list-type": "2", "encoding-type": "url", "prefix": prefix}, []
        while True:
            page = xml.etree.ElementTree.fromstring(self.request("GET", f"/{bucket}", query)[1])
            for item in page.iter(NAMESPACE + "Contents"):
                key, size, etag, modified = (item.findtext(NAMESPACE + name)
                                             for name in ("Key", "Size", "ETag", "LastModified"))
                found.append(Object(urllib.parse.unquote_to_bytes(key.replace("+", " ")), int(size), etag,
                                    calendar.timegm(time.strptime(modified[:19], "%Y-%m-%dT%H:%M:%S"))))
            more = page.findtext(NAMESPACE + "NextContinuationToken")
            if not more:
                return found
            query["continuation-token"] = more

    def uploads(self, bucket):
        """Keys of the multipart uploads that were begun and neither completed nor aborted."""
        page = xml.etree.ElementTree.fromstring(
            self.request("GET", f"/{bucket}", {"uploads": "", "encoding-type": "url"})[1])
        return [urllib.parse.unquote_to_bytes(item.findtext(NAMESPACE + "Key").replace("+", " "))
                for item in page.iter(NAMESPACE + "Upload")]


def _encode(text):
    return urllib.parse.quote(text, safe="-._~")


def _path(bucket, key):
    """Every byte encoded once, nothing normalised."""
    return f"/{bucket}/" + urllib.parse.quote(key if isinstance(key, bytes) else key.encode(), safe="-._~/")


def main():
    parser = argparse.ArgumentParser(description="run a command with an S3 server of its own")
    parser.add_argument("--tls", action="store_true", help="https, with AWS_CA_BUNDLE set")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket first")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("give a command")
    with Server(tls=options.tls) as server:
        for bucket in options.bucket:
            server.client().make_bucket(bucket)
        status = subprocess.run(command, env=server.env()).returncode
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
