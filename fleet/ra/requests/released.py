"""A station says which decisions about its units it has, and learns those that it has not."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.station_recall import Fate, Release
from fleet.ports import Transaction
from fleet.ra.context import Asker, Context
from fleet.ra.requests.applicants import StationProof
from fleet.ra.requests.station_word import require_station
from fleet.store.unit_releases import take_releases, waiting_releases


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taking:
    proof: StationProof
    numbers: tuple[int, ...]
    at: datetime


async def tell_releases(context: Context, asker: Asker, taken: tuple[int, ...]) -> tuple[Release, ...]:
    """Note what a station has; return what waits for it.

    Raises:
        RefusedError: who asks is no station, or was closed.
    """
    proof = StationProof(shown=asker.certificate, name=asker.station)
    return await context.store.write(_take, _Taking(proof=proof, numbers=taken, at=context.clock()))


async def _take(tx: Transaction, taking: _Taking) -> tuple[Release, ...]:
    station = await require_station(tx, taking.proof)
    await take_releases(tx, station.name, taking.numbers, at=taking.at)
    return tuple(
        Release(number=one.number, hardware=one.unit.hardware, fate=Fate(one.fate), actor=one.actor)
        for one in await waiting_releases(tx, station.name)
    )
