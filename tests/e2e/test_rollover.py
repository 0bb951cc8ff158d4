"""A fleet of real agents on a real broker rolls its CAs over: nobody is turned away or left behind."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.wire.notices import Notice
from device_agent.wire.trust import FLEET_REALM, TrustBundle
from fleet.core.authority import AuthorityState
from fleet.core.rollover import Insistence, RolloverEvent, RolloverState
from fleet.errors import RefusedError
from fleet.model import (
    BrokerEvent,
    BrokerEventKind,
    CertificateState,
    Purpose,
    RevocationReason,
    Session,
)
from fleet.ports import Transaction
from fleet.ra.presence import Presence
from fleet.ra.succession import rollover_status
from fleet.ra.succession.rollover_steps import Mode
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.certificates import (
    CertificateQuery,
    end_certificate,
    list_certificates,
    load_certificate,
)
from tests.agents import a_fleet, enrolled
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.pki import Authority
from tests.rolled import bundle
from tests.rolling import prepare, step
from tests.waiting import until

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]

ON_MOSQUITTO = pytest.mark.needs("mosquitto", "gcc")


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> FleetHome:
    return make_live_home(tmp_path / "home", driver=getattr(request, "param", "mosquitto"))


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture
def turned_away(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of each certificate that a broker's guard turns away."""
    found: list[str] = []
    note = Presence.note

    def noting(presence: Presence, event: BrokerEvent | Session) -> None:
        if isinstance(event, BrokerEvent) and event.kind is BrokerEventKind.REFUSED:
            found.append(f"{event.client_id} {event.serial} {event.reason}")
        note(presence, event)

    monkeypatch.setattr(Presence, "note", noting)
    return found


async def until_heard(fleet: LiveFleet, realm: str, *, missing: int = 0) -> None:
    async with asyncio.timeout(30):
        while (await rollover_status.show(fleet.context, realm)).heard.missing != missing:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


def versions(agents: Sequence[Agent]) -> set[tuple[tuple[str, int], ...]]:
    return {agent.record.trust_versions for agent in agents}


async def anchor_of(fleet: LiveFleet, agent: Agent) -> str:
    serial = agent.status().serial
    assert serial is not None
    row = await fleet.context.store.read(load_certificate, serial)
    assert row is not None
    return row.life.anchor


@pytest.mark.parametrize("home", DRIVERS, indirect=True)
async def test_a_domain_gets_another_root_and_one_that_slept_through_it_is_led_on(
    fleet: LiveFleet, turned_away: list[str]
) -> None:
    context = fleet.context
    async with AsyncExitStack() as stack:
        sleeper = await enrolled(fleet, stack, "sleeper")
        agents = await stack.enter_async_context(a_fleet(fleet, "d1", "d2", "d3"))
        connected = [agent.status().serial for agent in agents]
        old_root = context.authority.root("prod").anchor

        assert (await prepare(context, "prod")).state is RolloverState.PREPARED
        await step(context, "prod", RolloverEvent.PUBLISH)
        await until_heard(fleet, "prod", missing=1)
        assert versions(agents) == {(("prod", 1),)}
        with pytest.raises(RefusedError, match=r"1 of 4 devices have not acknowledged .*: prod:sleeper"):
            await step(context, "prod", RolloverEvent.SWITCH)
        await step(context, "prod", RolloverEvent.SWITCH, insistence=Insistence.GO_ON)
        assert context.authority.root("prod").anchor != old_root
        assert [agent.status().serial for agent in agents] == connected
        assert all(agent.status().connected for agent in agents)

        for agent in agents:
            await agent.renew()
        assert {await anchor_of(fleet, agent) for agent in agents} == {context.authority.root("prod").anchor}
        with pytest.raises(RefusedError, match="1 still need the old root of prod: prod:sleeper"):
            await step(context, "prod", RolloverEvent.RETIRE)

        await sleeper.renew_once()
        assert await anchor_of(fleet, sleeper) == context.authority.root("prod").anchor
        assert len(sleeper.record.life.anchors) == 2
        await until_heard(fleet, "prod")
        await step(context, "prod", RolloverEvent.RETIRE)
        await until(lambda: versions(agents) == {(("prod", 2),)})
        assert all(len(agent.record.life.anchors) == 1 for agent in agents)
        assert all(agent.status().connected for agent in agents)
        for agent in agents:
            await agent.renew()
        assert (await rollover_status.show(context, "prod")).refused == ()
    assert turned_away == []


@ON_MOSQUITTO
async def test_servers_get_another_root_and_devices_stay_connected(
    fleet: LiveFleet, turned_away: list[str]
) -> None:
    context, home = fleet.context, fleet.home.home
    async with AsyncExitStack() as stack:
        sleeper = await enrolled(fleet, stack, "sleeper")
        agents = await stack.enter_async_context(a_fleet(fleet, "d1", "d2"))
        old = home.server.certificate.read_text()
        await prepare(context, FLEET_REALM)
        await step(context, FLEET_REALM, RolloverEvent.PUBLISH)
        await until(lambda: versions(agents) == {((FLEET_REALM, 1),)})
        await step(context, FLEET_REALM, RolloverEvent.SWITCH, insistence=Insistence.GO_ON)
        shown = home.server.certificate.read_text()
        assert (shown != old, shown.count("BEGIN CERTIFICATE")) == (True, 3), "leaf, issuing CA, link"
        assert all(agent.status().connected for agent in agents)

        # A device that holds the old root alone finds its way by the link, one that is new by either.
        await sleeper.renew_once()
        assert sleeper.record.trust_versions == ((FLEET_REALM, 1),)
        newcomer = await enrolled(fleet, stack, "newcomer")
        assert newcomer.record.trust_versions == ((FLEET_REALM, 1),)
        for agent in agents:
            await agent.renew()
        with pytest.raises(RefusedError, match=r"still need the old root of fleet: .*operator admin"):
            await step(context, FLEET_REALM, RolloverEvent.RETIRE)
        await _end_what_is_old(fleet)
        await step(context, FLEET_REALM, RolloverEvent.RETIRE)
        await until(lambda: versions(agents) == {((FLEET_REALM, 2),)})
        assert all(len(agent.record.servers) == 1 for agent in agents)
        await until(lambda: all(agent.status().connected for agent in agents))
        for agent in agents:
            await agent.renew()
    assert turned_away == []


async def _end_what_is_old(fleet: LiveFleet) -> None:
    """Let people and the home's own parts use their new certificates alone, as an hour and a word would."""
    context = fleet.context
    given_up = (await rollover_status.show(context, FLEET_REALM)).rollover.gives_up
    old = {one.issuer for one in context.authority.records if one.folder in given_up}
    rows = await context.store.read(list_certificates, CertificateQuery(limit=100))
    for row in rows:
        if row.issuer in old and row.purpose not in {Purpose.AUTHORITY, Purpose.SIGNER}:
            await context.store.write(_end, row.serial)
    await context.broker.synchronise()


async def _end(tx: Transaction, serial: str) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    await end_certificate(
        tx, serial, state=CertificateState.SUPERSEDED, reason=RevocationReason.SUPERSEDED, at=at
    )


@ON_MOSQUITTO
async def test_an_issuing_ca_is_followed_by_another_without_a_word_to_the_devices(
    fleet: LiveFleet, turned_away: list[str]
) -> None:
    context = fleet.context
    async with a_fleet(fleet, "d1", "d2") as agents:
        await prepare(context, "prod/device-1")
        told = await step(context, "prod", RolloverEvent.SWITCH, mode=Mode.REHEARSE)
        assert [(one.name, one.after) for one in told.changes] == [
            ("prod/device-2", AuthorityState.ACTIVE),
            ("prod/device-1", AuthorityState.RETIRING),
        ]
        assert [one.state for one in context.authority.issuers if one.domain == "prod"] == [
            AuthorityState.ACTIVE,
            AuthorityState.STANDBY,
        ], "a rehearsal changes nothing"
        await step(context, "prod", RolloverEvent.SWITCH)
        with pytest.raises(RefusedError, match=r"2 still need the old issuing CA of prod: prod:d., prod:d."):
            await step(context, "prod", RolloverEvent.RETIRE)
        for agent in agents:
            await agent.renew()
        assert versions(agents) == {()}
        await step(context, "prod", RolloverEvent.RETIRE)
        for agent in agents:
            await agent.renew()
    assert turned_away == []


@ON_MOSQUITTO
async def test_forged_rolled_back_and_unchained_bundles_are_refused_and_told_to_operators(
    fleet: LiveFleet,
) -> None:
    context = fleet.context
    async with a_fleet(fleet, "d1") as agents:
        (agent,) = agents
        await prepare(context, "prod")
        await step(context, "prod", RolloverEvent.PUBLISH)
        await until(lambda: versions(agents) == {(("prod", 1),)})
        good = await rollover_status.bundle(context, "prod")
        stranger = Authority.root("acme prod root 2")
        for wrong, problem in (
            (replace(good, version=2), "trust-forged"),
            (bundle(stranger, version=9), "trust-unchained"),
            (bundle(stranger, version=1), "trust-rolled-back"),
        ):
            await _post(fleet, agent, wrong)
            await _until_refused(fleet, problem)
        assert agent.record.trust_versions == (("prod", 1),)
        assert agent.status().connected
        await _post(fleet, agent, good)
        await _until_refused(fleet, None)
    trail = await context.store.read(audit.search, AuditQuery(action="trust.refused", limit=10))
    assert len(trail) == 3


async def _post(fleet: LiveFleet, agent: Agent, wrong: TrustBundle) -> None:
    """Publish a notice as whoever has taken the server over could."""
    active = agent.record.life.active
    assert active is not None
    notice = Notice(serial=active.serial, renew_after=active.not_after, bundles=(wrong,))
    await fleet.context.post("fleet/v1/prod/d1/notice", notice.encode())


async def _until_refused(fleet: LiveFleet, problem: str | None) -> None:
    wanted = () if problem is None else (("prod:d1", problem),)
    async with asyncio.timeout(30):
        while (await rollover_status.show(fleet.context, "prod")).refused != wanted:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
