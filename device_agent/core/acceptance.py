"""Judges what the server issued, before anything of it is activated.

A leaf is accepted only for the key that waits for it, for this device, in its time, and with a chain to
an anchor that is held, or to a new one that a held one has signed for (PROTOCOL I7). It never takes a
certificate because of who sent it: the answer of a friend and of a thief pass the same rules.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.core.certificates import (
    UNREADABLE,
    Leaf,
    anchor_id,
    lifetime,
    load,
    public_key_der,
    read_bundle,
    read_leaf,
)
from device_agent.core.client_path import PathError, require_client_path
from device_agent.core.trust import MAX_ANCHORS, MAX_LINKS, follow
from device_agent.errors import UnacceptableAnswerError
from device_agent.wire.identity import Identity, dns_label, parse_domain, parse_name
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import Issued

MAX_CHAIN = 4
"""Leaf, issuing CA, and two more at most."""


_USAGES = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
"""What a device's certificate may be for: a gateway is a server as well."""


class Reason(StrEnum):
    """Why an answer is not accepted; the first words of the error."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too large"
    WRONG_KEY = "wrong key"
    WRONG_SERIAL = "wrong serial"
    WRONG_IDENTITY = "wrong identity"
    IS_CA = "is a CA"
    WRONG_USAGE = "wrong usage"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What was issued: the leaf and its chain, the anchors that go with it, and the broker name."""

    name: str
    chain: tuple[bytes, ...]
    """DER, leaf first, without the root."""
    anchors: tuple[bytes, ...]
    links: tuple[bytes, ...] = ()
    """By which an anchor that is held vouches for the one that the chain reaches."""
    serial: str | None = None
    """The serial that the answer speaks of, where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What this device waits for. A domain, fleet or anchor not held yet is taken from the first answer."""

    public_key_der: bytes
    device_id: str
    domain: str | None = None
    fleet: str | None = None
    anchors: tuple[bytes, ...] = ()
    """DER of the domain's anchors that are held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What may go into the pending slot, and the anchors to hold together with it."""

    identity: Identity
    fleet: str
    leaf: Leaf
    chain: tuple[bytes, ...]
    anchors: tuple[bytes, ...]


class Judge(Protocol):
    """A set of rules: `accept`, or those for EST servers of other makers."""

    def __call__(self, offer: Offer, expected: Expected, *, now: datetime) -> Accepted:
        """Return what may be activated; raises `UnacceptableAnswerError`."""
        ...


def offer_of(issued: Issued) -> Offer:
    """Return the offer in an `issued` reply.

    Raises:
        UnacceptableAnswerError: its PEM cannot be read, or holds too much.
    """
    try:
        leaf = read_bundle(issued.certificate, most=1)
        return Offer(
            name=issued.broker.name,
            chain=leaf + (read_bundle(issued.chain, most=MAX_CHAIN - 1) if issued.chain else ()),
            anchors=read_bundle(issued.trust, most=MAX_ANCHORS),
            links=read_bundle(issued.link, most=MAX_LINKS) if issued.link is not None else (),
            serial=issued.serial,
        )
    except MalformedMessageError as error:
        raise refusal(Reason.UNREADABLE, str(error)) from error


def begin_of(offer: Offer) -> datetime:
    """Return when the last of an offer's certificates begins: a CA may be younger than a leaf is backdated.

    Raises:
        UnacceptableAnswerError: there is no leaf that can be read.
    """
    try:
        begins = read_leaf(offer.chain[0]).not_before
    except (MalformedMessageError, IndexError, *UNREADABLE) as error:
        raise refusal(Reason.UNREADABLE, "the leaf cannot be read") from error
    for der in offer.chain[1:MAX_CHAIN]:
        # What cannot be read is named when the chain is judged.
        with suppress(MalformedMessageError):
            begins = max(begins, lifetime(load(der))[0])
    return begins


def accept(offer: Offer, expected: Expected, *, now: datetime) -> Accepted:
    """Return what may be activated.

    Raises:
        UnacceptableAnswerError: a rule is broken; the text names it. Nothing may change because of it.
    """
    return by_rules(_accept, offer, expected, now=now)


def by_rules(
    rules: Callable[[Offer, Expected, datetime], Accepted], offer: Offer, expected: Expected, *, now: datetime
) -> Accepted:
    """Judge an offer of bounded size by these rules; what cannot be read breaks them. Raises as `accept`."""
    if not 1 <= len(offer.chain) <= MAX_CHAIN or len(offer.anchors) > MAX_ANCHORS:
        raise refusal(Reason.TOO_LARGE, f"more than {MAX_CHAIN} certificates or {MAX_ANCHORS} anchors")
    try:
        return rules(offer, expected, now)
    except (MalformedMessageError, *UNREADABLE) as error:
        # The library reads an extension only when it is asked for.
        raise refusal(Reason.UNREADABLE, "a certificate cannot be read") from error


def require_key(certificate: x509.Certificate, expected: Expected) -> None:
    """Refuse a leaf for another key; raises `UnacceptableAnswerError`."""
    if public_key_der(certificate) != expected.public_key_der:
        raise refusal(Reason.WRONG_KEY, "the leaf is for another key than the one that waits")


def _accept(offer: Offer, expected: Expected, now: datetime) -> Accepted:
    certificate, leaf = load(offer.chain[0]), read_leaf(offer.chain[0])
    require_key(certificate, expected)
    if offer.serial not in (None, leaf.serial):
        raise refusal(Reason.WRONG_SERIAL, "the leaf has another serial than the answer says")
    identity, fleet = _names(certificate, offer, expected)
    _require_client(certificate)
    require_time(leaf, now)
    anchors = _anchors(offer, expected.anchors, now)
    return Accepted(identity=identity, fleet=fleet, leaf=leaf, chain=offer.chain, anchors=anchors)


def _names(certificate: x509.Certificate, offer: Offer, expected: Expected) -> tuple[Identity, str]:
    try:
        identity = parse_name(offer.name)
    except MalformedMessageError as error:
        raise refusal(Reason.WRONG_IDENTITY, "the broker name is none") from error
    names = [
        str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    if names != [expected.device_id] or identity.device_id != expected.device_id:
        raise refusal(Reason.WRONG_IDENTITY, f"the leaf is not for {expected.device_id}")
    if expected.domain not in (None, identity.domain):
        raise refusal(Reason.WRONG_IDENTITY, f"the leaf is for the domain {identity.domain}")
    fleet = _fleet(certificate, identity)
    if expected.fleet not in (None, fleet):
        raise refusal(Reason.WRONG_IDENTITY, f"the leaf is for the fleet {fleet}")
    return identity, fleet


def _fleet(certificate: x509.Certificate, identity: Identity) -> str:
    """Return the fleet that the first dNSName ends in: `<label>.<domain>.<fleet>`; others may follow it.

    A station that made the leaf off line stands before the domain: `<label>.<station>.<domain>.<fleet>`.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound as error:
        raise refusal(Reason.WRONG_IDENTITY, "the leaf has no subjectAltName") from error
    names = list(extension.value)
    own = names[0].value.split(".") if names and isinstance(names[0], x509.DNSName) else []
    if (
        own[:1] != [dns_label(identity.device_id)]
        or own[-2:-1] != [identity.domain]
        or len(own) not in {3, 4}
    ):
        start = f"{dns_label(identity.device_id)}.{identity.domain}"
        raise refusal(Reason.WRONG_IDENTITY, f"the first name of subjectAltName is not {start}.<fleet>")
    try:
        return parse_domain(own[-1])
    except MalformedMessageError as error:
        raise refusal(Reason.WRONG_IDENTITY, "the subjectAltName does not end in a fleet") from error


def require_no_ca(certificate: x509.Certificate) -> None:
    """Refuse a CA; raises `UnacceptableAnswerError`."""
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False  # RFC 5280 4.2.1.9: absent means that it is none
    if is_ca:
        raise refusal(Reason.IS_CA, "a leaf must not be able to sign others")


def _require_client(certificate: x509.Certificate) -> None:
    require_no_ca(certificate)
    try:
        usages = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound as error:
        raise refusal(Reason.WRONG_USAGE, "the leaf has no extendedKeyUsage") from error
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages or not set(usages) <= _USAGES:
        raise refusal(Reason.WRONG_USAGE, "the leaf must be for clientAuth, and at most for serverAuth too")


def require_time(leaf: Leaf, now: datetime) -> None:
    """Refuse a leaf out of its time; raises `UnacceptableAnswerError`."""
    if now < leaf.not_before:
        raise refusal(
            Reason.NOT_YET_VALID, f"the leaf begins {leaf.not_before:%Y-%m-%d %H:%M}Z, see the clock"
        )
    if now >= leaf.not_after:
        raise refusal(Reason.EXPIRED, f"the leaf ended {leaf.not_after:%Y-%m-%d %H:%M}Z, see the clock")


def _anchors(offer: Offer, held: tuple[bytes, ...], now: datetime) -> tuple[bytes, ...]:
    """Return the anchors to hold from now on; raises where the chain reaches none."""
    if not held:
        # The first answer: who sent it was authenticated by the channel (server trust, or a station).
        _verify(offer.chain, offer.anchors, now)
        return offer.anchors
    if not offer.links or reaches(offer.chain, held, now=now):
        _verify(offer.chain, held, now)
        return held
    # A CA roll: the new root is believed because a held one signed for its key (PROTOCOL 8, 9).
    links = follow(offer.links, held, now=now)
    _verify((*offer.chain, *links), held, now)
    linked = _linked([load(link) for link in links], offer.anchors)
    _verify(offer.chain, linked, now)
    return (*held, *(der for der in linked if der not in held))[-MAX_ANCHORS:]


def _linked(links: Sequence[x509.Certificate], offered: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the offered anchors that have the subject and the key of a link certificate."""
    vouched = {(link.subject, public_key_der(link)) for link in links}
    return tuple(der for der in offered if ((root := load(der)).subject, public_key_der(root)) in vouched)


def reaches(chain: tuple[bytes, ...], anchors: tuple[bytes, ...], *, now: datetime) -> bool:
    """Tell whether a chain, leaf first, ends at one of the anchors."""
    try:
        _verify(chain, anchors, now)
    except UnacceptableAnswerError:
        return False
    return True


def _verify(chain: tuple[bytes, ...], anchors: tuple[bytes, ...], now: datetime) -> None:
    """Check a path by RFC 5280 6.1: signatures, dates, path lengths, constraints, critical extensions."""
    if not anchors:
        raise refusal(Reason.UNTRUSTED, "there is no anchor that the chain could reach")
    try:
        require_client_path([load(der) for der in chain], [load(der) for der in anchors], now=now)
    except PathError as error:
        names = ", ".join(anchor_id(der)[:16] for der in anchors)
        raise refusal(Reason.UNTRUSTED, f"the chain reaches no held anchor ({names}): {error}") from error


def refusal(reason: Reason, why: str) -> UnacceptableAnswerError:
    """Return the error for a rule that is broken."""
    return UnacceptableAnswerError(
        f"the certificate that was issued is not acceptable, {reason}: {why}",
        hint="nothing was changed; device-agent status shows what is in use",
    )
