"""Numbers of a new ledger: asked once, and never guessed by a station that may sign off line."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.core.station_recall import Numbers, NumbersAsked, Release
from fleet.errors import NotFoundError, UnreachableError
from fleet.station.keeping.ledger import Ledger
from fleet.station.server.recall import Heir, Recalled
from tests.factory_floor import Floor, fixed_clock


@dataclass
class Counted:
    """A server that knows the highest number and which ids have a key, or is away."""

    last: int | None
    taken: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    async def recall(self, fingerprint: bytes) -> Recalled:
        raise NotFoundError(fingerprint.hex())

    async def numbers(self, asked: NumbersAsked) -> Numbers:
        self.asked.append(asked.prefix)
        if self.last is None:
            raise UnreachableError("the server is away")
        return Numbers(last=self.last, is_taken=asked.device_id in self.taken)

    async def releases(self, taken: tuple[int, ...]) -> tuple[Release, ...]:
        assert taken == ()
        return ()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    identity = Floor().identity
    async with Ledger.opened(tmp_path / "ledger.db", clock=fixed_clock, identity=identity) as opened:
        yield opened


@pytest.mark.parametrize("last", [0, 41])
async def test_a_new_ledger_goes_on_after_what_the_server_knows(last: int, ledger: Ledger) -> None:
    server = Counted(last)
    heir = Heir(ledger=ledger, recaller=server, signs_alone=True)
    await heir.begin_numbers("spring-")
    server.last = None
    await heir.begin_numbers("spring-")
    assert await ledger.last_number("spring-") == last
    assert server.asked == ["spring-"], "it is asked once"


async def test_a_station_that_signs_alone_does_not_guess_which_numbers_are_taken(ledger: Ledger) -> None:
    heir = Heir(ledger=ledger, recaller=Counted(None), signs_alone=True)
    with pytest.raises(UnreachableError, match="which numbers of spring- are taken") as caught:
        await heir.begin_numbers("spring-")
    assert caught.value.hint
    assert await ledger.last_number("spring-") is None


async def test_a_station_that_only_forwards_may_for_the_server_looks_at_each_number(ledger: Ledger) -> None:
    await Heir(ledger=ledger, recaller=Counted(None)).begin_numbers("spring-")


async def test_numbers_go_on_after_the_last_one_where_another_line_gave_one_away(ledger: Ledger) -> None:
    heir = Heir(ledger=ledger, recaller=Counted(7, frozenset({"spring-0003"})))
    assert not await heir.steps_over("spring-", "spring-0002")
    assert await ledger.last_number("spring-") is None
    assert await heir.steps_over("spring-", "spring-0003")
    assert await ledger.next_number("spring-") == 8
    assert not await Heir(ledger=ledger, recaller=None).steps_over("spring-", "spring-0003")
