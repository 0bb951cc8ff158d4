"""The example units by which other programs hear of a new identity: systemd reads them, a hook feeds them."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.hooks import Change, Hooks

EXAMPLES = Path(__file__).parents[3] / "firmware_scripts/linux/examples"
HOOK = EXAMPLES / "50-tell-systemd"


def change(state: Path, serial: str) -> Change:
    environment = {"DEVICE_AGENT_CURRENT": str(state / "current"), "DEVICE_AGENT_SERIAL": serial}
    return Change(generation=serial, serial=serial, environment=environment)


def watched() -> Path:
    """Return the file that the path unit names."""
    (line,) = [
        line
        for line in (EXAMPLES / "device-identity@.path").read_text().splitlines()
        if line.startswith("PathChanged=")
    ]
    return Path(line.partition("=")[2])


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    # What ExecStart names must be there and run, wherever this is tried.
    for name in ("device-agent", "telemetry"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    for unit in EXAMPLES.glob("*.*"):
        text = unit.read_text().replace("/usr/local/bin/telemetry", str(tmp_path / "telemetry"))
        (tmp_path / unit.name).write_text(text.replace("=device-agent --", f"={tmp_path}/device-agent --"))
    shown = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--man=no",
            *(tmp_path / f"device-identity@telemetry.{kind}" for kind in ("path", "service")),
            tmp_path / "telemetry.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, "")


async def test_the_hook_changes_the_file_that_the_path_unit_watches(tmp_path: Path) -> None:
    folder = tmp_path / "post-renew.d"
    folder.mkdir()
    shutil.copy(HOOK, folder)
    hooks = Hooks(tmp_path, folder, patience=timedelta(seconds=20))
    changed = tmp_path / watched().name
    for event, serial in (("enrolled", "41"), ("renewed", "42")):
        hooks.tell(change(tmp_path, serial))
        assert await hooks.catch_up()
        assert changed.read_text() == f"{event} {serial}\n"
        assert changed.stat().st_mode & 0o077 == 0
    await hooks.tell_end(change(tmp_path, "42").environment)
    assert changed.read_text() == "reset 42\n"


def test_the_path_unit_watches_the_state_folder_of_the_agents_unit() -> None:
    unit = (EXAMPLES.parent / "files/device-agent.service").read_text()
    assert f"--state {watched().parent} run" in unit
    assert f"StateDirectory={watched().parent.name}" in unit
