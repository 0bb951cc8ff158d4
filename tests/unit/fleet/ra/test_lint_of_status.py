"""Every list and every answer that we sign, as a linter that is not ours judges it (RFC 5280, RFC 6960)."""

from datetime import timedelta

import pytest

from device_agent.wire.identity import Identity
from fleet.model import Purpose
from fleet.ra.crls import ListName, list_of
from fleet.ra.devices import resume, suspend
from fleet.ra.status.broker_lists import make_for_brokers
from fleet.ra.status.press import press_of
from tests.desk import Desk
from tests.pkilint_of import faults_of_answer, faults_of_crl
from tests.status import RelyingParty

ACTOR = "operator:ada"


@pytest.fixture
def party(desk: Desk) -> RelyingParty:
    return RelyingParty(desk=desk, issuer=desk.context.authority.issuer(Purpose.DEVICE, "prod"))


@pytest.fixture
async def serials(desk: Desk, party: RelyingParty) -> dict[str, str]:
    """Return a certificate in each state, with a base list that is older than the newest changes."""
    found = {name: (await desk.enrolled(name))[1].serial for name in ("good", "revoked", "held", "released")}
    for name in ("held", "released"):
        await suspend(desk.context, Identity(domain="prod", device_id=name), actor=ACTOR)
    await party.fetch(party.complete)
    desk.clock.forward(timedelta(hours=12))
    await resume(desk.context, Identity(domain="prod", device_id="released"), actor=ACTOR)
    await desk.revoke("revoked")
    return found


async def test_no_list_has_a_fault(desk: Desk, party: RelyingParty, serials: dict[str, str]) -> None:
    names: list[ListName] = [party.complete, party.complete.delta]
    names += [list_of(party.issuer.issuer_id, serial) for serial in serials.values()]
    lists = {name.path: (await party.fetch(name)).der for name in names}
    for_brokers = await make_for_brokers(press_of(desk.context), now=desk.clock())
    lists |= {f"broker {number}": der for number, der in enumerate(for_brokers)}
    lists |= {root.realm: root.crl for root in desk.context.authority.roots if root.crl is not None}

    assert {name: faults for name, der in lists.items() if (faults := faults_of_crl(der))} == {}


async def test_no_answer_has_a_fault(desk: Desk, party: RelyingParty, serials: dict[str, str]) -> None:
    asked = list(serials.values())
    answers = {name: await party.ask_for_bytes(serial) for name, serial in serials.items()}
    answers["several, with a nonce"] = await party.ask_for_bytes(*asked, nonce=b"n" * 32)
    answers["unknown"] = await party.ask_for_bytes("41" * 16)
    desk.clock.forward(timedelta(days=200))
    answers["expired"] = await party.ask_for_bytes(serials["good"])

    assert {name: faults for name, der in answers.items() if (faults := faults_of_answer(der))} == {}
