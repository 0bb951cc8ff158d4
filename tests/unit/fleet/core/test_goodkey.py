"""Keys: what is fit passes, each rule refuses what breaks it."""

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519

from device_agent.wire.problems import ProblemCode
from fleet.core import goodkey
from fleet.core.goodkey import KeyType, certified_key, check_key, key_hash
from fleet.errors import RefusedError

P256 = ec.generate_private_key(ec.SECP256R1()).public_key()
RSA_2048 = rsa.generate_private_key(public_exponent=65537, key_size=2048)
MODULUS = RSA_2048.public_key().public_numbers().n


def refusal_of(key: object, allowed: frozenset[KeyType] = goodkey.ALL_KEY_TYPES) -> str:
    with pytest.raises(RefusedError) as caught:
        check_key(key, allowed=allowed)
    assert caught.value.code is ProblemCode.BAD_KEY
    assert caught.value.hint
    return str(caught.value)


def rsa_key(n: int, e: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(e, n).public_key()


@pytest.mark.parametrize(
    ("key", "key_type"),
    [
        (P256, KeyType.P256),
        (ec.generate_private_key(ec.SECP384R1()).public_key(), KeyType.P384),
        (ed25519.Ed25519PrivateKey.generate().public_key(), KeyType.ED25519),
        (RSA_2048.public_key(), KeyType.RSA),
    ],
)
def test_a_sound_key_is_told_its_type(key: object, key_type: KeyType) -> None:
    assert check_key(key) is key_type


@pytest.mark.parametrize(
    "key",
    [
        ed448.Ed448PrivateKey.generate().public_key(),
        x25519.X25519PrivateKey.generate().public_key(),
        dsa.generate_private_key(2048).public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        None,
    ],
)
def test_another_type_or_curve_is_refused(key: object) -> None:
    assert "not certified here" in refusal_of(key)


def test_a_type_that_the_profile_does_not_allow_is_refused_with_those_that_it_does() -> None:
    assert "rsa is not allowed" in refusal_of(RSA_2048.public_key(), frozenset({KeyType.P256}))


def test_random_ed25519_keys_are_all_points_of_the_curve() -> None:
    for _ in range(50):
        assert check_key(ed25519.Ed25519PrivateKey.generate().public_key()) is KeyType.ED25519


SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


@pytest.mark.parametrize("raw", SMALL_ORDER)
def test_an_ed25519_key_of_small_order_is_refused(raw: str) -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw))
    assert "small order" in refusal_of(key)


def test_an_ed25519_key_that_is_no_point_is_refused() -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes((2).to_bytes(32, "little"))
    assert "not a point" in refusal_of(key)


def test_an_ed25519_key_that_is_not_canonical_is_refused() -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes((2**255 - 19 + 3).to_bytes(32, "little"))
    assert "canonical" in refusal_of(key)


class OffCurve(ec.EllipticCurvePublicKey):
    """A key that the library would refuse to load: the check must not rely on the library alone."""

    def __init__(self, x: int, y: int) -> None:
        self._numbers = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1())

    curve = ec.SECP256R1()
    key_size = 256

    def public_numbers(self) -> ec.EllipticCurvePublicNumbers:
        return self._numbers

    def _unused(self, *_arguments: object) -> None:
        raise AssertionError("the check asks for nothing else")

    public_bytes = verify = __eq__ = __copy__ = __deepcopy__ = _unused


def test_a_point_beside_its_curve_is_refused() -> None:
    numbers = P256.public_numbers()
    assert "not a point" in refusal_of(OffCurve(numbers.x, numbers.y + 1))


def test_coordinates_beyond_the_field_are_refused() -> None:
    numbers = P256.public_numbers()
    assert "out of range" in refusal_of(OffCurve(numbers.x + 2**256, numbers.y))


@pytest.mark.parametrize("bits", [1024, 1536, 2047, 2049, 4104])
def test_an_rsa_key_of_another_size_is_refused(bits: int) -> None:
    assert f"{bits} bits" in refusal_of(rsa_key((1 << bits) - 1))


@pytest.mark.parametrize("exponent", [3, 17, 65535, 2**256 + 1])
def test_an_rsa_exponent_out_of_range_is_refused(exponent: int) -> None:
    assert "exponent" in refusal_of(rsa_key(MODULUS, exponent))


@pytest.mark.parametrize("factor", [3, 7, 751])
def test_an_rsa_modulus_with_a_small_factor_is_refused(factor: int) -> None:
    assert "small factor" in refusal_of(rsa_key(factor * ((1 << 2047) // factor + 1 | 1)))


def test_an_rsa_key_of_the_roca_generator_is_refused() -> None:
    # Any product that is a power of 65537 modulo all the primes of the fingerprint looks like theirs.
    product = 1
    for prime in goodkey._ROCA_PRIMES:
        product *= prime
    modulus = 65537 % product + product * ((1 << 2047) // product + 5)
    while any(modulus % prime == 0 for prime in goodkey._SMALL_PRIMES) or modulus % 2 == 0:
        modulus += product
    assert "CVE-2017-15361" in refusal_of(rsa_key(modulus))


def test_an_rsa_key_whose_primes_are_close_is_refused() -> None:
    prime = 2**1024 - 105  # the largest prime below 2^1024
    other = prime - 2 * 10**40
    while any(other % small == 0 for small in goodkey._SMALL_PRIMES):
        other -= 2
    assert "too close" in refusal_of(rsa_key(prime * other))


def test_the_key_hash_is_that_of_the_encoded_public_key() -> None:
    assert key_hash(P256) == key_hash(certified_key(P256))
    assert len(key_hash(P256)) == 64
