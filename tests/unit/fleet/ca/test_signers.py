"""Key files: encrypted, opened by the right passphrase alone, and refused where others could read them."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.wire.secret import Secret
from fleet.ca.signers import (
    CREDENTIAL,
    FileSigner,
    KeySigner,
    PrivateKey,
    encrypted_pem,
    issuing_passphrase,
    load_key,
    make_key,
    plain_pem,
    rehearsal_key,
)
from fleet.errors import BadInputError, NotFoundError
from fleet.files import write_file

PASSPHRASE = Secret("correct horse")
KEYS: list[PrivateKey] = [
    make_key(),
    ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate(),
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
]


def sealed(key: PrivateKey, work_factor: int = 4) -> bytes:
    return encrypted_pem(key, PASSPHRASE, randomness=os.urandom(32), work_factor=work_factor)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.key"
    write_file(path, sealed(KEYS[0]))
    return path


@pytest.mark.parametrize("key", KEYS, ids=["p256", "p384", "ed25519", "rsa"])
def test_a_key_comes_back_under_its_passphrase(key: PrivateKey, tmp_path: Path) -> None:
    write_file(tmp_path / "key", sealed(key, work_factor=10))
    assert load_key(tmp_path / "key", passphrase=PASSPHRASE).public_key() == key.public_key()


def test_the_same_key_is_never_sealed_twice_alike() -> None:
    assert sealed(KEYS[0]) != sealed(KEYS[0])


def test_a_sealed_key_holds_nothing_of_the_key_in_clear() -> None:
    secret = KEYS[0].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert b"ENCRYPTED" in sealed(KEYS[0])
    assert secret[-100:-70] not in sealed(KEYS[0])


@pytest.mark.parametrize(
    "wrong", [Secret("battery staple"), Secret("correct hors"), Secret("correct horse ")]
)
def test_a_wrong_passphrase_is_told_without_a_word_of_it(key_file: Path, wrong: Secret) -> None:
    with pytest.raises(BadInputError, match="wrong passphrase") as caught:
        load_key(key_file, passphrase=wrong)
    assert wrong.reveal() not in f"{caught.value} {caught.value.hint}"


def test_a_sealed_key_does_not_open_without_a_passphrase(key_file: Path) -> None:
    with pytest.raises(BadInputError, match="is encrypted"):
        load_key(key_file, passphrase=None)


def test_a_plain_key_is_not_taken_for_a_sealed_one(tmp_path: Path) -> None:
    write_file(tmp_path / "key", plain_pem(KEYS[0]))
    assert load_key(tmp_path / "key", passphrase=None).public_key() == KEYS[0].public_key()
    with pytest.raises(BadInputError, match="not encrypted"):
        load_key(tmp_path / "key", passphrase=PASSPHRASE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o610])
def test_a_key_that_others_can_read_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(BadInputError, match="read by others") as caught:
        load_key(key_file, passphrase=PASSPHRASE)
    assert caught.value.hint == f"chmod 600 {key_file}"


def test_a_symbolic_link_to_a_key_is_refused(key_file: Path) -> None:
    link = key_file.with_name("link")
    link.symlink_to(key_file)
    with pytest.raises(BadInputError, match="symbolic link"):
        load_key(link, passphrase=PASSPHRASE)


def test_a_pipe_in_place_of_a_key_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(BadInputError, match="no regular file"):
        load_key(tmp_path / "key", passphrase=PASSPHRASE)


def test_a_missing_key_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_key(tmp_path / "key", passphrase=PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"junk", sealed(KEYS[0])[:-40], b"\xff\xfe"])
def test_a_damaged_key_file_is_told_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    write_file(tmp_path / "key", content)
    with pytest.raises(BadInputError):
        load_key(tmp_path / "key", passphrase=PASSPHRASE)


def test_a_key_of_another_type_is_refused(tmp_path: Path) -> None:
    key = dsa.generate_private_key(2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(tmp_path / "key", pem)
    with pytest.raises(BadInputError, match="not used here"):
        load_key(tmp_path / "key", passphrase=None)


def test_a_signer_opens_its_file_at_its_first_signature_only(key_file: Path) -> None:
    signer = FileSigner(key_file, passphrase=PASSPHRASE, public_key=KEYS[0].public_key())
    first = signer.sign(b"one")
    key_file.unlink()
    assert first != signer.sign(b"two")


def test_a_key_that_does_not_belong_to_its_certificate_is_refused(key_file: Path) -> None:
    signer = FileSigner(key_file, passphrase=PASSPHRASE, public_key=make_key().public_key())
    with pytest.raises(BadInputError, match="another key"):
        signer.sign(b"message")


@pytest.mark.parametrize("key", KEYS, ids=["p256", "p384", "ed25519", "rsa"])
def test_a_rehearsal_key_is_of_the_same_type_and_never_the_same(key: PrivateKey) -> None:
    public = KeySigner(key).public_key
    rehearsal = rehearsal_key(public).public_key()
    assert type(rehearsal) is type(public)
    assert rehearsal != public


def test_the_systemd_credential_goes_before_the_file(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"from the file\n")
    write_file(tmp_path / CREDENTIAL, b"from systemd\n", mode=0o400)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert issuing_passphrase(tmp_path / "file", environment=environment) == Secret("from systemd")
    assert issuing_passphrase(tmp_path / "file", environment={}) == Secret("from the file")


def test_a_credential_may_show_the_mask_of_its_access_list_and_no_more(tmp_path: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    write_file(tmp_path / CREDENTIAL, b"from systemd\n", mode=0o440)
    assert issuing_passphrase(tmp_path / "file", environment=environment) == Secret("from systemd")
    (tmp_path / CREDENTIAL).chmod(0o444)
    with pytest.raises(BadInputError, match="read by others"):
        issuing_passphrase(tmp_path / "file", environment=environment)


def test_credentials_of_other_units_do_not_stand_in_for_ours(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"from the file\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "elsewhere")}
    assert issuing_passphrase(tmp_path / "file", environment=environment) == Secret("from the file")


def test_no_passphrase_anywhere_is_told_with_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no passphrase") as caught:
        issuing_passphrase(tmp_path / "file", environment={})
    assert "LoadCredential" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"\nsecond line\n", b"\xff\xfe\n"])
def test_a_passphrase_file_without_a_first_line_is_refused(tmp_path: Path, content: bytes) -> None:
    write_file(tmp_path / "file", content)
    with pytest.raises(BadInputError, match="holds no passphrase"):
        issuing_passphrase(tmp_path / "file", environment={})


def test_an_open_passphrase_file_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"secret\n", mode=0o644)
    with pytest.raises(BadInputError, match="read by others"):
        issuing_passphrase(tmp_path / "file", environment={})
