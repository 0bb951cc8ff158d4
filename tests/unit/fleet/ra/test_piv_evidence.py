"""Devices that show what a YubiKey says of their key: who gets a certificate, and with which assurance."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.wire.messages import encode, parse_request
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Issued, Pending, Problem
from device_agent.wire.requests import Enroll, Proof, ProofKind
from fleet.attest.chains import Anchors
from fleet.attest.piv import PivMaker
from fleet.model import Assurance
from fleet.ra.devices import show
from fleet.ra.makers import Makers
from fleet.ra.requests.answer import answer
from fleet.store.codes import GrantKind
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome
from tests.pki import utc_now
from tests.unit.fleet.ra.test_evidence import behind_claim, refused
from tests.yubikeys import Says, YubiKey

YUBIKEY = YubiKey()


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk of today that believes one maker of PIV tokens, in one domain."""
    anchors = Anchors(name="yubico", certificates=(YUBIKEY.root.certificate,))
    makers = Makers(piv_makers={"prod": (PivMaker(anchors=anchors),)})
    async with at_desk(fleet_home, tmp_path) as found:
        found.clock.now = utc_now()
        yield replace(found, context=replace(found.context, makers=makers))


def shown(unit: Unit, says: Says = Says(), *, by: YubiKey = YUBIKEY) -> Proof:  # noqa: B008 - frozen
    return Proof(kind=ProofKind.PIV, evidence=by.evidence(unit.key.public_key(), says))


async def test_an_attested_key_with_a_code_is_certified_and_recorded_as_in_hardware(desk: Desk) -> None:
    identity, unit = await desk.register("gw1"), Unit(device_id="gw1")
    proof = replace(shown(unit), code=(await desk.code_for(identity)).code)
    serials = set()
    for _ in range(2):
        reply = await answer(desk.context, behind_claim(desk, unit), unit.enroll(proof))
        assert isinstance(reply, Issued), reply
        serials.add(reply.serial)
    (proved,) = (await show(desk.context, identity)).proofs
    assert (proved.kind, proved.assurance) == (GrantKind.PIV, Assurance.HARDWARE)
    assert "slot 9a, PIN once, touch never, yubico vouches for it" in proved.evidence
    assert len(serials) == 1


async def test_an_attested_key_that_names_no_device_waits_for_somebody(desk: Desk) -> None:
    unit = Unit(device_id="gw2")
    reply = await answer(desk.context, behind_claim(desk, unit), unit.enroll(shown(unit)))
    assert isinstance(reply, Pending), reply


async def test_evidence_that_proves_nothing_gets_nothing_even_with_a_code(desk: Desk) -> None:
    unit = Unit(device_id="gw3")
    code = (await desk.code_for(await desk.register("gw3"))).code
    cases = {
        "vouches": shown(unit, by=YubiKey()),
        "not the key of the request": shown(Unit(device_id="gw3")),
        "touch policy is always": shown(unit, Says(policy=bytes((2, 2)))),
        "brings no evidence": Proof(kind=ProofKind.PIV),
    }
    for why, proof in cases.items():
        asked = unit.enroll(replace(proof, code=code))
        found, said = refused(await answer(desk.context, behind_claim(desk, unit), asked))
        assert found in {ProblemCode.NOT_ALLOWED, ProblemCode.MALFORMED}
        assert why in said


async def test_a_domain_believes_its_own_makers_of_tokens_alone(desk: Desk) -> None:
    unit = Unit(device_id="gw4")
    code = (await desk.code_for(await desk.register("gw4", domain="lab"))).code
    asked = unit.enroll(replace(shown(unit), code=code))
    reply = await answer(desk.context, behind_claim(desk, unit, domain="lab"), asked)
    assert isinstance(reply, Problem), reply


def test_the_evidence_is_on_the_wire_what_it_is_here() -> None:
    unit = Unit(device_id="gw5")
    asked = unit.enroll(shown(unit))
    again = parse_request(encode(asked))
    assert isinstance(again, Enroll)
    assert again.proof == asked.proof
