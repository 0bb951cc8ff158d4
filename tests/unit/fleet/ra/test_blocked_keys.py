"""Blocked keys: never certified again, whoever asks, by whatever way, for whatever purpose."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Problem
from device_agent.wire.requests import Renew
from fleet.core.goodkey import key_hash
from fleet.errors import BadInputError, RefusedError
from fleet.model import Purpose
from fleet.ra import issue_own
from fleet.ra.issue_own import OwnRequest
from fleet.ra.people.batches import surroundings
from fleet.ra.people.blocked_keys import KeyBlock, block_keys, list_blocked_keys
from fleet.ra.requests.answer import answer
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.keys import COMPROMISED, KeyQuery
from tests.desk import Desk, Unit

ADA = "operator:ada"


def blocking(*hashes: str) -> KeyBlock:
    return KeyBlock(key_hashes=hashes, reason="found on a forum", actor=ADA)


async def test_a_blocked_key_gets_no_certificate_with_a_good_code(desk: Desk) -> None:
    unit = Unit(device_id="d1")
    await block_keys(desk.context, blocking(unit.key_hash))

    request = unit.enroll(await desk.code_for(await desk.register("d1")))
    reply = await answer(desk.context, unit.at_bootstrap(), request)
    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.BAD_KEY
    assert "found on a forum" in reply.detail


async def test_a_device_in_service_does_not_renew_into_a_blocked_key(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    follower = Unit(device_id="d1")
    await block_keys(desk.context, blocking(follower.key_hash))

    renewal = Renew(id="r1", csr=follower.csr, attempt=1)
    reply = await answer(desk.context, desk.speaking(issued), renewal)
    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.BAD_KEY


async def test_the_key_of_a_compromised_certificate_is_blocked_by_itself(desk: Desk) -> None:
    unit, _ = await desk.enrolled("d1")
    await desk.revoke("d1")

    (blocked,) = await list_blocked_keys(desk.context, KeyQuery())
    assert (blocked.key_hash, blocked.reason, blocked.blocked_by) == (unit.key_hash, COMPROMISED, "server")


async def test_our_own_certificates_are_not_made_for_a_blocked_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    await block_keys(desk.context, blocking(key_hash(key.public_key())))
    monkeypatch.setattr(issue_own, "make_key", lambda: key)

    request = OwnRequest(purpose=Purpose.OPERATOR, name="eve", actor=ADA)
    with pytest.raises(RefusedError, match="blocked"):
        await issue_own.issue_own(surroundings(desk.context), request, now=desk.clock())


async def test_blocking_tells_what_is_still_in_force_and_keeps_the_first_reason(desk: Desk) -> None:
    unit, issued = await desk.enrolled("d1")

    first = await block_keys(desk.context, blocking(unit.key_hash, "ab" * 32))
    again = await block_keys(desk.context, blocking(unit.key_hash))
    assert (first.new, first.known, first.in_force) == (2, 0, (issued.serial,))
    assert (again.new, again.known) == (0, 1)
    entries = await desk.context.store.read(audit.search, AuditQuery(action="key.blocked"))
    assert len(entries) == 2


async def test_a_list_is_blocked_whole_or_refused(desk: Desk) -> None:
    for hashes in ((), ("ab" * 32,) * 65):
        with pytest.raises(BadInputError):
            await block_keys(desk.context, blocking(*hashes))


async def test_blocked_keys_are_listed_page_by_page(desk: Desk) -> None:
    await block_keys(desk.context, blocking("0a" * 32, "0b" * 32, "0c" * 32))

    first = await list_blocked_keys(desk.context, KeyQuery(limit=2))
    rest = await list_blocked_keys(desk.context, KeyQuery(after=first[-1].key_hash, limit=2))
    assert [key.key_hash[:2] for key in (*first, *rest)] == ["0a", "0b", "0c"]


async def test_the_key_of_an_authority_at_work_is_not_blocked(desk: Desk) -> None:
    issuer = desk.context.authority.issuer(Purpose.DEVICE, "prod")
    with pytest.raises(RefusedError, match="prod/device-1") as refused:
        await block_keys(desk.context, blocking(key_hash(issuer.signer.public_key)))
    assert refused.value.hint is not None
    assert "fleet ca compromise prod/device-1" in refused.value.hint
