"""Who signs in a restored home where those that took over since the backup are gone with their keys.

A CA that was only followed by another signs again; one whose key may be in other hands never does. What
comes of it is on record and on the trail, and the doctor speaks of it until an operator has acted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.wire.identity import serial_hex
from device_agent.wire.secret import Secret
from fleet import config
from fleet.ca.hierarchy import BOOTSTRAP_REALM, FLEET_REALM, Authority
from fleet.ca.keyring import KeyRing
from fleet.ca.loading import load_authority
from fleet.core.authority import (
    ADMITTED,
    ISSUES,
    UNCERTIFIED,
    AuthorityEvent,
    AuthorityRecord,
    AuthorityState,
    KeyKind,
)
from fleet.errors import FleetError, NeedsAttentionError
from fleet.home import Home
from fleet.model import CertificateState, Purpose
from fleet.ports import Store, Transaction
from fleet.ra.authority_changes import Change, entry
from fleet.store import audit
from fleet.store.authorities import list_authorities, save_authority
from fleet.store.certificates import load_certificate
from fleet.store.meta import get_meta, set_meta

_NAME = "restored_authorities"
_FOLLOWED = frozenset({AuthorityState.RETIRING, AuthorityState.RETIRED})
_WHOLE = frozenset({AuthorityState.ACTIVE, AuthorityState.STANDBY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """What became of the authorities of a home that was brought up to date."""

    resumed: tuple[AuthorityRecord, ...] = ()
    """Who signs again, for the CA that took over is gone with its key."""
    vacant: tuple[AuthorityRecord, ...] = ()
    """Who signed last where nobody does now, for its key may be in other hands."""
    waiting: tuple[AuthorityRecord, ...] = ()
    """Who waits for its certificate again, which came after the backup."""

    @property
    def to_follow(self) -> tuple[AuthorityRecord, ...]:
        """Who must be followed by another: a root's rollover is its issuing CAs', too."""
        return to_follow(self.resumed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """A restored home after its trail was followed, and what was so before."""

    home: Home
    fleet: str
    before: Sequence[AuthorityRecord]
    """As in the backup."""
    compromised: frozenset[str]
    """Issuer ids of CAs whose keys may be in other hands, by the words of the trail."""
    actor: str
    at: datetime


async def settle(store: Store, settling: Settling) -> Succession:
    """Let those sign again that were followed by a CA that is not here; return what is so now."""
    waiting = await store.write(_wait_again, settling)
    records = await store.read(list_authorities, None)
    authority = _load(settling.home, settling.fleet, records)
    revoked = await store.read(_revoked, _serials(authority))
    ours = replace(settling, compromised=settling.compromised | revoked)
    chosen = choose(authority, ours)
    await store.write(_resume, (ours, chosen.resumed))
    return replace(chosen, waiting=waiting)


def choose(authority: Authority, settling: Settling) -> Succession:
    """Return who signs again, the roots first, and whose place stays empty."""
    resumed: list[AuthorityRecord] = []
    vacant: list[AuthorityRecord] = []
    before = {one.folder: one.state for one in settling.before}
    for kin in _posts(authority.records):
        had_one = any(before.get(one.folder) in ISSUES for one in kin)
        if any(one.state in ISSUES for one in kin) or not had_one:
            continue
        anchors = _believed(authority, resumed)
        able = [one for one in kin if before.get(one.folder) in _WHOLE and _is_able(one, settling)]
        able = [one for one in able if one.is_root or _anchor_of(authority, one) in anchors]
        if able:
            resumed.append(max(able, key=lambda one: one.changed_at))
        else:
            vacant.append(max(kin, key=lambda one: one.changed_at))
    return Succession(resumed=tuple(resumed), vacant=tuple(vacant))


def _posts(records: Sequence[AuthorityRecord]) -> Iterator[list[AuthorityRecord]]:
    """Yield who can take the place of whom, roots before all others."""
    posts: dict[tuple[bool, str, Purpose], list[AuthorityRecord]] = {}
    for record in records:
        posts.setdefault((not record.is_root, record.realm, record.purpose), []).append(record)
    for post in sorted(posts):
        yield posts[post]


def _is_able(record: AuthorityRecord, settling: Settling) -> bool:
    if record.state not in _FOLLOWED or record.issuer in settling.compromised:
        return False
    files = settling.home.authority_files(record.folder)
    # A root's key is often kept elsewhere, and is not needed from day to day.
    return record.is_root or record.key is not KeyKind.FILE or files.ca.key.exists()


def _believed(authority: Authority, resumed: Sequence[AuthorityRecord]) -> frozenset[str]:
    again = {one.folder for one in resumed}
    return frozenset(
        root.anchor for root in authority.roots if root.state in ADMITTED or root.record.folder in again
    )


def _anchor_of(authority: Authority, record: AuthorityRecord) -> str:
    return next((one.anchor for one in authority.issuers if one.issuer_id == record.issuer), "")


def _load(home: Home, fleet: str, records: Sequence[AuthorityRecord]) -> Authority:
    """Read the certificates; no key is opened, for the passphrase may be elsewhere."""
    return load_authority(home, fleet=fleet, keys=KeyRing(Secret("")), records=records)


def _serials(authority: Authority) -> Mapping[str, str]:
    return {one.issuer_id: serial_hex(one.certificate.serial_number) for one in authority.issuers}


async def _revoked(tx: Transaction, serials: Mapping[str, str]) -> frozenset[str]:
    found = set()
    for issuer, serial in serials.items():
        row = await load_certificate(tx, serial)
        if row is not None and row.state is CertificateState.REVOKED:
            found.add(issuer)
    return frozenset(found)


async def _wait_again(tx: Transaction, settling: Settling) -> tuple[AuthorityRecord, ...]:
    """Bring back to their request those whose certificate came after the backup, and is not here."""
    before = {one.folder: one for one in settling.before if one.state in UNCERTIFIED}
    waiting = []
    for record in await list_authorities(tx):
        known = before.get(record.folder)
        place = settling.home.authority_files(record.folder).ca.certificate
        if known is not None and record.state not in UNCERTIFIED and not place.exists():
            await save_authority(tx, known)
            waiting.append(known)
    return tuple(waiting)


async def _resume(tx: Transaction, ordered: tuple[Settling, Sequence[AuthorityRecord]]) -> None:
    """Record that CAs sign again. The table of states lets no operator do so: only a restore may."""
    settling, resumed = ordered
    for record in resumed:
        again = replace(record, state=AuthorityState.ACTIVE, changed_at=settling.at)
        await save_authority(tx, again)
        why = (("because", "restored without the CA that followed it"),)
        what = Change(name=record.folder, actor=settling.actor, at=settling.at, details=why)
        await audit.append(tx, entry(again, f"authority.{AuthorityEvent.ACTIVATED}", what))
    await set_meta(tx, _NAME, " ".join(one.folder for one in resumed))


def to_follow(resumed: Sequence[AuthorityRecord]) -> tuple[AuthorityRecord, ...]:
    """Return the roots, and the issuing CAs of realms whose root is not among them."""
    realms = {one.realm for one in resumed if one.is_root}
    return tuple(one for one in resumed if one.is_root or one.realm not in realms)


async def signing_again(tx: Transaction, _argument: None = None) -> tuple[AuthorityRecord, ...]:
    """Return who signs again since a restore, and was not followed by another since."""
    noted = (await get_meta(tx, _NAME) or "").split()
    return tuple(one for one in await list_authorities(tx) if one.folder in noted and one.state in ISSUES)


async def require_opens(store: Store, home: Home) -> Authority:
    """Read a restored home as a server's start reads it, but for its keys.

    Raises:
        NeedsAttentionError: it would not start.
    """
    settings = config.load(home.config)
    try:
        authority = _load(home, settings.fleet, await store.read(list_authorities, None))
        for realm in (FLEET_REALM, BOOTSTRAP_REALM, *(one.name for one in settings.domains)):
            authority.root(realm)
    except FleetError as error:
        raise NeedsAttentionError(
            f"the restored home would not start: {error}",
            hint="restore a later backup; nothing was restored",
        ) from error
    return authority
