"""Each rung of the way back and its refusals: old key, same hardware, code; each ends in a new key."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Confirmed, Issued, Problem, Reply
from device_agent.wire.requests import Confirm, Renew
from fleet.attest.chains import Anchors
from fleet.attest.idevid import Maker
from fleet.attest.proof import Proven
from fleet.core.things import NameRule
from fleet.core.way_back import HardwareWay
from fleet.errors import RefusedError
from fleet.model import Assurance, BrokerEventKind, CertificateState
from fleet.ra.context import Asker, Listener
from fleet.ra.devices import resume, suspend
from fleet.ra.keeping.housekeeping import tick
from fleet.ra.makers import Makers
from fleet.ra.people.explain import explain
from fleet.ra.requests.admission import Admitted, admit
from fleet.ra.requests.answer import answer
from fleet.ra.requests.applicants import Applicant, HardwareProof
from fleet.ra.shown import ShownCertificate
from fleet.store.certificates import load_certificate
from fleet.store.codes import GrantKind
from fleet.store.devices import load_device
from fleet.store.proofs import ProofRecord, keep_proof
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome, utc_now
from tests.makers import TestMaker
from tests.pki import Pair
from tests.unit.fleet.ra.test_evidence import behind_claim, challenged, signed

MAKER = TestMaker()
IDENTITY = Identity(domain="prod", device_id="d7")
ADA = "operator:ada"
LIFE = timedelta(days=3)
"""Longer than a certificate, with its grace; shorter than the life of the makers' CAs of tests."""

Opened = Callable[[str], AbstractAsyncContextManager[Desk]]


@pytest.fixture
def opened(fleet_home: FleetHome, tmp_path: Path) -> Opened:
    """Opens a desk whose policy lets hardware return in one way, and that believes one manufacturer."""

    @asynccontextmanager
    async def open_desk(way: str) -> AsyncIterator[Desk]:
        said = fleet_home.home.config.read_text()
        toml = said.replace('hardware_returns = "expired"', f'hardware_returns = "{way}"')
        assert f'"{way}"' in toml
        toml = re.sub(r"(lifetime_days|grace_days)( +)?= \d+", r"\1 = 1", toml)
        anchors = Anchors(name="acme", certificates=(MAKER.root.certificate,))
        makers = Makers(manufacturers={"prod": (Maker(anchors=anchors, rule=NameRule.SERIAL_NUMBER),)})
        async with at_desk(fleet_home, tmp_path, toml=toml) as found:
            found.clock.now = utc_now().replace(microsecond=0)
            yield replace(found, context=replace(found.context, makers=makers))

    return open_desk


async def by_hardware(desk: Desk, idevid: Pair, unit: Unit) -> Reply:
    asker = behind_claim(desk, unit)
    return await answer(
        desk.context, asker, unit.enroll(signed(idevid, unit, await challenged(desk, unit, asker)))
    )


async def at_work(desk: Desk, issued: Issued) -> None:
    """Let the device connect with a certificate, and confirm it."""
    await desk.happens(BrokerEventKind.CONNECTED, issued.serial, stamp=1)
    reply = await answer(desk.context, desk.speaking(issued, device_id="d7"), Confirm(id=str(uuid4())))
    assert isinstance(reply, Confirmed), reply


async def known_by(desk: Desk, idevid: Pair) -> tuple[Unit, Issued]:
    """Return a device at work that was let in by its hardware."""
    await desk.register("d7")
    unit = Unit(device_id="d7")
    reply = await by_hardware(desk, idevid, unit)
    assert isinstance(reply, Issued), reply
    await at_work(desk, reply)
    return unit, reply


async def time_goes_by(desk: Desk, by: timedelta) -> None:
    desk.clock.forward(by)
    await tick(desk.context)
    await tick(desk.context)


async def at_recovery(desk: Desk, issued: Issued, unit: Unit, *, attempt: int = 1) -> Reply:
    row = await desk.context.store.read(load_certificate, issued.serial)
    assert row is not None
    assert row.signed is not None
    shown = ShownCertificate(issuer=row.issuer, serial=issued.serial, fingerprint=row.signed.fingerprint)
    asker = Asker(listener=Listener.RECOVERY, address="192.0.2.9", certificate=shown)
    return await answer(desk.context, asker, Renew(id=str(uuid4()), csr=unit.csr, attempt=attempt))


def refused(reply: Reply) -> tuple[ProblemCode, str]:
    assert isinstance(reply, Problem), reply
    return reply.code, reply.detail


async def advice(desk: Desk) -> str:
    return (await explain(desk.context, IDENTITY)).advice


async def test_after_the_grace_the_same_hardware_brings_a_device_back_with_a_new_key(opened: Opened) -> None:
    idevid = MAKER.idevid("d7")
    async with opened("expired") as desk:
        unit, first = await known_by(desk, idevid)
        await time_goes_by(desk, LIFE)
        row = await desk.context.store.read(load_certificate, first.serial)
        assert row is not None
        assert row.state is CertificateState.EXPIRED_FINAL
        assert "device-agent recover --hardware" in await advice(desk)

        assert refused(await at_recovery(desk, first, Unit(device_id="d7")))[0] is ProblemCode.NOT_CURRENT
        assert refused(await by_hardware(desk, idevid, unit))[0] is not None
        fresh = Unit(device_id="d7")
        back = await by_hardware(desk, idevid, fresh)

        assert isinstance(back, Issued), back
        await at_work(desk, back)
        device = await desk.context.store.read(load_device, IDENTITY)
        assert device is not None
        assert device.current == back.serial


async def test_other_hardware_of_the_same_name_brings_nobody_back(opened: Opened) -> None:
    async with opened("always") as desk:
        await known_by(desk, MAKER.idevid("d7"))
        code, why = refused(await by_hardware(desk, MAKER.idevid("d7"), Unit(device_id="d7")))
        assert (code, why) == (ProblemCode.NOT_ALLOWED, "prod:d7 was first known by other hardware")


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("never", "prod:d7 is enrolled already, with another key"),
        ("expired", "prod:d7 has a certificate in force, with another key"),
        ("always", ""),
    ],
)
async def test_while_a_certificate_is_in_force_the_policy_says_whether_hardware_counts(
    opened: Opened, way: str, why: str
) -> None:
    idevid = MAKER.idevid("d7")
    async with opened(way) as desk:
        await known_by(desk, idevid)
        reply = await by_hardware(desk, idevid, Unit(device_id="d7"))
        assert isinstance(reply, Issued) if not why else refused(reply)[1] == why


async def test_a_policy_of_never_leaves_a_code_alone(opened: Opened) -> None:
    idevid = MAKER.idevid("d7")
    async with opened("never") as desk:
        await known_by(desk, idevid)
        await time_goes_by(desk, LIFE)
        assert refused(await by_hardware(desk, idevid, Unit(device_id="d7")))[0] is ProblemCode.NOT_ALLOWED
        assert "fleet claim create" in await advice(desk)
        assert "--hardware" not in await advice(desk)


async def test_a_suspended_or_revoked_device_does_not_come_back_by_its_hardware(opened: Opened) -> None:
    idevid = MAKER.idevid("d7")
    async with opened("always") as desk:
        await known_by(desk, idevid)
        await suspend(desk.context, IDENTITY, actor=ADA)
        assert refused(await by_hardware(desk, idevid, Unit(device_id="d7")))[0] is ProblemCode.SUSPENDED
        await resume(desk.context, IDENTITY, actor=ADA)
        await desk.revoke("d7")
        assert refused(await by_hardware(desk, idevid, Unit(device_id="d7")))[0] is ProblemCode.REVOKED


async def test_within_the_grace_the_old_key_speaks_for_a_new_one_and_never_for_itself(
    opened: Opened,
) -> None:
    async with opened("expired") as desk:
        unit, first = await known_by(desk, MAKER.idevid("d7"))
        row = await desk.context.store.read(load_certificate, first.serial)
        assert row is not None
        assert row.signed is not None
        await time_goes_by(desk, row.signed.not_after - desk.clock() + timedelta(hours=1))
        assert "by itself within the grace time" in await advice(desk)

        assert refused(await at_recovery(desk, first, unit))[0] is ProblemCode.KEY_IN_USE
        reply = await at_recovery(desk, first, Unit(device_id="d7"))
        assert isinstance(reply, Issued), reply


async def test_a_code_brings_a_device_back_with_a_new_key_and_never_with_the_old_one(opened: Opened) -> None:
    async with opened("expired") as desk:
        unit, _ = await known_by(desk, MAKER.idevid("d7"))
        await time_goes_by(desk, LIFE)
        code = await desk.code_for(IDENTITY)
        code_again, why = refused(await answer(desk.context, unit.at_bootstrap(), unit.enroll(code)))
        assert (code_again, why) == (
            ProblemCode.KEY_IN_USE,
            "a code admits a new key, and this one had its life",
        )
        fresh = Unit(device_id="d7")
        assert isinstance(await answer(desk.context, fresh.at_bootstrap(), fresh.enroll(code)), Issued)


async def test_hardware_that_looks_like_another_of_its_kind_brings_nobody_back(opened: Opened) -> None:
    def asking(key_hash: str, *, tells_apart: bool) -> Applicant:
        token = Proven(
            assurance=Assurance.HARDWARE, evidence="YubiKey without a serial number", tells_apart=tells_apart
        )
        return Applicant(
            device_id="d7",
            key_hash=key_hash,
            proof=HardwareProof(kind=GrantKind.PIV, domain="prod", proven=token),
            address="",
            at=utc_now(),
            hardware_returns=HardwareWay.ALWAYS,
        )

    async with opened("always") as desk:
        unit, _ = await desk.enrolled("d7")
        first = ProofRecord(
            identity=IDENTITY,
            key_hash=unit.key_hash,
            kind=GrantKind.PIV,
            assurance=Assurance.HARDWARE,
            evidence="YubiKey without a serial number",
            proved_at=desk.clock(),
        )
        await desk.context.store.write(keep_proof, first)

        with pytest.raises(RefusedError, match="first known by other hardware"):
            await desk.context.store.write(admit, asking("aa" * 32, tells_apart=False))
        admitted = await desk.context.store.write(admit, asking("bb" * 32, tells_apart=True))
        assert isinstance(admitted, Admitted)
