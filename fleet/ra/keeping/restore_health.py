"""What the doctor says of a home that came from a backup: what of its past is unknown, or gone for good.

It only looks; each finding ends when an operator has done what it says.
"""

from collections.abc import Iterator, Sequence

from fleet.core.authority import AuthorityRecord
from fleet.ra.authority.root_lists import lists_behind
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad
from fleet.ra.gap import gap_since
from fleet.ra.keeping.restore_succession import signing_again, to_follow

_CHECK = "restore"


async def restored(context: Context) -> list[Finding]:
    """Look for an unknown past, for CAs that took their successors' place, and for lists that are behind."""
    found = [*_gap(await context.store.read(gap_since, None))]
    found += _again(await context.store.read(signing_again, None))
    for name in await lists_behind(context.store, context.authority, now=context.clock()):
        text = f"the revocation list of the root {name} does not name all that it must"
        found.append(bad(_CHECK, text, fix=f"fleet ca crl {name}"))
    return found


def _gap(since: str) -> Iterator[Finding]:
    if since:
        text = f"nothing is known of what happened since {since}; devices get nothing"
        yield bad(_CHECK, text, fix="revoke again what was revoked since, then: fleet ca unfreeze")


def _again(records: Sequence[AuthorityRecord]) -> Iterator[Finding]:
    for record in to_follow(records):
        text = f"{record.folder} signs again: the CA that followed it is gone with its key"
        yield bad(_CHECK, text, fix=f"fleet ca rollover prepare {record.folder}")
