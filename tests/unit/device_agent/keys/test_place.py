"""Where a device's keys live is said once."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from device_agent.errors import BadInputError, StateError
from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.place import PLACE, forget, open_keys, open_tpm, settle
from device_agent.keys.software import FileKeyStore
from device_agent.keys.tpm import TpmAttestor, TpmKeyStore

TOKEN = "pkcs11:token=a?module-path=/m.so&pin-source=file:/pin"
NONE: frozenset[str] = frozenset()
SOME = frozenset({"k-1"})


def test_keys_live_in_files_unless_told_otherwise(tmp_path: Path) -> None:
    assert isinstance(open_keys(tmp_path), FileKeyStore)
    settle(tmp_path, "file:", in_use=SOME)
    assert isinstance(open_keys(tmp_path), FileKeyStore)


def test_a_token_is_kept_with_a_prefix_of_this_device_alone(tmp_path: Path) -> None:
    references = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        settle(tmp_path / name, TOKEN, in_use=NONE)
        settle(tmp_path / name, TOKEN, in_use=SOME)
        keys = open_keys(tmp_path / name)
        assert isinstance(keys, TokenKeyStore)
        references.add(keys.reference("k-1"))
    assert len(references) == 2


TPM = "tpm:device:/dev/tpm1"


def test_a_tpm_is_kept_as_the_place_of_the_keys(tmp_path: Path) -> None:
    settle(tmp_path, TPM, in_use=NONE)
    settle(tmp_path, TPM, in_use=SOME)
    assert isinstance(open_keys(tmp_path), TpmKeyStore)
    assert isinstance(open_tpm(tmp_path), TpmAttestor)
    forget(tmp_path)
    with pytest.raises(BadInputError, match="in no TPM"):
        open_tpm(tmp_path)


def test_the_next_key_in_a_token_may_be_of_another_kind_under_the_same_prefix(tmp_path: Path) -> None:
    settle(tmp_path, TOKEN, in_use=NONE)
    before = open_keys(tmp_path).reference("k-1")
    settle(tmp_path, f"{TOKEN}&key-type=rsa", in_use=SOME)
    assert open_keys(tmp_path).reference("k-1") == before
    assert (tmp_path / PLACE).read_text().endswith("&key-type=rsa\n")


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("file:", TOKEN),
        (TOKEN, "file:"),
        (TOKEN, f"{TOKEN}x"),
        (TPM, "file:"),
        (TPM, TOKEN),
        (TPM, f"{TPM}2"),
    ],
)
def test_keys_in_use_stay_where_they_are(tmp_path: Path, held: str, wanted: str) -> None:
    settle(tmp_path, held, in_use=NONE)
    with pytest.raises(BadInputError, match="already"):
        settle(tmp_path, wanted, in_use=SOME)
    settle(tmp_path, wanted, in_use=NONE)
    settle(tmp_path, wanted, in_use=SOME)


def test_the_next_key_in_a_file_may_be_of_another_kind(tmp_path: Path) -> None:
    open_keys(tmp_path).create("k-1")
    settle(tmp_path, "file:p384", in_use=SOME)

    keys = open_keys(tmp_path)
    keys.create("k-2")
    curves = [load_der_public_key(keys.open(name).public_key_der) for name in ("k-1", "k-2")]
    assert [key.curve.name for key in curves if isinstance(key, ec.EllipticCurvePublicKey)] == [
        "secp256r1",
        "secp384r1",
    ]
    settle(tmp_path, "file:", in_use=SOME)
    assert not (tmp_path / PLACE).exists()


@pytest.mark.parametrize(
    "wanted", ["tpm", "", "file:p521", "file:/keys", "pkcs11:object=k;token=a?module-path=/m.so", "pkcs11:"]
)
def test_another_place_is_refused(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(BadInputError):
        settle(tmp_path, wanted, in_use=NONE)


def test_a_damaged_place_is_not_taken_for_files(tmp_path: Path) -> None:
    (tmp_path / PLACE).write_bytes(b"")
    with pytest.raises(StateError, match="does not say where the keys are"):
        open_keys(tmp_path)


def test_a_reset_device_begins_with_files_again(tmp_path: Path) -> None:
    settle(tmp_path, TOKEN, in_use=NONE)
    forget(tmp_path)
    assert isinstance(open_keys(tmp_path), FileKeyStore)
