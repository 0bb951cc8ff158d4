"""A server that lies: nothing of it reaches a slot, and the device says why."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_agent.channels.memory import Heard
from device_agent.core.lifecycle import State, state_of
from device_agent.errors import ChannelError, UnacceptableAnswerError
from device_agent.wire import requests as wire
from device_agent.wire.replies import BrokerAddress, Dead, DoneAck, Issued, Reply
from tests.device import Table
from tests.pki import Pki, pem_of
from tests.provisioner import Provisioner, leaf_for

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


LIES: dict[str, Lie] = {
    "another key": leaf_that_is(key=ec.generate_private_key(ec.SECP256R1()).public_key()),
    "another name": leaf_that_is(common_name="d2"),
    "another alternative name": leaf_that_is(alternative="d2.prod.acme"),
    "a CA": leaf_that_is(is_ca=True),
    "a server": leaf_that_is(usage=ExtendedKeyUsageOID.SERVER_AUTH),
    "expired": leaf_that_is(not_before=NOW - timedelta(days=9), lifetime=timedelta(days=1)),
    "not yet valid": leaf_that_is(not_before=NOW + timedelta(days=1), lifetime=timedelta(days=1)),
    "another broker name": answer_that_has(broker=BrokerAddress(host="h", port=1, name="lab:d1")),
    "another serial": answer_that_has(serial="f" * 32),
    "a chain of junk": answer_that_has(
        chain="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    ),
    "a giant chain": answer_that_has(
        chain="-----BEGIN CERTIFICATE-----\n" + "A" * 40000 + "\n-----END CERTIFICATE-----\n"
    ),
}
ONLY_LATER: dict[str, Lie] = {"a stranger's chain": by_a_stranger}


class Liar(Provisioner):
    """Tells one lie in each certificate that it delivers."""

    lie: Lie | None = None

    def answer(self, heard: Heard, request: wire.Request) -> Reply:
        reply = super().answer(heard, request)
        if self.lie is not None and isinstance(reply, Issued):
            assert isinstance(request, wire.Enroll | wire.Renew)
            return self.lie(reply, request.csr, self)
        return reply


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_at_enrollment_is_refused_and_the_truth_is_taken_later(name: str, tmp_path: Path) -> None:
    liar = Liar()
    table = Table(folder=tmp_path, server=liar)
    liar.lie = LIES[name]
    with table.agent() as agent:
        with pytest.raises(UnacceptableAnswerError):
            await agent.enroll_mqtt(table.enrollment())
        assert state_of(agent.record.life) is State.ENROLLING
        assert not (table.state / "current").exists()
        liar.lie = None
        assert (await agent.enroll_mqtt(table.enrollment())).enrolled


@pytest.mark.parametrize("name", LIES | ONLY_LATER)
async def test_a_lie_at_renewal_leaves_the_certificate_in_use(name: str, tmp_path: Path) -> None:
    liar = Liar()
    table = Table(folder=tmp_path, server=liar)
    await table.enroll()
    liar.lie = (LIES | ONLY_LATER)[name]
    with table.agent() as agent:
        before = agent.record
        with pytest.raises(UnacceptableAnswerError):
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
