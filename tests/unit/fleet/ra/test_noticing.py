"""Retained notices: posted once each, gone on with after a stop, and early where a CA was given up."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.wire.identity import Identity
from device_agent.wire.notices import Notice
from device_agent.wire.replies import Confirmed, Issued, Status
from device_agent.wire.requests import Confirm, StatusQuery
from fleet.core.authority import AuthorityState
from fleet.errors import UnreachableError
from fleet.model import CertificateState, Purpose
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority.trust_health import trust
from fleet.ra.context import Context
from fleet.ra.noticing import post_notices, post_soon
from fleet.ra.requests.answer import answer
from fleet.ra.requests.hastening import Haste, hasten, moment_of
from fleet.ra.requests.held_trust import note
from fleet.ra.succession.compromise import Admission, Loss, LossOrder, give_up, rehearse_loss
from fleet.ra.succession.retiring import retire_authority
from fleet.ra.succession.rollover_steps import Mode
from fleet.store.certificates import load_certificate
from fleet.store.notices import count_due, count_wanted, want_notice, want_notices
from fleet.store.trust import HeldTrust
from tests.desk import Desk, at_desk
from tests.homes import key_ring, make_home, utc_now
from tests.rolling import ACTOR, stand_by


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    home = await asyncio.to_thread(make_home, tmp_path / "home")
    async with at_desk(home, tmp_path) as opened:
        opened.clock.now = utc_now()
        yield opened


class Letterbox:
    """Takes what is posted, until it is full."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.posted: list[tuple[str, Notice]] = []

    async def post(self, topic: str, body: bytes) -> None:
        if len(self.posted) == self.room:
            raise UnreachableError("the broker is away")
        self.posted.append((topic, Notice.parse(body)))

    def at(self, desk: Desk) -> Context:
        return replace(desk.context, post=self.post)


async def active(desk: Desk, device_id: str) -> Issued:
    _, issued = await desk.enrolled(device_id)
    reply = await answer(desk.context, desk.speaking(issued, device_id=device_id), Confirm(id="1"))
    assert isinstance(reply, Confirmed), reply
    return issued


async def test_a_notice_is_posted_once_for_all_that_was_wanted(desk: Desk) -> None:
    issued, box = await active(desk, "d1"), Letterbox()
    who = Identity(domain="prod", device_id="d1")
    await desk.context.store.write(want_notice, who)
    await desk.context.store.write(want_notice, who)
    assert await post_notices(box.at(desk)) == 1
    assert await post_notices(box.at(desk)) == 0
    ((topic, notice),) = box.posted
    assert (topic, notice.serial) == ("fleet/v1/prod/d1/notice", issued.serial)
    assert notice.renew_after == issued.renew_after
    assert notice.bundles == ()


async def test_the_doctor_names_devices_that_refuse_a_bundle(desk: Desk) -> None:
    await active(desk, "pump1")
    assert [one.ok for one in await trust(desk.context)] == [True]
    told = HeldTrust(
        identity=Identity(domain="prod", device_id="pump1"),
        problem="trust-forged",
        reported_at=desk.clock(),
    )
    await desk.context.store.write(note, told)
    (found,) = await trust(desk.context)
    assert not found.ok
    assert "prod:pump1 (trust-forged)" in found.text
    assert found.fix == "fleet audit search --device prod:pump1 --action trust.refused"


async def test_a_realm_is_told_as_a_whole_and_no_other(desk: Desk) -> None:
    await active(desk, "d1")
    await desk.enrolled("d1", domain="lab")
    assert await desk.context.store.write(want_notices, "prod") == 1
    assert await desk.context.store.write(want_notices, "lab") == 0, "its certificate is not confirmed yet"


async def test_what_a_broker_did_not_take_is_posted_later(desk: Desk) -> None:
    for device_id in ("d1", "d2", "d3"):
        await active(desk, device_id)
    await desk.context.store.write(want_notices, "prod")
    box = Letterbox(room=2)
    with pytest.raises(UnreachableError):
        await post_notices(box.at(desk))
    assert await desk.context.store.read(count_wanted, None) == 1
    await post_soon(box.at(desk))
    box.room = 9
    await post_soon(box.at(desk))
    assert sorted(topic for topic, _ in box.posted) == [
        f"fleet/v1/prod/{device_id}/notice" for device_id in ("d1", "d2", "d3")
    ]
    assert await desk.context.store.read(count_wanted, None) == 0


async def test_lineages_are_hastened_once_each_at_a_moment_of_their_own(desk: Desk) -> None:
    issued = [await active(desk, device_id) for device_id in ("d1", "d2", "d3")]
    issuer = next(one.issuer for one in desk.context.authority.records if one.folder == "prod/device-1")
    haste = Haste(issuer=issuer, begins=desk.clock(), within=timedelta(hours=24), actor=ACTOR)
    assert await hasten(desk.context, haste) == 3
    assert await hasten(desk.context, replace(haste, within=timedelta())) == 0
    assert await desk.context.store.read(count_due, issuer) == 3
    moments = [moment_of(one.serial, haste) for one in issued]
    assert all(desk.clock() <= moment <= desk.clock() + timedelta(hours=24) for moment in moments)
    box = Letterbox()
    await post_notices(box.at(desk))
    told = {notice.serial: notice.renew_after for _, notice in box.posted}
    assert told == {one.serial: moment for one, moment in zip(issued, moments, strict=True)}


async def test_a_status_tells_the_early_renewal_too(desk: Desk) -> None:
    """A device that is cut off gets no notice: it asks at the recovery listener what is wrong."""
    issued = await active(desk, "d1")
    issuer = next(one.issuer for one in desk.context.authority.records if one.folder == "prod/device-1")
    await hasten(desk.context, Haste(issuer=issuer, begins=desk.clock(), within=timedelta(), actor=ACTOR))
    reply = await answer(desk.context, desk.speaking(issued), StatusQuery(id="2"))
    assert isinstance(reply, Status)
    assert reply.renew_after == desk.clock()


def lost(at: datetime, loss: Loss, **more: object) -> LossOrder:
    return LossOrder(name="prod/device-1", loss=loss, actor=ACTOR, at=at, **more)  # type: ignore[arg-type] # by name


async def test_a_stolen_ca_is_given_up_in_parts_that_are_done_once(desk: Desk) -> None:
    issued, standby = await active(desk, "d1"), await stand_by(desk.context)
    order = lost(desk.clock(), Loss.COMPROMISED)
    rehearsed = await rehearse_loss(desk.context, order)
    assert (rehearsed.successor, rehearsed.revoked, rehearsed.due) == (standby, None, 0)
    first, again = await give_up(desk.context, order), await give_up(desk.context, order)
    assert (first.hastened, again.hastened) == (1, 0)
    assert replace(first, hastened=0) == again
    assert (first.state, first.successor) == (AuthorityState.RETIRING, standby)
    assert first.revoked is not None
    row = await desk.context.store.read(load_certificate, first.revoked)
    assert row is not None
    assert (row.state, row.reason) == (CertificateState.REVOKED, "cACompromise")
    still = await desk.context.store.read(load_certificate, issued.serial)
    assert still is not None
    assert still.state is CertificateState.ACTIVE, "its device has to come back with it"


async def test_what_the_home_has_of_a_stolen_ca_it_gets_of_its_heir(desk: Desk) -> None:
    """The server would be the last to live by it, and no device could tell it from the thief's."""
    heir = await stand_by(desk.context, "fleet", Purpose.SERVER)
    order = replace(lost(desk.clock(), Loss.COMPROMISED), name="fleet/server-1")
    for _ in range(2):
        outcome = await give_up(desk.context, order)
        assert (outcome.successor, outcome.problems) == (heir, ())
    issuer = desk.context.authority.issuer(Purpose.SERVER)
    served = x509.load_pem_x509_certificate(desk.context.home.server.certificate.read_bytes())
    assert served.issuer == issuer.certificate.subject
    assert issuer.issuer_id == next(
        one.issuer for one in desk.context.authority.records if one.folder == heir
    )


async def test_it_is_named_compromised_once_nobody_lives_by_it(desk: Desk) -> None:
    await stand_by(desk.context)
    await give_up(desk.context, lost(desk.clock(), Loss.COMPROMISED))
    told = await retire_authority(desk.context, "prod/device-1", actor=ACTOR, mode=Mode.REHEARSE)
    assert told.after is AuthorityState.COMPROMISED
    await retire_authority(desk.context, "prod/device-1", actor=ACTOR, mode=Mode.ACT)
    state = next(one.state for one in desk.context.authority.records if one.folder == "prod/device-1")
    assert state is AuthorityState.COMPROMISED


async def test_an_heir_that_cannot_sign_is_passed_over_and_told(desk: Desk) -> None:
    first, second = await stand_by(desk.context), await stand_by(desk.context)
    desk.context.home.authority_files(first).ca.key.unlink()
    desk.context.in_force.keys = key_ring(desk.context.home)  # as after a start: nothing is open yet
    await reload_authority(desk.context)
    outcome = await give_up(desk.context, lost(desk.clock(), Loss.LOST, admission=Admission.CUT_OFF))
    assert outcome.successor == second
    assert len(outcome.problems) == 1
