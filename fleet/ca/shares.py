"""A key in shares: any M of N bring it back, fewer tell nothing (SLIP-39, by `shamir-mnemonic`).

A share is English words that a person can copy by hand. It never passes through a log or an exception.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shamir_mnemonic import MnemonicError, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.share import Share

from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, UsageError

KEY_BYTES = 32
MOST_SHARES = 16
"""SLIP-39 counts the shares of a group in four bits."""

_QUORUM = re.compile(r"([0-9]{1,2})of([0-9]{1,2})", re.ASCII)
_LONGEST_SHARE = 1024
_ITERATIONS = 0
"""No passphrase is stretched: the key is random already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """How many shares there are, and how many of them are needed."""

    needed: int
    count: int

    def __str__(self) -> str:
        return f"{self.needed}of{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitKey:
    """The shares of a key, and the number that all of them carry: shares of two keys are told apart by it."""

    share_set: int
    shares: tuple[Secret, ...]


def parse_quorum(text: str) -> Quorum:
    """Return what `2of3` says; raises `UsageError`."""
    match = _QUORUM.fullmatch(text)
    needed, count = (int(match[1]), int(match[2])) if match else (0, 0)
    # SLIP-39 2: one share that is enough by itself must be the only one, or all would be the same.
    if 2 <= needed <= count <= MOST_SHARES or needed == count == 1:
        return Quorum(needed=needed, count=count)
    raise UsageError(
        f"shares must be two of some or more, at most {MOST_SHARES}", hint="such as --shares 2of3"
    )


def split_key(key: bytes, quorum: Quorum) -> SplitKey:
    """Split a key of 32 octets."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key that is split has {KEY_BYTES} octets")
    groups = [(quorum.needed, quorum.count)]
    (words,) = generate_mnemonics(1, groups, key, iteration_exponent=_ITERATIONS)
    shares = tuple(Secret(each) for each in words)
    return SplitKey(share_set=share_set_of(shares[0]), shares=shares)


def share_set_of(share: Secret) -> int:
    """Return the number that the shares of one key have in common; raises `BadInputError`."""
    identifier: int = _parsed(share).identifier
    return identifier


def parse_share(text: str) -> Secret:
    """Return the share that a file holds, after lines that begin with `#`.

    Raises:
        BadInputError: it is none, or a word of it was copied wrongly.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    share = Secret(" ".join(" ".join(lines).lower().split()))
    _parsed(share)
    return share


def combine_shares(shares: Sequence[Secret]) -> bytes:
    """Return the key behind shares, each of which counts once.

    Raises:
        BadInputError: they are too few, or not all of one key.
    """
    parsed = {share.index: share for share in map(_parsed, shares)}
    if len({share.identifier for share in parsed.values()}) != 1:
        raise BadInputError("the shares are not of one backup", hint="name the shares of this backup alone")
    needed = next(iter(parsed.values())).member_threshold
    if len(parsed) < needed:
        raise BadInputError(
            f"{len(parsed)} of the {needed} shares that are needed were given", hint="add --share FILE"
        )
    chosen = [share.mnemonic() for share in list(parsed.values())[:needed]]
    try:
        key: bytes = combine_mnemonics(chosen)
    except MnemonicError:
        raise BadInputError("the shares do not fit together", hint="check each for its backup") from None
    return key


def _parsed(share: Secret) -> Share:
    try:
        if len(share.reveal()) <= _LONGEST_SHARE:
            return Share.from_mnemonic(share.reveal())
    except MnemonicError:
        raise _no_share() from None  # the library's own message may quote words
    raise _no_share()


def _no_share() -> BadInputError:
    return BadInputError(
        "a share cannot be read: a word is missing, or was copied wrongly",
        hint="compare it with the sheet, word by word",
    )
