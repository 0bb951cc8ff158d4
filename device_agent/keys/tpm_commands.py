"""The few commands of a TPM 2.0 that a device's keys need (TPM 2.0 Library Part 3), each as a method.

It knows hierarchies without a password only, as TPMs of devices have them. What is loaded is flushed by
whoever loaded it: a TPM has room for three objects.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from device_agent.errors import KeyStoreError
from device_agent.keys.tpm_link import Link
from device_agent.keys.tpm_templates import sized

OWNER, ENDORSEMENT = 0x40000001, 0x4000000B
_NULL_HANDLE = 0x40000007
_PLAIN, _SESSIONS = 0x8001, 0x8002
_PASSWORD = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
"""TPMS_AUTH_COMMAND of an empty password."""
_NO_TICKET = struct.pack(">HIH", 0x8024, _NULL_HANDLE, 0)
_ECDSA_SHA256 = struct.pack(">HH", 0x0018, 0x000B)
_NULL_ALGORITHM, _SHA256 = 0x0010, 0x000B
_NV_PART = 512

_CERTIFY, _ACTIVATE, _CREATE_PRIMARY = 0x148, 0x147, 0x131
_NV_READ, _POLICY_SECRET, _CREATE, _LOAD = 0x14E, 0x151, 0x153, 0x157
_SIGN, _FLUSH, _NV_READ_PUBLIC, _START_SESSION = 0x15D, 0x165, 0x169, 0x176

_WORDS = {
    0x100: "it was not started",
    0x18B: "there is no such object",
    0x1DF: "the key is another TPM's",
    0x902: "it has no room for another object: a resource manager is missing",
    0x921: "it is locked for a while after too many wrong tries",
    0x98E: "a password is set where none was expected",
    0x9A2: "a password is set where none was expected",
}


class TpmCallError(KeyStoreError):
    """The TPM refused a command; `code` is its response code (Part 2, 6.6)."""

    def __init__(self, code: int) -> None:
        words = _WORDS.get(code, "for a reason that has no name here")
        super().__init__(f"the TPM refuses: {words} ({code:#x})", hint="device-agent doctor")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An object in the TPM, by its handle, with its public area (TPM2B_PUBLIC)."""

    handle: int
    public: bytes


class _Reader:
    """The fields of a response."""

    def __init__(self, octets: bytes) -> None:
        self._octets, self._at = octets, 0

    def take(self, count: int) -> bytes:
        found = self._octets[self._at : self._at + count]
        if len(found) != count:
            raise KeyStoreError("the TPM's response ends too early")
        self._at += count
        return found

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets))

    def sized(self) -> bytes:
        return self.take(self.number(2))

    def parameters(self) -> bytes:
        """Return the parameters of a response with sessions; what follows is for the sessions."""
        return self.take(self.number(4))

    def rest(self) -> bytes:
        return self.take(len(self._octets) - self._at)


class Tpm:
    """Commands over an open link; every method raises `KeyStoreError`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @contextmanager
    def primary(self, hierarchy: int, template: bytes) -> Iterator[Loaded]:
        """Make the key that a template always makes in a hierarchy, for as long as the body runs."""
        no_secret = sized(sized(b"") + sized(b""))
        parameters = no_secret + sized(template) + sized(b"") + bytes(4)
        handle, found = self._call(_CREATE_PRIMARY, [hierarchy], parameters, auths=1, makes_handle=True)
        with self._flushed(handle):
            yield Loaded(handle=handle, public=sized(found.sized()))

    def create(self, parent: Loaded, template: bytes) -> tuple[bytes, bytes]:
        """Make a key under another; return its private part, which the TPM alone can read, and its public."""
        no_secret = sized(sized(b"") + sized(b""))
        parameters = no_secret + sized(template) + sized(b"") + bytes(4)
        _, found = self._call(_CREATE, [parent.handle], parameters, auths=1)
        return sized(found.sized()), sized(found.sized())

    @contextmanager
    def loaded(self, parent: Loaded, *, private: bytes, public: bytes) -> Iterator[Loaded]:
        """Load a key that was made under a parent, for as long as the body runs."""
        handle, _ = self._call(_LOAD, [parent.handle], private + public, auths=1, makes_handle=True)
        with self._flushed(handle):
            yield Loaded(handle=handle, public=public)

    def sign(self, key: Loaded, digest: bytes) -> tuple[int, int]:
        """Return r and s of an ECDSA signature of a SHA-256 digest."""
        _, found = self._call(_SIGN, [key.handle], sized(digest) + _ECDSA_SHA256 + _NO_TICKET, auths=1)
        found.number(4)  # scheme and hash, as they were asked for
        return int.from_bytes(found.sized()), int.from_bytes(found.sized())

    def certify(self, key: Loaded, *, by: Loaded, qualifying_data: bytes) -> tuple[bytes, bytes]:
        """Have a key attest another; return TPMS_ATTEST and TPMT_SIGNATURE."""
        parameters = sized(qualifying_data) + struct.pack(">H", _NULL_ALGORITHM)
        _, found = self._call(_CERTIFY, [key.handle, by.handle], parameters, auths=2)
        return found.sized(), found.rest()

    def activate(self, ak: Loaded, ek: Loaded, *, credential: bytes, secret: bytes) -> bytes:
        """Open what was wrapped for an endorsement key and an attestation key."""
        with self._endorsement_session() as session:
            auth = _PASSWORD + struct.pack(">IHBH", session, 0, 0, 0)
            handles = [ak.handle, ek.handle]
            _, found = self._call(_ACTIVATE, handles, credential + secret, auth=auth)
        return found.sized()

    def nv(self, index: int) -> bytes | None:
        """Return what stands at an index that anybody may read; None where there is nothing."""
        try:
            _, found = self._call(_NV_READ_PUBLIC, [index], b"")
        except TpmCallError:
            return None
        public = _Reader(found.sized())
        public.take(4 + 2 + 4)  # index, hash, attributes
        public.sized()
        size, content = public.number(2), b""
        while len(content) < size:
            part = struct.pack(">HH", min(_NV_PART, size - len(content)), len(content))
            _, read = self._call(_NV_READ, [index, index], part, auths=1)
            content += read.sized()
        return content

    @contextmanager
    def _endorsement_session(self) -> Iterator[int]:
        """Open a policy session that says: whoever may use the endorsement hierarchy (Part 3, 23.4)."""
        parameters = sized(os.urandom(32)) + sized(b"") + struct.pack(">BHH", 1, _NULL_ALGORITHM, _SHA256)
        handles = [_NULL_HANDLE, _NULL_HANDLE]
        session, _ = self._call(_START_SESSION, handles, parameters, makes_handle=True)
        try:
            nothing = sized(b"") * 3 + bytes(4)
            self._call(_POLICY_SECRET, [ENDORSEMENT, session], nothing, auths=1)
            yield session
        except BaseException:
            self._flush(session)
            raise
        # A session without continueSession ends with the command that it authorized.

    @contextmanager
    def _flushed(self, handle: int) -> Iterator[None]:
        try:
            yield
        finally:
            self._flush(handle)

    def _flush(self, handle: int) -> None:
        try:
            self._call(_FLUSH, [], handle.to_bytes(4))
        except TpmCallError:
            return  # it is gone already

    def _call(
        self,
        code: int,
        handles: list[int],
        parameters: bytes,
        *,
        auths: int = 0,
        auth: bytes = b"",
        makes_handle: bool = False,
    ) -> tuple[int, _Reader]:
        area = auth or _PASSWORD * auths
        body = b"".join(handle.to_bytes(4) for handle in handles)
        body += (struct.pack(">I", len(area)) + area if area else b"") + parameters
        head = struct.pack(">HII", _SESSIONS if area else _PLAIN, 10 + len(body), code)
        response = _Reader(self._link.transact(head + body))
        response.take(6)
        if (failure := response.number(4)) != 0:
            raise TpmCallError(failure)
        handle = response.number(4) if makes_handle else 0
        return handle, _Reader(response.parameters()) if area else response
