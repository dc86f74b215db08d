"""What the tests of `convoy s3` share: a server for all cases, the program, and endpoints that answer as told."""
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import types
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lab"))
import s3  # noqa: E402

CONVOY = os.path.join(os.path.abspath(os.environ["CONVOY_BIN"]), "convoy")
LIMIT_S = 100  # what has not ended by then hangs; nothing here measures time
SIZE_PART = 8 << 20  # S3_TRANSFER_PART_BYTES

servers = {}


def server(tls=False):
    """One of each kind for all cases: they start when first asked for."""
    if tls not in servers:
        servers[tls] = s3.Server(tls=tls)
    return servers[tls]


def stop_servers():
    while servers:
        servers.popitem()[1].stop()


class Case(unittest.TestCase):
    """Each case has an empty folder and an empty bucket."""

    count = 0

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="convoy-s3-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        Case.count += 1
        self.bucket = f"bucket-{Case.count}"
        self.client = server().client()
        self.client.make_bucket(self.bucket)
        self.uri = f"s3://{self.bucket}"
        self.env = server().env()

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read()

    def files(self, folder):
        """Every file below: its name to its bytes."""
        top = os.fsencode(self.path(folder))
        found = {}
        for at, _, names in os.walk(top):
            for name in names:
                with open(os.path.join(at, name), "rb") as file:
                    found[os.path.relpath(os.path.join(at, name), top)] = file.read()
        return found

    def keys(self):
        return [o.key for o in self.client.list(self.bucket)]

    def start(self, *words, env=None, **more):
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen([CONVOY, "s3", *words], cwd=self.folder, env=env or self.env, **more)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def convoy(self, *words, env=None, data=None, **more):
        """Run it to its end; its status. self.out is bytes, self.err lines."""
        done = subprocess.run([CONVOY, "s3", *words], cwd=self.folder, env=env or self.env, timeout=LIMIT_S,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
                              **({"stdin": subprocess.DEVNULL} if data is None else {"input": data}))
        self.out, self.err = done.stdout, done.stderr.decode(errors="backslashreplace").splitlines()
        return done.returncode

    def done(self, *words, **more):
        self.assertEqual(self.convoy(*words, **more), 0, self.err)
        return self.out

    def refused(self, status, said, *words, env=None, **more):
        """It ends with this status and one line that has every text of `said` and no secret."""
        env = env or self.env
        self.assertEqual(self.convoy(*words, env=env, **more), status, self.err)
        self.assertEqual(len(self.err), 1, self.err)
        self.assertTrue(self.err[0].startswith("s3: error: "), self.err)
        for text in said:
            self.assertIn(text, self.err[0])
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            if env.get(name):
                self.assertNotIn(env[name], self.err[0])
        self.assertNotIn("Signature=", self.err[0])
        self.assertEqual(self.out, b"")


class Fake:
    """An endpoint on loopback whose every answer `answer(request)` makes: (status, headers, body); tls: over https, with the
    certificate of a server."""

    def __init__(self, answer, tls=None):
        self.seen = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.seen.append(types.SimpleNamespace(command=self.command, path=self.path, headers=self.headers,
                                                       body=self.body))  # the handler serves the next one too
                status, headers, body = answer(fake.seen[-1])
                self.send_response_only(status)
                for name, value in {"Content-Length": str(len(body)), "x-amz-request-id": "REQUEST17",
                                    "Date": self.date_time_string(), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(os.path.join(tls.dir, "tls", "server.crt"), os.path.join(tls.dir, "tls", "server.key"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def error(code, message="", more=""):
    return (f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}"
            "<RequestId>REQUEST17</RequestId></Error>").encode()


class Gate:
    """A way to the real server that carries so many bytes of each connection up (or down) and then holds it."""

    def __init__(self, url, up=None, down=None):
        host, port = url.split("//")[1].split(":")
        self._target, self._limits = (host, int(port)), (up, down)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.held = threading.Event()  # one connection stands still
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, target, limit in ((near, far, self._limits[0]), (far, near, self._limits[1])):
                threading.Thread(target=self._carry, args=(source, target, limit), daemon=True).start()

    def _carry(self, source, target, limit):
        carried = 0
        try:
            while limit is None or carried < limit:
                data = source.recv(65536)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
                carried += len(data)
            self.held.set()
        except OSError:
            pass

    def open(self):
        """New connections carry everything."""
        self._limits = (None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in [self._listener, *self._open]:
            connection.close()
