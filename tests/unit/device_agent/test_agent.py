"""The agent against the server's real core, over a line in memory that fails as it is told."""

import asyncio
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.channels.memory import Fault
from device_agent.core.lifecycle import State, state_of
from device_agent.errors import (
    BadInputError,
    ChannelError,
    LockedError,
    NotAdmittedError,
    NotEnrolledError,
    RefusedError,
)
from device_agent.wire.notices import Notice, StateReport
from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.model import CertificateState
from tests.device import Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(folder=tmp_path)


async def until(is_so: Callable[[], bool]) -> None:
    """Let the other tasks go on until it is so; nothing in memory takes five seconds."""
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - nothing rings a bell for a test
            await asyncio.sleep(0)


class Image:
    """All files of a folder, as a backup of the disk holds them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def restore(self) -> None:
        shutil.rmtree(self._folder)
        for name, content in self._files.items():
            path = self._folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(content)


def serial_of(agent: Agent) -> str:
    serial = agent.status().serial
    assert serial is not None
    return serial


async def test_enrollment_ends_connected_once_confirmed_and_settled(table: Table) -> None:
    with table.agent() as agent:
        status = await agent.enroll_mqtt(table.enrollment())
    assert (status.name, status.state) == ("prod:d1", State.SETTLED)
    assert table.server.states() == {status.serial: CertificateState.ACTIVE}
    assert agent.record.life.proof is None


async def test_the_identity_stands_in_current_for_other_programs(table: Table) -> None:
    await table.enroll()
    current = table.state / "current"
    assert sorted(path.name for path in current.iterdir()) == [
        "cert.pem",
        "chain.pem",
        "key.pem",
        "servers.pem",
        "trust.pem",
    ]
    assert "PRIVATE KEY" in (current / "key.pem").read_text()


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
@pytest.mark.parametrize("at", range(3))
async def test_enrollment_that_failed_goes_on_with_the_same_key(table: Table, fault: Fault, at: int) -> None:
    table.network.follow(chain(repeat(Fault.NONE, at), [fault]))
    with table.agent() as agent:
        try:
            await agent.enroll_mqtt(table.enrollment())
        except ChannelError:
            key = agent.record.life.pending
            await agent.enroll_mqtt(table.enrollment())
            assert key is not None
            assert agent.status().key == key.key
    assert list(table.server.states().values()) == [CertificateState.ACTIVE]


async def test_a_wrong_code_is_refused_and_a_right_one_gets_a_new_key(table: Table) -> None:
    with table.agent() as agent:
        with pytest.raises(RefusedError) as caught:
            await agent.enroll_mqtt(table.enrollment(code="WRNG"))
        assert caught.value.code is ProblemCode.CODE_INVALID
        refused = agent.record.life.pending
        status = await agent.enroll_mqtt(table.enrollment())
    assert refused is not None
    assert status.key != refused.key
    assert [path.stem for path in (table.state / "keys").iterdir()] == [status.key]


async def test_a_code_is_gone_from_the_disk_once_the_certificate_is_settled(table: Table) -> None:
    await table.enroll()
    for path in table.state.rglob("*"):
        if path.is_file():
            assert b"ABCD-EFGH" not in path.read_bytes()


async def test_a_device_that_is_enrolled_is_not_enrolled_again_by_mistake(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent, pytest.raises(BadInputError, match="already, as prod:d1"):
        await agent.enroll_mqtt(table.enrollment())


async def test_another_device_id_gets_another_key(table: Table) -> None:
    table.network.follow(repeat(Fault.LOSE_REQUEST))
    with table.agent() as agent:
        keys = []
        for device_id in ("d2", "d1"):
            with pytest.raises(ChannelError):
                await agent.enroll_mqtt(table.enrollment(device_id=device_id))
            keys.append(agent.record.life.pending)
    assert keys[0] != keys[1]


@pytest.mark.parametrize("device_id", ["a/b", "+", "#", "d1\n", "x" * 65, "", "d\u0456"])
async def test_a_hostile_device_id_is_bad_input_and_changes_nothing(table: Table, device_id: str) -> None:
    with table.agent() as agent, pytest.raises(BadInputError):
        await agent.enroll_mqtt(table.enrollment(device_id=device_id))
    assert not (table.state / "record").exists()


async def test_renewal_switches_to_a_new_key_and_retires_the_old_one(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        before = agent.status()
        after = await agent.renew_once()
    assert (after.serial, after.key) != (before.serial, before.key)
    assert list(table.server.states().values()) == [
        CertificateState.SUPERSEDED_ACKED,
        CertificateState.ACTIVE,
    ]
    assert [path.stem for path in (table.state / "keys").iterdir()] == [after.key]


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
@pytest.mark.parametrize("at", range(3))
async def test_renewal_that_failed_leaves_a_working_certificate_and_ends_at_the_next_try(
    table: Table, fault: Fault, at: int
) -> None:
    await table.enroll()
    table.network.follow(chain(repeat(Fault.NONE, at), [fault]))
    with table.agent() as agent:
        try:
            await agent.renew_once()
        except ChannelError:
            assert table.server.live
            await agent.renew_once()
        assert serial_of(agent) in table.server.live
    assert len(table.server.live) == 1


async def test_a_refused_renewal_keeps_the_connection_and_the_certificate(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        before = serial_of(agent)
        async with agent.connected():
            await agent.ready()
            table.server.act(events.Suspend())
            with pytest.raises(RefusedError):
                await agent.renew()
            assert agent.status().connected
            table.server.act(events.Resume())
            await agent.renew()
            assert serial_of(agent) > before


async def test_messages_go_out_and_come_in_on_the_devices_own_topics(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        async with agent.connected(), agent.messages("cmd/+") as messages:
            await agent.ready()
            await agent.publish("hello", b"1")
            table.network.deliver("devices/prod/d1/cmd/stop", b"now")
            message = await anext(messages)
    assert (message.topic, message.payload) == ("cmd/stop", b"now")
    assert ("devices/prod/d1/hello", b"1") in table.network.published


async def test_publishing_waits_through_a_lost_connection_and_a_renewal(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            async with asyncio.TaskGroup() as group:
                group.create_task(agent.publish("n", b"1"))
                table.network.cut()
                group.create_task(agent.publish("n", b"2"))
                await agent.renew()
                group.create_task(agent.publish("n", b"3"))
    sent = {payload for topic, payload in table.network.published if topic == "devices/prod/d1/n"}
    assert sent == {b"1", b"2", b"3"}


async def test_a_lost_connection_is_made_again(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            table.network.cut()
            assert not agent.status().connected
            await agent.ready()
            assert agent.status().connected


async def test_the_state_topic_tells_version_serial_and_anchors(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        async with agent.connected():
            await agent.ready()
            await agent.publish("sync", b"")
        states = [body for topic, body in table.network.published if topic == "fleet/v1/prod/d1/state"]
        report = StateReport.parse(states[-1])
        assert report.serial == serial_of(agent)
        assert report.anchors == agent.status().anchors


async def test_a_notice_with_a_time_in_the_past_renews_once_and_not_again(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        before = serial_of(agent)
        past = datetime.now(UTC) - timedelta(days=1)
        notice = Notice(serial=before, renew_after=past).encode()
        async with agent.connected():
            await agent.ready()
            table.network.deliver("fleet/v1/prod/d1/notice", notice)
            await until(lambda: serial_of(agent) != before)
            after = serial_of(agent)
            table.network.deliver("fleet/v1/prod/d1/notice", notice)
            await agent.publish("sync", b"")
        assert serial_of(agent) == after


@pytest.mark.parametrize(
    "body", [b"", b"junk", b"{}", b'{"v":2,"type":"notice"}', json.dumps({"v": 1}).encode() * 9000]
)
async def test_a_notice_that_is_none_changes_nothing(table: Table, body: bytes) -> None:
    await table.enroll()
    with table.agent() as agent:
        before = agent.record
        async with agent.connected():
            await agent.ready()
            table.network.deliver("fleet/v1/prod/d1/notice", body)
        assert agent.record == before


async def test_an_expired_certificate_is_renewed_at_the_recovery_listener(table: Table) -> None:
    table.server.lifetime = timedelta(hours=2)
    await table.enroll()
    table.server.lifetime = timedelta(days=20)
    table.ahead = timedelta(hours=2)
    with table.agent() as agent:
        before = serial_of(agent)
        assert agent.status().expired
        table.server.expire(before)
        await agent.renew_once()
        assert table.server.live == {serial_of(agent)} != {before}


async def test_a_device_restored_from_before_its_answer_finds_it_again_at_recovery(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        # The renewal, then renewal and confirmation, then the word that the older slot is gone.
        table.network.follow(iter([Fault.LOSE_REQUEST, Fault.NONE, Fault.NONE, Fault.LOSE_REQUEST]))
        with pytest.raises(ChannelError):
            await agent.renew_once()
        image = Image(table.state)
        await agent.renew_once()
        renewed = serial_of(agent)
    image.restore()
    with table.agent() as agent:
        async with agent.connected():
            await until(lambda: serial_of(agent) == renewed)
    assert table.server.live == {renewed}


async def test_a_revoked_device_is_refused_and_keeps_what_it_has(table: Table) -> None:
    await table.enroll()
    table.server.act(events.Revoke())
    with table.agent() as agent:
        before = agent.record
        with pytest.raises((RefusedError, NotAdmittedError)):
            await agent.renew_once()
        assert agent.record.life.active == before.life.active
        assert agent.record.life.pending is not None


async def test_running_without_a_certificate_says_what_to_do(table: Table) -> None:
    with table.agent() as agent, pytest.raises(NotEnrolledError) as caught:
        await agent.run()
    assert caught.value.hint == "device-agent enroll"


async def test_run_goes_on_with_an_enrollment_that_was_interrupted(table: Table) -> None:
    table.network.follow(iter([Fault.LOSE_REPLY]))
    with table.agent() as agent, pytest.raises(ChannelError):
        await agent.enroll_mqtt(table.enrollment())
    with table.agent() as agent:
        async with agent.connected():
            await until(lambda: agent.status().enrolled)
            assert serial_of(agent) in table.server.live


async def test_a_second_agent_does_not_start(table: Table) -> None:
    with table.agent(), pytest.raises(LockedError), table.agent():
        pass


async def test_reset_leaves_no_key_and_no_record(table: Table) -> None:
    await table.enroll()
    with table.agent() as agent:
        agent.reset()
        assert state_of(agent.record.life) is State.BLANK
    assert [path for path in table.state.rglob("*") if path.is_file()] == [table.state / "lock"]
