"""PKCS#11 (v2.40) by ctypes: the calls that a device's keys need, no more, and no package for it.

A module is initialised once a process, with locking by the operating system, and again after a fork: a
child that used its parent's sessions would disturb them. Every use is under the module's one lock, so
that a restart can never pull a session from under another thread. It knows no key and keeps no PIN.
"""

import atexit
import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from pathlib import Path

from device_agent.errors import KeyStoreError

_OK = 0
_ALREADY_INITIALIZED = 0x191
_ALREADY_LOGGED_IN = 0x100
_OS_LOCKING_OK = 2
_SERIAL_SESSION = 4
_READ_WRITE = 2
_USER = 1
_ROOM = 4096
_BATCH = 64

Value = bytes | bool | int
Template = Mapping["Attribute", Value]


class Attribute(IntEnum):
    """CKA_ constants (PKCS#11 base specification 2.40, appendix)."""

    CLASS = 0
    TOKEN = 1
    PRIVATE = 2
    LABEL = 3
    KEY_TYPE = 0x100
    ID = 0x102
    SENSITIVE = 0x103
    SIGN = 0x108
    VERIFY = 0x10A
    MODULUS = 0x120
    MODULUS_BITS = 0x121
    PUBLIC_EXPONENT = 0x122
    EXTRACTABLE = 0x162
    LOCAL = 0x163
    NEVER_EXTRACTABLE = 0x164
    ALWAYS_SENSITIVE = 0x165
    EC_PARAMS = 0x180
    EC_POINT = 0x181


class CallError(Exception):
    """A call returned something else than CKR_OK."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: 0x{code:x}")
        self.function, self.code = function, code


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """What CK_TOKEN_INFO says of the token in a slot."""

    slot: int
    label: str
    manufacturer: str
    model: str
    serial: str


class _InitializeArgs(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("create", "destroy", "lock", "unlock")),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class _Attribute(ctypes.Structure):
    _fields_ = (("type", ctypes.c_ulong), ("value", ctypes.c_void_p), ("length", ctypes.c_ulong))


class _Mechanism(ctypes.Structure):
    _fields_ = (("mechanism", ctypes.c_ulong), ("parameter", ctypes.c_void_p), ("length", ctypes.c_ulong))


_P, _U = ctypes.c_void_p, ctypes.c_ulong
_FUNCTIONS: Mapping[str, tuple[int, tuple[type[ctypes.c_void_p | ctypes.c_ulong | ctypes.c_ubyte], ...]]] = {
    "C_Initialize": (0, (_P,)),
    "C_Finalize": (1, (_P,)),
    "C_GetSlotList": (4, (ctypes.c_ubyte, _P, _P)),
    "C_GetTokenInfo": (6, (_U, _P)),
    "C_OpenSession": (12, (_U, _U, _P, _P, _P)),
    "C_Login": (18, (_U, _U, _P, _U)),
    "C_Logout": (19, (_U,)),
    "C_DestroyObject": (22, (_U, _U)),
    "C_GetAttributeValue": (24, (_U, _U, _P, _U)),
    "C_FindObjectsInit": (26, (_U, _P, _U)),
    "C_FindObjects": (27, (_U, _P, _U, _P)),
    "C_FindObjectsFinal": (28, (_U,)),
    "C_SignInit": (42, (_U, _P, _U)),
    "C_Sign": (43, (_U, _P, _U, _P, _P)),
    "C_GenerateKeyPair": (59, (_U, _P, _P, _U, _P, _U, _P, _P)),
}
"""Place in CK_FUNCTION_LIST, after its version, and arguments."""


class Sharing(Enum):
    """Whether something else of this process uses the same library."""

    ALONE = auto()
    """Nothing does."""
    BESIDE_OTHERS = auto()
    """Something may: each has a copy of its own then, as a new start of one would end the other."""


class Module:
    """One loaded library. Got by `load`; used within `using` alone."""

    def __init__(self, path: str, *, sharing: Sharing) -> None:
        try:
            self._library = ctypes.CDLL(path) if sharing is Sharing.ALONE else _copy_of(path)
            self._functions = _function_list(self._library)
        except (OSError, AttributeError) as error:
            raise KeyStoreError(
                f"{path} is no PKCS#11 module that can be loaded", hint="is module-path right"
            ) from error
        self._lock = threading.RLock()
        self._sessions: dict[int, int] = {}
        self._needs_restart = False
        self._initialize()
        atexit.register(self._log_out)
        # Held over the fork: the child must not find a call half done by a thread that it does not have.
        os.register_at_fork(
            before=self._lock.acquire,
            after_in_parent=self._lock.release,
            after_in_child=self._forked,
        )

    @contextmanager
    def using(self) -> Iterator[None]:
        """Hold the module; raises `CallError` where it cannot be initialised after a fork."""
        with self._lock:
            if self._needs_restart:
                self.restart()
            yield

    def restart(self) -> None:
        """Forget every session and look at the slots anew: for a token that went and came back."""
        self._log_out()
        self._needs_restart = True
        self._functions["C_Finalize"](None)
        self._initialize()
        self._needs_restart = False

    def begin_anew(self) -> None:
        """Have the next use begin with a restart."""
        with self._lock:
            self._needs_restart = True

    def tokens(self) -> tuple[TokenInfo, ...]:
        """Return the tokens that are present."""
        count = ctypes.c_ulong()
        self._call("C_GetSlotList", 1, None, ctypes.byref(count))
        slots = (ctypes.c_ulong * count.value)()
        self._call("C_GetSlotList", 1, slots, ctypes.byref(count))
        return tuple(self._token_info(slot) for slot in slots[: count.value])

    def session(self, slot: int, *, log_in: Callable[["Session"], None]) -> "Session":
        """Return the one session with a slot; the first time `log_in` is called on it."""
        handle = self._sessions.get(slot)
        if handle is not None:
            return Session(self, handle)
        opened = ctypes.c_ulong()
        # It is never closed: closing the one that logged in logs out.
        self._call("C_OpenSession", slot, _SERIAL_SESSION | _READ_WRITE, None, None, ctypes.byref(opened))
        session = Session(self, opened.value)
        log_in(session)
        self._sessions[slot] = opened.value
        return session

    def _call(self, name: str, *arguments: object) -> None:
        code = self._functions[name](*arguments)
        if code != _OK:
            raise CallError(name, code)

    def _token_info(self, slot: int) -> TokenInfo:
        block = ctypes.create_string_buffer(512)
        self._call("C_GetTokenInfo", slot, block)
        label, manufacturer, model, serial = (
            block.raw[start:end].decode(errors="replace").rstrip("\0 ")
            for start, end in ((0, 32), (32, 64), (64, 80), (80, 96))
        )
        return TokenInfo(slot=slot, label=label, manufacturer=manufacturer, model=model, serial=serial)

    def _initialize(self) -> None:
        arguments = _InitializeArgs(flags=_OS_LOCKING_OK)
        code = self._functions["C_Initialize"](ctypes.byref(arguments))
        if code not in (_OK, _ALREADY_INITIALIZED):
            raise CallError("C_Initialize", code)

    def _log_out(self) -> None:
        """Log out everywhere: without a resource manager, a TPM keeps what it holds for who did not."""
        while self._sessions:
            _, handle = self._sessions.popitem()
            self._functions["C_Logout"](handle)

    def _forked(self) -> None:
        self._lock = threading.RLock()
        self._sessions.clear()  # they are the parent's, and logging out would end what it does
        self._needs_restart = True


class Session:
    """A session with one token, logged in."""

    def __init__(self, module: Module, handle: int) -> None:
        self._call, self._handle = module._call, handle

    def log_in(self, pin: str) -> None:
        """Log in as the user; raises `CallError`. To be logged in already is to be logged in."""
        octets = pin.encode()
        try:
            self._call("C_Login", self._handle, _USER, octets, len(octets))
        except CallError as error:
            if error.code != _ALREADY_LOGGED_IN:
                raise

    def find(self, template: Template) -> tuple[int, ...]:
        """Return the objects that have these attributes."""
        wanted, _keep = _attributes(template)
        self._call("C_FindObjectsInit", self._handle, wanted, len(template))
        found: list[int] = []
        try:
            while batch := self._next_objects():
                found += batch
        finally:
            self._call("C_FindObjectsFinal", self._handle)
        return tuple(found)

    def read(self, handle: int, attribute: Attribute) -> bytes:
        """Return an attribute's octets."""
        room = ctypes.create_string_buffer(_ROOM)
        block = (_Attribute * 1)(_Attribute(attribute, ctypes.cast(room, ctypes.c_void_p), _ROOM))
        self._call("C_GetAttributeValue", self._handle, handle, block, 1)
        length: int = block[0].length
        return room.raw[:length]

    def generate(self, mechanism: int, *, public: Template, private: Template) -> tuple[int, int]:
        """Make a key pair in the token; return the public and the private object."""
        public_block, _keep = _attributes(public)
        private_block, _keep_too = _attributes(private)
        handles = (ctypes.c_ulong * 2)()
        size = ctypes.sizeof(ctypes.c_ulong)
        self._call(
            "C_GenerateKeyPair",
            self._handle,
            ctypes.byref(_Mechanism(mechanism, None, 0)),
            public_block,
            len(public),
            private_block,
            len(private),
            ctypes.byref(handles),
            ctypes.byref(handles, size),
        )
        return handles[0], handles[1]

    def sign(self, handle: int, mechanism: int, data: bytes, *, parameter: bytes = b"") -> bytes:
        """Return what the token makes of data with a private key."""
        held = ctypes.create_string_buffer(parameter, len(parameter)) if parameter else None
        how = _Mechanism(mechanism, ctypes.cast(held, ctypes.c_void_p) if held else None, len(parameter))
        self._call("C_SignInit", self._handle, ctypes.byref(how), handle)
        room, length = ctypes.create_string_buffer(_ROOM), ctypes.c_ulong(_ROOM)
        self._call("C_Sign", self._handle, data, len(data), room, ctypes.byref(length))
        return room.raw[: length.value]

    def destroy(self, handle: int) -> None:
        """Destroy an object."""
        self._call("C_DestroyObject", self._handle, handle)

    def _next_objects(self) -> Sequence[int]:
        batch, count = (ctypes.c_ulong * _BATCH)(), ctypes.c_ulong()
        self._call("C_FindObjects", self._handle, batch, _BATCH, ctypes.byref(count))
        return list(batch[: count.value])


# PKCS#11 is initialised once a process (2.40, 5.4): two `Module`s of one library would end each other.
_loaded: dict[str, Module] = {}
_loading = threading.Lock()


def load(path: str, *, sharing: Sharing = Sharing.ALONE) -> Module:
    """Return the module of this process for a library; `sharing` counts for who asks first.

    Raises:
        KeyStoreError: it cannot be loaded. CallError: it cannot be initialised.
    """
    real = os.path.realpath(path)
    with _loading:
        if real not in _loaded:
            _loaded[real] = Module(real, sharing=sharing)
        return _loaded[real]


def _copy_of(path: str) -> ctypes.CDLL:
    """Load a copy of a library: the loader knows files by their inode, so this one has state of its own."""
    descriptor = os.memfd_create("module")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(Path(path).read_bytes())
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _function_list(library: ctypes.CDLL) -> Mapping[str, Callable[..., int]]:
    start = ctypes.c_void_p()
    code: int = library.C_GetFunctionList(ctypes.byref(start))
    if code != _OK or start.value is None:
        raise CallError("C_GetFunctionList", code)
    # CK_VERSION takes two octets, and the first pointer's alignment makes them as wide as a pointer.
    table = start.value + ctypes.sizeof(ctypes.c_void_p)
    last = max(place for place, _ in _FUNCTIONS.values())
    pointers = (ctypes.c_void_p * (last + 1)).from_address(table)
    return {
        name: ctypes.CFUNCTYPE(ctypes.c_ulong, *arguments)(pointers[place] or 0)
        for name, (place, arguments) in _FUNCTIONS.items()
    }


def _attributes(template: Template) -> tuple[ctypes.Array[_Attribute], list[object]]:
    """Return a CK_ATTRIBUTE array, and what must live as long as it."""
    rooms = [ctypes.create_string_buffer(_octets(value), len(_octets(value))) for value in template.values()]
    block = (_Attribute * len(template))(
        *(
            _Attribute(name, ctypes.cast(room, ctypes.c_void_p), len(room))
            for name, room in zip(template, rooms, strict=True)
        )
    )
    return block, [rooms]


def _octets(value: Value) -> bytes:
    match value:
        case bytes():
            return value
        case bool():
            return b"\x01" if value else b"\x00"
        case int():
            return bytes(ctypes.c_ulong(value))
