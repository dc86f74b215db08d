#!/usr/bin/env python3
"""What a training from shards in S3 reads with --cache-bytes at some shares of its pictures' bytes, beside what
Belady's rule would (belady.c). Needs Ceph (tests/lab/s3.py).

    cache_s3.py --pictures DIR [--epochs 6] [--shares 0,25,50,75,100,200]

DIR has a folder per class; windows should be many: 16 chunks of at most 256 pictures each.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
import s3  # noqa: E402

BIN = os.path.abspath(os.environ.get("CONVOY_BIN", os.path.join(HERE, "..", "..", "build", "ci", "bin")))
CONVOY, BELADY = os.path.join(BIN, "convoy"), os.path.join(BIN, "belady")
BUCKET = "bench"
SEED, BATCH = 1, 64


def run(folder, env, server, options, cache_bytes):
    report, cache = os.path.join(folder, "report"), os.path.join(folder, "cache")
    for path in (report, cache):
        shutil.rmtree(path, ignore_errors=True)
    words = [CONVOY, "train", f"--train=s3://{BUCKET}/shards", "--model=resnet20", f"--report={report}",
             f"--model-dir={folder}/model", f"--epochs={options.epochs}", "--image-size=8", f"--seed={SEED}",
             f"--global-batch={BATCH}", f"--micro-batch={BATCH}", f"--prefetch-bytes={options.prefetch_bytes}",
             "--threads=1", "--train-layers=head", "--feature-cache=0"]  # the least of computing
    if cache_bytes:
        words += [f"--cache={cache}", f"--cache-bytes={cache_bytes}"]
    mark = server.log_mark()
    done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    gets = [r for r in server.requests(mark) if r.method == "GET" and r.status in (200, 206) and ".tar" in r.path]
    with open(os.path.join(report, "metrics.jsonl")) as file:
        events = [json.loads(line) for line in file]
    end = [e for e in events if e["event"] == "end"][0].get("cache")
    return {"sha256": done.stdout.split()[-1][-64:], "gets": len(gets), "got": sum(r.bytes for r in gets), "cache": end,
            "input_s": sum(e.get("input_s", 0) for e in events if e["event"] == "step"),
            "seconds": sum(e["seconds"] for e in events if e["event"] == "step")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--prefetch-bytes", type=int, default=8 << 20)
    parser.add_argument("--shares", default="0,25,50,75,100,200")
    options = parser.parse_args()
    shares = [int(share) for share in options.shares.split(",")]
    with tempfile.TemporaryDirectory(prefix="convoy-bench-") as folder, s3.Server() as server:
        env = {**server.env(), **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")}}
        env.update({k: v for k, v in server.env().items() if k.startswith("AWS_")})
        server.client().make_bucket(BUCKET)
        shards = os.path.join(folder, "shards")
        for target in (shards, f"s3://{BUCKET}/shards"):
            subprocess.run([CONVOY, "pack", options.pictures, target, "--shard-bytes=8000000"], env=env, check=True,
                           stderr=subprocess.DEVNULL)
        with open(os.path.join(shards, "index.json")) as file:
            whole = json.load(file)["bytes"]
        sizes = [whole * share // 100 for share in shares]
        out = subprocess.run([BELADY, shards, str(BATCH), "1", str(SEED), str(options.epochs), *map(str, sizes)],
                             check=True, capture_output=True, text=True).stdout
        by_rule = [sum(json.loads(line)["read"][1:]) for line in out.splitlines()]
        later, shas, first = options.epochs - 1, set(), None
        print(f"{whole / 1e6:.1f} MB of pictures, {options.epochs} epochs; means of all but the first\n")
        print("| `--cache-bytes` | from S3, MB an epoch | of the pictures | Belady's rule | requests an epoch | "
              "waiting for pictures |")
        print("| --- | --- | --- | --- | --- | --- |")
        for share, size, bound in zip(shares, sizes, by_rule):
            found = run(folder, env, server, options, size)
            shas.add(found["sha256"])
            missed = found["cache"]["miss_bytes"] - whole if found["cache"] else whole * later
            if not found["cache"]:
                first = found["gets"] / options.epochs  # an epoch without a cache, as each run's first is
            requests = max(0, found["gets"] - first) / later if first is not None else float("nan")
            print(f"| {share} % | {missed / later / 1e6:.1f} | {100 * missed / later / whole:.1f} % | "
                  f"{100 * bound / later / whole:.1f} % | {requests:.0f} | "
                  f"{100 * found['input_s'] / found['seconds']:.2f} % |", flush=True)
            print(json.dumps({"share": share, **found}), file=sys.stderr, flush=True)
        if len(shas) != 1:
            raise SystemExit("the weights differ")


if __name__ == "__main__":
    main()
