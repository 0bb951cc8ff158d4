"""Checks evidence of a fleet's audit trail off line: all it needs is Python 3.11 with `cryptography`.

python verify_audit.py (--proof proof.json | --trail trail.jsonl) --head head.json --key public.pem

`--head` is a signed head of the trail that you kept, `--key` the fleet's public audit key, from somebody you
trust. Exit code 0: proven, as the line says; 1: not proven, and why. It believes nothing else.
"""

import argparse
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_Kind = TypeVar("_Kind")
_FIELDS = ("at", "action", "actor", "domain", "device_id", "serial")


class _Head(NamedTuple):
    log: str
    size: int
    root: bytes
    at: str


class NotProvenError(Exception):
    """The evidence does not show what it should; the text says why."""


def check_proof(content: bytes, *, head: bytes, key: bytes) -> str:
    """Say what a proof shows to somebody who kept `head`; raises `NotProvenError`."""
    kept, proof = _signed(_object(head), key), _object(content)
    newest = _signed(_get(proof, "head", dict), key)
    if (newest.log, proof.get("earlier_size")) != (kept.log, kept.size) or not 0 < kept.size <= newest.size:
        raise NotProvenError(f"the proof does not start at your head, over {kept.size} entries of {kept.log}")
    steps = _hashes(_get(proof, "consistency", list))
    if _grown(kept.root, kept.size, newest.size, steps) != (kept.root, newest.root):
        raise NotProvenError(f"the trail does not begin with the {kept.size} entries under your head")
    if proof.get("entry") is None and proof.get("inclusion", ()) is None:
        return _shown(kept, newest)
    entry, steps = _get(proof, "entry", dict), _hashes(_get(proof, "inclusion", list))
    number = _get(entry, "number", int)
    if not 0 <= number < newest.size or _above(_leaf(entry), number, newest.size, steps) != newest.root:
        raise NotProvenError(f"entry {number} is not as it was recorded, or was not recorded there")
    return f"entry {number} is as it was recorded; {_shown(kept, newest)}"


def check_trail(content: bytes, *, head: bytes, key: bytes) -> str:
    """Say that a whole trail, as it was exported, is what was signed; raises `NotProvenError`."""
    *lines, end = content.splitlines() or [b""]
    kept, newest = _signed(_object(head), key), _signed(_object(end), key)
    leaves = [_leaf(_object(line)) for line in lines]
    if (newest.log, newest.size, newest.root) != (kept.log, len(leaves), _root(leaves)):
        raise NotProvenError(f"the trail is not the {newest.size} entries that were signed at {newest.at}")
    if kept.size > newest.size or _root(leaves[: kept.size]) != kept.root:
        raise NotProvenError(f"the trail does not begin with the {kept.size} entries under your head")
    return _shown(kept, newest)


def _shown(kept: _Head, newest: _Head) -> str:
    said = f"{newest.size} entries of {newest.log}, signed at {newest.at}"
    return f"{said}, begin with the {kept.size} you knew"


def _object(content: bytes) -> Mapping[str, object]:
    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise NotProvenError("something is said twice")
        return dict(pairs)

    try:
        return _get({"object": json.loads(content, object_pairs_hook=members)}, "object", dict)
    except (ValueError, RecursionError) as error:
        raise NotProvenError("something is no JSON: damaged, or cut off") from error


def _get(members: Mapping[str, object], name: str, kind: type[_Kind]) -> _Kind:
    value = members.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise NotProvenError(f"{name} is missing, or is not what it should be")
    return value


def _hashes(steps: Sequence[object]) -> list[bytes]:
    if not all(
        isinstance(step, str) and len(step) == 64 and set(step) <= set("0123456789abcdef") for step in steps
    ):
        raise NotProvenError("a hash is damaged")
    return [bytes.fromhex(str(step)) for step in steps]


def _signed(members: Mapping[str, object], key: bytes) -> _Head:
    """Return a head that the key signed, by ECDSA with SHA-256."""
    log, at, root = (_get(members, name, str) for name in ("log", "at", "root"))
    (digest,) = _hashes([root])
    head = _Head(log=log, size=_get(members, "size", int), root=digest, at=at)
    try:
        public = load_pem_public_key(key)
        signature = base64.b64decode(_get(members, "signature", str), validate=True)
        if isinstance(public, ec.EllipticCurvePublicKey):
            message = f"fleet-audit-head-v1\n{log}\n{head.size}\n{root}\n{at}\n".encode()
            public.verify(signature, message, ec.ECDSA(SHA256()))
            return head
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise NotProvenError(f"the key did not sign the head over {head.size} entries") from error
    raise NotProvenError("the key is no audit key")


def _leaf(entry: Mapping[str, object]) -> bytes:
    """Return the hash of an entry: of each field, after its length in 4 octets (RFC 9162 2.1.1)."""
    fields = ["fleet-audit-entry-v1", str(_get(entry, "number", int))]
    fields += [_get({name: "", **entry}, name, str) for name in _FIELDS]
    for detail in _get({"details": [], **entry}, "details", list):
        if (
            not isinstance(detail, list)
            or len(detail) != 2
            or not all(isinstance(text, str) for text in detail)
        ):
            raise NotProvenError("a detail is not a name and a value")
        fields += detail
    octets = [field.encode("utf-8", "surrogatepass") for field in fields]
    found = sha256(b"\0" + b"".join(len(each).to_bytes(4, "big") + each for each in octets)).digest()
    if (
        entry.keys() - {"number", "details", "leaf_hash", *_FIELDS}
        or entry.get("leaf_hash", found.hex()) != found.hex()
    ):
        raise NotProvenError(f"entry {fields[1]} is not as it was recorded")
    return found


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _half(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def _root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaves (RFC 9162 2.1.1)."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256().digest()
    half = _half(len(leaves))
    return _node(_root(leaves[:half]), _root(leaves[half:]))


def _above(leaf: bytes, place: int, size: int, steps: Sequence[bytes]) -> bytes:
    """Return the root over `size` leaves by one of them and its path (RFC 9162 2.1.3)."""
    if size == 1 or not steps:
        return leaf if size == 1 and not steps else b""
    half, step = _half(size), steps[-1]
    if place < half:
        return _node(_above(leaf, place, half, steps[:-1]), step)
    return _node(step, _above(leaf, place - half, size - half, steps[:-1]))


def _grown(known: bytes | None, earlier: int, size: int, steps: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of the earlier and the later tree (RFC 9162 2.1.4); `known` is the earlier one's."""
    if earlier == size or not steps:
        own = [*([] if known is None else [known]), *steps]
        return (own[0], own[0]) if earlier == size and len(own) == 1 else (b"", b"")
    half, step = _half(size), steps[-1]
    if earlier <= half:
        before, after = _grown(known, earlier, half, steps[:-1])
        return before, _node(after, step)
    before, after = _grown(None, earlier - half, size - half, steps[:-1])
    return _node(step, before), _node(step, after)


def main() -> int:
    """Read the files, and say what they show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    evidence = parser.add_mutually_exclusive_group(required=True)
    for group, name in ((evidence, "--proof"), (evidence, "--trail"), (parser, "--head"), (parser, "--key")):
        group.add_argument(name, type=Path, required=group is parser)
    asked = parser.parse_args()
    check = check_proof if asked.proof else check_trail
    try:
        said = check(
            (asked.proof or asked.trail).read_bytes(),
            head=asked.head.read_bytes(),
            key=asked.key.read_bytes(),
        )
    except (NotProvenError, OSError) as error:
        sys.stderr.write(f"not proven: {error}\n")
        return 1
    sys.stdout.write(f"proven: {said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
