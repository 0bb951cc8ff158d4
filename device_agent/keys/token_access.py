"""The way to one token: found by its URI, logged in to once, found again after it was pulled; and TLS by it.

A PIN that the token refused is never tried twice. A token that seems to have gone is looked for once more,
then what is wrong is told in words; nothing falls back to a file.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from device_agent.errors import KeyStoreError
from device_agent.keys import cryptoki, provider_key
from device_agent.keys.cryptoki import Attribute, CallError, Module, Session, Sharing, Template, TokenInfo
from device_agent.keys.openssl_library import errors_kept_apart
from device_agent.keys.pins import PinSource, RefusedPins
from device_agent.keys.tls_key import TlsKey
from device_agent.keys.token_errors import LOST, PIN_INCORRECT, told
from device_agent.keys.token_tls import Armed, TokenTls
from device_agent.wire.secret import Secret
from device_agent.wire.token_uri import TokenUri

_T = TypeVar("_T")

PUBLIC, PRIVATE = 2, 3
"""CKO_PUBLIC_KEY and CKO_PRIVATE_KEY."""
_YES, _NO = b"\x01", b"\x00"
_KEPT_INSIDE = {
    Attribute.SENSITIVE: _YES,
    Attribute.EXTRACTABLE: _NO,
    Attribute.ALWAYS_SENSITIVE: _YES,
    Attribute.NEVER_EXTRACTABLE: _YES,
    Attribute.LOCAL: _YES,
}


class AbsentError(Exception):
    """What was looked for is not there, at least not by what the module knew."""


class TokenAccess:
    """One token. Nothing is asked of it before something is done `within` it."""

    def __init__(self, uri: TokenUri, *, refused_pins: Path) -> None:
        """`refused_pins` is a file of the device's state."""
        self._uri = uri
        self._pins = PinSource(uri.pin_source)
        self._refused = RefusedPins(refused_pins)
        self._tls = TokenTls(uri.module_path)
        self._taken: Secret | None = None

    def within(self, act: Callable[[Session], _T]) -> _T:
        """Do something in a session; once more with a new start where the token seems to have gone.

        Raises:
            KeyStoreError: it cannot be done.
        """
        with _errors_told():
            return self._within_module(act)

    def anew(self) -> None:
        """Have the library begin anew with the next use; raises `KeyStoreError`."""
        with _errors_told():
            self._module().begin_anew()

    def arm(self, context: ssl.SSLContext, key: TlsKey, *, reference: str, chain_pem: str) -> Armed:
        """Make a TLS client context authenticate with a key of the token, and return by which way.

        `reference` is the key's URI (RFC 7512). Raises `KeyStoreError`.
        """
        return self._tls.arm(context, key, reference=reference, pin=self._taken_pin, chain_pem=chain_pem)

    def _taken_pin(self) -> Secret:
        """Return the PIN that the token took; another store of this process may have logged in with it."""
        if self._taken is None:
            self.anew()
            self.within(lambda _session: None)
        if self._taken is None:
            raise KeyStoreError("nothing says which PIN the token took", hint="start the agent anew")
        return self._taken

    def _module(self) -> Module:
        # OpenSSL's provider may use the same library, with sessions of its own.
        sharing = Sharing.BESIDE_OTHERS if provider_key.is_configured() else Sharing.ALONE
        return cryptoki.load(self._uri.module_path, sharing=sharing)

    def _within_module(self, act: Callable[[Session], _T]) -> _T:
        module = self._module()
        with module.using():
            try:
                return act(self._session(module))
            except AbsentError:
                module.restart()
            except CallError as error:
                if error.code not in LOST:
                    raise
                module.restart()
            return act(self._session(module))

    def _session(self, module: Module) -> Session:
        token = self._token(module)
        return module.session(token.slot, log_in=lambda session: self._log_in(session, token))

    def _token(self, module: Module) -> TokenInfo:
        uri = self._uri
        found = [
            token
            for token in module.tokens()
            if uri.token in ("", token.label)
            and uri.serial in ("", token.serial)
            and uri.manufacturer in ("", token.manufacturer)
            and uri.model in ("", token.model)
        ]
        named = uri.token or uri.serial
        if not found:
            raise AbsentError(f"there is no token {named}: it was pulled, or is another one's")
        if len(found) > 1:
            raise KeyStoreError(
                f"there are {len(found)} tokens {named}", hint="name one of them: add ;serial= to the URI"
            )
        return found[0]

    def _log_in(self, session: Session, token: TokenInfo) -> None:
        pin = self._pins.read(token.label)
        self._refused.require_untried(pin, serial=token.serial)
        try:
            session.log_in(pin.reveal())
        except CallError as error:
            if error.code == PIN_INCORRECT:
                self._pins.forget()
                self._refused.add(pin, serial=token.serial)
            raise
        self._refused.clear()
        self._taken = pin if self._tls.wants_pin else None


def one(session: Session, wanted: Template, *, name: str) -> int:
    """Return the one object with these attributes; raises `KeyStoreError` where there are more."""
    found = session.find(wanted)
    if not found:
        raise AbsentError(f"there is no key {name} in the token")
    if len(found) > 1:
        raise KeyStoreError(f"there are {len(found)} keys {name} in the token", hint="device-agent doctor")
    return found[0]


def require_kept_inside(session: Session, private: int, *, name: str) -> None:
    """Believe a token that a key cannot be taken out only after reading it back; raises `KeyStoreError`."""
    wrong = [each.name for each, kept in _KEPT_INSIDE.items() if session.read(private, each) != kept]
    if wrong:
        raise KeyStoreError(
            f"the token does not keep the key {name} inside: {', '.join(wrong).lower()}",
            hint="use a token that makes keys which cannot be taken out",
        )


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        with errors_kept_apart():
            yield
    except AbsentError as error:
        raise KeyStoreError(str(error), hint="device-agent doctor") from error
    except CallError as error:
        raise told(error) from error
