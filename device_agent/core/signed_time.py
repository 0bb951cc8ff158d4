"""Judges a time that somebody sent: signed by the time key of the device's domain, for the nonce asked.

The certificates of the time key are judged at the very time that it tells, so no key speaks for a time
beyond its own life, nor beyond its anchor's. Whether the time is above the floor, `clock` says.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.core.certificates import UNREADABLE, load, read_bundle
from device_agent.core.paths import require_path
from device_agent.core.trust import is_signed
from device_agent.errors import UnacceptableAnswerError, UntrustedTimeError
from device_agent.wire.fields import time_text
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.proofs import time_proof_text
from device_agent.wire.replies import Time

MAX_CHAIN = 5
"""The time key's certificate, its issuing CA, and what stands between that and the anchor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAsked:
    """What was asked, and by whom: a device of this domain, which holds these anchors (DER)."""

    fleet: str
    domain: str
    nonce: bytes
    anchors: tuple[bytes, ...]


def require_signed(reply: Time, asked: TimeAsked) -> None:
    """Let a time pass that the domain's time key signed for this very question.

    Raises:
        UntrustedTimeError: it is anything else.
    """
    if not hmac.compare_digest(reply.nonce, asked.nonce):
        raise _refusal("it answers another question")
    try:
        path = [load(der) for der in read_bundle(reply.certificate, most=MAX_CHAIN)]
        _require_time_key(path[0], asked)
        require_path(path, [load(der) for der in asked.anchors], now=reply.now, whose="time key")
        text = time_proof_text(
            fleet=asked.fleet, domain=asked.domain, nonce=asked.nonce, now=time_text(reply.now)
        )
        if not is_signed(path[0], reply.signature, text):
            raise _refusal("its signature is wrong")
    except (MalformedMessageError, UnacceptableAnswerError, *UNREADABLE) as error:
        raise _refusal(str(error)) from error


def _require_time_key(certificate: x509.Certificate, asked: TimeAsked) -> None:
    """Domains may share a root, so the name tells whose time key it is; `timeStamping` alone makes it one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    own = f"{asked.domain} device time "
    # A name that is too long for X.520 goes without the fleet, which the organization says then.
    if len(names) != 1 or not str(names[0].value).startswith((f"{asked.fleet} {own}", own)):
        raise _refusal(f"it is signed by no time key of the domain {asked.domain}")
    if _usages(certificate) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise _refusal("it is signed by a key that is none for the time")


def _usages(certificate: x509.Certificate) -> Sequence[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def _refusal(why: str) -> UntrustedTimeError:
    return UntrustedTimeError(f"the server's time is not believed: {why}", hint="look at the server")
