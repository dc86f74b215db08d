"""What a comparison must say of the machine, and running one side of it pinned to processors."""
import json
import os
import platform
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = os.path.join(HERE, "torch_peer.py")
# Without these PyTorch gives large blocks back to the kernel at every step and takes them anew.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184",
                "MALLOC_TOP_PAD_": "268435456"}
# What holds each library back to AVX2; DNNL_ is the older name of ONEDNN_.
AVX2 = {"ours": {"CONVOY_ISA": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
        "peer": {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
                 "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}}
FLAGS = ("avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "amx_tile")


class Failed(Exception):
    pass


def find_bin():
    """The folder of the built programs: CONVOY_BIN, else that of a release build."""
    return os.path.abspath(os.environ.get("CONVOY_BIN", os.path.join(HERE, "..", "..", "build", "release", "bin")))


def environment(side, isa):
    """side: "ours" or "peer"; isa: "avx2", or "native" for what each takes by itself. Nothing that chooses kernels is inherited."""
    ours = {k for k in os.environ if k.startswith("CONVOY_")} - {"CONVOY_BIN"}
    env = {k: v for k, v in os.environ.items() if k not in ours.union(AVX2["ours"], AVX2["peer"], TUNED_MALLOC)}
    if side == "peer":
        env.update(TUNED_MALLOC)
    if isa == "avx2":
        env.update(AVX2[side])
    return env


def last_cpus(count):
    """As many processors as there are threads: the last ones, as interrupts prefer the first."""
    cpus = sorted(os.sched_getaffinity(0))
    if count > len(cpus):
        raise Failed(f"{count} threads, but this process may use {len(cpus)} processors")
    return cpus[len(cpus) - count:]


def busy_s():
    """Processor seconds that all of the machine has used."""
    with open("/proc/stat") as stat:
        used = [int(word) for word in stat.readline().split()[1:9]]
    return (sum(used) - used[3] - used[4]) / os.sysconf("SC_CLK_TCK")


def watch(words, env, threads):
    """Run it on the last processors. Its stdout, whole-process "seconds", "cpu_s" of it and its children, "peak_rss_mib" of the
    largest process among them, and "others": how many processors other processes kept busy meanwhile."""
    cpus = last_cpus(threads)
    env = {**env, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun, busy = time.monotonic(), busy_s()
        process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                   preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # the person's Ctrl-C: nothing stays behind
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds, cpu_s = time.monotonic() - begun, usage.ru_utime + usage.ru_stime
        others = max(0.0, (busy_s() - busy - cpu_s) / seconds)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            raise Failed(f"`{' '.join(words)}` ended with {process.returncode}: {' '.join(err.read().splitlines()[-1:])}")
        return {"stdout": out.read(), "seconds": seconds, "cpu_s": cpu_s, "peak_rss_mib": usage.ru_maxrss / 1024,
                "others": others}


def run(words, env, threads):
    """As watch(), of a program whose last line of stdout is a JSON object: that, with "others" and "stdout"."""
    seen = watch(words, env, threads)
    return {**json.loads(seen["stdout"].splitlines()[-1]), "others": seen["others"], "stdout": seen["stdout"]}


def in_turn(sides, number):
    """The sides of a round: each begins one, and none always comes behind the same other one."""
    first = number % len(sides)
    return sides[first:] + sides[:first]


def read(path, fallback="?"):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return fallback


def machine():
    lines = [line.split(":", 1) for line in read("/proc/cpuinfo").splitlines() if ":" in line]
    facts = {key.strip(): value.strip() for key, value in lines}
    flags = set(facts.get("flags", "").split())
    return {"cpu": facts.get("model name", platform.machine()), "cores": os.cpu_count(),
            "flags": [flag for flag in FLAGS if flag in flags], "kernel": platform.release(),
            "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "unknown"),
            "huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled"), "load": os.getloadavg()[0],
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def describe(facts):
    return (f"{facts['cpu']}, {facts['cores']} cores; {' '.join(facts['flags'])}\n"
            f"Linux {facts['kernel']}, governor {facts['governor']}, huge pages {facts['huge_pages']}, load "
            f"{facts['load']:.1f}, {facts['time']}")


def about_peer(python, isa):
    """Version, oneDNN's, and the instruction set that it says it uses: its own words, not ours."""
    figures = run([python, PEER, "about"], {**environment("peer", isa), "ONEDNN_VERBOSE": "1", "DNNL_VERBOSE": "1"}, 1)
    words = figures.pop("stdout").splitlines()
    isas = [line.split("isa:", 1)[1] for line in words if ",cpu,isa:" in line]
    kernels = {field for line in words if ",convolution," in line for field in line.split(",") if field.startswith("jit:")}
    figures.update(python=python, isa=isas[0] if isas else "unknown", convolution=sorted(kernels))
    return figures


def say(text):
    print(text, file=sys.stderr, flush=True)
