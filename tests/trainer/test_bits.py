#!/usr/bin/env python3
"""Same bits: within a draw of data, model, batch sizes and seed, every number of ranks and threads, ranks of one host and
of several (apart.c), every bucket size, and the shards packed from the folder leave the same model file.

    test_bits.py [--draws N] [--seed N]
"""
import argparse
import random
import sys

from runs import Failed, Runs

# Images of a micro-batch at most, epochs: a run takes some seconds on two cores.
MODELS = {"resnet20": (32, 12, 2), "resnet18": (64, 4, 1)}
RANKS_MAX = 4
LANES_MAX = 11


class Draw:
    """Data, model and batch sizes: V = ceil(B / b) micro-batches a step, and an epoch whose last batch is shorter."""

    def __init__(self, rng, model):
        size, micro_batch_max, epochs = MODELS[model]
        self.lanes = rng.randint(1, LANES_MAX)
        self.micro_batch = rng.randint(2 if self.lanes == 1 else 1, micro_batch_max)
        least = max(2, (self.lanes - 1) * self.micro_batch + 1)
        self.batch = rng.randint(least, self.lanes * self.micro_batch)
        self.micro_batch = min(self.micro_batch, self.batch)
        steps = rng.randint(1, 2) if self.batch * epochs < 100 else 1
        self.last = rng.randint(1, self.batch - 1)
        self.pictures = steps * self.batch + self.last
        while self.pictures < 16:  # of four classes
            self.pictures += self.batch
        self.size, self.data_seed = size, rng.randrange(1000)
        self.options = dict(model=model, image_size=size, global_batch=self.batch, micro_batch=self.micro_batch,
                            epochs=epochs, seed=rng.randrange(1000), lr=0.05, warmup_epochs=0)

    def __str__(self):
        o = self.options
        return (f"{o['model']} B={self.batch} b={self.micro_batch} V={self.lanes} pictures={self.pictures} "
                f"last={self.last} seed={o['seed']}")

    def data(self, runs):
        return runs.synth(f"data-{self.size}-{self.pictures}-{self.data_seed}", classes=4, size=self.size,
                          count=self.pictures, seed=self.data_seed)

    def ways(self, rng):
        """How to run it: one rank with one and with two threads, and more ranks."""
        ranks = [1, 1] + list(range(2, min(RANKS_MAX, self.lanes) + 1))
        threads = [1, 2] + [rng.randint(1, 2) for _ in ranks[2:]]
        return [dict(ranks_per_host=p, threads=t, decode_threads=rng.randint(1, 2),
                     bucket_bytes=int(4096 * 2000 ** rng.random()), apart=p > 1 and rng.random() < 0.5)
                for p, t in zip(ranks, threads)]


def run(runs, name, draw, data, way):
    sha = runs.train(name, data=data, **draw.options, **way)
    text = " ".join(f"{key}={value}" for key, value in way.items())
    print(f"  {text} {data.split('-')[0]}: {sha[:16]}", flush=True)
    return sha, runs.model(name)


def check_draw(runs, rng, draw):
    """Every way leaves one result; returns it."""
    data = draw.data(runs)
    results = [run(runs, f"way-{i}", draw, data, way) for i, way in enumerate(draw.ways(rng))]
    if any(result != results[0] for result in results):
        raise Failed(f"{draw}: the results differ")
    return results[0]


def check_others(runs, rng, draw, result):
    """The shards packed from the folder are the same data; another seed is another run."""
    data = draw.data(runs)
    runs.call("pack", data, "packed-" + data, "--shard-bytes", 20000)
    way = rng.choice(draw.ways(rng))
    if run(runs, "packed", draw, "packed-" + data, way) != result:
        raise Failed(f"{draw}: folder and shards differ")
    draw.options["seed"] += 1
    if run(runs, "other", draw, data, way) == result:
        raise Failed(f"{draw}: another seed makes no difference")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    names = sorted(MODELS, reverse=True)
    print(f"seed {options.seed}")
    for i in range(options.draws):
        with Runs() as runs:
            # The first two are one of each, so that few draws have both.
            draw = Draw(rng, names[i] if i < len(names) else rng.choice(names))
            print(f"draw {i + 1}: {draw}", flush=True)
            result = check_draw(runs, rng, draw)
            if i % 4 == 0:
                check_others(runs, rng, draw, result)
            print(f"draw {i + 1}: sha256 {result[0]}", flush=True)
    print(f"{options.draws} draws, seed {options.seed}: one result within each")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
