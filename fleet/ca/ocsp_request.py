"""Reads what OCSP clients ask (RFC 6960 4.1, RFC 9654): bytes to questions, by POST or in the path of a GET.

Whatever cannot be read as that is a `BadInputError`, to be answered `malformedRequest`; it never guesses. A
signature on a request is not looked at: what we answer is for everybody.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from device_agent.wire.identity import serial_hex
from fleet.ca import der
from fleet.ca.der_reader import DerReader, NotDerError
from fleet.errors import BadInputError

MAX_REQUEST_BYTES = 4096
MAX_QUESTIONS = 16
"""Certificates that one request may ask about."""
_LONGEST_NONCE = 128

_HASHES = {
    der.object_identifier("1.3.14.3.2.26"): "sha1",
    der.object_identifier("2.16.840.1.101.3.4.2.1"): "sha256",
    der.object_identifier("2.16.840.1.101.3.4.2.2"): "sha384",
    der.object_identifier("2.16.840.1.101.3.4.2.3"): "sha512",
}
HASH_NAMES = tuple(_HASHES.values())
"""Algorithms that a question may name its issuer by, as `hashlib` calls them."""
_NONCE = der.object_identifier("1.3.6.1.5.5.7.48.1.2")
_TRUE, _FALSE = b"\xff", b"\x00"
_VERSION, _REQUESTOR, _EXTENSIONS = (der.context(number) for number in (0, 1, 2))
_SIGNATURE = _SINGLE_EXTENSIONS = der.context(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Where does this certificate stand? A CertID (RFC 6960 4.1.1)."""

    encoded: bytes
    """As it came: the answer repeats it, octet for octet."""
    algorithm: str
    """Of both hashes, as `hashlib` calls it."""
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int

    @property
    def serial(self) -> str:
        """The serial as 32 hex; one longer than ours stays longer, and one below 1 is nobody's."""
        return serial_hex(self.serial_number) if self.serial_number > 0 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One or more questions, to be answered under one signature, and perhaps a nonce (RFC 9654 2.1)."""

    questions: tuple[Question, ...]
    nonce: bytes | None = None


def read_request(body: bytes) -> Request:
    """Read the body of a POST, or what `request_of_path` returned.

    Raises:
        BadInputError: answer `MALFORMED`.
    """
    if not 0 < len(body) <= MAX_REQUEST_BYTES:
        raise _malformed(f"must be 1 to {MAX_REQUEST_BYTES} bytes")
    try:
        return _request(DerReader(body))
    except NotDerError as error:
        raise _malformed(f"cannot be read: {error}") from error


def request_of_path(raw_tail: str) -> bytes:
    """Return the request of a GET: what follows `/ocsp/` in the *raw* path (RFC 6960 A.1).

    Raises:
        BadInputError: answer `MALFORMED`.
    """
    try:
        return base64.b64decode(unquote_to_bytes(raw_tail), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("must be base64 in the path") from error


def _request(reader: DerReader) -> Request:
    request = reader.inside(der.SEQUENCE)
    reader.end()
    asked = request.inside(der.SEQUENCE)
    if request.has(_SIGNATURE):
        request.content(_SIGNATURE)
    request.end()
    if asked.has(_VERSION) and asked.inside(_VERSION).integer() != 0:
        raise _malformed("is of another version than 1")
    if asked.has(_REQUESTOR):
        asked.content(_REQUESTOR)
    questions = tuple(_questions(asked.inside(der.SEQUENCE)))
    nonce = _nonce(asked.inside(_EXTENSIONS)) if asked.has(_EXTENSIONS) else None
    asked.end()
    return Request(questions=questions, nonce=nonce)


def _questions(listed: DerReader) -> Iterator[Question]:
    count = 0
    while not count or not listed.is_at_end:
        count += 1
        if count > MAX_QUESTIONS:
            raise _malformed(f"asks about more than {MAX_QUESTIONS} certificates")
        single = listed.inside(der.SEQUENCE)
        yield _question(single.whole(der.SEQUENCE))
        if single.has(_SINGLE_EXTENSIONS):
            _nothing_critical(single.inside(_SINGLE_EXTENSIONS))
        single.end()


def _question(encoded: bytes) -> Question:
    fields = DerReader(encoded).inside(der.SEQUENCE)
    algorithm = fields.inside(der.SEQUENCE)
    name = _HASHES.get(algorithm.whole(der.OBJECT_IDENTIFIER))
    if not algorithm.is_at_end and algorithm.whole(der.NULL[0]) != der.NULL:
        raise _malformed("names a hash with parameters")
    algorithm.end()
    name_hash, key_hash = fields.content(der.OCTET_STRING), fields.content(der.OCTET_STRING)
    number = fields.integer()
    fields.end()
    if name is None:
        raise _malformed("must name the issuer by SHA-1, SHA-256, SHA-384 or SHA-512")
    return Question(
        encoded=encoded,
        algorithm=name,
        issuer_name_hash=name_hash,
        issuer_key_hash=key_hash,
        serial_number=number,
    )


def _nonce(wrapped: DerReader) -> bytes | None:
    nonce: bytes | None = None
    for name, critical, value in _extensions(wrapped):
        if name == _NONCE:
            inner = DerReader(value)
            nonce = inner.content(der.OCTET_STRING)
            inner.end()
            if not 1 <= len(nonce) <= _LONGEST_NONCE:
                raise _malformed(f"nonce must be 1 to {_LONGEST_NONCE} octets (RFC 9654 2.1)")
        elif critical:
            raise _malformed("has a critical extension that is not known here")
    return nonce


def _nothing_critical(wrapped: DerReader) -> None:
    if any(critical for _, critical, _ in _extensions(wrapped)):
        raise _malformed("has a critical extension that is not known here")


def _extensions(wrapped: DerReader) -> Iterator[tuple[bytes, bool, bytes]]:
    """Yield name, whether it is critical, and value of each extension (RFC 5280 4.1)."""
    listed = wrapped.inside(der.SEQUENCE)
    wrapped.end()
    seen: set[bytes] = set()
    while not seen or not listed.is_at_end:
        extension = listed.inside(der.SEQUENCE)
        name = extension.whole(der.OBJECT_IDENTIFIER)
        critical = extension.content(der.BOOLEAN) if extension.has(der.BOOLEAN) else _FALSE
        value = extension.content(der.OCTET_STRING)
        extension.end()
        if name in seen or critical not in {_TRUE, _FALSE}:
            raise _malformed("has an extension twice, or one that is not clear")
        seen.add(name)
        yield name, critical == _TRUE, value


def _malformed(what: str) -> BadInputError:
    return BadInputError(f"the OCSP request {what}", hint="ask as RFC 6960 says")
