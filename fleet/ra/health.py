"""One screen of health, and each problem with its fix. It reads and measures; it never repairs."""

import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleet.errors import FleetError
from fleet.model import CertificateState, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context, Endpoints
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.certificates import CertificateQuery, CertificateRecord, count_by_state, expiring
from fleet.store.inventory import Standing, count_by_standing
from fleet.store.waiting import list_waiting

SOON = timedelta(days=7)
LATER = timedelta(days=30)
OLD_LIST = timedelta(minutes=2)
"""A broker's list that was not proven equal to the store's for so long is in doubt."""
LOW_DISK_BYTES = 200 * 1024 * 1024
_CLOCK_SLACK = timedelta(seconds=5)
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlHealth:
    """The list of an issuing CA that is in force."""

    issuer: str
    purpose: Purpose
    domain: str
    number: int
    next_update: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `fleet status` shows. Counts of ends are cut off at 1000."""

    fleet: str
    now: datetime
    driver: str
    answering: bool
    endpoints: Endpoints
    list_age: timedelta | None
    sessions: int | None
    """None where no broker answers."""
    devices: tuple[tuple[Standing, int], ...]
    certificates: tuple[tuple[CertificateState, int], ...]
    ending_soon: int
    """Within 7 days."""
    ending_later: int
    """Within 30 days."""
    waiting: int
    crls: tuple[CrlHealth, ...]
    audit_entries: int
    last_audit_at: datetime | None
    disk_free_bytes: int
    own_ending: tuple[tuple[str, datetime], ...]
    """Certificates of the fleet itself that end within 30 days: name and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: what was looked at, what was found, and what to do about it."""

    name: str
    ok: bool
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    devices: tuple[tuple[Standing, int], ...]
    certificates: tuple[tuple[CertificateState, int], ...]
    ending: tuple[CertificateRecord, ...]
    waiting: int
    audit_entries: int
    last_audit_at: datetime | None


async def status(context: Context) -> Health:
    """Measure everything.

    Raises:
        StoreError: the store cannot be read.
    """
    now = context.clock()
    counts = await context.store.read(_count, now + LATER)
    sessions: int | None
    try:
        sessions = len(await context.broker.sessions()) if context.broker.brokers else None
    except FleetError:
        sessions = None
    devices = [row for row in counts.ending if row.purpose is Purpose.DEVICE]
    return Health(
        fleet=context.fleet,
        now=now,
        driver=context.driver,
        answering=context.answering(),
        endpoints=context.endpoints,
        list_age=context.broker.age(),
        sessions=sessions,
        devices=counts.devices,
        certificates=counts.certificates,
        ending_soon=sum(1 for row in devices if _end(row) < now + SOON),
        ending_later=len(devices),
        waiting=counts.waiting,
        crls=_crls(context),
        audit_entries=counts.audit_entries,
        last_audit_at=counts.last_audit_at,
        disk_free_bytes=shutil.disk_usage(context.home.root).free,
        own_ending=tuple((row.name, _end(row)) for row in counts.ending if row.purpose is not Purpose.DEVICE),
    )


async def doctor(context: Context) -> tuple[Finding, ...]:
    """Look at everything that can be wrong, and say what helps."""
    found = await status(context)
    findings = [check(context, found) for check in _CHECKS]
    return tuple(findings)


def _server(context: Context, _found: Health) -> Finding:
    if context.driver == "none":
        return _bad("server", "no server runs for this home", "fleet serve")
    return _good("server", f"runs with the {context.driver} broker")


def _broker(context: Context, found: Health) -> Finding:
    if found.list_age is None:
        return _good("broker", "none in this process")
    if found.list_age > OLD_LIST:
        age = int(found.list_age.total_seconds())
        return _bad("broker", f"its list was last proven right {age} s ago", "fleet broker apply")
    if found.sessions is None:
        return _bad("broker", "does not answer", "see the log in the home's folder broker/")
    return _good("broker", f"its list is right; {found.sessions} live sessions")


def _requests(context: Context, found: Health) -> Finding:
    if context.driver != "none" and not found.answering:
        return _bad("requests", "devices' requests do not reach the server", "see the server's log")
    return _good("requests", "devices are answered")


def _lists(_context: Context, found: Health) -> Finding:
    late = [crl for crl in found.crls if crl.next_update <= found.now]
    if late or not found.crls:
        return _bad(
            "crl", "a revocation list has ended or is missing", "fleet ca crl, with the server running"
        )
    first = min(crl.next_update for crl in found.crls)
    return _good("crl", f"{len(found.crls)} lists in force, the first until {first:%Y-%m-%d %H:%M} UTC")


def _passphrase(context: Context, _found: Health) -> Finding:
    if context.home.root_passphrase.exists():
        return _bad(
            "root keys",
            "the roots' passphrase still lies in the home",
            f"move {context.home.root_passphrase} to a place that is not this machine",
        )
    return _good("root keys", "the roots' passphrase is not on this machine")


def _key_files(context: Context, _found: Health) -> Finding:
    for path in sorted(context.home.root.rglob("*.key")):
        if _is_open_to_others(path) and not path.name.startswith("public-claim"):
            return _bad("key files", f"{path} can be read by others", f"chmod 600 {path}")
    return _good("key files", "private keys are their owner's alone")


def _disk(_context: Context, found: Health) -> Finding:
    free_mib = found.disk_free_bytes // (1024 * 1024)
    if found.disk_free_bytes < LOW_DISK_BYTES:
        return _bad("disk", f"only {free_mib} MiB are free", "make room where the home is")
    return _good("disk", f"{free_mib} MiB free")


def _clock(_context: Context, found: Health) -> Finding:
    if found.last_audit_at is not None and found.last_audit_at > found.now + _CLOCK_SLACK:
        at = found.last_audit_at
        return _bad(
            "clock", f"it is behind the audit trail's last entry ({at:%Y-%m-%d %H:%M:%S})", "set the clock"
        )
    return _good("clock", "not behind the audit trail")


def _own(_context: Context, found: Health) -> Finding:
    if found.own_ending:
        name, end = found.own_ending[0]
        return _bad(
            "own certificates", f"that of {name} ends {end:%Y-%m-%d}", "fleet init makes new ones; replace it"
        )
    return _good("own certificates", "none ends within 30 days")


def _alarms(_context: Context, found: Health) -> Finding:
    alarmed = dict(found.devices).get(Standing.ALARMED, 0)
    if alarmed:
        return _bad("alarms", f"{alarmed} devices are alarmed", "fleet device list --standing alarmed")
    return _good("alarms", "none")


_CHECKS: tuple[Callable[[Context, Health], Finding], ...] = (
    _server,
    _broker,
    _requests,
    _lists,
    _passphrase,
    _key_files,
    _disk,
    _clock,
    _own,
    _alarms,
)


async def _count(tx: Transaction, before: datetime) -> _Counts:
    newest = await audit.search_newest(tx, AuditQuery(limit=1))
    return _Counts(
        devices=await count_by_standing(tx, ""),
        certificates=await count_by_state(tx, Purpose.DEVICE),
        ending=await expiring(tx, CertificateQuery(ends_before=before, limit=_MOST)),
        waiting=len(await list_waiting(tx, _MOST)),
        audit_entries=newest[0].number + 1 if newest else 0,
        last_audit_at=newest[0].entry.at if newest else None,
    )


def _crls(context: Context) -> tuple[CrlHealth, ...]:
    found = []
    for issuer in context.authority.issuers:
        crl = context.crls.find(issuer.issuer_id)
        if crl is not None:
            health = CrlHealth(
                issuer=crl.issuer,
                purpose=issuer.purpose,
                domain=issuer.domain,
                number=crl.number,
                next_update=crl.next_update,
            )
            found.append(health)
    return tuple(found)


def _end(row: CertificateRecord) -> datetime:
    return row.changed_at if row.signed is None else row.signed.not_after


def _is_open_to_others(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _good(name: str, text: str) -> Finding:
    return Finding(name=name, ok=True, text=text)


def _bad(name: str, text: str, hint: str) -> Finding:
    return Finding(name=name, ok=False, text=text, hint=hint)
