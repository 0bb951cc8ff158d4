"""TPM attestation: each rule that keeps a key that is not inside from looking as if it were."""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.evidence import TpmEvidence
from fleet.attest.octets import BrokenStructureError, sized
from fleet.attest.proof import Statement
from fleet.attest.tpm import TpmVerifier, read_tpm
from fleet.attest.tpm_attest import read_certified, read_signature
from fleet.attest.tpm_credential import make_credential
from fleet.attest.tpm_public import Attribute, read_public
from fleet.errors import RefusedError
from fleet.model import Assurance
from tests.soft_tpm import (
    AK,
    EK,
    KEY,
    SoftTpm,
    attest_of,
    der_of,
    new_key,
    public_area,
    signature_of,
)
from tests.swtpm import SwTpm, running_tpm

NONCE, SECRET = "5a" * 32, bytes(range(32))
NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)


def statement(tpm: SoftTpm) -> Statement:
    key_hash = hashlib.sha256(der_of(tpm.key)).hexdigest()
    return Statement(fleet="acme", domain="prod", device_id="d1", key_hash=key_hash, at=NOW)


def verify(tpm: SoftTpm, evidence: TpmEvidence | None = None, *, listed: bool = True) -> Assurance:
    shown = evidence or tpm.evidence(nonce=NONCE, secret=SECRET)
    verifier = TpmVerifier(evidence=shown, anchors=(), secret=SECRET, is_listed=listed)
    return verifier.verify(statement(tpm)).assurance


def test_a_key_that_a_listed_tpm_certifies_is_hardware() -> None:
    assert verify(SoftTpm()) is Assurance.HARDWARE


def without(attributes: int, *gone: Attribute) -> int:
    for each in gone:
        attributes &= ~each
    return attributes


@pytest.mark.parametrize(
    ("tpm", "said"),
    [
        (SoftTpm(ak_attributes=without(AK, Attribute.RESTRICTED)), "lacks restricted"),
        (SoftTpm(ak_attributes=without(AK, Attribute.FIXED_TPM)), "lacks fixed_tpm"),
        (SoftTpm(ak_attributes=without(AK, Attribute.SENSITIVE_DATA_ORIGIN)), "lacks sensitive_data_origin"),
        (SoftTpm(ak_attributes=AK | Attribute.DECRYPT), "it decrypts as well"),
        (SoftTpm(ek_attributes=without(EK, Attribute.RESTRICTED)), "the endorsement key is none"),
        (SoftTpm(ek_attributes=EK | Attribute.SIGN), "the endorsement key is none"),
        (SoftTpm(key_attributes=without(KEY, Attribute.FIXED_TPM)), "may leave the TPM.*fixed_tpm"),
        (SoftTpm(key_attributes=without(KEY, Attribute.FIXED_PARENT)), "may leave the TPM.*fixed_parent"),
        (SoftTpm(key_attributes=without(KEY, Attribute.SENSITIVE_DATA_ORIGIN)), "may leave the TPM"),
        (SoftTpm(key_attributes=without(KEY, Attribute.SIGN)), "cannot sign"),
        (SoftTpm(ak_attributes=AK | 1 << 30), "a reserved attribute"),
    ],
)  # fmt: skip
def test_a_key_without_the_attributes_of_its_office_proves_nothing(tpm: SoftTpm, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        verify(tpm)


Wrong = Callable[[SoftTpm], TpmEvidence]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=bytes(32)), "another TPM's"),
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=SECRET, device_id="d2"), "does not answer this"),
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=SECRET, domain="lab"), "does not answer this"),
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=SECRET, fleet="other"), "does not answer this"),
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=SECRET, signs=new_key()), "not signed by the TPM"),
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=SECRET, certified=new_key()), "of another key"),
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=SECRET, magic=0xFF544348), "not made by a TPM"),
        (lambda tpm: tpm.evidence(nonce=NONCE, secret=SECRET, kind=0x8018), "no certification of a key"),
    ],
)  # fmt: skip
def test_evidence_for_something_else_proves_nothing(wrong: Wrong, said: str) -> None:
    tpm = SoftTpm()
    with pytest.raises(RefusedError, match=said):
        verify(tpm, wrong(tpm))


def test_a_certification_of_an_earlier_challenge_does_not_answer_this_one() -> None:
    tpm = SoftTpm()
    earlier = tpm.evidence(nonce="77" * 32, secret=SECRET)
    with pytest.raises(RefusedError, match="does not answer this challenge"):
        verify(tpm, replace(earlier, nonce=NONCE))


def test_the_key_in_the_tpm_must_be_the_key_of_the_request() -> None:
    tpm, other = SoftTpm(), SoftTpm()
    verifier = TpmVerifier(
        evidence=tpm.evidence(nonce=NONCE, secret=SECRET), anchors=(), secret=SECRET, is_listed=True
    )
    with pytest.raises(RefusedError, match="not the key of the request"):
        verifier.verify(statement(other))


def test_a_tpm_that_is_on_no_list_and_has_no_certificate_proves_nothing() -> None:
    with pytest.raises(RefusedError, match="nobody vouches for the TPM"):
        verify(SoftTpm(), listed=False)


def off_curve(area: bytes) -> bytes:
    return area[:-1] + bytes([area[-1] ^ 1])


@pytest.mark.parametrize(
    ("area", "said"),
    [
        (b"", "too early"),
        (sized(b"\x00\x23"), "too early"),
        (public_area(new_key().public_key(), KEY) + b"\x00", "followed by more"),
        (public_area(new_key().public_key(), KEY, name_hash=0x0004), "a hash must be SHA-256"),
        (public_area(new_key().public_key(), KEY, scheme=b"\x00\x99"), "scheme of a TPM key"),
        (public_area(new_key().public_key(), KEY, symmetric=struct.pack(">HHH", 6, 128, 0x44)), "CFB"),
        (off_curve(public_area(new_key().public_key(), KEY)), "no point of its curve"),
        (public_area(rsa.generate_private_key(65537, 1024).public_key(), KEY), "2048 to 4096"),
    ],
    ids=["nothing", "cut", "more", "SHA-1", "scheme", "CBC", "off the curve", "short RSA"],
)  # fmt: skip
def test_a_public_area_that_is_none_is_refused(area: bytes, said: str) -> None:
    with pytest.raises(BrokenStructureError, match=said):
        read_public(area)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_readers_of_tpm_structures(octets: bytes) -> None:
    for read in (read_public, read_certified, read_signature):
        with suppress(BrokenStructureError):
            read(octets)


GOOD = (
    public_area(new_key().public_key(), KEY),
    attest_of(bytes(34), bytes(32)),
    signature_of(new_key(), b"x"),
)
READERS = (read_public, read_certified, read_signature)


@given(which=st.integers(0, 2), at=st.integers(0, 400), to=st.integers(0, 255), cut=st.integers(0, 40))
def test_no_change_of_a_structure_breaks_its_reader(which: int, at: int, to: int, cut: int) -> None:
    octets = bytearray(GOOD[which])
    octets[at % len(octets)] = to
    with suppress(BrokenStructureError):
        READERS[which](bytes(octets[: len(octets) - cut]))


# A real TPM opens what is wrapped here, through other people's tools.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwTpm]:
    with running_tpm(tmp_path_factory.mktemp("credential"), certified=False) as running:
        yield running


def activated(tpm: SwTpm, ek_kind: str, wrap: Callable[[bytes, bytes], bytes]) -> bytes:
    """Make an endorsement and an attestation key, wrap for them, and have the TPM open it."""
    tpm.tool("tpm2_createek", "-c", "ek.ctx", "-G", ek_kind, "-u", "ek.pub")
    tpm.tool(
        *("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa"),
        *("-u", "ak.pub", "-n", "ak.name"),
    )
    ek_public, name = ((tpm.folder / file).read_bytes() for file in ("ek.pub", "ak.name"))
    (tpm.folder / "credential").write_bytes(wrap(ek_public, name))
    tpm.tool("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
    tpm.tool("tpm2_policysecret", "-S", "session.ctx", "-c", "e")
    tpm.tool(
        *("tpm2_activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential"),
        *("-o", "secret", "-P", "session:session.ctx"),
    )
    tpm.tool("tpm2_flushcontext", "session.ctx")
    return (tpm.folder / "secret").read_bytes()


@pytest.mark.needs("swtpm", "swtpm_setup", "tpm2_createek")
@pytest.mark.parametrize("ek_kind", ["rsa", "ecc"])
def test_tpm2_activatecredential_opens_what_was_wrapped_here(real: SwTpm, ek_kind: str) -> None:
    def wrap(ek_public: bytes, name: bytes) -> bytes:
        made = make_credential(read_public(ek_public), SECRET, name=name, randomness=os.urandom)
        return struct.pack(">II", 0xBADCC0DE, 1) + made.blob + made.secret  # the tools' own file format

    assert activated(real, ek_kind, wrap) == SECRET


@pytest.mark.needs("swtpm", "swtpm_setup", "tpm2_createek")
def test_what_the_tools_say_of_keys_is_read_as_they_say_it(real: SwTpm) -> None:
    real.tool("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
    real.tool("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "rsa", "-u", "ak.pub", "-n", "ak.name")
    real.tool("tpm2_readpublic", "-c", "ak.ctx", "-o", "ak.pem", "-f", "pem")
    ak = read_public((real.folder / "ak.pub").read_bytes())
    assert ak.name == (real.folder / "ak.name").read_bytes()
    assert not ak.lacks(Attribute.RESTRICTED | Attribute.FIXED_TPM)
    identity = replace(
        SoftTpm().identity,
        ek_public=(real.folder / "ek.pub").read_bytes(),
        ak_public=(real.folder / "ak.pub").read_bytes(),
    )
    assert read_tpm(identity).ek.symmetric_bits == 128


def test_a_credential_is_wrapped_for_no_key_that_could_not_keep_it() -> None:
    no_storage = read_public(public_area(new_key().public_key(), KEY))
    with pytest.raises(BrokenStructureError, match="no storage key"):
        make_credential(no_storage, SECRET, name=b"n", randomness=os.urandom)
    with pytest.raises(BrokenStructureError, match="longer than"):
        make_credential(
            read_public(SoftTpm().identity.ek_public), bytes(33), name=b"n", randomness=os.urandom
        )
