#!/usr/bin/env python3
"""`position open` of 10^9 pictures in S3, whose 54 GB of indexes nobody has: a server here lists the shards, and makes
any index that is asked for out of one.

    tests/bench/position_s3.py POSITION [--shards 100000] [--shard-pictures 10000] [--delay-ms 25] [--places 100]

POSITION is the program built of position.c. Signatures are not looked at; a picture itself is a range of zeros.
"""
import argparse
import http.server
import json
import os
import re
import socketserver
import subprocess
import tempfile
import time
import urllib.parse

LIST = ('<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>')
OBJECT = '<Contents><Key>{}</Key><Size>{}</Size><ETag>"1"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>'


class Bucket:
    """Shards that are all like one of their kind."""
    def __init__(self, position, shards, of_shard):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([position, "make", folder, str(of_shard), str(of_shard), "110000"], check=True)
            with open(os.path.join(folder, "index.json")) as file:
                top = json.load(file)
            with open(os.path.join(folder, "shard-000000.idx"), "rb") as file:
                self.page = file.read()
        one = top["shards"][0]
        top["shards"] = [dict(one, name=f"shard-{i:06}.tar") for i in range(shards)]
        top["count"] *= shards
        top["bytes"] *= shards
        self.top = json.dumps(top, separators=(",", ":")).encode()
        self.listing = LIST.format("".join(OBJECT.format("set/" + name, 1) for name in
                                           ("index.json", "shard-000000.idx", "shard-000000.tar"))).encode()

    def get(self, path, query):
        if "list-type" in query:
            return self.listing
        if path.endswith("/index.json"):
            return self.top
        return self.page if re.search(r"/shard-\d+\.idx$", path) else None


def handler_of(bucket, delay_s, counts):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            body = bucket.get(url.path, urllib.parse.parse_qs(url.query))
            counts.append(url.path)
            time.sleep(delay_s)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    return Handler


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("position")
    parser.add_argument("--shards", type=int, default=100000)
    parser.add_argument("--shard-pictures", type=int, default=10000)
    parser.add_argument("--delay-ms", type=float, default=25)
    parser.add_argument("--places", type=int, default=100)
    args = parser.parse_args()
    counts = []
    bucket = Bucket(args.position, args.shards, args.shard_pictures)
    server = Server(("127.0.0.1", 0), handler_of(bucket, args.delay_ms / 1000, counts))
    env = dict(os.environ, AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}", AWS_REGION="us-east-1",
               AWS_ACCESS_KEY_ID="nobody", AWS_SECRET_ACCESS_KEY="nothing")
    child = subprocess.Popen([args.position, "open", "s3://bucket/set", str(args.places), "0"], env=env)
    server.timeout = 0.2
    while child.poll() is None:
        server.handle_request()
    print(f"requests: {len(counts)}, of them {sum(path.endswith('index.json') for path in counts)} of the top index "
          f"({len(bucket.top) / 1e6:.1f} MB), {sum(path.endswith('.idx') for path in counts)} of shards' "
          f"({len(bucket.page) / 1e3:.0f} kB each)")
    return child.returncode


if __name__ == "__main__":
    raise SystemExit(main())
