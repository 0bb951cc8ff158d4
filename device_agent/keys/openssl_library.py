"""The very libssl that Python's ssl uses, by ctypes, behind a gate: proven to be the one, or refused.

CPython has no call that takes a key which cannot be read. The gate makes sure that the pointer taken out
of an `ssl.SSLContext` is its SSL_CTX, before anything is written through it. It guesses nothing.
"""

import _ssl
import ctypes
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from device_agent.errors import KeyStoreError

_MAPS = Path("/proc/self/maps")
_GET_MIN_PROTO_VERSION = 130
"""SSL_CTRL_GET_MIN_PROTO_VERSION (openssl/ssl.h)."""
_OTHER_LAYOUT = "its contexts are laid out in another way than known"
_USED_WITH = (3, 0, 0), (4, 0, 0)

_P, _I = ctypes.c_void_p, ctypes.c_int
_Type = type[ctypes.c_void_p | ctypes.c_int | ctypes.c_char_p | ctypes.c_long | ctypes.c_size_t]


class Library:
    """Functions of libssl and libcrypto, as `_ssl` itself finds them."""

    def __init__(self, handle: ctypes.CDLL) -> None:
        self._handle = handle
        version = handle["OpenSSL_version"]
        version.restype, version.argtypes = ctypes.c_char_p, (ctypes.c_int,)
        text: bytes = version(0)
        self.version = text.decode()
        self._ctrl = self.function("SSL_CTX_ctrl", ctypes.c_long, _P, _I, ctypes.c_long, _P)

    def function(self, name: str, result: _Type | None, *arguments: _Type) -> Callable[..., int]:
        """Return a function of OpenSSL; raises `AttributeError`."""
        found = self._handle[name]
        found.restype, found.argtypes = result, arguments
        return found

    def context_pointer(self, context: ssl.SSLContext) -> int:
        """Return the SSL_CTX of a context.

        Raises:
            KeyStoreError: what stands there does not act as the context's SSL_CTX.
        """
        # PySSLContext: PyObject_HEAD, then `SSL_CTX *ctx` (CPython, Modules/_ssl.c).
        pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
        held = context.minimum_version
        try:
            for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
                context.minimum_version = version
                if pointer is None or self._ctrl(pointer, _GET_MIN_PROTO_VERSION, 0, None) != version:
                    raise _refusal(_OTHER_LAYOUT)
        finally:
            context.minimum_version = held
        return pointer or 0


@contextmanager
def errors_kept_apart() -> Iterator[None]:
    """Take what others leave in OpenSSL's error queue away again.

    A PKCS#11 module that shares libcrypto leaves its errors there, and the next read of a healthy TLS
    connection in this thread would end with them (SSL_get_error(3)).
    """
    set_mark, pop_to_mark = _symbol("ERR_set_mark"), _symbol("ERR_pop_to_mark")
    if set_mark is None or pop_to_mark is None:
        yield
        return
    set_mark()
    try:
        yield
    finally:
        pop_to_mark()


def library() -> Library:
    """Return the library that this Python's ssl uses, or raise `KeyStoreError` with why it cannot be used."""
    found = _opened()
    if isinstance(found, str):
        raise _refusal(found)
    return found


def has_provider(name: str) -> bool:
    """Tell whether OpenSSL's configuration has loaded a provider; False where that cannot be asked."""
    available = _symbol("OSSL_PROVIDER_available", _P, ctypes.c_char_p)
    return available is not None and bool(available(None, name.encode()))


def _symbol(name: str, *arguments: _Type) -> Callable[..., int] | None:
    """Return a function of the OpenSSL that `_ssl` finds, which needs no gate as it is given no context."""
    path: str | None = getattr(_ssl, "__file__", None)
    if path is None:
        return None
    try:
        found = ctypes.CDLL(path)[name]
    except (OSError, AttributeError):
        return None
    found.restype, found.argtypes = _I, arguments
    return found


@cache
def _opened() -> Library | str:
    """Return the library, or what stands against it; looked at once, as neither changes in a process."""
    path: str | None = getattr(_ssl, "__file__", None)
    if sys.implementation.name != "cpython" or path is None:
        return "its ssl module is not CPython's with a shared OpenSSL"
    if not _USED_WITH[0] <= ssl.OPENSSL_VERSION_INFO[:3] < _USED_WITH[1]:
        return f"it uses {ssl.OPENSSL_VERSION}, and OpenSSL 3 is needed"
    mapped = _mapped()
    if len(mapped) != 1:
        return f"{len(mapped)} libssl are loaded, so it is not certain which one it uses"
    try:
        # Names are looked up in the module and what it is linked with, as it does itself.
        found = Library(ctypes.CDLL(path))
    except (OSError, AttributeError):
        return "its OpenSSL is not shared with it"
    if found.version != ssl.OPENSSL_VERSION:
        return "another OpenSSL stands before its own"
    try:
        found.context_pointer(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except KeyStoreError:
        return _OTHER_LAYOUT
    return found


def _mapped() -> set[str]:
    try:
        lines = _MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    paths = {line.split(maxsplit=5)[-1] for line in lines if line.count(" ") >= 5}
    return {path for path in paths if Path(path).name.startswith("libssl") and ".so" in Path(path).name}


def _refusal(why: str) -> KeyStoreError:
    return KeyStoreError(
        f"this Python cannot use a token's key for TLS: {why}",
        hint="run the agent with the system's Python; a key in a file is never used instead",
    )
