"""Key files that are of use on their machine alone."""

import ssl
from pathlib import Path

import pytest

from device_agent.errors import KeyStoreError
from device_agent.keys.kinds import AtRest
from device_agent.keys.place import PLACE, open_keys, settle
from device_agent.keys.sealing import CREDENTIAL
from device_agent.keys.software import FileKeyStore
from tests.sealing import SECRET, hand_over

SOME = frozenset({"k-1"})


def sealed(folder: Path) -> FileKeyStore:
    return FileKeyStore(folder / "keys", at_rest=AtRest.SEALED)


def test_a_sealed_file_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(SECRET, tmp_path, monkeypatch)
    sealed(tmp_path).create("k-1")
    content = (tmp_path / "keys/k-1.pem").read_bytes()
    assert content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert (tmp_path / "keys/k-1.pem").stat().st_mode & 0o777 == 0o600


def test_without_the_secret_no_key_is_made_or_opened_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(SECRET, tmp_path, monkeypatch)
    keys = sealed(tmp_path)
    keys.create("k-1")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    for act in (keys.create, keys.open):
        with pytest.raises(KeyStoreError, match=CREDENTIAL) as caught:
            act("k-1" if act == keys.open else "k-2")
        assert "LoadCredentialEncrypted=" in str(caught.value.hint)
    assert keys.names() == ("k-1",)


def test_another_machines_secret_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(SECRET, tmp_path, monkeypatch)
    sealed(tmp_path).create("k-1")
    hand_over(SECRET[::-1], tmp_path / "keys", monkeypatch)
    with pytest.raises(KeyStoreError, match="this machine's secret") as caught:
        sealed(tmp_path).open("k-1")
    assert SECRET not in f"{caught.value}{caught.value.hint}"


def test_a_key_whose_file_was_encrypted_in_the_meantime_is_not_asked_for_at_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = FileKeyStore(tmp_path / "keys").create("k-1")
    hand_over(SECRET, tmp_path, monkeypatch)
    sealed(tmp_path).create("k-2")
    (tmp_path / "keys/k-2.pem").replace(tmp_path / "keys/k-1.pem")
    with pytest.raises(KeyStoreError, match="cannot be read"):
        signer.arm(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain_pem="")


@pytest.mark.parametrize("secret", ["", "short", "a" * 31, "\x07" * 40, "e\u0301" * 40, "a" * 2000])
def test_a_secret_that_is_too_short_or_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    hand_over(secret, tmp_path, monkeypatch)
    with pytest.raises(KeyStoreError):
        sealed(tmp_path).create("k-1")
    assert sealed(tmp_path).names() == ()


def test_a_device_goes_on_with_its_key_and_seals_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(SECRET, tmp_path, monkeypatch)
    first = open_keys(tmp_path).create("k-1").public_key_der
    settle(tmp_path, "sealed:p384", in_use=SOME)
    keys = open_keys(tmp_path)
    keys.create("k-2")
    assert (tmp_path / PLACE).read_text() == "sealed:p384\n"
    assert keys.open("k-1").public_key_der == first
    assert b"ENCRYPTED" in (tmp_path / "keys/k-2.pem").read_bytes()
