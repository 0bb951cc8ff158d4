"""Tries the packages on real Debian systems: installed, enrolled, connected, renewed, upgraded, removed.

    python -m tests.debian_trial [--folder DIR] [SUITE...]        (as root; `make debian`)

Each system is made by debootstrap, with its own Python, cryptography and OpenSSL, and started with its own
systemd, so that the units run as they are shipped: their user, their sandbox, their watchdog, their journal.
The server is a fleet of this tree on this machine. What it prints stands in docs/reference/packages.md.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firmware_scripts.packages.dated_build import moment_of_build
from firmware_scripts.packages.deb import build_deb
from firmware_scripts.packages.tree import ROOT
from firmware_scripts.packages.zipapp import build_zipapp
from tests.chroots import Debian, booted, make_debian

SUITES = ("bookworm", "trixie", "forky")
_AGENT = ("runuser", "-u", "device-agent", "--", "device-agent", "--state", "/var/lib/device-agent")
_BIN = Path(sys.executable).parent
_PATIENCE_SECONDS = 60


def _fleet(*arguments: str) -> None:
    subprocess.run([_BIN / "fleet", *arguments], check=True, capture_output=True)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A running server; `port` is its bootstrap listener's."""

    home: Path
    port: int

    def admit(self, device: str, *, batch: str) -> None:
        """Register a device, and make a claim for its batch."""
        listing = self.home / f"{batch}.csv"
        listing.write_text(f"device_id,batch\n{device},{batch}\n")
        self._run("device", "import", str(listing))
        claim = ("--batch", batch, "--count", "1", "--certificate", "--out", str(self.home / "claims"))
        self._run("claim", "create", *claim)

    def overlay(self, batch: str) -> list[tuple[str, bytes, int]]:
        """Return what an image of a batch has in /etc/device-agent: names, contents and modes."""
        claims = self.home / "claims"
        settings = f"BOOTSTRAP=localhost:{self.port}\nID_PREFIX={batch}-\n"
        return [
            ("settings", settings.encode(), 0o644),
            ("trust.pem", (self.home / "trust/server.pem").read_bytes(), 0o644),
            ("claim.crt", (claims / f"{batch}.crt").read_bytes(), 0o644),
            ("claim.key", (claims / f"{batch}.key").read_bytes(), 0o600),
        ]

    def _run(self, *arguments: str) -> None:
        _fleet("--home", str(self.home), *arguments)


@contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    """Run a fleet with the embedded broker on free ports."""
    home = folder / "home"
    _fleet("init", "--home", str(home), "--name", "acme")
    settings = re.sub(r"_port = \d+", "_port = 0", (home / "fleet.toml").read_text())
    (home / "fleet.toml").write_text(re.sub(r'driver = "\w+"', 'driver = "embedded"', settings))
    server = subprocess.Popen(
        [_BIN / "fleet", "--home", home, "serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()
        told = json.loads((home / "run/endpoints.json").read_text())
        yield Fleet(home=home, port=int(told["mqtt_bootstrap"]["port"]))
    finally:
        server.terminate()
        server.wait()


class Trial:
    """One system's way through the life of the package; each method is a step, and raises where it fails."""

    def __init__(self, system: Debian, fleet: Fleet, packages: Path) -> None:
        self._system, self._fleet, self._packages = system, fleet, packages

    def installed(self) -> str:
        """The package installs, makes its user and enables its units."""
        self._system.run("dpkg", "--purge", "device-agent")
        self._install("1")
        self._system.run("getent", "passwd", "device-agent")
        self._system.run("systemctl", "is-enabled", "device-agent.service", "device-agent-enroll.service")
        return f"{self._system.version('device-agent')}, cryptography {self._library()}"

    def ran_from_the_zipapp(self) -> str:
        """The zipapp runs beside it, on the system's cryptography."""
        self._system.put(
            "opt/device-agent.pyz", (self._packages / "device-agent.pyz").read_bytes(), mode=0o755
        )
        told = json.loads(self._system.run("/opt/device-agent.pyz", "--state", "/none", "status", "--json"))
        return f"enrolled: {told['enrolled']}"

    def enrolled(self) -> str:
        """The unit of the first boot enrolls the device by the claim of its batch."""
        number = self._system.run("cat", "/etc/machine-id").strip()
        device = f"{self._system.suite}-{number}"
        self._fleet.admit(device, batch=self._system.suite)
        for name, content, mode in self._fleet.overlay(self._system.suite):
            self._system.put(f"etc/device-agent/{name}", content, mode=mode)
        self._system.run("timeout", "60", "systemctl", "start", "device-agent-enroll.service")
        return str(self._status()["name"])

    def connected(self) -> str:
        """The agent's unit becomes ready, in its sandbox, and connects."""
        began = time.monotonic()
        self._system.run("systemctl", "start", "device-agent.service")
        self._wait(lambda status: bool(status["connected"]))
        took = time.monotonic() - began
        limits = self._of_process("Uid", "NoNewPrivs", "Seccomp", "CapBnd", "VmRSS")
        assert limits["Uid"].split()[0] != "0", limits
        assert (limits["NoNewPrivs"], limits["Seccomp"], int(limits["CapBnd"], 16)) == ("1", "2", 0), limits
        return f"after {took:.1f} s, {int(limits['VmRSS'].split()[0]) / 1024:.0f} MB resident"

    def renewed(self) -> str:
        """A renewal is asked for as the agent's user."""
        before = self._status()["serial"]
        told = json.loads(self._system.run(*_AGENT, "renew", "--json"))
        assert told["serial"] != before
        return "another serial, another key"

    def logged(self) -> str:
        """The journal has what was logged, as fields."""
        lines = self._system.run(
            "journalctl", "-u", "device-agent.service", "-o", "json", "--no-pager"
        ).splitlines()
        entries = [json.loads(line) for line in lines]
        made = [
            entry["KEY"] for entry in entries if entry.get("LOGGER") == "device_agent.life" and "KEY" in entry
        ]
        return f"the new key is in the field KEY: {made[-1]}"

    def watched(self) -> str:
        """A process that stands still is started anew by the watchdog."""
        unit = b"[Service]\nWatchdogSec=3\nRestartSec=0\n"
        self._system.put("etc/systemd/system/device-agent.service.d/trial.conf", unit)
        self._system.run("systemctl", "daemon-reload")
        self._system.run("systemctl", "restart", "device-agent.service")
        before = self._property("MainPID")
        self._system.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "device-agent.service")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._property("NRestarts") == "0" or self._property("MainPID") in (before, "0"):
            assert time.monotonic() < deadline, "the watchdog did nothing"
        self._wait(lambda status: bool(status["connected"]))
        return f"result of the one before: {self._property('NRestarts')} restart"

    def upgraded(self) -> str:
        """The next version keeps identity, settings and service."""
        before, settings = self._status(), self._system.run("cat", "/etc/device-agent/settings")
        self._install("2")
        self._wait(lambda status: bool(status["connected"]))
        assert self._status()["serial"] == before["serial"]
        assert self._system.run("cat", "/etc/device-agent/settings") == settings
        return self._system.version("device-agent")

    def removed(self) -> str:
        """Removal stops the service and keeps the identity; a purge takes it along."""
        self._system.run("apt-get", "remove", "-y", "-qq", "device-agent")
        assert self._property("ActiveState") == "inactive"
        self._system.run("test", "-e", "/var/lib/device-agent/current/cert.pem")
        self._install("2")
        self._wait(lambda status: bool(status["connected"]))
        self._system.run("apt-get", "purge", "-y", "-qq", "device-agent")
        self._system.run("test", "!", "-e", "/var/lib/device-agent")
        self._system.run("test", "!", "-e", "/usr/share/device-agent")
        return "identity kept by remove, gone by purge"

    def _install(self, release: str) -> None:
        name = next(self._packages.glob(f"*+{release}_all.deb"))
        self._system.put(f"opt/{name.name}", name.read_bytes())
        self._system.install(f"/opt/{name.name}")

    def _status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self._system.run(*_AGENT, "status", "--json"))
        return found

    def _wait(self, wanted: Callable[[dict[str, object]], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not wanted(self._status()):
            assert time.monotonic() < deadline, self._system.run("journalctl", "-n", "30", "--no-pager")

    def _property(self, name: str) -> str:
        return self._system.run(
            "systemctl", "show", "--value", f"--property={name}", "device-agent.service"
        ).strip()

    def _of_process(self, *names: str) -> dict[str, str]:
        text = self._system.run("cat", f"/proc/{self._property('MainPID')}/status")
        found = dict(line.split(":", 1) for line in text.splitlines())
        return {name: found[name].strip() for name in names}

    def _library(self) -> str:
        show = "print(cryptography.__version__, platform.python_version(), ssl.OPENSSL_VERSION)"
        told = self._system.run("python3", "-c", f"import cryptography, platform, ssl; {show}")
        library, python, *openssl = told.split()
        return f"{library}, Python {python}, {' '.join(openssl[:2])}"


_STEPS = (
    Trial.installed,
    Trial.ran_from_the_zipapp,
    Trial.enrolled,
    Trial.connected,
    Trial.renewed,
    Trial.logged,
    Trial.watched,
    Trial.upgraded,
    Trial.removed,
)


def packages(folder: Path) -> Path:
    """Build the packages, and the next version of the Debian one."""
    moment = moment_of_build(ROOT)
    for release in ("+1", "+2"):
        build_deb(folder, moment=moment, release=release)
    build_zipapp(folder, moment=moment)
    return folder


def _do(step: Callable[[Trial], str], trial: Trial, system: Debian) -> None:
    began = time.monotonic()
    try:
        told = step(trial)
    except (AssertionError, RuntimeError):
        print(system.run("journalctl", "-n", "40", "--no-pager"), file=sys.stderr)
        raise
    took = time.monotonic() - began
    print(f"{system.suite:<10}{step.__name__:<22}{took:>5.1f} s  {told}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/device-agent-debian"), metavar="DIR")
    parser.add_argument("suites", nargs="*", default=SUITES, metavar="SUITE")
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        print("error: this needs root and debootstrap", file=sys.stderr)
        print("hint: apt-get install debootstrap, then sudo make debian", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, running_fleet(Path(name)) as fleet:
        built = packages(Path(name))
        for suite in options.suites:
            with booted(make_debian(options.folder, suite)) as system:
                trial = Trial(system, fleet, built)
                for step in _STEPS:
                    _do(step, trial, system)
    return 0


if __name__ == "__main__":
    sys.exit(main())
