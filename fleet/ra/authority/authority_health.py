"""What the doctor says of roots and issuing CAs: nobody signs, keys that do not answer, ends that come near.

It only looks. A key is asked, so that a token that was pulled shows before a device asks for a certificate.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.ca.hierarchy import OWN_REALMS
from fleet.core.authority import ADMITTED, ISSUES, LISTED, AuthorityRecord, AuthorityState, KeyKind
from fleet.errors import FleetError
from fleet.files import telling
from fleet.model import Purpose
from fleet.ra.authority.authority_views import AuthorityView, list_views
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good

_CHECK = "authorities"
_ROOT_ENDS = timedelta(days=365)
_CA_ENDS = timedelta(days=90)
_LIST_ENDS = timedelta(days=30)
_WAITS_LONG = timedelta(days=30)
_NEARLY_FULL = 0.9
_ENDING = frozenset({AuthorityState.RETIRING, AuthorityState.RETIRED, AuthorityState.COMPROMISED})


async def unsigned(context: Context) -> tuple[str, ...]:
    """Return the domains and own purposes for which nobody signs."""
    return tuple(lack.name for lack in lacks(await list_views(context)))


async def authorities(context: Context) -> list[Finding]:
    """Look at every root and issuing CA."""
    views = await list_views(context)
    found = [finding for view in views for finding in _of_view(view, now=context.clock())]
    found += await asyncio.to_thread(lambda: list(_keys(context)))
    records = [view.record for view in views]
    found += await asyncio.to_thread(lambda: list(_folders(context, records)))
    found += [bad(_CHECK, f"no CA signs for {lack.name}", fix=lack.fix) for lack in lacks(views)]
    found += [
        bad(
            _CHECK,
            f"{one.folder} stands by and could not take over: its root is given up",
            fix=f"{_successor(one)} --standby, then fleet ca retire {one.folder}",
        )
        for one in _dead_standbys(views)
    ]
    if found:
        return found
    at_work = sum(view.record.state in ISSUES for view in views)
    return [good(_CHECK, f"{at_work} at work, their keys answer, and none is near its end")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A domain, or a purpose of our own, for which nobody signs."""

    name: str
    fix: str


def lacks(views: Sequence[AuthorityView]) -> list[Lack]:
    """Return the domains and own purposes for which no issuing CA is active."""
    kin: dict[tuple[str, Purpose], list[AuthorityRecord]] = {}
    dead = _dead_standbys(views)
    for record in (view.record for view in views if view.record not in dead):
        domain_of_root = record.is_root and record.realm not in OWN_REALMS and record.state in ADMITTED
        purpose = Purpose.DEVICE if domain_of_root else record.purpose
        if purpose is not Purpose.AUTHORITY:
            kin.setdefault((record.realm, purpose), []).append(record)
    return [
        Lack(name=realm if purpose is Purpose.DEVICE else purpose, fix=_remedy(realm, purpose, group))
        for (realm, purpose), group in kin.items()
        if not any(one.state in ISSUES and not one.is_root for one in group)
    ]


def _remedy(realm: str, purpose: Purpose, kin: Sequence[AuthorityRecord]) -> str:
    """Return what lets a CA sign again, the shortest way first."""
    by_state = {one.state: one.folder for one in kin if not one.is_root}
    another = f"fleet ca add {f'--domain {realm}' if purpose is Purpose.DEVICE else f'--purpose {purpose}'}"
    if name := by_state.get(AuthorityState.STANDBY):
        return f"fleet ca activate {name}, with its key back in its place; or {another}"
    if name := by_state.get(AuthorityState.REQUESTED):
        return f"fleet ca import {name} CHAIN, and fleet ca activate {name}; or {another}"
    return another


def _dead_standbys(views: Sequence[AuthorityView]) -> list[AuthorityRecord]:
    """Return the CAs that stand by under a root that is given up: on the day they could not take over."""
    ending = {view.anchor for view in views if view.record.is_root and view.record.state in _ENDING}
    return [
        view.record
        for view in views
        if view.record.state is AuthorityState.STANDBY and not view.record.is_root and view.anchor in ending
    ]


def _of_view(view: AuthorityView, *, now: datetime) -> Iterator[Finding]:
    record = view.record
    if record.state is AuthorityState.REQUESTED and now - record.changed_at > _WAITS_LONG:
        text = f"{record.folder} has waited for its certificate since {record.changed_at:%Y-%m-%d}"
        fix = f"fleet ca import {record.folder} CHAIN, or fleet ca retire {record.folder}"
        yield bad(_CHECK, text, fix=fix)
    if record.state in ADMITTED and view.certificate is not None:
        end = view.certificate.not_valid_after_utc
        if end - now < (_ROOT_ENDS if record.is_root else _CA_ENDS):
            yield bad(_CHECK, f"{record.folder} ends {end:%Y-%m-%d}", fix=_successor(record))
    if record.is_root and record.state in LISTED and view.certificate is not None:
        yield from _of_root_list(view, now=now)
    if record.state is AuthorityState.ACTIVE and record.room and view.leaves >= record.room * _NEARLY_FULL:
        text = f"{record.folder} has {view.leaves} leaves, and room for {record.room}"
        yield bad(_CHECK, text, fix=_successor(record))


def _of_root_list(view: AuthorityView, *, now: datetime) -> Iterator[Finding]:
    record, until = view.record, view.crl_until
    own = record.key is not KeyKind.ELSEWHERE
    fix = f"fleet ca crl {record.folder}" + ("" if own else " --take FILE")
    if until is None:
        yield bad(_CHECK, f"there is no revocation list of the root {record.folder}", fix=fix)
    elif until - now < _LIST_ENDS:
        yield bad(_CHECK, f"the revocation list of the root {record.folder} ends {until:%Y-%m-%d}", fix=fix)


def _successor(record: AuthorityRecord) -> str:
    if record.is_root:
        return f"fleet ca rollover prepare {record.realm}"
    return (
        f"fleet ca add --domain {record.domain}"
        if record.domain
        else f"fleet ca add --purpose {record.purpose}"
    )


def _keys(context: Context) -> Iterator[Finding]:
    """Ask the key of every CA that is at work."""
    names = {record.issuer: record.folder for record in context.authority.records}
    for issuer in context.authority.admitted:
        try:
            issuer.signer.unlock()
        except FleetError as error:
            name = names.get(issuer.issuer_id, issuer.issuer_id)
            fix = error.hint or "see the server's log"
            yield bad(_CHECK, f"the key of {name} cannot be used: {error}", fix=fix)


def _folders(context: Context, records: Sequence[AuthorityRecord]) -> Iterator[Finding]:
    """Look for folders of CAs that no record knows: nothing signs with what is in them."""
    recorded = {record.folder for record in records}
    for realm in sorted({record.realm for record in records}):
        place = context.home.ca / realm
        with telling(place):
            names = sorted(path.name for path in place.iterdir() if path.is_dir())
        for name in names:
            if not name.startswith(".") and f"{realm}/{name}" not in recorded:
                text = (
                    f"ca/{realm}/{name} is of no CA on record: a request that was cut off, or of another home"
                )
                yield bad(_CHECK, text, fix=f"move it away: {place / name}")
