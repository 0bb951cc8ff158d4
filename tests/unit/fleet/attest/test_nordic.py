"""Tokens of Nordic's modems: real ones, forged ones, and bytes that are none."""

import base64
from hashlib import sha256

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from fleet.attest.nordic import Identity, KeyStatement, Token
from tests.vendors.modem import DESCRIBED, Modem, base64url

UUID = "50363154-3931-44f0-8022-121b6401627d"
REAL = (
    "2dn3hQFQUDYxVDkxRPCAIhIbZAFifQNQGv86y_GmR2SiY0wmRsHGVFDT791_BPH8YOWFiyCHND1q"
    ".0oRDoQEmoQRBIfZYQGuXwJliinHc6xDPruiyjsaXyXZbZVpUuOhHG9YS8L05VuglCcJhMN4EUhWVGpaHgNnHHno6ahi-d5tOeZmAcNY"
)
"""What `AT%ATTESTTOKEN` says in an example of Nordic's documentation, from a chip of theirs."""
REAL_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEe3b/ywM5pZwJFlGv4Bml+a5dDcRCmUIHu7JI90zYCEhhuYp7Do3qaOz7BMsJhdHuGGhu57Pw"
    "r0vR3lFDnB+XvQ=="
)
"""The identity key of that chip: the one key by which both this token and its `%KEYGEN` are right."""


def quoted(lines: str) -> str:
    return lines.split('"')[1]


def keygen(modem: Modem, tag: int = 17) -> str:
    modem.function = 4
    return quoted(modem.answer(f"AT%KEYGEN={tag},2,0"))


def test_a_token_of_a_real_chip_is_read_and_verified() -> None:
    token = Token.parse(REAL)
    assert Identity.read(token).uuid == UUID
    key = load_der_public_key(base64.b64decode(REAL_KEY))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert token.is_signed_by(key)


def test_another_chips_key_does_not_verify_it() -> None:
    assert not Token.parse(REAL).is_signed_by(ec.generate_private_key(ec.SECP256R1()).public_key())


def test_a_body_that_was_changed_is_found() -> None:
    modem = Modem()
    body, _, signed = quoted(modem.answer("AT%ATTESTTOKEN")).partition(".")
    forged = Token.parse(base64url(cbor2.dumps([1, bytes(16), 3, bytes(16), bytes(16)])) + "." + signed)
    assert not forged.is_signed_by(modem.identity.public_key())
    assert Token.parse(f"{body}.{signed}").is_signed_by(modem.identity.public_key())


@pytest.mark.parametrize("tag", [17, 2147483647, 4294967295])
def test_a_statement_of_a_key_names_its_chip_tag_and_request(tag: int) -> None:
    modem = Modem()
    token = Token.parse(keygen(modem, tag))
    stated = KeyStatement.read(token)
    assert (stated.uuid, stated.tag, stated.csr) == (UUID, tag, token.body)
    assert token.is_signed_by(modem.identity.public_key())


def test_a_tag_beyond_the_sign_comes_as_a_negative_number() -> None:
    stated = cbor2.dumps([9, bytes(16), cbor2.dumps(-2), sha256(b"csr").digest(), bytes(16)])
    token = Token(body=b"csr", payload=DESCRIBED + stated, signature=bytes(64))
    assert KeyStatement.read(token).tag == 4294967294


def test_a_statement_of_another_request_is_refused() -> None:
    token = Token.parse(keygen(Modem()))
    swapped = Token(body=b"other", payload=token.payload, signature=token.signature)
    with pytest.raises(MalformedMessageError, match="comes with it"):
        KeyStatement.read(swapped)


def test_one_kind_of_token_is_not_the_other() -> None:
    with pytest.raises(MalformedMessageError):
        KeyStatement.read(Token.parse(REAL))
    with pytest.raises(MalformedMessageError):
        Identity.read(Token.parse(keygen(Modem())))


@given(st.text(max_size=400))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(MalformedMessageError):
        Token.parse(text)


@given(at=st.integers(0, len(REAL) - 1), letter=st.sampled_from("AZaz09-_.+="))
def test_a_token_with_a_wrong_letter_is_refused_or_not_signed(at: int, letter: str) -> None:
    spoilt = REAL[:at] + letter + REAL[at + 1 :]
    key = load_der_public_key(base64.b64decode(REAL_KEY))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        token = Token.parse(spoilt)
    except MalformedMessageError:
        return
    right = Token.parse(REAL)
    assert token == right or not token.is_signed_by(key)


def test_a_token_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(MalformedMessageError, match="must not exceed"):
        Token.parse("A" * 10_000)
