"""What every key store must do; run on each adapter."""

import hashlib
import ssl
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import load_der_public_key

from device_agent.core.csr import csr_der, csr_pem
from device_agent.errors import KeyStoreError
from device_agent.keys.kinds import AtRest, KeyKind
from device_agent.keys.piv_slots import PivKeyStore
from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.software import FileKeyStore
from device_agent.keys.tpm import TpmKeyStore
from device_agent.keys.tpm_link import parse_tpm_place
from device_agent.keys.uri import TOKEN_KINDS, parse_token_uri
from device_agent.ports import KeyStore, Signer
from device_agent.wire.identity import Identity
from fleet.core.csr import read_csr
from tests.pki import Pki, pem_of
from tests.provisioner import leaf_for
from tests.sealing import SECRET, hand_over
from tests.swtpm import SwTpm, running_tpm
from tests.tokens import SoftHsm, SoftToken
from tests.tpm_tokens import PROGRAMS, TpmToken, tpm_token

PKI = Pki()
Opened = Callable[[], KeyStore]


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> SoftToken:
    return hsm.token()


@pytest.fixture(scope="module")
def tpm_as_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TpmToken]:
    with tpm_token(tmp_path_factory.mktemp("tpm-token")) as running:
        yield running


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwTpm]:
    with running_tpm(tmp_path_factory.mktemp("swtpm"), certified=False) as running:
        yield running


@pytest.fixture(
    params=[
        *KeyKind,
        "sealed",
        *(pytest.param(f"token-{kind}", marks=pytest.mark.needs("softhsm2-util")) for kind in TOKEN_KINDS),
        *(pytest.param(f"tpm-token-{kind}", marks=pytest.mark.needs(*PROGRAMS)) for kind in TOKEN_KINDS),
        pytest.param("piv-slots", marks=pytest.mark.needs("softhsm2-util")),
        pytest.param("tpm", marks=pytest.mark.needs("swtpm", "swtpm_setup")),
    ]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Open the same keys again, as a restarted agent does."""
    if isinstance(request.param, KeyKind):
        kind = request.param
        return lambda: FileKeyStore(tmp_path / "keys", kind=kind)
    if request.param == "tpm":
        running: SwTpm = request.getfixturevalue("tpm")
        return lambda: TpmKeyStore(parse_tpm_place(running.place), tmp_path / "keys")
    if request.param == "sealed":
        hand_over(SECRET, tmp_path, request.getfixturevalue("monkeypatch"))
        return lambda: FileKeyStore(tmp_path / "keys", at_rest=AtRest.SEALED)
    if request.param == "piv-slots":
        return slots_opened(request.getfixturevalue("token"), tmp_path)
    place, kind = request.param.rsplit("-", 1)
    fixture = "tpm_as_token" if place == "tpm-token" else "token"
    token: TpmToken | SoftToken = request.getfixturevalue(fixture)
    # One TPM serves all of these tests, each with keys of its own.
    prefix = f"device-agent-{uuid.uuid4().hex[:8]}"
    uri = replace(parse_token_uri(token.uri), object=prefix, key_type=kind)
    return lambda: TokenKeyStore(uri, refused_pins=tmp_path / "pin-refused")


def slots_opened(token: SoftToken, folder: Path) -> Opened:
    """Have keys in two slots of a PIV token, as far as a soft one is like it."""
    token.make_piv_key("9a")
    token.make_piv_key("82", rsa=True)
    uri = parse_token_uri(f"{token.uri}&piv-slots=9a,9c,82")
    return lambda: PivKeyStore(uri, refused_pins=folder / "pin-refused", taken=folder / "piv-keys")


def chain_of(signer: Signer) -> str:
    csr = csr_pem(csr_der("d1", public_key_der=signer.public_key_der, sign=signer.sign))
    issuer = PKI.devices["prod"]
    leaf = leaf_for(csr, issuer, Identity(domain="prod", device_id="d1"), serial="4" * 32)
    return (pem_of(leaf) + pem_of(issuer.certificate)).decode()


def test_a_key_is_there_after_a_restart_and_is_the_same(opened: Opened) -> None:
    made = opened().create("k-1")
    again = opened().open("k-1")
    assert (again.name, again.public_key_der) == ("k-1", made.public_key_der)
    assert opened().names() == ("k-1",)


def test_a_signature_verifies_with_the_public_key(opened: Opened) -> None:
    signer = opened().create("k-1")
    signature = signer.sign(b"message")
    match load_der_public_key(signer.public_key_der):
        case ec.EllipticCurvePublicKey() as key:
            key.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
        case ed25519.Ed25519PublicKey() as key:
            key.verify(signature, b"message")
        case rsa.RSAPublicKey() as key:
            key.verify(signature, b"message", PKCS1v15(), hashes.SHA256())
        case _:
            pytest.fail("a key of another kind")


def test_a_request_proves_the_key_that_it_is_for(opened: Opened) -> None:
    signer = opened().create("k-1")
    request = csr_der("d1", public_key_der=signer.public_key_der, sign=signer.sign)
    assert read_csr(request).key_hash == hashlib.sha256(signer.public_key_der).hexdigest()


def test_two_keys_are_different(opened: Opened) -> None:
    keys = opened()
    assert keys.create("k-1").public_key_der != keys.create("k-2").public_key_der


def test_a_name_is_used_once(opened: Opened) -> None:
    opened().create("k-1")
    with pytest.raises(KeyStoreError, match="already"):
        opened().create("k-1")


@pytest.mark.parametrize("name", ["", "../k", "K", "a/b", "a" * 65, "k\n"])
def test_a_name_that_is_none_is_refused(opened: Opened, name: str) -> None:
    with pytest.raises(KeyStoreError):
        opened().create(name)


def test_a_destroyed_key_is_gone_and_destroying_it_again_is_no_error(opened: Opened) -> None:
    keys = opened()
    keys.create("k-1")
    keys.destroy("k-1")
    keys.destroy("k-1")
    assert keys.names() == ()
    with pytest.raises(KeyStoreError, match="no key"):
        keys.open("k-1")


def test_a_context_is_armed_with_the_key_and_its_chain(opened: Opened) -> None:
    signer = opened().create("k-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    signer.arm(context, chain_pem=chain_of(signer))


def test_another_keys_chain_does_not_arm_a_context(opened: Opened) -> None:
    keys = opened()
    chain = chain_of(keys.create("k-1"))
    with pytest.raises(KeyStoreError, match="do not fit"):
        keys.create("k-2").arm(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain_pem=chain)


def test_a_signer_shows_its_name_and_no_more(opened: Opened) -> None:
    signers = ("FileSigner", "TokenSigner", "TpmSigner")
    assert repr(opened().create("k-1")) in {f"{signer}('k-1')" for signer in signers}
