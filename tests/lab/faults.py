"""The fault proxy `s3faults` between a client and a server, for a test.

    with s3.Server() as server, Faults(server, "GET *.tar #1 503", seed=3, shares={"reset": 0.01}, delay_ms=100) as faults:
        subprocess.run([CONVOY, "s3", "ls", "s3://pictures"], env=faults.env())
        print(faults.requests("GET"))   # what came, and what became of it
        print(faults.report())          # counts

Rules are those of fault_plan.h. The program is looked for in CONVOY_BIN, else in build/ci/bin.
"""
import json
import os
import re
import signal
import subprocess
import tempfile
import types
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("CONVOY_BIN", os.path.join(HERE, "..", "..", "build", "ci", "bin"))
PROGRAM = os.path.join(os.path.abspath(BIN), "s3faults")


class Faults:
    """Starts at once; it ends with the `with`, with `stop`, and with this process, whose pipe it reads."""

    def __init__(self, server, *rules, seed=1, shares=None, delay_ms=0, delay_p99_ms=0, tunnel=False, listen="0"):
        self.server = server
        upstream = urllib.parse.urlsplit(server.url if tunnel else server.http_url)
        self._folder = tempfile.TemporaryDirectory(prefix="convoy-faults-")
        self._log = os.path.join(self._folder.name, "log")
        words = [PROGRAM, "--listen", listen, "--upstream", f"{upstream.hostname}:{upstream.port}", "--seed", str(seed),
                 "--delay-ms", str(delay_ms), "--delay-p99-ms", str(delay_p99_ms), "--log", self._log, "--until-eof"]
        for name, share in (shares or {}).items():
            words += [f"--{name}", str(share)]
        words += ["--rules", "\n".join(rules)] if rules else []
        words += ["--tunnel"] if tunnel else []
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self._process.stdout.readline()
        if not said.startswith("listening "):
            self.stop()
            raise RuntimeError(f"s3faults did not start: {words}")
        self.port = int(said.split()[1])
        self.url = f"{'https' if tunnel else 'http'}://127.0.0.1:{self.port}"

    def env(self, user="test", **more):
        """As the server's own env, by way of the proxy."""
        return self.server.env(user, **{"AWS_ENDPOINT_URL_S3": self.url, **more})

    def requests(self, method=None, pattern=""):
        """What came so far, in order: .method .path .range .fault .status .key_id .region .connection .address and the
        headers .x_amz_date .expect .if_match .content_length; those of the method whose path has the regular expression
        in it."""
        with open(self._log, encoding="utf-8") as log:
            lines = log.read().split("\n")[:-1]
        found = [types.SimpleNamespace(**{k.replace("-", "_"): v for k, v in json.loads(line).items()}) for line in lines]
        return [r for r in found if (method is None or r.method == method) and re.search(pattern, r.path)]

    def report(self):
        """Counts of what was done so far."""
        self._process.send_signal(signal.SIGUSR1)
        return json.loads(self._process.stdout.readline())

    def stop(self):
        if self._process is None:
            return
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._process = None
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
