"""Where OpenSSL's pkcs11-provider is, if this machine has one."""

import os
import shutil
import subprocess
from pathlib import Path


def provider_path() -> Path | None:
    """Return the one that PKCS11_PROVIDER names, else the system's, or None."""
    named = os.environ.get("PKCS11_PROVIDER")
    if named:
        return Path(named)
    if shutil.which("openssl") is None:
        return None
    told = subprocess.run(["openssl", "version", "-m"], capture_output=True, text=True, check=True).stdout
    found = Path(told.partition('"')[2].partition('"')[0], "pkcs11.so")
    return found if found.exists() else None
