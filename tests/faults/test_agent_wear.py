"""Flash wears by writes: an agent that has nothing to renew writes the floor of its clock once a day."""

from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.clock import DeviceClock, now
from tests.device import Table
from tests.power import disk

DAYS = 10
CALLS_A_FILE = 5
"""Create, write, sync, rename, sync the folder."""


async def test_messages_and_lost_connections_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(folder=tmp_path)
    await table.enroll()
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            with disk(monkeypatch, table.state) as watched:
                for hour in range(24 * DAYS):
                    table.ahead = timedelta(hours=hour)
                    table.network.cut()
                    await agent.ready()
                    await agent.publish("telemetry", b"21.5")
    assert watched.calls == 0


def test_a_time_that_is_told_each_hour_is_written_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, passed = now(), timedelta()
    clock = DeviceClock(tmp_path, system=lambda: begin + passed, elapsed=lambda: passed)
    with disk(monkeypatch, tmp_path) as watched:
        for hour in range(24 * DAYS):
            passed = timedelta(hours=hour)
            clock.hear(begin + passed)
    assert watched.calls == DAYS * CALLS_A_FILE
