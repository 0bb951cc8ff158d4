"""Operators who lost their certificates: let in by two others, for a new key, once, and the old one ends."""

import asyncio
from datetime import timedelta

import pyotp
import pytest

from device_agent.wire.secret import Secret
from fleet.core.readmission import ReadmissionState
from fleet.errors import NotFoundError, RefusedError, StoreError
from fleet.model import CertificateState, Purpose, Role
from fleet.ra.context import PLEAS_PER_MINUTE
from fleet.ra.people import readmission
from fleet.ra.people.operators import add_operator, remove_operator
from fleet.ra.people.readmission import (
    MOST_OPEN,
    Plea,
    Vouching,
    ask,
    deny,
    expire_pleas,
    list_pleas,
    vouch,
)
from fleet.ra.people.second_factor import CodeUse, ShownCode, enroll, require_code
from fleet.store.audit import AuditQuery, search
from fleet.store.certificates import CertificateQuery, CertificateRecord, list_certificates
from fleet.store.readmissions import ReadmissionRecord
from tests.desk import Desk, Unit

LOCAL = "operator:local"


@pytest.fixture
async def people(desk: Desk) -> None:
    """Ada, Bob and Eve of the role security, beside the admin of the home, and Vic, a viewer."""
    for name in ("ada", "bob", "eve"):
        await add_operator(desk.context, name, role=Role.SECURITY, actor=LOCAL)
    await add_operator(desk.context, "vic", role=Role.VIEWER, actor=LOCAL)


def plea(unit: Unit, *, name: str = "ada", code: str = "", address: str = "192.0.2.9") -> Plea:
    return Plea(operator=name, csr=unit.csr, code=Secret(code), address=address)


async def say(desk: Desk, voice: str, heard: ReadmissionRecord, *, name: str = "ada") -> ReadmissionRecord:
    return await vouch(desk.context, Vouching(operator=name, spoken=heard.spoken_code.lower(), voice=voice))


async def certificates(desk: Desk, name: str = "ada") -> dict[str, CertificateRecord]:
    query = CertificateQuery(purpose=Purpose.OPERATOR, name_prefix=name, limit=100)
    found = await desk.context.store.read(list_certificates, query)
    return {each.serial: each for each in found if each.name == name}


async def told(desk: Desk) -> list[tuple[str, str]]:
    found = await desk.context.store.read(search, AuditQuery(limit=1000, action="operator.*"))
    return [
        (each.entry.action, each.entry.actor)
        for each in found
        if each.entry.action not in {"operator.added", "operator.removed"}
    ]


@pytest.mark.usefixtures("people")
async def test_two_others_let_her_in_with_a_new_key_and_what_she_had_is_revoked(desk: Desk) -> None:
    (old,) = await certificates(desk)
    unit = Unit()
    asked = await ask(desk.context, plea(unit))

    assert (await say(desk, "bob", asked)).state is ReadmissionState.OPEN
    done = await say(desk, "eve", asked)

    assert done.state is ReadmissionState.DONE
    assert done.serial is not None
    found = await certificates(desk)
    assert found[old].state is CertificateState.REVOKED
    assert found[done.serial].state is CertificateState.ACTIVE
    assert found[done.serial].life.key_hash == unit.key_hash != found[old].life.key_hash
    assert await ask(desk.context, plea(unit)) == done
    assert await told(desk) == [
        ("operator.readmission-asked", "unknown"),
        ("operator.vouched", "operator:bob"),
        ("operator.vouched", "operator:eve"),
        ("operator.readmitted", "server"),
    ]


@pytest.mark.usefixtures("people")
async def test_one_voice_is_one_however_often_it_is_raised(desk: Desk) -> None:
    asked = await ask(desk.context, plea(Unit()))
    for _ in range(3):
        assert (await say(desk, "bob", asked)).state is ReadmissionState.OPEN
    assert (await say(desk, "vic", asked)).state is ReadmissionState.OPEN
    await say(desk, "eve", asked)
    assert [action for action, _ in await told(desk)].count("operator.vouched") == 3


@pytest.mark.usefixtures("people")
async def test_nobody_vouches_for_himself_or_by_a_code_that_nobody_read_out(desk: Desk) -> None:
    asked = await ask(desk.context, plea(Unit()))
    with pytest.raises(RefusedError, match="nobody vouches for himself"):
        await say(desk, "ada", asked)
    with pytest.raises(NotFoundError, match="nobody asks in the name of ada with that code"):
        await vouch(desk.context, Vouching(operator="ada", spoken="0000-0000-0000", voice="bob"))
    with pytest.raises(NotFoundError, match="nobody asks in the name of bob"):
        await say(desk, "eve", asked, name="bob")
    assert [action for action, _ in await told(desk)].count("operator.vouch-refused") == 3


@pytest.mark.usefixtures("people")
async def test_the_word_of_somebody_who_was_removed_since_counts_no_more(desk: Desk) -> None:
    asked = await ask(desk.context, plea(Unit()))
    await say(desk, "bob", asked)
    await remove_operator(desk.context, "bob", actor=LOCAL)
    assert (await say(desk, "eve", asked)).state is ReadmissionState.OPEN
    assert (await say(desk, "local", asked)).state is ReadmissionState.DONE


@pytest.mark.usefixtures("people")
async def test_an_operator_and_those_whom_he_made_are_one_voice(desk: Desk) -> None:
    for name, by in (("puppet", "operator:bob"), ("of-ada", "operator:ada")):
        await add_operator(desk.context, name, role=Role.SECURITY, actor=by)
    asked = await ask(desk.context, plea(Unit()))
    desk.clock.forward(timedelta(seconds=1))
    await add_operator(desk.context, "late", role=Role.SECURITY, actor=LOCAL)
    for voice in ("bob", "puppet", "of-ada", "late"):
        assert (await say(desk, voice, asked)).state is ReadmissionState.OPEN
    assert (await say(desk, "eve", asked)).state is ReadmissionState.DONE


async def test_in_a_fleet_of_one_operator_the_owner_of_the_home_lets_him_in(desk: Desk) -> None:
    asked = await ask(desk.context, plea(Unit(), name="admin"))
    assert (await say(desk, "local", asked, name="admin")).state is ReadmissionState.DONE


@pytest.mark.usefixtures("people")
async def test_many_voices_at_once_make_one_certificate(desk: Desk) -> None:
    unit = Unit()
    asked = await ask(desk.context, plea(unit))
    voices = ("bob", "eve", "admin", "local")
    await asyncio.gather(*(say(desk, each, asked) for each in voices), return_exceptions=True)
    assert (await ask(desk.context, plea(unit))).state is ReadmissionState.DONE
    active = [each for each in (await certificates(desk)).values() if each.state is CertificateState.ACTIVE]
    assert [each.life.key_hash for each in active] == [unit.key_hash]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("is_fraud", [False, True])
async def test_what_was_agreed_and_cut_off_is_finished_when_he_asks_again_unless_it_was_denied(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, is_fraud: bool
) -> None:
    unit = Unit()
    asked = await ask(desk.context, plea(unit))
    await say(desk, "bob", asked)

    async def fails(*_: object, **__: object) -> str:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(readmission, "_certified", fails)
        with pytest.raises(StoreError):
            await say(desk, "eve", asked)
    states = {each.state for each in (await certificates(desk)).values()}
    assert CertificateState.ACTIVE not in states
    if is_fraud:
        await deny(desk.context, asked.readmission, actor="operator:bob", reason="not hers")
        assert (await ask(desk.context, plea(unit))).state is ReadmissionState.DENIED
        assert CertificateState.ACTIVE not in {each.state for each in (await certificates(desk)).values()}
        return
    assert (await ask(desk.context, plea(unit))).state is ReadmissionState.DONE


@pytest.mark.usefixtures("people")
async def test_a_plea_that_was_denied_or_waited_too_long_lets_nobody_in(desk: Desk) -> None:
    denied, late = await ask(desk.context, plea(Unit())), await ask(desk.context, plea(Unit()))
    await deny(desk.context, denied.readmission, actor="operator:bob", reason="not hers")
    desk.clock.forward(readmission.LIFETIME)
    await expire_pleas(desk.context)
    for each in (denied, late):
        for voice in ("bob", "eve"):
            with pytest.raises(NotFoundError):
                await say(desk, voice, each)
    with pytest.raises(RefusedError, match="the plea of ada is denied already"):
        await deny(desk.context, denied.readmission, actor="operator:bob")


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("name", ["nobody", "vic"])
async def test_a_name_that_may_not_come_back_is_answered_as_any_other_and_kept_nowhere(
    desk: Desk, name: str
) -> None:
    if name == "vic":
        await remove_operator(desk.context, "vic", actor=LOCAL)
    asked = await ask(desk.context, plea(Unit(), name=name))
    real = await ask(desk.context, plea(Unit()))
    assert (asked.state, len(asked.spoken_code)) == (real.state, len(real.spoken_code))
    assert [each.operator for each in await list_pleas(desk.context, 10)] == ["ada"]
    with pytest.raises(RefusedError, match=f"no operator {name} may come back here"):
        await say(desk, "bob", asked, name=name)
    for who in (name, "ada"):
        with pytest.raises(RefusedError) as caught:
            await ask(desk.context, plea(Unit(), name=who, code="123456"))
        assert (str(caught.value), caught.value.hint) == ("the code is wrong", None)


@pytest.mark.usefixtures("people")
async def test_who_was_removed_while_he_asked_is_let_in_by_nobody(desk: Desk) -> None:
    asked = await ask(desk.context, plea(Unit()))
    await say(desk, "bob", asked)
    await remove_operator(desk.context, "ada", actor=LOCAL)
    with pytest.raises(RefusedError, match="no operator ada may come back here"):
        await say(desk, "eve", asked)


@pytest.mark.usefixtures("people")
async def test_a_key_that_somebody_has_lets_nobody_in(desk: Desk) -> None:
    unit, _ = await desk.enrolled("d1")
    with pytest.raises(RefusedError, match="the key is somebody's"):
        await ask(desk.context, plea(unit))
    hers = Unit()
    await ask(desk.context, plea(hers))
    with pytest.raises(RefusedError, match="the key is somebody's"):
        await ask(desk.context, plea(hers, name="bob"))


@pytest.mark.usefixtures("people")
async def test_a_stranger_who_floods_the_list_keeps_nobody_out(desk: Desk) -> None:
    hers = await ask(desk.context, plea(Unit(), address="192.0.2.1"))
    for number in range(3 * MOST_OPEN):
        desk.clock.forward(timedelta(minutes=1))
        await ask(desk.context, plea(Unit(), address=f"2001:db8::{number:x}"))
    late = await ask(desk.context, plea(Unit(), address="192.0.2.2"))
    still_open = [each for each in await list_pleas(desk.context, 100) if each.state is ReadmissionState.OPEN]
    assert len(still_open) == MOST_OPEN
    assert {hers.readmission, late.readmission} <= {each.readmission for each in still_open}


async def test_one_place_pleads_only_so_often(desk: Desk) -> None:
    for count in range(PLEAS_PER_MINUTE):
        await ask(desk.context, plea(Unit(), name=f"nobody{count}", address=f"2001:db8::{count}"))
    with pytest.raises(RefusedError, match="too many pleas in a minute"):
        await ask(desk.context, plea(Unit(), address="2001:db8::77"))
    await ask(desk.context, plea(Unit(), address="2001:db8:0:1::77"))


@pytest.mark.usefixtures("people")
async def test_who_has_a_second_factor_shows_it_and_a_stranger_cannot_lock_it(desk: Desk) -> None:
    otp = pyotp.parse_uri(await enroll(desk.context, "ada", actor="operator:ada"))
    assert isinstance(otp, pyotp.TOTP)

    def code() -> str:
        return otp.at(int(desk.clock().timestamp()))

    first = ShownCode(operator="ada", code=Secret(code()), source="")
    await require_code(desk.context, first, use=CodeUse.CONFIRM)
    for _ in range(12):
        desk.clock.forward(timedelta(minutes=1))
        with pytest.raises(RefusedError, match="the code is wrong"):
            await ask(desk.context, plea(Unit(), code="123"))
    desk.clock.forward(timedelta(minutes=1))
    unit = Unit()
    asked = await ask(desk.context, plea(unit))
    with pytest.raises(RefusedError, match="ada has a second factor, and showed no code of it"):
        await say(desk, "bob", asked)
    assert (await ask(desk.context, plea(unit, code=code()))).proved == "totp"
    assert (await say(desk, "bob", asked)).voices == ("bob",)
    with pytest.raises(RefusedError, match="used before"):
        await ask(desk.context, plea(Unit(), code=code()))
