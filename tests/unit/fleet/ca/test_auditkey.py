"""The audit key: what it signed verifies, anything else does not."""

from pathlib import Path

import pytest

from fleet.ca.auditkey import load_audit_signer, load_audit_verifier, make_audit_key
from fleet.errors import BadInputError, FleetError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    make_audit_key(key, public_file=public)
    return key, public


def test_a_signed_head_verifies_and_a_changed_one_does_not(files: tuple[Path, Path]) -> None:
    sign, is_signed = load_audit_signer(files[0]), load_audit_verifier(files[1])
    signature = sign(b"head")
    assert is_signed(signature, b"head")
    assert not is_signed(signature, b"hea")
    assert not is_signed(signature[:-1], b"head")
    assert not is_signed(b"", b"head")


def test_the_signature_of_another_key_does_not_verify(files: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    make_audit_key(other, public_file=tmp_path / "other-public.pem")
    assert not load_audit_verifier(files[1])(load_audit_signer(other)(b"head"), b"head")


def test_the_key_is_for_its_owner_alone_and_the_public_half_for_all(files: tuple[Path, Path]) -> None:
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o644]


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_damaged_public_key_is_told(files: tuple[Path, Path], content: bytes) -> None:
    files[1].write_bytes(content)
    with pytest.raises(BadInputError):
        load_audit_verifier(files[1])


def test_a_missing_public_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(FleetError):
        load_audit_verifier(tmp_path / "public.pem")
