"""Other programs of the device use its identity: hooks hear of each renewal, `exec` gives the way to it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.device import Table

AGENT = Path(sys.executable).parent / "device-agent"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(folder=tmp_path)


def run(table: Table, *program: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [AGENT, "--state", table.state, *options, "exec", "--", *program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def note_events(table: Table) -> Path:
    """Put a hook into place that notes what it hears, and return where."""
    folder, told = table.state / "post-renew.d", table.folder / "told"
    folder.mkdir(mode=0o755)
    hook = folder / "10-note"
    hook.write_text(f'#!/bin/sh\necho "$DEVICE_AGENT_EVENT $DEVICE_AGENT_SERIAL" >> {told}\n')
    hook.chmod(0o755)
    return told


async def test_a_renewal_is_told_to_the_hooks_with_its_serial(table: Table) -> None:
    await table.enroll()
    told = note_events(table)
    with table.agent() as agent:
        status = await agent.renew_once()
    assert told.read_text().splitlines()[-1].split()[1] == status.serial


async def test_a_program_is_run_with_the_way_to_the_identity(table: Table) -> None:
    await table.enroll()
    script = 'openssl x509 -in "$DEVICE_AGENT_CERT" -noout -subject; cat "$DEVICE_AGENT_KEY" | head -n 1; env'
    found = run(table, "sh", "-c", script)
    assert "d1" in found.stdout.splitlines()[0]
    assert "PRIVATE KEY" in found.stdout
    assert f"DEVICE_AGENT_CURRENT={table.state}/current" in found.stdout


async def test_a_program_s_own_exit_code_comes_through(table: Table) -> None:
    await table.enroll()
    assert run(table, "sh", "-c", "exit 42").returncode == 42


def test_without_an_identity_nothing_is_run(table: Table) -> None:
    found = run(table, "touch", str(table.folder / "ran"))
    assert (found.returncode, found.stderr.splitlines()[0]) == (
        4,
        "error: this device has no certificate yet",
    )
    assert not (table.folder / "ran").exists()


async def test_a_program_that_is_not_there_is_told(table: Table) -> None:
    await table.enroll()
    found = run(table, "no-such-program")
    assert (found.returncode, found.stderr.splitlines()) == (
        6,
        [
            "error: no-such-program cannot be run: no such file or directory",
            "hint: device-agent exec -- PROGRAM [ARGUMENT ...]",
        ],
    )


async def test_exec_without_a_program_is_refused(table: Table) -> None:
    await table.enroll()
    assert run(table).returncode == 2
