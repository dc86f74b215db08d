#!/usr/bin/env python3
"""What training from S3 costs beside training from local files: images/s, time spent waiting for pictures, requests and
bytes an epoch, peak memory. Runs alternate, so that a noisy machine is noisy for all. Needs Ceph (tests/lab/s3.py).

    input_s3.py --pictures /tmp/cifar10/train [--count 5000] [--repeats 3] [--image-size 32] [--delay-ms 200]
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
import s3  # noqa: E402
from proxy import Proxy  # noqa: E402

BIN = os.environ.get("CONVOY_BIN", os.path.join(HERE, "..", "..", "build", "ci", "bin"))
CONVOY = os.path.join(os.path.abspath(BIN), "convoy")
BUCKET = "bench"


def copy_some(pictures, folder, count):
    classes = sorted(os.listdir(pictures))
    for name in classes:
        os.makedirs(os.path.join(folder, name))
        for picture in sorted(os.listdir(os.path.join(pictures, name)))[:count // len(classes)]:
            shutil.copy(os.path.join(pictures, name, picture), os.path.join(folder, name, picture))


def size_of(folder):
    return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(folder) for name in names)


def upload(server, folder, prefix):
    """By one process each for a quarter of the classes would be faster; this is done once."""
    client = server.client()
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            with open(path, "rb") as file:
                client.put(BUCKET, f"{prefix}/{os.path.relpath(path, folder)}", file.read())


def run(folder, env, source, options):
    report = os.path.join(folder, "report")
    shutil.rmtree(report, ignore_errors=True)
    words = [CONVOY, "train", "--train", source, "--val-split=0.01", "--model=resnet20", "--report", report, "--model-dir",
             os.path.join(folder, "model"), f"--epochs={options.epochs}", f"--image-size={options.image_size}",
             f"--threads={options.threads}", f"--global-batch={options.global_batch}",
             f"--micro-batch={options.micro_batch}", *options.more]
    process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(words)}: {err.decode()}")
    with open(os.path.join(report, "metrics.jsonl")) as file:
        events = [json.loads(line) for line in file]
    steps = [e for e in events if e["event"] == "step"][2:]  # the first ones warm up
    seconds = sum(e["seconds"] for e in steps)
    return {"images_per_s": sum(e["images"] for e in steps) / seconds,
            "input_share": sum(e.get("input_s", 0) for e in steps) / seconds,
            "first_input_s": [e for e in events if e["event"] == "step"][0].get("input_s", 0),
            "rss_mib": usage.ru_maxrss / 1024, "sha256": out.split()[-1].decode()[-64:]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True, help="a folder per class")
    for name, value in (("count", 5000), ("repeats", 3), ("image-size", 32), ("threads", 2), ("global-batch", 128),
                        ("micro-batch", 32), ("epochs", 1), ("delay-ms", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("more", nargs="*", help="more options of convoy train, behind --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="convoy-bench-") as folder, s3.Server() as server:
        local = {**server.env(), **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")}}
        local.update({k: v for k, v in server.env().items() if k.startswith("AWS_")})
        pictures, shards = os.path.join(folder, "pictures"), os.path.join(folder, "shards")
        copy_some(options.pictures, pictures, options.count)
        server.client().make_bucket(BUCKET)
        upload(server, pictures, "folder")
        for source, target in ((pictures, shards), (pictures, f"s3://{BUCKET}/shards")):
            subprocess.run([CONVOY, "pack", source, target], env=local, check=True, stderr=subprocess.DEVNULL)
        sources = {"folder on disk": (pictures, local), "shards on disk": (shards, local),
                   "folder in S3": (f"s3://{BUCKET}/folder", local), "shards in S3": (f"s3://{BUCKET}/shards", local)}
        if options.delay_ms:
            proxy = Proxy(server.http_url, options.delay_ms / 1000)
            slow = {**local, "AWS_ENDPOINT_URL_S3": proxy.url}
            for name in ("folder in S3", "shards in S3"):
                sources[f"{name}, {options.delay_ms} ms late"] = (sources[name][0], slow)
        found = {name: [] for name in sources}
        for _ in range(options.repeats):
            for name, (source, env) in sources.items():
                mark = server.log_mark()
                result = run(folder, env, source, options)
                requests = server.requests(mark)
                reads = [r for r in requests if r.method == "GET" and r.path.endswith((".jpg", ".jpeg", ".png", ".tar"))]
                result["requests"] = len(reads)
                result["others"] = len(requests) - result["requests"]
                result["bytes"] = sum(r.bytes for r in reads)
                found[name].append(result)
                print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)
        bytes_needed = size_of(pictures) * options.epochs
        print(f"{options.count} pictures, {bytes_needed / 1e6:.1f} MB; medians of {options.repeats}")
        print("| source | images/s | waiting for pictures | first batch, s | ranges | other requests | read / needed | peak MiB |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for name, results in found.items():
            def median(key):
                return statistics.median(result[key] for result in results)
            print(f"| {name} | {median('images_per_s'):.0f} | {100 * median('input_share'):.1f} % | "
                  f"{median('first_input_s'):.2f} | {median('requests'):.0f} | {median('others'):.0f} | "
                  f"{median('bytes') / bytes_needed:.2f} | {median('rss_mib'):.0f} |")
        if len({result["sha256"] for results in found.values() for result in results}) != 1:
            raise SystemExit("the weights differ")


if __name__ == "__main__":
    main()
