"""Operators say what they know of devices: one, some, or all that fit a query, page by page.

Whoever says the same again changes nothing. What would change the access of a device is refused to those who
may not decide about access.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.marking import Marking, Marks, changes_of, checked, facts_changed
from fleet.core.names import attributes_named
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry, Role
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.devices import unknown
from fleet.ra.selection import ByQuery, count_selected
from fleet.store import access_classes, audit
from fleet.store.attributes import vouched
from fleet.store.devices import load_record
from fleet.store.groups import load_group
from fleet.store.inventory import DeviceQuery, list_devices
from fleet.store.marks import marks_of, save_marks
from fleet.store.owners import load_owner

PAGE = 500
"""Devices that share a commit."""

_ASK = "ask somebody who has the role security; fleet operator list names them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who says it, and what he may do."""

    actor: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What one page of it did."""

    found: int
    changed: int
    following: Identity | None = None
    """The last device of the page, where more may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    told: tuple[tuple[Identity, Marking], ...]
    speaker: Speaker
    at: datetime


async def mark_each(desk: Desk, told: tuple[tuple[Identity, Marking], ...], *, speaker: Speaker) -> Marked:
    """Say something of each of some devices; of every page of them, all or none.

    Raises:
        BadInputError: a word can be none of its kind, or nothing is said.
        NotFoundError: a device, an owner or a group is not there.
        RefusedError: it would change what devices may do or are called, and the speaker may not.
    """
    for _, marking in told:
        if checked(marking).says_nothing:
            raise BadInputError("nothing is said of a device", hint="fleet device set --help")
    if speaker.role is not Role.SECURITY:
        _refuse_to_name(desk, told)
    await desk.store.read(_require_all, tuple(identity for identity, _ in told))
    changed = 0
    for start in range(0, len(told), PAGE):
        work = _Work(told=told[start : start + PAGE], speaker=speaker, at=desk.clock())
        changed += await _commit(desk, work)
    return Marked(found=len(told), changed=changed)


async def mark_page(
    desk: Desk, selection: ByQuery, marking: Marking, *, after: Identity | None, speaker: Speaker
) -> Marked:
    """Say the same of the next page of all devices that fit a query. Raises as `mark_each`."""
    if after is None:
        await desk.store.search(count_selected, selection)
    page = DeviceQuery(
        condition=selection.query.condition,
        now=selection.now,
        after=("", "") if after is None else (after.domain, after.device_id),
        limit=PAGE,
    )
    found = tuple(each.identity for each in await desk.store.search(list_devices, page))
    done = await mark_each(desk, tuple((identity, marking) for identity in found), speaker=speaker)
    following = found[-1] if len(found) == PAGE else None
    return Marked(found=len(found), changed=done.changed, following=following)


def _refuse_to_name(desk: Desk, told: tuple[tuple[Identity, Marking], ...]) -> None:
    """Refuse what the names in certificates are made of."""
    named = {
        domain.name: attributes_named(name for profile in domain.profiles for name in profile.names)
        for domain in desk.config.domains
    }
    for identity, marking in told:
        for name, _ in marking.attributes:
            if name in named.get(identity.domain, ()):
                raise RefusedError(
                    f"a profile of {identity.domain} makes names in certificates of the attribute {name}",
                    hint=_ASK,
                )


async def _commit(desk: Desk, work: _Work) -> int:
    changed, sequence = await desk.store.write(_mark, work)
    if sequence is not None:
        await desk.broker.reach(sequence)
    return changed


async def _require_all(tx: Transaction, identities: tuple[Identity, ...]) -> None:
    for identity in identities:
        if await load_record(tx, identity) is None:
            raise unknown(identity)


async def _mark(tx: Transaction, work: _Work) -> tuple[int, int | None]:
    """Return how many devices changed, and the allowlist's new number, if that did."""
    changed: list[Identity] = []
    decisive = frozenset[str]()
    if work.speaker.role is not Role.SECURITY:
        decisive = frozenset(await access_classes.asked(tx))
    for identity, marking in work.told:
        before = await _before(tx, identity, marking)
        after = marking.of(before)
        if after != before:
            # Whether the device is admitted now or not: what it may do is decided when it comes back, too.
            require_undecisive(facts_changed(before, after), decisive)
            await _require_known(tx, before, after=after)
            await save_marks(tx, identity, before, after=after, source=work.speaker.actor)
            await audit.append(tx, _entry(work, identity, changes_of(before, after)))
            changed.append(identity)
    return len(changed), await access_classes.refresh(tx, changed)


def require_undecisive(told: frozenset[str], decisive: frozenset[str]) -> None:
    """Refuse to tell what an access policy asks for; raises `RefusedError`."""
    if both := told & decisive:
        raise RefusedError(
            f"the access policy asks for {min(both)}: who tells it decides what devices may do", hint=_ASK
        )


async def _before(tx: Transaction, identity: Identity, marking: Marking) -> Marks:
    """Return what is known; what a device has said of itself is unsaid where an operator says it now."""
    known = await marks_of(tx, identity)
    own = set(known.attributes) - set(await vouched(tx, identity))
    said = {name for name, value in marking.attributes if value}
    kept = (one for one in known.attributes if one not in own or one[0] not in said)
    return replace(known, attributes=tuple(kept))


async def _require_known(tx: Transaction, before: Marks, *, after: Marks) -> None:
    """Refuse an owner or group that is not there to be given."""
    if after.owner and after.owner != before.owner:
        owner = await load_owner(tx, after.owner)
        if owner is None or owner.removed_at is not None:
            raise NotFoundError(f"there is no owner {after.owner}", hint=f"fleet owner add {after.owner}")
    for name in sorted(set(after.groups) - set(before.groups)):
        group = await load_group(tx, name)
        if group is None:
            raise NotFoundError(f"there is no group {name}", hint=f"fleet group add {name}")
        if group.query is not None:
            raise RefusedError(
                f"group {name} is a query, and nobody is put in", hint=f"fleet group show {name}"
            )


def _entry(work: _Work, identity: Identity, details: tuple[tuple[str, str], ...]) -> AuditEntry:
    return AuditEntry(
        at=work.at,
        action="device.marked",
        actor=work.speaker.actor,
        domain=identity.domain,
        device_id=identity.device_id,
        details=details,
    )
