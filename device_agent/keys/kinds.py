"""Kinds of keys that devices have, and how files hold them."""

from enum import Enum, StrEnum


class KeyKind(StrEnum):
    """What a new key is; the server's profile says what it takes."""

    P256 = "p256"
    P384 = "p384"
    ED25519 = "ed25519"
    RSA = "rsa"
    """2048 bits."""


class AtRest(Enum):
    """How the file of a new key is written."""

    CLEAR = "clear"
    SEALED = "sealed"
    """Encrypted with a secret that is bound to this machine."""
