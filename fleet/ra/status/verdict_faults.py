"""What can be wrong with a certificate that a CA of ours has signed, each with its one sentence.

Pure questions about what was found on record; the order in which they are asked is that of their gravity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.x509.oid import NameOID

from device_agent.wire.identity import serial_hex
from fleet.ca.hierarchy import Authority
from fleet.ca.issuer import fingerprint_of, issuer_id_of
from fleet.core.authority import AuthorityRecord, AuthorityState
from fleet.core.goodkey import certified_key
from fleet.core.lineage import is_off
from fleet.core.unreadable import UNREADABLE
from fleet.errors import RefusedError
from fleet.model import CertificateState, Device, Purpose, RevocationReason
from fleet.store.certificates import CertificateRecord
from fleet.store.revocations import Hold, Revocation

_STOPPED = frozenset({AuthorityState.RETIRING, AuthorityState.RETIRED})
_NOT_CERTIFIED: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)


class Standing(StrEnum):
    """What a certificate is worth, in one word."""

    GOOD = "good"
    OTHER_FLEET = "other-fleet"
    """Of another fleet, which was not adopted, or in which nobody has listed it."""
    FORGED = "forged"
    UNKNOWN = "unknown"
    """Signed by a CA of ours, and not on record."""
    UNDELIVERED = "undelivered"
    WRONG_DOMAIN = "wrong-domain"
    WRONG_PURPOSE = "wrong-purpose"
    CA_NOT_GOOD = "ca-not-good"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    SUSPENDED = "suspended"
    WEAK_KEY = "weak-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a certificate must be good for; what is empty does not matter. `at` is None for now."""

    at: datetime | None = None
    domain: str = ""
    purpose: Purpose | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a certificate is not good."""

    standing: Standing
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is on record of a certificate that a CA of ours has signed."""

    record: CertificateRecord | None
    revocation: Revocation | None = None
    holds: tuple[Hold, ...] = ()
    successor: str = ""
    device: Device | None = None
    blocked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One certificate, what it must be good for, and all that was found out of it."""

    certificate: x509.Certificate
    wanted: Wanted
    moment: datetime
    authority: Authority
    is_authority: bool
    """It is a CA's of ours, and known as such: a company's root may have signed it, off our records."""
    chain: tuple[x509.Certificate, ...]
    """Of CAs, the nearest first."""
    ended_cas: Mapping[str, Revocation]
    facts: Facts


def first_fault(case: Case) -> Fault | None:
    """Return the first thing that is wrong, the gravest kinds first."""
    checks = (_not_on_record, _not_what_is_wanted, _not_in_time, _ca_not_good, _taken_back, _on_hold, _weak)
    return next((fault for check in checks if (fault := check(case)) is not None), None)


def _not_on_record(case: Case) -> Fault | None:
    record, issuer = case.facts.record, name_of(case.chain[0].subject) if case.chain else "this fleet"
    if record is None and case.is_authority:
        return None
    if record is None:
        why = f"{issuer} signed it, and it is not on record: forged with its key, or lost with the records"
        return Fault(Standing.UNKNOWN, why)
    if record.signed is None:
        why = f"it was intended on {_day(record.created_at)} and never handed out"
        return Fault(Standing.UNDELIVERED, why)
    if record.signed.fingerprint != fingerprint_of(case.certificate):
        why = f"it is forged: {record.serial} is the serial number of another certificate, of {record.name}"
        return Fault(Standing.FORGED, why)
    return None


def _not_what_is_wanted(case: Case) -> Fault | None:
    record, wanted = case.facts.record, case.wanted
    if record is None:
        return None
    if wanted.domain and record.domain != wanted.domain:
        where = f"domain {record.domain}" if record.domain else "no domain"
        return Fault(
            standing=Standing.WRONG_DOMAIN, why=f"it is of {where}, and worth nothing in {wanted.domain}"
        )
    if wanted.purpose is not None and record.purpose is not wanted.purpose:
        why = f"it is a {record.purpose} certificate, and no {wanted.purpose} certificate"
        return Fault(Standing.WRONG_PURPOSE, why)
    return None


def _ca_not_good(case: Case) -> Fault | None:
    states = {record.issuer: record for record in case.authority.records}
    for ca in case.chain:
        if why := _why_ca_ended(ca, case, states.get(issuer_id_of(ca))):
            return Fault(Standing.CA_NOT_GOOD, f"its CA {name_of(ca.subject)} {why}")
    return None


def _why_ca_ended(ca: x509.Certificate, case: Case, record: AuthorityRecord | None) -> str:
    """Return why a CA was not good at the time, or nothing; one that only stopped signing was."""
    moment, revocation = case.moment, case.ended_cas.get(serial_of(ca))
    if revocation is not None and revocation.revoked_at <= moment:
        return f"was revoked on {_text(revocation.revoked_at)} ({revocation.reason})"
    is_compromised = record is not None and record.state is AuthorityState.COMPROMISED
    if record is not None and is_compromised and record.changed_at <= moment:
        return f"was given up as compromised on {_text(record.changed_at)}"
    begins, ends = ca.not_valid_before_utc, ca.not_valid_after_utc
    return "" if begins <= moment <= ends else f"is good from {_day(begins)} to {_day(ends)} only"


def _not_in_time(case: Case) -> Fault | None:
    certificate, moment = case.certificate, case.moment
    if moment < certificate.not_valid_before_utc:
        why = f"it is not valid before {_text(certificate.not_valid_before_utc)}"
        return Fault(Standing.NOT_YET_VALID, why)
    if moment > certificate.not_valid_after_utc:
        return Fault(standing=Standing.EXPIRED, why=f"it expired on {_text(certificate.not_valid_after_utc)}")
    return None


def _taken_back(case: Case) -> Fault | None:
    revoked_at, reason = _revoked(case.facts)
    if revoked_at is None or revoked_at > case.moment:
        return None
    at, record = _text(revoked_at), case.facts.record
    if reason is RevocationReason.SUPERSEDED:
        by = f" by {case.facts.successor}" if case.facts.successor else ""
        return Fault(Standing.SUPERSEDED, f"it was superseded{by} on {at}")
    if record is not None and record.state is CertificateState.DEAD:
        return Fault(
            standing=Standing.SUPERSEDED, why=f"it was given up unused on {at}: its holder got another"
        )
    return Fault(Standing.REVOKED, f"it was revoked on {at} ({reason})")


def _revoked(facts: Facts) -> tuple[datetime | None, RevocationReason | None]:
    """Return when and why it was taken back for good: lists give the date of a hold that came before."""
    revocation = facts.revocation
    if revocation is None or revocation.is_hold:
        return None, None
    taken = [hold.ended_at for hold in facts.holds if not hold.released and hold.ended_at is not None]
    return max([revocation.revoked_at, *taken]), revocation.reason


def _on_hold(case: Case) -> Fault | None:
    for hold in case.facts.holds:
        if hold.held_at <= case.moment and (hold.ended_at is None or case.moment < hold.ended_at):
            why = f"its device was suspended on {_text(hold.held_at)}"
            return Fault(Standing.SUSPENDED, why)
    device = case.facts.device
    if case.wanted.at is None and device is not None and is_off(device):
        return Fault(Standing.SUSPENDED, "its device is suspended")
    return None


def _weak(case: Case) -> Fault | None:
    """A key that would not be certified now is told of now; whatever it was worth then, it was worth."""
    if case.wanted.at is not None:
        return None
    if case.facts.blocked is not None:
        return Fault(Standing.WEAK_KEY, f"its key is blocked: {case.facts.blocked}")
    try:
        certified_key(case.certificate.public_key())
    except _NOT_CERTIFIED:
        return Fault(Standing.WEAK_KEY, "its key is of a kind that is not certified any more")
    return None


def praise(case: Case) -> str:
    """Say what a good certificate is, and what came later than the time that was asked for."""
    record = case.facts.record
    name = "authority, " if record is None else f"{record.purpose} certificate of {record.name}, "
    by = name_of(case.certificate.issuer)
    by = by if case.chain or case.is_authority else f"{by} of an adopted fleet"
    then = "" if case.wanted.at is None else " then"
    revoked_at, reason = _revoked(case.facts)
    since = "" if revoked_at is None else f"; {reason} since {_text(revoked_at)}"
    return f"{name}signed by {by}, on record, in its time and not revoked{then}{since}{_signs_no_more(case)}"


def _signs_no_more(case: Case) -> str:
    """Say of a CA that has stopped or retired what it is still good for."""
    key = issuer_id_of(case.certificate) if case.is_authority else ""
    for ca in case.authority.records:
        if ca.issuer == key and ca.state in _STOPPED:
            until = _day(case.certificate.not_valid_after_utc)
            return f"; {ca.state} since {_text(ca.changed_at)}: good for what it signed, until {until}"
    return ""


def name_of(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(found[0].value) if found else name.rfc4514_string()
    return text[:100] or "nobody"


def serial_of(certificate: x509.Certificate) -> str:
    return serial_hex(certificate.serial_number)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
