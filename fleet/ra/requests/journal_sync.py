"""Takes the journal of a station: entry after entry in its place, each signed, none twice, none missing.

What is not right is refused from there on, remembered as a finding, and told on the audit trail; what came
before it stays. The station's word about a number is never taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from device_agent.wire.problems import MalformedMessageError
from fleet.ca.signers import is_signed
from fleet.core.goodkey import CertifiedKey, certified_key
from fleet.core.journal import (
    Entry,
    Fault,
    Head,
    SignedEntry,
    after,
    digest_of,
    misplaced,
    parse_entry,
    signed_text,
)
from fleet.core.station_sync import JournalReceipt, JournalUpload, LineOperator
from fleet.errors import RefusedError
from fleet.model import AuditEntry, CertificateState, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Asker, Context
from fleet.ra.refusals import record_station_refusal
from fleet.ra.requests.applicants import StationProof
from fleet.ra.requests.station_word import require_station
from fleet.store import audit, station_journal
from fleet.store.certificates import load_certificate
from fleet.store.line_operators import list_line_operators
from fleet.store.station_journal import Finding, JournalKey, Taken
from fleet.store.stations import StationRecord

CLOCK_MARGIN = timedelta(minutes=5)
"""A station's clock may be as wrong as this before it is told."""
_SIGNED_ONCE = frozenset({CertificateState.ACTIVE, CertificateState.SUPERSEDED})
_SENTENCES: Mapping[Fault, str] = {
    Fault.MALFORMED: "entry {number} cannot be read",
    Fault.STRANGER: "entry {number} is of another station's journal",
    Fault.FORGED: "entry {number} is not signed with a key of this station",
    Fault.GAP: "entries are missing before entry {number}",
    Fault.REWRITTEN: "another entry {number} was handed in before: the journal was changed",
    Fault.UNCHAINED: "entry {number} does not follow the one before it: entries were changed or left out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """An entry as it came; `entry` is None where it is none, `is_signed` whether this station signed it."""

    signed: SignedEntry
    entry: Entry | None
    is_signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sync:
    proof: StationProof
    upload: JournalUpload
    read: tuple[_Read, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What the commit holds, and which station's journal it was."""

    station: StationRecord
    receipt: JournalReceipt


async def sync_journal(context: Context, asker: Asker, upload: JournalUpload) -> Synced:
    """Take what a station hands in, and return what it is told.

    Raises:
        RefusedError: who asks is no station, or was closed.
    """
    proof = StationProof(shown=asker.certificate, name=asker.station)
    try:
        station = await context.store.read(require_station, proof)
    except RefusedError as error:
        await record_station_refusal(context, asker, "journal", error)
        raise
    read = [await _read(context, station, one) for one in upload.entries]
    sync = _Sync(proof=proof, upload=upload, read=tuple(read), at=context.clock())
    return await context.store.write(_take, sync)


async def _read(context: Context, station: StationRecord, signed: SignedEntry) -> _Read:
    """Read an entry and check its signature, outside of any commit."""
    try:
        entry = parse_entry(signed.octets)
    except MalformedMessageError:
        return _Read(signed=signed, entry=None, is_signed=False)
    key = await _key_of(context, station, entry.signer)
    is_right = key is not None and is_signed(key, signed.signature, signed_text(signed.octets))
    return _Read(signed=signed, entry=entry, is_signed=is_right)


async def _key_of(context: Context, station: StationRecord, serial: str) -> CertifiedKey | None:
    """Return the key of a certificate of this station that was not revoked."""
    row = await context.store.read(load_certificate, serial)
    if row is None or row.signed is None or row.purpose is not Purpose.STATION or row.name != station.name:
        return None
    if row.state not in _SIGNED_ONCE or not row.signed.der:
        return None
    return certified_key(x509.load_der_x509_certificate(row.signed.der).public_key())


async def _take(tx: Transaction, sync: _Sync) -> Synced:
    station = await require_station(tx, sync.proof)
    key = JournalKey(station=station.name, journal=station.journal)
    head, taken, fault = await station_journal.head_of(tx, key), list[Taken](), ""
    latest = await station_journal.time_at(tx, key, head.number)
    for read in sync.read:
        found = await _fault(tx, key, head, read)
        if found is not None:
            fault = await _refuse(tx, station, found, _number(head, read), at=sync.at)
            break
        if read.entry is not None and read.entry.number == head.number + 1:
            taken.append(Taken(entry=read.entry, signed=read.signed, received_at=sync.at))
            head = after(head, read.signed.octets)
    await station_journal.insert_entries(tx, key, taken)
    await _look_at_clock(tx, station, sync, taken, latest=latest)
    operators = await list_line_operators(tx, station.name)
    receipt = JournalReceipt(
        head=head,
        now=sync.at,
        rules=station.rules,
        operators=tuple(
            LineOperator(name=one.name, verifier=one.verifier) for one in operators if one.removed_at is None
        ),
        fault=fault,
    )
    return Synced(station=station, receipt=receipt)


async def _fault(tx: Transaction, key: JournalKey, head: Head, read: _Read) -> Fault | None:
    if read.entry is None:
        return Fault.MALFORMED
    if read.entry.station != key.station:
        return Fault.STRANGER
    if not read.is_signed:
        return Fault.FORGED
    if read.entry.number <= head.number:
        known = await station_journal.digest_at(tx, key, read.entry.number)
        # The answer to an earlier message was lost: the same entry once more is no fault.
        return None if known == digest_of(read.signed.octets) else Fault.REWRITTEN
    return misplaced(head, read.entry, station=key.station)


def _number(head: Head, read: _Read) -> int:
    return head.number + 1 if read.entry is None else read.entry.number


async def _refuse(tx: Transaction, station: StationRecord, fault: Fault, number: int, *, at: datetime) -> str:
    sentence = _SENTENCES[fault].format(number=number)
    finding = Finding(
        station=station.name,
        kind=fault.value,
        about=f"{station.journal}:{number}",
        detail=sentence,
        found_at=at,
    )
    await tell(tx, station, finding)
    return sentence


async def tell(tx: Transaction, station: StationRecord, finding: Finding) -> None:
    """Keep a finding and put it on the audit trail; one that is known already adds nothing."""
    if not await station_journal.note_finding(tx, finding):
        return
    details = (
        ("name", station.name),
        ("kind", finding.kind),
        ("about", finding.about),
        ("reason", finding.detail),
    )
    entry = AuditEntry(
        at=finding.found_at,
        action="station.finding",
        actor=f"station:{station.name}",
        domain=station.domain,
        details=details,
    )
    await audit.append(tx, entry)


async def _look_at_clock(
    tx: Transaction, station: StationRecord, sync: _Sync, taken: Sequence[Taken], *, latest: datetime | None
) -> None:
    """Tell of a clock that is wrong now, or was while entries were written; `latest` is of the one before."""
    ahead = sync.upload.now - sync.at
    await station_journal.note_sync(tx, station.name, at=sync.at, ahead=int(ahead.total_seconds()))
    finding = Finding(station=station.name, kind="clock", about="", detail="", found_at=sync.at)
    if abs(ahead) > CLOCK_MARGIN:
        side = "ahead of" if ahead > timedelta() else "behind"
        detail = f"its clock is {_span(abs(ahead))} {side} the server's"
        await tell(tx, station, replace(finding, about=f"{sync.at:%Y-%m-%d}", detail=detail))
    for one in taken:
        entry = one.entry
        if entry.at > sync.at + CLOCK_MARGIN or (latest and entry.at < latest - CLOCK_MARGIN):
            how = "in the future" if entry.at > sync.at else "before the entry that it follows"
            detail = f"entry {entry.number} was written {how}, by the station's clock"
            await tell(
                tx, station, replace(finding, about=f"{station.journal}:{entry.number}", detail=detail)
            )
            break
        latest = entry.at


def _span(span: timedelta) -> str:
    return f"{span.days} days" if span.days > 1 else f"{int(span.total_seconds() // 60)} minutes"
