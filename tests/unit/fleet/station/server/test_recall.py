"""Numbers of a new ledger: asked once, and never guessed by a station that may sign off line."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.core.station_recall import Release
from fleet.errors import NotFoundError, UnreachableError
from fleet.station.keeping.ledger import Ledger
from fleet.station.server.recall import Heir, Recalled
from tests.factory_floor import Floor, fixed_clock


@dataclass
class Numbers:
    """A server that knows the highest number, or is away."""

    last: int | None
    asked: list[str] = field(default_factory=list)

    async def recall(self, fingerprint: bytes) -> Recalled:
        raise NotFoundError(fingerprint.hex())

    async def last_number(self, prefix: str) -> int:
        self.asked.append(prefix)
        if self.last is None:
            raise UnreachableError("the server is away")
        return self.last

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
    server = Numbers(last)
    heir = Heir(ledger=ledger, recaller=server, signs_alone=True)
    await heir.begin_numbers("spring-")
    server.last = None
    await heir.begin_numbers("spring-")
    assert await ledger.last_number("spring-") == last
    assert server.asked == ["spring-"], "it is asked once"


async def test_a_station_that_signs_alone_does_not_guess_which_numbers_are_taken(ledger: Ledger) -> None:
    heir = Heir(ledger=ledger, recaller=Numbers(None), signs_alone=True)
    with pytest.raises(UnreachableError, match="which numbers of spring- are taken") as caught:
        await heir.begin_numbers("spring-")
    assert caught.value.hint
    assert await ledger.last_number("spring-") is None


async def test_a_station_that_only_forwards_may_for_the_server_looks_at_each_number(ledger: Ledger) -> None:
    await Heir(ledger=ledger, recaller=Numbers(None)).begin_numbers("spring-")
