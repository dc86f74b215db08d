"""Several hosts for a scenario: those of `hosts`, a way from each to the S3 server, and containers in them.

    with s3.Server() as server, cluster.Cluster(2, sshd=False, share=[folder]) as hosts:
        hosts.reach("algo-1", server.port)               # 127.0.0.1:port there is 127.0.0.1:port here
        job = hosts.start("algo-1", [CONVOY, "train"], env, root="/", logs=folder)
        job.signal(signal.SIGTERM)                       # to process 1 of the container, as `docker stop` does
        print(job.wait(90), job.stdout())

Needs root. Everything ends with the `with`.
"""
import json
import os
import re
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = os.path.join(HERE, "hosts")
CONTAIN = os.path.join(HERE, "contain")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Timeout(Exception):
    pass


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Timeout(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)
    return found


class Container:
    """A command as process 1 of a container in a host; its output goes to files."""

    def __init__(self, words, env, out, err):
        self._out, self._err = out, err
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            self._process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)

    def pid(self):
        """The id outside of the container's process 1; None: not there yet, or gone."""
        for pid in _descendants(self._process.pid):
            try:
                with open(f"/proc/{pid}/status") as status:
                    ids = re.search(r"^NSpid:\s*(.*)$", status.read(), re.M)[1].split()
                with open(f"/proc/{pid}/comm") as comm:
                    name = comm.read().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # host's process table and the container's: in the latter it is 1; what it was before exec does not count
            if len(ids) >= 3 and ids[-1] == "1" and name not in ("unshare", "chroot"):
                return pid
        return None

    def signal(self, number):
        os.kill(wait_until(self.pid, 30, "process 1 of the container"), number)

    def running(self):
        return self._process.poll() is None

    def wait(self, seconds):
        """Its exit status. 1 where a signal ended process 1: unshare (util-linux 2.38) does not hand that on."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Timeout(f"not gone after {seconds} s; it said:\n{self.stderr()[-2000:]}") from None

    def kill(self):
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def stdout(self):
        with open(self._out, errors="replace") as file:
            return file.read()

    def stderr(self):
        with open(self._err, errors="replace") as file:
            return file.read()


class Cluster:
    """algo-1 .. algo-N of a lab of their own. share: folders that every host has to see, though they lie in /tmp.
    link: options of `hosts up` for the links."""

    def __init__(self, count, sshd=True, share=(), lab=None, net=None, cpus="pin", link=()):
        self.names = [f"algo-{i + 1}" for i in range(count)]
        self._env = {**os.environ, "HOSTS_LAB": lab or f"cluster-{os.getpid()}",
                     "HOSTS_NET": net or f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"}
        self._up = ["up", str(count), "--sshd", "yes" if sshd else "no", "--cpus", cpus, *link]
        for folder in {HERE, *share}:  # the hosts have a /tmp and a /run of their own
            if folder.startswith(("/tmp/", "/run/")):
                self._up += ["--share", folder]
        self._bridges, self._containers = {}, []

    def __enter__(self):
        self._hosts(*self._up)
        return self

    def __exit__(self, *_):
        for container in self._containers:
            if container.running():
                container.kill()
        for bridge in self._bridges.values():
            bridge.kill()
            bridge.wait()
        self._hosts("down")

    def _hosts(self, *words):
        return subprocess.run([HOSTS, *words], env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              check=True, text=True).stdout

    def ml(self, host):
        """That host's /opt/ml, seen from outside."""
        return self._hosts("path", host).strip()

    def execute(self, host, *words):
        return self._hosts("exec", host, *words)

    def ps(self, host):
        """All processes of a host, those in its containers too."""
        return self.execute(host, "ps", "-eo", "pid,ppid,user,args").rstrip()

    def reach(self, host, port):
        """127.0.0.1:port in this host is 127.0.0.1:port of this machine from now on."""
        if host in self._bridges:
            self._bridges[host].kill()
            self._bridges[host].wait()
        pid = re.search(rf"^{host} .*pid=(\d+)", self._hosts("status"), re.M)[1]
        bridge = subprocess.Popen([sys.executable, os.path.join(HERE, "bridge.py"), str(port), pid],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._bridges[host] = bridge
        if bridge.stdout.readline() != "ready\n":
            raise RuntimeError(f"no bridge to {host}")

    def power_off(self, host):
        """SIGKILL of everything in it, after the silence: no connection is closed."""
        self._hosts("kill", host)

    def power_on(self, host):
        """As a new machine: /opt/ml is empty but for the platform's files."""
        self._hosts("start", host)

    def start(self, host, words, env, root, logs, name="job"):
        """Run a command as process 1 of a container in `host`; its environment is env and nothing else."""
        clean = [f"{key}={value}" for key, value in {"PATH": PATH, "HOME": "/root", **env}.items()]
        number = int(host.rsplit("-", 1)[1])
        line = [HOSTS, "exec", host, "env", "-i", *clean, CONTAIN, root,
                f"ip-10-0-78-{number}.ec2.internal", *words]
        base = os.path.join(logs, f"{name}-{host}")
        container = Container(line, self._env, base + ".out", base + ".err")
        self._containers.append(container)
        return container

    def write_sagemaker(self, host, hyperparameters, channels=None, hosts=None, checkpoints=None):
        """The platform's files in this host's /opt/ml, new ones for each start of a job."""
        hosts = hosts or self.names
        base = self.ml(host)
        config = os.path.join(base, "input", "config")
        group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.c5.2xlarge", "hosts": hosts}
        _write(config, "resourceconfig.json", {
            "current_host": host, "current_instance_type": "ml.c5.2xlarge", "current_group_name": "homogeneousCluster",
            "hosts": hosts, "instance_groups": [group], "network_interface_name": "eth0"})
        _write(config, "hyperparameters.json", {name: str(value) for name, value in hyperparameters.items()})
        _write(config, "inputdataconfig.json", {
            name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
            for name in channels or []})
        if checkpoints:
            _write(config, "checkpointconfig.json", {"LocalPath": checkpoints})


def _write(folder, name, value):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as file:
        json.dump(value, file, indent=2)


def _descendants(pid):
    found, rest = [], [pid]
    while rest:
        at = rest.pop()
        try:
            for thread in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{thread}/children") as children:
                    below = [int(word) for word in children.read().split()]
                found += below
                rest += below
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
