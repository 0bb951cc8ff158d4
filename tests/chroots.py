"""Debian systems of their own, made by debootstrap and started with their own systemd: for trials as root.

Each is a folder; `booted` runs its systemd as the first process of new namespaces, on this machine's network.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
_SCRIPT = "/usr/share/debootstrap/scripts/sid"
"""The one that those of all newer suites are links to; a suite may be younger than this debootstrap."""
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "adduser", "ca-certificates", "python3")
_SYSTEM = (
    "/usr/bin/env",
    "-i",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "DEBIAN_FRONTEND=noninteractive",
)
_BOOT = """
set -eu
root=$1
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue" "$root/dev/hugepages"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t cgroup2 none "$root/mnt"
mkdir -p "$root/mnt/$2"
echo 0 > "$root/mnt/$2/cgroup.procs"
mount -t sysfs -o ro sysfs "$root/sys"
mount --bind "$root/mnt/$2" "$root/sys/fs/cgroup"
umount "$root/mnt"
cd "$root"
pivot_root . mnt
umount -l /mnt
# As systemd would by itself, were it not in a container: credentials are mounted by one process for another.
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init --show-status=no
"""


@dataclass(frozen=True, kw_only=True)
class Debian:
    """One system; `init` is the process id of its systemd, 0 while it is not started."""

    suite: str
    root: Path
    init: int = 0

    def run(self, *command: str) -> str:
        """Run a command in it as root and return what it prints; raises RuntimeError where it fails."""
        inside = ["chroot", str(self.root)]
        if self.init:
            inside = [
                "nsenter",
                f"--target={self.init}",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--root",
                "--wd=/",
            ]
        done = subprocess.run([*inside, *_SYSTEM, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{self.suite}: {' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done.stdout

    def install(self, *packages: str) -> None:
        self.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file of root's."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)

    def version(self, package: str) -> str:
        return self.run("dpkg-query", "-W", "-f=${Version}", package)


def make_debian(folder: Path, suite: str) -> Debian:
    """Return a system that is made where there is none yet; needs root, and a mirror."""
    made, ready = Debian(suite=suite, root=folder / suite), folder / f"{suite}.ready"
    if not ready.exists():
        shutil.rmtree(made.root, ignore_errors=True)  # half made, by a try that was cut off
        folder.mkdir(parents=True, exist_ok=True)
        make = ["debootstrap", "--variant=minbase", suite, str(made.root), MIRROR, _SCRIPT]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        made.put("etc/hosts", b"127.0.0.1 localhost\n")
        made.install(*_PACKAGES)
        ready.touch()
    # A mirror may lag behind; what it has is still signed.
    made.run("apt-get", "-o", "Acquire::Check-Valid-Until=false", "update", "-qq")
    return made


@contextmanager
def booted(system: Debian) -> Iterator[Debian]:
    """Start its systemd, and end it with all that it runs."""
    group = f"device-agent-trial-{os.getpid()}-{system.suite}"
    isolate = [
        "unshare",
        "--pid",
        "--mount",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "--propagation=private",
    ]
    with tempfile.TemporaryFile() as log:
        outer = subprocess.Popen(
            [*isolate, "sh", "-c", _BOOT, "sh", system.root, group],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            started = replace(system, init=_child_of(outer.pid))
            _wait_until_up(started)
            yield started
        finally:
            outer.kill()  # its child goes with it, and with that all processes of the system
            outer.wait()


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        os.sched_yield()
    return int(found[0])


def _wait_until_up(system: Debian) -> None:
    program = Path(f"/proc/{system.init}/comm")
    while program.read_text().strip() != "systemd":
        os.sched_yield()
    for _ in range(100):
        try:
            system.run("systemctl", "is-system-running", "--wait")
        except RuntimeError as error:
            if "degraded" in str(error):
                return  # a unit that no container can run
            continue
        return
    raise RuntimeError(f"{system.suite}: systemd did not start")
