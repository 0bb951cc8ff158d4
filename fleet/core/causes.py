"""Why a connection was refused: one list of causes, whoever saw it, and what helps against each.

Brokers, our own listeners and the logs of other programs say it in their own words; here these become ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from device_agent.wire.problems import ProblemCode

CANARY = "127.0.0.2"
"""From where we show our own broker a certificate that it must refuse."""


class Cause(StrEnum):
    """Every cause that the connection history and the monitor can name."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    SUSPENDED = "suspended"
    UNKNOWN_CA = "unknown-ca"
    SELF_SIGNED = "self-signed"
    NO_CERTIFICATE = "no-certificate"
    NO_LIST = "no-list"
    OLD_LIST = "old-list"
    NOT_VERIFIED = "not-verified"
    WRONG_PURPOSE = "wrong-purpose"
    WEAK_KEY = "weak-key"
    ALTERED = "altered"
    NOT_ADMITTED = "not-admitted"
    CLIENT_ID = "client-id"
    MANNER = "manner"
    PROTOCOL = "protocol"
    ABORTED = "aborted"
    SERVER_REFUSED = "server-refused"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a cause means, and what to do now; `{id}` and `{serial}` are filled in where they are known."""

    text: str
    fix: str

    def fix_for(self, *, device: str, serial: str) -> str:
        """Return what to do about one device or certificate."""
        return self.fix.format(id=device or "ID", serial=serial or "SERIAL")


MEANINGS: Mapping[Cause, Meaning] = {
    Cause.EXPIRED: Meaning(
        "the certificate is over",
        "fleet device explain {id} says whether it may still renew; see its clock and its way to the server",
    ),
    Cause.NOT_YET_VALID: Meaning(
        "the certificate begins later", "set the clock of the machine that refuses: its NTP comes first"
    ),
    Cause.REVOKED: Meaning(
        "the certificate was revoked",
        "if that was right, find the device; if it is to come back: fleet claim create",
    ),
    Cause.SUPERSEDED: Meaning(
        "the certificate was followed by a newer one",
        "restart the program that holds the old one open; fleet device explain {id} for the newer one",
    ),
    Cause.SUSPENDED: Meaning("the device is suspended", "fleet device resume {id}"),
    Cause.UNKNOWN_CA: Meaning(
        "its chain does not end at a root that is trusted there",
        "if the device is ours: give that server our roots, fleet ca list; let the client send its chain",
    ),
    Cause.SELF_SIGNED: Meaning(
        "the certificate was signed by itself",
        "enroll the device: fleet claim create; no self-signed certificate is let in",
    ),
    Cause.NO_CERTIFICATE: Meaning(
        "the client showed no certificate", "configure certificate and key of the client; or it is no device"
    ),
    Cause.NO_LIST: Meaning(
        "there is no revocation list of its CA there: the CA is unknown, or its list is missing",
        "give that server the lists of all our CAs: fleet ca crl",
    ),
    Cause.OLD_LIST: Meaning(
        "the revocation list there is over, and everybody is refused",
        "fetch the list again, and look why nothing fetched it: fleet ca crl",
    ),
    Cause.NOT_VERIFIED: Meaning(
        "the chain was not accepted, and that log does not say why: expired, revoked, or of another CA",
        "fleet device explain {id}; fleet cert verify FILE says what this fleet makes of the certificate",
    ),
    Cause.WRONG_PURPOSE: Meaning(
        "the certificate is not for clients", "use a profile with client-auth: fleet profile show"
    ),
    Cause.WEAK_KEY: Meaning(
        "its key or its signature is too weak", "renew with a stronger key type: fleet profile show"
    ),
    Cause.ALTERED: Meaning(
        "a signature does not fit: the certificate was changed, or is another one than on record",
        "treat it as an attack, or a broken disk: fleet device explain {id}",
    ),
    Cause.NOT_ADMITTED: Meaning(
        "the certificate is on no list of those that are let in",
        "fleet cert show {serial}; if nobody knows it, somebody tries another fleet's",
    ),
    Cause.CLIENT_ID: Meaning(
        "its MQTT client id is not the one that its certificate allows",
        "connect with client id DOMAIN:{id}; two programs must not share one certificate",
    ),
    Cause.MANNER: Meaning(
        "it asks for a keep-alive or a session that a device may not have",
        "set its keep-alive and clean session as the how-to of stock clients says",
    ),
    Cause.PROTOCOL: Meaning(
        "it speaks an older TLS, another cipher, or no TLS at all",
        "update the client: TLS 1.2 or later, on the right port",
    ),
    Cause.ABORTED: Meaning(
        "the client left in the middle of the handshake", "see the network, and the client's own log"
    ),
    Cause.SERVER_REFUSED: Meaning(
        "the client does not accept the server's certificate",
        "give the client the roots of the server: trust/server.pem; see its clock and the name it calls",
    ),
    Cause.OTHER: Meaning("something else", "read the line in that server's log"),
}
"""One row a cause."""

GUARD_WORDS: Mapping[str, Cause] = {
    "no-list": Cause.NO_LIST,
    "no-certificate": Cause.NO_CERTIFICATE,
    "unlisted": Cause.NOT_ADMITTED,
    "fingerprint": Cause.ALTERED,
    "revoked": Cause.REVOKED,
    "expired": Cause.EXPIRED,
    "purpose": Cause.WRONG_PURPOSE,
    "client-id": Cause.CLIENT_ID,
    "client-id-taken": Cause.CLIENT_ID,
    "keepalive": Cause.MANNER,
    "session": Cause.MANNER,
}
"""What the brokers' guards say."""

_VERIFY_CODES: Mapping[int, Cause] = {
    2: Cause.UNKNOWN_CA,
    3: Cause.NO_LIST,
    7: Cause.ALTERED,
    9: Cause.NOT_YET_VALID,
    10: Cause.EXPIRED,
    11: Cause.OLD_LIST,
    12: Cause.OLD_LIST,
    18: Cause.SELF_SIGNED,
    19: Cause.UNKNOWN_CA,
    20: Cause.UNKNOWN_CA,
    21: Cause.UNKNOWN_CA,
    23: Cause.REVOKED,
    24: Cause.WRONG_PURPOSE,
    26: Cause.WRONG_PURPOSE,
    27: Cause.UNKNOWN_CA,
    28: Cause.WRONG_PURPOSE,
    66: Cause.WEAK_KEY,
    67: Cause.WEAK_KEY,
    68: Cause.WEAK_KEY,
}
"""OpenSSL's X509_V_ERR_* (x509_vfy.h)."""

_VERIFY_TEXTS: Mapping[str, Cause] = {
    "unable to get issuer certificate": Cause.UNKNOWN_CA,
    "unable to get certificate crl": Cause.NO_LIST,
    "certificate signature failure": Cause.ALTERED,
    "certificate is not yet valid": Cause.NOT_YET_VALID,
    "certificate has expired": Cause.EXPIRED,
    "crl is not yet valid": Cause.OLD_LIST,
    "crl has expired": Cause.OLD_LIST,
    "self-signed certificate": Cause.SELF_SIGNED,
    "self signed certificate": Cause.SELF_SIGNED,
    "self-signed certificate in certificate chain": Cause.UNKNOWN_CA,
    "self signed certificate in certificate chain": Cause.UNKNOWN_CA,
    "unable to get local issuer certificate": Cause.UNKNOWN_CA,
    "unable to verify the first certificate": Cause.UNKNOWN_CA,
    "certificate revoked": Cause.REVOKED,
    "unsuitable certificate purpose": Cause.WRONG_PURPOSE,
    "unsupported certificate purpose": Cause.WRONG_PURPOSE,
    "certificate not trusted": Cause.UNKNOWN_CA,
    "ee certificate key too weak": Cause.WEAK_KEY,
    "ca certificate key too weak": Cause.WEAK_KEY,
    "ca signature digest algorithm too weak": Cause.WEAK_KEY,
}
"""The same as X509_verify_cert_error_string says it."""

_REASONS: tuple[tuple[str, Cause], ...] = (
    ("certificate verify failed", Cause.NOT_VERIFIED),
    ("peer did not return a certificate", Cause.NO_CERTIFICATE),
    ("unexpected eof", Cause.ABORTED),
    ("alert unknown ca", Cause.SERVER_REFUSED),
    ("alert bad certificate", Cause.SERVER_REFUSED),
    ("alert certificate expired", Cause.SERVER_REFUSED),
    ("alert certificate revoked", Cause.SERVER_REFUSED),
    ("alert certificate unknown", Cause.SERVER_REFUSED),
    ("alert unsupported certificate", Cause.SERVER_REFUSED),
    ("key too small", Cause.WEAK_KEY),
    ("digest check failed", Cause.ALTERED),
    ("bad signature", Cause.ALTERED),
    ("http request", Cause.PROTOCOL),
    ("unsupported protocol", Cause.PROTOCOL),
    ("version too low", Cause.PROTOCOL),
    ("wrong version number", Cause.PROTOCOL),
    ("no shared cipher", Cause.PROTOCOL),
    ("no suitable signature algorithm", Cause.PROTOCOL),
    ("no suitable key share", Cause.PROTOCOL),
    ("no protocols available", Cause.PROTOCOL),
    ("bad record type", Cause.PROTOCOL),
    ("alert protocol version", Cause.PROTOCOL),
    ("alert handshake failure", Cause.PROTOCOL),
)
"""What stands in reasons of OpenSSL's library errors (sslerr.h), the first that fits."""

_PROBLEMS: Mapping[ProblemCode, Cause] = {
    ProblemCode.REVOKED: Cause.REVOKED,
    ProblemCode.SUSPENDED: Cause.SUSPENDED,
    ProblemCode.NOT_CURRENT: Cause.SUPERSEDED,
    ProblemCode.NOT_ALLOWED: Cause.NOT_ADMITTED,
    ProblemCode.UNKNOWN_DEVICE: Cause.NOT_ADMITTED,
}


def of_verify_code(code: int) -> Cause:
    """Return the cause behind OpenSSL's number for a chain that it does not accept."""
    return _VERIFY_CODES.get(code, Cause.NOT_VERIFIED)


def of_verify_text(text: str) -> Cause:
    """Return the cause behind OpenSSL's words for a chain that it does not accept."""
    return _VERIFY_TEXTS.get(text.strip().lower(), Cause.NOT_VERIFIED)


def of_reason(text: str) -> Cause:
    """Return the cause behind the reason of an error of OpenSSL's library, in any of its spellings."""
    plain = text.lower().replace("_", " ")
    return next((cause for words, cause in _REASONS if words in plain), Cause.OTHER)


def of_guard(word: str) -> Cause:
    """Return the cause behind a broker's word, which may be one of ours already."""
    return GUARD_WORDS.get(word) or next((cause for cause in Cause if cause.value == word), Cause.OTHER)


def of_problem(code: ProblemCode) -> Cause | None:
    """Return the cause behind a problem that is one of the certificate; None for another one."""
    return _PROBLEMS.get(code)
