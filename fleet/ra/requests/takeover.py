"""What lets one station go on where another stopped: certificates of its batches, and the numbers in use.

A station learns of a unit only what the unit shows already: it names the certificate by its fingerprint.
"""

import uuid
from dataclasses import dataclass

from device_agent.wire.identity import Identity
from device_agent.wire.messages import encode
from fleet.core import events
from fleet.core.station_recall import Numbers, NumbersAsked, RecallAnswer
from fleet.errors import NotFoundError
from fleet.model import CertificateState
from fleet.ports import Transaction
from fleet.ra.context import Asker, Context
from fleet.ra.issuing import answer_of
from fleet.ra.judging import Judged
from fleet.ra.requests.applicants import StationProof, is_free
from fleet.ra.requests.station_word import require_station
from fleet.store.certificates import CertificateRecord, find_by_fingerprint, load_certificate
from fleet.store.devices import highest_number, load_device, load_record
from fleet.store.station_journal import given_with
from fleet.store.stations import StationRecord, enrolled_by

_LIVE = frozenset({CertificateState.ISSUED, CertificateState.ACTIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    proof: StationProof
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    row: CertificateRecord
    given: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counting:
    proof: StationProof
    asked: NumbersAsked


async def recall(context: Context, asker: Asker, fingerprint: str) -> bytes:
    """Return once more what was answered when a certificate was issued for a unit of this station's batches.

    Raises:
        RefusedError: who asks is no station, or was closed.
        NotFoundError: there is no such certificate, or it is not this station's business.
    """
    question = _Question(proof=_proof(asker), about=fingerprint)
    found = await context.store.read(_find, question)
    judged = Judged(verdict=events.Replay(serial=found.row.serial))
    issued = await answer_of(context, judged, message_id=str(uuid.uuid4()))
    return RecallAnswer(issued=encode(issued), state=found.row.state, given=found.given).encode()


async def numbers_of(context: Context, asker: Asker, asked: NumbersAsked) -> Numbers:
    """Return the highest number after a prefix in the station's domain, and whether an id of it has a key.

    Raises:
        RefusedError: who asks is no station, or was closed.
    """
    return await context.store.read(_numbers, _Counting(proof=_proof(asker), asked=asked))


def _proof(asker: Asker) -> StationProof:
    return StationProof(shown=asker.certificate, name=asker.station)


async def _find(tx: Transaction, question: _Question) -> _Found:
    station = await require_station(tx, question.proof)
    row = await find_by_fingerprint(tx, question.about)
    if row is None or row.identity is None or row.state not in _LIVE:
        raise NotFoundError("no certificate in force has this fingerprint")
    if not await is_of_batch(tx, station, row.serial):
        raise NotFoundError(f"station {station.name} has no business with this certificate")
    maker = await enrolled_by(tx, row.serial)
    return _Found(row=row, given=await given_with(tx, row.serial, station=maker or ""))


async def _numbers(tx: Transaction, counting: _Counting) -> Numbers:
    station = await require_station(tx, counting.proof)
    last = await highest_number(tx, station.domain, counting.asked.prefix)
    if not counting.asked.device_id:
        return Numbers(last=last)
    device = await load_device(tx, Identity(domain=station.domain, device_id=counting.asked.device_id))
    return Numbers(last=last, is_taken=device is not None and not is_free(device))


async def is_of_batch(tx: Transaction, station: StationRecord, serial: str) -> bool:
    """Tell whether this station enrolled a certificate, or any did for a device of one of its batches."""
    row = await load_certificate(tx, serial)
    maker = await enrolled_by(tx, serial)
    if row is None or row.identity is None or maker is None:
        return False
    if maker == station.name:
        return True  # by an operator's code, a bench makes units of any batch
    record = await load_record(tx, row.identity)
    same = row.identity.domain == station.domain
    return same and record is not None and record.batch in station.batches
