"""What the doctor says of roots and issuing CAs: keys that do not answer, ends that come near, full ones.

It only looks. A key is asked, so that a token that was pulled shows before a device asks for a certificate.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from fleet.core.authority import ADMITTED, LISTED, AuthorityRecord, AuthorityState, KeyKind
from fleet.errors import FleetError
from fleet.files import telling
from fleet.ra.authority_views import AuthorityView, list_views
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good

_CHECK = "authorities"
_ROOT_ENDS = timedelta(days=365)
_CA_ENDS = timedelta(days=90)
_LIST_ENDS = timedelta(days=30)
_WAITS_LONG = timedelta(days=30)
_NEARLY_FULL = 0.9


async def authorities(context: Context) -> list[Finding]:
    """Look at every root and issuing CA."""
    views = await list_views(context)
    found = [finding for view in views for finding in _of_view(view, now=context.clock())]
    found += await asyncio.to_thread(lambda: list(_keys(context)))
    records = [view.record for view in views]
    found += await asyncio.to_thread(lambda: list(_folders(context, records)))
    if found:
        return found
    at_work = sum(view.record.state in ADMITTED for view in views)
    return [good(_CHECK, f"{at_work} at work, their keys answer, and none is near its end")]


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
