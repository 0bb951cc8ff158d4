"""What OpenSSL calls back for a key that only signs: key management, and signatures.

A callback never raises into OpenSSL: it says no, and logs why. Where C has pointers to keys and signatures,
numbers stand here; none of them is ever read as a pointer. It holds no private key.
"""

import ctypes
import hashlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Protocol

from device_agent.errors import AgentError, KeyStoreError
from device_agent.keys.openssl_library import Library

if TYPE_CHECKING:
    from hashlib import _Hash

_log = logging.getLogger(__name__)
_Arguments = ParamSpec("_Arguments")

_LONGEST_SIGNATURE = 72
"""A P-256 signature as ECDSA-Sig-Value, DER (RFC 3279 2.2.3)."""
_DIGESTS = {
    **dict.fromkeys(("SHA256", "SHA2-256", "SHA-256"), "sha256"),
    **dict.fromkeys(("SHA384", "SHA2-384", "SHA-384"), "sha384"),
    **dict.fromkeys(("SHA512", "SHA2-512", "SHA-512"), "sha512"),
}
_PRIVATE_KEY = 0x01
"""OSSL_KEYMGMT_SELECT_PRIVATE_KEY (openssl/core_dispatch.h)."""
INTEGER, TEXT, OCTETS = 1, 4, 5
"""OSSL_PARAM_INTEGER, _UTF8_STRING, _OCTET_STRING (openssl/core.h)."""
KEY_NUMBER = b"device-agent-key"


_P, _I, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t


class TlsKey(Protocol):
    """A key as TLS needs it."""

    @property
    def public_point(self) -> bytes:
        """The public key as an uncompressed point (SEC 1 2.3.3)."""
        ...

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the ECDSA signature of a digest, DER; raises `AgentError`."""
        ...


class Param(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_char_p),
        ("type", ctypes.c_uint),
        ("value", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("returned", ctypes.c_size_t),
    )


@dataclass(slots=True)
class _Signing:
    """One signature on its way."""

    key: TlsKey | None = None
    digest: "_Hash" = field(default_factory=hashlib.sha256)


def answering(
    function: Callable[_Arguments, int],
) -> Callable[_Arguments, int]:
    """Make a callback say 0 where it would raise: what is raised into OpenSSL is lost."""

    @wraps(function)
    def guarded(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> int:
        try:
            return function(*arguments, **named)
        except AgentError as error:
            _log.error("the handshake fails because the key does not sign: %s", error)
        except Exception:  # noqa: BLE001 - the outermost edge: what is raised beyond it is lost
            _log.exception("the handshake fails because of a fault in the key's provider")
        return 0

    return guarded


class Keys:
    """Key management: each key that OpenSSL holds has a number, which stands where C has a pointer."""

    def __init__(self, openssl: Library) -> None:
        self._numbers = itertools.count(1)
        self.held: dict[int, TlsKey | None] = {}
        self.offered: dict[int, TlsKey] = {}
        self._locate = openssl.function("OSSL_PARAM_locate", _P, _P, ctypes.c_char_p)
        self._set_integer = openssl.function("OSSL_PARAM_set_int", _I, _P, _I)
        self._set_text = openssl.function("OSSL_PARAM_set_utf8_string", _I, _P, ctypes.c_char_p)
        self._set_octets = openssl.function("OSSL_PARAM_set_octet_string", _I, _P, ctypes.c_char_p, _Z)
        self._get_integer = openssl.function("OSSL_PARAM_get_int", _I, _P, _P)

    def offer(self, key: TlsKey) -> int:
        """Number a key that OpenSSL is about to import."""
        number = next(self._numbers)
        self.offered[number] = key
        return number

    def new(self, _provider: int) -> int:
        number = next(self._numbers)
        self.held[number] = None
        return number

    def free(self, number: int) -> None:
        self.held.pop(number, None)

    def has(self, number: int, _selection: int) -> int:
        return int(self.held.get(number) is not None)

    def match(self, one: int, other: int, _selection: int) -> int:
        return int(self._key(one).public_point == self._key(other).public_point)

    def import_(self, number: int, _selection: int, params: int) -> int:
        place = self._locate(params, KEY_NUMBER)
        offered = ctypes.c_int()
        if not place or self._get_integer(place, ctypes.byref(offered)) != 1:
            return 0
        self.held[number] = self.offered[offered.value]
        return 1

    def export(self, number: int, selection: int, callback: int, argument: int | None) -> int:
        if selection & _PRIVATE_KEY:
            return 0
        point = self._key(number).public_point
        params, _keep = param_array((b"group", TEXT, b"prime256v1"), (b"pub", OCTETS, point))
        take = ctypes.CFUNCTYPE(_I, _P, _P)(callback)
        taken: int = take(ctypes.addressof(params), argument)
        return taken

    def get(self, number: int, params: int) -> int:
        point = self._key(number).public_point
        # 256 bits are as strong as 128 (NIST SP 800-57 part 1, table 2).
        for name, value in ((b"bits", 256), (b"security-bits", 128), (b"max-size", _LONGEST_SIGNATURE)):
            if (place := self._locate(params, name)) and self._set_integer(place, value) != 1:
                return 0
        for name, text in ((b"group", b"prime256v1"), (b"default-digest", b"SHA256")):
            if (place := self._locate(params, name)) and self._set_text(place, text) != 1:
                return 0
        for name in (b"pub", b"encoded-pub-key"):
            place = self._locate(params, name)
            if place and self._set_octets(place, point, len(point)) != 1:
                return 0
        return 1

    def _key(self, number: int) -> TlsKey:
        key = self.held[number]
        if key is None:
            raise KeyStoreError("OpenSSL asks for a key that it was not given")
        return key


class Signatures:
    """Signing: digest here, signature by the key."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._numbers = itertools.count(1)
        self.open: dict[int, _Signing] = {}

    def new(self, _provider: int, _properties: int) -> int:
        number = next(self._numbers)
        self.open[number] = _Signing()
        return number

    def free(self, number: int) -> None:
        self.open.pop(number, None)

    def begin(self, number: int, digest: bytes | None, key: int, param_array: int) -> int:
        name = _DIGESTS.get((digest or b"SHA256").decode().upper())
        if name is None:
            return 0
        self.open[number] = _Signing(key=self._keys.held[key], digest=hashlib.new(name))
        return 1

    def update(self, number: int, octets: int, length: int) -> int:
        self.open[number].digest.update(ctypes.string_at(octets, length))
        return 1

    def finish(
        self, number: int, room: int | None, length: "ctypes._Pointer[ctypes.c_size_t]", size: int
    ) -> int:
        if not room:
            length[0] = _LONGEST_SIGNATURE
            return 1
        signing = self.open[number]
        if signing.key is None:
            return 0
        signature = signing.key.sign_digest(signing.digest.digest())
        if len(signature) > size:
            return 0
        ctypes.memmove(room, signature, len(signature))
        length[0] = len(signature)
        return 1

    def sign(  # noqa: PLR0917 - OSSL_FUNC_signature_digest_sign (provider-signature(7))
        self,
        number: int,
        room: int | None,
        length: "ctypes._Pointer[ctypes.c_size_t]",
        size: int,
        octets: int,
        octets_length: int,
    ) -> int:
        if room:
            self.update(number, octets, octets_length)
        return self.finish(number, room, length, size)


def param_array(*members: tuple[bytes, int, bytes | None]) -> tuple[ctypes.Array[Param], list[object]]:
    """Return an OSSL_PARAM array, and what must live as long as it; the last, zero, ends it."""
    table, keep = (Param * (len(members) + 1))(), list[object]()
    for place, (name, kind, value) in enumerate(members):
        room = None if value is None else ctypes.create_string_buffer(value, len(value) + 1)
        keep.append(room)
        table[place] = Param(
            name, kind, ctypes.cast(room, _P) if room else None, len(value or b""), ctypes.c_size_t(-1).value
        )
    return table, keep
