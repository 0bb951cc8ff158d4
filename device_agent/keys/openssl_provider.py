"""A provider for OpenSSL 3, in Python: a key that only signs becomes a key that TLS can use.

OpenSSL calls back for each signature (provider-keymgmt(7), provider-signature(7)). It lives in a library
context of its own, so that nothing else in the process ever meets it, and holds no private key.
"""

import ctypes
import ssl
from functools import cache

from device_agent.errors import KeyStoreError
from device_agent.keys.chains import readable
from device_agent.keys.openssl_callbacks import (
    INTEGER,
    KEY_NUMBER,
    NUMBER,
    OCTETS,
    PADDING,
    SALT,
    TEXT,
    Keys,
    Signatures,
    answering,
    param_array,
)
from device_agent.keys.openssl_library import Library, library
from device_agent.keys.tls_key import TlsKey, facts_of

_NAME = b"device-agent"
_KEY_PAIR = 0x87
"""EVP_PKEY_KEYPAIR (openssl/evp.h)."""
_OP_KEYMGMT, _OP_SIGNATURE = 10, 12
_EC_EXPORTED = ((b"group", TEXT), (b"pub", OCTETS))
_RSA_EXPORTED = ((b"n", NUMBER), (b"e", NUMBER))
_P, _I, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_SIZE_POINTER = ctypes.POINTER(ctypes.c_size_t)


class _Dispatch(ctypes.Structure):
    _fields_ = (("function_id", ctypes.c_int), ("function", ctypes.c_void_p))


class _Algorithm(ctypes.Structure):
    _fields_ = (
        ("names", ctypes.c_char_p),
        ("properties", ctypes.c_char_p),
        ("implementation", ctypes.c_void_p),
        ("description", ctypes.c_char_p),
    )


def arm(context: ssl.SSLContext, key: TlsKey, *, chain_pem: str) -> None:
    """Make a TLS client context authenticate with a key that only signs, and its chain, leaf first.

    Raises:
        KeyStoreError: key and leaf do not fit, or this Python cannot do it.
    """
    openssl = library()
    pointer = openssl.context_pointer(context)
    use_chain = openssl.function("SSL_CTX_use_certificate_chain_file", _I, _P, ctypes.c_char_p)
    use_key = openssl.function("SSL_CTX_use_PrivateKey", _I, _P, _P)
    check = openssl.function("SSL_CTX_check_private_key", _I, _P)
    clear = openssl.function("ERR_clear_error", None)
    free = openssl.function("EVP_PKEY_free", None, _P)
    handle = _provider().key(key)
    try:
        with readable(chain_pem) as chain:
            # The second compares the key with a leaf of its own algorithm; the third sees where none is.
            taken = use_chain(pointer, chain.encode()) == 1 and use_key(pointer, handle) == 1
            fits = taken and check(pointer) == 1
    finally:
        free(handle)
        clear()
    if not fits:
        raise KeyStoreError("the token's key and its certificate do not fit", hint="device-agent doctor")


class _Provider:
    """What OpenSSL is given. It is never taken back: OpenSSL may call for as long as the process lives."""

    def __init__(self, openssl: Library) -> None:
        self._openssl = openssl
        self._keep: list[object] = []
        self._keys = Keys(openssl)
        signs = self._signature_functions()
        self._tables = {
            _OP_KEYMGMT: self._algorithms(
                (b"EC:id-ecPublicKey:1.2.840.10045.2.1", self._key_functions(b"ECDSA", *_EC_EXPORTED)),
                (b"RSA:rsaEncryption:1.2.840.113549.1.1.1", self._key_functions(b"RSA", *_RSA_EXPORTED)),
            ),
            _OP_SIGNATURE: self._algorithms((b"ECDSA", signs), (b"RSA", signs)),
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
        context = new(self._context, facts_of(key.public_key).algorithm, b"provider=" + _NAME)
        number = self._keys.offer(key)
        params, _keep = param_array((KEY_NUMBER, INTEGER, bytes(ctypes.c_int(number))))
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

    def _key_functions(self, signature: bytes, *exports: tuple[bytes, int]) -> ctypes.Array[_Dispatch]:
        keys = self._keys
        offered = self._descriptions((KEY_NUMBER, INTEGER))
        exported = self._descriptions(*exports)
        gettable = self._descriptions(
            *((name, INTEGER) for name in (b"bits", b"security-bits", b"max-size")),
            *((name, TEXT) for name in (b"group", b"default-digest")),
            *((name, OCTETS) for name in (b"pub", b"encoded-pub-key")),
        )
        operation = ctypes.create_string_buffer(signature)
        self._keep.append(operation)
        return self._dispatch(
            (1, ctypes.CFUNCTYPE(_P, _P)(answering(keys.new))),
            (10, ctypes.CFUNCTYPE(None, _P)(keys.free)),
            (11, ctypes.CFUNCTYPE(_I, _P, _P)(answering(keys.get))),
            (12, ctypes.CFUNCTYPE(_P, _P)(lambda _own: gettable)),
            (20, ctypes.CFUNCTYPE(_P, _I)(lambda _operation: ctypes.addressof(operation))),
            (21, ctypes.CFUNCTYPE(_I, _P, _I)(answering(keys.has))),
            (23, ctypes.CFUNCTYPE(_I, _P, _P, _I)(answering(keys.match))),
            (40, ctypes.CFUNCTYPE(_I, _P, _I, _P)(answering(keys.import_))),
            (41, ctypes.CFUNCTYPE(_P, _I)(lambda _selection: offered)),
            (42, ctypes.CFUNCTYPE(_I, _P, _I, _P, _P)(answering(keys.export))),
            (43, ctypes.CFUNCTYPE(_P, _I)(lambda _selection: exported)),
        )

    def _signature_functions(self) -> ctypes.Array[_Dispatch]:
        signatures = Signatures(self._keys)
        settable = self._descriptions((PADDING, TEXT), (SALT, TEXT))
        return self._dispatch(
            (1, ctypes.CFUNCTYPE(_P, _P, ctypes.c_char_p)(answering(signatures.new))),
            (8, ctypes.CFUNCTYPE(_I, _P, ctypes.c_char_p, _P, _P)(answering(signatures.begin))),
            (9, ctypes.CFUNCTYPE(_I, _P, _P, _Z)(answering(signatures.update))),
            (10, ctypes.CFUNCTYPE(_I, _P, _P, _SIZE_POINTER, _Z)(answering(signatures.finish))),
            (11, ctypes.CFUNCTYPE(_I, _P, _P, _SIZE_POINTER, _Z, _P, _Z)(answering(signatures.sign))),
            (16, ctypes.CFUNCTYPE(None, _P)(signatures.free)),
            (20, ctypes.CFUNCTYPE(_I, _P, _P)(answering(signatures.set))),
            (21, ctypes.CFUNCTYPE(_P, _P, _P)(lambda _signing, _own: settable)),
        )

    def _dispatch(self, *functions: tuple[int, "ctypes._CFunctionType"]) -> ctypes.Array[_Dispatch]:
        """Return a table of OSSL_DISPATCH; the last, zero, ends it."""
        table = (_Dispatch * (len(functions) + 1))()
        for place, (number, function) in enumerate(functions):
            table[place] = _Dispatch(number, ctypes.cast(function, _P))
        self._keep += [table, functions]
        return table

    def _algorithms(self, *named: tuple[bytes, ctypes.Array[_Dispatch]]) -> ctypes.Array[_Algorithm]:
        """Return a table of OSSL_ALGORITHM; the last, zero, ends it."""
        table = (_Algorithm * (len(named) + 1))()
        for place, (names, functions) in enumerate(named):
            address = ctypes.addressof(functions)
            table[place] = _Algorithm(names, b"provider=" + _NAME, address, b"a token's key")
        return table

    def _descriptions(self, *members: tuple[bytes, int]) -> int:
        table, keep = param_array(*((name, kind, None) for name, kind in members))
        self._keep += [table, keep]
        return ctypes.addressof(table)


@cache
def _provider() -> _Provider:
    """Return the one provider of this process: OpenSSL keeps it, so there must not be more with each key."""
    return _Provider(library())
