#!/usr/bin/env python3
"""PyTorch's side of compare_ddp: DistributedDataParallel over gloo, one process on each host, trained from data in memory.

  torch_ddp.py --rank 0 --ranks 2 --address 10.91.0.1 --port 29500 --model resnet18 --batch 32 [--format channels_last]
               [--bucket-mb 25] [--threads 1] [--steps 5] [--warmup 2]

Rank 0 prints one JSON object on its last line: images/s of all ranks together over the timed steps, until the last rank is done
(as our side counts). compare_ddp sets the environment: the interface of gloo, allocator, instruction set.
"""
import argparse
import json
import time

import torch
import torch.distributed as dist

from torch_peer import make, optimizer, peak_rss_mib, place, step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--format", choices=["contiguous", "channels_last"], default="contiguous")
    for name, value in (("rank", 0), ("ranks", 1), ("port", 29500), ("batch", 32), ("size", 0), ("threads", 1), ("steps", 5),
                        ("warmup", 2), ("bucket-mb", 25)):
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    dist.init_process_group("gloo", init_method=f"tcp://{o.address}:{o.port}", rank=o.rank, world_size=o.ranks)
    net, classes, size = make(o.model)
    size = o.size or size
    net, memory_format = place(net, o.format)
    x = torch.rand(o.batch, 3, size, size).sub_(0.5).contiguous(memory_format=memory_format)
    y = torch.arange(o.batch) % classes
    ddp = torch.nn.parallel.DistributedDataParallel(net, bucket_cap_mb=o.bucket_mb, gradient_as_bucket_view=True)
    opt = optimizer(net, 1e-3)
    for _ in range(o.warmup):
        step(ddp, opt, x, y)
    dist.barrier()
    begun = time.perf_counter()
    for _ in range(o.steps):
        step(ddp, opt, x, y)
    dist.barrier()
    seconds = time.perf_counter() - begun
    if o.rank == 0:
        print(json.dumps({"images_per_s": o.steps * o.ranks * o.batch / seconds, "peak_rss_mib": peak_rss_mib(),
                          "version": torch.__version__}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
