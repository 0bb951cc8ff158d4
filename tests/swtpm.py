"""A real TPM 2.0 for tests: swtpm on free loopback ports, its endorsement key certified by its vendor."""

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TRIES = 20
_PAUSE = 0.01
_FIRST_PORT = 10000
_SETUP = """
create_certs_tool = {tool}
create_certs_tool_config = {folder}/localca.conf
create_certs_tool_options = {folder}/localca.options
active_pcr_banks = sha256
"""
_LOCALCA = """
statedir = {folder}/vendor
signingkey = {folder}/vendor/signkey.pem
issuercert = {folder}/vendor/issuer.pem
certserial = {folder}/vendor/certserial
"""


_OPTIONS = """--platform-manufacturer Test
--platform-version 1.0
--platform-model QEMU
"""


@dataclass(frozen=True, kw_only=True)
class SwTpm:
    """A TPM that runs."""

    port: int
    folder: Path

    @property
    def place(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    @property
    def anchors(self) -> Path:
        """The vendor's root and issuing CA, PEM."""
        path = self.folder / "anchors.pem"
        vendor = self.folder / "vendor"
        roots = (vendor / "swtpm-localca-rootca-cert.pem").read_bytes()
        path.write_bytes(roots + (vendor / "issuer.pem").read_bytes())
        return path

    def tool(self, *command: str | Path) -> bytes:
        """Run one of the tpm2-tools on it."""
        environment = {**os.environ, "TPM2TOOLS_TCTI": self.place, "TSS2_LOG": "all+none"}
        words = [str(word) for word in command]
        run = subprocess.run(words, env=environment, cwd=self.folder, check=True, capture_output=True)
        subprocess.run(["tpm2_flushcontext", "-t"], env=environment, check=True, capture_output=True)
        return run.stdout

    def stop(self) -> None:
        """End its process, as if it were pulled."""
        subprocess.run(["swtpm_ioctl", "--tcp", f"127.0.0.1:{self.port + 1}", "-s"], check=True)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Run it again where it was, as long as the body does."""
        with _process(self.port, self.folder / "state") as process:
            assert _answers(self.port, process)
            yield


@contextmanager
def running_tpm(folder: Path, *, certified: bool = True) -> Iterator[SwTpm]:
    """Make a TPM in a folder, and run it as long as the body does."""
    state = folder / "state"
    state.mkdir(parents=True)
    (folder / "vendor").mkdir()
    (folder / "localca.options").write_text(_OPTIONS)
    (folder / "localca.conf").write_text(_LOCALCA.format(folder=folder))
    tool = "/usr/bin/swtpm_localca"
    (folder / "setup.conf").write_text(_SETUP.format(folder=folder, tool=tool))
    setup = ["swtpm_setup", "--tpm2", "--config", folder / "setup.conf", "--tpmstate", f"dir://{state}"]
    certificate = ["--create-ek-cert"] if certified else []
    subprocess.run([*map(str, setup), *certificate], check=True, capture_output=True)
    for _ in range(_TRIES):
        port = _free_pair()
        with _process(port, state) as process:
            if _answers(port, process):
                yield SwTpm(port=port, folder=folder)
                return
    raise RuntimeError("swtpm found no free ports")


@contextmanager
def _process(port: int, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
            *("--server", f"type=tcp,port={port},bindaddr=127.0.0.1"),
            *("--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"),
            *("--flags", "not-need-init,startup-clear"),
        ],
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def _free_pair() -> int:
    """Return a free port whose successor is free: tpm2-tools look for the control channel there.

    Both lie below the ports that the system gives to clients: whoever asks such a port, again and again,
    whether somebody listens there is at last given the same port for his own end, and hears himself.
    """
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_FIRST_PORT, first_of_clients - 1)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    while process.poll() is None:
        with socket.socket() as probe:
            # The control channel takes any number of connections; the TPM itself one at a time.
            if probe.connect_ex(("127.0.0.1", port + 1)) == 0:
                return True
        time.sleep(_PAUSE)
    return False
