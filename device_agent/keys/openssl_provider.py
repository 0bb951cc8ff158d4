"""A provider for OpenSSL 3, in Python: a P-256 key that only signs becomes a key that TLS can use.

OpenSSL calls back for each signature (provider-keymgmt(7), provider-signature(7)). It lives in a library
context of its own, so that nothing else in the process ever meets it, and holds no private key. A callback
never raises into OpenSSL: it says no, and logs why.
"""

import ctypes
import hashlib
import itertools
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import TYPE_CHECKING, ParamSpec, Protocol

from device_agent.errors import AgentError, KeyStoreError
from device_agent.keys.chains import readable
from device_agent.keys.openssl_library import Library, library

if TYPE_CHECKING:
    from hashlib import _Hash

_log = logging.getLogger(__name__)
_Arguments = ParamSpec("_Arguments")

_NAME = b"device-agent"
_LONGEST_SIGNATURE = 72
"""A P-256 signature as ECDSA-Sig-Value, DER (RFC 3279 2.2.3)."""
_DIGESTS = {
    **dict.fromkeys(("SHA256", "SHA2-256", "SHA-256"), "sha256"),
    **dict.fromkeys(("SHA384", "SHA2-384", "SHA-384"), "sha384"),
    **dict.fromkeys(("SHA512", "SHA2-512", "SHA-512"), "sha512"),
}
_PRIVATE_KEY, _KEY_PAIR = 0x01, 0x87
"""OSSL_KEYMGMT_SELECT_PRIVATE_KEY, EVP_PKEY_KEYPAIR (openssl/core_dispatch.h, openssl/evp.h)."""
_OP_KEYMGMT, _OP_SIGNATURE = 10, 12
_INTEGER, _TEXT, _OCTETS = 1, 4, 5
"""OSSL_PARAM_INTEGER, _UTF8_STRING, _OCTET_STRING (openssl/core.h)."""
_KEY_NUMBER = b"device-agent-key"

_P, _I, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_SIZE_POINTER = ctypes.POINTER(ctypes.c_size_t)


class TlsKey(Protocol):
    """A key as TLS needs it."""

    @property
    def public_point(self) -> bytes:
        """The public key as an uncompressed point (SEC 1 2.3.3)."""
        ...

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the ECDSA signature of a digest, DER; raises `AgentError`."""
        ...


class _Dispatch(ctypes.Structure):
    _fields_ = (("function_id", ctypes.c_int), ("function", ctypes.c_void_p))


class _Algorithm(ctypes.Structure):
    _fields_ = (
        ("names", ctypes.c_char_p),
        ("properties", ctypes.c_char_p),
        ("implementation", ctypes.c_void_p),
        ("description", ctypes.c_char_p),
    )


class _Param(ctypes.Structure):
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


def arm(context: ssl.SSLContext, key: TlsKey, *, chain_pem: str) -> None:
    """Make a TLS client context authenticate with a key that only signs, and its chain, leaf first.

    Raises:
        KeyStoreError: key and leaf do not fit, or this Python cannot do it.
    """
    openssl = library()
    pointer = openssl.context_pointer(context)
    use_chain = openssl.function("SSL_CTX_use_certificate_chain_file", _I, _P, ctypes.c_char_p)
    use_key = openssl.function("SSL_CTX_use_PrivateKey", _I, _P, _P)
    clear = openssl.function("ERR_clear_error", None)
    free = openssl.function("EVP_PKEY_free", None, _P)
    handle = _provider().key(key)
    try:
        with readable(chain_pem) as chain:
            # The second compares the key with the leaf's, and takes no other.
            fits = use_chain(pointer, chain.encode()) == 1 and use_key(pointer, handle) == 1
    finally:
        free(handle)
        clear()
    if not fits:
        raise KeyStoreError("the token's key and its certificate do not fit", hint="device-agent doctor")


def _answers(
    function: Callable[_Arguments, int],
) -> Callable[_Arguments, int]:
    """Make a callback say 0 where it would raise: what is raised into OpenSSL is lost."""

    @wraps(function)
    def answering(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> int:
        try:
            return function(*arguments, **named)
        except AgentError as error:
            _log.error("the handshake fails because the key does not sign: %s", error)
        except Exception:  # noqa: BLE001 - the outermost edge: what is raised beyond it is lost
            _log.exception("the handshake fails because of a fault in the key's provider")
        return 0

    return answering


class _Keys:
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
        place = self._locate(params, _KEY_NUMBER)
        offered = ctypes.c_int()
        if not place or self._get_integer(place, ctypes.byref(offered)) != 1:
            return 0
        self.held[number] = self.offered[offered.value]
        return 1

    def export(self, number: int, selection: int, callback: int, argument: int | None) -> int:
        if selection & _PRIVATE_KEY:
            return 0
        point = self._key(number).public_point
        params, _keep = _params((b"group", _TEXT, b"prime256v1"), (b"pub", _OCTETS, point))
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


class _Signatures:
    """Signing: digest here, signature by the key."""

    def __init__(self, keys: _Keys) -> None:
        self._keys = keys
        self._numbers = itertools.count(1)
        self.open: dict[int, _Signing] = {}

    def new(self, _provider: int, _properties: int) -> int:
        number = next(self._numbers)
        self.open[number] = _Signing()
        return number

    def free(self, number: int) -> None:
        self.open.pop(number, None)

    def begin(self, number: int, digest: bytes | None, key: int, _params: int) -> int:
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


class _Provider:
    """What OpenSSL is given. It is never taken back: OpenSSL may call for as long as the process lives."""

    def __init__(self, openssl: Library) -> None:
        self._openssl = openssl
        self._keep: list[object] = []
        self._keys = _Keys(openssl)
        self._tables = {
            _OP_KEYMGMT: self._algorithm(b"EC:id-ecPublicKey:1.2.840.10045.2.1", self._key_functions()),
            _OP_SIGNATURE: self._algorithm(b"ECDSA", self._signature_functions()),
        }
        self._functions = self._dispatch(
            (1024, ctypes.CFUNCTYPE(None, _P)(lambda _provider: None)),
            (1027, ctypes.CFUNCTYPE(_P, _P, _I, ctypes.POINTER(_I))(self._query)),
        )
        self._context = self._load()

    def key(self, key: TlsKey) -> int:
        """Return an EVP_PKEY, which is the caller's to free; raises `KeyStoreError`."""
        function = self._openssl.function
        new = function("EVP_PKEY_CTX_new_from_name", _P, _P, ctypes.c_char_p, ctypes.c_char_p)
        context = new(self._context, b"EC", b"provider=" + _NAME)
        number = self._keys.offer(key)
        params, _keep = _params((_KEY_NUMBER, _INTEGER, bytes(ctypes.c_int(number))))
        made = ctypes.c_void_p()
        try:
            begun = context and function("EVP_PKEY_fromdata_init", _I, _P)(context) == 1
            make = function("EVP_PKEY_fromdata", _I, _P, _P, _I, _P)
            if not begun or make(context, ctypes.byref(made), _KEY_PAIR, ctypes.addressof(params)) != 1:
                raise KeyStoreError("OpenSSL does not take the token's key", hint="device-agent doctor")
        finally:
            del self._keys.offered[number]
            function("EVP_PKEY_CTX_free", None, _P)(context)
        return made.value or 0

    def _load(self) -> int:
        function = self._openssl.function
        context = function("OSSL_LIB_CTX_new", _P)()
        begin = ctypes.CFUNCTYPE(_I, _P, _P, ctypes.POINTER(_P), ctypes.POINTER(_P))(self._begin)
        self._keep.append(begin)
        add = function("OSSL_PROVIDER_add_builtin", _I, _P, ctypes.c_char_p, _P)
        load = function("OSSL_PROVIDER_load", _P, _P, ctypes.c_char_p)
        added = context and add(context, _NAME, ctypes.cast(begin, _P)) == 1
        if not added or not load(context, _NAME):
            raise KeyStoreError("OpenSSL does not take a provider for the token's key")
        return context

    def _begin(
        self,
        handle: int,
        _core: int,
        functions: "ctypes._Pointer[ctypes.c_void_p]",
        own: "ctypes._Pointer[ctypes.c_void_p]",
    ) -> int:
        functions[0] = ctypes.addressof(self._functions)
        own[0] = handle
        return 1

    def _query(self, _own: int, operation: int, no_cache: "ctypes._Pointer[ctypes.c_int]") -> int | None:
        no_cache[0] = 0
        table = self._tables.get(operation)
        return None if table is None else ctypes.addressof(table)

    def _key_functions(self) -> ctypes.Array[_Dispatch]:
        keys = self._keys
        offered = self._descriptions((_KEY_NUMBER, _INTEGER))
        exported = self._descriptions((b"group", _TEXT), (b"pub", _OCTETS))
        gettable = self._descriptions(
            *((name, _INTEGER) for name in (b"bits", b"security-bits", b"max-size")),
            *((name, _TEXT) for name in (b"group", b"default-digest")),
            *((name, _OCTETS) for name in (b"pub", b"encoded-pub-key")),
        )
        operation = ctypes.create_string_buffer(b"ECDSA")
        self._keep.append(operation)
        return self._dispatch(
            (1, ctypes.CFUNCTYPE(_P, _P)(_answers(keys.new))),
            (10, ctypes.CFUNCTYPE(None, _P)(keys.free)),
            (11, ctypes.CFUNCTYPE(_I, _P, _P)(_answers(keys.get))),
            (12, ctypes.CFUNCTYPE(_P, _P)(lambda _own: gettable)),
            (20, ctypes.CFUNCTYPE(_P, _I)(lambda _operation: ctypes.addressof(operation))),
            (21, ctypes.CFUNCTYPE(_I, _P, _I)(_answers(keys.has))),
            (23, ctypes.CFUNCTYPE(_I, _P, _P, _I)(_answers(keys.match))),
            (40, ctypes.CFUNCTYPE(_I, _P, _I, _P)(_answers(keys.import_))),
            (41, ctypes.CFUNCTYPE(_P, _I)(lambda _selection: offered)),
            (42, ctypes.CFUNCTYPE(_I, _P, _I, _P, _P)(_answers(keys.export))),
            (43, ctypes.CFUNCTYPE(_P, _I)(lambda _selection: exported)),
        )

    def _signature_functions(self) -> ctypes.Array[_Dispatch]:
        signatures = _Signatures(self._keys)
        return self._dispatch(
            (1, ctypes.CFUNCTYPE(_P, _P, ctypes.c_char_p)(_answers(signatures.new))),
            (8, ctypes.CFUNCTYPE(_I, _P, ctypes.c_char_p, _P, _P)(_answers(signatures.begin))),
            (9, ctypes.CFUNCTYPE(_I, _P, _P, _Z)(_answers(signatures.update))),
            (10, ctypes.CFUNCTYPE(_I, _P, _P, _SIZE_POINTER, _Z)(_answers(signatures.finish))),
            (11, ctypes.CFUNCTYPE(_I, _P, _P, _SIZE_POINTER, _Z, _P, _Z)(_answers(signatures.sign))),
            (16, ctypes.CFUNCTYPE(None, _P)(signatures.free)),
        )

    def _dispatch(self, *functions: tuple[int, "ctypes._CFunctionType"]) -> ctypes.Array[_Dispatch]:
        """Return a table of OSSL_DISPATCH; the last, zero, ends it."""
        table = (_Dispatch * (len(functions) + 1))()
        for place, (number, function) in enumerate(functions):
            table[place] = _Dispatch(number, ctypes.cast(function, _P))
        self._keep += [table, functions]
        return table

    def _algorithm(self, names: bytes, functions: ctypes.Array[_Dispatch]) -> ctypes.Array[_Algorithm]:
        table = (_Algorithm * 2)()
        table[0] = _Algorithm(names, b"provider=" + _NAME, ctypes.addressof(functions), b"a token's key")
        return table

    def _descriptions(self, *members: tuple[bytes, int]) -> int:
        table, keep = _params(*((name, kind, None) for name, kind in members))
        self._keep += [table, keep]
        return ctypes.addressof(table)


@cache
def _provider() -> _Provider:
    """Return the one provider of this process: OpenSSL keeps it, so there must not be more with each key."""
    return _Provider(library())


def _params(*members: tuple[bytes, int, bytes | None]) -> tuple[ctypes.Array[_Param], list[object]]:
    """Return an OSSL_PARAM array, and what must live as long as it; the last, zero, ends it."""
    table, keep = (_Param * (len(members) + 1))(), list[object]()
    for place, (name, kind, value) in enumerate(members):
        room = None if value is None else ctypes.create_string_buffer(value, len(value) + 1)
        keep.append(room)
        table[place] = _Param(
            name, kind, ctypes.cast(room, _P) if room else None, len(value or b""), ctypes.c_size_t(-1).value
        )
    return table, keep
