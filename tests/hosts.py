"""Hosts on one machine: network namespaces with addresses of their own behind a bridge, and processes in them."""

import os
import secrets
import shutil
import signal
import subprocess
import sys

SCRIPT = 'hostname {name}; for folder in {hidden}; do mount -t tmpfs none "$folder"; done; exec "$@"'
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not():
    """Why there can be no hosts here; empty where there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if missing := [name for name in ("ip", "unshare", "mount", "hostname") if shutil.which(name) is None]:
        return f"needs the commands {', '.join(missing)}"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Hosts() as hosts:
            hosts.add("a")
            hosts.start("a", "true", hidden=["/mnt"]).wait(10)
    except subprocess.SubprocessError as error:
        return f"network namespaces are not permitted here: {getattr(error, 'stderr', '') or error}"
    return ""


class Hosts:
    """Hosts of names of one letter; this process is one more, at `address`. All ends with the context.

    Names and addresses are random: test runs side by side have networks of their own. Addresses are of 198.18.0.0/15,
    which is set aside for such tests.
    """

    def __init__(self):
        self._tag = f"fg{secrets.token_hex(3)}"
        self._net = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        self._names, self._processes = [], []

    @property
    def address(self):
        return f"{self._net}.1"

    def __enter__(self):
        try:
            ip("link", "add", self._tag, "type", "bridge")
            ip("addr", "add", f"{self.address}/24", "dev", self._tag)
            ip("link", "set", self._tag, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self._processes:
            self.kill(process)
        for command in (*(["netns", "del", f"{self._tag}{name}"] for name in self._names), ["link", "del", self._tag]):
            subprocess.run(["ip", *command], check=False, capture_output=True)

    def add(self, name):
        """Make a host, and return its address."""
        space, outer = f"{self._tag}{name}", f"{self._tag}v{name}"
        address = f"{self._net}.{len(self._names) + 2}"
        self._names.append(name)
        ip("netns", "add", space)
        ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", outer, "master", self._tag, "up")
        ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", space, "link", "set", device, "up")
        return address

    def cut(self, name):
        """Pull the plug: packets are lost, and nobody is told."""
        ip("link", "set", f"{self._tag}v{name}", "down")

    def mend(self, name):
        ip("link", "set", f"{self._tag}v{name}", "up")

    def start(self, name, *command, hidden=(), log=None, **environment):
        """Start a process on a host, whose file system lacks what is in the hidden folders."""
        script = SCRIPT.format(name=f"host-{name}", hidden=" ".join(map(str, hidden)))
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{self._tag}{name}", "unshare", "-u", "-m", "sh", "-ec", script, "sh", *command],
            stdout=log or subprocess.DEVNULL,
            stderr=log or subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT, **environment},
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    @staticmethod
    def kill(process):
        """End a process at once, and what it started."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
