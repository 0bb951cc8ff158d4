"""The ladder of recovery on a whole agent: each rung by itself, and by an operator's code."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.channels.memory import Fault, Heard
from device_agent.core.ladder import Rung
from device_agent.core.lifecycle import State
from device_agent.errors import (
    AgentError,
    BadInputError,
    ChannelError,
    KeyStoreError,
    NotAdmittedError,
    NotEnrolledError,
    RefusedError,
)
from device_agent.recovering import Recovery, move_keys
from device_agent.status import Status
from device_agent.wire.fields import Fields
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import HttpsAddress, Reply
from device_agent.wire.requests import Request
from device_agent.wire.secret import Secret
from fleet.core import events
from fleet.model import CertificateState
from tests.device import Table
from tests.sealing import SECRET, hand_over

SECOND = "SECN-DCDE-2222-2222"


@pytest.fixture
async def table(tmp_path: Path) -> Table:
    made = Table(folder=tmp_path)
    await enroll(made)
    return made


async def enroll(table: Table) -> None:
    """Enroll a device whose first certificate ends soon, and whose later ones do not."""
    table.server.lifetime = timedelta(hours=2)
    await table.enroll()
    table.server.lifetime = timedelta(days=20)


def code(text: str = SECOND) -> Recovery:
    return Recovery(code=Secret(text))


def serial_of(status: Status) -> str:
    assert status.serial is not None
    return status.serial


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - nothing rings a bell for a test
            await asyncio.sleep(0)


def end(table: Table) -> str:
    """Let the certificate expire, and its grace pass."""
    (serial,) = table.server.live
    table.server.expire(serial)
    table.server.act(events.GraceOver(serial=serial))
    table.ahead = timedelta(hours=2)
    return serial


def lose_keys(table: Table) -> None:
    for key in (table.state / "keys").iterdir():
        key.unlink()


async def fails_to_renew(agent: Agent) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await agent.renew_once()
    return caught.value


async def test_a_device_that_is_well_stands_on_the_ground(table: Table) -> None:
    with table.agent() as agent:
        status = await agent.renew_once()
    assert (status.rung, status.rung_since, status.needs) == (Rung.CERTIFICATE, None, None)


async def test_expired_for_long_it_says_that_a_code_is_needed_and_comes_back_by_it(table: Table) -> None:
    before = end(table)
    with table.agent() as agent:
        await fails_to_renew(agent)
        status = agent.status()
        assert (status.rung, status.rung_why) == (Rung.CODE, ProblemCode.NOT_CURRENT)
        assert "fleet claim create --domain prod --device d1" in (status.needs or "")
        table.server.hand_out(SECOND)
        recovered = await agent.recover_once(code())
    assert (recovered.name, recovered.rung, recovered.state) == ("prod:d1", Rung.CERTIFICATE, State.SETTLED)
    assert table.server.states() == {
        before: CertificateState.SUPERSEDED_ACKED,
        recovered.serial: CertificateState.ACTIVE,
    }


async def test_a_clock_that_is_behind_keeps_no_expired_device_out(table: Table) -> None:
    (serial,) = table.server.live
    table.server.expire(serial)
    with table.agent() as agent:
        assert not agent.status().expired
        async with agent.connected():
            await until(lambda: agent.status().serial != serial)
        assert table.server.live == {agent.status().serial}


async def test_what_was_needed_is_known_after_a_restart_and_since_when(table: Table) -> None:
    end(table)
    with table.agent() as agent:
        await fails_to_renew(agent)
        since = agent.status().rung_since
    table.ahead += timedelta(hours=3)
    with table.agent() as agent:
        await fails_to_renew(agent)
        assert (agent.status().rung, agent.status().rung_since) == (Rung.CODE, since)


async def test_a_server_that_is_away_does_not_make_an_old_answer_untrue(table: Table) -> None:
    end(table)
    with table.agent() as agent:
        await fails_to_renew(agent)
        table.network.follow(iter([Fault.LOSE_REQUEST] * 9))
        assert isinstance(await fails_to_renew(agent), ChannelError)
        assert agent.status().rung == Rung.CODE


async def test_a_lost_key_needs_a_code_and_nothing_is_asked_without_it(table: Table) -> None:
    lose_keys(table)
    with table.agent() as agent:
        assert isinstance(await fails_to_renew(agent), KeyStoreError)
        assert (agent.status().rung, agent.status().rung_why) == (Rung.CODE, "key-lost")
        table.server.hand_out(SECOND)
        recovered = await agent.recover_once(code())
        assert (recovered.rung, recovered.name) == (Rung.CERTIFICATE, "prod:d1")
    assert table.server.live == {recovered.serial}


async def test_a_key_that_is_lost_on_its_way_is_replaced_by_itself(table: Table) -> None:
    table.network.follow(iter([Fault.LOSE_REPLY]))
    with table.agent() as agent:
        await fails_to_renew(agent)
        pending = agent.record.life.pending
        assert pending is not None
        (table.state / "keys" / f"{pending.key}.pem").unlink()
        await fails_to_renew(agent)
        renewed = await agent.renew_once()
    assert table.server.live == {renewed.serial}
    assert renewed.rung == Rung.CERTIFICATE


async def test_a_suspended_device_needs_an_operator_and_goes_on_by_itself_once_resumed(table: Table) -> None:
    with table.agent() as agent:
        table.server.act(events.Suspend())
        async with agent.connected():
            await until(lambda: agent.status().rung == Rung.OPERATOR)
            assert "fleet device resume d1 --domain prod" in (agent.status().needs or "")
            table.server.act(events.Resume())
            await agent.ready()
            await until(lambda: agent.status().rung == Rung.CERTIFICATE)


async def test_a_revoked_device_stays_out_until_an_operator_readmits_it(table: Table) -> None:
    table.server.act(events.Revoke())
    with table.agent() as agent:
        await fails_to_renew(agent)
        assert (agent.status().rung, agent.status().rung_why) == (Rung.CODE, ProblemCode.REVOKED)
        with pytest.raises(RefusedError):
            await agent.recover_once(code())
        table.server.hand_out(SECOND)
        recovered = await agent.recover_once(code())
    assert table.server.live == {recovered.serial}


@pytest.mark.parametrize("has_expired", [False, True])
async def test_a_wrong_code_is_refused_and_leaves_the_device_as_it_was(
    table: Table, *, has_expired: bool
) -> None:
    if has_expired:
        end(table)
    with table.agent() as agent:
        before = agent.status()
        with pytest.raises(RefusedError) as caught:
            await agent.recover_once(code("WRNG-WRNG"))
        assert caught.value.code is ProblemCode.CODE_INVALID
        assert agent.record.life.proof is None
        assert serial_of(agent.status()) == before.serial
        if not has_expired:
            assert serial_of(await agent.renew_once()) in table.server.live


async def test_a_code_for_a_device_that_is_well_gives_it_a_new_line_of_certificates(table: Table) -> None:
    table.server.hand_out(SECOND)
    with table.agent() as agent:
        before = serial_of(agent.status())
        recovered = await agent.recover_once(code())
    assert table.server.states() == {
        before: CertificateState.SUPERSEDED_ACKED,
        recovered.serial: CertificateState.ACTIVE,
    }


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
@pytest.mark.parametrize("at", range(3))
async def test_a_recovery_that_is_cut_off_goes_on_with_the_same_code_and_key(
    table: Table, fault: Fault, at: int
) -> None:
    end(table)
    table.server.hand_out(SECOND)
    table.network.follow(iter([*[Fault.NONE] * at, fault]))
    with table.agent() as agent:
        try:
            recovered = await agent.recover_once(code())
        except ChannelError:
            key = agent.record.life.pending
            recovered = await agent.recover_once(code())
            assert key is None or key.key == recovered.key
    assert table.server.live == {recovered.serial}


async def test_a_running_agent_takes_a_code_and_goes_on(table: Table) -> None:
    end(table)
    with table.agent() as agent:
        async with agent.connected():
            await until(lambda: agent.status().rung == Rung.CODE)
            with pytest.raises(RefusedError):
                await agent.recover(code("WRNG-WRNG"))
            table.server.hand_out(SECOND)
            recovered = await agent.recover(code())
            await agent.ready()
            assert agent.status().connected
    assert table.server.live == {recovered.serial}


async def test_a_code_is_shown_at_the_bootstrap_listener_where_no_https_address_is_known(
    tmp_path: Path,
) -> None:
    table = Table(folder=tmp_path)
    table.server.recovery = None
    await enroll(table)
    end(table)
    with table.agent() as agent:
        assert isinstance(await fails_to_renew(agent), ChannelError)
        assert agent.status().rung == Rung.CODE
        table.server.hand_out(SECOND)
        recovered = await agent.recover_once(code())
    assert table.server.live == {recovered.serial}


async def test_a_server_that_has_moved_is_found_where_the_operator_says(table: Table) -> None:
    table.server.hand_out(SECOND)
    address = HttpsAddress(host="moved.example", port=443)
    table.server.recovery = None
    with table.agent() as agent:
        await agent.recover_once(replace(code(), https=address, trust_pem=table.server.trust_pem))
        assert agent.record.recovery == address


async def test_roots_that_are_none_are_bad_input_and_change_nothing(table: Table) -> None:
    with table.agent() as agent:
        before = agent.record
        with pytest.raises(BadInputError, match="the roots to trust"):
            await agent.recover_once(replace(code(), trust_pem="no roots"))
        assert agent.record == before


async def test_a_blank_device_has_nothing_to_recover(tmp_path: Path) -> None:
    with Table(folder=tmp_path).agent() as agent, pytest.raises(NotEnrolledError) as caught:
        await agent.recover_once(code())
    assert caught.value.hint == "device-agent enroll"


async def test_a_lost_secret_of_key_files_is_made_good_by_a_code_and_a_new_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(SECRET, tmp_path, monkeypatch)
    table = Table(folder=tmp_path)
    sealed = replace(table.settings, key_place="sealed:")
    with Agent.opened(sealed, ways=table.network, clock=table.clock) as agent:
        await agent.enroll_mqtt(table.enrollment())
    hand_over(SECRET[::-1], tmp_path, monkeypatch)
    with table.agent() as agent:
        assert isinstance(await fails_to_renew(agent), KeyStoreError)
        table.server.hand_out(SECOND)
        recovered = await agent.recover_once(code())
    assert table.server.live == {recovered.serial}


async def test_keys_move_elsewhere_only_where_the_old_ones_are_lost(table: Table) -> None:
    with pytest.raises(BadInputError, match="has its keys in files already"):
        move_keys(table.state, "tpm:device:/dev/tpmrm9")
    lose_keys(table)
    move_keys(table.state, "tpm:device:/dev/tpmrm9")
    assert (table.state / "key-place").read_text() == "tpm:device:/dev/tpmrm9\n"


async def test_a_device_that_waits_for_a_code_does_not_ask_without_a_pause(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(table)
    asked: list[str] = []
    answer = table.server.answer

    def counted(heard: Heard, request: Request) -> Reply:
        asked.append(request.kind)
        return answer(heard, request)

    monkeypatch.setattr(table.server, "answer", counted)
    patient = replace(table.settings, first_wait=timedelta(hours=1))
    with Agent.opened(patient, ways=table.network, clock=table.clock) as agent:
        async with agent.connected():
            await until(lambda: agent.status().rung == Rung.CODE)
            for _ in range(200):
                await asyncio.sleep(0)
    assert asked == ["renew"]


async def test_a_copy_of_a_replaced_device_is_out_and_says_so(table: Table) -> None:
    with table.agent() as agent:
        table.server.act(events.Replace(code_id="c2"))
        with pytest.raises((RefusedError, NotAdmittedError)):
            await agent.renew_once()
        assert agent.status().rung == Rung.CODE


async def test_a_device_that_was_let_in_by_no_hardware_says_so_and_goes_on(table: Table) -> None:
    with table.agent() as agent:
        before = agent.status()
        with pytest.raises(BadInputError, match="are in no TPM"):
            await agent.recover_once(Recovery())
        assert agent.status() == before
        renewed = await agent.renew_once()
    assert serial_of(renewed) != before.serial


def test_what_brings_a_device_back_comes_over_the_agent_s_socket_as_it_was_said() -> None:
    for wanted in (code(), Recovery()):
        assert Recovery.read(Fields(wanted.members())) == wanted
