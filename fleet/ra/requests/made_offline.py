"""Admits what a station signed off line, entry by entry of its journal, once that was taken.

Until then no broker knows such a certificate. Every rule is looked at again here: the lease, the number, the
names, the key, the device. What is not right is refused alone, and told.
"""

import base64
import binascii
import logging
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity, parse_device_id, serial_hex
from device_agent.wire.problems import MalformedMessageError
from fleet.ca import lint
from fleet.ca.crl import read_crl
from fleet.ca.issuer import fingerprint_of
from fleet.core import events
from fleet.core.csr import Csr
from fleet.core.goodkey import certified_key, check_key, key_hash
from fleet.core.journal import Entry
from fleet.core.lease import CLOCK_MARGIN
from fleet.core.profile import OFFLINE_PROFILE, IssuerFacts, Template, station_applicant
from fleet.core.serial import SERIAL_RANDOMNESS, leased_number
from fleet.core.unreadable import UNREADABLE
from fleet.errors import FleetError, RefusedError
from fleet.model import KeyOrigin, RevocationReason
from fleet.ports import Transaction
from fleet.ra.adopted.adopted_files import write_adopted
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.issuing import follow, issuers_of
from fleet.ra.judging import Circumstances, Judged
from fleet.ra.requests.applicants import Applicant, StationProof, StationWord, Waits
from fleet.ra.requests.enrolling import EnrollCase, consulted, judge_enroll, ruled_on
from fleet.ra.requests.journal_sync import tell
from fleet.ra.requests.rulings import question_of
from fleet.store import leases, station_journal
from fleet.store.certificates import SignedCertificate
from fleet.store.leases import LeaseRecord, LeaseUse
from fleet.store.provisioning import Provisioned, ProvisionedState
from fleet.store.station_journal import Finding, JournalKey
from fleet.store.stations import StationRecord

_UNREADABLE: tuple[type[Exception], ...] = (
    *UNREADABLE,
    MalformedMessageError,
    binascii.Error,
    InvalidSignature,
    FleetError,
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What an entry tells of, as far as it was found right."""

    lease: LeaseRecord
    entry: Entry
    use: LeaseUse
    certificate: x509.Certificate

    @property
    def device_id(self) -> str:
        return self.entry.detail("device")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case(EnrollCase):
    """A certificate that was made off line, and the number that it uses."""

    use: LeaseUse
    station: StationRecord


async def admit_made(context: Context, station: StationRecord) -> int:
    """Judge all that a station made off line and nobody judged yet; return how many were admitted."""
    key = JournalKey(station=station.name, journal=station.journal)
    await _take_lists(context, station, key)
    admitted = 0
    for entry in await context.store.read(station_journal.waiting_made, key):
        try:
            admitted += await _admit(context, station, entry)
        except RefusedError as error:
            await _refuse(context, station, entry, str(error))
        except FleetError as error:
            # Not its fault: it waits, and the next sync tries again.
            _log.warning("what %s made off line is not admitted yet: %s", station.name, error)
            break
    return admitted


async def _take_lists(context: Context, station: StationRecord, key: JournalKey) -> None:
    """Hand brokers the revocation lists of the station's CAs, which came with its journal."""
    missing = {
        one.lease: one
        for one in await context.store.read(leases.list_leases, station.name)
        if one.crl is None and one.closed_at is None
    }
    found = False
    for entry in await context.store.read(station_journal.leased, key) if missing else ():
        lease = missing.get(entry.detail("lease"))
        if lease is not None and (crl := _list_of(lease, entry)) is not None:
            await context.store.write(_keep_list, (lease.lease, crl))
            found = True
    if found:
        await write_adopted(context.store, context.home)
        await context.tls_users.reload()


def _list_of(lease: LeaseRecord, entry: Entry) -> bytes | None:
    """Return the list that an entry holds, if the station's CA signed it and it revokes nothing."""
    try:
        crl = base64.b64decode(entry.detail("crl"), validate=True)
        read = read_crl(crl, x509.load_der_x509_certificate(lease.certificate))
    except _UNREADABLE:
        return None
    return None if read.serials else crl


async def _keep_list(tx: Transaction, kept: tuple[str, bytes]) -> None:
    lease, crl = kept
    await leases.keep_crl(tx, lease, crl)


async def _admit(context: Context, station: StationRecord, entry: Entry) -> bool:
    """Put one certificate in force. Raises `RefusedError` where it must not be."""
    lease = await context.store.read(leases.load_lease, entry.detail("lease"))
    if lease is None or lease.station != station.name:
        raise RefusedError("its lease is none of this station's")
    if lease.closed_at is not None:
        raise RefusedError(f"lease {lease.lease} was closed")
    at = JournalKey(station=station.name, journal=station.journal), entry.number
    use = _use(lease, entry, known=await context.store.read(station_journal.latest_before, at))
    certificate = _certificate(context, lease, entry, use)
    made = _Made(lease=lease, entry=entry, use=use, certificate=certificate)
    judged = await consulted(context, _judge, _case(context, station, made))
    await follow(context, judged)
    return isinstance(judged.verdict, events.Issued)


def _use(lease: LeaseRecord, entry: Entry, *, known: datetime | None) -> LeaseUse:
    """Return the number that an entry uses; raises `RefusedError` where the lease has it not.

    `known` is the latest time that the journal holds before it: a clock set back makes no lease longer.
    """
    text, serial = entry.detail("number"), entry.detail("serial")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else 0
    if not lease.has(number):
        raise RefusedError(
            f"lease {lease.lease} is overdrawn: it has numbers {lease.first} to"
            f" {lease.first + lease.count - 1}, not {number}"
        )
    latest = entry.at if known is None else max(entry.at, known)
    if entry.at < lease.issued_at - CLOCK_MARGIN or latest >= lease.not_after:
        raise RefusedError(f"lease {lease.lease} was over, or had not begun, when it was made")
    return LeaseUse(lease=lease.lease, number=number, serial=serial)


def _certificate(context: Context, lease: LeaseRecord, entry: Entry, use: LeaseUse) -> x509.Certificate:
    """Return the certificate in an entry, if it is what a station may sign under its lease."""
    authority = x509.load_der_x509_certificate(lease.certificate)
    try:
        certificate = x509.load_der_x509_certificate(
            base64.b64decode(entry.detail("certificate"), validate=True)
        )
        certificate.verify_directly_issued_by(authority)
        identity = Identity(domain=lease.domain, device_id=parse_device_id(entry.detail("device")))
        serial = serial_hex(certificate.serial_number)
    except _UNREADABLE as error:
        raise RefusedError("its certificate cannot be read, or the station's CA has not signed it") from error
    if serial != use.serial or leased_number(serial) != use.number:
        raise RefusedError("its serial is not that of its number")
    case = lint.Case(
        certificate=certificate,
        template=_template(context, lease, identity, certificate, authority),
        serial=serial,
        issuer=authority,
        fleet=context.fleet,
        domain=lease.domain,
        station=lease.station,
    )
    if faults := lint.faults_of(case):
        raise RefusedError(f"it is not as a station may make it: {faults[0]}")
    return certificate


def _template(
    context: Context,
    lease: LeaseRecord,
    identity: Identity,
    certificate: x509.Certificate,
    authority: x509.Certificate,
) -> Template:
    """Return what the certificate must be, had we made it at the time that it says."""
    began = certificate.not_valid_before_utc + OFFLINE_PROFILE.backdate
    if not lease.issued_at - CLOCK_MARGIN <= began < lease.not_after:
        raise RefusedError(f"it begins at a time that lease {lease.lease} does not cover")
    facts = IssuerFacts(issuer_id=lease.issuer, not_after=authority.not_valid_after_utc, status_url="")
    applicant = station_applicant(identity, station=lease.station, fleet=context.fleet)
    return OFFLINE_PROFILE.template(applicant, certificate.public_key(), now=began, issuer=facts)


def _case(context: Context, station: StationRecord, made: _Made) -> _Case:
    now, public_key = context.clock(), certified_key(made.certificate.public_key())
    word = StationWord(
        replaces=made.entry.detail("replaces"),
        batch=made.lease.batch,
        key=_origin(made.entry),
        lease=made.lease.lease,
    )
    hashed = key_hash(public_key)
    csr = Csr(
        public_key=public_key,
        key_type=check_key(public_key),
        key_hash=hashed,
        common_names=(),
        dns_names=(),
    )
    asker = Asker(listener=Listener.HTTPS, station=station.name)
    return _Case(
        applicant=Applicant(
            fleet=context.fleet,
            device_id=made.device_id,
            key_hash=hashed,
            proof=StationProof(name=station.name, word=word),
            address="",
            at=now,
        ),
        question=question_of(context.config, asker, csr, at=now),
        circumstances=Circumstances(
            at=now,
            actor=f"station:{station.name}",
            randomness=context.randomness(SERIAL_RANDOMNESS),
            issuers=issuers_of(context),
            reason=RevocationReason.CESSATION_OF_OPERATION,
        ),
        asks_webhook=context.webhook is not None,
        leaf=_leaf(made, hashed),
        use=made.use,
        station=station,
    )


def _origin(entry: Entry) -> KeyOrigin:
    try:
        return KeyOrigin(entry.detail("key") or KeyOrigin.DEVICE)
    except ValueError as error:
        raise RefusedError("where its key was made is not told") from error


def _leaf(made: _Made, hashed: str) -> Provisioned:
    lease, certificate, serial = made.lease, made.certificate, made.use.serial
    signed = SignedCertificate(
        serial=serial,
        issuer=lease.issuer,
        fingerprint=fingerprint_of(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        der=certificate.public_bytes(Encoding.DER),
    )
    return Provisioned(
        serial=serial,
        identity=Identity(domain=lease.domain, device_id=made.device_id),
        key_hash=hashed,
        claim_serial="",
        issuer=lease.issuer,
        anchor=lease.anchor,
        profile="",
        state=ProvisionedState.PENDING,
        created_at=made.entry.at,
        expires_at=lease.not_after,
        signed=signed,
    )


async def _judge(tx: Transaction, case: _Case) -> Judged:
    """Use the number and put the certificate in force, in one commit."""
    if await leases.use_number(tx, case.use) != case.use.serial:
        raise RefusedError(f"number {case.use.number} of its lease was used for another certificate")
    found = await ruled_on(tx, case)
    if isinstance(found, Waits) or case.leaf is None or case.leaf.signed is None:
        raise RefusedError("somebody must approve this device first")
    _, ruled = found
    profile = "" if ruled.ruling.terms is None else ruled.ruling.terms.profile.name
    leaf = replace(case.leaf, profile=profile, signed=replace(case.leaf.signed, profile=profile))
    outcome = await judge_enroll(tx, replace(case, leaf=leaf))
    if isinstance(outcome, Waits):
        raise RefusedError("somebody must approve this device first")
    if not isinstance(outcome.judged.verdict, events.Issued):
        # Kept, as every refusal of the core: an alarm may have come with it.
        made = case.applicant
        why = _why(outcome.judged)
        await tell(tx, case.station, _finding(case.station, case.use.serial, made.device_id, why, at=made.at))
    return outcome.judged


def _why(judged: Judged) -> str:
    verdict = judged.verdict
    return verdict.reason if isinstance(verdict, events.Nothing) else "the device has another certificate"


async def _refuse(context: Context, station: StationRecord, entry: Entry, why: str) -> None:
    serial, device_id = entry.detail("serial"), entry.detail("device")
    finding = _finding(station, serial, device_id, why, at=context.clock())
    await context.store.write(_tell, (station, finding))


def _finding(station: StationRecord, serial: str, device_id: str, why: str, *, at: datetime) -> Finding:
    return Finding(
        station=station.name,
        kind="offline",
        about=serial,
        detail=f"{device_id}, made off line, is not admitted: {why}",
        found_at=at,
    )


async def _tell(tx: Transaction, told: tuple[StationRecord, Finding]) -> None:
    station, finding = told
    await tell(tx, station, finding)
