#!/usr/bin/env python3
"""What comes to the leader's port from others than the job's hosts: refused, said in one line, without effect on the job."""
import hashlib
import hmac
import json
import os
import re
import select
import socket
import struct
import threading
import time
import unittest

from hosts_case import JOB_KEY, Case, wait_until

KEY = hmac.digest(b"convoy job key", JOB_KEY.encode(), "sha256")
OTHER_KEY = hashlib.sha256(b"another job's").digest()
MAGIC, NONCE_BYTES, TAG_BYTES = b"CONVOY1\n", 32, 32
WAITING_MAX = 64       # LAUNCH_PORT_CALLERS_MAX
GREETING_S = 5         # LAUNCH_PORT_GREETING_S
RSS_GROWTH_KIB = 4096  # 64 callers with a buffer each are far below


def bind_key(key, name, nonces):
    return hmac.digest(key, name.ljust(32, b"\0") + nonces, "sha256")


class Caller:
    """A connection to the leader, with channel.h's handshake if asked for."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.frames = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # refused already
        return self

    def receive(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise AssertionError(f"closed after {len(data)} of {size} bytes")
            data += more
        return data

    def greet(self, key=KEY):
        nonce = os.urandom(NONCE_BYTES)
        self.send(MAGIC + nonce)
        answer = self.receive(NONCE_BYTES + TAG_BYTES)
        nonces = nonce + answer[:NONCE_BYTES]
        self.to_leader = bind_key(key, b"convoy to the called", nonces)
        return self.send(bind_key(key, b"convoy caller", nonces))

    def frame(self, message, number=None):
        body = json.dumps(message).encode() if isinstance(message, dict) else message
        text = struct.pack(">I", len(body)) + body
        count = struct.pack(">Q", self.frames if number is None else number)
        self.frames += 1
        return text + hmac.digest(self.to_leader, count + text, "sha256")

    def is_closed(self):
        """Wait for the leader to close the connection."""
        try:
            while self.socket.recv(4096):
                pass
        except ConnectionResetError:
            pass
        return True


class Recorder:
    """Carries one connection to the leader and keeps what the caller sent."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self._to, self.sent = self.listener.getsockname()[1], port, b""
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self):
        near = self.listener.accept()[0]
        far = socket.create_connection(("127.0.0.1", self._to))
        with near, far:
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is near:
                        self.sent += data
                    (far if end is near else near).sendall(data)


def hello(host="algo-2", **more):
    return {"type": "hello", "host": host, "job": "", "version": "0", "network": "", **more}


# Each gets a port, says what it has to say, and is refused.

def garbage(port):
    for data in (b"\0" * 5000, os.urandom(5000), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
                 b"CONVOY2\n" + b"x" * 100, b"CONVOY1\r" * 1000, b"SSH-2.0-OpenSSH_9.2\r\n"):
        with Caller(port) as caller:
            assert caller.send(data).is_closed()


def wrong_key(port):
    with Caller(port) as caller:
        assert caller.greet(OTHER_KEY).send(caller.frame(hello())).is_closed()


def own_proof_sent_back(port):
    with Caller(port) as caller:
        caller.send(MAGIC + os.urandom(NONCE_BYTES))
        assert caller.send(caller.receive(NONCE_BYTES + TAG_BYTES)[NONCE_BYTES:]).is_closed()


def frames_out_of_order(port):
    with Caller(port) as caller:
        caller.greet()
        assert caller.send(caller.frame(hello(), number=1) + caller.frame(hello(), number=0)).is_closed()


def changed_frame(port):
    with Caller(port) as caller:
        data = bytearray(caller.greet().frame(hello()))
        data[20] ^= 1
        assert caller.send(bytes(data)).is_closed()


def oversized_frame(port):
    for length in (65537, 0x7fffffff, 0xffffffff):
        with Caller(port) as caller:
            assert caller.greet().send(struct.pack(">I", length) + b"x" * 200000).is_closed()


def no_greeting(port):
    for message in ({"type": "done"}, {"type": "failed", "code": 1, "reason": "x"}, b"[]", b"{", b"\xff\xfe", b"",
                    hello("algo-9"), hello("../etc"), {"type": 7}):
        with Caller(port) as caller:
            assert caller.greet().send(caller.frame(message)).is_closed()


def half_closed(port):
    with Caller(port) as caller:
        caller.send(MAGIC)
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.is_closed()


ATTACKS = (garbage, wrong_key, own_proof_sent_back, frames_out_of_order, changed_frame, oversized_frame, no_greeting,
           half_closed)


class Hostile(Case):
    def refusals(self, job):
        return [line for line in job["algo-1"].log().splitlines() if "refused a connection" in line]

    def watch_leader(self, job):
        """The leader's memory in KiB and how many descriptors it has."""
        pid = job["algo-1"].process.pid
        with open(f"/proc/{pid}/status") as status:
            return int(re.search(r"VmRSS:\s*(\d+)", status.read())[1]), len(os.listdir(f"/proc/{pid}/fd"))

    def attack(self, job):
        """All of them; the leader's log has at most a line a second of it, its memory and descriptors stay bounded."""
        began, before = time.monotonic(), self.watch_leader(job)
        silent = [Caller(job.port) for _ in range(3 * WAITING_MAX)]
        slow = Caller(job.port)
        for attack in ATTACKS:
            attack(job.port)
        text = iter(MAGIC + os.urandom(NONCE_BYTES))
        until = time.monotonic() + 2 * GREETING_S
        while not select.select([slow.socket], [], [], 0.5)[0]:  # each byte comes in time, the whole does not
            self.assertLess(time.monotonic(), until, "a caller with a byte at a time is still there")
            slow.send(bytes([next(text)]))
        memory, descriptors = self.watch_leader(job)
        self.assertLess(memory, before[0] + RSS_GROWTH_KIB)
        self.assertLessEqual(descriptors, before[1] + 2 * WAITING_MAX)
        for caller in (*silent, slow):
            self.assertTrue(caller.is_closed())
            caller.socket.close()
        refusals = self.refusals(job)
        self.assertTrue(refusals)
        self.assertLessEqual(len(refusals), time.monotonic() - began + 2, job.logs())
        self.assertLessEqual(max(map(len, job["algo-1"].log().splitlines())), 1000)

    def quiet_job(self):
        # ASan keeps what was freed; a little of it, or the memory would seem to grow
        return self.job(FAKE="until-told", ASAN_OPTIONS="detect_leaks=0:quarantine_size_mb=1")

    def test_a_waiting_leader_stands_all_of_it(self):
        job = self.quiet_job().start("algo-1")
        wait_until(lambda: "waiting for 1 other host" in job["algo-1"].log())
        self.attack(job)
        job.tell("go")
        self.assert_all_end(job.start("algo-2"), 0)

    def test_a_running_job_stands_all_of_it(self):
        job = self.quiet_job().start("algo-1")
        wait_until(lambda: "waiting for 1 other host" in job["algo-1"].log())
        recorder = Recorder(job.port)
        job["algo-2"].start(f"--port={recorder.port}")
        job.wait_for("up-0", "up-1", "up-2", "up-3")
        with Caller(job.port) as replay:
            self.assertTrue(replay.send(recorder.sent).is_closed())
        wait_until(lambda: "does not know this job's key" in self.refusals(job)[-1])
        self.attack(job)
        with Caller(job.port) as second:  # who knows the key, as a host that is here
            self.assertTrue(second.greet().send(second.frame(hello())).is_closed())
        job.tell("go")
        self.assert_all_end(job, 0)
        recorder.listener.close()

    def test_a_flood_of_callers_does_not_keep_a_host_out(self):
        job = self.quiet_job().start("algo-1")
        wait_until(lambda: "waiting for 1 other host" in job["algo-1"].log())
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                with Caller(job.port):
                    pass

        threads = [threading.Thread(target=flood) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            job.start("algo-2").wait_for("up-0", "up-3")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        job.tell("go")
        self.assert_all_end(job, 0)

    def test_an_agent_takes_no_orders_from_who_lacks_the_key(self):
        """The first host's address is taken by somebody else until the deadline."""
        job = self.job(words=["--rendezvous-timeout=2"], FAKE="exit-0")
        order = json.dumps({"type": "run", "number": 0, "words": ["orted"]}).encode()
        with socket.create_server(("127.0.0.1", job.port)) as impostor:
            impostor.settimeout(1)
            job["algo-2"].start()
            while job["algo-2"].process.poll() is None:
                try:
                    caller, _ = impostor.accept()
                except TimeoutError:
                    continue
                with caller:
                    nonces = caller.recv(len(MAGIC) + NONCE_BYTES)[len(MAGIC):] + os.urandom(NONCE_BYTES)
                    text = struct.pack(">I", len(order)) + order
                    key = bind_key(OTHER_KEY, b"convoy to the caller", nonces)
                    caller.sendall(nonces[NONCE_BYTES:] + bind_key(OTHER_KEY, b"convoy called", nonces) + text +
                                   hmac.digest(key, bytes(8) + text, "sha256"))
        self.assertEqual(job["algo-2"].wait(), 3)
        self.assertIn("does not know this job's key", job["algo-2"].failure())
        self.assertNotIn("orted", job["algo-2"].log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
