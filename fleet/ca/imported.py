"""Judges a certificate chain that another CA has made for an issuing CA of ours, before anything trusts it.

Every rule names its clause. The chain is never put in order or mended: what is not as it must be goes back to
whoever signed it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet.core.goodkey import CertifiedKey, certified_key, check_key
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError
from fleet.model import Purpose

_Value = TypeVar("_Value", bound=x509.ExtensionType)

MOST_BYTES = 24 * 1024
"""Of a chain in PEM."""
LARGEST_CERTIFICATE = 8192
MOST_CAS = 3
"""Between leaf and root: devices take no longer chain (leaf, issuing CA, and two more)."""
_WEAK = (hashes.MD5, hashes.SHA1)
_USAGES = {Purpose.SERVER: ExtendedKeyUsageOID.SERVER_AUTH}
_ANY_USAGE = ExtendedKeyUsageOID.CLIENT_AUTH

_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)
_NOT_SIGNED: tuple[type[Exception], ...] = (*UNREADABLE, InvalidSignature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the chain is for."""

    public_key: CertifiedKey
    """Of the request."""
    purpose: Purpose
    """Of the leaves."""
    suffix: str
    """What the dNSNames of the leaves end in, `<domain>.<fleet>`."""
    anchors: tuple[x509.Certificate, ...]
    """The roots that may stand above it: those of its realm, and one that was named."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedChain:
    """A chain that is good for us."""

    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]
    """The CAs between it and the root, the nearest first."""
    root: x509.Certificate


def read_chain(pem: str) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a PEM file, in their order.

    Raises:
        BadInputError: it holds none, too many or too much, or what cannot be read.
    """
    if len(pem) > MOST_BYTES:
        raise BadInputError(f"a chain has at most {MOST_BYTES} bytes", hint="send the CA certificates alone")
    try:
        found = tuple(x509.load_pem_x509_certificates(pem.encode()))
        for one in found:
            one.extensions  # noqa: B018 - the library reads them at the first access
    except UNREADABLE as error:
        raise BadInputError(
            "the file holds no certificates in PEM", hint="openssl x509 -inform DER turns DER into PEM"
        ) from error
    if len(found) > MOST_CAS + 1:
        raise BadInputError(
            f"the chain has {len(found)} certificates, and devices take {MOST_CAS} CAs and a root",
            hint="let a CA nearer to the root sign",
        )
    return found


def judge_chain(certificates: Sequence[x509.Certificate], wanted: Wanted) -> ImportedChain:
    """Return the chain if it is good for us, from the CA's own certificate up to a root.

    Raises:
        BadInputError: with the rule that it breaks, and by which certificate.
    """
    _require_own_first(certificates, wanted.public_key)
    last = certificates[-1]
    if _is_signed_by(last, last):
        cas, root = certificates[:-1], last
        _require_known(root, wanted.anchors)
    else:
        cas, root = certificates, _anchor_above(last, wanted.anchors)
    if not cas:
        raise _bad(last, "is a root of its own, and not signed by the CA above")
    path = [*cas, root]
    for below, above in pairwise(path):
        if not _is_signed_by(below, above):
            raise _bad(above, f"did not sign {_name(below)}: give the chain in order, and nothing else in it")
    for depth, one in enumerate(path):
        _require_ca(one, depth, wanted)
    return ImportedChain(certificate=cas[0], above=tuple(cas[1:]), root=root)


def _require_own_first(certificates: Sequence[x509.Certificate], key: CertifiedKey) -> None:
    places = [place for place, one in enumerate(certificates) if one.public_key() == key]
    if not places:
        raise BadInputError(
            "no certificate of the chain is for the key of the request",
            hint="have the request signed that fleet ca add wrote",
        )
    if places != [0]:
        raise BadInputError(
            "the chain is not in order: the CA's own certificate comes first, the root last",
            hint="turn the order of the file round",
        )


def _require_known(root: x509.Certificate, anchors: Sequence[x509.Certificate]) -> None:
    if root not in anchors:
        raise BadInputError(
            f"the root {_name(root)} is not trusted here", hint="name it, if you do: --anchor FILE"
        )


def _anchor_above(top: x509.Certificate, anchors: Sequence[x509.Certificate]) -> x509.Certificate:
    for anchor in anchors:
        if _is_signed_by(top, anchor):
            return anchor
    raise BadInputError(
        f"the chain ends at {top.issuer.rfc4514_string()}, which is no root that is trusted here",
        hint="put the CAs up to the root into the file, and name the root: --anchor FILE",
    )


def _require_ca(one: x509.Certificate, depth: int, wanted: Wanted) -> None:
    """Judge one CA of the path; `depth` is how many CAs stand below it."""
    for rule in _RULES:
        if (fault := rule(one, depth, wanted)) is not None:
            raise _bad(one, fault)


def _size(one: x509.Certificate, _depth: int, _wanted: Wanted) -> str | None:
    if len(one.public_bytes(Encoding.DER)) > LARGEST_CERTIFICATE:
        return f"has more than {LARGEST_CERTIFICATE} bytes, which devices do not take"
    return None


def _time(one: x509.Certificate, _depth: int, wanted: Wanted) -> str | None:
    """RFC 5280 6.1.3 (a) (2)."""
    if wanted.now < one.not_valid_before_utc:
        return f"is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if wanted.now >= one.not_valid_after_utc:
        return f"expired on {one.not_valid_after_utc:%Y-%m-%d}"
    return None


def _key(one: x509.Certificate, _depth: int, _wanted: Wanted) -> str | None:
    try:
        check_key(certified_key(one.public_key()))
    except _UNREADABLE as error:
        return f"has a key that is not used here: {error}"
    if isinstance(one.signature_hash_algorithm, _WEAK):
        return "is signed with a hash that is not believed any more"
    return None


def _constraints(one: x509.Certificate, depth: int, _wanted: Wanted) -> str | None:
    """RFC 5280 4.2.1.9: a CA says so, in a critical extension, and how many CAs may stand below it."""
    found = _extension(one, x509.BasicConstraints)
    if found is None or not found.value.ca or not found.critical:
        return "does not say that it is a CA: basicConstraints critical, CA:TRUE (RFC 5280 4.2.1.9)"
    length = found.value.path_length
    # Its own issuing CA counts, as it stands between the one above and the leaf.
    if length is not None and length < depth:
        return f"allows {length} CAs below it, and {depth} are there: pathLen (RFC 5280 4.2.1.9)"
    return None


def _usage(one: x509.Certificate, depth: int, _wanted: Wanted) -> str | None:
    """RFC 5280 4.2.1.3: it signs certificates; ours signs its lists too."""
    found = _extension(one, x509.KeyUsage)
    if found is None or not found.value.key_cert_sign:
        return "must not sign certificates: keyUsage keyCertSign (RFC 5280 4.2.1.3)"
    if depth == 0 and not found.value.crl_sign:
        return "must not sign revocation lists: keyUsage cRLSign (RFC 5280 4.2.1.3)"
    return None


def _extended_usage(one: x509.Certificate, _depth: int, wanted: Wanted) -> str | None:
    """RFC 5280 4.2.1.12: where a CA has it, what lies below is for nothing else."""
    found = _extension(one, x509.ExtendedKeyUsage)
    allowed = {_USAGES.get(wanted.purpose, _ANY_USAGE), ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if found is not None and not allowed & set(found.value):
        return "is not for what its leaves are for: extendedKeyUsage (RFC 5280 4.2.1.12)"
    return None


def _identifiers(one: x509.Certificate, _depth: int, _wanted: Wanted) -> str | None:
    """RFC 5280 4.2.1.2: by it everybody tells one CA from another here."""
    if _extension(one, x509.SubjectKeyIdentifier) is None:
        return "has no subjectKeyIdentifier (RFC 5280 4.2.1.2)"
    return None


def _names(one: x509.Certificate, _depth: int, wanted: Wanted) -> str | None:
    """RFC 5280 4.2.1.10: constraints must leave room for the names of our leaves."""
    found = _extension(one, x509.NameConstraints)
    if found is None:
        return None
    for permitted in _dns_names(found.value.permitted_subtrees), _directory(found.value.permitted_subtrees):
        if permitted and not any(_covers(name, wanted.suffix) for name in permitted):
            return f"does not permit names below {wanted.suffix}: nameConstraints (RFC 5280 4.2.1.10)"
    if any(_covers(name, wanted.suffix) for name in _dns_names(found.value.excluded_subtrees)):
        return f"excludes names below {wanted.suffix}: nameConstraints (RFC 5280 4.2.1.10)"
    return None


_RULES: tuple[Callable[[x509.Certificate, int, Wanted], str | None], ...] = (
    _size,
    _time,
    _key,
    _constraints,
    _usage,
    _extended_usage,
    _identifiers,
    _names,
)


def _dns_names(trees: Sequence[x509.GeneralName] | None) -> list[str]:
    return [tree.value.lower() for tree in trees or () if isinstance(tree, x509.DNSName)]


def _directory(trees: Sequence[x509.GeneralName] | None) -> list[str]:
    """Return what stands for permitted directory names: none of them holds a subject of ours, CN alone."""
    return ["\0" for tree in trees or () if isinstance(tree, x509.DirectoryName) and tree.value.rdns]


def _covers(tree: str, suffix: str) -> bool:
    """Tell whether a dNSName subtree holds every name below a suffix (RFC 5280 4.2.1.10)."""
    name = tree.removeprefix(".")
    return not name or suffix == name or suffix.endswith(f".{name}")


def _extension(one: x509.Certificate, kind: type[_Value]) -> x509.Extension[_Value] | None:
    try:
        return one.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _is_signed_by(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except _NOT_SIGNED:
        return False
    return True


def _name(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string() or "a CA without a name"


def _bad(one: x509.Certificate, why: str) -> BadInputError:
    return BadInputError(f"{_name(one)} {why}", hint="have it signed again, as the request asks for it")
