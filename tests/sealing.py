"""What systemd does for a unit with a credential: the secret that key files are encrypted with."""

from pathlib import Path

import pytest

from device_agent.keys.sealing import CREDENTIAL

SECRET = "3q2+7wAAqk9mN0ZrT2x1c0hXb0p5cUE5b1h5YlE="


def hand_over(secret: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    credentials = folder / "credentials"
    credentials.mkdir(mode=0o700, exist_ok=True)
    path = credentials / CREDENTIAL
    path.write_text(f"{secret}\n")
    path.chmod(0o440)
    patch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
