"""Challenges, and what answers them: once each, for one key, in one domain."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.evidence import IdevidEvidence, TpmEvidence
from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode, Retry
from device_agent.wire.proofs import idevid_text
from device_agent.wire.replies import Challenge, Issued, Pending, Problem, Reply
from device_agent.wire.requests import Attest, Proof, ProofKind
from fleet.attest.chains import Anchors
from fleet.attest.idevid import Maker
from fleet.attest.tpm_public import read_public
from fleet.core.things import NameRule
from fleet.model import Assurance, BrokerEvent, BrokerEventKind
from fleet.ra.context import Asker
from fleet.ra.devices import show
from fleet.ra.makers import Makers
from fleet.ra.people.roster import ImportFormat, Roster, import_devices
from fleet.ra.requests.answer import answer
from fleet.ra.shown import shown_certificate
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome, utc_now
from tests.makers import TestMaker, pem_text
from tests.pki import Pair, pem_of
from tests.soft_tpm import SoftTpm

MAKER = TestMaker()


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk of today that believes one manufacturer."""
    anchors = Anchors(name="acme", certificates=(MAKER.root.certificate,))
    makers = Makers(manufacturers={"prod": (Maker(anchors=anchors, rule=NameRule.SERIAL_NUMBER),)})
    async with at_desk(fleet_home, tmp_path) as found:
        found.clock.now = utc_now()
        yield replace(found, context=replace(found.context, makers=makers))


def behind_claim(desk: Desk, unit: Unit, *, domain: str = "prod") -> Asker:
    """Return the asker at bootstrap, with the domain's public claim behind him."""
    pem = desk.context.home.public_claim(domain).certificate.read_bytes()
    shown = shown_certificate(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    event = BrokerEvent(
        kind=BrokerEventKind.CONNECTED,
        stamp=1,
        issuer=shown.issuer,
        serial=shown.serial,
        name=f"{domain}.public",
        client_id=unit.key_hash,
        at=desk.clock(),
    )
    desk.context.presence.note(event)
    return unit.at_bootstrap()


async def challenged(desk: Desk, unit: Unit, asker: Asker, tpm: SoftTpm | None = None) -> Challenge:
    asked = Attest(
        id=str(uuid4()),
        device_id=unit.device_id,
        key_hash=unit.key_hash,
        proof=ProofKind.IDEVID if tpm is None else ProofKind.TPM,
        tpm=None if tpm is None else tpm.identity,
    )
    reply = await answer(desk.context, asker, asked)
    assert isinstance(reply, Challenge), reply
    return reply


def signed(pair: Pair, unit: Unit, challenge: Challenge) -> Proof:
    text = idevid_text(
        fleet=challenge.fleet,
        domain=challenge.domain,
        device_id=unit.device_id,
        nonce=challenge.nonce,
        key_hash=unit.key_hash,
    )
    evidence = IdevidEvidence(
        certificate=pem_text(pair),
        chain=b"".join(pem_of(each) for each in pair.chain).decode(),
        nonce=challenge.nonce,
        signature=pair.key.sign(text, ec.ECDSA(hashes.SHA256())),
    )
    return Proof(kind=ProofKind.IDEVID, evidence=evidence)


def attested(tpm: SoftTpm, unit: Unit, challenge: Challenge) -> Proof:
    assert challenge.credential is not None
    assert challenge.secret is not None
    secret = tpm.activate(challenge.credential, challenge.secret, ak=tpm.identity.ak_public)
    evidence = tpm.evidence(
        nonce=challenge.nonce,
        secret=secret,
        device_id=unit.device_id,
        domain=challenge.domain,
        fleet=challenge.fleet,
    )
    return Proof(kind=ProofKind.TPM, evidence=evidence)


def refused(reply: Reply) -> tuple[ProblemCode, str]:
    assert isinstance(reply, Problem), reply
    return reply.code, reply.detail


async def list_ek(desk: Desk, device_id: str, tpm: SoftTpm) -> None:
    ek = b64encode(read_public(tpm.identity.ek_public).key_der).decode()
    roster = Roster(text=f"device_id,ek\n{device_id},{ek}\n", format=ImportFormat.CSV, domain="prod")
    await import_devices(desk.context, roster, actor="operator:test")


async def test_a_challenge_that_a_makers_key_answers_gets_its_device_a_certificate(desk: Desk) -> None:
    identity, unit = await desk.register("0042"), Unit(device_id="0042")
    asker = behind_claim(desk, unit)
    challenge = await challenged(desk, unit, asker)

    proof = signed(MAKER.idevid("0042"), unit, challenge)
    reply = await answer(desk.context, asker, unit.enroll(proof))

    assert isinstance(reply, Issued), reply
    (proved,) = (await show(desk.context, identity)).proofs
    assert (proved.assurance, proved.key_hash) == (Assurance.MANUFACTURER, unit.key_hash)


async def test_of_two_answers_to_one_challenge_at_once_exactly_one_is_heard(desk: Desk) -> None:
    await desk.register("0042")
    await desk.register("0043")
    unit = Unit(device_id="0042")
    asker = behind_claim(desk, unit)
    challenge = await challenged(desk, unit, asker)
    proof = signed(MAKER.idevid("0042"), unit, challenge)

    replies = await asyncio.gather(*(answer(desk.context, asker, unit.enroll(proof)) for _ in range(4)))

    assert sum(isinstance(reply, Issued) for reply in replies) == 1
    others = {refused(reply)[1] for reply in replies if not isinstance(reply, Issued)}
    assert others == {"the challenge was answered already, is too old, or is not ours: ask for another"}


async def test_a_device_whose_answer_was_lost_asks_anew_and_gets_the_same_certificate(desk: Desk) -> None:
    await desk.register("0042")
    unit, pair = Unit(device_id="0042"), MAKER.idevid("0042")
    asker = behind_claim(desk, unit)
    serials = set()
    for _ in range(2):
        proof = signed(pair, unit, await challenged(desk, unit, asker))
        reply = await answer(desk.context, asker, unit.enroll(proof))
        assert isinstance(reply, Issued), reply
        serials.add(reply.serial)
    assert len(serials) == 1


async def test_a_challenge_lives_for_two_minutes(desk: Desk) -> None:
    await desk.register("0042")
    unit = Unit(device_id="0042")
    asker = behind_claim(desk, unit)
    proof = signed(MAKER.idevid("0042"), unit, await challenged(desk, unit, asker))
    desk.clock.forward(timedelta(minutes=2))
    reply = await answer(desk.context, asker, unit.enroll(proof))
    assert refused(reply)[0] is ProblemCode.NOT_CURRENT
    assert isinstance(reply, Problem)
    assert reply.retry is Retry.LATER, "the device asks for another by itself"


async def test_an_answer_is_for_the_key_that_it_was_made_for(desk: Desk) -> None:
    await desk.register("0042")
    unit, thief = Unit(device_id="0042"), Unit(device_id="0042")
    proof = signed(MAKER.idevid("0042"), unit, await challenged(desk, unit, behind_claim(desk, unit)))
    reply = await answer(desk.context, behind_claim(desk, thief), thief.enroll(proof))
    assert "not by the manufacturer's certificate's key" in refused(reply)[1]


async def test_a_domain_believes_its_own_manufacturers_alone(desk: Desk) -> None:
    await desk.register("0042", domain="lab")
    unit = Unit(device_id="0042")
    asker = behind_claim(desk, unit, domain="lab")
    proof = signed(MAKER.idevid("0042"), unit, await challenged(desk, unit, asker))
    reply = await answer(desk.context, asker, unit.enroll(proof))
    assert "no manufacturer of this domain" in refused(reply)[1]


async def test_a_makers_certificate_does_not_take_an_enrolled_device_over(desk: Desk) -> None:
    unit, _ = await desk.enrolled("0042")
    thief = Unit(device_id="0042")
    asker = behind_claim(desk, thief)
    proof = signed(MAKER.idevid("0042"), thief, await challenged(desk, thief, asker))
    reply = await answer(desk.context, asker, thief.enroll(proof))
    assert "was first known by other hardware" in refused(reply)[1]
    assert unit.key_hash != thief.key_hash


async def test_a_device_that_nobody_registered_waits_or_is_registered_as_the_domain_says(desk: Desk) -> None:
    unit = Unit(device_id="0077")
    asker = behind_claim(desk, unit)
    pair = MAKER.idevid("0077")
    waits = await answer(
        desk.context, asker, unit.enroll(signed(pair, unit, await challenged(desk, unit, asker)))
    )
    (maker,) = desk.context.makers.idevids("prod")
    open_makers = Makers(manufacturers={"prod": (replace(maker, may_register=True),)})
    context = replace(desk.context, makers=open_makers)
    proof = signed(pair, unit, await challenged(desk, unit, asker))
    admitted = await answer(context, asker, unit.enroll(proof))
    assert isinstance(waits, Pending)
    assert isinstance(admitted, Issued), admitted


async def test_a_listed_tpm_opens_its_challenge_and_its_key_is_hardware(desk: Desk) -> None:
    tpm = SoftTpm()
    await list_ek(desk, "d7", tpm)
    unit = Unit(device_id="d7", key=tpm.key)
    asker = behind_claim(desk, unit)
    proof = attested(tpm, unit, await challenged(desk, unit, asker, tpm))
    reply = await answer(desk.context, asker, unit.enroll(proof))
    assert isinstance(reply, Issued), reply
    (proved,) = (await show(desk.context, Identity(domain="prod", device_id="d7"))).proofs
    assert proved.assurance is Assurance.HARDWARE


async def test_a_challenge_for_one_tpm_is_opened_by_no_other(desk: Desk) -> None:
    tpm, other = SoftTpm(), SoftTpm()
    await list_ek(desk, "d7", tpm)
    unit = Unit(device_id="d7", key=tpm.key)
    challenge = await challenged(desk, unit, behind_claim(desk, unit), tpm)
    with pytest.raises(ValueError, match="for another TPM"):
        attested(other, unit, challenge)
    with pytest.raises(ValueError, match="another attestation key"):
        attested(replace(tpm, ak=other.ak), unit, challenge)


async def test_evidence_with_another_attestation_key_than_was_challenged_proves_nothing(desk: Desk) -> None:
    tpm, soft = SoftTpm(), SoftTpm()
    await list_ek(desk, "d7", tpm)
    unit = Unit(device_id="d7", key=tpm.key)
    asker = behind_claim(desk, unit)
    proof = attested(tpm, unit, await challenged(desk, unit, asker, tpm))
    assert isinstance(proof.evidence, TpmEvidence)
    faked = replace(tpm, ak=soft.ak).evidence(
        nonce=proof.evidence.nonce, secret=proof.evidence.secret, device_id="d7"
    )
    reply = await answer(desk.context, asker, unit.enroll(replace(proof, evidence=faked)))
    assert "did not open the challenge" in refused(reply)[1]


async def test_another_devices_tpm_is_refused_and_an_unknown_one_gets_no_challenge(
    desk: Desk,
) -> None:
    tpm = SoftTpm()
    await list_ek(desk, "d7", tpm)
    unit = Unit(device_id="d8", key=tpm.key)
    asker = behind_claim(desk, unit)
    proof = attested(tpm, unit, await challenged(desk, unit, asker, tpm))
    reply = await answer(desk.context, asker, unit.enroll(proof))
    assert refused(reply) == (ProblemCode.BAD_IDENTITY, "a list has what was shown for another device")

    unknown = Attest(
        id="a",
        device_id="d9",
        key_hash=unit.key_hash,
        proof=ProofKind.TPM,
        tpm=SoftTpm().identity,
    )
    assert "nobody vouches" in refused(await answer(desk.context, asker, unknown))[1]


async def test_a_code_beside_a_tpm_says_which_device_it_is_in(desk: Desk) -> None:
    tpm = SoftTpm()
    await list_ek(desk, "d7", tpm)
    identity = Identity(domain="prod", device_id="d7")
    code = await desk.code_for(identity)
    unit = Unit(device_id="d7", key=tpm.key)
    asker = behind_claim(desk, unit)
    proof = replace(attested(tpm, unit, await challenged(desk, unit, asker, tpm)), code=code.code)
    reply = await answer(desk.context, asker, unit.enroll(proof))
    assert isinstance(reply, Issued), reply


async def test_a_code_beside_a_tpm_is_of_the_same_device_and_domain(desk: Desk) -> None:
    tpm = SoftTpm()
    await list_ek(desk, "d7", tpm)
    unit = Unit(device_id="d7", key=tpm.key)
    asker = behind_claim(desk, unit)
    others = [await desk.register("d8"), await desk.register("d7", domain="lab")]
    for other in others:
        code = await desk.code_for(other)
        proof = attested(tpm, unit, await challenged(desk, unit, asker, tpm))
        reply = await answer(desk.context, asker, unit.enroll(replace(proof, code=code.code)))
        assert refused(reply)[0] is ProblemCode.CODE_INVALID


@pytest.mark.parametrize("kind", [ProofKind.CODE, ProofKind.CLAIM, ProofKind.STATION, ProofKind.MANIFEST])
async def test_proofs_that_are_not_challenged_get_no_challenge(desk: Desk, kind: ProofKind) -> None:
    unit = Unit(device_id="d1")
    asked = Attest(id="a", device_id="d1", key_hash=unit.key_hash, proof=kind)
    reply = await answer(desk.context, behind_claim(desk, unit), asked)
    assert "needs no challenge" in refused(reply)[1]


@pytest.mark.parametrize("kind", [ProofKind.IDEVID, ProofKind.TPM])
async def test_a_proof_without_evidence_proves_nothing(desk: Desk, kind: ProofKind) -> None:
    unit = Unit(device_id="d1")
    reply = await answer(desk.context, behind_claim(desk, unit), unit.enroll(Proof(kind=kind)))
    assert "brings no evidence" in refused(reply)[1]


async def test_a_challenge_is_given_to_the_owner_of_the_key_alone(desk: Desk) -> None:
    unit, other = Unit(device_id="d1"), Unit(device_id="d1")
    asked = Attest(id="a", device_id="d1", key_hash=other.key_hash, proof=ProofKind.IDEVID)
    reply = await answer(desk.context, behind_claim(desk, unit), asked)
    assert "must be the SHA-256 of the key" in refused(reply)[1]


async def test_challenges_are_not_asked_for_without_end(desk: Desk) -> None:
    unit = Unit(device_id="d1")
    asker = behind_claim(desk, unit)
    asked = Attest(id="a", device_id="d1", key_hash=unit.key_hash, proof=ProofKind.IDEVID)
    for _ in range(desk.context.config.policy.recover_per_minute):
        await answer(desk.context, asker, asked)
    assert refused(await answer(desk.context, asker, asked))[0] is ProblemCode.RATE_LIMITED
