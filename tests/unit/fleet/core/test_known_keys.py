"""Published private keys: each stands in its text, and none is certified."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from fleet.core.goodkey import CertifiedKey, check_key, key_hash
from fleet.core.known_keys import PUBLISHED
from fleet.errors import RefusedError

RFC_9500_RSA = int(
    "b0f9e81943a7ae9892aade17ca7c40f8744fed2f8148e6c8eaa27b7d001548fb5192ab28b56c5060b118ccd131e594874c6ca989"
    "b56c27296f09fb93a034df32e97c6ff0998cfd8e6f42dda58acd1fa97986f144f3d154d67650175e6854b3a952003bc06887b845"
    "5ac2b19f7b2f76504ebc98ec945571b07892150ddc6a74ca0fbcd35497ce81534daf9418844b13aea31f9d5a6b9557bbdf619efd"
    "4e887f2d42b8dd8bc987eae1bf89cab85ee21e356305df6c07a8838e3ef41c595dcce43dafc49123ef4d8abba93d3905e4028d7b"
    "a91484a27596e07b4b6ed992f077b524d3dcfe7ddd5549be7cce8da035cfa0b3fb8f9e46f732b2a86b460165c08f5313",
    16,
)


def on(curve: ec.EllipticCurve, private: int) -> CertifiedKey:
    return ec.derive_private_key(private, curve).public_key()


def edwards(private: str) -> CertifiedKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key()


KEYS: tuple[CertifiedKey, ...] = (
    on(ec.SECP256R1(), 0xE6CB5BDD80AA45AE9C95E8C15476679FFEC953C16851E711E743939589C64FC1),
    ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP384R1(),
        bytes.fromhex(
            "025b0901b88523296eb919d50ffa1a9cb374bc4d409586282bfeca11b1d95adbb54734"
            "af570bf82b7228cf226bcf4c25dd"
        ),
    ),
    rsa.RSAPublicNumbers(65537, RFC_9500_RSA).public_key(),
    on(ec.SECP256R1(), 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721),
    on(
        ec.SECP384R1(),
        0x6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5,
    ),
    on(ec.SECP256R1(), 1),
    on(ec.SECP384R1(), 1),
    edwards("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
    edwards("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
    edwards("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"),
    edwards("f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5"),
    edwards("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42"),
    edwards("d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842"),
    mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(range(32))).public_key(),
    mldsa.MLDSA65PrivateKey.from_seed_bytes(bytes(range(32))).public_key(),
)


def test_the_list_holds_these_keys_and_no_other() -> None:
    assert {key_hash(key) for key in KEYS} == PUBLISHED.keys()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: PUBLISHED[key_hash(key)])
def test_a_key_that_everybody_has_is_refused_with_the_text_it_stands_in(key: CertifiedKey) -> None:
    with pytest.raises(RefusedError, match="everybody has the private key"):
        check_key(key)
