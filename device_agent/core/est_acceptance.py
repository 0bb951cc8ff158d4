"""Judges what an EST server of another maker issued (RFC 7030), before anything of it is activated.

Such a server knows nothing of fleets and domains. What is left of the rules is: the very key that waits,
the device's name, no CA, for clients, in its time, and a chain to a root that its authenticated `cacerts`
teaches; once a fleet is known, only `acceptance` judges.
"""

from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.core.acceptance import (
    Accepted,
    Expected,
    Offer,
    Reason,
    by_rules,
    refusal,
    require_key,
    require_no_ca,
    require_time,
)
from device_agent.core.certificates import load, read_leaf
from device_agent.core.paths import require_path
from device_agent.errors import UnacceptableAnswerError
from device_agent.wire.identity import parse_name

_FOR_CLIENTS = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def accept_of_another(offer: Offer, expected: Expected, *, now: datetime) -> Accepted:
    """Return what may be activated; `Accepted.fleet` is empty.

    Raises:
        UnacceptableAnswerError: a rule is broken; the text names it. Nothing may change because of it.
    """
    return by_rules(_accept, offer, expected, now=now)


def _accept(offer: Offer, expected: Expected, now: datetime) -> Accepted:
    certificate, leaf = load(offer.chain[0]), read_leaf(offer.chain[0])
    require_key(certificate, expected)
    identity = parse_name(offer.name)
    if _common_names(certificate) != [expected.device_id] or identity.device_id != expected.device_id:
        raise refusal(Reason.WRONG_IDENTITY, f"the leaf is not for {expected.device_id}")
    if expected.domain not in (None, identity.domain):
        raise refusal(Reason.WRONG_IDENTITY, f"this device's domain is {expected.domain}")
    require_no_ca(certificate)
    _require_client(certificate)
    require_time(leaf, now)
    anchors = _anchors(offer, expected.anchors, now)
    return Accepted(identity=identity, fleet="", leaf=leaf, chain=offer.chain, anchors=anchors)


def _common_names(certificate: x509.Certificate) -> list[str]:
    return [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _require_client(certificate: x509.Certificate) -> None:
    """A certificate that says what it is for must be for clients; one that does not is for anything."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return  # RFC 5280 4.2.1.12
    if not set(usages) & _FOR_CLIENTS:
        raise refusal(Reason.WRONG_USAGE, "the leaf is not for clientAuth")


def _anchors(offer: Offer, held: tuple[bytes, ...], now: datetime) -> tuple[bytes, ...]:
    """Return the anchors to hold: those that are held, else what `cacerts` says (RFC 7030 4.1.3)."""
    if _reaches(offer.chain, held, now):
        return held
    if _reaches(offer.chain, offer.anchors, now):
        return offer.anchors
    raise refusal(Reason.UNTRUSTED, "the chain reaches no root of the server's cacerts")


def _reaches(chain: tuple[bytes, ...], anchors: tuple[bytes, ...], now: datetime) -> bool:
    try:
        require_path([load(der) for der in chain], [load(der) for der in anchors], now=now, whose="device")
    except UnacceptableAnswerError:
        return False
    return True
