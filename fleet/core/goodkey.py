"""Which public keys are fit to be certified: type, size, shape and known weaknesses, clause by clause.

Takes public keys only. It never repairs a key, and a rule that cannot be evaluated refuses.
"""

import hashlib
from collections.abc import Callable
from enum import StrEnum
from math import gcd, isqrt, prod
from typing import TypeAlias, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.wire.problems import ProblemCode
from fleet.core.known_keys import PUBLISHED
from fleet.errors import RefusedError

PostQuantumKey: TypeAlias = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey
CertifiedKey: TypeAlias = (
    ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey | PostQuantumKey
)
"""A public key of a type that we certify."""

_Key = TypeVar("_Key")


class KeyType(StrEnum):
    """Key types that a profile can allow."""

    P256 = "p256"
    P384 = "p384"
    ED25519 = "ed25519"
    RSA = "rsa"
    """2048 to 4096 bits."""
    ML_DSA_44 = "ml-dsa-44"
    """FIPS 204, experimental."""
    ML_DSA_65 = "ml-dsa-65"


ALL_KEY_TYPES = frozenset(KeyType)
POST_QUANTUM = frozenset({KeyType.ML_DSA_44, KeyType.ML_DSA_65})
CLASSIC = ALL_KEY_TYPES - POST_QUANTUM
AUTHORITY_KEY_TYPES = tuple(one for one in KeyType if one is not KeyType.ED25519)
"""Devices verify chains as browsers do, and that takes no Ed25519 above a leaf."""


def key_hash(public_key: CertifiedKey) -> str:
    """Return the hex SHA-256 of the key's DER SubjectPublicKeyInfo (RFC 5280 4.1.2.7)."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def check_key(
    public_key: object, *, allowed: frozenset[KeyType] = ALL_KEY_TYPES, rsa_bits: int = 2048
) -> KeyType:
    """Return the type of a key that is fit to be certified; `rsa_bits` is the least size of RSA keys.

    Raises:
        RefusedError: `bad-key`, with the rule that it breaks.
    """
    key_type, fault = _judge(public_key)
    if key_type not in allowed:
        names = ", ".join(sorted(allowed))
        raise _refusal(f"key type {key_type} is not allowed here", hint=f"make a key of type {names}")
    if fault is not None:
        raise _refusal(fault)
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size < rsa_bits:
        wanted = f"{rsa_bits} bits or more"
        raise _refusal(f"an RSA key must have {wanted} here", hint=f"make an RSA key of {wanted}")
    if (where := PUBLISHED.get(key_hash(certified_key(public_key)))) is not None:
        raise _refusal(f"everybody has the private key: {where}")
    return key_type


def certified_key(public_key: object) -> CertifiedKey:
    """Return the key if it is of a type that we certify at all; its strength is `check_key`'s to judge.

    Raises:
        RefusedError: `bad-key`.
    """
    if isinstance(public_key, CertifiedKey):
        return public_key
    raise _refusal("this type of key is not certified here", hint="make a key of type p256")


def _judge(public_key: object) -> tuple[KeyType, str | None]:
    match certified_key(public_key):
        case ec.EllipticCurvePublicKey() as key:
            return _ec_type(key), _first_fault(key, _EC_RULES)
        case ed25519.Ed25519PublicKey() as key:
            return KeyType.ED25519, _first_fault(key, _ED25519_RULES)
        # FIPS 204 7.2: octets of the right length are a key, whatever they are.
        case mldsa.MLDSA44PublicKey():
            return KeyType.ML_DSA_44, None
        case mldsa.MLDSA65PublicKey():
            return KeyType.ML_DSA_65, None
        case key:
            return KeyType.RSA, _first_fault(key, _RSA_RULES)


def _ec_type(key: ec.EllipticCurvePublicKey) -> KeyType:
    # RFC 5480 2.1.1.1 names the curves; NIST SP 800-186 3.2.1 keeps P-256 and P-384.
    match key.curve:
        case ec.SECP256R1():
            return KeyType.P256
        case ec.SECP384R1():
            return KeyType.P384
        case other:
            raise _refusal(f"curve {other.name} is not certified here", hint="make a key of type p256")


def _refusal(message: str, hint: str = "make a new key") -> RefusedError:
    return RefusedError(message, hint=hint, code=ProblemCode.BAD_KEY)


# --- elliptic curves ------------------------------------------------------------------------------

_EC_DOMAIN = {
    # NIST SP 800-186 3.2.1.3 and 3.2.1.4: field prime p and coefficient b; a is -3.
    KeyType.P256: (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    KeyType.P384: (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
}


def _ec_on_curve(key: ec.EllipticCurvePublicKey) -> str | None:
    """NIST SP 800-56A rev. 3, 5.6.2.3.4: coordinates in range, and y^2 = x^3 - 3x + b. The cofactor is 1."""
    prime, b = _EC_DOMAIN[_ec_type(key)]
    point = key.public_numbers()
    if not (0 <= point.x < prime and 0 <= point.y < prime):
        return "the key's coordinates are out of range"
    if (point.y * point.y - (point.x**3 - 3 * point.x + b)) % prime:
        return "the key is not a point of its curve"
    return None


_EC_RULES = (_ec_on_curve,)

# --- Ed25519 --------------------------------------------------------------------------------------

_ED25519_PRIME = 2**255 - 19
_ED25519_D = -121665 * pow(121666, -1, _ED25519_PRIME) % _ED25519_PRIME
_ED25519_ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303402022
# The y of the eight points whose order divides 8: a signature by such a key proves nothing.
_ED25519_SMALL_ORDER_Y = frozenset(
    {0, 1, _ED25519_PRIME - 1, _ED25519_ORDER_8_Y, _ED25519_PRIME - _ED25519_ORDER_8_Y}
)


def _ed25519_point(key: ed25519.Ed25519PublicKey) -> str | None:
    """RFC 8032 5.1.3: y below p, and (y^2 - 1) / (d y^2 + 1) is a square. RFC 7748 7: no small order."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    if y >= _ED25519_PRIME:
        return "the key is not in canonical form"
    if y in _ED25519_SMALL_ORDER_Y:
        return "the key is of small order"
    square = (y * y - 1) * pow(_ED25519_D * y * y + 1, -1, _ED25519_PRIME) % _ED25519_PRIME
    if pow(square, (_ED25519_PRIME - 1) // 2, _ED25519_PRIME) != 1:
        return "the key is not a point of its curve"
    return None


_ED25519_RULES = (_ed25519_point,)

# --- RSA ------------------------------------------------------------------------------------------

_RSA_SIZES = range(2048, 4096 + 1)
_FERMAT_ROUNDS = 100

_SMALL_PRIMES = tuple(n for n in range(3, 752) if all(n % d for d in range(2, isqrt(n) + 1)))
_SMALL_PRIMES_PRODUCT = prod(_SMALL_PRIMES)

_ROCA_GENERATOR = 65537
# The primes at which "The Return of Coppersmith's Attack" (CCS 2017) 2.2 tells weak moduli from others.
_ROCA_PRIMES = (3, 5, 7, 11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_RESIDUES = {
    prime: frozenset(pow(_ROCA_GENERATOR, power, prime) for power in range(prime)) for prime in _ROCA_PRIMES
}


def _rsa_size(key: rsa.RSAPublicKey) -> str | None:
    """CA/B BR 6.1.5: at least 2048 bits, a multiple of 8. Above 4096, a check costs us too much."""
    if key.key_size not in _RSA_SIZES or key.key_size % 8:
        return f"an RSA key of {key.key_size} bits is not certified: 2048 to 4096, a multiple of 8"
    return None


def _rsa_exponent(key: rsa.RSAPublicKey) -> str | None:
    """CA/B BR 6.1.6: the exponent is odd, at least 2^16 + 1, and below 2^256."""
    exponent = key.public_numbers().e
    if exponent % 2 == 0 or not 2**16 + 1 <= exponent < 2**256:
        return "the RSA exponent must be odd and from 65537 to 2^256 - 1"
    return None


def _rsa_small_factors(key: rsa.RSAPublicKey) -> str | None:
    """CA/B BR 6.1.6: the modulus is odd and has no factor below 752."""
    modulus = key.public_numbers().n
    if modulus % 2 == 0 or gcd(modulus, _SMALL_PRIMES_PRODUCT) != 1:
        return "the RSA modulus has a small factor"
    return None


def _rsa_roca(key: rsa.RSAPublicKey) -> str | None:
    """CA/B BR 6.1.1.3 (4): no key of the weak generator of CVE-2017-15361 (ROCA)."""
    modulus = key.public_numbers().n
    if all(modulus % prime in residues for prime, residues in _ROCA_RESIDUES.items()):
        return "the RSA key was made by a weak generator (CVE-2017-15361)"
    return None


def _rsa_fermat(key: rsa.RSAPublicKey) -> str | None:
    """CA/B BR 6.1.1.3 (5): the primes are not so close that 100 rounds of Fermat's method find them."""
    modulus = key.public_numbers().n
    root = isqrt(modulus - 1) + 1
    for candidate in range(root, root + _FERMAT_ROUNDS):
        rest = candidate * candidate - modulus
        if isqrt(rest) ** 2 == rest:
            return "the RSA key's primes are too close to each other"
    return None


_RSA_RULES = (_rsa_size, _rsa_exponent, _rsa_small_factors, _rsa_roca, _rsa_fermat)


def _first_fault(key: _Key, rules: tuple[Callable[[_Key], str | None], ...]) -> str | None:
    return next((fault for rule in rules if (fault := rule(key)) is not None), None)
