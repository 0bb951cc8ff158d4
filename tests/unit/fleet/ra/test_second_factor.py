"""Second factors: sealed on record, each code once however many send it, guesses bounded for good."""

import asyncio
from datetime import timedelta

import pyotp
import pytest

from device_agent.wire.secret import Secret
from fleet.core.second_factor import MOST_WRONG, STEP_SECONDS
from fleet.errors import NotFoundError, RefusedError
from fleet.model import Role
from fleet.ra.people.operators import add_operator, remove_operator
from fleet.ra.people.second_factor import CodeUse, ShownCode, drop, enroll, has_factor, require_code
from fleet.store.audit import AuditQuery, search
from fleet.store.second_factors import load_factor
from tests.desk import Desk

ADA = "operator:ada"


def shown(code: str, *, source: str = "192.0.2.7") -> ShownCode:
    return ShownCode(operator="ada", code=Secret(code), source=source)


class Phone:
    """An authenticator app that has taken a secret in."""

    def __init__(self, desk: Desk, uri: str) -> None:
        self._desk = desk
        self.otp = pyotp.parse_uri(uri)

    def code(self) -> str:
        assert isinstance(self.otp, pyotp.TOTP)
        return self.otp.at(int(self._desk.clock().timestamp()))


@pytest.fixture
async def phone(desk: Desk) -> Phone:
    """Ada's, with a factor that counts; the code that confirmed it is a step old."""
    made = Phone(desk, await enroll(desk.context, "ada", actor=ADA))
    await require_code(desk.context, shown(made.code()), use=CodeUse.CONFIRM)
    desk.clock.forward(timedelta(seconds=STEP_SECONDS))
    return made


async def told(desk: Desk) -> list[str]:
    found = await desk.context.store.read(search, AuditQuery(limit=1000, action="operator.totp-*"))
    return [each.entry.action.removeprefix("operator.totp-") for each in found]


async def test_a_code_lets_pass_once(desk: Desk, phone: Phone) -> None:
    await require_code(desk.context, shown(phone.code()))
    with pytest.raises(RefusedError, match="used before"):
        await require_code(desk.context, shown(phone.code()))
    assert await told(desk) == ["made", "confirmed", "refused"]


async def test_of_many_who_send_the_same_code_at_once_exactly_one_passes(desk: Desk, phone: Phone) -> None:
    code = phone.code()
    tries = (require_code(desk.context, shown(code, source=f"192.0.2.{n}")) for n in range(8))
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(each, RefusedError) for each in outcomes) == 7


async def test_the_secret_is_nowhere_in_the_database(desk: Desk, phone: Phone) -> None:
    record = await desk.context.store.read(load_factor, "ada")
    assert record is not None
    assert phone.otp.secret.encode() not in record.sealed
    assert phone.otp.byte_secret() not in record.sealed
    everything = await desk.context.store.read(search, AuditQuery(limit=1000))
    assert phone.otp.secret not in repr(everything)


async def test_guesses_end_whatever_the_time_and_source_and_only_a_new_factor_helps(
    desk: Desk, phone: Phone
) -> None:
    for number in range(MOST_WRONG):
        desk.clock.forward(timedelta(minutes=2))
        with pytest.raises(RefusedError, match="wrong"):
            await require_code(desk.context, shown("nothing", source=f"192.0.2.{number}"))
    desk.clock.forward(timedelta(days=30))
    with pytest.raises(RefusedError, match="none counts any more"):
        await require_code(desk.context, shown(phone.code()))

    await drop(desk.context, "ada", actor="operator:bob", reason="locked out")
    fresh = Phone(desk, await enroll(desk.context, "ada", actor=ADA))
    await require_code(desk.context, shown(fresh.code()), use=CodeUse.CONFIRM)


@pytest.mark.parametrize(("who", "address"), [("one operator", "192.0.2.{n}"), ("one source", "192.0.2.7")])
async def test_codes_come_only_so_fast_of_one_operator_and_from_one_source(
    desk: Desk, phone: Phone, who: str, address: str
) -> None:
    limit = desk.context.config.policy.recover_per_minute
    for number in range(limit + 1):
        name = "ada" if who == "one operator" else f"op{number}"
        code = ShownCode(operator=name, code=Secret("000000"), source=address.format(n=number))
        with pytest.raises((RefusedError, NotFoundError)) as caught:
            await require_code(desk.context, code)
    assert "too many codes in a minute" in str(caught.value)


async def test_a_factor_counts_only_once_its_first_code_was_shown(desk: Desk) -> None:
    phone = Phone(desk, await enroll(desk.context, "ada", actor=ADA))
    assert not await has_factor(desk.context, "ada")
    with pytest.raises(NotFoundError, match="no second factor that counts"):
        await require_code(desk.context, shown(phone.code()))
    with pytest.raises(RefusedError, match="the code is wrong"):
        await require_code(desk.context, shown("nothing"), use=CodeUse.CONFIRM)
    again = Phone(desk, await enroll(desk.context, "ada", actor=ADA))
    await require_code(desk.context, shown(again.code()), use=CodeUse.CONFIRM)
    assert await has_factor(desk.context, "ada")


async def test_who_is_removed_leaves_no_secret_behind(desk: Desk) -> None:
    await add_operator(desk.context, "ada", role=Role.VIEWER, actor="operator:local")
    await enroll(desk.context, "ada", actor=ADA)
    await remove_operator(desk.context, "ada", actor="operator:local")
    assert await desk.context.store.read(load_factor, "ada") is None


async def test_who_has_a_factor_cannot_be_given_another_behind_his_back(desk: Desk, phone: Phone) -> None:
    with pytest.raises(RefusedError, match="ada has a second factor"):
        await enroll(desk.context, "ada", actor=ADA)


async def test_a_sealed_secret_that_was_moved_to_another_row_or_lost_its_key_opens_nothing(
    desk: Desk, phone: Phone
) -> None:
    desk.context.home.factors_key.unlink()
    with pytest.raises(RefusedError, match="cannot be opened: its key was lost"):
        await require_code(desk.context, shown(phone.code()))
