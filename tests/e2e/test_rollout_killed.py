"""A server that is killed in the midst of a wave goes on with it: nobody is left out or told twice."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.store.sqlite import open_store
from tests.homes import FleetHome
from tests.live import make_live_home
from tests.rollouts import Plant, plan_text, plant_devices

FLEET = Path(sys.executable).parent / "fleet"
MANY = 60
KILLS = 3


@pytest.fixture
def home(tmp_path: Path) -> FleetHome:
    made = make_live_home(tmp_path / "home", driver="embedded")
    # One operator may start it alone.
    made.home.config.write_text(made.home.config.read_text() + "[acts]\npercent = 100\n")
    names = tuple(f"d-{number:02}" for number in range(MANY))
    plant = Plant(names=names, issuer="40" * 20, at=datetime.now(UTC).replace(microsecond=0))

    async def write() -> None:
        async with open_store(made.home.database) as store:
            await store.write(plant_devices, plant)

    asyncio.run(write())
    return made


@contextmanager
def served(home: FleetHome) -> Iterator[subprocess.Popen[str]]:
    """Serve a home until it is killed; by its own process, never by name."""
    command = [FLEET, "--home", home.home.root, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield server
        finally:
            server.send_signal(signal.SIGKILL)


def fleet(home: FleetHome, *arguments: str, given: str = "") -> dict[str, object]:
    done = subprocess.run(
        [FLEET, *arguments, "--home", home.home.root, "--json"],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def told(home: FleetHome) -> int:
    with sqlite3.connect(f"file:{home.home.database}?mode=ro", uri=True) as database:
        (count,) = database.execute("SELECT COUNT(*) FROM rollout_devices WHERE state = 'told'").fetchone()
    return int(count)


def until_more(home: FleetHome, before: int) -> int:
    deadline = time.monotonic() + 60
    while (count := told(home)) <= before:
        assert time.monotonic() < deadline, "nobody more is told"
    return count


def test_a_wave_goes_on_where_the_server_was_killed(home: FleetHome) -> None:
    count = 0
    text = plan_text(waves=f'["{MANY - 1}", "rest"]').replace("3000", "600").replace("10m", "10h")
    for kill in range(KILLS):
        with served(home):
            if kill == 0:
                fleet(home, "rollout", "plan", "-", given=text)
                fleet(home, "rollout", "start", "spring")
            count = until_more(home, count)
    with sqlite3.connect(home.home.database) as database:
        pairs = (
            "SELECT COUNT(*) FROM rollout_devices r JOIN devices d ON d.device_id = r.device_id"
            " JOIN early_renewals e ON e.serial = d.current_serial"
            " JOIN notices n ON n.device_id = d.device_id AND n.wanted = 1 WHERE r.state = 'told'"
        )
        (whole,) = database.execute(pairs).fetchone()
        (due,) = database.execute("SELECT COUNT(*) FROM early_renewals").fetchone()
        (counted,) = database.execute("SELECT SUM(told) FROM rollout_waves").fetchone()
    assert whole == due == counted == told(home)
    assert count < MANY
