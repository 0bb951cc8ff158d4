"""What a device counts and tells of its life, in files, in its status and on its state topic."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.channels.memory import Fault
from device_agent.core.lifecycle import State, state_of
from device_agent.core.stored import StoredRecord
from device_agent.diary import EVENTS, read_events
from device_agent.errors import ChannelError
from device_agent.meter import TALLY, Meter, read_tally
from device_agent.wire.notices import StateReport
from fleet.model import CertificateState
from tests.device import Table
from tests.waiting import until

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(folder=tmp_path)


def events(table: Table) -> list[Mapping[str, object]]:
    return list(read_events(table.state))


def words(table: Table) -> list[object]:
    return [event["event"] for event in events(table)]


async def test_a_life_is_counted_and_told(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            await agent.renew()
            await agent.ready()
            counted = agent.status().counters
    assert counted is not None
    assert (counted["renewals"], counted["failures"]) == (1, {})
    assert words(table) == ["enrolled", "started", "renewed"]
    assert counted == {**counted, "signatures": 2}  # one request for each certificate
    last = events(table)[-1]
    assert (last["name"], last["time_source"]) == ("prod:d1", "system")


async def test_counters_outlive_the_process(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        await agent.renew_once()
        before = agent.status().counters
    with table.agent() as agent:
        after = agent.status().counters
    assert before is not None
    assert after is not None
    assert (after["renewals"], after["since"]) == (1, before["since"])
    kept = read_tally(table.state)
    assert kept is not None
    assert kept.members()["signatures"] == before["signatures"]


async def test_a_failure_is_told_once_counted_each_time_and_its_end_is_told(table: Table) -> None:
    await table.enroll()
    table.network.follow(iter([Fault.LOSE_REPLY] * 3))
    with table.agent() as agent:
        for _ in range(3):
            with pytest.raises(ChannelError):
                await agent.renew_once()
        await agent.renew_once()
        counted = agent.status().counters
    assert counted is not None
    assert counted["failures"] == {"unreachable": 3}
    assert words(table) == ["enrolled", "failed", "renewed", "works-again"]
    failed, again = events(table)[1], events(table)[-1]
    assert (failed["problem"], again["after"]) == ("unreachable", "unreachable")


async def test_the_state_topic_tells_the_counters(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            told = [body for topic, body in table.network.published if topic.endswith("/state")]
    report = StateReport.parse(told[-1])
    assert set(report.counters) == {"renewals", "failures", "signatures", "connections", "writes"}
    assert (report.counters["connections"], report.time_source) == (2, "system")
    assert StateReport.parse(report.encode()) == report


async def test_the_state_of_an_older_agent_is_read_without_counters() -> None:
    body = {"v": 1, "type": "state", "agent": "0.1", "serial": "4" * 32, "anchors": [], "problem": None}
    assert StateReport.parse(json.dumps(body).encode()).counters == {}


async def test_every_file_is_counted_as_a_write(table: Table) -> None:
    await table.enroll()
    kept = read_tally(table.state)
    assert kept is not None
    assert kept.writes >= 10
    assert kept.written_bytes > (table.state / "record").stat().st_size


def test_counters_are_written_once_an_hour_at_most(tmp_path: Path) -> None:
    seconds = 0.0
    meter = Meter(tmp_path, now=NOW, seconds=lambda: seconds)
    written: list[float] = []
    for minute in range(24 * 60):
        seconds = minute * 60.0
        meter.failed("unreachable")
        before = read_tally(tmp_path)
        meter.keep_in_time()
        if read_tally(tmp_path) != before:
            written.append(seconds)
    assert len(written) == 23
    assert meter.tally.writes == 23


def test_counters_that_cannot_be_read_begin_anew(tmp_path: Path) -> None:
    (tmp_path / TALLY).write_bytes(b"junk")
    meter = Meter(tmp_path, now=NOW)
    meter.renewed()
    meter.keep()
    kept = read_tally(tmp_path)
    assert kept is not None
    assert (kept.renewals, kept.since) == (1, NOW)


async def test_a_folder_that_takes_no_events_stops_no_renewal(table: Table) -> None:
    await table.enroll()
    (table.state / EVENTS).unlink()
    (table.state / EVENTS).mkdir()
    with table.agent() as agent:
        before = agent.status().serial
        assert (await agent.renew_once()).serial != before


async def test_a_factory_reset_forgets_what_was_counted(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        agent.reset()
        assert state_of(agent.record.life) is State.BLANK
    assert not (table.state / EVENTS).exists()
    assert not (table.state / TALLY).exists()


async def test_hooks_hear_of_a_factory_reset_when_the_identity_is_gone(table: Table, tmp_path: Path) -> None:
    await table.enroll()
    told, folder = tmp_path / "told", table.state / "post-renew.d"
    folder.mkdir()
    hook = folder / "10-stop"
    hook.write_text(
        "#!/bin/sh\n"
        f'test -e "$DEVICE_AGENT_CURRENT" && exit 1\n'
        f'echo "$DEVICE_AGENT_EVENT $DEVICE_AGENT_NAME" > {told}\n'
    )
    hook.chmod(0o755)
    with table.agent() as agent:
        await agent.reset_and_tell()
    assert told.read_text() == "reset prod:d1\n"


def ill(table: Table) -> AbstractContextManager[Agent]:
    """Return the agent of a device whose server wants every certificate renewed at once."""
    table.server.renew_after = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    return table.agent()


async def test_a_server_whose_certificates_are_always_due_wears_no_flash_out(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_agent.driver._SHORTEST_REST", timedelta())
    await table.enroll()
    with ill(table) as agent:
        agent._life.keep(_due(agent))
        async with agent.connected():
            await until(lambda: _renewals(agent) == 24)
            asked = await agent.renew()
            counted = _renewals(agent)
    assert counted == 25
    assert asked.serial is not None
    live = [state for state in table.server.states().values() if state is CertificateState.ACTIVE]
    assert len(live) == 1


def _renewals(agent: Agent) -> int:
    counters = agent.status().counters
    assert counters is not None
    found = counters["renewals"]
    assert isinstance(found, int)
    return found


def _due(agent: Agent) -> StoredRecord:
    record = agent.record
    assert record.life.active is not None
    active = replace(record.life.active, renew_after=record.life.active.not_before)
    return replace(record, life=replace(record.life, active=active))


async def test_a_server_that_wishes_another_day_each_second_wears_no_flash_out(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        active, before = agent.record.life.active, agent.status().counters
        assert active is not None
        assert before is not None
        for minute in range(1000):
            agent._life.wish(active.serial, active.not_before + timedelta(minutes=minute + 1))
        after = agent.status().counters
    assert after is not None
    assert isinstance(after["writes"], int)
    assert isinstance(before["writes"], int)
    assert after["writes"] - before["writes"] <= 2 * 24
