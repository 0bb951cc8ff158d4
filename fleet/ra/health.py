"""How the fleet is: numbers for one screen, and every check that the doctor knows, each with its fix.

It only looks. A check that cannot be made is a finding, never a silence.
"""

import asyncio
import shutil
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.ca.auditkey import load_audit_verifier
from fleet.config import load
from fleet.errors import FleetError
from fleet.model import Standing
from fleet.ports import Transaction
from fleet.ra.authority.authority_health import authorities, unsigned
from fleet.ra.authority.trust_health import trust
from fleet.ra.campaigns.rollout_health import rollouts
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good
from fleet.ra.keeping.restore_health import restored
from fleet.ra.keeping.witnessing import witnessed
from fleet.ra.own.own_health import adoptions, own_certificates, server_certificate
from fleet.ra.people.audits import Notary, verify
from fleet.ra.people.station_health import stations
from fleet.ra.requests import templates
from fleet.ra.requests.profile_health import profiles
from fleet.ra.telling.reading import channels
from fleet.store import allowlist, audit, certificates, inventory, provisioning, waiting
from fleet.store.certificates import CertificateQuery
from fleet.store.inventory import DeviceQuery

_RENEWALS_LATE = timedelta(days=7)
_STALE_LIST = timedelta(minutes=5)
_LITTLE_ROOM = 512 * 1024 * 1024
_LONG_TRAIL = 200_000
_SEVERAL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Numbers out of the store, as of one moment."""

    standings: tuple[tuple[Standing, int], ...]
    waiting: int
    admitted: int
    ending_soon: int
    """Admitted certificates that end within a week: their renewal is late."""
    audit_entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One screen."""

    at: datetime
    records: Records
    serving: bool
    """Listeners and broker run, and requests are answered."""
    driver: str
    sessions: int | None
    list_age: timedelta | None
    crls_until: datetime | None
    """The earliest nextUpdate of the revocation lists in force."""
    unsigned: tuple[str, ...]
    """Domains and purposes of our own for which no CA signs."""


def notary_of(context: Context) -> Notary:
    """Return what the audit trail of a context is checked against. Raises `FleetError`."""
    return Notary(
        fleet=context.fleet,
        is_signed=load_audit_verifier(context.home.audit_public_key),
        head_file=context.home.audit_head,
    )


async def health(context: Context) -> Health:
    """Return how the fleet is now."""
    running = bool(context.broker.brokers)
    now = context.clock()
    return Health(
        at=now,
        records=await context.store.read(_records, now),
        serving=running and context.answering(),
        driver=context.driver,
        sessions=len(await context.broker.sessions()) if running else None,
        list_age=context.broker.age(),
        crls_until=min((crl.next_update for crl in context.crls.all()), default=None),
        unsigned=await unsigned(context),
    )


async def examine(context: Context) -> tuple[Finding, ...]:
    """Make every check; what goes wrong in one is its finding."""
    found: list[Finding] = []
    for name, check in _CHECKS.items():
        try:
            found += await check(context)
        except (FleetError, OSError) as error:
            hint = error.hint if isinstance(error, FleetError) else None
            found.append(Finding(check=name, ok=False, text=str(error), fix=hint or "see the server's log"))
    return tuple(found)


async def _records(tx: Transaction, now: datetime) -> Records:
    late = CertificateQuery(ends_before=now + _RENEWALS_LATE, limit=_SEVERAL)
    return Records(
        standings=await inventory.count_by_standing(tx, ""),
        waiting=len(await waiting.list_waiting(tx, _SEVERAL)),
        admitted=len((await allowlist.snapshot(tx, None)).entries),
        ending_soon=len(await certificates.expiring(tx, late)),
        audit_entries=(await audit.load_frontier(tx)).size,
    )


async def _configuration(context: Context) -> list[Finding]:
    found = await asyncio.to_thread(load, context.home.config)
    changed = "" if found == context.config else "; it has changed, and is in force after a restart"
    return [good("configuration", f"fleet.toml can be read{changed}")]


async def _server(context: Context) -> list[Finding]:
    if not context.broker.brokers:
        return [bad("server", "no server of this home runs", fix="fleet serve")]
    if not context.answering():
        return [
            bad(
                "server",
                "it does not get the devices' requests from the broker",
                fix="start fleet serve again",
            )
        ]
    return [good("server", "it runs, and answers requests")]


async def _broker(context: Context) -> list[Finding]:
    age = context.broker.age()
    if age is None:
        return []
    if age > _STALE_LIST:
        text = f"its list was last proven right {int(age.total_seconds())} s ago"
        return [bad("broker", text, fix="fleet broker apply")]
    found = [good("broker", f"{context.driver}, its list is the store's")]
    if context.driver == "embedded":
        found.append(good("broker", "the embedded broker suits small fleets; Mosquitto carries more"))
    return found


async def _root_keys(context: Context) -> list[Finding]:
    path = context.home.root_passphrase
    if path.exists():
        fix = f"keep it in a safe place, then remove it: shred -u {path}"
        return [bad("root keys", "their passphrase lies beside them on this machine", fix=fix)]
    return [good("root keys", "their passphrase is not on this machine")]


async def _key_files(context: Context) -> list[Finding]:
    root = context.home.root
    public = {path.resolve() for path in context.home.trust.rglob("*.key")}  # the key of a public claim
    secret = [
        *root.rglob("*.key"),
        *root.rglob("*passphrase"),
        *root.rglob("*password"),
        context.home.audit_key,
    ]
    open_to_others = [
        path
        for path in secret
        if path.exists() and path.resolve() not in public and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if open_to_others:
        names = " ".join(str(path) for path in open_to_others)
        return [bad("key files", f"{len(open_to_others)} can be read by others", fix=f"chmod 600 {names}")]
    return [good("key files", "only their owner can read them")]


async def _revocation_lists(context: Context) -> list[Finding]:
    lists = context.crls.all()
    stale = [crl for crl in lists if crl.next_update <= context.clock()]
    if stale or not lists:
        return [
            bad("revocation lists", f"{len(stale)} of {len(lists)} are out of date", fix="fleet broker apply")
        ]
    of_brokers = context.crls.brokers_until
    if context.broker.brokers and (of_brokers is None or of_brokers <= context.clock()):
        text = "the broker has none that is in its time; its allowlist still holds"
        return [bad("revocation lists", text, fix="fleet broker apply")]
    until = min(crl.next_update for crl in lists)
    return [good("revocation lists", f"{len(lists)} in force, the first until {until:%Y-%m-%d %H:%M} UTC")]


async def _devices(context: Context) -> list[Finding]:
    records = await context.store.read(_records, context.clock())
    alarmed = await context.store.read(
        inventory.list_devices, DeviceQuery(standing=Standing.ALARMED, limit=_SEVERAL)
    )
    found = [
        bad(
            "devices", f"{one.identity.name} raised an alarm", fix=f"fleet device explain {one.identity.name}"
        )
        for one in alarmed
    ]
    if records.waiting:
        found.append(
            bad("devices", f"{records.waiting} wait for approval", fix="fleet device list --waiting")
        )
    if records.ending_soon:
        fix = "fleet cert list --state active --ends-before TIME"
        found.append(bad("devices", f"certificates that end within 7 days: {records.ending_soon}", fix=fix))
    return found or [good("devices", "no alarm, nobody waits, no renewal is late")]


async def _audit_trail(context: Context) -> list[Finding]:
    size = (await context.store.read(_records, context.clock())).audit_entries
    if size > _LONG_TRAIL:
        return [good("audit trail", f"{size} entries; fleet audit verify checks them all, and takes a while")]
    verdict = await verify(context.store, notary_of(context))
    if verdict.is_whole:
        return [good("audit trail", f"{verdict.size} entries, whole")]
    return [bad("audit trail", finding.text, fix="fleet audit verify") for finding in verdict.findings]


async def _templates(context: Context) -> list[Finding]:
    """Templates that AWS clients cannot register by, and how many of them have not registered yet."""
    faults = await templates.faults(context)
    pending = await context.store.read(provisioning.count_all_pending, None)
    return [
        bad("templates", f"{name}: {why}", fix=f"fleet template add {name} FILE, or remove it")
        for name, why in faults.items()
    ] or [good("templates", f"each can be used; {pending} certificates wait to be registered")]


async def _clock(context: Context) -> list[Finding]:
    newest = await context.store.read(audit.search_newest, audit.AuditQuery(limit=1))
    now = context.clock()
    if newest and newest[-1].entry.at > now + timedelta(seconds=1):
        return [
            bad(
                "clock",
                f"it is {now:%Y-%m-%d %H:%M}, before the newest record",
                fix="set this machine's clock",
            )
        ]
    return [good("clock", "not before the newest record")]


async def _disk(context: Context) -> list[Finding]:
    free = shutil.disk_usage(context.home.root).free
    text = f"{free // 2**20} MiB are free"
    if free < _LITTLE_ROOM:
        return [bad("disk", text, fix="make room: a full disk stops every enrollment")]
    return [good("disk", text)]


_CHECKS: dict[str, Callable[[Context], Awaitable[list[Finding]]]] = {
    "configuration": _configuration,
    "server": _server,
    "broker": _broker,
    "root keys": _root_keys,
    "key files": _key_files,
    "authorities": authorities,
    "own certificates": own_certificates,
    "server certificate": server_certificate,
    "adoptions": adoptions,
    "revocation lists": _revocation_lists,
    "stations": stations,
    "devices": _devices,
    "trust": trust,
    "rollouts": rollouts,
    "profiles": profiles,
    "templates": _templates,
    "audit trail": _audit_trail,
    "restore": restored,
    "notifications": channels,
    "witnesses": witnessed,
    "clock": _clock,
    "disk": _disk,
}
