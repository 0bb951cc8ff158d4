"""Authorities on record and at work: who signs, and how a change takes effect while the server runs."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Issued, Problem
from fleet.ca.signers import Signer
from fleet.core.authority import AuthorityState
from fleet.core.goodkey import CertifiedKey
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority.authority_records import known_authorities
from fleet.ra.choice import IssuerName, choose_issuer
from fleet.ra.requests.answer import answer
from fleet.store.authorities import (
    LeavesQuery,
    count_leaf,
    insert_authority,
    leaves_of,
    list_authorities,
    save_authority,
)
from fleet.store.certificates import CertificateQuery, list_certificates
from tests.desk import NOON, Desk, Unit


async def set_state(desk: Desk, folder: str, state: AuthorityState) -> None:
    records = await desk.context.store.read(list_authorities, None)
    (record,) = [one for one in records if one.folder == folder]
    await desk.context.store.write(save_authority, replace(record, state=state))


async def enroll(desk: Desk, device_id: str) -> Issued | Problem:
    identity = await desk.register(device_id)
    unit = Unit(device_id=device_id)
    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(await desk.code_for(identity)))
    assert isinstance(reply, Issued | Problem)
    return reply


async def test_the_records_of_a_new_home_are_those_of_its_files(desk: Desk) -> None:
    records = await desk.context.store.read(list_authorities, None)
    of_files = desk.context.authority.records
    assert [(one.folder, one.issuer, one.purpose) for one in records] == [
        (one.folder, one.issuer, one.purpose) for one in of_files
    ]
    assert {record.state for record in records} == {AuthorityState.ACTIVE}


async def test_a_ca_that_was_stopped_signs_nothing_from_that_commit_on(desk: Desk) -> None:
    await set_state(desk, "prod/device-1", AuthorityState.RETIRING)
    reply = await enroll(desk, "d1")  # nothing was read again yet
    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.UNAVAILABLE


async def test_a_ca_that_goes_on_signs_again_without_a_restart(desk: Desk) -> None:
    await set_state(desk, "prod/device-1", AuthorityState.RETIRING)
    await reload_authority(desk.context)
    assert desk.context.authority.active(Purpose.DEVICE, "prod") == ()
    await set_state(desk, "prod/device-1", AuthorityState.ACTIVE)
    await reload_authority(desk.context)
    assert isinstance(await enroll(desk, "d1"), Issued)


async def test_keys_are_not_opened_again_when_the_authorities_are_read_again(desk: Desk) -> None:
    before = desk.context.authority.issuers
    await reload_authority(desk.context)
    first = desk.context.authority.issuers
    await reload_authority(desk.context)
    assert [one.signer for one in desk.context.authority.issuers] == [one.signer for one in first]
    assert [one.issuer_id for one in first] == [one.issuer_id for one in before]


async def test_another_domain_goes_on_where_one_has_no_ca(desk: Desk) -> None:
    await set_state(desk, "lab/device-1", AuthorityState.COMPROMISED)
    await reload_authority(desk.context)
    assert isinstance(await enroll(desk, "d1"), Issued)


async def choose(desk: Desk, *names: IssuerName) -> str | None:
    async def work(tx: Transaction, names: tuple[IssuerName, ...]) -> IssuerName | None:
        return await choose_issuer(tx, names, now=NOON)

    chosen = await desk.context.store.write(work, names)
    return None if chosen is None else chosen.issuer


async def added(desk: Desk, number: int, *, room: int | None, leaves: int = 0) -> IssuerName:
    """Put a CA on record, with some leaves."""
    (first,) = [one for one in desk.context.authority.records if one.folder == "prod/device-1"]
    record = replace(first, folder=f"prod/device-{number}", issuer=f"{number:040x}", room=room)
    await desk.context.store.write(insert_authority, record)

    async def fill(tx: Transaction, count: int) -> None:
        serial = (await list_certificates(tx, CertificateQuery(purpose=Purpose.OPERATOR)))[0].serial
        for _ in range(count):
            end = NOON + timedelta(days=90)
            await count_leaf(tx, serial, issuer=record.issuer, not_after=end)

    await desk.context.store.write(fill, leaves)
    return IssuerName(issuer=record.issuer, anchor="ab" * 32)


async def test_leaves_go_to_the_first_ca_with_room(desk: Desk) -> None:
    full = await added(desk, 2, room=3, leaves=3)
    roomy = await added(desk, 3, room=4, leaves=3)
    boundless = await added(desk, 4, room=None, leaves=5)
    assert await choose(desk, full, roomy, boundless) == roomy.issuer
    assert await choose(desk, boundless, roomy) == boundless.issuer
    assert await choose(desk, full, boundless) == boundless.issuer


async def test_where_all_are_full_nobody_is_turned_away(desk: Desk) -> None:
    most = await added(desk, 2, room=2, leaves=6)
    less = await added(desk, 3, room=4, leaves=6)
    assert await choose(desk, most, less) == less.issuer


async def test_a_ca_without_a_record_is_not_chosen(desk: Desk) -> None:
    assert await choose(desk, IssuerName(issuer="ff" * 20, anchor="ab" * 32)) is None
    assert await choose(desk) is None


async def test_room_is_taken_by_leaves_that_have_not_ended(desk: Desk) -> None:
    ca = await added(desk, 2, room=2, leaves=2)
    later = LeavesQuery(issuer=ca.issuer, now=NOON + timedelta(days=91))
    assert await desk.context.store.read(leaves_of, LeavesQuery(issuer=ca.issuer, now=NOON)) == 2
    assert await desk.context.store.read(leaves_of, later) == 0


async def test_each_certificate_that_is_issued_takes_room(desk: Desk) -> None:
    issuer = desk.context.authority.issuer(Purpose.DEVICE, "prod").issuer_id
    before = await desk.context.store.read(leaves_of, LeavesQuery(issuer=issuer, now=NOON))
    assert isinstance(await enroll(desk, "d1"), Issued)
    assert await desk.context.store.read(leaves_of, LeavesQuery(issuer=issuer, now=NOON)) == before + 1


async def test_a_home_of_before_gets_its_records_from_its_files_once(desk: Desk) -> None:
    async def forget(tx: Transaction, _argument: None) -> None:
        await tx.execute("DELETE FROM authorities")

    context = desk.context
    before = [(one.folder, one.issuer, one.state) for one in await context.store.read(list_authorities, None)]
    await context.store.write(forget, None)
    found = await known_authorities(context.store, context.home, now=NOON)
    assert [(one.folder, one.issuer, one.state) for one in found] == before
    await set_state(desk, "prod/device-1", AuthorityState.RETIRING)
    again = await known_authorities(context.store, context.home, now=NOON)
    assert [one.state for one in again if one.folder == "prod/device-1"] == [AuthorityState.RETIRING]


class AskedSigner:
    """A signer that answers when it is let: a token."""

    waits = True

    def __init__(self, inner: Signer) -> None:
        self._inner = inner
        self.asked, self.released = threading.Event(), threading.Event()

    @property
    def public_key(self) -> CertifiedKey:
        return self._inner.public_key

    def sign(self, message: bytes) -> bytes:
        self.asked.set()
        assert self.released.wait(10)
        return self._inner.sign(message)

    def unlock(self) -> None:
        self._inner.unlock()


async def test_while_a_token_is_asked_others_are_served(desk: Desk) -> None:
    authority = desk.context.authority
    issuer = authority.issuer(Purpose.DEVICE, "prod")
    signer = AskedSigner(issuer.signer)
    issuers = tuple(replace(one, signer=signer) if one is issuer else one for one in authority.issuers)
    desk.context.in_force.replace(authority=replace(authority, issuers=issuers))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(enroll(desk, "d1"))
        assert await asyncio.to_thread(signer.asked.wait, 10)
        await desk.enrolled("d2", domain="lab")
        assert not waiting.done()
        signer.released.set()
    assert isinstance(waiting.result(), Issued)
