"""A server that lies: nothing of it reaches a slot, and the device says why."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_agent.agent import Agent
from device_agent.channels.memory import Heard
from device_agent.core.acceptance import Reason
from device_agent.core.lifecycle import State, state_of
from device_agent.errors import ChannelError, UnacceptableAnswerError
from device_agent.wire import requests as wire
from device_agent.wire.notices import Notice, StateReport
from device_agent.wire.replies import BrokerAddress, Dead, DoneAck, Issued, Reply
from device_agent.wire.trust import TrustBundle
from tests.device import Table
from tests.pki import Authority, Pki, pem_of
from tests.power import disk
from tests.provisioner import Provisioner, leaf_for
from tests.rolled import bundle, link
from tests.unit.device_agent.test_agent import until

NOW = datetime.now(UTC).replace(microsecond=0)
STRANGER = Pki(domains=("prod",))
Lie = Callable[[Issued, str, Provisioner], Issued]


def leaf_that_is(**wrong: object) -> Lie:
    def lie(issued: Issued, csr: str, server: Provisioner) -> Issued:
        make: Callable[..., object] = leaf_for
        leaf = make(csr, server.issuer, server.identity, serial=issued.serial, **wrong)
        return replace(issued, certificate=pem_of(leaf).decode())  # type: ignore[arg-type] # made by leaf_for

    return lie


def answer_that_has(**wrong: object) -> Lie:
    change: Callable[..., Issued] = replace
    return lambda issued, _csr, _server: change(issued, **wrong)


def by_a_stranger(issued: Issued, csr: str, server: Provisioner) -> Issued:
    issuer = STRANGER.devices["prod"]
    leaf = leaf_for(csr, issuer, server.identity, serial=issued.serial)
    chain, trust = pem_of(issuer.certificate).decode(), pem_of(STRANGER.roots["prod"].certificate).decode()
    return replace(issued, certificate=pem_of(leaf).decode(), chain=chain, trust=trust)


def by_too_long_a_chain(issued: Issued, csr: str, server: Provisioner) -> Issued:
    chain = tuple(islice(_each_below(server.pki.roots["prod"]), 5))
    leaf = leaf_for(csr, chain[-1], server.identity, serial=issued.serial)
    others = b"".join(pem_of(authority.certificate) for authority in reversed(chain))
    return replace(issued, certificate=pem_of(leaf).decode(), chain=others.decode())


def _each_below(above: Authority) -> Iterator[Authority]:
    while True:
        above = above.issuing("one more")
        yield above


def by_a_forged_link(issued: Issued, csr: str, server: Provisioner) -> Issued:
    """Vouch for a stranger's root by a certificate that bears the held root's name, and not its signature."""
    told = by_a_stranger(issued, csr, server)
    (name,) = server.pki.roots["prod"].certificate.subject
    forged = Authority.root(str(name.value))
    return replace(told, link=pem_of(link(forged, STRANGER.roots["prod"])).decode())


LIES: dict[str, tuple[Lie, Reason]] = {
    "another key": (
        leaf_that_is(key=ec.generate_private_key(ec.SECP256R1()).public_key()),
        Reason.WRONG_KEY,
    ),
    "another name": (leaf_that_is(common_name="d2"), Reason.WRONG_IDENTITY),
    "another alternative name": (leaf_that_is(alternative="d2.prod.acme"), Reason.WRONG_IDENTITY),
    "a CA": (leaf_that_is(is_ca=True), Reason.IS_CA),
    "a server": (leaf_that_is(usage=ExtendedKeyUsageOID.SERVER_AUTH), Reason.WRONG_USAGE),
    "expired": (
        leaf_that_is(not_before=NOW - timedelta(days=9), lifetime=timedelta(days=1)),
        Reason.EXPIRED,
    ),
    "not yet valid": (
        leaf_that_is(not_before=NOW + timedelta(days=1), lifetime=timedelta(days=1)),
        Reason.NOT_YET_VALID,
    ),
    "another broker name": (
        answer_that_has(broker=BrokerAddress(host="h", port=1, name="lab:d1")),
        Reason.WRONG_IDENTITY,
    ),
    "another serial": (answer_that_has(serial="f" * 32), Reason.WRONG_SERIAL),
    "too long a chain": (by_too_long_a_chain, Reason.UNREADABLE),
    "a chain of junk": (
        answer_that_has(chain="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Reason.UNREADABLE,
    ),
    "a giant chain": (
        answer_that_has(
            chain="-----BEGIN CERTIFICATE-----\n" + "A" * 40000 + "\n-----END CERTIFICATE-----\n"
        ),
        Reason.UNREADABLE,
    ),
}
ONLY_LATER: dict[str, tuple[Lie, Reason]] = {
    "a stranger's chain": (by_a_stranger, Reason.UNTRUSTED),
    "a forged link to a stranger's root": (by_a_forged_link, Reason.UNTRUSTED),
    "another fleet": (leaf_that_is(fleet="evil"), Reason.WRONG_IDENTITY),
}
EACH_LIE = LIES | ONLY_LATER


class Liar(Provisioner):
    """Tells one lie in each certificate that it delivers, and counts them."""

    lie: Lie | None = None
    told = 0

    def answer(self, heard: Heard, request: wire.Request) -> Reply:
        reply = super().answer(heard, request)
        if self.lie is not None and isinstance(reply, Issued):
            assert isinstance(request, wire.Enroll | wire.Renew)
            self.told += 1
            return self.lie(reply, request.csr, self)
        return reply


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_at_enrollment_is_refused_and_the_truth_is_taken_later(name: str, tmp_path: Path) -> None:
    liar = Liar()
    table = Table(folder=tmp_path, server=liar)
    liar.lie, reason = LIES[name]
    with table.agent() as agent:
        with pytest.raises(UnacceptableAnswerError, match=f" {reason}: "):
            await agent.enroll_mqtt(table.enrollment())
        assert state_of(agent.record.life) is State.ENROLLING
        assert not (table.state / "current").exists()
        liar.lie = None
        assert (await agent.enroll_mqtt(table.enrollment())).enrolled


@pytest.mark.parametrize("name", EACH_LIE)
async def test_a_lie_at_renewal_leaves_the_certificate_in_use(name: str, tmp_path: Path) -> None:
    liar = Liar()
    table = Table(folder=tmp_path, server=liar)
    await table.enroll()
    liar.lie, reason = EACH_LIE[name]
    with table.agent() as agent:
        before = agent.record
        with pytest.raises(UnacceptableAnswerError, match=f" {reason}: "):
            await agent.renew_once()
        assert agent.record.life.active == before.life.active
        assert agent.record.life.anchors == before.life.anchors
        assert state_of(agent.record.life) is State.RENEWING
        liar.lie = None
        await agent.renew_once()
        assert {agent.status().serial} == liar.live


@pytest.mark.parametrize(
    "lie",
    [
        lambda request: Dead(id=request.id, key_hash="0" * 64, attempt_floor=99),
        lambda request: DoneAck(id=request.id, serial="0" * 32),
    ],
    ids=["dead, of another key", "done, of another serial"],
)
async def test_an_answer_to_something_else_changes_nothing(
    lie: Callable[[wire.Request], Reply], tmp_path: Path
) -> None:
    class Confused(Provisioner):
        def answer(self, heard: Heard, request: wire.Request) -> Reply:
            return lie(request) if isinstance(request, wire.Renew) else super().answer(heard, request)

    table = Table(folder=tmp_path, server=Confused())
    await table.enroll()
    with table.agent() as agent:
        active = agent.record.life.active
        with pytest.raises((UnacceptableAnswerError, ChannelError)):
            await agent.renew_once()
        assert agent.record.life.active == active
        assert agent.record.life.attempt == 2


def patient(table: Table) -> AbstractContextManager[Agent]:
    """Open an agent that tries again for long where that can help, and rests for long between renewals."""
    settings = replace(table.settings, patience=timedelta(minutes=10), first_wait=timedelta(hours=1))
    return Agent.opened(settings, ways=table.network, clock=table.clock)


async def test_enrollment_does_not_ask_a_liar_twice(tmp_path: Path) -> None:
    """The server repeats its answer to one key; asking again would get the same lie."""
    liar = Liar()
    table = Table(folder=tmp_path, server=liar)
    liar.lie, _ = LIES["a CA"]
    with patient(table) as agent, pytest.raises(UnacceptableAnswerError):
        await agent.enroll_mqtt(table.enrollment())
    assert liar.told == 1


async def test_a_running_agent_reports_a_lie_and_stays_connected_with_what_it_has(tmp_path: Path) -> None:
    liar = Liar()
    table = Table(folder=tmp_path, server=liar)
    await table.enroll()
    liar.lie, _ = LIES["a CA"]
    with patient(table) as agent:
        before = agent.status().serial
        async with agent.connected():
            await agent.ready()
            with pytest.raises(UnacceptableAnswerError):
                await agent.renew()
            await until(lambda: reported(table).problem == "unacceptable-answer")
            status = agent.status()
            assert (status.problem, status.connected, status.serial) == ("unacceptable-answer", True, before)
            await agent.publish("telemetry", b"21.5")
    assert liar.told == 1, "the next try waits for its back-off"


async def test_a_bundle_that_is_refused_is_in_the_status_too(tmp_path: Path) -> None:
    table = Table(folder=tmp_path)
    await table.enroll()
    with table.agent() as agent:
        notice = notice_of(agent, bundles=(bundle(Authority.root("a stranger's root")),))
        async with agent.connected():
            await agent.ready()
            table.network.deliver(NOTICES, notice)
            await until(lambda: reported(table).problem is not None)
            assert agent.status().problem == reported(table).problem


async def test_notices_that_are_replayed_change_nothing_and_wear_no_flash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(folder=tmp_path)
    await table.enroll()
    root = table.server.pki.roots["prod"]
    with table.agent() as agent:
        old, new = (notice_of(agent, bundles=(bundle(root, version=number),)) for number in (1, 2))
        async with agent.connected():
            await agent.ready()
            for notice in (old, new):
                table.network.deliver(NOTICES, notice)
            await until(lambda: dict(agent.record.trust_versions).get("prod") == 2)
            await agent.publish("sync", b"")
            before = agent.record
            with disk(monkeypatch, table.state) as watched:
                for _ in range(500):
                    table.network.deliver(NOTICES, old)
                    table.network.deliver(NOTICES, new)
                    await agent.publish("sync", b"")
            assert (agent.record, watched.calls) == (before, 0)


BOMBS = {
    "nested lists": b"[" * 60_000,
    "nested objects": b'{"v":' * 10_000,
    "a number without end": b'{"v":1,"type":"notice","serial":' + b"9" * 50_000 + b"}",
    "more than a body may have": b'{"v":1,"type":"notice","x":"' + b"x" * 70_000 + b'"}',
    "a thousand bundles": b'{"v":1,"type":"notice","bundles":[' + b"{}," * 1000 + b"{}]}",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_in_a_notice_is_ignored_and_the_next_notice_is_heard(name: str, tmp_path: Path) -> None:
    table = Table(folder=tmp_path)
    await table.enroll()
    with table.agent() as agent:
        before = agent.record
        async with agent.connected():
            await agent.ready()
            table.network.deliver(NOTICES, BOMBS[name])
            await agent.publish("sync", b"")
            assert agent.record == before
            assert agent.status().connected
            table.network.deliver(NOTICES, notice_of(agent, renew_after=NOW - timedelta(days=1)))
            await until(lambda: agent.record.life.active != before.life.active)


NOTICES = "fleet/v1/prod/d1/notice"


def notice_of(
    agent: Agent, *, renew_after: datetime = NOW + timedelta(days=30), bundles: tuple[TrustBundle, ...] = ()
) -> bytes:
    serial = agent.status().serial
    assert serial is not None
    return Notice(serial=serial, renew_after=renew_after, bundles=bundles).encode()


def reported(table: Table) -> StateReport:
    (body,) = [body for topic, body in table.network.published if topic == "fleet/v1/prod/d1/state"]
    return StateReport.parse(body)
