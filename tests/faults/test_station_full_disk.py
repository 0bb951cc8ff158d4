"""The disk of a station fills up at every step of a unit: it waits, nothing is lost, and then it goes on."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from fleet.core.journal import Head, Kind, after, misplaced, parse_entry
from fleet.errors import StoreError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.link import steps
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import Floor, MemoryEnroller, MemoryUnit, fixed_clock

HELLO = HelloReply(nonce=bytes(16), hardware_id="hw-1", state=LinkState.FRESH)
STEPS = ("recognise", "issue", "proof", "commit")


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Let no file grow beyond the largest that is in a folder: what a full disk is to a program."""
    largest = max(path.stat().st_size for path in folder.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def question(step: str, unit: MemoryUnit, ledger: Ledger) -> steps.Question:
    if step == "recognise":
        return steps.Recognise(hello=HELLO)
    if step == "issue":
        return steps.Issue(hardware_id="hw-1", device_id="d-0001", csr=unit.request("d-0001"))
    known = await ledger.find("hw-1")
    assert known is not None
    assert known.generations[0].package is not None
    kind = steps.RecordProof if step == "proof" else steps.RecordCommit
    return kind(hardware_id="hw-1", fingerprint=known.generations[0].package.fingerprint)


@pytest.mark.parametrize("step", STEPS)
async def test_a_unit_waits_for_room_and_is_made_once(tmp_path: Path, step: str) -> None:
    floor, unit, folder = Floor(), MemoryUnit(), tmp_path / "station"
    folder.mkdir()
    enroller: MemoryEnroller = floor.enroller
    async with Ledger.opened(folder / "ledger.db", clock=fixed_clock, identity=floor.identity) as ledger:
        clerk = Clerk(ledger=ledger, enroller=enroller, ids=IdRule(prefix="d-"))
        for one in STEPS:
            asked = await question(one, unit, ledger)
            if one == step:
                with full(folder):
                    assert isinstance(await clerk.decide(asked), steps.Hold)
                    with pytest.raises(StoreError):
                        await ledger.note(Kind.SIGNED_ON, {"operator": "ada"})
            assert not isinstance(await clerk.decide(asked), steps.Hold)
        known = await ledger.find("hw-1")
        assert known is not None
        assert known.state is UnitState.COMMITTED
        assert len(enroller.made) == 1
        await assert_whole(ledger)


async def assert_whole(ledger: Ledger) -> None:
    """No entry is missing, none stands there twice."""
    head, kinds = Head(), []
    for one in await ledger.journal_after(0, most=100):
        entry = parse_entry(one.octets)
        assert misplaced(head, entry, station="line-3") is None
        head = after(head, one.octets)
        kinds.append(entry.kind)
    assert kinds == [Kind.OPENED, Kind.ISSUED, Kind.COMMITTED]
