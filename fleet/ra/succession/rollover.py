"""The beginning of a rollover: what is given up, what takes over, and what the roots' keys must sign for it.

The keys of roots never come here. Those of issuing CAs are made by the server, and wait for the signature
of whoever has the root at hand. Asked again, it goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet.ca.hierarchy import BOOTSTRAP_REALM, FLEET_REALM, Root
from fleet.ca.issuer import pem_bundle
from fleet.core.authority import ISSUES, AuthorityRecord, AuthorityState, KeyKind, issuing_name
from fleet.core.goodkey import PostQuantumKey
from fleet.core.rollover import OPEN, Rollover, RolloverKind, RolloverState
from fleet.errors import NotFoundError, RefusedError
from fleet.files import telling
from fleet.model import AuditEntry, Purpose
from fleet.ports import Transaction
from fleet.ra.authority.new_authority import AuthorityOrder, next_name, pending_request, request_authority
from fleet.ra.authority_changes import find
from fleet.ra.context import Context
from fleet.store import audit
from fleet.store.authorities import list_authorities
from fleet.store.rollovers import insert_rollover, newest_rollover, next_number, save_rollover
from fleet.store.trust import highest_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An issuing CA that waits for the root's signature."""

    name: str
    purpose: Purpose
    common_name: str
    csr_pem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOrder:
    """What somebody with the root at hand needs to know."""

    rollover: Rollover
    root: str
    """The root that signs now: its folder."""
    root_pem: str
    beside_pem: str
    """Anchors that are trusted beside the roots of the realm, such as a public CA's for our server."""
    links_pem: str
    """Of earlier rollovers."""
    requests: tuple[Request, ...]
    standing_by: tuple[str, ...] = ()
    """CAs that stand by under a root that is given up, and cannot take over once it has gone."""


async def plan(context: Context, name: str) -> Rollover:
    """Return the rollover that a name stands for, without beginning it; it has no number yet.

    A realm stands for its root, with all issuing CAs that are active under it; the name of an issuing CA
    for that one alone.

    Raises:
        NotFoundError: there is no such CA that is active.
        RefusedError: it is somebody else's to follow.
    """
    records = await context.store.read(list_authorities, None)
    realm = name.partition("/")[0]
    root = context.authority.root(realm).record
    active = [one for one in records if one.realm == realm and one.state in ISSUES and not one.is_root]
    now = context.clock().replace(microsecond=0)
    planned = Rollover(
        number=0,
        realm=realm,
        kind=RolloverKind.ROOT if name == realm else RolloverKind.ISSUING,
        state=RolloverState.REQUESTED,
        gives_up=(root.folder, *(one.folder for one in active)),
        brings=(_next_root(realm, records),),
        version=1 if name == realm and realm != BOOTSTRAP_REALM else None,
        started_at=now,
        changed_at=now,
    )
    if root.key is KeyKind.ELSEWHERE:
        raise RefusedError(
            f"the root of {realm} is somebody else's, who signs with it",
            hint=f"fleet ca add {realm} --csr asks them for another issuing CA",
        )
    if planned.kind is RolloverKind.ROOT:
        return _readable(context, planned)
    if name not in planned.gives_up:
        raise NotFoundError(f"there is no active issuing CA {name}", hint="fleet ca list")
    return replace(planned, gives_up=(name,), brings=())


def _readable(context: Context, planned: Rollover) -> Rollover:
    """Let a root be followed whose signature agents can check."""
    key = context.authority.root(planned.realm).certificate.public_key()
    if isinstance(key, PostQuantumKey):
        raise RefusedError(
            f"the root of {planned.realm} is post-quantum: no agent could check its trust bundle yet",
            hint="fleet ca add puts another issuing CA under the same root",
        )
    return planned


async def begin(context: Context, name: str, *, actor: str) -> WorkOrder:
    """Make the keys of the issuing CAs that take over, and say what is to be signed.

    Raises:
        NotFoundError, RefusedError: as `plan`; or another rollover of the realm is under way.
    """
    rollover = await _begun_or_planned(context, name)
    if not rollover.number:
        rollover = await context.store.write(_insert, (rollover, actor))
    return await _work_order(context, await _request_all(context, rollover, actor=actor))


async def rehearse(context: Context, name: str) -> WorkOrder:
    """Return what `begin` would: nothing waits for a signature, and new CAs have the names that come next.

    Raises:
        NotFoundError, RefusedError: as `begin`.
    """
    rollover = await _begun_or_planned(context, name)
    known = await context.store.read(list_authorities, None)
    orders = await _orders(context, rollover, actor="")
    foreseen = [next_name(context, order, known) for order in orders]
    return replace(
        await _work_order(context, rollover),
        rollover=replace(rollover, brings=(*rollover.brings, *foreseen)),
        requests=(),
    )


async def _begun_or_planned(context: Context, name: str) -> Rollover:
    """Return the rollover that was asked for already, or the plan of one, which has no number."""
    realm = name.partition("/")[0]
    rollover = await context.store.read(newest_rollover, realm)
    if rollover is None or rollover.state not in OPEN:
        return await plan(context, name)
    is_this = name in rollover.gives_up or (name == realm and rollover.kind is RolloverKind.ROOT)
    if rollover.state is not RolloverState.REQUESTED or not is_this:
        raise RefusedError(
            f"a rollover of {realm} is under way: it is {rollover.state}",
            hint=f"fleet ca rollover status {realm}",
        )
    return rollover


async def _request_all(context: Context, rollover: Rollover, *, actor: str) -> Rollover:
    """Ask for each issuing CA that is not asked for yet; each is on record before the next."""
    for order in await _orders(context, rollover, actor=actor):
        requested = await request_authority(context, order)
        rollover = replace(rollover, brings=(*rollover.brings, requested.record.folder))
        await context.store.write(save_rollover, rollover)
    return rollover


async def _orders(context: Context, rollover: Rollover, *, actor: str) -> list[AuthorityOrder]:
    """Return the orders of the issuing CAs that are not asked for yet."""
    records = {one.folder: one for one in await context.store.read(list_authorities, None)}
    given_up = {records[name].purpose: name for name in rollover.gives_up if not records[name].is_root}
    there = {records[name].purpose for name in rollover.brings if name in records}
    # A key in a token is followed by a key in that token: never by one that could be copied.
    place_of = context.in_force.keys.tokens.place_of
    return [
        AuthorityOrder(
            realm=rollover.realm,
            purpose=purpose,
            actor=actor,
            token=place_of(context.home.authority_files(before).token),
        )
        for purpose, before in given_up.items()
        if purpose not in there
    ]


async def _work_order(context: Context, rollover: Rollover) -> WorkOrder:
    root = context.authority.root(rollover.realm)
    requests = [
        await _request(context, await context.store.read(find, name))
        for name in rollover.brings
        if not name.rpartition("/")[2].startswith("root-")
    ]
    links = [one.link for one in context.authority.roots if one.realm == rollover.realm and one.link]
    return WorkOrder(
        rollover=rollover,
        root=root.record.folder,
        root_pem=root.pem,
        beside_pem=_beside(context, rollover.realm),
        links_pem=pem_bundle(links),
        requests=tuple(requests),
        standing_by=_standing_by(context, rollover, root),
    )


def _standing_by(context: Context, rollover: Rollover, root: Root) -> tuple[str, ...]:
    if rollover.kind is not RolloverKind.ROOT:
        return ()
    below = {one.issuer_id for one in context.authority.issuers if one.anchor == root.anchor}
    return tuple(
        one.folder
        for one in context.authority.records
        if one.issuer in below and one.state is AuthorityState.STANDBY and one.folder not in rollover.brings
    )


async def _request(context: Context, record: AuthorityRecord) -> Request:
    return Request(
        name=record.folder,
        purpose=record.purpose,
        common_name=issuing_name(record, fleet=context.fleet),
        csr_pem=await pending_request(context, record),
    )


def _beside(context: Context, realm: str) -> str:
    """Return what servers are trusted by beside our own root: the brought certificate's, if there is one."""
    path = context.home.brought_trust
    if realm != FLEET_REALM or not path.is_file():
        return ""
    with telling(path):
        return path.read_text("ascii")


def _next_root(realm: str, records: Sequence[AuthorityRecord]) -> str:
    names = [one.folder.rpartition("/")[2] for one in records if one.realm == realm and one.is_root]
    numbers = [int(number) for name in names if (number := name.removeprefix("root-")).isdecimal()]
    return f"{realm}/root-{max([1, *numbers]) + 1}"


async def _insert(tx: Transaction, begun: tuple[Rollover, str]) -> Rollover:
    planned, actor = begun
    version = None if planned.version is None else await highest_version(tx, planned.realm) + 1
    rollover = replace(planned, number=await next_number(tx), version=version)
    await insert_rollover(tx, rollover)
    await audit.append(tx, rollover_entry(rollover, actor=actor))
    return rollover


def rollover_entry(rollover: Rollover, *, actor: str, not_heard_of: int = 0) -> AuditEntry:
    """Return the entry about a rollover: all that is on record of it, so that the trail can be followed."""
    details = (
        ("realm", rollover.realm),
        ("number", str(rollover.number)),
        ("kind", rollover.kind.value),
        ("state", rollover.state.value),
        ("gives_up", " ".join(rollover.gives_up)),
        ("brings", " ".join(rollover.brings)),
        ("version", "" if rollover.version is None else str(rollover.version)),
        ("not_heard_of", str(not_heard_of) if not_heard_of else ""),
    )
    return AuditEntry(
        at=rollover.changed_at,
        action=f"rollover.{rollover.state}",
        actor=actor,
        details=tuple((name, value) for name, value in details if value),
    )
