"""Fleet homes for transcripts: made once and copied, and served on free ports by the embedded broker."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.homes import make_home
from tests.live import configure

BIN = Path(sys.executable).parent


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a person who works in a folder, with the fleet home in it."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "FLEET_HOME": str(folder / "home"),
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two domains; it is copied and never used."""
    root = tmp_path_factory.mktemp("made") / "home"
    configure(make_home(root).home.config, driver="embedded")
    return root


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """Serve the home of a folder, until the body ends."""
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [BIN / "fleet", "serve"], env=environment(folder), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", (folder / "serve.log").read_text()
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        if server.stdout is not None:
            server.stdout.close()


def enroll(folder: Path, device_id: str, *, domain: str = "prod") -> None:
    """Enroll a device with a code, as the tutorial does; its state is in the folder of its name."""
    home = folder / "home"
    port = json.loads((home / "run/endpoints.json").read_text())["mqtt_bootstrap"]["port"]
    claim = f"{home}/trust/{domain}/public-claim"
    command = (
        f"fleet claim create --domain {domain} --device {device_id} --code-only |"
        f" device-agent --state {device_id} enroll --mqtt localhost:{port} --device {device_id}"
        f" --code-file - --claim {claim}.crt,{claim}.key --trust {home}/trust/server.pem"
    )
    subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment(folder), check=True, capture_output=True
    )


def copy_home(made: Path, folder: Path) -> Path:
    """Copy a home into a folder, as `home`."""
    return Path(shutil.copytree(made, folder / "home"))
