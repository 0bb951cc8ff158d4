"""The agent enrolls and renews over EST against the whole service, on each broker, with each kind of key."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.agent import Agent, ClaimFiles, EstEnrollment
from device_agent.channels.est import EstAsker
from device_agent.config import Settings
from device_agent.core.ladder import Rung
from device_agent.core.lifecycle import State
from device_agent.errors import ChannelError, RefusedError
from device_agent.keys.place import open_keys
from device_agent.recovering import Recovery
from device_agent.wire.identity import Identity
from fleet.core import lifecycle
from fleet.core.rollover import Insistence, RolloverEvent
from fleet.model import ClientKind, RevocationReason
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.ra.requests.approvals import Choice, approve
from fleet.ra.requests.queue import short_code
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from tests.e2e.test_agent_fleet import DRIVERS, backend, device_of, settings
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.rolling import prepare, step
from tests.swtpm import running_tpm
from tests.tokens import SoftHsm
from tests.waiting import until


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    driver: str = getattr(request, "param", "embedded")
    return make_live_home(tmp_path_factory.mktemp("est-agents") / "home", driver=driver)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def by_code(fleet: LiveFleet, device_id: str, *, domain: str = "prod") -> EstEnrollment:
    identity = Identity(domain=domain, device_id=device_id)
    order = CodeOrder(identities=(identity,), actor="operator:test", lifetime=timedelta(days=1))
    (made,) = await create_codes(fleet.context, order)
    return EstEnrollment(
        url=f"https://localhost:{fleet.context.endpoints.https_port}/{domain}",
        device_id=device_id,
        trust_pem=fleet.home.home.server_trust.read_text(),
        code=made.code,
    )


async def lives(fleet: LiveFleet, chosen: Settings, device_id: str) -> None:
    """Enroll, connect, renew and publish, all certificates by EST."""
    with Agent.opened(chosen) as agent:
        first = await agent.enroll(await by_code(fleet, device_id))
        async with backend(fleet) as client, agent.connected():
            await client.subscribe(f"devices/prod/{device_id}/up")
            await agent.ready()
            second = await agent.renew()
            await agent.publish("up", b"by est")
            assert (await client.receive()).body == b"by est"
        device = await device_of(fleet, agent)
    assert device.kind is ClientKind.PLAIN
    assert first.serial != second.serial == device.current
    assert first.key != second.key
    assert lifecycle.admitted(device) == {second.serial}
    assert second.state == State.SETTLED


@pytest.mark.parametrize("home", DRIVERS, indirect=True)
async def test_a_device_lives_by_est_with_its_key_in_a_file(fleet: LiveFleet, tmp_path: Path) -> None:
    await lives(fleet, settings(tmp_path), "files")


async def test_a_device_that_lost_its_key_comes_back_over_est_by_a_code(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        first = await agent.enroll(await by_code(fleet, "lost"))
        for key in (tmp_path / "state" / "keys").iterdir():
            key.unlink()
        code = (await by_code(fleet, "lost")).code
        assert code is not None
        recovered = await agent.recover_once(Recovery(code=code))
        device = await device_of(fleet, agent)
    assert (recovered.name, recovered.rung) == (first.name, Rung.CERTIFICATE)
    assert lifecycle.admitted(device) == {recovered.serial}


async def test_a_device_that_was_revoked_learns_over_est_that_it_needs_a_code(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        await agent.enroll(await by_code(fleet, "taken-back"))
        who = ByDevice(identities=(Identity(domain="prod", device_id="taken-back"),))
        await revoke(fleet.context, who, reason=RevocationReason.KEY_COMPROMISE, actor="operator:test")
        with pytest.raises(RefusedError, match="revoked"):
            await agent.renew_once()
        status = agent.status()
    assert (status.rung, status.rung_why) == (Rung.CODE, "revoked")
    assert "device-agent recover" in (status.needs or "")


@pytest.mark.needs("softhsm2-util")
async def test_a_device_lives_by_est_with_its_key_in_a_token(fleet: LiveFleet, tmp_path: Path) -> None:
    with SoftHsm.at(tmp_path / "softhsm") as hsm:
        await lives(fleet, replace(settings(tmp_path), key_place=hsm.token().uri), "token")
        state = tmp_path / "state"
        assert not (state / "keys").exists()
        assert "pkcs11:" in (state / "current" / "key.uri").read_text()
        assert all(name.startswith("k-") for name in open_keys(state).names())


async def test_a_running_agent_renews_by_est_when_its_clock_says_that_it_is_time(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    ahead = timedelta()
    with Agent.opened(settings(tmp_path), clock=lambda: datetime.now(UTC) + ahead) as agent:
        first = await agent.enroll(await by_code(fleet, "ages"))
        ahead = timedelta(days=80)
        async with agent.connected():
            await until(lambda: agent.status().serial != first.serial)
            await agent.ready()
        device = await device_of(fleet, agent)
    assert device.current == agent.status().serial


async def test_a_certificate_that_the_broker_turned_away_comes_back_by_the_fleets_own_recovery(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    """An expired certificate opens no TLS; its key still speaks for it in the time of grace."""
    ahead = timedelta()
    with Agent.opened(settings(tmp_path), clock=lambda: datetime.now(UTC) + ahead) as agent:
        first = await agent.enroll(await by_code(fleet, "late"))
        assert agent.record.recovery is not None
        before = agent.record.life.active
        assert before is not None
        lapsed = replace(before, not_after=datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1))
        agent._life.keep(replace(agent.record, life=replace(agent.record.life, active=lapsed)))
        second = await agent.renew_once()
    assert (second.serial != first.serial, second.state) == (True, State.SETTLED)


async def test_a_device_of_a_batch_waits_for_an_approval_and_goes_on_with_the_same_key(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    name = f"est-{uuid.uuid4().hex[:8]}"
    order = BatchOrder(domain="prod", name=name, uses=2, lifetime=timedelta(days=1), actor="operator:test")
    own = (await create_batch(fleet.context, order)).own
    claim = ClaimFiles(certificate=tmp_path / "claim.crt", key=tmp_path / "claim.key")
    claim.certificate.write_bytes(own.certificate.public_bytes(Encoding.PEM))
    claim.key.write_bytes(own.key_pem)
    wanted = replace(await by_code(fleet, name), device_id=f"{name}-1", code=None, claim=claim)
    with Agent.opened(replace(settings(tmp_path), patience=timedelta())) as agent:
        with pytest.raises(RefusedError) as waits:
            await agent.enroll(wanted)
        pending = agent.record.life.pending
        assert pending is not None
        code = short_code(pending.key_hash)
        assert code in str(waits.value)
        await approve(fleet.context, Choice(short_code=code), actor="operator:test")
        status = await agent.enroll(wanted)
    assert (status.enrolled, status.key) == (True, pending.key)


def lose_answers(monkeypatch: pytest.MonkeyPatch, operation: str, times: int) -> None:
    """Let the server do what is asked, and let nobody hear of it."""
    real, left = getattr(EstAsker, operation), iter(range(times))

    async def asked(*arguments: object, **named: object) -> object:
        reply = await real(*arguments, **named)
        if next(left, None) is not None:
            raise ChannelError("no answer in time")
        return reply

    monkeypatch.setattr(EstAsker, operation, asked)


async def test_answers_that_are_lost_cost_no_second_certificate(
    fleet: LiveFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_answers(monkeypatch, "enroll", 2)
    lose_answers(monkeypatch, "reenroll", 2)
    wanted = await by_code(fleet, "unheard")
    with Agent.opened(replace(settings(tmp_path), patience=timedelta())) as agent:
        for _ in range(2):
            with pytest.raises(ChannelError, match="no answer"):
                await agent.enroll(wanted)
        await agent.enroll(wanted)
        for _ in range(2):
            with pytest.raises(ChannelError, match="no answer"):
                await agent.renew_once()
        last = await agent.renew_once()
        device = await device_of(fleet, agent)
    assert len(device.certificates) == 2
    assert lifecycle.admitted(device) == {last.serial}


async def test_a_proxy_that_drops_what_the_fleet_says_beside_a_certificate_loses_nobody_the_broker(
    fleet: LiveFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        first = await agent.enroll(await by_code(fleet, "proxied"))
        monkeypatch.setattr("device_agent.channels.est.ISSUED_HEADER", "x-nothing")
        second = await agent.renew_once()
    assert first.serial != second.serial
    assert (second.broker, second.state) == (first.broker, State.SETTLED)


@pytest.mark.needs("swtpm")
async def test_a_device_lives_by_est_with_its_key_in_a_tpm(fleet: LiveFleet, tmp_path: Path) -> None:
    with running_tpm(tmp_path / "tpm") as tpm:
        await lives(fleet, replace(settings(tmp_path), key_place=f"tpm:{tpm.place}"), "tpm")
        files = {file.suffix for file in (tmp_path / "state" / "keys").iterdir()}
    assert files == {".tpm"}


async def test_a_device_that_slept_through_a_rollover_learns_the_new_root_from_cacerts(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        await agent.enroll(await by_code(fleet, "sleeps", domain="lab"))
        old = fleet.context.authority.root("lab").anchor
        await prepare(fleet.context, "lab")
        await step(fleet.context, "lab", RolloverEvent.PUBLISH)
        await step(fleet.context, "lab", RolloverEvent.SWITCH, insistence=Insistence.GO_ON)
        new = fleet.context.authority.root("lab").anchor
        status = await agent.renew_once()
    assert status.state == State.SETTLED
    assert new != old
    assert status.anchors == (old, new)
