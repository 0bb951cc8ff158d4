"""The key that signs checkpoints of the audit trail for its witnesses: Ed25519, as they want it.

It says no more than the audit key does, in a form that others read; it is made when it is first needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.ca.signers import load_key, plain_pem
from fleet.core.checkpoint import LOG_KEY, Checkpoint, NoteKey, signature_line
from fleet.errors import BadInputError
from fleet.files import telling, write_file

_ORIGIN_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSigner:
    """The fleet's name among logs, and its signature."""

    key: NoteKey
    sign: Callable[[bytes], bytes]

    def line(self, checkpoint: Checkpoint) -> str:
        """Return our line below a checkpoint."""
        return signature_line(self.key, self.sign(checkpoint.text().encode()))


def checkpoint_signer(key_file: Path, *, fleet: str, audit_public: Path) -> CheckpointSigner:
    """Open the key, made and on disk from its first use on.

    The log is named after the fleet and its audit key, so that no two fleets of one name are taken for one.

    Raises:
        FleetError: the key cannot be read or written, or is none of ours.
    """
    with telling(audit_public):
        digest = sha256(audit_public.read_bytes()).digest()
    if not key_file.exists():
        write_file(key_file, plain_pem(Ed25519PrivateKey.generate()))
    key = load_key(key_file, passphrase=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInputError(f"{key_file} holds no Ed25519 key", hint="restore it from the backup")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    origin = f"{fleet}/{digest[:_ORIGIN_BYTES].hex()}"
    return CheckpointSigner(key=NoteKey(name=origin, kind=LOG_KEY, public=public), sign=key.sign)
