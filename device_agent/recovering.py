"""Brings a device that has had an identity back: the same id, by a new key, for a code or by its hardware.

What the device holds stays until the new certificate is confirmed, and goes on where it is refused.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from device_agent.core.events import ProofGiven
from device_agent.core.stored import StoredRecord, read_anchors
from device_agent.core.trust import HeldTrust, Source
from device_agent.errors import BadInputError, KeyStoreError, NotEnrolledError
from device_agent.keys.place import open_keys, open_tpm, settle
from device_agent.life import Life
from device_agent.ports import KeyStore
from device_agent.store import open_store
from device_agent.wire.fields import Fields
from device_agent.wire.identity import Identity, parse_name
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import HttpsAddress
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from device_agent.wire.trust import FLEET_REALM

_LONGEST_CODE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What brings it back, and what has changed about the server since the device was there last."""

    code: Secret | None = None
    """An operator's; None: the hardware that it was first let in by."""
    https: HttpsAddress | None = None
    """Its HTTPS listener, where it has moved."""
    trust_pem: str = ""
    """Roots by which servers are trusted, where those that the device holds are of the past."""

    def members(self) -> dict[str, object]:
        """Return the members for the running agent's own socket, the code in clear."""
        return {
            "code": None if self.code is None else self.code.reveal(),
            "https": None if self.https is None else self.https.members(),
            "trust": self.trust_pem or None,
        }

    @classmethod
    def read(cls, fields: Fields) -> "Recovery":
        """Read the members; raises `MalformedMessageError`."""
        return cls(
            code=Secret(fields.text("code", longest=_LONGEST_CODE)) if "code" in fields else None,
            https=HttpsAddress.read(fields.object("https")) if "https" in fields else None,
            trust_pem=fields.pem("trust") if "trust" in fields else "",
        )


def identity_of(record: StoredRecord) -> Identity:
    """Return who the device is, whatever its certificate is worth by now; raises `NotEnrolledError`."""
    if record.life.active is None:
        raise NotEnrolledError("there is no identity here to recover", hint="device-agent enroll")
    return parse_name(record.life.active.broker.name)


def begin(life: Life, recovery: Recovery, *, state: Path) -> None:
    """Put what brings it back into the record, before a key is made or anything is asked.

    Raises:
        NotEnrolledError: the device never had a certificate.
        BadInputError: the roots cannot be read, no address of a server is known, or no hardware proves it.
        StateError: where its keys are cannot be read.
    """
    record = life.record
    identity = identity_of(record)
    bootstrap = record.bootstrap
    if bootstrap is not None and bootstrap.domain:
        bootstrap = None  # it was for the certificate of another CA, which is not what is asked by now
    https = recovery.https or record.recovery
    if https is None and bootstrap is None and record.est is None:
        raise BadInputError(
            "this device knows no address to show a code at", hint="--https HOST:PORT of the fleet's server"
        )
    onto = replace(record, device_id=identity.device_id, bootstrap=bootstrap, recovery=https)
    if recovery.trust_pem:
        onto = _trusting(onto, recovery.trust_pem, life)
    proof = (
        _of_hardware(record, state)
        if recovery.code is None
        else Proof(kind=ProofKind.CODE, code=recovery.code)
    )
    life.take(ProofGiven(proof=proof), onto=onto)


def _of_hardware(record: StoredRecord, state: Path) -> Proof:
    """Return the proof that the device was first let in by, or could have been; raises `BadInputError`."""
    bootstrap = record.bootstrap
    if bootstrap is None or bootstrap.domain:
        raise BadInputError(
            "this device was let in by no hardware of its own", hint="device-agent recover, with a code"
        )
    if bootstrap.idevid_key:
        return Proof(kind=ProofKind.IDEVID)
    if bootstrap.piv_attestation:
        return Proof(kind=ProofKind.PIV)
    open_tpm(state)
    return Proof(kind=ProofKind.TPM)


def _trusting(record: StoredRecord, trust_pem: str, life: Life) -> StoredRecord:
    try:
        anchors = read_anchors(trust_pem)
    except MalformedMessageError as error:
        raise BadInputError(
            f"the roots to trust cannot be read: {error}", hint="--trust takes the home's trust/server.pem"
        ) from error
    told = HeldTrust(realm=FLEET_REALM, since=life.now().replace(microsecond=0), source=Source.ENROLLMENT)
    return record.believing(anchors, told)


def move_keys(state: Path, wanted: str) -> None:
    """Have new keys made elsewhere, where those that the record names can be used no more.

    Raises:
        BadInputError: it is no place, or keys are in use where they are.
        LockedError: an agent works there. StateError: the folder cannot be read or written.
    """
    with open_store(state) as store:
        keys = open_keys(state)
        settle(state, wanted, in_use=frozenset(name for name in store.keys_in_use() if _works(keys, name)))


def _works(keys: KeyStore, name: str) -> bool:
    try:
        keys.open(name).sign(b"")
    except KeyStoreError:
        return False
    return True
