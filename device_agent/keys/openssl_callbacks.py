"""What OpenSSL calls back for a key that only signs: key management, and signatures.

A callback never raises into OpenSSL: it says no, and logs why. Where C has pointers to keys and signatures,
numbers stand here; none of them is ever read as a pointer. It holds no private key.
"""

import ctypes
import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from device_agent.errors import AgentError, KeyStoreError
from device_agent.keys.openssl_library import Library
from device_agent.keys.tls_key import PublicFacts, Scheme, TlsKey, facts_of

if TYPE_CHECKING:
    from hashlib import _Hash

_log = logging.getLogger(__name__)
_Arguments = ParamSpec("_Arguments")
_T = TypeVar("_T")

_DIGESTS = {
    **dict.fromkeys(("SHA256", "SHA2-256", "SHA-256"), "sha256"),
    **dict.fromkeys(("SHA384", "SHA2-384", "SHA-384"), "sha384"),
    **dict.fromkeys(("SHA512", "SHA2-512", "SHA-512"), "sha512"),
}
_PRIVATE_KEY = 0x01
"""OSSL_KEYMGMT_SELECT_PRIVATE_KEY (openssl/core_dispatch.h)."""
INTEGER, NUMBER, TEXT, OCTETS = 1, 2, 4, 5
"""OSSL_PARAM_INTEGER, _UNSIGNED_INTEGER, _UTF8_STRING, _OCTET_STRING (openssl/core.h)."""
PADDING, SALT = b"pad-mode", b"saltlen"
_PADDINGS = {b"1": Scheme.PKCS1, b"pkcs1": Scheme.PKCS1, b"6": Scheme.PSS, b"pss": Scheme.PSS}
"""By number (openssl/rsa.h) or by name, as it comes."""
_OF_DIGEST = {b"-1", b"digest"}
"""RSA_PSS_SALTLEN_DIGEST."""
KEY_NUMBER = b"device-agent-key"


_P, _I, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t


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
    scheme: Scheme = Scheme.ECDSA


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
        return int(self._key(one).public_key == self._key(other).public_key)

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
        facts = facts_of(self._key(number).public_key)
        params, _keep = param_array(*_exported(facts))
        take = ctypes.CFUNCTYPE(_I, _P, _P)(callback)
        taken: int = take(ctypes.addressof(params), argument)
        return taken

    def get(self, number: int, params: int) -> int:
        facts = facts_of(self._key(number).public_key)
        done = [
            *(self._set_integer(place, value) for place, value in self._asked(params, facts.integers)),
            *(self._set_text(place, text) for place, text in self._asked(params, facts.texts)),
            *(
                self._set_octets(place, octets, len(octets))
                for place, octets in self._asked(params, facts.octets)
            ),
        ]
        return int(all(one == 1 for one in done))

    def told(self, params: int | None, name: bytes) -> bytes | None:
        """Return a parameter that came as a text or as a number, as text; None where it did not come."""
        place = self._locate(params, name) if params else 0
        if not place:
            return None
        param = Param.from_address(place)
        if param.type == TEXT:
            return ctypes.string_at(param.value).lower()
        number = ctypes.c_int()
        return b"%d" % number.value if self._get_integer(place, ctypes.byref(number)) == 1 else b""

    def _asked(self, params: int, told: Mapping[bytes, _T]) -> Iterator[tuple[int, _T]]:
        for name, value in told.items():
            if place := self._locate(params, name):
                yield place, value

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

    def begin(self, number: int, digest: bytes | None, key: int, params: int | None) -> int:
        name, held = _DIGESTS.get((digest or b"SHA256").decode().upper()), self._keys.held[key]
        if name is None or held is None:
            return 0
        is_rsa = facts_of(held.public_key).algorithm == b"RSA"
        # RSA_PKCS1_PADDING until it is told otherwise (EVP_PKEY_CTX_ctrl(3)).
        scheme = Scheme.PKCS1 if is_rsa else Scheme.ECDSA
        self.open[number] = _Signing(key=held, digest=hashlib.new(name), scheme=scheme)
        return self.set(number, params)

    def set(self, number: int, params: int | None) -> int:
        """Take how RSA pads; a salt of another length than the digest's is refused."""
        signing = self.open[number]
        if (padding := self._keys.told(params, PADDING)) is not None:
            if signing.scheme is Scheme.ECDSA or padding not in _PADDINGS:
                return 0
            signing.scheme = _PADDINGS[padding]
        salt = self._keys.told(params, SALT)
        return int(salt is None or salt in _OF_DIGEST or salt == b"%d" % signing.digest.digest_size)

    def update(self, number: int, octets: int, length: int) -> int:
        self.open[number].digest.update(ctypes.string_at(octets, length))
        return 1

    def finish(
        self, number: int, room: int | None, length: "ctypes._Pointer[ctypes.c_size_t]", size: int
    ) -> int:
        signing = self.open[number]
        if signing.key is None:
            return 0
        if not room:
            length[0] = facts_of(signing.key.public_key).longest_signature
            return 1
        signature = signing.key.sign_digest(signing.digest.digest(), signing.scheme)
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


def _exported(facts: PublicFacts) -> Iterator[tuple[bytes, int, bytes]]:
    """Give the parameters that a public key is made of (EVP_PKEY-EC(7), EVP_PKEY-RSA(7))."""
    if facts.numbers:
        yield from ((name, NUMBER, value) for name, value in facts.numbers.items())
    else:
        yield b"group", TEXT, facts.texts[b"group"]
        yield b"pub", OCTETS, facts.octets[b"pub"]


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
