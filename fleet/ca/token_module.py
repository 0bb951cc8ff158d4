"""One PKCS#11 module (2.40) of this process: a thread of its own, in which every call of it runs.

The library that we reach it through initialises modules without locks, so that two threads in one crash it;
and modules leave errors in OpenSSL's queue of the thread that called them, where the next read of a healthy
TLS connection would find them (SSL_get_error(3)). Both end where one thread does nothing else. A token that
was pulled is looked for once more; a PIN that it refused is never given to it again.
"""

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pkcs11
from pkcs11 import exceptions
from pkcs11.types import Session, SignMixin, Token

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib

from device_agent.wire.token_uri import TokenUri
from fleet.ca.token_pins import TokenPins
from fleet.errors import BadInputError, FleetError, NotFoundError, UnreachableError

_T = TypeVar("_T")

PATIENCE_SECONDS = 20.0
"""So long a call may take; a module that hangs does not hold up the server for ever."""

_LOST = (
    exceptions.SessionHandleInvalid,
    exceptions.SessionClosed,
    exceptions.DeviceRemoved,
    exceptions.DeviceError,
    exceptions.GeneralError,
    exceptions.FunctionFailed,
    exceptions.KeyHandleInvalid,
    exceptions.ObjectHandleInvalid,
    exceptions.SlotIDInvalid,
    exceptions.TokenNotPresent,
    exceptions.TokenNotRecognised,
    exceptions.UserNotLoggedIn,
    exceptions.NoSuchKey,
)
"""What modules return when a token was pulled or changed under them; a new start may find it again."""

_WORDS: tuple[tuple[type[exceptions.PKCS11Error], str, str], ...] = (
    (
        exceptions.PinIncorrect,
        "the token refuses the PIN",
        "this PIN is not tried again: put the right one there",
    ),
    (exceptions.PinLocked, "the token has locked its PIN", "unlock it with its security officer's PIN"),
    (exceptions.PinExpired, "the PIN has expired", "set a new PIN"),
    (exceptions.PinInvalid, "the PIN has a form that the token does not take", "is it the right PIN"),
    (exceptions.PinLenRange, "the PIN has a length that the token does not take", "is it the right PIN"),
    (exceptions.UserPinNotInitialized, "the token's user PIN was never set", "initialise it"),
    (exceptions.AnotherUserAlreadyLoggedIn, "somebody else is logged in at the token", "log out there"),
    (
        exceptions.TokenWriteProtected,
        "the token is write-protected",
        "a new key needs one that can be written",
    ),
    (exceptions.SessionReadOnly, "the token can only be read", "a new key needs one that can be written"),
    (exceptions.DeviceMemory, "the token has no memory left", "remove keys that nobody needs from it"),
    (exceptions.HostMemory, "this machine has no memory left for the token", "see what uses it"),
    (exceptions.MechanismInvalid, "the token does not know this kind of key", "choose another kind"),
    (exceptions.DomainParamsInvalid, "the token does not know this curve", "choose P-256"),
    (exceptions.KeySizeRange, "the token does not take keys of this size", "choose another kind"),
    (exceptions.SessionCount, "the token takes no more sessions", "end other programs that use it"),
    (exceptions.NoSuchKey, "the key is not in the token", "is it the right token"),
    (exceptions.MultipleObjectsReturned, "several keys in the token have this name", "name them apart"),
)


@dataclass(slots=True)
class OpenToken:
    """A session that is logged in, and the private keys that were found in it."""

    session: Session
    keys: dict[str, SignMixin] = field(default_factory=dict)

    @property
    def serial(self) -> str:
        """The token's serial number."""
        return _serial(self.session.token)


class _AbsentError(Exception):
    """The token is not there, at least not by what the module knew at its start."""


class _LoginNeededError(Exception):
    """There is no session yet, and the token wants its PIN."""

    def __init__(self, token: Token) -> None:
        super().__init__(token.label)
        self.label, self.serial = token.label, _serial(token)


class TokenModule:
    """A module by the path of its library; made by `module_at`, once in a process."""

    def __init__(self, path: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._path = path
        self._patience = patience_seconds
        self._opened: dict[str, OpenToken] = {}
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pid = 0
        self._is_busy: Callable[[], bool] = lambda: False

    def within(self, uri: TokenUri, pins: TokenPins, act: Callable[[OpenToken], _T]) -> _T:
        """Do something in a session of the token that a URI names; logs in where that is needed.

        Raises:
            NotFoundError: the token or the key is not there.
            UnreachableError: the module does not answer.
            BadInputError, FleetError: what the token says, in words.
        """
        try:
            try:
                return self._run(lambda: self._attempt(uri, None, act))
            except _LoginNeededError as needed:
                return self._logging_in(needed, uri, pins, act)
        except exceptions.PKCS11Error as error:
            raise _told(error) from error

    def _logging_in(
        self, needed: _LoginNeededError, uri: TokenUri, pins: TokenPins, act: Callable[[OpenToken], _T]
    ) -> _T:
        pin = pins.read(needed.label, serial=needed.serial)
        try:
            found = self._run(lambda: self._attempt(uri, pin.reveal(), act))
        except exceptions.PinIncorrect:
            pins.refuse(pin, serial=needed.serial)
            raise
        pins.accept()
        return found

    def _run(self, call: Callable[[], _T]) -> _T:
        """Run a call in the module's thread, and wait for it."""
        self._begin()
        if self._is_busy():
            raise self._hangs()
        future: Future[_T] = Future()
        self._calls.put(lambda: _settle(future, call))
        try:
            return future.result(self._patience)
        except TimeoutError as error:
            # From now on nobody waits for it, until it has come back.
            self._is_busy = lambda: not future.done()
            raise self._hangs() from error

    def _begin(self) -> None:
        """Start the thread; a forked child has none, and must not use its parent's sessions."""
        if self._pid == os.getpid():
            return
        is_child, self._pid = self._pid != 0, os.getpid()
        self._opened.clear()
        self._calls, self._is_busy = queue.SimpleQueue(), lambda: False
        if is_child:
            self._calls.put(lambda: _settle(Future(), self._restart))
        threading.Thread(target=_work, args=(self._calls,), name="pkcs11", daemon=True).start()

    def _hangs(self) -> UnreachableError:
        return UnreachableError(
            f"the PKCS#11 module {self._path} has not answered for {self._patience:.0f} s",
            hint="see to the token, or to the way to it",
        )

    # What follows runs in the module's thread.

    def _attempt(self, uri: TokenUri, pin: str | None, act: Callable[[OpenToken], _T]) -> _T:
        try:
            return act(self._session(uri, pin))
        except (_AbsentError, *_LOST):
            self._restart()
        try:
            return act(self._session(uri, pin))
        except _AbsentError as error:
            raise NotFoundError(str(error), hint="is it plugged in, and the right one") from error

    def _session(self, uri: TokenUri, pin: str | None) -> OpenToken:
        token = self._token(uri)
        serial = _serial(token)
        if serial not in self._opened:
            if pin is None:
                raise _LoginNeededError(token)
            self._opened[serial] = OpenToken(_log_in(token, pin))
        return self._opened[serial]

    def _token(self, uri: TokenUri) -> Token:
        found = [token for token in self._library().get_tokens() if _is_named(token, uri)]
        named = uri.token or uri.serial
        if not found:
            raise _AbsentError(f"there is no token {named}")
        if len(found) > 1:
            raise BadInputError(
                f"there are {len(found)} tokens {named}", hint="name one of them: add ;serial= to the URI"
            )
        return found[0]

    def _library(self) -> "lib":
        try:
            return pkcs11.lib(self._path)
        except (RuntimeError, OSError) as error:
            raise NotFoundError(
                f"{self._path} is no PKCS#11 module that works", hint="is module-path in the URI right"
            ) from error

    def _restart(self) -> None:
        """Begin anew: to a module, what was pulled and put back is another token."""
        self._opened.clear()
        self._library().reinitialize()


_modules: dict[str, TokenModule] = {}
_making = threading.Lock()


def module_at(path: str) -> TokenModule:
    """Return the module of a library: a process has one, however many keys are in its tokens."""
    with _making:
        return _modules.setdefault(os.path.realpath(path), TokenModule(path))


def _work(calls: "queue.SimpleQueue[Callable[[], None]]") -> None:
    while True:
        calls.get()()


def _settle(future: "Future[_T]", call: Callable[[], _T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is raised again where somebody waits
        future.set_exception(error)


def _log_in(token: Token, pin: str) -> Session:
    try:
        return token.open(rw=True, user_pin=pin)
    except exceptions.UserAlreadyLoggedIn:
        return token.open(rw=True)
    except exceptions.TokenWriteProtected:
        return token.open(user_pin=pin)  # enough for keys that are there


def _is_named(token: Token, uri: TokenUri) -> bool:
    return (
        uri.token in {"", token.label}
        and uri.serial in {"", _serial(token)}
        and uri.manufacturer in {"", token.manufacturer_id}
        and uri.model in {"", token.model}
    )


def _serial(token: Token) -> str:
    return token.serial.decode(errors="replace").strip()


def _told(error: exceptions.PKCS11Error) -> FleetError:
    """Return what a token says, in words; the name of its error stays, for whoever asks the vendor."""
    name = type(error).__name__
    for kind, words, hint in _WORDS:
        if isinstance(error, kind):
            return BadInputError(f"{words} ({name})", hint=hint)
    return UnreachableError(
        f"the token could not do it ({name})", hint="is it plugged in, and the right one; then try again"
    )
