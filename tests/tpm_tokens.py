"""A TPM 2.0 as a PKCS#11 token for tests: tpm2-pkcs11 before a real swtpm."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_agent.keys import cryptoki
from device_agent.keys.cryptoki import CallError
from tests.swtpm import SwTpm, running_tpm
from tests.tokens import PIN

MODULE = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so"
PROGRAMS = ("swtpm", "swtpm_setup", "tpm2_ptool", "pkcs11-tool")
_SO_PIN = "12345678"


@dataclass(frozen=True, kw_only=True)
class TpmToken:
    """The token, with a file that holds its PIN."""

    tpm: SwTpm
    pin_file: Path
    label: str = "device"

    @property
    def uri(self) -> str:
        return f"pkcs11:token={self.label}?module-path={MODULE}&pin-source=file:{self.pin_file}"

    def objects(self) -> str:
        """Return what OpenSC finds in the token."""
        return _tool("--login", "--pin", PIN, "--list-objects")


@contextmanager
def tpm_token(folder: Path) -> Iterator[TpmToken]:
    """Make a TPM and the token in it, and let this process find it as long as the body runs."""
    with running_tpm(folder / "tpm", certified=False) as tpm, pytest.MonkeyPatch.context() as patch:
        store = folder / "store"
        store.mkdir()
        patch.setenv("TPM2_PKCS11_TCTI", tpm.place)
        patch.setenv("TPM2_PKCS11_STORE", str(store))
        # What the TPM says of keys that it has no room for is no error of the module's: it is asked again.
        patch.setenv("TSS2_LOG", "all+none")
        patch.setenv("TPM2_PKCS11_LOG_LEVEL", "0")
        pin_file = folder / "pin"
        pin_file.touch(mode=0o600)
        pin_file.write_text(f"{PIN}\n")
        _tool("--init-token", "--label", "device", "--so-pin", _SO_PIN)
        _tool("--init-pin", "--login", "--login-type", "so", "--so-pin", _SO_PIN, "--pin", PIN)
        yield TpmToken(tpm=tpm, pin_file=pin_file)
        with suppress(CallError):
            # Log out while the TPM is there: at the end of the process it no longer is.
            cryptoki.load(MODULE).restart()


def _tool(*options: str) -> str:
    command = ["pkcs11-tool", "--module", MODULE, *options]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, f"{options[0]} ended with {ended.returncode}: {ended.stderr}"
    return ended.stdout
