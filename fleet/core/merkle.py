"""The Merkle tree of the audit trail, after RFC 9162 2.1, over SHA-256.

It knows hashes and positions, never what an entry says; a tree head is signed and kept elsewhere.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

HASH_BYTES = 32

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of a tree without entries (RFC 9162 2.1.1)."""

# RFC 9162 2.1.1: different prefixes, so that no entry can be passed off as a node.
_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry (RFC 9162 2.1.1)."""
    return hashlib.sha256(_LEAF_PREFIX + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two children (RFC 9162 2.1.1)."""
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """What has to be kept of a tree to append to it: the roots of its complete subtrees, largest first.

    There is one for each bit that is set in `size`: a tree of 6 leaves has peaks over 4 and 2.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.peaks) != self.size.bit_count():
            raise ValueError(f"a tree of {self.size} leaves has {self.size.bit_count()} peaks")

    def append(self, leaf: bytes) -> Self:
        """Return the frontier with one more leaf hash, after at most log2(size) node hashes."""
        peaks = [*self.peaks, leaf]
        full = self.size
        while full & 1:
            right = peaks.pop()
            peaks[-1] = node_hash(peaks[-1], right)
            full >>= 1
        return type(self)(size=self.size + 1, peaks=tuple(peaks))

    def root(self) -> bytes:
        """Return the root of the tree (RFC 9162 2.1.1)."""
        if not self.peaks:
            return EMPTY_ROOT
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node_hash(peak, found)
        return found


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, by the definition of RFC 9162 2.1.1."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the path that proves the leaf at `index` to be in the tree (RFC 9162 2.1.3.1).

    Raises:
        ValueError: the tree has no such leaf.
    """
    return tuple(root_of(leaves[part.start : part.stop]) for part in inclusion_parts(index, len(leaves)))


def inclusion_parts(index: int, size: int) -> tuple[range, ...]:
    """Return which leaves the roots of that path stand for, in its order: all but the one at `index`.

    Whoever has more leaves than memory computes each root while the leaves go by, with a `Frontier`.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    first, last = 0, size
    path: list[range] = []
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            path.append(range(middle, last))
            last = middle
        else:
            path.append(range(first, middle))
            first = middle
    return tuple(reversed(path))


def is_included(leaf: bytes, index: int, *, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether a leaf hash stands at `index` of the tree with this root (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node_hash(step, found)
            position, last = _climb(position, last)
        else:
            found = node_hash(found, step)
        position, last = position >> 1, last >> 1
    return last == 0 and found == root


def consistency_proof(leaves: Sequence[bytes], earlier_size: int) -> tuple[bytes, ...]:
    """Return what proves that the first `earlier_size` leaves were only added to (RFC 9162 2.1.4.1).

    Raises:
        ValueError: the tree was never of that size, or it was empty.
    """
    parts = consistency_parts(earlier_size, len(leaves))
    return tuple(root_of(leaves[part.start : part.stop]) for part in parts)


def consistency_parts(earlier_size: int, size: int) -> tuple[range, ...]:
    """Return which leaves the roots of that proof stand for, in its order: SUBPROOF of RFC 9162 2.1.4.1.

    Raises:
        ValueError: the tree was never of that size, or it was empty.
    """
    if not 0 < earlier_size <= size:
        raise ValueError(f"a tree of {size} leaves has no earlier size {earlier_size}")
    first, last = 0, size
    path: list[range] = []
    while last != earlier_size:
        middle = first + _split(last - first)
        if earlier_size <= middle:
            path.append(range(middle, last))
            last = middle
        else:
            path.append(range(first, middle))
            first = middle
    # From the first leaf on it is the whole earlier tree: the verifier has its root (b of SUBPROOF).
    own = (range(first, last),) if first else ()
    return (*own, *reversed(path))


def is_consistent(
    earlier_root: bytes, later_root: bytes, *, earlier_size: int, later_size: int, proof: Sequence[bytes]
) -> bool:
    """Tell whether the later tree begins with the whole earlier one (RFC 9162 2.1.4.2)."""
    if not 0 < earlier_size <= later_size:
        return False
    if earlier_size == later_size:
        return not proof and earlier_root == later_root
    # Where the earlier tree is one complete subtree, its root is the first step, and is not sent.
    path = [earlier_root, *proof] if earlier_size.bit_count() == 1 else list(proof)
    if not path:
        return False
    position, last = earlier_size - 1, later_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    earlier = later = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            earlier, later = node_hash(step, earlier), node_hash(step, later)
            position, last = _climb(position, last)
        else:
            later = node_hash(later, step)
        position, last = position >> 1, last >> 1
    return last == 0 and earlier == earlier_root and later == later_root


def _climb(position: int, last: int) -> tuple[int, int]:
    """Go up while the subtree is the last one of its level, which has no right neighbour."""
    while not position & 1 and position:
        position, last = position >> 1, last >> 1
    return position, last


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which must be 2 or more."""
    return 1 << (size - 1).bit_length() - 1
