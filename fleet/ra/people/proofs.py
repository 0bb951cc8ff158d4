"""Proves that an entry stands in the audit trail, and that the trail only ever grew (RFC 9162 2.1.3, 2.1.4).

It is checked against the signed head before it is handed out: a trail that was changed proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.core.audit import SignedHead, TreeHead, entry_hash
from fleet.core.merkle import Frontier, consistency_parts, inclusion_parts, is_consistent, is_included
from fleet.errors import NeedsAttentionError, NotFoundError
from fleet.ports import Store
from fleet.ra.people.trail import Trail, entry_at
from fleet.store import audit
from fleet.store.audit import StoredEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The entries under a head that somebody kept: how many, and their root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That the trail under `head` begins with `earlier_size` entries that were known, and holds an entry."""

    head: SignedHead
    earlier_size: int
    consistency: tuple[bytes, ...]
    entry: StoredEntry | None
    inclusion: tuple[bytes, ...]


async def head(store: Store, fleet: str) -> SignedHead:
    """Return the newest signed head. Raises `NotFoundError` where there is none yet."""
    newest = await store.read(audit.newest_head, fleet)
    if newest is None:
        raise NotFoundError("no head of the audit trail is signed yet", hint="fleet serve signs one")
    return newest


async def prove(trail: Trail, *, number: int | None, beginning: Beginning | None) -> Proof:
    """Return the proof for the newest signed head; without `beginning`, for somebody who has that head.

    Raises:
        NotFoundError: there is no such entry under a signed head, or its archive is not at hand.
        NeedsAttentionError: the trail does not carry on from `beginning`, or is not what was signed.
    """
    store, signed = trail.store, await head(trail.store, trail.fleet)
    newest = signed.head
    known = beginning or Beginning(size=newest.size, root=newest.root)
    steps = await _consistency(store, known, newest)
    if number is None:
        return Proof(head=signed, earlier_size=known.size, consistency=steps, entry=None, inclusion=())
    stored = await _entry(trail, number, newest)
    path = await _roots(store, inclusion_parts(number, newest.size))
    leaf = entry_hash(number, stored.entry)
    if not is_included(leaf, number, size=newest.size, proof=path, root=newest.root):
        raise NeedsAttentionError(f"entry {number} is not what was signed", hint="fleet audit verify")
    return Proof(head=signed, earlier_size=known.size, consistency=steps, entry=stored, inclusion=path)


async def carries_on(store: Store, earlier: int, later: int) -> tuple[bytes, ...]:
    """Return the proof that a trail of `later` entries begins with its first `earlier` (RFC 9162 2.1.4)."""
    return await _roots(store, consistency_parts(earlier, later)) if earlier else ()


async def _consistency(store: Store, known: Beginning, newest: TreeHead) -> tuple[bytes, ...]:
    if known.size > newest.size:
        raise NeedsAttentionError(
            f"the trail has {newest.size} signed entries, and that head is over {known.size}",
            hint="fleet audit verify",
        )
    steps = await _roots(store, consistency_parts(known.size, newest.size))
    sizes = {"earlier_size": known.size, "later_size": newest.size}
    if not is_consistent(known.root, newest.root, proof=steps, **sizes):
        raise NeedsAttentionError(
            f"the trail does not begin with the {known.size} entries under that head",
            hint="fleet audit verify",
        )
    return steps


async def _entry(trail: Trail, number: int, newest: TreeHead) -> StoredEntry:
    if number >= newest.size:
        raise NotFoundError(
            f"there is no entry {number} under the newest signed head: it is over {newest.size}, from 0",
            hint="fleet audit search",
        )
    found = await entry_at(trail, number)
    if found is None:
        raise NeedsAttentionError(f"entry {number} is missing", hint="fleet audit verify")
    return found


async def _roots(store: Store, parts: Sequence[range]) -> tuple[bytes, ...]:
    """Return the root over each part of the leaves; they are read once, page by page."""
    trees = [Frontier() for _ in parts]
    first, end = (min(part.start for part in parts), max(part.stop for part in parts)) if parts else (0, 0)
    while first < end and (leaves := await store.read(audit.leaf_hashes, first)):
        for place, part in enumerate(parts):
            for leaf in leaves[max(part.start - first, 0) : max(part.stop - first, 0)]:
                trees[place] = trees[place].append(leaf)
        first += len(leaves)
    return tuple(tree.root() for tree in trees)
