"""The secret that key files are encrypted with: a systemd credential, which systemd binds to this machine.

What systemd encrypted it with opens it: this machine's own secret, its TPM, or both (systemd-creds(1)). It is
kept nowhere, and never stands in an error or a log.
"""

import os
from pathlib import Path

from device_agent.errors import KeyStoreError, StateError
from device_agent.files import read_file
from device_agent.wire.secret import Secret

CREDENTIAL = "device-agent-key-secret"
"""Name of the credential, as in `LoadCredentialEncrypted=device-agent-key-secret` (systemd.exec(5))."""

_SHORTEST, _LONGEST = 32, 1024
_HINT = f"LoadCredentialEncrypted={CREDENTIAL} in the unit of the agent"


def key_secret() -> Secret:
    """Return the secret that systemd has handed to this process.

    Raises:
        KeyStoreError: it has not, or it is no text of 32 to 1,024 octets.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        content = read_file(Path(folder, CREDENTIAL), most=_LONGEST) if folder else None
    except StateError as error:
        raise KeyStoreError(str(error), hint=_HINT) from error
    if content is None:
        raise KeyStoreError(f"nothing hands over the credential {CREDENTIAL}", hint=_HINT)
    line = content.removesuffix(b"\n")
    if len(line) < _SHORTEST or not line.isascii() or not line.decode("ascii").isprintable():
        raise KeyStoreError(
            f"the credential {CREDENTIAL} is not one line of {_SHORTEST} characters or more",
            hint="openssl rand -base64 32",
        )
    return Secret(line.decode("ascii"))
