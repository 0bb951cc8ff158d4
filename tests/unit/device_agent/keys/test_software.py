"""Key files: who may read them, and what is no key."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.errors import KeyStoreError
from device_agent.keys.software import FileKeyStore


def pem(key: ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_files_and_folder_are_their_owners_alone(tmp_path: Path) -> None:
    FileKeyStore(tmp_path / "keys").create("k-1")
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / "k-1.pem").stat().st_mode) == 0o600


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    keys = FileKeyStore(tmp_path)
    keys.create("k-1")
    (tmp_path / "k-1.pem").chmod(0o640)
    with pytest.raises(KeyStoreError, match="others") as caught:
        keys.open("k-1")
    assert caught.value.hint == f"chmod 600 {tmp_path / 'k-1.pem'}"


def test_a_link_in_the_place_of_a_key_is_refused(tmp_path: Path) -> None:
    keys = FileKeyStore(tmp_path)
    keys.create("k-1")
    (tmp_path / "k-2.pem").symlink_to(tmp_path / "k-1.pem")
    with pytest.raises(KeyStoreError, match="cannot read"):
        keys.open("k-2")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        pem(ed448.Ed448PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP521R1())),
        b"x" * 20000,
    ],
    ids=["empty", "junk", "ed448", "p521", "large"],
)
def test_a_file_that_is_no_key_of_ours_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k-1.pem"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyStoreError):
        FileKeyStore(tmp_path).open("k-1")


def test_files_that_are_not_ours_are_not_counted(tmp_path: Path) -> None:
    keys = FileKeyStore(tmp_path)
    keys.create("k-1")
    (tmp_path / "README.pem").write_text("not a key name")
    assert keys.names() == ("k-1",)


def test_a_key_that_a_power_cut_left_half_made_is_named_and_can_be_destroyed(tmp_path: Path) -> None:
    keys = FileKeyStore(tmp_path)
    (tmp_path / ".k-2.pem.new").write_text("-----BEGIN PRIVATE")
    assert keys.names() == ("k-2",)
    keys.destroy("k-2")
    assert list(tmp_path.iterdir()) == []
