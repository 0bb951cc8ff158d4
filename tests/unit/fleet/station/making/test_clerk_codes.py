"""A unit that comes back to a bench with an operator's code: made anew under its own id, whoever made it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.errors import RefusedError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.package import Issuance, IssueOrder
from fleet.station.link import steps
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import Floor, MemoryEnroller, MemoryUnit, fixed_clock

FLOOR = Floor()
CODE = "K7QD-22XC-9F3M-ZP4A"
BACK = HelloReply(
    nonce=bytes(16), hardware_id="hw-7", device_id="d7", state=LinkState.ACTIVE, fingerprint=bytes(32)
)


@dataclass
class CodedEnroller(MemoryEnroller):
    """Knows the unit already, from elsewhere; a code alone makes it anew."""

    orders: list[IssueOrder] = field(default_factory=list)

    async def issue(self, order: IssueOrder) -> Issuance:
        self.orders.append(order)
        if order.code is None or order.code.reveal() != CODE:
            raise RefusedError("no such code", code=ProblemCode.CODE_INVALID)
        return await super().issue(replace(order, replaces=None))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger.opened(tmp_path / "ledger.db", clock=fixed_clock, identity=FLOOR.identity) as opened:
        yield opened


@pytest.fixture
def enroller() -> CodedEnroller:
    return CodedEnroller(servers=FLOOR.enroller.servers)


@pytest.fixture
def clerk(ledger: Ledger, enroller: CodedEnroller) -> Clerk:
    return Clerk(ledger=ledger, enroller=enroller, ids=IdRule(listed={"hw-1": "d1"}))


async def asked(clerk: Clerk) -> steps.Decision:
    unit = MemoryUnit(hardware_id="hw-7")
    return await clerk.decide(steps.Issue(hardware_id="hw-7", device_id="d7", csr=unit.request("d7")))


async def test_a_code_makes_a_unit_of_another_line_anew_under_its_own_id(
    clerk: Clerk, enroller: CodedEnroller
) -> None:
    clerk.take_code(Secret(CODE), device_id="d7")
    assert await clerk.decide(steps.Recognise(hello=BACK)) == steps.Enrol(device_id="d7")
    assert isinstance(await asked(clerk), steps.Issued)
    assert [order.device_id for order in enroller.orders] == ["d7"]


async def test_a_code_is_used_once(clerk: Clerk, enroller: CodedEnroller) -> None:
    clerk.take_code(Secret(CODE), device_id="d7")
    await clerk.decide(steps.Recognise(hello=BACK))
    await asked(clerk)
    await asked(clerk)
    assert isinstance(await asked(clerk), steps.Refuse)
    assert [order.code is None for order in enroller.orders] == [False, True, True]


async def test_a_code_that_is_refused_is_not_tried_again(clerk: Clerk, enroller: CodedEnroller) -> None:
    clerk.take_code(Secret("WRNG"), device_id="d7")
    await clerk.decide(steps.Recognise(hello=BACK))
    assert isinstance(await asked(clerk), steps.Refuse)
    assert isinstance(await clerk.decide(steps.Recognise(hello=BACK)), steps.Doubt)


async def test_a_code_of_another_unit_changes_nothing(clerk: Clerk) -> None:
    clerk.take_code(Secret(CODE), device_id="d8")
    assert isinstance(await clerk.decide(steps.Recognise(hello=BACK)), steps.Doubt)
