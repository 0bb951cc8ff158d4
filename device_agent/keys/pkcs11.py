"""Keys in a PKCS#11 token: made there, never out of there, one label and CKA_ID a generation.

It touches only objects whose labels begin with this device's own prefix.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from device_agent.errors import KeyStoreError
from device_agent.keys import token_kinds
from device_agent.keys.cryptoki import Attribute, Session, Template
from device_agent.keys.kinds import KeyKind
from device_agent.keys.tls_key import PublicKey
from device_agent.keys.token_access import PRIVATE, PUBLIC, TokenAccess, one, require_kept_inside
from device_agent.keys.token_signer import TokenSigner
from device_agent.wire.token_uri import TokenUri

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)


class TokenKeyStore:
    """The keys of one device in a token; nothing is asked of the token before a key is."""

    def __init__(self, uri: TokenUri, *, refused_pins: Path) -> None:
        """`uri.object` is what this device's labels begin with; `refused_pins` a file of its state.

        New keys are of the URI's key type; those that are there may be of others.
        """
        if not uri.object:
            raise KeyStoreError("nothing tells this device's keys from others in the token")
        self._uri, self._kind = uri, KeyKind(uri.key_type or KeyKind.P256)
        self._access = TokenAccess(uri, refused_pins=refused_pins)

    def create(self, name: str) -> TokenSigner:
        self._label(name)
        return self._signer(name, self._access.within(lambda session: self._generate(session, name)))

    def open(self, name: str) -> TokenSigner:
        self._label(name)
        return self._signer(name, self._access.within(lambda session: self._existing(session, name)))

    def destroy(self, name: str) -> None:
        # tpm2-pkcs11 leaves a key in the TPM that it used before it destroyed it, and gives handles out twice
        # after it: there must be a new start on either side.
        self._access.anew()
        self._access.within(lambda session: self._destroy(session, name))
        self._access.anew()

    def names(self) -> tuple[str, ...]:
        """Return the generations that exist, and those that a power cut left half made."""
        return self._access.within(self._names)

    def reference(self, name: str) -> str:
        """Return the RFC 7512 URI of the key, with where its PIN is but without it."""
        return replace(self._uri, object=self._label(name)).text(of_key=True)

    def _signer(self, name: str, public_key: PublicKey) -> TokenSigner:
        return TokenSigner(
            name,
            public_key=public_key,
            access=self._access,
            wanted=self._template(name, PRIVATE),
            reference=self.reference(name),
        )

    def _generate(self, session: Session, name: str) -> PublicKey:
        if self._objects(session, name):
            raise KeyStoreError(f"there is a key {name} already", hint="device-agent doctor")
        label = self._label(name).encode()
        both: Template = {Attribute.TOKEN: True, Attribute.LABEL: label, Attribute.ID: _id(label)}
        mechanism, wanted = token_kinds.recipe(self._kind)
        session.generate(
            mechanism,
            public={**both, **wanted, Attribute.VERIFY: True},
            private={
                **both,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.SIGN: True,
            },
        )
        try:
            return self._existing(session, name)
        except KeyStoreError:
            self._destroy(session, name)
            raise

    def _existing(self, session: Session, name: str) -> PublicKey:
        private = one(session, self._template(name, PRIVATE), name=name)
        require_kept_inside(session, private, name=name)
        return token_kinds.read_public(session, one(session, self._template(name, PUBLIC), name=name))

    def _destroy(self, session: Session, name: str) -> None:
        # The private one first: a cut between the two leaves nothing that can sign.
        for handle in reversed(self._objects(session, name)):
            session.destroy(handle)

    def _names(self, session: Session) -> tuple[str, ...]:
        prefix = f"{self._uri.object}."
        handles = (handle for kind in (PUBLIC, PRIVATE) for handle in session.find({Attribute.CLASS: kind}))
        labels = (session.read(handle, Attribute.LABEL).decode(errors="replace") for handle in handles)
        ours = {label.removeprefix(prefix) for label in labels if label.startswith(prefix)}
        return tuple(sorted(name for name in ours if _NAME.fullmatch(name)))

    def _objects(self, session: Session, name: str) -> tuple[int, ...]:
        """Return all objects of a generation, the public ones first."""
        kinds = (PUBLIC, PRIVATE)
        return tuple(handle for kind in kinds for handle in session.find(self._template(name, kind)))

    def _template(self, name: str, kind: int) -> Template:
        label = self._label(name).encode()
        return {Attribute.CLASS: kind, Attribute.LABEL: label, Attribute.ID: _id(label)}

    def _label(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise KeyStoreError("a key is named by a-z, 0-9 and hyphens")
        return f"{self._uri.object}.{name}"


def _id(label: bytes) -> bytes:
    """Return the CKA_ID of a generation: as long as those that others derive from the public key."""
    return hashlib.sha256(label).digest()[:20]
